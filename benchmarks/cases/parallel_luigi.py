"""COUNT tasks that sleep for SECONDS, on WORKERS processes of luigi, with its local scheduler."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from typing import Any

import luigi
from clock import done, imported
from luigi.format import Nop

FOLDER, COUNT, SECONDS, WORKERS = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])


class Step(luigi.Task):
    number = luigi.IntParameter()

    def output(self) -> Any:
        return luigi.LocalTarget(f"{FOLDER}/step_{self.number}.pkl", format=Nop)

    def run(self) -> None:
        if SECONDS:
            time.sleep(SECONDS)
        with self.output().open("w") as file:
            pickle.dump(self.number, file)


imported()
logging.disable(logging.CRITICAL)
steps = [Step(number=number) for number in range(COUNT)]
luigi.build(steps, workers=WORKERS, local_scheduler=True, no_lock=True, log_level="CRITICAL")
done(result=len(os.listdir(FOLDER)))
