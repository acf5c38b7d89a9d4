"""Restoring: a task is made anew from the record of its result."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from kart_core.construction import setting, state_of
from kart_core.declaration import MISSING, shape_of
from kart_core.errors import KartError, MissingDataError, ParameterError
from kart_core.nested import is_mapping, is_sequence
from kart_core.parameters import ParameterFault, structure
from kart_core.records import fetch
from kart_core.specification import task_class
from kart_core.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_log = logging.getLogger("kart_core.restore")

Key = tuple[type[Any], str]


def restore(cls: type[AnyTask], unique_id: str, workspace_directory: str | None) -> AnyTask:
    """The task of a record and, before it, the tasks that it holds; see `TaskOnKart.restore`."""
    shape = shape_of(cls)
    workspace = open_workspace(workspace_directory or setting(shape, state_of(shape), "workspace_directory"))
    given = {} if workspace_directory is None else {"workspace_directory": workspace_directory}
    made: dict[Key, AnyTask] = {}
    sources: dict[Key, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    unrecorded: dict[str, Any] = {}
    stack: list[Key] = [(cls, unique_id)]
    while stack:
        key = stack[-1]
        if key in made:
            stack.pop()
            continue
        if key not in sources:
            sources[key] = _source_of(*key, workspace, unrecorded)
        parameters, settings = sources[key]
        needed = [k for k in _references(parameters) if k not in made]
        if needed:
            stack.extend(needed)
            continue
        made[key] = _made(*key, parameters, {**settings, **given}, made)
        stack.pop()
    return made[cls, unique_id]


def _source_of(
    cls: type[AnyTask], unique_id: str, workspace: Workspace, unrecorded: dict[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The parameters and the settings of which a task is made again."""
    if unique_id in unrecorded:
        held = unrecorded[unique_id]
        return held["parameters"], held.get("settings", {})
    state = state_of(shape_of(cls))
    found = fetch(workspace, f"{state.record_folder}/{unique_id}.json")
    if found is None:
        raise MissingDataError(
            f"no result of {state.full_name} with the id {unique_id} is stored in {workspace.url}; check the id, the "
            "class, and workspace_directory"
        )
    unrecorded.update(found.unrecorded)
    return found.parameters, found.settings


def _references(data: Any) -> Iterator[Key]:
    """The tasks to which plain data refers by their records."""
    pending = [data]
    while pending:
        value = pending.pop()
        if _is_reference(value):
            yield _class_of(value), value["unique_id"]
        elif is_mapping(value):
            pending.extend(value.values())
        elif is_sequence(value):
            pending.extend(value)


def _is_reference(value: Any) -> bool:
    if not is_mapping(value) or "task" not in value or "unique_id" not in value:
        return False
    unique_id = value["unique_id"]
    # A user's data may have keys of these names.
    return isinstance(unique_id, str) and len(unique_id) == 32 and ":" in str(value["task"])


def _class_of(reference: Mapping[str, Any]) -> type[AnyTask]:
    try:
        return task_class(reference["task"])
    except ParameterFault as fault:
        raise MissingDataError(f"a task of the record cannot be made: {fault.given} is not to be found") from None


def _made(
    cls: type[AnyTask],
    unique_id: str,
    parameters: Mapping[str, Any],
    given: Mapping[str, Any],
    made: Mapping[Key, AnyTask],
) -> AnyTask:
    task = _of_parameters(cls, parameters, made, given)
    if task.unique_id != unique_id:
        raise MissingDataError(
            f"{task!r}, made from the record of {unique_id}, has the id {task.unique_id} today: its class, its version "
            "or the configured seed is another than when the result was made (restore it with the code of that time), "
            "or a value within a parameter comes back from JSON as another (give the parameter an exact type)"
        )
    return task


def _of_parameters(
    cls: type[AnyTask], parameters: Mapping[str, Any], made: Mapping[Key, AnyTask], given: Mapping[str, Any]
) -> AnyTask:
    values: dict[str, Any] = {}
    for info in shape_of(cls).infos:
        data = parameters.get(info.name, MISSING)
        if data is MISSING or (is_mapping(data) and set(data) == {"not kept"}):
            if info.significant and not (data is MISSING and info.default is not MISSING and not info.private):
                raise MissingDataError(f"{cls.__qualname__}.{info.name} is not in the record and cannot be restored")
            if info.default is MISSING:
                raise MissingDataError(f"{cls.__qualname__}.{info.name} is not in the record and has no default")
            _log.warning("%s.%s is not in the record; its default is taken", cls.__qualname__, info.name)
            continue
        values[info.name] = _value(cls, info.name, info.annotation, data, made)
    try:
        return cls(**values, **given)
    except ParameterError as error:
        raise MissingDataError(f"{cls.__qualname__} cannot be restored from its record: {error}") from error


def _value(cls: type[AnyTask], name: str, annotation: Any, data: Any, made: Mapping[Key, AnyTask]) -> Any:
    if any(True for _ in _references(data)) or _is_reference(data):
        return _with_tasks(data, made)
    if is_mapping(data) and set(data) == {"exactly"}:
        return _with_tasks(data["exactly"], made)
    kind = _kind_told(data)
    items: Any = data if kind is None else data[kind.__name__]
    if kind is dict:
        items = dict(items)
    if isinstance(annotation, str):  # a name that cannot be resolved: plain data is all there is
        return items if kind is None else cast("Any", kind)(items)
    try:
        value: Any = structure(items, annotation)
        return value if kind is None else cast("Any", kind)(value)
    except (ParameterFault, KartError) as fault:
        raise MissingDataError(f"{cls.__qualname__}.{name} cannot be restored from its record: {fault}") from fault


def _with_tasks(data: Any, made: Mapping[Key, AnyTask]) -> Any:
    if _is_reference(data):
        return made[_class_of(data), data["unique_id"]]
    kind = _kind_told(data)
    if kind is not None:
        return cast("Any", kind)(_with_tasks(data[kind.__name__], made))
    if is_mapping(data):
        return {key: _with_tasks(item, made) for key, item in data.items()}
    if is_sequence(data):
        return [_with_tasks(item, made) for item in data]
    return data


def _kind_told(data: Any) -> type[Any] | None:
    """Which kind of collection the data says that it was, where the JSON of it would not tell."""
    if not is_mapping(data) or len(data) != 1:
        return None
    [(name, items)] = data.items()
    kinds: dict[str, type[Any]] = {"tuple": tuple, "frozenset": frozenset, "dict": dict}
    return kinds.get(name) if isinstance(items, list) else None
