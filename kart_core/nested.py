"""What a value with other values in it is: a task, a mapping, a run of items."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, cast

if TYPE_CHECKING:
    from kart_core.task import TaskOnKart


def is_task(value: object) -> TypeGuard[TaskOnKart[Any]]:
    """Whether a value is a task; asked by floors below the one that defines tasks."""
    return getattr(type(value), "_kart_is_task", False)


def is_named_tuple(value: object) -> TypeGuard[NamedTuple]:
    """Whether a value is a tuple of a class with named fields."""
    return isinstance(value, tuple) and hasattr(value, "_fields")  # pyright: ignore[reportUnknownArgumentType]


_WHOLE = frozenset({NoneType, bool, int, float, str, bytes, list, tuple, dict, set, frozenset})


def is_lazy(value: object) -> TypeGuard[Iterator[Any]]:
    """Whether a value is an iterator of Python's own, as generators are, that gives its items as it goes.

    An iterator of another class, a reader or a data loader, may be a value in its own right.
    """
    # This is asked of every value that is dumped, and to ask a class in vain for an attribute takes long.
    kind = type(value)
    return kind not in _WHOLE and kind.__module__ in ("builtins", "itertools") and hasattr(kind, "__next__")


def is_tasks(value: object) -> TypeGuard[tuple[TaskOnKart[Any], ...]]:
    """Whether a value is a tuple of tasks alone, and not empty."""
    if type(value) is not tuple:
        return False
    kinds = set(map(type, cast("tuple[object, ...]", value)))  # of thousands of tasks there are few
    return bool(kinds) and all(getattr(kind, "_kart_is_task", False) for kind in kinds)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether a value is a mapping."""
    return isinstance(value, Mapping)


def is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether a value is a list or a tuple."""
    return isinstance(value, (list, tuple))


def is_items(value: object) -> TypeGuard[Collection[Any]]:
    """Whether a value is a list, a tuple or a set."""
    return isinstance(value, (list, tuple, set, frozenset))


def class_name(value: object) -> str:
    """How messages name the class of a value: with its module, unless it is built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def holds_task(value: Any) -> bool:
    """Whether a value is a task, or a container that holds one."""
    if is_task(value):
        return True
    if is_mapping(value):
        return any(map(holds_task, value.values()))
    return is_items(value) and any(map(holds_task, value))
