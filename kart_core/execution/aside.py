"""A task with a timeout in a worker process of an engine: it runs in a process of its own, which can be killed."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kart_core import config, host
from kart_core.builtin.processes import WorkerProcess, WorkerProcesses
from kart_core.execution.interruption import Interruption
from kart_core.execution.parcel import Sender
from kart_core.execution.pool import ProcessCrew
from kart_core.execution.remote import ENTRY, Setup
from kart_core.resolved import resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kart_core.execution.outfit import Outfit
    from kart_core.execution.parcel import Order
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class _Processes(WorkerProcesses):
    """Starts processes, and says which."""

    def __init__(self, started: Callable[[int], None]) -> None:
        super().__init__()
        self._says = started

    def start(self, entry: str) -> WorkerProcess:
        process = super().start(entry)
        self._says(process.pid)
        return process


class Aside:
    """One task in a process of its own. Towards the crew of that process it is a scheduler of one task.

    Args:
        task: the task.
        order: what the coordinating process wants of it.
        outfit: of the run.
        progressed: told how far it has come.
        started: told the number of its process, which has its lease.

    Attributes:
        tasks: those that it has yielded and waits for.
        packed: the same, for the process that builds.
        ready: how many tasks could run.
        lease: it has none to hand over: its process keeps what it has.
    """

    def __init__(
        self,
        task: AnyTask,
        order: Order,
        outfit: Outfit,
        progressed: Callable[[AnyTask, int, int | None], None],
        started: Callable[[int], None],
    ) -> None:
        self.tasks: Sequence[AnyTask] = ()
        self.packed = b""
        self.lease = None
        self.ready = 1
        self._number = order.number
        self._expired = order.expired
        self._node: Any = SimpleNamespace(
            task=task,
            replaces=order.replaces,
            record=order.planned,
            resolved=resolved(task),
            unique_id=task.unique_id,
            name=None,  # the coordinating process says whose line it is
        )
        self._done: float | None = None
        self._error: BaseException | None = None
        self._reply: Callable[[BaseException | None], None] | None = None
        present, conf = host.current(), config.current()

        def setup() -> bytes:
            told = Setup(
                run=outfit.run,
                config=conf,
                plugins=outfit.plugins,
                disabled=outfit.disabled,
                used=present.used(),
                levels=outfit.levels,
                watched=outfit.watched,
                locking=outfit.locking,
            )
            return pickle.dumps(told, protocol=5)

        self._crew = ProcessCrew(
            _Processes(started),
            ENTRY,
            outfit.run,
            1,
            setup,
            lambda _, done, total: progressed(task, done, total),
            Interruption(counted=False),
            outfit.locking is not None,
        )

    def go(self) -> float | Aside:
        """Runs it, up to where it yields tasks or ends.

        Returns:
            How many seconds it took, or itself, where it waits for `tasks`.

        Raises:
            Exception: why it failed.
        """
        scheduler: Any = self
        try:
            while self._done is None and self._error is None:
                self._crew.fill(scheduler)
                self._crew.wait(scheduler, None)
                if self._reply is not None:  # what it waits for may be none
                    return self
        except BaseException:
            self.discard()
            raise
        self._crew.close()
        if self._error is not None:
            raise self._error
        return self._done or 0.0

    def resume(self, failure: BaseException | None) -> float | Aside:
        """Goes on, as `go` does, when what it waits for is stored, or cannot be."""
        assert self._reply is not None
        reply, self._reply = self._reply, None
        self.tasks = ()
        reply(failure)
        return self.go()

    def discard(self) -> None:
        """Ends it where it is."""
        self._crew.close()

    # --- what its crew asks and tells -----------------------------------------------------

    def peek(self) -> Any:
        """The task, until it is taken."""
        return self._node if self.ready else None

    def take(self) -> Any:
        """Takes the task."""
        self.ready = 0
        return self._node

    def next_number(self) -> int:
        """The number that the coordinating process gave."""
        return self._number

    def expired(self, node: Any) -> Any:
        """The lease of another that is to be taken over."""
        del node
        return self._expired

    def started(self, node: Any) -> None:
        """It has begun, which the coordinating process knows."""

    def finished(self, node: Any, seconds: float) -> None:
        """It has run."""
        del node
        self._done = seconds

    def failed(self, node: Any, seconds: float, error: BaseException) -> None:
        """It has failed; whether it is tried again is not decided here."""
        del node, seconds
        self._error = error

    def returned(self, node: Any) -> None:
        """It has not run, and is to be taken again."""
        del node
        self.ready = 1

    def asked(self, node: Any, tasks: Sequence[AnyTask], reply: Callable[[BaseException | None], None]) -> None:
        """It waits for tasks."""
        del node
        self.tasks, self._reply, self.packed = tasks, reply, Sender().tasks(tasks)
