"""The crew of worker processes: who gets which task, and what becomes of a worker that dies.

Short tasks travel in batches of what takes about `BUDGET` seconds, a second batch while the first is
being worked at, so that a worker need not wait for the next. What takes longer, or is not known yet,
goes alone, and only to a worker that has nothing else. A worker of which nothing was heard for
`BOUND` seconds gives back what it has not begun: so long, at most, does a batch hold up a task in it.
"""

from __future__ import annotations

import logging
import pickle
import selectors
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from kart_core.declaration import shape_of
from kart_core.errors import CorruptResultError, KartError, PluginError, StorageError
from kart_core.execution import forwarding
from kart_core.execution.behind import AT_ONCE
from kart_core.execution.parcel import Receiver, Sender
from kart_core.execution.scheduler import LONGEST_PAUSE
from kart_core.execution.travelling import pack, unpack
from kart_core.records import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kart_core.execution.interruption import Interruption
    from kart_core.execution.scheduler import Scheduler
    from kart_core.graph import Node
    from kart_core.plugin import RemoteWorker, WorkerPool
    from kart_core.workspace import Workspace

_log = logging.getLogger("kart_core.build")

BUDGET: Final = 0.02
"""Seconds of work that one batch holds."""
BOUND: Final = 0.05
"""Seconds after which a silent worker gives back what it has not begun."""
GRACE: Final = 1.0
"""Seconds that running tasks are given after an interruption."""

_LONGEST: Final = 256  # tasks in one batch
_LAST_WORDS: Final = 0.5  # seconds for a worker to put away what it has staged
_HOLDING: Final = 4  # processes that wait for what they asked for, per worker, before only what was asked for begins
_STARTS: Final = 2  # workers in a row that may fail before they have taken anything
_HEARD: Final = 64  # messages of one worker, before others are heard and the time is minded


class _Link:
    """A worker process, as the crew sees it.

    Attributes:
        taken: what it was sent and has not told the end of, by number, in the order in which it will run.
        storing: what of it has run and is on its way to far storage.
        expected: how many seconds the rest is thought to take.
        alone: whether it holds a task beside which it gets no other.
        ready: whether it was heard of.
        holds: the number of the task that waits for others, which it asked for.
        replies: what it is to be told, once there is room for it to go on.
        deadline: when the task that it runs is to be stopped, and which.
        left: how many seconds the task has that waits for others, from when it goes on.
        heard: when it was last heard of.
        recalled: whether it was asked to give back what it has not begun.
    """

    def __init__(self, process: RemoteWorker) -> None:
        self.process = process
        self.sender = Sender()
        self.taken: dict[int, Node] = {}
        self.storing: set[int] = set()
        self.expected = 0.0
        self.alone = False
        self.ready = False
        self.holds: int | None = None
        self.replies: list[bytes] = []
        self.deadline: tuple[float, int] | None = None
        self.left: float | None = None
        self.heard = time.monotonic()
        self.recalled = False
        self.gone = False

    @property
    def working(self) -> bool:
        """Whether it runs something, or is about to."""
        return bool(self.taken) and self.holds is None

    @property
    def to_run(self) -> int:
        """How many tasks it runs or is yet to run."""
        return len(self.taken) - len(self.storing)

    def send(self, message: bytes) -> None:
        try:
            self.process.send(message)
        except OSError:
            self.gone = True  # its end is heard of when it is listened to


class ProcessCrew:
    """Runs tasks in worker processes, as many at a time as there are to be workers.

    Args:
        pool: starts them.
        entry: the function that a worker begins with.
        run: the id of the run.
        workers: how many tasks run at the same time.
        setup: makes what a worker is told first.
        progressed: told how far a task has come.
        interruption: Ctrl-C and SIGTERM.
        locks: whether tasks run under leases.
    """

    def __init__(
        self,
        pool: WorkerPool,
        entry: str,
        run: str,
        workers: int,
        setup: Callable[[], bytes],
        progressed: Callable[[Node, int, int | None], None],
        interruption: Interruption,
        locks: bool,
    ) -> None:
        self._pool = pool
        self._entry = entry
        self._run = run
        self._workers = workers
        self._setup = setup
        self._told: bytes | None = None
        self._progressed = progressed
        self._interruption = interruption
        self._locks = locks
        self._links: list[_Link] = []
        self._ended: set[int] = set()
        self._shared: set[Workspace] = set()
        self._times: dict[type[Any], float] = {}
        self._begun: set[int] = set()
        self._failed_starts = 0
        self._selector = selectors.DefaultSelector()
        descriptor = interruption.fileno()
        if descriptor is not None:
            self._selector.register(descriptor, selectors.EVENT_READ, None)

    @property
    def busy(self) -> bool:
        """Whether a worker has something to do."""
        return any(link.taken for link in self._links)

    @property
    def working(self) -> int:
        """How many workers run something; who waits for tasks that it asked for does not."""
        return sum(link.working for link in self._links)

    @property
    def starting(self) -> bool:
        """Whether a worker was started and not heard of yet."""
        return any(not link.ready for link in self._links)

    # --- giving ---------------------------------------------------------------------------

    def fill(self, scheduler: Scheduler) -> None:
        """Gives the workers what they have room for; starts new ones while there are tasks for them."""
        if self._interruption.count:
            return
        self.resume()
        working = self.working
        for link in self._links:
            if link.holds is None and link.ready and not link.gone and (link.taken or working < self._workers):
                was = link.working
                while self._give(link, scheduler):
                    pass
                working += link.working and not was
        # A worker that starts gets its first task when it is heard of: until then it reads nothing.
        working += sum(not link.ready for link in self._links)
        while working < self._workers and (node := scheduler.peek()) is not None and self._may_grow(node, scheduler):
            self._links.append(self._started())
            working += 1

    def _may_grow(self, node: Node, scheduler: Scheduler) -> bool:
        """Whether another process is started for a task: each that waits for what it asked for holds one."""
        waiting = sum(link.holds is not None for link in self._links)
        return waiting < _HOLDING * self._workers or scheduler.was_asked_for(node) or not self.working

    def resume(self) -> None:
        """Lets tasks go on whose requests were answered, as many as there is room for."""
        working = self.working
        for link in self._links:
            if link.replies and working < self._workers:
                working += 1
                link.heard = time.monotonic()
                if link.left is not None and link.holds is not None:
                    link.deadline = (link.heard + link.left, link.holds)
                link.holds = link.left = None
                link.send(b"A" + link.replies.pop(0))

    def _started(self) -> _Link:
        if self._told is None:
            self._told = self._setup()
        link = _Link(self._pool.start(self._entry))
        self._selector.register(link.process.fileno(), selectors.EVENT_READ, link)
        link.send(self._told)
        return link

    def _give(self, link: _Link, scheduler: Scheduler) -> bool:
        """Sends the worker a batch; whether there may be room for another."""
        if link.alone or link.expected > BUDGET / 2:
            return False
        node = scheduler.peek()
        most = min(_LONGEST, -(-scheduler.ready // self._workers))
        given = 0
        while node is not None and given < most and link.expected <= BUDGET:
            policy = shape_of(type(node.task)).policy
            seconds = self._times.get(type(node.task))
            alone = seconds is None or seconds > BUDGET or policy.timeout is not None
            if alone and link.to_run:
                break
            scheduler.take()
            number = scheduler.next_number()
            try:
                # Of what may take long it is to be heard at once that it has begun.
                link.sender.add(node.task, number, node.replaces, alone, node.record, scheduler.expired(node))
            except Exception as error:
                scheduler.started(node)
                scheduler.failed(node, 0.0, error)
                node = scheduler.peek()
                continue
            if not link.to_run:
                link.heard = time.monotonic()
            given += 1
            link.taken[number] = node
            self._shared.add(node.resolved.workspace)
            link.expected += BUDGET if seconds is None else seconds
            link.alone = alone
            if alone:
                break
            node = scheduler.peek()
        if given:
            link.recalled = False
            link.send(b"P" + link.sender.parcel())
        return given > 0

    # --- hearing --------------------------------------------------------------------------

    def wait(self, scheduler: Scheduler, timeout: float | None) -> None:
        """Waits for news of the workers, and tells the scheduler."""
        if self._interruption.count:  # before anything began
            raise KeyboardInterrupt
        if not self.busy and timeout is None and all(link.ready for link in self._links):
            return
        limits = [limit for link in self._links for limit in self._limits(link)]
        if limits:
            soonest = max(min(limits) - time.monotonic(), 0.0)
            timeout = soonest if timeout is None else min(timeout, soonest)
        for key, _ in self._selector.select(None if timeout is None else min(timeout, LONGEST_PAUSE)):
            if key.data is not None:
                self._hear(key.data, scheduler)
        if self._interruption.count:
            raise KeyboardInterrupt
        self._mind_the_time(scheduler)

    def _limits(self, link: _Link) -> Iterator[float]:
        if link.deadline is not None:
            yield link.deadline[0]
        if link.to_run > 1 and link.ready and not link.recalled and link.holds is None:
            yield link.heard + BOUND

    def _mind_the_time(self, scheduler: Scheduler) -> None:
        now = time.monotonic()
        for link in list(self._links):
            if link.deadline is not None and link.deadline[0] <= now:
                self._stop(link, scheduler)
                continue
            if any(limit <= now for limit in self._limits(link)):
                # Until it is done it gets nothing else, which it would only give back again.
                link.recalled = link.alone = True
                link.send(b"R")
                # The first takes longer than was thought; what is like it goes alone from now on.
                first = next(node for number, node in link.taken.items() if number not in link.storing)
                self._learn(type(first.task), now - link.heard)

    def _hear(self, link: _Link, scheduler: Scheduler) -> None:
        for _ in range(_HEARD):
            try:
                data = link.process.receive()
            except (EOFError, OSError):
                self._lose(link, scheduler)
                return
            link.heard = time.monotonic()
            for news in pickle.loads(data):
                self._take(link, news, scheduler)
            if not link.process.has_message():
                return

    def _take(self, link: _Link, news: tuple[Any, ...], scheduler: Scheduler) -> None:
        kind = news[0]
        if kind == "started":
            self._start(link, news[1], scheduler)
        elif kind in ("finished", "failed"):
            _, number, seconds, *packed = news
            self._start(link, number, scheduler)
            stored = number in link.storing
            node = self._settle(link, number)
            # Of storing, what it takes of the time of those that are stored together.
            self._learn(type(node.task), seconds / AT_ONCE if stored else seconds)
            if packed:
                scheduler.failed(node, seconds, unpack(packed[0]))
            else:
                scheduler.finished(node, seconds)
        elif kind == "stores":
            self._store(link, news[1], news[2], scheduler)
        elif kind == "returned":
            for number in news[1]:
                scheduler.returned(self._settle(link, number))
        elif kind == "log":
            node = link.taken.get(news[1])
            forwarding.hand_over(news[2], None if node is None else node.name)
        elif kind == "print":
            forwarding.show(news[2], news[3])
        elif kind == "progress":
            if (node := link.taken.get(news[1])) is not None:
                self._progressed(node, news[2], news[3])
        elif kind == "asks":
            self._ask(link, news[1], news[2], scheduler)
        elif kind == "fit":
            link.ready = True
            self._failed_starts = 0
        elif kind == "unfit":
            raise unpack(news[1])
        elif kind == "interrupted":
            raise KeyboardInterrupt

    def _start(self, link: _Link, number: int, scheduler: Scheduler) -> None:
        if number in self._begun:
            return
        self._begun.add(number)
        node = link.taken[number]
        limit = shape_of(type(node.task)).policy.timeout
        if limit is not None:
            link.deadline = (time.monotonic() + limit, number)
        scheduler.started(node)

    def _store(self, link: _Link, number: int, seconds: float, scheduler: Scheduler) -> None:
        """A task has run, and its result is on its way: meanwhile the worker may run others."""
        self._start(link, number, scheduler)
        node = link.taken[number]
        self._learn(type(node.task), seconds)
        if shape_of(type(node.task)).policy.timeout is None:  # what may be stopped has its worker to itself to the end
            link.storing.add(number)
            self._ease(link, node)

    def _settle(self, link: _Link, number: int) -> Node:
        self._begun.discard(number)
        node = link.taken.pop(number)
        if link.deadline is not None and link.deadline[1] == number:
            link.deadline = None
        if number in link.storing:
            link.storing.remove(number)
        else:
            self._ease(link, node)
        return node

    def _ease(self, link: _Link, node: Node) -> None:
        if link.to_run:
            link.expected = max(link.expected - self._times.get(type(node.task), BUDGET), 0.0)
        else:
            link.expected, link.alone = 0.0, False

    def _learn(self, cls: type[Any], seconds: float) -> None:
        known = self._times.get(cls)
        # Quick to learn that a class is slow, slow to believe that it is quick again.
        self._times[cls] = seconds if known is None or seconds > known else 0.8 * known + 0.2 * seconds

    def _ask(self, link: _Link, number: int, packed: bytes, scheduler: Scheduler) -> None:
        def reply(error: BaseException | None) -> None:
            link.replies.append(b"" if error is None else pack(error))

        node = link.taken[number]
        link.holds = number
        if link.deadline is not None:
            # It waits for others, and its time is not running.
            link.left, link.deadline = max(link.deadline[0] - time.monotonic(), 0.0), None
        if len(link.taken) > 1:
            link.send(b"R")  # what it has not opened may be what it asks for
        try:
            tasks = Receiver().tasks(packed)
        except Exception as error:
            reply(error)
            return
        scheduler.asked(node, tasks, reply)

    # --- the end of a worker --------------------------------------------------------------

    def _drop(self, link: _Link) -> str:
        self._selector.unregister(link.process.fileno())
        self._links.remove(link)
        self._ended.add(link.process.pid)
        return link.process.ending()

    def _lose(self, link: _Link, scheduler: Scheduler) -> None:
        """A worker has ended unasked: what it was running has failed, what it had not begun goes to others."""
        ready, taken = link.ready, dict(link.taken)
        ending = self._drop(link)
        if not ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise PluginError(
                    f"a worker process {ending} before it could take a task; what it wrote above says why, or run "
                    "without workers"
                )
        blamed = not ready
        for number, node in taken.items():
            begun = number in self._begun
            self._settle(link, number)
            self._release(node, link)
            stored = self._is_stored(node, number)
            if blamed and not begun and not stored:
                scheduler.returned(node)
                continue
            if not begun:
                scheduler.started(node)
            if stored:
                scheduler.finished(node, 0.0)
                continue
            blamed = True
            message = f"the worker process {link.process.pid} that ran {node.task!r} {ending}{_advice(ending)}"
            scheduler.failed(node, time.monotonic() - link.heard, KartError(message))

    def _release(self, node: Node, link: _Link) -> None:
        """Gives back the lease that a worker held, which is known to have ended: nobody need wait for its expiry."""
        if self._locks:
            from kart_core.execution.leases import release

            with suppress(StorageError):  # then it expires
                release(node.resolved.workspace, node.unique_id, link.process.pid)

    def _is_stored(self, node: Node, number: int) -> bool:
        """Whether that very attempt has written its record, which it could not tell any more."""
        try:
            found = fetch(node.resolved.workspace, node.resolved.record_path(node.unique_id))
        except (CorruptResultError, StorageError) as error:
            _log.warning(
                "whether a result of %r was stored cannot be told, so its task counts as failed: %s", node.task, error
            )
            return False
        return found is not None and found.attempt == f"{self._run}-{number}"

    def _stop(self, link: _Link, scheduler: Scheduler) -> None:
        """Kills a worker whose task has taken too long, and all that the task started."""
        assert link.deadline is not None
        number = link.deadline[1]
        node = link.taken[number]
        link.process.kill()
        taken = dict(link.taken)
        self._drop(link)
        self._release(node, link)
        for other, rest in taken.items():
            self._settle(link, other)
            if other != number:
                scheduler.returned(rest)
        limit = shape_of(type(node.task)).policy.timeout
        if self._is_stored(node, number):
            scheduler.finished(node, limit or 0.0)
            return
        scheduler.failed(
            node, limit or 0.0, TimeoutError(f"run() of {node.task!r} took longer than its timeout of {limit:g} s")
        )

    def finish(self, scheduler: Scheduler) -> None:
        """Ends an interrupted run: running tasks are given a moment, then stopped; a second Ctrl-C stops at once."""
        first = self._interruption.count
        for link in [link for link in self._links if not link.ready]:
            link.process.kill()  # it has begun nothing, and an interpreter that is just starting tells of an interrupt
            self._drop(link)
        for link in self._links:
            link.send(b"R")
        self._listen(scheduler, GRACE, lambda: self._interruption.count <= max(first, 1))
        for link in self._links:
            link.process.interrupt()
        self._listen(scheduler, _LAST_WORDS, lambda: self._interruption.count <= max(first, 1))
        for link in list(self._links):
            link.process.kill()
            self._drop(link)
            # What has begun, and the first that waits: that it has begun may not have been heard yet.
            first_in_line = next((number for number in link.taken if number not in link.storing), None)
            for number, node in link.taken.items():
                if number in self._begun or number == first_in_line:
                    self._release(node, link)

    def _listen(self, scheduler: Scheduler, seconds: float, patient: Callable[[], bool]) -> None:
        """Takes in what workers still tell, for some time."""
        end = time.monotonic() + seconds
        while patient() and any(link.working for link in self._links) and (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                link = key.data
                if link is None:
                    self._interruption.heard()
                elif link in self._links:
                    self._hear_out(link, scheduler)

    def _hear_out(self, link: _Link, scheduler: Scheduler) -> None:
        """As `_hear`, where nothing more is to begin and a worker's end is no failure of its task."""
        try:
            news = pickle.loads(link.process.receive())
        except (EOFError, OSError):
            link.process.kill()
            self._drop(link)
            return
        for one in news:
            if one[0] in ("finished", "print", "log"):
                self._take(link, one, scheduler)
            elif one[0] in ("failed", "returned"):
                for number in one[1] if one[0] == "returned" else [one[1]]:
                    link.taken.pop(number, None)
                    link.storing.discard(number)

    def close(self) -> None:
        """Ends the workers."""
        for link in self._links:
            self._selector.unregister(link.process.fileno())
            if link.taken or not link.ready:
                link.process.kill()
                self._ended.add(link.process.pid)
            else:
                link.send(b"E")
        self._links.clear()
        self._pool.shutdown()
        self._selector.close()
        if self._locks and self._ended:
            from kart_core.execution.leases import clear_after

            for workspace in self._shared:
                with suppress(OSError):  # whoever takes leases there next removes them
                    clear_after(workspace.store, self._ended)


def _advice(ending: str) -> str:
    if "SIGKILL" in ending:
        return (
            "; a process that takes more memory than there is, is killed by the system: give fewer --workers, or "
            "retries=…"
        )
    return "; what it wrote above may say why"
