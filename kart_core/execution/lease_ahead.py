"""Leases ahead of their turn: while one task runs, those of the next few are taken.

A lease in a bucket is two requests, its creation and a look at the record, in which nothing is done here. Others must
not wait for tasks that only stand in a queue: so leases are taken ahead only for tasks that are expected to have run
in a moment, and are given back as soon as something takes longer.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from kart_core.execution.locking import far_and_quiet

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from kart_core.execution.leases import Lease, Seen
    from kart_core.execution.locking import Locking
    from kart_core.execution.scheduler import Scheduler
    from kart_core.graph import Node

    _Begun = tuple[Lease, bool] | None
    """What `Locking.begin` gives."""

_FEW: Final = 8  # so many that are left are enough for now
_MANY: Final = 16  # as many as results are on their way together
_MOST: Final = 0.5  # seconds that all tasks with a lease ahead are expected to take
_LEAST: Final = 0.001  # seconds that a task takes at the least, so that what takes next to nothing adds up too
_PATIENCE: Final = 2.0  # seconds without a task that begins or ends, after which others may have what is not in use

_open: WeakSet[LeaseAhead] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # their threads, and their leases, are the parent's


class LeaseAhead:
    """Takes leases ahead, in threads. Use it as a context manager: at the end it has given back all that were not used.

    One that is opened has the others of this process give theirs back: a build inside a running task would wait for
    them.

    Args:
        locking: the leases of the run.
    """

    def __init__(self, locking: Locking) -> None:
        self._locking = locking
        self._threads = ThreadPoolExecutor(_MANY + 1, thread_name_prefix="kart-lease")
        self._lock = threading.Lock()
        self._ahead: dict[Node, Future[_Begun]] = {}
        self._used: dict[Node, Future[_Begun]] = {}
        self._seconds: dict[type[Any], float] = {}
        self._began: dict[Node, float] = {}
        self._alive = time.monotonic()
        self._over = threading.Event()
        self._watching = False

    def __enter__(self) -> LeaseAhead:
        for other in list(_open):
            other.give_back(at_once=True)
        _open.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _open.discard(self)
        self._over.set()
        with self._lock:
            # Who was interrupted between having a lease and its use still has it; giving one back twice does nothing.
            self._ahead.update(self._used)
            self._used.clear()
        self.give_back()
        self._threads.shutdown()

    def look(self, node: Node, scheduler: Scheduler) -> None:
        """Takes leases for those that come after a task that is about to run.

        Where it is not known that this one takes a moment only, the leases that were taken are given back instead.
        """
        self._alive = time.monotonic()
        mine = self._seconds.get(type(node.task))
        if mine is None or mine > _MOST:
            self.give_back(besides=node)
            return
        with self._lock:
            withdrawn = [one for one in self._ahead if one is not node and (one.taken or one.waiting)]
            gone = [self._ahead.pop(one) for one in withdrawn]
            ahead = set(self._ahead)
        for future in gone:
            self._release(future)
        if len(ahead) >= _FEW:
            return
        left = _MOST - mine - sum(self._seconds.get(type(one.task), _MOST) for one in ahead if one is not node)
        for next_ in scheduler.upcoming(_MANY):
            if next_ in ahead:
                continue
            left -= self._seconds.get(type(next_.task), _MOST)
            if left < 0 or not self._may(next_):
                return  # nor what comes after it, for that waits as long
            self._submit(next_)

    def begin(self, node: Node, expired: Seen | None) -> _Begun:
        """What `Locking.begin` gives for a task that runs now, or raises: found ahead or, where it was not, now."""
        with self._lock:
            future = self._ahead.get(node)
            if future is not None:
                self._used[node] = future  # first, for an interruption may come in between
                del self._ahead[node]
        if future is not None:
            begun = future.result()
        else:
            begun = self._locking.begin(node.resolved, node.unique_id, node.record, expired)
        self._alive = time.monotonic()
        self._began[node] = time.perf_counter()
        return begun

    def ended(self, node: Node, ran: bool) -> None:
        """A task is not in the way of the next any more; if it ran, its class is known to take as long as it did."""
        self._alive = time.monotonic()
        self._used.pop(node, None)
        began = self._began.pop(node, None)
        if ran and began is not None:
            took = max(time.perf_counter() - began, _LEAST)
            # The longest, as far as it is not long ago: the first of a class may have had modules to import.
            cls = type(node.task)
            self._seconds[cls] = max(took, (took + self._seconds.get(cls, took)) / 2)

    def give_back(self, besides: Node | None = None, at_once: bool = False) -> None:
        """Gives back the leases that are not in use.

        Args:
            besides: the lease of this task is kept.
            at_once: waits until they are given back.
        """
        with self._lock:
            futures = [self._ahead.pop(node) for node in list(self._ahead) if node is not besides]
        released = [done for future in futures if (done := self._release(future)) is not None]
        if at_once:
            wait(released)

    def _may(self, node: Node) -> bool:
        here = node.resolved
        return here.shape.policy.timeout is None and far_and_quiet(here.workspace) and self._locking.applies(here)

    def _submit(self, node: Node) -> None:
        if not self._watching:
            self._watching = True
            self._threads.submit(self._watch)
        begin = self._locking.begin
        context = copy_context()  # the configuration and the plugins of the build
        with self._lock:
            self._ahead[node] = self._threads.submit(
                context.run, begin, node.resolved, node.unique_id, node.record, None
            )

    def _release(self, future: Future[_Begun]) -> Future[None] | None:
        return None if future.cancel() else self._threads.submit(copy_context().run, _release, future)

    def _watch(self) -> None:
        """Gives back what is not in use while a task takes longer than it did before, or waits for what is ahead."""
        while not self._over.wait(_PATIENCE / 4):
            if time.monotonic() - self._alive > _PATIENCE:
                self.give_back()


def _release(future: Future[_Begun]) -> None:
    if future.exception() is None and (begun := future.result()) is not None:
        begun[0].release()
