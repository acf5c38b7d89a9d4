"""What a worker does with one task: seed, run, put the outputs in place, write the record."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast

from kart_core import running
from kart_core.dumping import dump
from kart_core.errors import GraphError, KartError, ParameterError
from kart_core.identity import cycle, holds_files, identity, identity_now, required_tasks, tasks_in
from kart_core.loading import load
from kart_core.planning import code_of
from kart_core.records import Output, encoded, forget, remember, shared, with_outputs
from kart_core.resolved import resolved
from kart_core.target import Target, flatten
from kart_core.workspace import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from kart_core.execution.behind import Behind
    from kart_core.execution.leases import Lease, Seen
    from kart_core.execution.locking import Locking
    from kart_core.plugin import Stat, Store
    from kart_core.resolved import Resolved
    from kart_core.running import Attempt
    from kart_core.seeding import Generators
    from kart_core.task import TaskOnKart
    from kart_core.workspace import Workspace

    AnyTask = TaskOnKart[Any]

_log = logging.getLogger("kart_core.build")


class Worker:
    """Runs tasks, one at a time.

    Args:
        run: the id of the run; attempts are numbered within it.
        generators: the global random generators of the build.
        build: builds the tasks that a `run` yields.
        on_progress: told how far a task has come.
        behind: stores results while the next task runs, where storage is far away.
        locking: the leases under which tasks run; None: they run without.
    """

    def __init__(
        self,
        run: str,
        generators: Generators,
        build: Callable[[Iterable[AnyTask]], None],
        on_progress: Callable[[AnyTask, int, int | None], None] | None = None,
        behind: Behind | None = None,
        locking: Locking | None = None,
    ) -> None:
        self._run = run
        self._generators = generators
        self._build = build
        self._on_progress = on_progress
        self._behind = behind
        self._locking = locking
        self._shared: dict[tuple[type, tuple[str, ...], int], str] = {}
        self._formatted: set[Workspace] = set()

    def execute(
        self,
        task: AnyTask,
        replaces: bool,
        number: int,
        planned: Stat | None = None,
        expired: Seen | None = None,
        here: Resolved | None = None,
        begin: Callable[[], tuple[Lease, bool] | None] | None = None,
    ) -> float | Future[float]:
        """Runs a task and stores its result.

        Args:
            task: the task.
            replaces: whether a record may be there that this run replaces.
            number: of the attempt, within the run.
            planned: under leases, what the plan saw of that record.
            expired: of a `kart_core.execution.leases.Watch`: the lease that is to be taken over.
            here: what holds for the task, where it is known.
            begin: gives what `Locking.begin` would, where a lease may have been taken ahead.

        Returns:
            How many seconds it took; where the result is stored behind, a future of it.

        Raises:
            TakenElsewhere: another process works on the task, or has taken it over while it ran here.
            MadeElsewhere: another process has made the result since it was planned.
            Exception: what `run` raised, or why its result could not be stored. What was stored before is as it was;
                where storage is far, or had taken some of several outputs, an old result that was to be replaced is
                gone.
        """
        started, clock = time.time(), time.perf_counter()
        with running.one_at_a_time:
            attempt = running.Attempt(task, f"{self._run}-{number}", here or resolved(task), self._progress_of(task))
            if attempt.above is not None:
                _refuse_circle(attempt)
            lease: Lease | None = None
            before = running.enter(attempt)
            try:
                if self._locking is not None:
                    if begin is not None:
                        begun = begin()
                    else:
                        begun = self._locking.begin(attempt.resolved, attempt.unique_id, planned, expired)
                    if begun is not None:
                        lease, replaces = begun
                extra = self._run_task(task, attempt)
                behind = self._store(attempt, replaces, extra, started, clock, lease)
            except BaseException:
                attempt.discard()
                if lease is not None:
                    lease.release()
                raise
            finally:
                running.enter(before)
        return time.perf_counter() - clock if behind is None else behind

    def _store(
        self,
        attempt: Attempt,
        replaces: bool,
        extra: list[AnyTask],
        started: float,
        clock: float,
        lease: Lease | None,
    ) -> Future[float] | None:
        """Stores what a task has made; gives a future of it where that is done behind."""
        _require_all_outputs(attempt.task, attempt)
        if not attempt.resolved.shape.all_scalars:
            _require_same_files(attempt.task)
        beginning = self._beginning_of_record(attempt, extra, started)
        if self._behind is not None and self._behind.takes(attempt):
            commit = partial(self._commit, attempt, replaces, beginning, clock, lease)
            return self._behind.submit(attempt, commit, clock)
        self._commit(attempt, replaces, beginning, clock, lease)
        return None

    def _progress_of(self, task: AnyTask) -> Callable[[int, int | None], None] | None:
        tell = self._on_progress
        return None if tell is None else lambda done, total: tell(task, done, total)

    def _run_task(self, task: AnyTask, attempt: Attempt) -> list[AnyTask]:
        """Seeds and runs; gives the tasks that the run itself asked for."""
        self._generators.fix(attempt.resolved.methods, attempt.seed)
        extra: list[AnyTask] = []
        try:
            result: Any = task.run()
            if isinstance(result, GeneratorType):
                result = self._drive(task, cast("Generator[Any, Any, Any]", result), extra)
            if result is not None:
                keep_returned(attempt, result)
        finally:
            self._generators.release()
        return extra

    def _drive(self, task: AnyTask, steps: Generator[Any, Any, Any], extra: list[AnyTask]) -> Any:
        """Goes through a `run` that yields tasks: they are built, and their values sent back."""
        answer: Any = None
        failure: Exception | None = None
        with closing(steps):
            while True:
                try:
                    wanted = steps.send(answer) if failure is None else steps.throw(failure)
                except StopIteration as end:
                    return end.value
                try:
                    answer, failure = self._asked(task, wanted, extra), None
                except Exception as error:
                    failure = error  # is raised where the run yielded, which may know what to do about it

    def _asked(self, task: AnyTask, wanted: Any, extra: list[AnyTask]) -> Any:
        asked = yielded(task, wanted)
        # The tasks that are built now draw from the same generators; this one goes on where it was.
        self._build(asked)
        extra.extend(asked)
        return load(task, wanted)

    def _beginning_of_record(self, attempt: Attempt, extra: list[AnyTask], started: float) -> str:
        """The greater part of the record: all that may fail, or that is only so before anything stored is touched."""
        task, methods, used = attempt.task, tuple(attempt.resolved.methods), attempt.resolved.host.used()
        key = (type(task), methods, len(used))
        common = self._shared.get(key)
        if common is None:
            common = self._shared[key] = shared(methods, code_of(task), used)
        required = required_tasks(task)
        return encoded(attempt, (*required, *extra) if extra else required, common, started)

    def _commit(self, attempt: Attempt, replaces: bool, beginning: str, clock: float, lease: Lease | None) -> None:
        workspace = attempt.resolved.workspace
        path = attempt.resolved.record_path(attempt.unique_id)
        store = workspace.store
        outputs: list[Output] = []
        replaced: bytes | None = None
        try:
            if lease is not None:
                lease.check()
            with guarded(workspace, path, writing=True):
                if workspace not in self._formatted:
                    workspace.ensure_format()
                    self._formatted.add(workspace)
                if replaces:
                    forget(workspace, path)
                    if not workspace.remote:
                        replaced = _content(store, path)
                    store.remove(path)
                for target, content in attempt.staged.values():
                    content.put(store, target.path)
                    outputs.append(_output(target, content.size, content.digest))
                if lease is not None:
                    lease.check()  # large outputs take their time
                store.put(path, with_outputs(beginning, outputs, time.perf_counter() - clock))
        except Exception:
            if replaced is not None and not outputs:  # nothing is in its place yet: the old result still stands
                _put_back(workspace, path, replaced)
            raise
        finally:
            if lease is not None:
                lease.release()
        remember(workspace, path, attempt.id, tuple(outputs))


def _content(store: Store, path: str) -> bytes | None:
    try:
        return store.read(path)
    except FileNotFoundError:
        return None


def _put_back(workspace: Workspace, path: str, record: bytes) -> None:
    try:
        workspace.store.put(path, record)
    except OSError as error:
        _log.warning("%s could not be put back (%s), so the old result counts no more", workspace.where(path), error)


def keep_returned(attempt: Attempt, result: Any) -> None:
    """Keeps what a `run` has returned, and nothing else may it have dumped.

    Raises:
        KartError: it has dumped too.
    """
    if attempt.staged:
        raise KartError(f"run() of {attempt.task!r} dumped and also returned a value; do one of the two")
    dump(attempt.task, result, None)


def yielded(task: AnyTask, wanted: Any) -> list[AnyTask]:
    """The tasks in what a `run` has yielded.

    Raises:
        ParameterError: it is None.
        GraphError: it holds what is no task.
    """
    if wanted is None:
        raise ParameterError(f"run() of {task!r} yielded None; yield a task, or a list or mapping of tasks")
    try:
        return list(tasks_in(wanted, task, "the generator from run()"))
    except GraphError as error:
        raise GraphError(
            f"{error}; where the items are the result themselves, let run() dump them, "
            "self.dump(item for item in …), or return a list of them"
        ) from None


def _refuse_circle(attempt: Attempt) -> None:
    path, above = [attempt.task], attempt.above
    while above is not None:
        path.append(above.task)
        if above.unique_id == attempt.unique_id:
            raise cycle(path[::-1])
        above = above.above


def _output(target: Target, size: int, digest: str) -> Output:
    serializer = target.serializer
    mark = None
    if not target.keyed:
        stat = target.stat()
        mark = None if stat is None else stat.mark
    return Output(target.path, size, digest, f"{serializer.suffix}/{serializer.version}", mark)


def _require_same_files(task: AnyTask) -> None:
    """A file that became another since the task was made would be stored under the id of the old content."""
    if holds_files(task) and identity_now(task) != identity(task):
        raise KartError(
            f"a file that {task!r} holds was changed since the task was made, so its result belongs to no id; "
            "make the task again and build that"
        )


def _require_all_outputs(task: AnyTask, attempt: Attempt) -> None:
    """A task that has not written every output that it declares has failed, there and then."""
    structure = attempt.outputs
    if isinstance(structure, Target):
        if structure.path in attempt.staged:
            return
        raise KartError(
            f"run() of {task!r} returned None and dumped nothing; return the result, or self.dump(value) "
            "(self.dump(None) where None is the result)"
        )
    lacking = [name for name, target in flatten(structure, task).items() if target.path not in attempt.staged]
    if lacking:
        raise KartError(
            f"run() of {task!r} did not write {', '.join(map(repr, lacking))}, which its output() declares; dump each "
            "with self.dump(value, 'name')"
        )
