"""Crews: who runs the tasks that the scheduler has ready. This one runs them in the process that builds."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from kart_core import running
from kart_core.execution.behind import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from kart_core.execution.lease_ahead import LeaseAhead
    from kart_core.execution.pool import ProcessCrew
    from kart_core.execution.scheduler import Scheduler
    from kart_core.execution.worker import Worker
    from kart_core.graph import Node
    from kart_core.plugin import ExecutorSession
    from kart_core.seeding import Generators
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class Crew(Protocol):
    """Takes ready tasks from a scheduler, and tells it what became of them."""

    @property
    def busy(self) -> bool:
        """Whether something is under way, so that `wait` has something to wait for."""
        ...

    def fill(self, scheduler: Scheduler) -> None:
        """Takes from the scheduler what there is room for."""
        ...

    def wait(self, scheduler: Scheduler, timeout: float | None) -> None:
        """Waits until something has happened, and tells the scheduler.

        Args:
            scheduler: is told.
            timeout: the seconds after which it is to return all the same; None: as long as it takes.
        """
        ...

    def finish(self, scheduler: Scheduler) -> None:
        """Brings an interrupted run to its end: what has run is told, what is still running is stopped."""
        ...

    def close(self) -> None:
        """Gives back what the crew took."""
        ...


class InlineCrew:
    """Runs one task after the other in this process, when it takes them.

    Args:
        session: of the executor.
        generators: those from which tasks draw.
        worker: makes what runs a task; it is given what has the tasks made that a task yields.
        aside: makes the crew of one process in which tasks run that may have to be stopped.
        ahead: takes the leases of the next tasks, where that pays.
    """

    def __init__(
        self,
        session: ExecutorSession,
        generators: Generators,
        worker: Callable[[Callable[[Iterable[AnyTask]], None]], Worker],
        aside: Callable[[], ProcessCrew],
        ahead: LeaseAhead | None = None,
    ) -> None:
        self._session = session
        self._generators = generators
        self._execute = worker(self._make_asked).execute
        self._make_aside = aside
        self._ahead = ahead
        self._aside: ProcessCrew | None = None
        self._running: tuple[Node, Scheduler] | None = None
        self._storing: dict[Future[float], Node] = {}

    @property
    def busy(self) -> bool:
        """Whether results are on their way to storage, or a task in the process aside waits for others."""
        return bool(self._storing) or (self._aside is not None and self._aside.busy)

    def fill(self, scheduler: Scheduler) -> None:
        """Runs tasks until there is something to wait for, or none can run."""
        if self._aside is not None and self._aside.busy:
            self._aside.resume()
            self._wait_aside(self._aside, scheduler)
        if len(self._storing) >= AT_ONCE:
            return
        self._run_while(scheduler, scheduler.peek)

    def _run_while(self, scheduler: Scheduler, next_: Callable[[], Node | None]) -> None:
        while (node := next_()) is not None:
            if node.resolved.shape.policy.timeout is not None:
                self._run_aside(scheduler)
                return
            scheduler.take()
            self._run(node, scheduler)
            if self._storing or (self._aside is not None and self._aside.busy):
                return  # what has been stored, or asked for, meanwhile may be more urgent than the rest

    def _make_asked(self, tasks: Iterable[AnyTask]) -> None:
        """Has what the running task yields made; only of that anything runs meanwhile, one within the other."""
        assert self._running is not None
        asker, scheduler = self._running
        attempt = running.current()
        assert attempt is not None
        replies: list[BaseException | None] = []
        states = self._generators.put_away()
        try:
            scheduler.asked(asker, list(tasks), replies.append)
            while not replies:
                if len(self._storing) < AT_ONCE:
                    self._run_while(scheduler, lambda: None if replies else scheduler.peek_for(asker))
                if not replies:
                    self._wait(scheduler, scheduler.pause(), lambda: scheduler.peek_for(asker))
        finally:
            self._running = asker, scheduler
            running.enter(attempt)
            self._generators.take_up(attempt.resolved.methods, attempt.seed, states)
        if replies[0] is not None:
            raise replies[0]

    def _run(self, node: Node, scheduler: Scheduler) -> None:
        scheduler.started(node)
        self._running = node, scheduler
        ahead = self._ahead
        expired = scheduler.expired(node)
        begin = None
        if ahead is not None:
            ahead.look(node, scheduler)
            begin = partial(ahead.begin, node, expired)
        clock = time.perf_counter()
        try:
            seconds: Any = self._session.submit(
                self._execute,
                node.task,
                node.replaces,
                scheduler.next_number(),
                node.record,
                expired,
                node.resolved,
                begin,
            ).result()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit and CancelledError too are failures of the task alone
            if ahead is not None:
                ahead.ended(node, ran=False)
            scheduler.failed(node, time.perf_counter() - clock, error)
            return
        if ahead is not None:
            ahead.ended(node, ran=True)
        if isinstance(seconds, (float, int)):
            scheduler.finished(node, seconds)
        else:
            self._storing[seconds] = node

    def _run_aside(self, scheduler: Scheduler) -> None:
        """Runs the next task in a process that can be killed; nothing else runs meanwhile."""
        if self._ahead is not None:
            self._ahead.give_back(at_once=True)
        if self._aside is None:
            self._aside = self._make_aside()
        self._aside.fill(scheduler)
        while self._aside.starting:
            self._aside.wait(scheduler, None)
            self._aside.fill(scheduler)
        self._wait_aside(self._aside, scheduler)

    def _wait_aside(self, aside: ProcessCrew, scheduler: Scheduler) -> None:
        while aside.working:
            aside.wait(scheduler, None)

    def wait(self, scheduler: Scheduler, timeout: float | None) -> None:
        """Takes in what was stored; waits only where no task can run before."""
        self._wait(scheduler, timeout, scheduler.peek)

    def _wait(self, scheduler: Scheduler, timeout: float | None, next_: Callable[[], Node | None]) -> None:
        if self._storing:
            self._settle(scheduler, hurry=len(self._storing) < AT_ONCE and next_() is not None)
        elif timeout and next_() is None:
            time.sleep(timeout)

    def _settle(self, scheduler: Scheduler, hurry: bool) -> None:
        finished = [future for future in self._storing if future.done()]
        if not finished and not hurry:
            from concurrent.futures import FIRST_COMPLETED, wait

            finished = list(wait(self._storing, return_when=FIRST_COMPLETED).done)
        for future in finished:
            node = self._storing.pop(future)
            error = future.exception()
            if error is None:
                scheduler.finished(node, future.result())
            else:
                scheduler.failed(node, 0.0, error)

    def finish(self, scheduler: Scheduler) -> None:
        """Waits for the results that are on their way: what has run is not lost."""
        if self._ahead is not None:
            self._ahead.give_back()
        if self._aside is not None:
            self._aside.finish(scheduler)
        while self._storing:
            self._settle(scheduler, hurry=False)

    def close(self) -> None:
        """Ends the executor's session, and the process aside."""
        if self._aside is not None:
            self._aside.close()
        self._session.shutdown()
