"""A plan as a tree: what will run, what is reused, and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kart_core.report.say import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text
    from rich.tree import Tree

    from kart_core.graph import Node
    from kart_core.planning import Plan

_DEEPEST = 30  # a tree deeper than that no longer fits a screen
_ALIKE = 8  # more tasks of one class, side by side and with one fate, are counted
_STYLES = {"run": "yellow", "reuse": "green", "missing": "red"}


def show_plan(plan: Plan) -> None:
    """Draws the plan from its roots down: each task once, many alike as one line."""
    from rich.text import Text
    from rich.tree import Tree

    shown: set[str] = set()
    top = Tree("plan", hide_root=True)
    waiting: list[tuple[Tree, Node, int]] = [(top, root, 0) for root in reversed(plan.roots)]
    while waiting:
        above, node, depth = waiting.pop()
        again = node.unique_id in shown
        branch = above.add(_label(node, again=again))
        if again or not node.requirements:
            continue
        shown.add(node.unique_id)
        if depth >= _DEEPEST:
            branch.add(Text("... and what they require (--json lists every task)", style="dim"))
            continue
        singles, crowds = _crowds(node.requirements)
        for crowd in crowds:
            branch.add(_crowd_label(crowd))
        waiting += [(branch, child, depth + 1) for child in reversed(singles)]
    out = console()
    out.print(top)
    counts = Counter(node.action for node in plan.nodes)
    words = {"run": "to run", "reuse": "to reuse", "missing": "missing"}
    out.print(
        ", ".join(f"{counts[action]} {word}" for action, word in words.items() if counts[action] or action == "run")
    )


def as_data(plan: Plan) -> list[dict[str, object]]:
    """The plan as plain data: every task that was looked at, with the ids of those that it requires."""
    from kart_core.target import declared, flatten

    roots = set(plan.roots)
    return [
        {
            "task": node.name,
            "unique_id": node.unique_id,
            "action": node.action,
            "reason": node.reason,
            "requirements": [required.unique_id for required in node.requirements],
            "outputs": [target.url for target in flatten(declared(node.task), node.task).values()],
            "root": node in roots,
        }
        for node in plan.nodes
    ]


def _label(node: Node, *, again: bool) -> Text:
    from rich.text import Text

    text = Text().append(f"{node.action:7} ", style=_STYLES.get(node.action, ""))
    text.append(node.name, style="bold")
    text.append(f" {node.unique_id}", style="dim")
    text.append("  (shown above)" if again else f"  {node.reason}" if node.reason else "", style="dim")
    return text


def _crowd_label(nodes: Sequence[Node]) -> Text:
    from rich.text import Text

    text = Text().append(f"{nodes[0].action:7} ", style=_STYLES.get(nodes[0].action, ""))
    text.append(f"{len(nodes)} more {nodes[0].name}", style="bold")
    reasons = list(dict.fromkeys(node.reason for node in nodes if node.reason))
    text.append("  " + "; ".join(reasons[:3]), style="dim")
    return text


def _crowds(nodes: Sequence[Node]) -> tuple[list[Node], list[list[Node]]]:
    """Those that are drawn one by one, and what is left of each group of many alike after its first."""
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        groups.setdefault((node.name, node.action), []).append(node)
    crowds = [group[1:] for group in groups.values() if len(group) > _ALIKE]
    crowded = {id(node) for group in crowds for node in group}
    return [node for node in nodes if id(node) not in crowded], crowds
