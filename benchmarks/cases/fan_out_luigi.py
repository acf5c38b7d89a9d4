"""The fan-out with luigi: local scheduler, in process, without logging."""

from __future__ import annotations

import logging
import pickle
import sys
from typing import Any

import luigi
from clock import done, imported
from luigi.format import Nop

FOLDER, LEAVES, SALT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Leaf(luigi.Task):
    number = luigi.IntParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"{FOLDER}/leaf_{self.number}.pkl", format=Nop)

    def run(self) -> None:
        with self.output().open("w") as file:
            pickle.dump(self.number, file)


class Root(luigi.Task):
    salt = luigi.IntParameter()

    def requires(self) -> list[Leaf]:
        return [Leaf(number=number) for number in range(LEAVES)]

    def output(self) -> Any:
        return luigi.LocalTarget(f"{FOLDER}/root_{self.salt}.pkl", format=Nop)

    def run(self) -> None:
        total = self.salt
        for target in self.input():
            with target.open("r") as file:
                total += pickle.load(file)
        with self.output().open("w") as file:
            pickle.dump(total, file)


imported()
logging.disable(logging.CRITICAL)
root = Root(salt=SALT)
luigi.build([root], local_scheduler=True, no_lock=True, log_level="CRITICAL")
with root.output().open("r") as file:
    done(result=pickle.load(file))
