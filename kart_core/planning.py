"""The plan: which of the tasks below the roots must run, which are reused, and why."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import attrs

from kart_core import code
from kart_core.completeness import look, record_of
from kart_core.declaration import MISSING, shape_of
from kart_core.errors import GraphError, ParameterError
from kart_core.graph import Graph, Node
from kart_core.identity import identity, required_tasks
from kart_core.resolved import resolved
from kart_core.target import declared, flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kart_core.plugin import Stat
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_log = logging.getLogger("kart_core.plan")

# A storage's clock, and file systems that keep whole seconds, may make a result look older than it is.
_STORED: Final = "its result is stored"
_CLOCK_SLACK: Final = 2.0

# The classes of whose other code was told: once for each code.
_told: set[tuple[str, str | None]] = set()


@attrs.frozen(eq=False, slots=False)
class Plan:
    """What a build would do.

    Attributes:
        roots: the tasks that were asked for.
        nodes: every task that was looked at, roots first. What stands above a reused task is not looked at.
    """

    roots: Sequence[Node]
    nodes: Sequence[Node]

    @cached_property
    def in_order(self) -> list[Node]:
        """The nodes below the roots that take part, each after those that it requires."""
        return [node for node in ordered(self.roots) if node.action not in ("skip", "reuse")]

    @cached_property
    def to_run(self) -> list[Node]:
        """The nodes whose tasks will run, each after those that it requires."""
        return [node for node in self.in_order if node.action == "run"]

    @cached_property
    def reused(self) -> list[Node]:
        """The nodes whose results are stored."""
        return [node for node in self.nodes if node.action == "reuse"]

    @cached_property
    def missing(self) -> list[Node]:
        """The nodes of external data that is not there."""
        return [node for node in self.nodes if node.action == "missing"]

    def __str__(self) -> str:
        return "\n".join(f"{node.action:7} {node.name} {node.unique_id[:8]}: {node.reason}" for node in self.nodes)


def make_plan(
    roots: Sequence[AnyTask],
    rerun_roots: bool = False,
    rerun_from: Iterable[str] = (),
    expect: Callable[[int], None] | None = None,
) -> Plan:
    """The plan for some roots. It looks at what is stored and changes nothing.

    Args:
        roots: the tasks that are asked for.
        rerun_roots: whether the roots run though they are stored.
        rerun_from: names of classes; they and all that depends on them run.
        expect: told early, and again and again, how many tasks of one distance from the roots will run.

    Raises:
        GraphError: the tasks make no graph that can run.
        StorageError: the workspace cannot be read.
    """
    graph = Graph()
    root_nodes = [graph.node(task) for task in roots]
    forced = _reruns(graph, root_nodes, tuple(rerun_from))
    if rerun_roots:
        forced.update((node, "it is asked to rerun") for node in root_nodes)
    _decide(graph, root_nodes, forced, expect)
    nodes = [node for node in graph.nodes() if node.action != "skip"]
    _refuse_shared_paths(nodes)
    _tell_of_other_code(nodes)
    return Plan(tuple(dict.fromkeys(root_nodes)), nodes)


def _decide(
    graph: Graph, roots: Sequence[Node], forced: Mapping[Node, str], expect: Callable[[int], None] | None
) -> None:
    """Decides level by level, so that each workspace is asked for a whole level at once."""
    level = list(dict.fromkeys(roots))
    strict: list[Node] = []
    scope: set[Node] = set()  # what stands above a task that asks for everything upstream
    met = set(level)
    told = dict(forced)
    while level:
        reasons = {
            node: why
            for node in level
            # Of most nothing is to be asked: they require nothing and are not set to rerun.
            if (
                told
                or node.rerun
                or node.resolved.rerun
                or node.task._kart_children
                or node.task._kart_overrides_requires
            )
            and (why := told.get(node) or _own_rerun(node))
        }
        asked = [node for node in level if not node.task._kart_wraps and node not in reasons]
        seen = look([node.task for node in asked], [node.resolved for node in asked])
        for node, (lacking, record) in zip(asked, seen, strict=True):
            if lacking is None:
                node.record, node.replaces = record, record is not None
                node.action, node.reason = "reuse", _STORED
            else:
                _set(node, lacking, record)
        if expect is not None:
            rerun = sum(not node.task._kart_wraps for node in reasons)
            expect(rerun + sum(node.action == "run" for node in asked))
        below: list[Node] = []
        for node in level:
            if node.task._kart_wraps:
                node.action, node.reason = "wrap", "a bundle of its requirements"
            elif node in reasons:
                _will_run(node, reasons[node])
            upstream = node.action in ("reuse", "wrap") and node.resolved.strict
            if upstream:
                strict.append(node)
            upstream = upstream or node in scope
            if node.action in ("run", "wrap") or upstream:
                graph.expand(node)
                if upstream:
                    again = [child for child in node.requirements if child not in scope and child in met]
                    scope.update(node.requirements)
                    below.extend(again)
                below.extend([child for child in node.requirements if child not in met])
                met.update(node.requirements)
        level = list(dict.fromkeys(below))
        if not level:
            late = _met_late(graph)
            told |= late
            level = list(late)
    _run_what_strictly_must(graph, strict)


def _own_rerun(node: Node) -> str | None:
    if node.rerun or node.resolved.rerun:
        return "it is set to rerun"
    required = required_tasks(node.task)
    if not required:
        return None
    asked: set[type[Any]] = set()
    for task in required:
        # Tasks of one class that were given no settings of their own are alike.
        if (task._kart_given or type(task) not in asked) and resolved(task).rerun:
            return "a task that it requires is set to rerun"
        asked.add(type(task))
    return None


def _met_late(graph: Graph) -> dict[Node, str]:
    """The reused nodes that run after all.

    Of equal tasks in a graph one that is set to rerun is enough, wherever it stands.
    """
    rerun = {identity(node.task) for node in graph.nodes() if node.rerun or node.resolved.rerun}
    late: dict[Node, str] = {}
    for node in graph.nodes() if rerun else ():
        if node.action == "reuse" and node.task._kart_recorded:
            if identity(node.task) in rerun:
                late[node] = "it is set to rerun"
            elif any(identity(task) in rerun for task in required_tasks(node.task)):
                late[node] = "a task that it requires is set to rerun"
    return late


def _set(node: Node, lacking: str | None, record: Stat | None) -> None:
    node.record = record
    node.replaces = record is not None
    if lacking is None:
        node.action, node.reason = "reuse", _STORED
    elif not node.task._kart_recorded:
        node.action, node.reason = "missing", lacking
    else:
        node.action, node.reason = "run", lacking


def _will_run(node: Node, reason: str) -> None:
    if node.task._kart_recorded:
        # Whether there is a record to replace is found out when the task runs.
        node.action, node.reason, node.replaces = "run", reason, True
    else:
        _set(node, *look([node.task], [node.resolved])[0])


def _run_what_strictly_must(graph: Graph, strict: Sequence[Node]) -> None:
    """What is complete only if everything upstream is, runs if anything upstream does."""
    if not strict:
        return
    dirty: set[Node] = set()
    for node in ordered(graph.nodes()):
        if node.action in ("run", "missing") or any(child in dirty for child in node.requirements):
            dirty.add(node)
    for node in strict:
        if node in dirty and node.action == "reuse":
            node.action, node.reason, node.replaces = "run", "strict_check: something upstream is not complete", True


def ordered(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes and all that they require, each after its requirements."""
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(list(nodes))]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        if ready or not node.requirements:
            done.add(node)
            yield node
        else:
            stack.append((node, True))
            stack.extend([(child, False) for child in reversed(node.requirements) if child not in done])


def _reruns(graph: Graph, roots: Sequence[Node], names: Sequence[str]) -> dict[Node, str]:
    """The nodes that `rerun_from` makes run: those that it names, and all that depends on them."""
    forced: dict[Node, str] = {}
    if not names:
        return forced
    pending, seen = list(roots), set(roots)
    while pending:
        node = pending.pop()
        graph.expand(node)
        pending.extend(child for child in node.requirements if child not in seen)
        seen.update(node.requirements)
    unknown = set(names)
    for node in ordered(roots):
        meant = {node.name, type(node.task).__qualname__, type(node.task).__name__} & set(names)
        unknown -= meant
        if meant:
            forced[node] = f"rerun from {meant.pop()}"
        else:
            above = next((child for child in node.requirements if child in forced), None)
            if above is not None:
                forced[node] = forced[above]
    if unknown:
        known = sorted({type(node.task).__name__ for node in seen})
        raise ParameterError(
            f"rerun_from names {sorted(unknown)[0]!r}, which is no task of this run; there are {', '.join(known)}"
        )
    return forced


def _refuse_shared_paths(nodes: Iterable[Node]) -> None:
    owners: dict[str, Node] = {}
    for node in nodes:
        if node.resolved.shape.plain_output or node.action == "wrap":
            continue
        for target in flatten(declared(node.task), node.task).values():
            owner = owners.get(target.url)
            if owner is node:
                raise GraphError(
                    f"output() of {node.task!r} declares {target.url} twice; give each output a path of its own"
                )
            if owner is not None and (node.task._kart_recorded or owner.task._kart_recorded):
                raise GraphError(
                    f"{owner.task!r} and {node.task!r} both write {target.url}; give make_target() another path, or "
                    "leave the unique id in it"
                )
            owners.setdefault(target.url, node)


def code_of(task: AnyTask) -> str | None:
    """The digest of the code of the task's class."""
    return code_of_class(type(task))


def code_of_class(cls: type[AnyTask]) -> str | None:
    """The digest of a task class's code; None where its source cannot be had."""
    shape = shape_of(cls)
    if shape.code is MISSING:
        shape.code = code.digest(shape.cls, shape.policy.uses)
    return shape.code


def _tell_of_other_code(nodes: Iterable[Node]) -> None:
    """Says once of each class that a reused result was made by other code than today's.

    Reading every record would cost a request for each reused task whenever sources are checked out or deployed anew.
    So of each class only the oldest and the newest are read, and only where the source is newer than they are.
    """
    span: dict[type[Any], tuple[tuple[float, Node], tuple[float, Node]]] = {}
    for node in nodes:
        if node.action != "reuse" or node.record is None or node.record.modified is None:
            continue
        cls, at = type(node.task), node.record.modified
        known = span.get(cls)
        if known is None:
            span[cls] = (at, node), (at, node)
        elif at < known[0][0]:
            span[cls] = (at, node), known[1]
        elif at > known[1][0]:
            span[cls] = known[0], (at, node)
    for cls, ends in span.items():
        changed = code.modified(cls, shape_of(cls).policy.uses)
        for at, node in dict.fromkeys(ends):
            if changed > at - _CLOCK_SLACK and (node.name, code_of(node.task)) not in _told:
                _tell_of(node)


def _tell_of(node: Node) -> None:
    found, now = record_of(node.task), code_of(node.task)
    if found is not None and found.code is not None and now not in (None, found.code):
        _told.add((node.name, now))
        _log.warning(
            "%s is reused, but was made by other code than today's; if that matters, raise the class keyword "
            "version, or run once with --rerun-from %s",
            node.name,
            type(node.task).__name__,
        )
