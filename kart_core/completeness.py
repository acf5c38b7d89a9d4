"""Whether a whole result is stored. Looking changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kart_core.identity import identity, required_tasks
from kart_core.records import Record, fetch, record_path, remember
from kart_core.resolved import Resolved, resolved
from kart_core.target import Target, declared, flatten
from kart_core.workspace import Workspace, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kart_core.plugin import Stat
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class Seen(NamedTuple):
    """What was seen of a task's result."""

    lacking: str | None
    """Why it is not complete, in a few words; None where it is."""
    record: Stat | None
    """What the store knows of its record."""


def look(tasks: Sequence[AnyTask], resolutions: Sequence[Resolved]) -> list[Seen]:
    """What is stored of each task, asked of each workspace at once.

    A task is complete when its record and all its outputs are there; settings of the task may ask for more.
    What is upstream is looked at by `is_complete` and the plan, not here.

    Args:
        tasks: the tasks.
        resolutions: what holds for each.
    """
    ids = [task.unique_id for task in tasks]
    records: list[Stat | None] = [None] * len(tasks)
    questions = _Questions()
    for i, here in enumerate(resolutions):
        if tasks[i]._kart_recorded:
            questions.ask(i, here.workspace, f"{here.record_folder}/{ids[i]}.json")
    for i, stat in questions.answers():
        records[i] = stat
    # Without a record the outputs do not matter: nothing is asked about them.
    targets: dict[int, list[Target]] = {}
    outputs: list[list[Stat | None]] = [[] for _ in tasks]
    questions = _Questions()
    for i, here in enumerate(resolutions):
        if records[i] is None and tasks[i]._kart_recorded:
            continue
        if here.serializer is not None:
            questions.ask(i, here.workspace, f"{here.result_path}_{ids[i]}.pkl")
        else:
            targets[i] = list(flatten(declared(tasks[i]), tasks[i]).values())
            for target in targets[i]:
                questions.ask(i, here.workspace, target.path)
    for i, stat in questions.answers():
        outputs[i].append(stat)
    return [_judge(task, resolutions[i], records[i], outputs[i], targets.get(i)) for i, task in enumerate(tasks)]


class _Questions:
    """Paths to ask workspaces about, each for the task of a number."""

    def __init__(self) -> None:
        self._by_workspace: dict[int, tuple[Workspace, list[int], list[str]]] = {}

    def ask(self, number: int, workspace: Workspace, path: str) -> None:
        entry = self._by_workspace.get(id(workspace))
        if entry is None:
            entry = self._by_workspace[id(workspace)] = (workspace, [], [])
        entry[1].append(number)
        entry[2].append(path)

    def answers(self) -> Iterator[tuple[int, Stat | None]]:
        for workspace, numbers, paths in self._by_workspace.values():
            with guarded(workspace, ""):
                stats = workspace.store.stat_many(paths)
            yield from zip(numbers, stats, strict=True)


def _judge(
    task: AnyTask, here: Resolved, record: Stat | None, outputs: Sequence[Stat | None], targets: list[Target] | None
) -> Seen:
    if record is None and task._kart_recorded:
        return Seen("no result is stored", None)
    if None in outputs:
        if not task._kart_recorded:
            return Seen("the data is not there", None)
        gone = next(i for i, stat in enumerate(outputs) if stat is None)
        return Seen(f"{targets[gone].path if targets is not None else 'its result'} is missing", record)
    if record is None:
        return Seen(None, None)
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
    level = [(root, False)]
    known = {identity(root): False}  # whether everything upstream of a task is asked for too
    while level:
        tasks = [task for task, _ in level]
        here = [resolved(task) for task in tasks]
        if any(found.lacking is not None for found in look(tasks, here)):
            return False
        below: list[tuple[AnyTask, bool]] = []
        for (task, deep), settled in zip(level, here, strict=True):
            deep = deep or settled.strict
            for required in required_tasks(task) if deep or task._kart_wraps else ():
                key = identity(required)
                if key not in known or (deep and not known[key]):
                    known[key] = deep
                    below.append((required, deep))
        level = below
    return True


def record_of(task: AnyTask) -> Record | None:
    """The task's record, read anew."""
    here = resolved(task)
    path = here.record_path(task.unique_id)
    found = fetch(here.workspace, path)
    if found is not None:
        remember(here.workspace, path, found.attempt, tuple(found.outputs))
    return found
