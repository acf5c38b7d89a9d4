"""A task as a flat list, for pickles and for plain data: a graph that is 20,000 deep is a list 20,000 long."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from kart_core.declaration import shape_of
from kart_core.errors import KartError
from kart_core.nested import is_mapping, is_named_tuple, is_task
from kart_core.parameters import ParameterFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kart_core.declaration import ParameterInfo
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

    # One task: its class, its parameters with a Place for each task in them, the settings that it was given.
    Entry = tuple[type[AnyTask], dict[str, Any], dict[str, Any]]


class Place(int):
    """Where in a flat list a task stands."""

    __slots__ = ()


def flatten(root: AnyTask) -> list[Entry]:
    """The task and every task in its fields, each once, those that others hold before them."""
    places: dict[tuple[type, bytes], Place] = {}
    flat: list[Entry] = []

    def place_of(value: Any) -> Any:
        return places[type(value), value._kart_digest] if is_task(value) else value

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
        fields = {slot.name: exchanged(task.__dict__[slot.name], place_of) for slot in shape_of(type(task)).slots}
        places[key] = Place(len(flat))
        flat.append((type(task), fields, dict(task._kart_given)))
    return flat


def rebuild(flat: list[Entry]) -> AnyTask:
    """The task of which `flatten` made the list."""
    made: list[AnyTask] = []

    def task_at(value: Any) -> Any:
        return made[value] if type(value) is Place else value

    for cls, fields, given in flat:
        made.append(cls(**{name: exchanged(value, task_at) for name, value in fields.items()}, **given))
    return made[-1]


def exchanged(value: Any, of: Callable[[Any], Any]) -> Any:
    """A value in which each task, or each place, that stands in it is exchanged.

    Args:
        value: a task, a list, tuple, set or mapping that may hold tasks, or anything else.
        of: gives what is to stand in the place of a value that is no container.
    """
    if isinstance(value, list):
        return [exchanged(item, of) for item in cast("list[Any]", value)]
    if type(value) in (tuple, set, frozenset):
        return type(value)(exchanged(item, of) for item in value)
    if is_named_tuple(value):
        return value._make(exchanged(item, of) for item in value)
    if isinstance(value, dict):
        return {key: exchanged(item, of) for key, item in cast("dict[Any, Any]", value).items()}
    return of(value)


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
