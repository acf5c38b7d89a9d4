"""What became of the tasks of a run."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kart_core.errors import BuildError, MissingDataError, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kart_core.graph import Node
    from kart_core.planning import Plan
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_SHOWN: Final = 10


class Outcome:
    """What became of the nodes of a plan, and of those that running tasks asked for."""

    def __init__(self) -> None:
        self.ran: list[Node] = []
        self.made: list[Node] = []
        """What another process has made meanwhile."""
        self.failures: dict[Node, BaseException] = {}
        self.blocked: list[Node] = []

    def unfinished(self, plan: Plan) -> Sequence[Node]:
        """The nodes that would have run and did not come to it."""
        settled = {*self.ran, *self.made, *self.failures, *self.blocked}
        return [node for node in plan.to_run if node not in settled]


def error_of(failures: Mapping[AnyTask, BaseException], blocked: int) -> BuildError:
    """The failures of a build as one exception.

    Args:
        failures: what each task failed with.
        blocked: how many tasks could not run for it.
    """
    lines = [_sentence(task, error) for task, error in islice(failures.items(), _SHOWN)]
    if len(failures) > _SHOWN:
        lines.append(f"and {len(failures) - _SHOWN} more, which stand in the error's failures")
    if blocked:
        lines.append(f"{blocked} more could not run, since they depend on what failed")
    failed = "1 task failed" if len(failures) == 1 else f"{len(failures)} tasks failed"
    return BuildError(f"{failed}:\n  " + "\n  ".join(lines), failures)


def _sentence(task: AnyTask, error: BaseException) -> str:
    message = said(error)
    if isinstance(error, MissingDataError):
        return message
    return f"{task!r}: {type(error).__name__}{': ' if message else ''}{message}"
