"""A task in several turns: while what it has yielded is made, its process runs others.

A process of kart's own waits with the task that it runs. One of an engine cannot be held: so the run, suspended
where it yielded, is put away with what it staged and with how far its generators have come, and taken up again.
"""

from __future__ import annotations

import time
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast

from kart_core import running
from kart_core.execution.leases import adopt
from kart_core.execution.parcel import Sender
from kart_core.execution.worker import Worker, keep_returned, yielded
from kart_core.loading import load
from kart_core.resolved import resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from concurrent.futures import Future

    from kart_core.execution.leases import Handed, Lease, Seen
    from kart_core.plugin import Seeder, Stat
    from kart_core.running import Attempt
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class Work:
    """One execution of one task, from its first turn to its last.

    Attributes:
        attempt: the attempt.
        replaces: whether a record may be there that it replaces.
        lease: under which it runs, during a turn.
        started: when it began.
        seconds: how long its earlier turns took.
        extra: the tasks that the run itself asked for.
        steps: the run, where it yields tasks.
        states: how far the generators had come when it was put away.
    """

    steps: Generator[Any, Any, Any]

    def __init__(self, attempt: Attempt, replaces: bool) -> None:
        self.attempt = attempt
        self.replaces = replaces
        self.lease: Lease | None = None
        self.started = time.time()
        self.seconds = 0.0
        self.extra: list[AnyTask] = []
        self.states: Sequence[tuple[Seeder, Any]] = ()

    def discard(self) -> None:
        """Ends the run where it stands, and drops what it staged."""
        try:
            if "steps" in self.__dict__:
                self.steps.close()
        finally:
            self.attempt.discard()
            if self.lease is not None:
                self.lease.release()


class Held:
    """A task that has yielded others and waits for them.

    Attributes:
        work: its execution so far.
        wanted: what it yielded.
        tasks: the tasks in it.
        packed: the same, for the process that builds.
        lease: its lease, to be lent to the coordinating process; None where it runs without.
    """

    def __init__(self, work: Work, wanted: Any) -> None:
        self.work = work
        self.wanted = wanted
        self.tasks = yielded(work.attempt.task, wanted)
        self.packed = Sender().tasks(self.tasks)
        self.lease: Lease | None = None


class TurnWorker(Worker):
    """A worker that puts a task away when it yields others."""

    def begin(
        self, task: AnyTask, replaces: bool, number: int, planned: Stat | None = None, expired: Seen | None = None
    ) -> float | Future[float] | Held:
        """Runs a task as `execute` does, up to where it yields tasks.

        Its lease is to be lent then to the process that builds: should the run be over, so is the waiting.
        """
        attempt = running.Attempt(task, f"{self._run}-{number}", resolved(task), self._progress_of(task))
        work = Work(attempt, replaces)

        def first() -> Any:
            if self._locking is not None:
                begun = self._locking.begin(attempt.resolved, attempt.unique_id, planned, expired)
                if begun is not None:
                    work.lease, work.replaces = begun
            self._generators.fix(attempt.resolved.methods, attempt.seed)
            result: Any = task.run()
            if not isinstance(result, GeneratorType):
                return result
            work.steps = cast("Generator[Any, Any, Any]", result)
            return _go_on(work, lambda: None)

        return self._turn(work, first)

    def resume(self, held: Held, failure: BaseException | None, lease: Handed | None) -> float | Future[float] | Held:
        """Goes on with a task that was put away, as `begin` does.

        Args:
            held: what `begin`, or this, gave; of the same process, and once.
            failure: why what it yielded is not stored, which is raised where it yielded; None where it is.
            lease: its lease, where it has one, as the process that builds has lent it.

        Raises:
            LostLease: another has taken the task over meanwhile.
        """
        work = held.work
        attempt = work.attempt

        def answer() -> Any:
            if failure is not None:
                raise failure
            work.extra.extend(held.tasks)
            return load(attempt.task, held.wanted)

        def next_() -> Any:
            if lease is not None:
                work.lease = adopt(attempt.resolved.workspace, lease)
                work.lease.check()
            self._generators.take_up(attempt.resolved.methods, attempt.seed, work.states)
            return _go_on(work, answer)

        return self._turn(work, next_)

    def _turn(self, work: Work, go: Callable[[], Any]) -> float | Future[float] | Held:
        clock = time.perf_counter() - work.seconds
        attempt = work.attempt
        with running.one_at_a_time:
            before = running.enter(attempt)
            try:
                try:
                    result = go()
                    if isinstance(result, Held):
                        return self._put_away(work, result, clock)
                    if result is not None:
                        keep_returned(attempt, result)
                finally:
                    self._generators.release()
                behind = self._store(attempt, work.replaces, work.extra, work.started, clock, work.lease)
            except BaseException:
                work.discard()
                raise
            finally:
                running.enter(before)
        return time.perf_counter() - clock if behind is None else behind

    def _put_away(self, work: Work, held: Held, clock: float) -> Held:
        work.states = self._generators.put_away()
        if work.lease is not None:
            held.lease, work.lease = work.lease, None
        work.seconds = time.perf_counter() - clock
        return held


def _go_on(work: Work, answer: Callable[[], Any]) -> Any:
    """Goes on with a run that yields tasks: to where it yields some, or to its end, and its result."""
    value: Any = None
    failure: Exception | None = None
    try:
        value = answer()
    except Exception as error:
        failure = error  # is raised where the run yielded, which may know what to do about it
    while True:
        try:
            wanted = work.steps.send(value) if failure is None else work.steps.throw(failure)
        except StopIteration as end:
            return end.value
        try:
            return Held(work, wanted)
        except Exception as error:
            value, failure = None, error
