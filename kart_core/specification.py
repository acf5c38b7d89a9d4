"""A task as a flat list, for pickles and for plain data: a graph that is 20,000 deep is a list 20,000 long."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from kart_core.declaration import shape_of
from kart_core.errors import KartError
from kart_core.nested import is_mapping, is_task
from kart_core.parameters import ParameterFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kart_core.declaration import ParameterInfo
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

    # One task: its class, its parameters with a _Place for each task in them, the settings that it was given.
    Entry = tuple[type[AnyTask], dict[str, Any], dict[str, Any]]


class _Place(int):
    """Where in the flat list a task stands."""


def flatten(root: AnyTask) -> list[Entry]:
    """The task and every task in its fields, each once, those that others hold before them."""
    places: dict[tuple[type, bytes], _Place] = {}
    flat: list[Entry] = []
    stack: list[tuple[AnyTask, bool]] = [(root, False)]
    while stack:
        task, ready = stack.pop()
        key = (type(task), task._kart_digest)
        if key in places:
            continue
        if not ready:
            stack.append((task, True))
            stack.extend((child, False) for child in task._kart_children)
            continue
        fields = {slot.name: _with_places(task.__dict__[slot.name], places) for slot in shape_of(type(task)).slots}
        places[key] = _Place(len(flat))
        flat.append((type(task), fields, dict(task._kart_given)))
    return flat


def rebuild(flat: list[Entry]) -> AnyTask:
    """The task of which `flatten` made the list."""
    made: list[AnyTask] = []
    for cls, fields, given in flat:
        made.append(cls(**{name: _with_tasks(value, made) for name, value in fields.items()}, **given))
    return made[-1]


def _with_places(value: Any, places: Mapping[tuple[type, bytes], _Place]) -> Any:
    if is_task(value):
        return places[type(value), value._kart_digest]
    return _rebuilt(value, lambda item: _with_places(item, places))


def _with_tasks(value: Any, made: list[AnyTask]) -> Any:
    if type(value) is _Place:
        return made[value]
    return _rebuilt(value, lambda item: _with_tasks(item, made))


def _rebuilt(value: Any, of: Callable[[Any], Any]) -> Any:
    """A container of Python's own with each item exchanged; any other value as it is."""
    if isinstance(value, list):
        return [of(item) for item in cast("list[Any]", value)]
    if type(value) in (tuple, set, frozenset):
        return type(value)(of(item) for item in value)
    if isinstance(value, dict):
        return {key: of(item) for key, item in cast("dict[Any, Any]", value).items()}
    return value


def from_data(value: object, annotation: Any) -> object:
    """A task from plain data.

    The data is a mapping of its parameters, with ``"task": "module:Class"`` where the class is not plain.

    Raises:
        ParameterFault: the data is no such mapping, or names what the class does not have.
    """
    if is_task(value):
        return value
    if not is_mapping(value):
        raise ParameterFault("a task as a mapping of its parameters", repr(value), kind=type(value).__name__)
    data = dict(cast("Mapping[str, Any]", value))
    name = data.pop("task", None)
    cls: Any = task_class(str(name)) if name is not None else getattr(annotation, "__origin__", annotation)
    infos = {info.name: info for info in shape_of(cls).infos}
    values = {key: _field(infos[key], item) if key in infos else item for key, item in data.items()}
    try:
        return cls(**values)
    except KartError as error:
        raise ParameterFault(f"the parameters of {cls.__qualname__}", str(error), kind="mapping") from error


def _field(info: ParameterInfo, data: object) -> object:
    from kart_core.parameters import structure

    try:
        return structure(data, info.annotation)
    except ParameterFault as fault:
        raise fault.hidden() if info.told_by_type else fault from None


def task_class(name: str) -> type[AnyTask]:
    """The task class of ``module:Class``.

    Raises:
        ParameterFault: there is none.
    """
    module, _, qualified = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterFault("a task class as module:Class", f"{name!r} ({error})", kind="str") from error
    if not getattr(found, "_kart_is_task", False) or not isinstance(found, type):
        raise ParameterFault("a task class as module:Class", f"{name!r}, which is none", kind="str")
    return found
