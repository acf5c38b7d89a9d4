"""Whether a whole result is stored. Looking changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kart_core.identity import identity, required_tasks
from kart_core.records import Record, fetch, record_path
from kart_core.resolved import Resolved, resolved
from kart_core.target import Target, flatten
from kart_core.workspace import Workspace, guarded

if TYPE_CHECKING:
    from kart_core.plugin import Stat
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class Seen(NamedTuple):
    """What was seen of a task's result."""

    lacking: str | None
    """Why it is not complete, in a few words; None where it is."""
    record: Stat | None
    """What the store knows of its record."""


def look(tasks: Sequence[AnyTask]) -> list[Seen]:
    """What is stored of each task, asked of each workspace at once.

    A task is complete when its record and all its outputs are there; settings of the task may ask for more.
    What is upstream is looked at by `is_complete` and the plan, not here.
    """
    questions: dict[int, tuple[Workspace, list[str]]] = {}
    asked: list[tuple[Resolved, int, int, list[Target] | None]] = []
    for task in tasks:
        here = resolved(task)
        workspace = here.workspace
        _, paths = questions.setdefault(id(workspace), (workspace, []))
        start = len(paths)
        targets: list[Target] | None = None
        unique_id = task.unique_id
        if task._kart_recorded:
            paths.append(f"{here.record_folder}/{unique_id}.json")
        if here.serializer is not None:
            paths.append(f"{here.result_path}_{unique_id}.pkl")
        else:
            targets = list(flatten(task.output(), task).values())
            paths.extend(target.path for target in targets)
        asked.append((here, start, len(paths), targets))
    answers: dict[int, list[Stat | None]] = {}
    for key, (workspace, paths) in questions.items():
        with guarded(workspace, ""):
            answers[key] = workspace.store.stat_many(paths)
    return [
        _judge(task, here, answers[id(here.workspace)][start:end], targets)
        for task, (here, start, end, targets) in zip(tasks, asked, strict=True)
    ]


def _judge(task: AnyTask, here: Resolved, stats: Sequence[Stat | None], targets: list[Target] | None) -> Seen:
    recorded = task._kart_recorded
    record = stats[0] if recorded else None
    outputs = stats[1:] if recorded else stats
    if None in outputs:
        if record is None and (len(outputs) == 1 or not any(outputs)):
            return Seen("no result is stored" if recorded else "the data is not there", None)
        gone = next(i for i, stat in enumerate(outputs) if stat is None)
        name = targets[gone].path if targets is not None else "its result"
        return Seen(f"{name} is missing", record)
    if not recorded:
        return Seen(None, None)
    if record is None:
        return Seen("its record is missing", None)
    if targets is not None and not all(target.keyed for target in targets):
        return Seen(_other_file(here.workspace, record_path(task), targets, outputs), record)
    if here.modification_time_check and (why := _other_input(task, here.workspace)):
        return Seen(why, record)
    return Seen(None, record)


def _other_file(workspace: Workspace, path: str, targets: list[Target], stats: Sequence[Stat | None]) -> str | None:
    """Why a target without the id in its path is not the file of which the record speaks."""
    found = fetch(workspace, path)
    if found is None:
        return "its record is missing"
    marks = {output.path: (output.size, output.mark) for output in found.outputs}
    for target, stat in zip(targets, stats, strict=True):
        if not target.keyed and stat is not None and marks.get(target.path) != (stat.size, stat.mark):
            return f"{target.path} was written by another task or by hand"
    return None


def _other_input(task: AnyTask, workspace: Workspace) -> str | None:
    from kart_core.loading import digest_now

    found = fetch(workspace, record_path(task))
    if found is None:
        return "its record is missing"
    read = {required.unique_id: required.digest for required in found.requirements}
    for required in required_tasks(task):
        known = read.get(required.unique_id)
        if known is not None and known != digest_now(required):
            return f"{type(required).__qualname__} is another than it read"
    return None


def is_complete(root: AnyTask) -> bool:
    """Whether the task's result is stored, and whatever its settings ask for besides."""
    pending, seen = [root], {identity(root)}
    everything = False
    while pending:
        level, pending = pending, []
        if any(found.lacking is not None for found in look(level)):
            return False
        for task in level:
            everything = everything or asks_for_upstream(task)
            if everything:
                for required in required_tasks(task):
                    if identity(required) not in seen:
                        seen.add(identity(required))
                        pending.append(required)
    return True


def record_of(task: AnyTask) -> Record | None:
    """The task's record, read anew."""
    here = resolved(task)
    return fetch(here.workspace, here.record_path(task.unique_id))


def asks_for_upstream(task: AnyTask) -> bool:
    """Whether the task is complete only if what is upstream is."""
    return task._kart_wraps or resolved(task).strict
