"""COUNT tasks that sleep for SECONDS, on WORKERS worker processes; inline where WORKERS is 0."""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any

import kart_core as kart


class Step(kart.TaskOnKart[int]):
    number: int
    seconds: float

    def run(self) -> int:
        if self.seconds:
            time.sleep(self.seconds)
        return self.number


class Steps(kart.WrapperTask):
    steps: tuple[Step, ...]


def main(folder: str, count: int, seconds: float, workers: int) -> None:
    from clock import done, imported

    how: dict[str, Any] = {"executor": "processes", "workers": workers} if workers else {}
    build = kart.build  # imported when first asked for
    imported()
    steps = Steps(steps=tuple(Step(number=number, seconds=seconds) for number in range(count)))
    build(steps, workspace_directory=folder, return_value=False, **how)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    done(result=len(os.listdir(f"{folder}/parallel_kart")), memory=memory)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
