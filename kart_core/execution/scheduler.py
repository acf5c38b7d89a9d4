"""The scheduler: gives ready tasks to the executor, the more urgent first, until nothing more can run."""

from __future__ import annotations

import heapq
import logging
import time
from typing import TYPE_CHECKING, Any

from kart_core.declaration import shape_of
from kart_core.errors import MissingDataError
from kart_core.execution.behind import AT_ONCE
from kart_core.task import missing_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from kart_core.graph import Node
    from kart_core.planning import Plan
    from kart_core.plugin import ExecutorSession
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


_log = logging.getLogger("kart_core.build")


class Outcome:
    """What became of the nodes of a plan."""

    def __init__(self) -> None:
        self.ran: list[Node] = []
        self.failures: dict[Node, BaseException] = {}
        self.blocked: list[Node] = []


class Listener:
    """What the scheduler tells as it goes; the default tells nobody."""

    def started(self, node: Node) -> None:
        """A task is about to run."""

    def finished(self, node: Node, seconds: float) -> None:
        """A task has run and its result is stored."""

    def failed(self, node: Node, seconds: float, error: BaseException) -> None:
        """A task has failed for good."""

    def blocked(self, node: Node) -> None:
        """A task cannot run, since one that it depends on failed."""


def run_plan(
    plan: Plan,
    executor: ExecutorSession,
    execute: Callable[[AnyTask, bool], float | Future[float]],
    tell: Listener,
    outcome: Outcome,
) -> None:
    """Runs what the plan says.

    A failure stops only what depends on it. What has become of the nodes stands in `outcome` also when an interruption
    ends the run early.

    Args:
        plan: what runs.
        executor: where.
        execute: runs one task and gives its seconds, or a future of them where its result is stored behind.
        tell: told of each step.
        outcome: takes what became of the nodes.
    """
    nodes = plan.in_order
    active = set(nodes)
    waiting: dict[Node, int] = {}
    dependents: dict[Node, list[Node]] = {}
    ready: list[tuple[int, int, Node]] = []
    order = {node: i for i, node in enumerate(nodes)}
    for node in nodes:
        needed = [child for child in node.requirements if child in active]
        waiting[node] = len(needed)
        for child in needed:
            dependents.setdefault(child, []).append(node)
        if not needed:
            heapq.heappush(ready, _rank(node, order))
    storing: dict[Future[float], Node] = {}

    def go_on(node: Node) -> None:
        for dependent in dependents.get(node, ()):
            waiting[dependent] -= 1
            if waiting[dependent] == 0:
                heapq.heappush(ready, _rank(dependent, order))

    try:
        while ready or storing:
            if storing:
                for node in _stored(storing, len(storing) < AT_ONCE and bool(ready), tell, outcome):
                    go_on(node)
                if not ready:
                    continue
            node = heapq.heappop(ready)[2]
            done = _done(node, executor, execute, tell, outcome)
            if done is True:
                go_on(node)
            elif done is not False:
                storing[done] = node
    except BaseException:
        while storing:  # what has run is not lost
            _stored(storing, False, tell, outcome)
        raise
    for node in nodes:
        if waiting[node] > 0 and node.action != "wrap":
            outcome.blocked.append(node)
            tell.blocked(node)


def _rank(node: Node, order: dict[Node, int]) -> tuple[int, int, Node]:
    return -shape_of(type(node.task)).policy.priority, order[node], node


def _stored(storing: dict[Future[float], Node], hurry: bool, tell: Listener, outcome: Outcome) -> list[Node]:
    """The nodes whose results were stored behind meanwhile; unless in a hurry, it waits for one at least."""
    finished = [future for future in storing if future.done()]
    if not finished and not hurry:
        from concurrent.futures import FIRST_COMPLETED, wait

        finished = list(wait(storing, return_when=FIRST_COMPLETED).done)
    stored: list[Node] = []
    for future in finished:
        node = storing.pop(future)
        error = future.exception()
        if error is None:
            outcome.ran.append(node)
            tell.finished(node, future.result())
            stored.append(node)
        else:
            outcome.failures[node] = error
            tell.failed(node, 0.0, error)
    return stored


def _done(
    node: Node,
    executor: ExecutorSession,
    execute: Callable[[AnyTask, bool], float | Future[float]],
    tell: Listener,
    outcome: Outcome,
) -> bool | Future[float]:
    """Whether what depends on the node may go on; a future where its result is stored behind."""
    if node.action == "wrap":
        return True
    if node.action == "missing":
        error = MissingDataError(missing_sentence(node.task))
        outcome.failures[node] = error
        tell.failed(node, 0.0, error)
        return False
    tell.started(node)
    clock = time.perf_counter()
    for left in reversed(range(shape_of(type(node.task)).policy.retries + 1)):
        try:
            seconds = executor.submit(execute, node.task, node.replaces).result()
        except (Exception, SystemExit) as error:
            if left:
                _log.warning(
                    "%r failed with %s: %s; it is tried again, %d left", node.task, type(error).__name__, error, left
                )
                continue
            outcome.failures[node] = error
            tell.failed(node, time.perf_counter() - clock, error)
            return False
        if not isinstance(seconds, (float, int)):
            return seconds
        outcome.ran.append(node)
        tell.finished(node, seconds)
        return True
    return False


def unfinished(plan: Plan, outcome: Outcome) -> Sequence[Node]:
    """The nodes that would have run and did not come to it."""
    settled = {*outcome.ran, *outcome.failures, *outcome.blocked}
    return [node for node in plan.to_run if node not in settled]
