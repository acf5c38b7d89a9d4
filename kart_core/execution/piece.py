"""What becomes of a piece of work in the process that runs it: some tasks, one after the other."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kart_core import config, host, running
from kart_core.errors import ConfigError
from kart_core.execution.behind import AT_ONCE, Behind
from kart_core.execution.leases.ready import remove as remove_ready
from kart_core.execution.ledger import Goods, Shelf
from kart_core.execution.locking import Locking
from kart_core.execution.travelling import pack, unpack
from kart_core.execution.turns import Held, TurnWorker
from kart_core.resolved import resolved
from kart_core.seeding import Generators
from kart_core.workspace import open_workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from kart_core.config import Config
    from kart_core.execution.aside import Aside
    from kart_core.execution.leases import Handed
    from kart_core.execution.outfit import Outfit
    from kart_core.execution.parcel import Order
    from kart_core.host import Host
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

LIMIT: Final = 1.0
"""Seconds after which a piece gives back what it has not begun: so long, at most, does it hold up a task in it."""
SEEN: Final = ".kart/runs/.{}.seen"
"""A file by which a worker shows that it sees the workspace of the process that builds."""

_QUIET: Final = 0.05  # seconds in which what is told while a task runs is gathered


class Parcel(NamedTuple):
    """What a piece is made of: orders to begin, or one held task to go on with."""

    goods: Goods | None
    chained: Mapping[int, Sequence[int]]
    """By the number of an order, those of the ones before it, which must have been stored."""
    workspaces: Sequence[tuple[str, str]]
    """The URLs of workspaces that all of a machine share, each with the text of its file `SEEN`."""
    places: Sequence[str]
    """The URLs of all workspaces of the orders."""
    resumed: Resumed | None = None


class Resumed(NamedTuple):
    """What a held task needs to go on."""

    number: int
    """Of its attempt."""
    failure: bytes
    """Why what it yielded is not stored, packed; empty where it is."""
    lease: Handed | None
    """Its lease, if it has one."""


class News:
    """What there is to tell: soon, or at the end of a piece.

    Args:
        tell: brings a pickled list of news to the coordinating process.
    """

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell
        self._news: list[tuple[Any, ...]] = []
        self._lock = threading.RLock()
        self._told = 0.0
        self._timer: threading.Timer | None = None

    def add(self, *news: Any) -> None:
        """Notes what is told at the end of the piece, or with what is told before."""
        with self._lock:
            self._news.append(news)

    def now(self, *news: Any) -> None:
        """Tells soon."""
        with self._lock:
            self._news.append(news)
            if self._timer is not None:
                return
            if time.monotonic() - self._told > _QUIET:
                self.flush()
            else:
                self._timer = threading.Timer(_QUIET, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def mute(self) -> None:
        """Tells nothing any more: called in a process that was forked, where other threads' locks are never freed."""
        self._lock = threading.RLock()
        self._news = []
        self._tell = _forget

    def flush(self) -> None:
        """Tells all that there is."""
        with self._lock:
            self._timer = None
            if self._news:
                self._told = time.monotonic()
                self._tell(self.rest())

    def rest(self) -> bytes:
        """What was not told yet."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            data, self._news = pickle.dumps(self._news, protocol=5), []
            return data


class Home:
    """What a process keeps of one run: configuration, plugins, the tasks that it was sent, those that it holds."""

    def __init__(self, outfit: Outfit, conf: Config, present: Host, where: str, news: News) -> None:
        self.outfit = outfit
        self._news = news
        self._current = 0
        self._locking = None if outfit.locking is None else Locking(outfit.locking)
        running.among_others = outfit.locking is not None
        self._config = conf
        self._host = present
        self._where = where
        self._shelf = Shelf()
        self._held: dict[int, Held | Aside] = {}
        self._seen: set[str] = set()

    @property
    def holds(self) -> bool:
        """Whether tasks wait here for others that they asked for."""
        return bool(self._held)

    def tell(self, news: tuple[Any, ...]) -> None:
        """Takes what the running task logs and prints."""
        self._news.now(news[0], self._current, *news[1:])

    def run(self, parcel: Parcel) -> None:
        """Runs a piece.

        Raises:
            KartError: this process cannot run tasks of this run.
        """
        with config.using(self._config), host.using(self._host):
            self._look(parcel)
            if parcel.goods is not None and not self._shelf.take(parcel.goods, self._where):
                self._news.add("lacks", self._shelf.has())
                return
            try:
                with Generators() as generators, Behind() as behind:
                    progressed = self._progressed if self.outfit.watched else None
                    worker = TurnWorker(self.outfit.run, generators, _never, progressed, behind, self._locking)
                    if parcel.resumed is not None:
                        self._resume(worker, parcel.resumed)
                    elif parcel.goods is not None:
                        self._run(worker, parcel.goods.orders, parcel)
            finally:
                for held in self._held.values():
                    if held.lease is not None:
                        held.lease.rest()  # the coordinating process hears of it now at the latest
                if self._locking is not None:
                    remove_ready()  # this process may be killed when the run is over

    def _look(self, parcel: Parcel) -> None:
        """Makes sure that a workspace on a disk is the one that the process that builds sees, and not one like it."""
        for url, text in parcel.workspaces:
            if url in self._seen:
                continue
            path = SEEN.format(self.outfit.run)
            try:
                found = open_workspace(url).store.read(path)
            except OSError:
                found = b""
            if found != text.encode():
                raise ConfigError(
                    f"{self._where} does not see the workspace {url} of the process that builds; choose a "
                    "workspace_directory that all workers share: a bucket, or a folder on a network's file system"
                )
            self._seen.add(url)

    def _progressed(self, task: AnyTask, done: int, total: int | None) -> None:
        del task
        self._news.now("progress", self._current, done, total)

    def _run(self, worker: TurnWorker, orders: Sequence[Order], parcel: Parcel) -> None:
        """Runs the orders, as many as there is time for."""
        clock = time.monotonic()
        ended: dict[int, float | Future[float] | None] = {}
        storing: set[Future[float]] = set()
        returned: list[int] = []
        for i, order in enumerate(orders):
            if i and time.monotonic() - clock > LIMIT:
                returned.extend(rest.number for rest in orders[i:])
                break
            if not all(_is_stored(ended.get(before)) for before in parcel.chained.get(order.number, ())):
                returned.append(order.number)
                continue
            done = self._attempt(order.number, partial(self._begun, worker, order, parcel.places))
            ended[order.number] = done
            if done is not None and not isinstance(done, (int, float)):
                storing = _few({*storing, done})
        if returned:
            self._news.add("returned", returned)

    def _resume(self, worker: TurnWorker, resumed: Resumed) -> None:
        """Goes on with a held task."""
        number, packed, lease = resumed
        failure = unpack(packed) if packed else None
        held = self._held.pop(number, None)
        if held is None:
            self._news.add("gone", number)
        elif isinstance(held, Held):
            self._attempt(number, partial(worker.resume, held, failure, lease))
        else:
            self._attempt(number, partial(held.resume, failure))

    def _begun(self, worker: TurnWorker, order: Order, places: Sequence[str]) -> float | Future[float] | Held | Aside:
        task = self._shelf.task(order)
        workspace = resolved(task).workspace
        if workspace.url not in places:
            raise ConfigError(
                f"{self._where} would store {task!r} in {workspace.url}, and not where the process that builds looks "
                f"for it ({', '.join(places)}): a relative workspace_directory is relative to "
                f"{self.outfit.directory}, which is not there; give the whole path, or a URL"
            )
        if not order.timed:
            return worker.begin(task, order.replaces, order.number, order.planned, order.expired)
        from kart_core.execution.aside import Aside

        return Aside(task, order, self.outfit, self._progressed, partial(self._news.now, "process", order.number)).go()

    def _attempt(self, number: int, work: Callable[[], Any]) -> float | Future[float] | None:
        """Has a task run, or go on; what became of its result, None where there is none."""
        self._current = number
        clock = time.perf_counter()
        try:
            done = work()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit and CancelledError too are failures of the task alone
            _end_of_lines()
            self._news.add("failed", number, time.perf_counter() - clock, pack(error))
            self._news.flush()  # what comes next may take the process with it, and would be blamed for this
            return None
        _end_of_lines()
        if hasattr(done, "tasks"):
            self._hold(number, done)
            return None
        if isinstance(done, (int, float)):
            self._news.add("finished", number, done)
            return done
        stored: Future[float] = done
        stored.add_done_callback(lambda future: self._stored(number, future))
        return stored

    def _hold(self, number: int, held: Held | Aside) -> None:
        self._held[number] = held
        lent = None if held.lease is None else held.lease.lend()
        self._news.now("asks", number, held.packed, lent)

    def _stored(self, number: int, future: Future[float]) -> None:
        """Tells, in the thread that stored it, what became of a result."""
        error = future.exception()
        if error is None:
            self._news.add("finished", number, future.result())
        else:
            self._news.add("failed", number, 0.0, pack(error))


def _forget(data: bytes) -> None:
    del data


def _few(storing: set[Future[float]]) -> set[Future[float]]:
    """Those that are not stored yet, once they are few enough: each holds its result in memory."""
    if len(storing) < AT_ONCE:
        return storing
    from concurrent.futures import FIRST_COMPLETED, wait

    return set(wait(storing, return_when=FIRST_COMPLETED).not_done)


def _is_stored(ended: float | Future[float] | None) -> bool:
    """Whether a task has come to its end and its result is stored; one on its way is waited for."""
    return ended is not None and (isinstance(ended, (int, float)) or ended.exception() is None)


def _end_of_lines() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _never(tasks: object) -> None:
    raise AssertionError(f"a piece of work builds nothing itself, and was asked for {tasks!r}")
