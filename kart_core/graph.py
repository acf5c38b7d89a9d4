"""The graph of tasks: one node per unique id, walked by work lists and never by recursion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kart_core.errors import GraphError
from kart_core.identity import identity, required_tasks
from kart_core.resolved import resolved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kart_core.plugin import Stat
    from kart_core.resolved import Resolved
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class Node:
    """One task of a graph, and what was decided about it.

    Attributes:
        task: the task.
        resolved: what holds for it in this run.
        requirements: the nodes of the tasks that it requires; filled when it is known that they matter.
        rerun: whether an equal task of the graph is set to rerun.
        action: ``run``; ``reuse``; ``missing``: external data that is not there; ``wrap``: a bundle; ``skip``: not
            looked at, since nothing that runs needs it.
        reason: why, in a few words.
        record: what the store knows of the task's record.
        replaces: whether a record may be there that this run replaces.
        order: its place in the order of the run, from 1; -1 where it takes no part.
        depth: how long a chain of others waits for it.
        taken: whether a crew has it, or it is to be tried again later: it is not among those that are ready.
        waiting: how many requirements it still waits for; -1 when its result is there.
        dependents: the nodes that wait for it.
    """

    __slots__ = (
        "action",
        "dependents",
        "depth",
        "expanded",
        "order",
        "reason",
        "record",
        "replaces",
        "requirements",
        "rerun",
        "resolved",
        "taken",
        "task",
        "waiting",
    )

    def __init__(self, task: AnyTask, resolved: Resolved) -> None:
        self.task = task
        self.resolved = resolved
        self.requirements: tuple[Node, ...] = ()
        self.expanded = False
        self.rerun = False
        self.action: Literal["run", "reuse", "missing", "wrap", "skip"] = "skip"
        self.reason = ""
        self.record: Stat | None = None
        self.replaces = False
        self.order = -1
        self.depth = 0
        self.waiting = 0
        self.taken = False
        self.dependents: list[Node] | tuple[()] = ()

    @property
    def name(self) -> str:
        """``module.Class``."""
        return self.resolved.name

    @property
    def unique_id(self) -> str:
        """The task's unique id."""
        return self.task.unique_id

    def __repr__(self) -> str:
        return f"Node({self.action} {self.name} {self.unique_id[:8]})"


class Graph:
    """Nodes by unique id; a node's requirements are found when it is expanded."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, Node] = {}
        self._resolved: dict[type[Any], Resolved] = {}

    def node(self, task: AnyTask) -> Node:
        """The node of a task.

        Raises:
            GraphError: another task of the same id differs in class or workspace.
        """
        key = task._kart_identity or identity(task)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(task, self._resolved_of(task))
        elif node.task is not task and (node.task._kart_given or task._kart_given or type(task) is not type(node.task)):
            _merge(node, task)
        return node

    def _resolved_of(self, task: AnyTask) -> Resolved:
        if task._kart_given:
            return resolved(task)
        known = self._resolved.get(type(task))
        if known is None:  # tasks of one class that were given no settings of their own are alike
            known = self._resolved[type(task)] = resolved(task)
        return known

    def expand(self, node: Node) -> None:
        """Finds the nodes of the tasks that a node's task requires."""
        if not node.expanded:
            node.expanded = True
            node.requirements = tuple(dict.fromkeys(map(self.node, required_tasks(node.task))))

    def nodes(self) -> Iterator[Node]:
        """Every node, in the order in which they were found."""
        return iter(self._nodes.values())


def _merge(node: Node, task: AnyTask) -> None:
    first = node.task
    if type(first) is not type(task):
        raise GraphError(
            f"two classes named {node.name} have the same id {task.unique_id}: one module was loaded twice, or two "
            "classes share a namespace; import it once, or give one another name or namespace"
        )
    here, there = node.resolved.workspace, resolved(task).workspace
    if here is not there:
        raise GraphError(
            f"{task!r} is in this graph twice, once with the workspace {here.url} and once with {there.url}; give both "
            "the same workspace_directory"
        )
    node.rerun = node.rerun or resolved(task).rerun
