"""COUNT calls that sleep for SECONDS, through the bare pool POOL of WORKERS processes; nothing is stored."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Executor


def call(number: int, seconds: float) -> int:
    if seconds:
        time.sleep(seconds)
    return number


def opened(pool: str, workers: int) -> Executor:
    if pool == "loky":
        from joblib.externals.loky import ProcessPoolExecutor as Loky

        return Loky(workers)
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def main(pool: str, count: int, seconds: float, workers: int) -> None:
    from clock import done, imported

    imported()
    with opened(pool, workers) as executor:
        done_calls = sum(1 for _ in executor.map(call, range(count), [seconds] * count))
    done(result=done_calls)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
