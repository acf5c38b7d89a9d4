"""The fan-out with gokart, in process, without logging. LOGS=0 leaves its supplementary log files away as well."""

from __future__ import annotations

import logging
import sys

import gokart
import luigi
from clock import done, imported

FOLDER, LEAVES, SALT, LOGS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"


class Leaf(gokart.TaskOnKart[int]):
    number: int = luigi.IntParameter()

    def run(self) -> None:
        self.dump(self.number)


class Root(gokart.TaskOnKart[int]):
    salt: int = luigi.IntParameter()

    def requires(self) -> list[Leaf]:
        return [
            Leaf(number=number, workspace_directory=FOLDER, should_dump_supplementary_log_files=LOGS)
            for number in range(LEAVES)
        ]

    def run(self) -> None:
        self.dump(self.salt + sum(self.load()))


imported()
root = Root(salt=SALT, workspace_directory=FOLDER, should_dump_supplementary_log_files=LOGS)
done(result=gokart.build(root, log_level=logging.CRITICAL))
