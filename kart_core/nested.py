"""What a value with other values in it is: a task, a mapping, a run of items."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from kart_core.task import TaskOnKart


def is_task(value: object) -> TypeGuard[TaskOnKart[Any]]:
    """Whether a value is a task; asked by floors below the one that defines tasks."""
    return getattr(type(value), "_kart_is_task", False)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether a value is a mapping."""
    return isinstance(value, Mapping)


def is_items(value: object) -> TypeGuard[Collection[Any]]:
    """Whether a value is a list, a tuple or a set."""
    return isinstance(value, (list, tuple, set, frozenset))
