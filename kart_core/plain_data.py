"""A task's parameters as plain data, as its record holds them: `kart_core.restoring` makes the task of them again.

JSON has one kind of list and only texts for keys. Where the type of a parameter does not tell what a
collection was, the data says so: a mapping of one item, whose key is the kind.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from kart_core.construction import state_of
from kart_core.declaration import shape_of
from kart_core.encoding import EncodingError, encode
from kart_core.frozen import freeze
from kart_core.nested import holds_task, is_items, is_mapping, is_sequence, is_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_MARKS: Final = ("tuple", "frozenset", "dict", "exactly", "not kept")
"""The keys of a mapping of one item that says in plain data what JSON has no word for."""

_PLAIN: Final = frozenset({int, bool, type(None)})


def plain_settings(task: AnyTask) -> dict[str, Any]:
    """The settings that were given to the task itself."""
    return {name: list(value) if is_sequence(value) else value for name, value in task._kart_given.items()}


def parameters_in_full(task: AnyTask) -> dict[str, Any]:
    """The task's parameters as plain data, without what is private."""
    held = task.__dict__
    full: dict[str, Any] = {}
    for slot in shape_of(type(task)).slots:
        value = held[slot.name]
        if not slot.info.private:
            full[slot.name] = full_value(value, slot.info.annotation)
    return full


def full_value(value: object, annotation: Any) -> Any:
    """The value of one parameter."""
    # A text may need quotes where its type is a union; no JSON has a number that is not finite.
    as_it_is = type(value) in _PLAIN or (type(value) is float and isfinite(value))
    return value if as_it_is else plain(value, annotation)


def reference(cls: type[Any]) -> dict[str, Any]:
    """What says of a task in plain data which class it is of."""
    name = state_of(shape_of(cls)).full_name
    told = {"task": f"{cls.__module__}:{cls.__qualname__}"}
    return told if name == f"{cls.__module__}.{cls.__qualname__}" else {**told, "name": name}


def unrecorded(task: AnyTask) -> dict[str, Any]:
    """The tasks below a task that have no record of their own, by unique id: without them it could not be restored."""
    table: dict[str, Any] = {}
    pending = [child for child in task._kart_children if not child._kart_recorded]
    while pending:
        child = pending.pop()
        if child.unique_id not in table:
            settings = plain_settings(child)
            table[child.unique_id] = {
                **reference(type(child)),
                "parameters": parameters_in_full(child),
                **({"settings": settings} if settings else {}),
            }
            pending.extend(below for below in child._kart_children if not below._kart_recorded)
    return table


def plain(value: Any, annotation: Any = Any) -> Any:
    """A parameter's value as data that JSON can hold; a task as a reference to its record."""
    if is_task(value):
        return {**reference(type(value)), "unique_id": value.unique_id}
    if holds_task(value):
        return _part_by_part(value)
    from kart_core.parameters import ParameterFault, unstructure

    try:
        data = unstructure(value, annotation)
    except ParameterFault:
        return {"not kept": type(value).__qualname__}
    if _holds_untold(value) and not _comes_back(data, value, annotation):
        return {"exactly": _part_by_part(value)}
    if is_mapping(value) and _is_read_otherwise(data):
        return {"dict": [[key, item] for key, item in data.items()]}
    # A list of JSON is a list again where the type does not say that it is a tuple.
    return {"tuple": data} if type(value) is tuple and "tuple" not in str(annotation).lower() else data


def _part_by_part(value: Any) -> Any:
    """A container as data that says of each container in it of which kind it is; anything else as plain data."""
    if is_mapping(value):
        if all(type(key) is str for key in value) and not _is_read_otherwise(value):
            return {key: _part_by_part(item) for key, item in value.items()}
        return {"dict": [[_part_by_part(key), _part_by_part(item)] for key, item in value.items()]}
    if not is_items(value):
        return plain(value)
    items = list(map(_part_by_part, value))
    if isinstance(value, list):
        return items
    return {"tuple": items} if isinstance(value, tuple) else {"frozenset": sorted(items, key=json.dumps)}


def _holds_untold(value: object) -> bool:
    """Whether a container holds another of which JSON does not tell the kind: a tuple, a set, one with other keys."""
    if is_mapping(value):
        parts: Iterable[object] = value.values()
    elif is_items(value):
        parts = value
    else:
        return False
    return any(
        isinstance(part, (tuple, frozenset))
        or (is_mapping(part) and not all(type(key) is str for key in part))
        or _holds_untold(part)
        for part in parts
    )


def _comes_back(data: Any, value: Any, annotation: Any) -> bool:
    """Whether a value is made again of its plain data, each container in it as what it was."""
    from kart_core.parameters import ParameterFault, structure

    try:
        return encode(freeze(structure(data, annotation))) == encode(value)
    except (ParameterFault, EncodingError):
        return True  # nothing that is said besides would help


def _is_read_otherwise(data: Mapping[str, Any]) -> bool:
    """Whether plain data would be taken, when it is read, for what `plain` itself writes under such a name."""
    return len(data) == 1 and next(iter(data)) in _MARKS
