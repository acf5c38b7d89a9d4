"""Whether a whole result is stored. Looking changes nothing."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Any

from kart_core import underway
from kart_core.identity import identity, required_tasks
from kart_core.records import Record, fetch, record_path, remember
from kart_core.resolved import Resolved, resolved
from kart_core.target import Target, declared, flatten
from kart_core.workspace import Workspace, guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.plugin import Stat
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


def look(tasks: Sequence[AnyTask], resolutions: Sequence[Resolved]) -> list[tuple[str | None, Stat | None]]:
    """What is stored of each task, asked of each workspace at once.

    A task is complete when its record and all its outputs are there; settings of the task may ask for more.
    What is upstream is looked at by `is_complete` and the plan, not here.

    Args:
        tasks: the tasks.
        resolutions: what holds for each.

    Returns:
        For each why it is not complete, in a few words, or None where it is; and what the store knows of its record.
    """
    ids = [(task._kart_identity or identity(task)).hex() for task in tasks]
    recorded = [i for i, task in enumerate(tasks) if task._kart_recorded]
    stats = _stats(
        [resolutions[i].workspace for i in recorded],
        [f"{resolutions[i].record_folder}/{ids[i]}.json" for i in recorded],
    )
    records: list[Stat | None] = stats
    if len(recorded) < len(tasks):
        records = [None] * len(tasks)
        for i, stat in zip(recorded, stats, strict=True):
            records[i] = stat
    # Without a record the outputs do not matter: nothing is asked about them.
    asked = [i for i, task in enumerate(tasks) if records[i] is not None or not task._kart_recorded]
    lacking: list[str | None] = ["no result is stored"] * len(tasks)
    unsettled: list[int] = []
    targets: dict[int, list[Target]] = {}
    workspaces: list[Workspace] = []
    paths: list[str] = []
    places: dict[Resolved, str | None] = {}
    last: Resolved | None = None
    place: str | None = None
    for i in asked:
        here = resolutions[i]
        if here.serializer is None:
            own = targets[i] = list(flatten(declared(tasks[i]), tasks[i]).values())
            workspaces.extend([here.workspace] * len(own))
            paths.extend([target.path for target in own])
        else:
            if here is not last and here not in places:
                # That there is a file is enough where its path holds the id, and is found out in half the time on this
                # machine's file system; that there is none is for the store to say.
                checked = here.modification_time_check
                places[here] = None if checked else here.workspace.store.local_path(here.result_path)
            if here is not last:
                last, place = here, places[here]
            if place is not None and os.access(f"{place}_{ids[i]}.pkl", os.F_OK):
                lacking[i] = None
                continue
            workspaces.append(here.workspace)
            paths.append(f"{here.result_path}_{ids[i]}.pkl")
        unsettled.append(i)
    answers = iter(_stats(workspaces, paths))
    for i in unsettled:
        outputs = list(islice(answers, len(targets[i]) if i in targets else 1))
        lacking[i] = _lacking(tasks[i], resolutions[i], records[i], outputs, targets.get(i))
    return list(zip(lacking, records, strict=True))


def _stats(workspaces: Sequence[Workspace], paths: Sequence[str]) -> list[Stat | None]:
    """What is known of each path in its workspace; every workspace is asked once."""
    if underway.anything():
        for workspace, path in zip(workspaces, paths, strict=True):
            underway.wait_for(workspace, path)
    different = dict.fromkeys(workspaces)
    if len(different) == 1:
        with guarded(workspaces[0], ""):
            return workspaces[0].store.stat_many(paths)
    stats: list[Stat | None] = [None] * len(paths)
    for workspace in different:
        numbers = [i for i, other in enumerate(workspaces) if other is workspace]
        with guarded(workspace, ""):
            found = workspace.store.stat_many([paths[i] for i in numbers])
        for i, stat in zip(numbers, found, strict=True):
            stats[i] = stat
    return stats


def _lacking(
    task: AnyTask, here: Resolved, record: Stat | None, outputs: Sequence[Stat | None], targets: list[Target] | None
) -> str | None:
    if None in outputs:
        if not task._kart_recorded:
            return "the data is not there"
        gone = next(i for i, stat in enumerate(outputs) if stat is None)
        return f"{targets[gone].path if targets is not None else 'its result'} is missing"
    if record is None:
        return None
    if targets is not None and not all(target.keyed for target in targets):
        return _other_file(here.workspace, record_path(task), targets, outputs)
    return _other_input(task, here.workspace) if here.modification_time_check else None


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
        if any(lacking is not None for lacking, _ in look(tasks, here)):
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
