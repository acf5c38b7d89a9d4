"""Eight processes that begin at the same moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from threading import Barrier
from typing import Any

PROCESSES, PATIENCE = 8, 120.0

Meet = Callable[[], object]
"""To be called by who is ready; returns when all are."""


class Racers:
    """The processes, which are started once: to import the client libraries takes each of them longer than a race."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._barrier = context.Barrier(PROCESSES)
        self._pool = ProcessPoolExecutor(
            PROCESSES, mp_context=context, initializer=_remember, initargs=(self._barrier,)
        )

    def race(self, work: Callable[..., list[bool]], *given: Any) -> list[list[bool]]:
        """What each process answers to `work(*given, number, meet)`."""
        futures = [self._pool.submit(_run, work, *given, number) for number in range(PROCESSES)]
        wait(futures)
        if self._barrier.broken:  # by one that failed; the next race is another
            self._barrier.reset()
        return [future.result() for future in futures]

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()


_barrier: list[Barrier] = []


def _remember(barrier: Barrier) -> None:
    _barrier.append(barrier)


def _run(work: Callable[..., list[bool]], *given: Any) -> list[bool]:
    """None gets a second piece of work before all have met, so each of the processes has one."""
    try:
        return work(*given, lambda: _barrier[0].wait(PATIENCE))
    except BaseException:
        _barrier[0].abort()  # the others need not wait
        raise
