"""COUNT tasks that sleep for SECONDS, on WORKERS processes of gokart, without logging and side logs."""

from __future__ import annotations

import logging
import os
import sys
import time

import gokart
import luigi
from clock import done, imported

FOLDER, COUNT, SECONDS, WORKERS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])


class Step(gokart.TaskOnKart[int]):
    number: int = luigi.IntParameter()

    def run(self) -> None:
        if SECONDS:
            time.sleep(SECONDS)
        self.dump(self.number)


class Steps(gokart.TaskOnKart[int]):
    def requires(self) -> list[Step]:
        return [
            Step(number=number, workspace_directory=FOLDER, should_dump_supplementary_log_files=False)
            for number in range(COUNT)
        ]

    def run(self) -> None:
        self.dump(0)


imported()
root = Steps(workspace_directory=FOLDER, should_dump_supplementary_log_files=False)
gokart.build(root, return_value=False, log_level=logging.CRITICAL, workers=WORKERS)
done(result=sum(name.startswith("Step_") for _, _, names in os.walk(FOLDER) for name in names))
