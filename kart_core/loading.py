"""Loading: stored results come back as values, held against their records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from kart_core import config, host, running
from kart_core.ahead import Ahead
from kart_core.content import digest_of
from kart_core.errors import CorruptResultError, MissingDataError, ParameterError
from kart_core.identity import required_tasks, requirements
from kart_core.nested import is_items, is_mapping, is_task
from kart_core.records import Output, Record, forget, workspace_at, written
from kart_core.resolved import Resolved, resolved
from kart_core.target import Target, declared, flatten, shaped_like

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from contextvars import Context

    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


def load(owner: AnyTask, wanted: Any) -> Any:
    """The value of what `TaskOnKart.load` was asked for."""
    context = running.context_in_thread(owner)
    if context is not None:
        return context.run(lambda: _values(owner, _wanted(owner, wanted)))
    return _values(owner, _wanted(owner, wanted))


def load_parts(owner: AnyTask, wanted: Any) -> Iterator[Any]:
    """The values of what `TaskOnKart.load_generator` was asked for, one at a time."""
    context = running.context_in_thread(owner)
    if context is not None:
        return _within(context, context.run(_load_parts, owner, wanted))
    return _load_parts(owner, wanted)


def _within(context: Context, parts: Iterator[Any]) -> Iterator[Any]:
    end = object()
    while (part := context.run(next, parts, end)) is not end:
        yield part


def _load_parts(owner: AnyTask, wanted: Any) -> Iterator[Any]:
    wanted = _wanted(owner, wanted)
    if is_mapping(wanted) and len(wanted) == 1:
        wanted = next(iter(wanted.values()))
    if is_task(wanted):
        return _parts_of(wanted)
    if isinstance(wanted, Target):
        maker = _maker(owner, wanted)
        return wanted.read_parts(None) if maker is None else _parts_of_target(maker, wanted)
    items = list(wanted.values()) if is_mapping(wanted) else list(wanted)
    return (_values(owner, item) for item in items)


def _wanted(owner: AnyTask, wanted: Any) -> Any:
    if wanted is None:
        found = requirements(owner)
        if found is None or (is_mapping(found) and not found):
            raise ParameterError(f"{owner!r} requires nothing, so there is nothing to load; name a task: load(task)")
        return found
    if isinstance(wanted, str):
        found = requirements(owner)
        if is_mapping(found) and wanted in found:
            return found[wanted]
        names = ", ".join(map(repr, found)) if is_mapping(found) else "no names"
        raise ParameterError(f"{owner!r} has no requirement {wanted!r}; there are {names}")
    return wanted


def _values(owner: AnyTask, wanted: Any, ahead: Ahead | None = None) -> Any:
    if wanted is None:
        return None
    if is_task(wanted):
        return value_of(wanted, None if ahead is None else ahead.take(wanted))
    if isinstance(wanted, Target):
        maker = _maker(owner, wanted)
        return wanted.read(None) if maker is None else _checked(maker, resolved(maker), maker.unique_id, wanted)
    if is_mapping(wanted):
        if _are_targets(wanted.values()):
            return dict(zip(wanted, _values_of_targets(owner, list(wanted.values())), strict=True))
        ahead = Ahead([item for item in wanted.values() if is_task(item)])
        return {key: _values(owner, item, ahead) for key, item in wanted.items()}
    if is_items(wanted):
        items = list(wanted)
        if _are_targets(items):
            return _values_of_targets(owner, items)
        ahead = Ahead([item for item in items if is_task(item)])
        return [_values(owner, item, ahead) for item in items]
    raise ParameterError(
        f"load() of {owner!r} was given a {type(wanted).__name__}; give a task, several in a list or mapping, or a "
        "requirement's name"
    )


def _are_targets(items: Collection[Any]) -> bool:
    return bool(items) and all(isinstance(item, Target) for item in items)


def _values_of_targets(owner: AnyTask, targets: list[Target]) -> list[Any]:
    """The values of targets, with one look at the record of each task that makes some of them."""
    by_maker: dict[AnyTask | None, list[int]] = {}
    for place, target in enumerate(targets):
        by_maker.setdefault(_maker(owner, target), []).append(place)
    values: list[Any] = [None] * len(targets)
    for maker, places in by_maker.items():
        made = [targets[place] for place in places]
        if maker is None:
            found = [target.read(None) for target in made]
        else:
            found = _checked(maker, resolved(maker), maker.unique_id, made)
        for place, value in zip(places, found, strict=True):
            values[place] = value
    return values


def _maker(owner: AnyTask, target: Target) -> AnyTask | None:
    """The task, the owner or one that it requires, that makes a target which was named directly."""
    held = owner.__dict__
    present = (config.current(), host.current())
    known: tuple[Any, dict[Target, AnyTask]] | None = held.get("_kart_makers")
    if known is None or known[0] != present:
        # Kept with the owner: it may load thousands of targets one by one.
        known = held["_kart_makers"] = (present, _makers(owner))
    return known[1].get(target)


def _makers(owner: AnyTask) -> dict[Target, AnyTask]:
    made: dict[Target, AnyTask] = {}
    for task in (*required_tasks(owner), owner):
        if task._kart_recorded:
            for target in flatten(declared(task), task).values():
                made.setdefault(target, task)
    return made


def value_of(task: AnyTask, data: bytes | None = None) -> Any:
    """The stored value of a task, in the structure of its `output()`.

    Args:
        task: the task.
        data: the content of its one output, where it was read ahead.

    Raises:
        MissingDataError: nothing, or not all, is stored.
        CorruptResultError: what is stored is not what was written.
    """
    if task._kart_wraps:
        return None
    here, unique_id = resolved(task), task.unique_id
    structure = here.output(task, unique_id)
    if not task._kart_recorded:
        value = shaped_like(structure, lambda target: target.read(None))
        _note(task, None, structure)
        return value
    return _checked(task, here, unique_id, structure, data)


def values_of(record: Record, workspace_directory: str | None = None) -> dict[str, Any]:
    """The stored values of a record's outputs by their paths; the task's class need not be known for it.

    Args:
        record: the record.
        workspace_directory: where it was found; by default the configured workspace.

    Raises:
        MissingDataError: an output is not there any more.
        CorruptResultError: what is stored is not what was written.
        SerializationError: no plugin reads a file of that suffix, as where the task's own functions wrote it.
    """
    workspace = workspace_at(workspace_directory)
    return {output.path: Target(workspace, output.path).read(output) for output in record.outputs}


def _checked(task: AnyTask, here: Resolved, unique_id: str, structure: Any, data: bytes | None = None) -> Any:
    """The values of all or some of a task's targets, held against its record."""
    while True:
        attempt, outputs = _written(task, here, unique_id)
        try:
            if isinstance(structure, Target) and len(outputs) == 1 and outputs[0].path == structure.path:
                ahead, data = data, None  # once: what is read again is read from the store
                value = structure.read(outputs[0], ahead)
            else:
                by_path = _indexed(outputs)[1]
                value = shaped_like(structure, lambda target: target.read(_of(by_path, target, task)))  # noqa: B023
        except (CorruptResultError, MissingDataError):
            # Another process may have renewed the result since it was remembered here, or while it was read.
            if forget(here.workspace, here.record_path(unique_id)) or _written(task, here, unique_id)[0] != attempt:
                continue
            raise
        _note(task, attempt, outputs)
        return value


def _parts_of(task: AnyTask) -> Iterator[Any]:
    structure = declared(task)
    if not isinstance(structure, Target):
        if task._kart_recorded:
            here, unique_id = resolved(task), task.unique_id
            yield from (_checked(task, here, unique_id, target) for target in flatten(structure, task).values())
        else:
            _note(task, None, structure)
            yield from (target.read(None) for target in flatten(structure, task).values())
    elif task._kart_recorded:
        yield from _parts_of_target(task, structure)
    else:
        _note(task, None, structure)
        yield from structure.read_parts(None)


def _parts_of_target(task: AnyTask, target: Target) -> Iterator[Any]:
    here = resolved(task)
    # What is remembered here may have been renewed by another process, and the first part may not wait for the last.
    forget(here.workspace, here.record_path(task.unique_id))
    attempt, outputs = _written(task, here, task.unique_id)
    _note(task, attempt, outputs)
    yield from target.read_parts(_of(_indexed(outputs)[1], target, task))


def _written(task: AnyTask, here: Resolved, unique_id: str) -> tuple[str, tuple[Output, ...]]:
    known = written(here, unique_id)
    if known is None:
        raise MissingDataError(f"no result of {task!r} is stored in {here.workspace.url}; build it first")
    return known


def _of(by_path: Mapping[str, Output], target: Target, task: AnyTask) -> Output:
    output = by_path.get(target.path)
    if output is None:
        raise MissingDataError(
            f"the record of {task!r} does not speak of {target.path}: its output() was changed; "
            "build it again with rerun"
        )
    return output


def _note(task: AnyTask, attempt: str | None, what: Any) -> None:
    """Notes in the running attempt what it read of another task."""
    present = running.current()
    if present is not None and present.task is not task:
        if attempt is None:
            digest = _marks(task, what)
        else:
            digest = combined(what) if len(what) == 1 else _indexed(what)[2]
        present.read[task.unique_id] = (attempt, digest)


_Index: TypeAlias = "tuple[tuple[Output, ...], dict[str, Output], str]"
_last_index: _Index | None = None


def _indexed(outputs: tuple[Output, ...]) -> _Index:
    """The outputs of a task with what is found out of all of them at once: each by its path, and their digest."""
    global _last_index
    index = _last_index
    if index is None or index[0] is not outputs:  # one is kept: who loads thousands one by one, loads them of one task
        index = _last_index = (outputs, {output.path: output for output in outputs}, combined(outputs))
    return index


def combined(outputs: tuple[Output, ...]) -> str:
    """One digest for all outputs of a task."""
    return outputs[0].digest if len(outputs) == 1 else digest_of("/".join(output.digest for output in outputs).encode())


def _marks(task: AnyTask, structure: Any) -> str:
    stats = [target.stat() for target in flatten(structure, task).values()]
    return digest_of("/".join(f"{stat.size}:{stat.mark}" if stat else "" for stat in stats).encode())


def digest_now(task: AnyTask) -> str | None:
    """The digest of what is stored of a task now; None where nothing is."""
    if not task._kart_recorded:
        return _marks(task, declared(task))
    here = resolved(task)
    forget(here.workspace, here.record_path(task.unique_id))
    known = written(here, task.unique_id)
    return None if known is None else combined(known[1])
