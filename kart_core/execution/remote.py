"""A worker process: takes parcels of tasks from the process that builds, and runs them one at a time.

The main thread runs tasks. A second one only reads, so that the worker can give back what it has not
begun while it is busy, and ends with all that it started when the process that builds is gone.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import attrs

from kart_core import config, host, running
from kart_core.errors import KartError
from kart_core.execution import forwarding
from kart_core.execution.behind import AT_ONCE, Behind
from kart_core.execution.parcel import Order, Receiver, Sender
from kart_core.execution.worker import Worker
from kart_core.seeding import Generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from kart_core.config import Config
    from kart_core.execution.locking import Locking
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

ENTRY: Final = "kart_core.execution.remote:main"
"""The function that a worker process begins with."""

_NEWS: Final = 0.01  # seconds for which what is done may wait to be told, together with what comes next


@attrs.frozen
class Setup:
    """What a worker is told before its first task."""

    run: str
    config: Config
    plugins: Sequence[str]
    """Those that no distribution brings, as ``module:Class``."""
    disabled: Sequence[str]
    used: Mapping[str, str]
    """The plugins that the process that builds has used, with their versions."""
    levels: Mapping[str, int]
    watched: bool
    """Whether somebody wants to know how far tasks have come."""
    locking: int | None
    """How many processes work, where tasks run under leases; None where they run without."""


def main(descriptor: int) -> None:
    """Works until told to end.

    Args:
        descriptor: of the socket that leads to the process that builds.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # until now an interrupt ended it without a word
    gc.freeze()  # what is there before the user's code lives as long as the process: to look through it takes its time
    os.set_inheritable(descriptor, False)  # a program that a task starts would keep it open after this process
    remote = Remote(Connection(descriptor))
    try:
        remote.serve()
    except KeyboardInterrupt:
        remote.flush()


class Remote:
    """The worker's side of the conversation."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parcels: SimpleQueue[bytes | None] = SimpleQueue()
        self._replies: SimpleQueue[BaseException | None] = SimpleQueue()
        self._orders: deque[Order] = deque()
        self._dropped: set[int] = set()
        self._unopened: set[int] = set()
        self._lock = threading.Lock()  # of what was taken and not begun
        self._news: list[tuple[Any, ...]] = []
        self._sending = threading.RLock()
        self._told = 0.0
        self._current = 0
        self._storing: set[Future[float]] = set()
        self._forked = False

    def serve(self) -> None:
        """Takes the setup, and then parcels until the end."""
        try:
            setup: Setup = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            return  # the process that builds was gone before the run had begun
        threading.Thread(target=self._read, name="kart-read", daemon=True).start()
        os.register_at_fork(after_in_child=partial(self._leave, forwarding.forward(self._tell, setup.levels)))
        with ExitStack() as stack:
            stack.enter_context(config.using(setup.config))
            try:
                present = host.Host(setup.config, setup.plugins, setup.disabled)
                present.require(setup.used, "the process that builds")
            except KartError as error:
                self._tell(("unfit", _packed(error)))
                return
            stack.enter_context(host.using(present))
            running.among_others = setup.locking is not None
            generators = stack.enter_context(Generators())
            behind = stack.enter_context(Behind())
            worker = Worker(
                setup.run, generators, self._ask, self._progressed if setup.watched else None, behind, _locking(setup)
            )
            self._tell(("fit",))
            self._work(worker)
        self.flush()

    def _work(self, worker: Worker) -> None:
        receiver = Receiver()
        while True:
            with self._lock:
                order = self._orders.popleft() if self._orders else None
            if order is not None:
                self._run(worker, receiver, order)
                continue
            self.flush()
            parcel = self._parcels.get()
            if parcel is None:
                return
            running.imports_code = True
            try:
                orders = receiver.open(parcel)
            finally:
                running.imports_code = False
            with self._lock:
                self._unopened.difference_update(order.number for order in orders)
                self._orders.extend(order for order in orders if order.number not in self._dropped)

    def _run(self, worker: Worker, receiver: Receiver, order: Order) -> None:
        number = self._current = order.number
        self._add(("started", number), now=order.timed)
        clock = time.perf_counter()
        try:
            seconds = worker.execute(receiver.task(order), order.replaces, number, order.planned, order.expired)
        except KeyboardInterrupt:
            self._add(("interrupted", number), now=True)
            raise
        except GeneratorExit:
            raise
        except BaseException as error:  # SystemExit and CancelledError too are failures of the task alone
            self._end_of_lines()
            # At once: should the next task end this process, nobody else could tell.
            self._add(("failed", number, time.perf_counter() - clock, _packed(error)), now=True)
            return
        self._end_of_lines()
        if isinstance(seconds, (int, float)):
            self._add(("finished", number, seconds))
            return
        while len(self._storing) >= AT_ONCE:
            from concurrent.futures import FIRST_COMPLETED, wait

            self._storing -= wait(self._storing, return_when=FIRST_COMPLETED).done
        self._add(("stores", number, time.perf_counter() - clock))
        self._storing.add(seconds)
        seconds.add_done_callback(lambda future: self._stored(number, future))

    def _stored(self, number: int, future: Future[float]) -> None:
        """Tells, in the thread that stored it, what became of a result."""
        error = future.exception()
        if error is None:
            self._add(("finished", number, future.result()), now=True)
        else:
            self._add(("failed", number, 0.0, _packed(error)), now=True)

    # --- what is told ---------------------------------------------------------------------

    def _add(self, news: tuple[Any, ...], now: bool = False) -> None:
        if self._forked:
            return
        with self._sending:
            self._news.append(news)
            if now or time.monotonic() - self._told > _NEWS:
                self.flush()

    def _tell(self, news: tuple[Any, ...]) -> None:
        if news[0] in ("log", "print"):
            news = (news[0], self._current, *news[1:])
        self._add(news, now=True)

    def flush(self) -> None:
        """Sends all that there is to tell."""
        with self._sending:
            if not self._news:
                return
            news, self._news = self._news, []  # first: what cannot be sent is not to be tried again
            data = pickle.dumps(news, protocol=5)
            self._told = time.monotonic()
            self._connection.send_bytes(data)

    def _leave(self, print_and_log_here: Callable[[], None]) -> None:
        """Called in a process that a task has forked.

        The conversation is the worker's alone; and it would not be missed when it ends while a child of it holds the
        socket open.
        """
        self._forked = True
        self._connection.close()
        print_and_log_here()

    def _end_of_lines(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    def _progressed(self, task: AnyTask, done: int, total: int | None) -> None:
        del task
        self._add(("progress", self._current, done, total), now=True)

    def _ask(self, tasks: Iterable[AnyTask]) -> None:
        """Has the process that builds build what a running task yields; waits for it."""
        number = self._current
        packed = Sender().tasks(tasks)
        with self._lock:
            rest = [order.number for order in self._orders]
            self._orders.clear()
        self._add(("returned", rest))
        self._add(("asks", number, packed), now=True)
        error = self._replies.get()
        self._current = number
        if error is not None:
            raise error

    # --- what is heard --------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while self._heard(self._connection.recv_bytes()):
                pass
        except (EOFError, OSError):
            # The process that builds is gone. This process leads a group of its own: all that it started goes too.
            os.killpg(os.getpid(), signal.SIGKILL)

    def _heard(self, data: bytes) -> bool:
        """Takes a message; whether another is to come."""
        kind, content = data[:1], data[1:]
        if kind == b"P":
            numbers, body = pickle.loads(content)
            with self._lock:
                self._unopened.update(numbers)
            self._parcels.put(body)
        elif kind == b"R":
            with self._lock:
                back = [*(order.number for order in self._orders), *(self._unopened - self._dropped)]
                self._orders.clear()
                self._dropped |= self._unopened
            # Not here: who only reads must not wait for room to write, or both sides may wait for each other.
            threading.Thread(target=self._add, args=(("returned", back), True), name="kart-return", daemon=True).start()
        elif kind == b"A":
            self._replies.put(_unpacked(content) if content else None)
        elif kind == b"E":
            self._parcels.put(None)
            return False
        return True


def _locking(setup: Setup) -> Locking | None:
    if setup.locking is None:
        return None
    from kart_core.execution.locking import Locking

    return Locking(setup.locking)


# Errors are rare, and what takes them apart is long: a worker that meets none starts without it.


def _packed(error: BaseException) -> bytes:
    from kart_core.execution.travelling import pack

    return pack(error)


def _unpacked(data: bytes) -> BaseException:
    from kart_core.execution.travelling import unpack

    return unpack(data)
