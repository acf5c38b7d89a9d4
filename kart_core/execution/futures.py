"""The crew of an engine that has a scheduler of its own: tasks go to it in pieces, and futures come back.

Short tasks travel together, in pieces of what takes about `BUDGET` seconds; what takes longer, or is not
known yet, is a piece of its own. A few more pieces are under way than there are workers, so that none
waits for the next, and so that an engine that grows with its work sees that there is some.
"""

from __future__ import annotations

import logging
import os
import pickle
import selectors
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kart_core.declaration import shape_of
from kart_core.digest import digest16
from kart_core.errors import CorruptResultError, KartError, StorageError
from kart_core.execution import forwarding, outfit
from kart_core.execution.apart import leave, run_piece
from kart_core.execution.leases import adopt, release
from kart_core.execution.ledger import Ledger
from kart_core.execution.parcel import Receiver
from kart_core.execution.piece import SEEN, Parcel, Resumed
from kart_core.execution.scheduler import LONGEST_PAUSE
from kart_core.execution.travelling import pack, unpack
from kart_core.plugin import Demand, WorkReturned
from kart_core.records import fetch
from kart_core.workspace import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kart_core.execution.interruption import Interruption
    from kart_core.execution.leases import Handed, Lease
    from kart_core.execution.parcel import Order
    from kart_core.execution.scheduler import Scheduler
    from kart_core.graph import Node
    from kart_core.plugin import FutureSession, RemoteWork, Stat
    from kart_core.workspace import Workspace

BUDGET: Final = 0.1
"""Seconds of work that one piece holds."""
NEAR: Final = 0.01
"""Seconds of work that are done where they are sooner than they are sent elsewhere and heard of."""
GRACE: Final = 1.0
"""Seconds that running tasks are given after an interruption."""
PATIENCE: Final = 10.0
"""Seconds in which what a worker has stored must be seen from here; disks on a network are late by some."""

_LONGEST: Final = 256  # tasks in one piece
_SPARE: Final = 4  # pieces under way beyond twice the workers
_UNBEGUN: Final = 3  # times that a task may be lost before its begin was heard of

_log = logging.getLogger("kart_core.build")


class _Piece:
    """Work that the engine has.

    Attributes:
        taken: its tasks that have not ended, by number, in the order in which they run.
        orders: what it was told to run; none where it goes on with a held task.
        chained: by the number of a task, those of the ones before it in the piece without which it cannot run.
        numbers: of its tasks.
        begun: whether it was heard of.
        where: the worker that has it, as messages name it.
        process: the machine and the number of the process that runs it.
        after: the piece in which the held task that it goes on with has yielded.
        lease: that of this task, which is lent to the worker.
        since: when it was heard of first.
        work: the engine's future.
    """

    work: RemoteWork

    def __init__(self, taken: dict[int, Node]) -> None:
        self.taken = taken
        self.orders: Sequence[Order] = ()
        self.chained: dict[int, Sequence[int]] = {}
        self.numbers: dict[Node, int] = {}
        self.begun = False
        self.where = "a worker"
        self.process: tuple[str, int] | None = None
        self.after: _Piece | None = None
        self.lease: Lease | None = None
        self.since = time.monotonic()


class _Waiting(NamedTuple):
    """A task that waits for what it has yielded."""

    node: Node
    piece: _Piece
    """In whose worker process it waits."""
    lease: Lease | None


class _Greeting:
    """When a process was told last that the run goes on."""

    def __init__(self, sent: float) -> None:
        self.sent = sent
        self.heard = True

    def answered(self, work: RemoteWork) -> None:
        """Called in any thread: it has been heard, or there is no such process any more."""
        del work
        self.heard = True


class FuturesCrew:
    """Runs tasks on an engine.

    Args:
        session: of the engine.
        run: the id of the run.
        workers: how many tasks are to run at the same time, at least, as far as the engine has room.
        make_outfit: makes what a worker is told first.
        progressed: told how far a task has come.
        interruption: Ctrl-C and SIGTERM.
        locks: whether tasks run under leases.

    Attributes:
        about: what the engine says of itself.
    """

    def __init__(
        self,
        session: FutureSession,
        run: str,
        workers: int,
        make_outfit: Callable[[], bytes],
        progressed: Callable[[Node, int, int | None], None],
        interruption: Interruption,
        locks: bool,
    ) -> None:
        self._session = session
        self._run = run
        self._workers = workers
        self._make_outfit = make_outfit
        self._outfit: bytes | None = None
        self._progressed = progressed
        self._interruption = interruption
        self._locks = locks
        self._ledger = Ledger()
        self._pieces: set[_Piece] = set()
        self._over: list[_Piece] = []  # ended after an interruption
        self._held: dict[int, _Waiting] = {}
        self._lent: set[Lease] = set()
        self._answered: list[tuple[int, bytes]] = []
        self._unbegun: dict[Node, int] = {}
        self._own_process: dict[Node, tuple[str, int]] = {}  # of those with a timeout
        self._times: dict[type[Any], float] = {}
        self._started: set[int] = set()
        self._unseen: list[_Unseen] = []
        self._shown: dict[str, tuple[Workspace, str]] = {}
        self._greeted: dict[tuple[str, int], _Greeting] = {}
        self.about = ""
        self._happened: deque[tuple[_Piece, bytes | None]] = deque()
        self._selector = selectors.DefaultSelector()
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self._selector.register(self._pipe[0], selectors.EVENT_READ)
        descriptor = interruption.fileno()
        if descriptor is not None:
            self._selector.register(descriptor, selectors.EVENT_READ, interruption)

    @property
    def busy(self) -> bool:
        """Whether the engine has something to do, or a task waits for others that it asked for."""
        return bool(self._pieces or self._held or self._unseen)

    # --- giving ---------------------------------------------------------------------------

    def fill(self, scheduler: Scheduler) -> None:
        """Gives the engine what it has room for."""
        if self._interruption.count:
            return
        answered, self._answered = self._answered, []
        for number, failure in answered:
            if self._held[number][1] in self._pieces:  # where it is held is known for certain when its piece has ended
                self._answered.append((number, failure))
            else:
                self._go_on(number, failure)
        while len(self._pieces) < self._room and self._give(scheduler):
            pass

    @property
    def _room(self) -> int:
        return 2 * max(self._session.workers, self._workers) + _SPARE

    def _give(self, scheduler: Scheduler) -> bool:
        """Submits a piece; whether there was something to submit."""
        first = node = scheduler.peek()
        most = max(min(_LONGEST, -(-scheduler.ready // max(self._session.workers, self._workers))), 1)
        piece = _Piece({})
        heads, expected = 0, 0.0
        while node is not None and expected <= BUDGET:
            seconds = self._short(node)
            if not piece.taken:
                first = node
            if piece.taken and (seconds is None or not _alike(node, first)):
                break
            if heads >= most and (seconds is None or expected + seconds > NEAR):
                break
            scheduler.take()
            try:
                self._order(node, piece, scheduler)
            except Exception as error:
                scheduler.started(node)
                scheduler.failed(node, 0.0, error)
            else:
                heads += 1
                if seconds is None:
                    break
                expected = self._give_chain(node, piece, scheduler, expected + seconds)
            node = scheduler.peek()
        if piece.taken:
            goods = self._ledger.goods()
            piece.orders = goods.orders
            self._submit(piece, Parcel(goods, piece.chained, *self._places(piece.taken.values())))
        return bool(piece.taken)

    def _give_chain(self, node: Node, piece: _Piece, scheduler: Scheduler, expected: float) -> float:
        """Adds the tasks that wait only for what the piece holds, each after its own."""
        last = [node]
        while last and expected <= BUDGET and len(piece.taken) < _LONGEST:
            before = last.pop()
            following = scheduler.following(before, piece.numbers)
            times = [seconds for next_ in following if (seconds := self._short(next_)) is not None]
            if len(times) < len(following) or not all(_alike(next_, node) for next_ in following):
                continue
            if len(following) > 1 and sum(times) > NEAR:
                continue  # they could run at the same time
            for next_, seconds in zip(following, times, strict=True):
                scheduler.take_early(next_)
                needed = [piece.numbers[one] for one in next_.requirements if one in piece.numbers]
                try:
                    number = self._order(next_, piece, scheduler)
                except Exception:
                    scheduler.returned(next_)  # the same is said when it is its turn
                    continue
                piece.chained[number] = needed
                expected += seconds
                last.append(next_)
        return expected

    def _short(self, node: Node) -> float | None:
        """How long a task takes, if it is known to be short enough to share a piece with others."""
        seconds = self._times.get(type(node.task))
        is_long = seconds is None or seconds > BUDGET or shape_of(type(node.task)).policy.timeout is not None
        return None if is_long else seconds

    def _order(self, node: Node, piece: _Piece, scheduler: Scheduler) -> int:
        number = scheduler.next_number()
        timed = shape_of(type(node.task)).policy.timeout is not None
        self._ledger.add(node.task, number, node.replaces, timed, node.record, scheduler.expired(node))
        piece.taken[number] = node
        piece.numbers[node] = number
        return number

    def _places(self, nodes: Any) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
        workspaces = {node.resolved.workspace.url: node.resolved.workspace for node in nodes}
        return [
            (url, self._show(workspace))
            for url, workspace in workspaces.items()
            if workspace.storage.shared != "network"
        ], list(workspaces)

    def _show(self, workspace: Workspace) -> str:
        """Puts a file into a workspace by which workers know it."""
        if workspace.url not in self._shown:
            text, path = os.urandom(16).hex(), SEEN.format(self._run)
            with guarded(workspace, path):
                workspace.store.put(path, text.encode())
            self._shown[workspace.url] = (workspace, text)
        return self._shown[workspace.url][1]

    def _submit(self, piece: _Piece, parcel: Parcel, beside: RemoteWork | None = None) -> None:
        if self._outfit is None:
            self._outfit = self._make_outfit()
        first = next(iter(piece.taken.values()))
        policy = shape_of(type(first.task)).policy
        more = f" and {len(piece.taken) - 1} more" if len(piece.taken) > 1 else ""
        demand = Demand(
            first.name + more,
            policy.priority,
            policy.resources,
            policy.timeout,
            beside,
            lambda data: self._wake(piece, data),
        )
        piece.work = self._session.submit(run_piece, self._outfit, pickle.dumps(parcel, protocol=5), demand=demand)
        self._pieces.add(piece)
        piece.work.add_done_callback(lambda _: self._wake(piece, None))
        if not self.about and self._session.about:
            self.about = self._session.about
            _log.info("%s", self.about)

    def _go_on(self, number: int, failure: bytes) -> None:
        node, before, lease = self._held.pop(number)
        piece = _Piece({number: node})
        piece.after = before
        handed = None
        if lease is not None:  # renewed here until it is heard that the worker has it: the piece may wait for long
            piece.lease, handed = lease, lease.lend()
            self._lent.add(lease)
        resumed = Resumed(number, failure, handed)
        self._submit(piece, Parcel(None, {}, (), (), resumed), beside=before.work)

    # --- hearing --------------------------------------------------------------------------

    def _wake(self, piece: _Piece, data: bytes | None) -> None:
        """Called in any thread: a piece has told something, or (None) there is a result of it."""
        self._happened.append((piece, data))
        with suppress(OSError):  # it is full, and so will be read; or closed, for the run is over
            os.write(self._pipe[1], b"!")

    def wait(self, scheduler: Scheduler, timeout: float | None) -> None:
        """Waits for news of the engine, and tells the scheduler."""
        if self._interruption.count:  # before anything began
            raise KeyboardInterrupt
        if not self.busy and timeout is None:
            return
        if self._unseen:
            soonest = max(min(one.next for one in self._unseen) - time.monotonic(), 0.0)
            timeout = soonest if timeout is None else min(timeout, soonest)
        if self._held:
            soonest = self._greet()
            timeout = soonest if timeout is None else min(timeout, soonest)
        self._listen(scheduler, timeout)
        if self._interruption.count:
            raise KeyboardInterrupt

    def _greet(self) -> float:
        """Tells processes that hold tasks that the run goes on; gives the seconds until it is time again."""
        now, every = time.monotonic(), outfit.HOLD / 5
        held = {one.piece.process: one.piece for one in self._held.values()}
        self._greeted = {process: one for process, one in self._greeted.items() if process in held}
        for process, piece in held.items():
            if process is None:
                continue
            greeting = self._greeted.setdefault(process, _Greeting(now))
            # One that has not come yet, since the worker is at work, is enough.
            if greeting.heard and now - greeting.sent >= every:
                greeting.heard, greeting.sent = False, now
                assert self._outfit is not None
                parcel = pickle.dumps(Parcel(None, {}, (), ()), protocol=5)
                demand = Demand("the run goes on", beside=piece.work, hear=_forget)
                self._session.submit(run_piece, self._outfit, parcel, demand=demand).add_done_callback(
                    greeting.answered
                )
        return max(min((one.sent + every - now for one in self._greeted.values() if one.heard), default=every), 0.0)

    def _listen(self, scheduler: Scheduler, timeout: float | None) -> None:
        if not self._happened:
            self._selector.select(None if timeout is None else min(timeout, LONGEST_PAUSE))
        self._empty_pipe()
        stored: list[_Unseen] = []
        while self._happened:
            piece, data = self._happened.popleft()
            if data is None:
                self._end(piece, scheduler, stored)
            else:
                self._hear(piece, data, scheduler, stored)
        self._look(stored, scheduler)

    def _empty_pipe(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._pipe[0], 4096):
                pass

    def _end(self, piece: _Piece, scheduler: Scheduler, stored: list[_Unseen]) -> None:
        if piece not in self._pieces:
            return
        self._pieces.discard(piece)
        try:
            data = piece.work.result()
        except KartError:
            raise
        except WorkReturned as error:
            self._lose(piece, scheduler, None, str(error))
        except BaseException as error:
            self._lose(piece, scheduler, error, str(error) or type(error).__name__)
        else:
            self._hear(piece, data, scheduler, stored)
            for number in list(piece.taken):
                scheduler.returned(self._settle(piece, number))

    def _hear(self, piece: _Piece, data: bytes, scheduler: Scheduler, stored: list[_Unseen]) -> None:
        for news in pickle.loads(data):
            self._take(piece, news, scheduler, stored)

    def _take(self, piece: _Piece, news: tuple[Any, ...], scheduler: Scheduler, stored: list[_Unseen]) -> None:
        kind = news[0]
        if kind == "begun":
            piece.begun, piece.where, piece.since = True, news[1], time.monotonic()
            piece.process = (news[2], news[3])
            if piece.lease is not None:
                piece.lease.rest()
                self._lent.discard(piece.lease)
            if len(piece.taken) == 1:
                self._start(piece, next(iter(piece.taken)), scheduler)
        elif kind == "finished" and news[1] in piece.taken:
            _, number, seconds = news
            self._start(piece, number, scheduler)
            node = self._settle(piece, number)
            self._learn(type(node.task), seconds)
            stored.append(_Unseen(node, f"{self._run}-{number}", seconds, piece.where))
        elif kind == "failed" and news[1] in piece.taken:
            _, number, seconds, packed = news
            self._start(piece, number, scheduler)
            scheduler.failed(self._settle(piece, number), seconds, unpack(packed))
        elif kind == "returned":
            for number in news[1]:
                scheduler.returned(self._settle(piece, number))
        elif kind == "log":
            node = piece.taken.get(news[1])
            forwarding.hand_over(news[2], None if node is None else node.name)
        elif kind == "print":
            forwarding.show(news[2], news[3])
        elif kind == "progress":
            if (node := piece.taken.get(news[1])) is not None:
                self._progressed(node, news[2], news[3])
        elif kind == "process":
            if piece.process is not None and (node := piece.taken.get(news[1])) is not None:
                self._own_process[node] = (piece.process[0], news[2])
        elif kind == "asks":
            self._ask(piece, news[1], news[2], news[3], scheduler)
        elif kind == "lacks":
            self._send_again(piece, news[1])
        elif kind == "died":
            self._lose(piece, scheduler, ConnectionError(news[1]), news[1])
        elif kind == "gone":
            self._forgot(piece, news[1], scheduler)
        elif kind == "unfit":
            raise unpack(news[1])

    def _start(self, piece: _Piece, number: int, scheduler: Scheduler) -> None:
        if number not in self._started:
            self._started.add(number)
            scheduler.started(piece.taken[number])

    def _settle(self, piece: _Piece, number: int) -> Node:
        self._started.discard(number)
        return piece.taken.pop(number)

    def _learn(self, cls: type[Any], seconds: float) -> None:
        known = self._times.get(cls)
        # Quick to learn that a class is slow, slow to believe that it is quick again.
        self._times[cls] = seconds if known is None or seconds > known else 0.8 * known + 0.2 * seconds

    def _send_again(self, piece: _Piece, has: bytes) -> None:
        """Sends a piece to the process that lacked some of its tasks, with those."""
        taken, piece.taken = piece.taken, {}
        goods = self._ledger.lacking([node.task for node in taken.values()], piece.orders, has)
        again = _Piece(taken)
        again.orders, again.chained = piece.orders, piece.chained
        self._submit(again, Parcel(goods, again.chained, *self._places(taken.values())), beside=piece.work)

    def _ask(self, piece: _Piece, number: int, packed: bytes, handed: Handed | None, scheduler: Scheduler) -> None:
        def reply(error: BaseException | None) -> None:
            self._answered.append((number, b"" if error is None else pack(error)))

        self._start(piece, number, scheduler)
        node = piece.taken.pop(number)
        # Renewed by this process: should the run be over, so is the waiting.
        lease = None if handed is None else adopt(node.resolved.workspace, handed)
        self._held[number] = _Waiting(node, piece, lease)
        try:
            tasks = Receiver().tasks(packed)
        except Exception as error:
            reply(error)
            return
        scheduler.asked(node, tasks, reply)

    # --- what workers say that they have stored ---------------------------------------------

    def _look(self, stored: list[_Unseen], scheduler: Scheduler) -> None:
        """Looks whether what workers say that they have stored is there: one request for each task, all at once."""
        now = time.monotonic()
        due = [one for one in self._unseen if one.next <= now]
        self._unseen = [one for one in self._unseen if one.next > now]
        by_workspace: dict[Workspace, list[_Unseen]] = {}
        for one in (*stored, *due):
            by_workspace.setdefault(one.node.resolved.workspace, []).append(one)
        for workspace, some in by_workspace.items():
            paths = [one.path for one in some]
            with guarded(workspace, paths[0]):
                found = workspace.store.stat_many(paths)
            for one, stat in zip(some, found, strict=True):
                if stat is not None and one.is_made(stat):
                    scheduler.finished(one.node, one.seconds)
                elif not one.is_late():
                    self._unseen.append(one)
                else:
                    scheduler.failed(
                        one.node,
                        one.seconds,
                        StorageError(
                            f"{one.where} says that it has stored {one.node.task!r}, and {workspace.where(one.path)} "
                            f"is not there, or is an older one, {PATIENCE:g} s later; does it see the same storage?"
                        ),
                    )

    # --- what goes wrong --------------------------------------------------------------------

    def _lose(self, piece: _Piece, scheduler: Scheduler, error: BaseException | None, why: str) -> None:
        """The engine has no result of a piece: what was running has failed, what had not begun goes to it again.

        Args:
            piece: the piece.
            scheduler: is told.
            error: what the engine says; None where the tasks are not to blame.
            why: the same as a sentence.
        """
        blamed = error is None
        for number, node in list(piece.taken.items()):
            is_told = number in self._started
            self._settle(piece, number)
            self._release(node, piece)
            if self._is_stored(node, number):
                scheduler.finished(node, 0.0)
            elif piece.orders and (blamed or not self._is_to_blame(node, piece.begun)):
                if error is None and piece.begun:
                    _log.warning("%r is run again: %s", node.task, why)
                scheduler.returned(node)
            else:
                blamed = True
                if not is_told:
                    scheduler.started(node)
                scheduler.failed(node, time.monotonic() - piece.since, _lost(node, piece, why))

    def _is_to_blame(self, node: Node, begun: bool) -> bool:
        """Whether a lost worker is the failure of a task; one may end before it is heard that it has begun."""
        self._unbegun[node] = self._unbegun.get(node, 0) + (not begun)
        return begun or self._unbegun[node] >= _UNBEGUN

    def _forgot(self, piece: _Piece, number: int, scheduler: Scheduler) -> None:
        """The process in which a task was held is another one now."""
        node = self._settle(piece, number)
        self._release(node, piece)
        scheduler.failed(node, 0.0, _lost(node, piece, "it was started anew while the task waited"))

    def _release(self, node: Node, piece: _Piece) -> None:
        """Gives back the lease of a task whose process has ended, or is not to store its result any more."""
        if piece.lease is not None:
            piece.lease.release()
            self._lent.discard(piece.lease)
        elif self._locks and piece.process is not None:
            host, process = self._own_process.get(node, piece.process)
            with suppress(StorageError):  # then it expires
                release(node.resolved.workspace, node.unique_id, process, host)

    def _is_stored(self, node: Node, number: int) -> bool:
        """Whether that very attempt has written its record, which it could not tell any more."""
        try:
            return _attempt_of(node) == f"{self._run}-{number}"
        except StorageError as error:
            _log.warning("whether a result of %r was stored cannot be told, so it counts as lost: %s", node.task, error)
            return False

    # --- the end ------------------------------------------------------------------------------

    def finish(self, scheduler: Scheduler) -> None:
        """Ends an interrupted run: what has not begun is taken back, what runs is given a moment."""
        first = max(self._interruption.count, 1)
        pieces = list(self._pieces)
        self._hear_out(scheduler)
        for piece in list(self._pieces):
            if not piece.begun:
                piece.work.cancel()
        end = time.monotonic() + GRACE
        while self._interruption.count <= first and any(piece.begun for piece in self._pieces):
            left = end - time.monotonic()
            if left <= 0:
                break
            for key, _ in () if self._happened else self._selector.select(left):
                if key.data is not None:
                    self._interruption.heard()
            self._hear_out(scheduler)
        if self._interruption.count <= first:
            self._look_once_more(pieces, scheduler)
        left_running = sum(len(piece.taken) for piece in self._pieces if piece.begun)
        if left_running:
            _log.warning(
                "%d tasks had not ended and were stopped",
                left_running,
            )

    def _hear_out(self, scheduler: Scheduler) -> None:
        """As `_listen`, where nothing more is to begin and a lost worker is no failure of its tasks."""
        self._empty_pipe()
        stored: list[_Unseen] = []
        while self._happened:
            piece, data = self._happened.popleft()
            if data is None:
                self._pieces.discard(piece)
                self._over.append(piece)
                try:
                    data = piece.work.result()
                except BaseException as error:
                    _log.debug("a piece of an interrupted run ended with %r", error)
                    continue
            for news in pickle.loads(data):
                if news[0] in ("begun", "finished", "print", "log"):
                    self._take(piece, news, scheduler, stored)
                elif news[0] in ("failed", "returned"):
                    for number in news[1] if news[0] == "returned" else [news[1]]:
                        piece.taken.pop(number, None)
                elif news[0] == "asks" and (node := piece.taken.pop(news[1], None)) is not None and news[3] is not None:
                    self._lent.add(adopt(node.resolved.workspace, news[3]))  # it is given back at the end
        self._look(stored, scheduler)

    def _look_once_more(self, pieces: Iterable[_Piece], scheduler: Scheduler) -> None:
        """Finds what has run of which no news came: an interrupt may have reached the engine's processes, too."""
        for one in self._unseen:
            if self._is_stored(one.node, int(one.attempt.rpartition("-")[2])):
                scheduler.finished(one.node, one.seconds)
        self._unseen.clear()
        by_workspace: dict[Workspace, list[tuple[_Piece, int]]] = {}
        for piece in pieces:
            for number, node in piece.taken.items():
                by_workspace.setdefault(node.resolved.workspace, []).append((piece, number))
        for workspace, some in by_workspace.items():
            nodes = [piece.taken[number] for piece, number in some]
            paths = [node.resolved.record_path(node.unique_id) for node in nodes]
            try:
                with guarded(workspace, paths[0]):
                    found = workspace.store.stat_many(paths)
            except StorageError as error:
                _log.warning("whether all that has run was heard of cannot be told: %s", error)
                continue
            for (piece, number), node, stat in zip(some, nodes, found, strict=True):
                if stat is not None and self._is_stored(node, number):
                    self._start(piece, number, scheduler)
                    scheduler.finished(self._settle(piece, number), 0.0)

    def close(self) -> None:
        """Ends the session."""
        if self._outfit is not None:
            self._session.everywhere(leave, digest16(self._outfit))
        for piece in (*self._pieces, *self._over):
            for node in piece.taken.values():
                self._release(node, piece)
        for held in self._held.values():
            if held.lease is not None:
                held.lease.release()
        for lease in self._lent:
            lease.release()
        self._session.shutdown(wait=not self._pieces)
        self._selector.close()
        for end in self._pipe:
            os.close(end)
        for workspace, _ in self._shown.values():
            path = SEEN.format(self._run)
            with guarded(workspace, path):
                workspace.store.remove(path)


class _Unseen:
    """A task whose worker says that its result is stored."""

    def __init__(self, node: Node, attempt: str, seconds: float, where: str) -> None:
        self.node = node
        self.attempt = attempt
        self.seconds = seconds
        self.where = where
        self.path = node.resolved.record_path(node.unique_id)
        self.next = time.monotonic()
        self._wait = 0.05
        self._end = self.next + PATIENCE

    def is_made(self, stat: Stat) -> bool:
        """Whether a record is that of this attempt, and not the one that it replaces, where storage is late."""
        node = self.node
        return (
            not node.replaces
            or (node.record is not None and node.record.mark != stat.mark)
            or _attempt_of(node) == self.attempt
        )

    def is_late(self) -> bool:
        """Whether it is looked for no longer; otherwise it is, at `next`."""
        now = time.monotonic()
        self.next, self._wait = now + self._wait, 2 * self._wait
        return now >= self._end


def _attempt_of(node: Node) -> str | None:
    """The attempt of which a task's record tells; None where there is no record, or one that cannot be read."""
    try:
        found = fetch(node.resolved.workspace, node.resolved.record_path(node.unique_id))
    except CorruptResultError:
        return None
    return None if found is None else found.attempt


def _forget(data: bytes) -> None:
    del data


def _alike(node: Node, first: Node | None) -> bool:
    """Whether two tasks ask the same of an engine."""
    if first is None:
        return True
    one, other = shape_of(type(node.task)).policy, shape_of(type(first.task)).policy
    return one is other or (one.priority == other.priority and _same(one.resources, other.resources))


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return dict(one) == dict(other)


def _lost(node: Node, piece: _Piece, why: str) -> KartError:
    return KartError(
        f"{piece.where} that ran {node.task!r} is gone: {why}; a process that takes more memory than there is, is "
        "killed: give workers more, or the task retries=…"
    )
