"""Worker processes that start while their run is still being planned.

A Python takes a tenth of a second to start, a plan of many tasks as long: on two cores neither need wait for the other.
How many are started is what the plan has seen so far: as many as there are tasks of one distance from the roots that
will run, for those may run at the same time. Where nothing runs none is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kart_core.plugin import RemoteWorker, WorkerPool

__all__ = ["Recruits"]


class Recruits:
    """A pool of which some workers start before they are asked for.

    Args:
        pool: starts them.
        entry: the function with which they begin, ``module:function``.
        most: how many there are to be.
    """

    def __init__(self, pool: WorkerPool, entry: str, most: int) -> None:
        self._pool = pool
        self._entry = entry
        self._most = most
        self._waiting: list[RemoteWorker] = []

    def expect(self, tasks: int) -> None:
        """Starts workers for tasks that may run at the same time, as far as there are none yet.

        Raises:
            PluginError: the system starts no process.
        """
        while len(self._waiting) < min(tasks, self._most):
            self._waiting.append(self._pool.start(self._entry))

    def start(self, entry: str) -> RemoteWorker:
        """A worker that has been started, or a new one."""
        return self._waiting.pop(0) if entry == self._entry and self._waiting else self._pool.start(entry)

    def shutdown(self, wait: bool = True) -> None:
        """Ends every worker that is left; those that nobody has asked for at once."""
        while self._waiting:
            self._waiting.pop().kill()
        self._pool.shutdown(wait)
