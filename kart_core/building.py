"""Building: plan, run what is missing, and give back the roots' results as storage gives them back."""

from __future__ import annotations

import logging
import os
import pickle
import time
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import attrs

from kart_core import config, host, running
from kart_core.builtin import executors, local_store, seeders, serializers
from kart_core.completeness import record_of
from kart_core.config.runs import check_workers
from kart_core.construction import check_setting, state_of
from kart_core.declaration import shape_of
from kart_core.errors import BuildError, ConfigError, ParameterError, said
from kart_core.execution.behind import Behind
from kart_core.execution.crew import Crew, InlineCrew
from kart_core.execution.interruption import Interruption
from kart_core.execution.journal import Journal
from kart_core.execution.mode import Mode
from kart_core.execution.outcome import Outcome, error_of
from kart_core.execution.scheduler import Listener, Scheduler
from kart_core.execution.worker import Worker
from kart_core.loading import value_of
from kart_core.naming import adopt_main
from kart_core.planning import Plan, make_plan
from kart_core.plugin import Event, Plugin
from kart_core.records import workspace_of
from kart_core.seeding import Generators
from kart_core.settings import SETTINGS
from kart_core.target import declared, flatten
from kart_core.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from kart_core.execution.lease_ahead import LeaseAhead
    from kart_core.execution.locking import Locking
    from kart_core.execution.pool import ProcessCrew
    from kart_core.execution.recruits import Recruits
    from kart_core.graph import Node
    from kart_core.plugin import Executor, ExecutorSession, FutureSession, WorkerPool
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_log = logging.getLogger("kart_core.build")

# A run needs these, as a rule: they are imported here, and not in the middle of the first one.
_ = (executors, local_store, seeders, serializers)

_around: ContextVar[tuple[Scheduler, ...]] = ContextVar("kart_core.around", default=())  # one within the other

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


class BuildsOnImport(ConfigError):
    """A module builds as soon as it is imported, so that no worker process can import it."""


@attrs.frozen(eq=False)
class RunReport:
    """What became of a run."""

    run: str
    """The run's id; the records that it wrote name it."""
    plan: Plan
    ran: Sequence[AnyTask]
    reused: Sequence[AnyTask]
    failures: dict[AnyTask, BaseException]
    """What failed, with the exception; external data that is not there too."""
    blocked: Sequence[AnyTask]
    """What could not run, since something that it depends on failed."""
    unfinished: Sequence[AnyTask]
    """What an interruption left."""
    seconds: float
    paths: dict[AnyTask, list[str]]
    """Where each root's result is."""
    interrupted: bool = False
    about: str = ""
    """What the engine that ran the tasks says of itself, such as where its dashboard is."""

    @property
    def exit_code(self) -> int:
        """The exit status of a command that ends with this report."""
        if self.interrupted:
            return 130
        return self.error().exit_code if self.failures else 0

    def error(self) -> BuildError:
        """The failures as one exception."""
        return error_of(self.failures, len(self.blocked))


@attrs.frozen
class Settings:
    """What a run is asked for; each given setting holds for every task of it, except `rerun`, which means the roots."""

    workspace_directory: str | os.PathLike[str] | None = None
    local_temporary_directory: str | None = None
    rerun: bool | None = None
    rerun_from: Sequence[str] = ()
    strict_check: bool | None = None
    modification_time_check: bool | None = None
    fail_on_empty_dump: bool | None = None
    should_lock_run: bool | Literal["auto"] | None = None
    plugins: Sequence[type[Plugin] | Plugin] = ()
    executor: str | None = None
    workers: int | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> Settings:
        """The settings of a run as a caller gave them.

        Raises:
            ParameterError: one that there is not, or that is of the wrong type.
        """
        names = attrs.fields_dict(cls)
        for name, value in given.items():
            if name not in names:
                near = config.nearest(name, names)
                hint = f"; did you mean {near!r}?" if near else f"; it takes {', '.join(names)}"
                raise ParameterError(f"a run has no setting {name!r}{hint}")
            if name in SETTINGS and value is not None:
                check_setting("the run", name, value)
        if isinstance(given.get("rerun_from"), str):
            raise ParameterError(f"rerun_from takes a list of task names; write rerun_from=[{given['rerun_from']!r}]")
        for name in given.get("rerun_from", ()):
            if not isinstance(name, str):
                hint = f"; write {name.__name__!r}" if isinstance(name, type) else ""
                raise ParameterError(f"rerun_from takes names of task classes, but was given {name!r}{hint}")
        if not isinstance(given.get("plugins", ()), (list, tuple)):
            raise ParameterError("plugins takes a list of plugin classes or instances; write plugins=[Mine]")
        check_workers(given.get("workers"))
        if not isinstance(given.get("executor"), (str, type(None))):
            raise ParameterError(f"executor takes the name of one, such as 'inline', not {given['executor']!r}")
        return cls(**given)

    def layer(self) -> dict[tuple[str, str], object]:
        """The settings that hold for every task, as a layer of the configuration."""
        names = (
            *("local_temporary_directory", "strict_check", "modification_time_check", "fail_on_empty_dump"),
            "should_lock_run",
        )
        given: dict[tuple[str, str], object] = {
            ("TaskOnKart", name): getattr(self, name) for name in names if getattr(self, name) is not None
        }
        if self.workspace_directory is not None:
            given["TaskOnKart", "workspace_directory"] = os.fspath(self.workspace_directory)
        return given


class Session:
    """One call of `build`, `plan` or `execute`: the configuration and the plugins that hold for it."""

    def __init__(self, tasks: Sequence[AnyTask], settings: Settings, listen: Sequence[Callable[[Event], None]]) -> None:
        from kart_core.task import TaskOnKart

        for task in tasks:
            if not isinstance(task, TaskOnKart):
                hint = f"; make one: {task.__name__}(…)" if isinstance(task, type) else ""
                if isinstance(task, (list, tuple)):
                    hint = "; give several tasks one by one: build(*tasks)"
                raise ParameterError(f"kart builds tasks, but was given {task!r}{hint}")
        self.tasks = tasks
        self.settings = settings
        self._listen = listen

    @contextmanager
    def open(self) -> Generator[None]:
        """Makes the session's configuration and plugins the current ones.

        Raises:
            BuildsOnImport: a worker process imports code that builds.
        """
        if running.imports_code:
            raise BuildsOnImport(
                "a module builds when it is imported, and each worker process imports it; put what builds under "
                "if __name__ == '__main__':"
            )
        layer = self.settings.layer()
        present = config.refresh()
        with ExitStack() as stack:
            # Held for the whole run, whatever a task does to the environment or the working directory.
            stack.enter_context(config.using(present.with_options(layer, origin="build") if layer else present))
            if self.settings.plugins:
                present_host = host.current().with_plugins(self.settings.plugins, config.current())
                stack.enter_context(host.using(present_host))
            yield

    def plan(self, expect: Callable[[int], None] | None = None) -> Plan:
        """The plan of the session's tasks.

        Args:
            expect: told early how many tasks will run that may do so at the same time.
        """
        return make_plan(self.tasks, bool(self.settings.rerun), self.settings.rerun_from, expect)

    def execute(self) -> RunReport:
        """Plans and runs."""
        adopt_main()
        clock = time.perf_counter()
        run = new_run()
        mode = Mode.of(self.settings.executor, self.settings.workers)
        outcome = Outcome()
        interrupted = False
        with ExitStack() as planned:
            others = None if mode.executor.in_process else _opened(mode)
            if others is not None:
                planned.callback(others.shutdown, wait=False)
            plan = self.plan(getattr(others, "expect", None))
            mode.check(plan.to_run)
            locking = _locking(plan, mode)
            told = _Told(run, plan, [*self._listen, *host.current().listeners()])
            with Interruption(counted=not mode.executor.in_process) as interruption, ExitStack() as stack:
                generators = stack.enter_context(Generators(needed=mode.executor.in_process and bool(plan.to_run)))

                def plan_more(tasks: Sequence[AnyTask]) -> Plan:
                    more = make_plan(tasks)
                    mode.check(more.to_run)
                    if locking is not None:
                        locking.look_first(more.to_run)
                    _check_seeds(more, generators)
                    _prepare(more, prepared)
                    return more

                prepared = set[Workspace]()
                _check_seeds(plan, generators)
                _prepare(plan, prepared)
                if others is None:
                    crew: Crew = self._inline(mode, run, generators, told, stack, locking, plan)
                else:
                    crew = _elsewhere(others, mode.workers, run, told, interruption, locking is not None)
                    planned.pop_all()  # it is the crew's now
                stack.callback(crew.close)
                told.run_started()
                scheduler = Scheduler(plan, crew, told, outcome, mode.limits, plan_more)
                around = _around.get()
                here = _around.set((*around, scheduler))
                try:
                    scheduler.run()
                except KeyboardInterrupt:
                    interrupted = True
                finally:
                    _around.reset(here)
                    for outer in around if running.is_inside() else ():
                        outer.made_inside(node.task for node in outcome.ran)
        report = RunReport(
            run=run,
            plan=plan,
            ran=[node.task for node in outcome.ran],
            reused=[*(node.task for node in plan.reused), *(node.task for node in outcome.made)],
            failures={node.task: error for node, error in outcome.failures.items()},
            blocked=[node.task for node in outcome.blocked],
            unfinished=[node.task for node in outcome.unfinished(plan)],
            seconds=time.perf_counter() - clock,
            paths={t: [target.url for target in flatten(declared(t), t).values()] for t in self.tasks},
            interrupted=interrupted,
            about=getattr(crew, "about", ""),
        )
        told.run_finished(report)
        refused = next((error for error in report.failures.values() if isinstance(error, BuildsOnImport)), None)
        if refused is not None:
            raise BuildsOnImport(str(refused))  # no task is to blame, and where a worker met it tells nothing
        return report

    def _inline(
        self,
        mode: Mode,
        run: str,
        generators: Generators,
        told: _Told,
        stack: ExitStack,
        locking: Locking | None,
        plan: Plan,
    ) -> Crew:
        """The crew of this process, with another process aside for tasks that may have to be stopped."""
        behind = stack.enter_context(Behind())
        progressed = told.progressed if told.listeners else None

        def worker(make: Callable[[Iterable[AnyTask]], None]) -> Worker:
            return Worker(run, generators, make, progressed, behind, locking)

        def aside() -> ProcessCrew:
            return _processes(_executor("processes"), 1, run, told, Interruption(counted=False), locking is not None)

        session = cast("ExecutorSession", mode.executor.open(mode.workers))
        ahead = None if locking is None else _lease_ahead(locking, plan)
        if ahead is not None:
            stack.enter_context(ahead)
        return InlineCrew(session, generators, worker, aside, ahead)


def _locking(plan: Plan, mode: Mode) -> Locking | None:
    """The leases of a run; None where no task takes one, as in one process on this machine."""
    alone = mode.executor.in_process and not running.among_others
    if alone and not any(
        node.resolved.lock is True or node.resolved.workspace.storage.shared == "network" for node in plan.to_run
    ):
        return None
    from kart_core.execution.locking import Locking

    locking = Locking(1 if alone else max(mode.workers, 2))
    locking.look_first(plan.to_run)
    return locking


def _lease_ahead(locking: Locking, plan: Plan) -> LeaseAhead | None:
    """What takes leases ahead; None where no task is to run whose lease is far away."""
    from kart_core.execution.locking import far_and_quiet

    if not any(map(far_and_quiet, {node.resolved.workspace for node in plan.to_run})):
        return None
    from kart_core.execution.lease_ahead import LeaseAhead

    return LeaseAhead(locking)


def _opened(mode: Mode) -> Recruits | FutureSession:
    """What an executor of other processes has opened: workers that start while the run is planned, or an engine."""
    session = mode.executor.open(mode.workers)
    if not hasattr(session, "start"):
        return cast("FutureSession", session)
    from kart_core.execution.recruits import Recruits
    from kart_core.execution.remote import ENTRY

    return Recruits(cast("WorkerPool", session), ENTRY, mode.workers)


def _elsewhere(
    session: Recruits | FutureSession, workers: int, run: str, told: _Told, interruption: Interruption, locks: bool
) -> Crew:
    """The crew of other processes: of this machine's, or of an engine that gives futures."""
    if hasattr(session, "start"):
        return _of_pool(cast("WorkerPool", session), workers, run, told, interruption, locks)
    from kart_core.execution.forwarding import levels
    from kart_core.execution.futures import FuturesCrew
    from kart_core.execution.outfit import outfit

    def make_outfit() -> bytes:
        locking = max(workers, 2) if locks else None
        return outfit(run, levels(), bool(told.listeners), locking).packed()

    def progressed(node: Node, done: int, total: int | None) -> None:
        told.progressed(node.task, done, total)

    return FuturesCrew(cast("FutureSession", session), run, workers, make_outfit, progressed, interruption, locks)


def _processes(
    executor: Executor, workers: int, run: str, told: _Told, interruption: Interruption, locks: bool
) -> ProcessCrew:
    return _of_pool(cast("WorkerPool", executor.open(workers)), workers, run, told, interruption, locks)


def _of_pool(
    pool: WorkerPool, workers: int, run: str, told: _Told, interruption: Interruption, locks: bool
) -> ProcessCrew:
    # Only a run with worker processes needs what they need.
    from kart_core.execution.forwarding import levels
    from kart_core.execution.pool import ProcessCrew
    from kart_core.execution.remote import ENTRY, Setup

    present, conf = host.current(), config.current()
    plugins = present.importable()

    def setup() -> bytes:
        told_of = Setup(
            run=run,
            config=conf,
            plugins=plugins,
            disabled=present.disabled,
            used=present.used(),
            levels=levels(),
            watched=bool(told.listeners),
            locking=max(workers, 2) if locks else None,
        )
        return pickle.dumps(told_of, protocol=5)

    def progressed(node: Node, done: int, total: int | None) -> None:
        told.progressed(node.task, done, total)

    return ProcessCrew(pool, ENTRY, run, workers, setup, progressed, interruption, locks)


def new_run() -> str:
    """The id of a new run: when it began, in UTC, and eight random hex digits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(4).hex()}"


def _prepare(plan: Plan, prepared: set[Workspace]) -> None:
    """Makes sure of the workspaces of what will run before hours of work are spent for them.

    Args:
        plan: what will run.
        prepared: the workspaces of which the run is sure.

    Raises:
        StorageError: one cannot be written.
    """
    for workspace in {node.resolved.workspace for node in plan.to_run} - prepared:
        workspace.ensure_format()
        prepared.add(workspace)


def _executor(name: str) -> Executor:
    present = host.current()
    record = present.executor(name)
    if record is None:
        raise present.missing("kart_executors", name)
    return record


def _check_seeds(plan: Plan, generators: Generators) -> None:
    """Makes sure, before anything runs, that the seeding methods that somebody named can be called."""
    seen: set[type[Any]] = set()
    for node in plan.nodes:
        task = node.task
        if node.action != "run" or (type(task) in seen and not task._kart_given):
            continue
        if not task._kart_given:
            seen.add(type(task))
        if _names_methods(task):
            generators.check(node.resolved.methods, True, task)


def _names_methods(task: AnyTask) -> bool:
    shape = shape_of(type(task))
    name = "fix_random_seed_methods"
    return name in task._kart_given or name in shape.defaults or config.current().find(shape.sections, name) is not None


class _Told(Listener):
    """Tells the journal and the listeners of each step."""

    def __init__(self, run: str, plan: Plan, listeners: Sequence[Callable[[Event], None]]) -> None:
        self.listeners = listeners
        self._run = run
        self._plan = plan
        self._debugging = _log.isEnabledFor(logging.DEBUG)
        runs = plan.to_run
        self._journal = Journal(workspace_of(runs[-1].task), run) if runs else None
        self._counts = {"run": len(runs), "reused": len(plan.reused), "missing": len(plan.missing)}

    def run_started(self) -> None:
        if self._journal is not None:
            self._journal.run("run_started", self._counts)
        if self.listeners:
            self._tell(Event("run_started", self._run, time.time(), counts=self._counts))
            for node in self._plan.reused:
                self._tell(Event("task_reused", self._run, time.time(), node.name, node.unique_id))

    def started(self, node: Node) -> None:
        if self._debugging:
            _log.debug("%r runs: %s", node.task, node.reason)
        if self.listeners:
            self._tell(Event("task_started", self._run, time.time(), node.name, node.unique_id))

    def progressed(self, task: AnyTask, done: int, total: int | None) -> None:
        counts = {"done": done} if total is None else {"done": done, "total": total}
        name = state_of(shape_of(type(task))).full_name
        self._tell(Event("task_progress", self._run, time.time(), name, task.unique_id, counts=counts))

    def finished(self, node: Node, seconds: float) -> None:
        if self._journal is not None:
            self._journal.task("task_finished", node.resolved.name, node.task.unique_id, seconds)
        if self.listeners:
            self._tell(Event("task_finished", self._run, time.time(), node.name, node.unique_id, seconds))

    def failed(self, node: Node, seconds: float, error: BaseException) -> None:
        text = f"{type(error).__name__}: {said(error)}"
        if self._journal is not None:
            self._journal.task("task_failed", node.name, node.unique_id, seconds, text)
        if self.listeners:
            self._tell(Event("task_failed", self._run, time.time(), node.name, node.unique_id, seconds, text))

    def blocked(self, node: Node) -> None:
        if self.listeners:
            self._tell(Event("task_blocked", self._run, time.time(), node.name, node.unique_id))

    def waiting(self, node: Node, holder: str) -> None:
        _log.info("%r waits for %s", node.task, holder)
        if self.listeners:
            self._tell(Event("task_waiting", self._run, time.time(), node.name, node.unique_id, holder=holder))

    def reused(self, node: Node) -> None:
        if self.listeners:
            self._tell(Event("task_reused", self._run, time.time(), node.name, node.unique_id))

    def run_finished(self, report: RunReport) -> None:
        counts = {
            "run": len(report.ran),
            "reused": len(report.reused),
            "failed": len(report.failures),
            "blocked": len(report.blocked),
        }
        if self._journal is not None:
            self._journal.run("run_finished", counts)
        if self.listeners:
            self._tell(Event("run_finished", self._run, time.time(), seconds=report.seconds, counts=counts))

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)


def execute(*tasks: AnyTask, listen: Sequence[Callable[[Event], None]] = (), **settings: Any) -> RunReport:
    """Builds tasks and reports; what commands are made of.

    Args:
        tasks: the roots.
        listen: told of every event of the run.
        settings: as for `build`.

    Returns:
        What became of the run; failures of tasks stand in it and are not raised.

    Raises:
        KartError: the tasks cannot be planned.
        CorruptResultError: the record of a root that is reused cannot be read.
    """
    session = Session(tasks, Settings.of(settings), listen)
    with session.open():
        report = session.execute()
        for node in report.plan.roots:
            if node.action == "reuse":
                record_of(node.task)  # nobody loads the result here: that its record is whole must be asked
        return report


def plan(*tasks: AnyTask, **settings: Any) -> Plan:
    """What `build` would do, and why; nothing is changed by looking.

    Args:
        tasks: the roots.
        settings: as for `build`.

    Raises:
        KartError: the tasks make no graph that can run, the workspace cannot be read, or the workers that are asked
            for cannot run what would run.

    Example:
        >>> import kart_core as kart
        >>> class One(kart.TaskOnKart[int]):
        ...     def run(self) -> int:
        ...         return 1
        >>> [(node.action, node.reason) for node in kart.plan(One()).nodes]
        [('run', 'no result is stored')]
    """
    session = Session(tasks, Settings.of(settings), ())
    with session.open():
        made = session.plan()
        if session.settings.executor is not None or session.settings.workers is not None:
            Mode.of(session.settings.executor, session.settings.workers).check(made.to_run)
        return made


@overload
def build(
    task: TaskOnKart[T],
    /,
    *,
    return_value: Literal[True] = ...,
    workspace_directory: str | os.PathLike[str] | None = ...,
    local_temporary_directory: str | None = ...,
    rerun: bool | None = ...,
    rerun_from: Sequence[str] = ...,
    strict_check: bool | None = ...,
    modification_time_check: bool | None = ...,
    fail_on_empty_dump: bool | None = ...,
    should_lock_run: bool | Literal["auto"] | None = ...,
    plugins: Sequence[type[Plugin] | Plugin] = ...,
    executor: str | None = ...,
    workers: int | None = ...,
) -> T: ...
@overload
def build(
    first: TaskOnKart[A],
    second: TaskOnKart[B],
    /,
    *,
    return_value: Literal[True] = ...,
    workspace_directory: str | os.PathLike[str] | None = ...,
    local_temporary_directory: str | None = ...,
    rerun: bool | None = ...,
    rerun_from: Sequence[str] = ...,
    strict_check: bool | None = ...,
    modification_time_check: bool | None = ...,
    fail_on_empty_dump: bool | None = ...,
    should_lock_run: bool | Literal["auto"] | None = ...,
    plugins: Sequence[type[Plugin] | Plugin] = ...,
    executor: str | None = ...,
    workers: int | None = ...,
) -> tuple[A, B]: ...
@overload
def build(
    first: TaskOnKart[A],
    second: TaskOnKart[B],
    third: TaskOnKart[C],
    /,
    *more: TaskOnKart[T],
    return_value: Literal[True] = ...,
    workspace_directory: str | os.PathLike[str] | None = ...,
    local_temporary_directory: str | None = ...,
    rerun: bool | None = ...,
    rerun_from: Sequence[str] = ...,
    strict_check: bool | None = ...,
    modification_time_check: bool | None = ...,
    fail_on_empty_dump: bool | None = ...,
    should_lock_run: bool | Literal["auto"] | None = ...,
    plugins: Sequence[type[Plugin] | Plugin] = ...,
    executor: str | None = ...,
    workers: int | None = ...,
) -> tuple[A | B | C | T, ...]: ...
@overload
def build(
    *tasks: TaskOnKart[object],
    return_value: Literal[False],
    workspace_directory: str | os.PathLike[str] | None = ...,
    local_temporary_directory: str | None = ...,
    rerun: bool | None = ...,
    rerun_from: Sequence[str] = ...,
    strict_check: bool | None = ...,
    modification_time_check: bool | None = ...,
    fail_on_empty_dump: bool | None = ...,
    should_lock_run: bool | Literal["auto"] | None = ...,
    plugins: Sequence[type[Plugin] | Plugin] = ...,
    executor: str | None = ...,
    workers: int | None = ...,
) -> None: ...
def build(  # noqa: D417 - the settings are told one by one
    *tasks: TaskOnKart[Any], return_value: bool = True, **settings: Any
) -> Any:
    """Runs what is missing of some tasks and of all that they require, and gives back their results.

    Args:
        tasks: the roots.
        return_value: whether to load and give back the results; without, the build alone is done.
        workspace_directory: for this run, where every task stores its result, unless it was given one itself.
        local_temporary_directory: for this run, the folder for files on their way.
        rerun: run the roots again even if their results are stored.
        rerun_from: names of task classes; they and all that depends on them run again.
        strict_check: for this run, a task is complete only if everything upstream is.
        modification_time_check: for this run, a task is not complete if an input is another than it read.
        fail_on_empty_dump: for this run, a task that dumps an empty value fails.
        should_lock_run: for this run, whether a task takes a lease, so that of all processes one runs it.
        plugins: plugins of the project, as classes or instances, besides those that are installed.
        executor: the name of the executor: ``inline`` (this process), ``processes``, or one of a plugin.
        workers: how many tasks run at the same time; more than one means worker processes.

    Returns:
        The value of the task; of several tasks a tuple of their values. It is what storage gives
        back, whether the task ran or was reused.

    Raises:
        BuildError: tasks failed, or external data is missing; it holds each original exception.
        KartError: the tasks make no graph that can run, or storage fails.

    Example:
        >>> import kart_core as kart
        >>> class Double(kart.TaskOnKart[int]):
        ...     n: int
        ...     def run(self) -> int:
        ...         return 2 * self.n
        >>> kart.build(Double(n=2))
        4
        >>> kart.build(Double(n=2), Double(n=3))
        (4, 6)
    """
    session = Session(tasks, Settings.of(settings), ())
    with session.open():
        report = session.execute()
        if report.interrupted:
            raise KeyboardInterrupt
        if report.failures:
            error = report.error()
            raise error from next(iter(report.failures.values()))
        if not return_value:
            return None
        values = tuple(value_of(task) for task in tasks)
    return values[0] if len(tasks) == 1 else values
