"""Kinds of parameters that floors above teach to this one: tasks, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Kind", "kind_holding", "kind_of", "register"]


@attrs.frozen
class Kind:
    """How the values of some annotations are checked, read and written."""

    predicate: Callable[[Any], bool]
    from_data: Callable[[object, Any], object]
    from_text: Callable[[str, Any], object] | None
    to_data: Callable[[Any], object] | None
    check: Callable[[object, Any], object] | None
    holds: Callable[[object], bool]


_KINDS: list[Kind] = []


def register(
    predicate: Callable[[Any], bool],
    *,
    from_data: Callable[[object, Any], object],
    from_text: Callable[[str, Any], object] | None = None,
    to_data: Callable[[Any], object] | None = None,
    check: Callable[[object, Any], object] | None = None,
    is_instance: Callable[[object], bool] | None = None,
) -> None:
    """Teaches a kind of parameter.

    Args:
        predicate: whether an annotation, taken apart by `plain` (a class, or ``Class[argument]``),
            is of this kind. It is asked before the rules for Python's own types are.
        from_data: makes the value from plain data (of TOML or JSON) and the annotation. It raises
            `ParameterFault` or any `ValueError`.
        from_text: makes the value from text of a command line; without it the text is read as
            JSON and given to `from_data`.
        to_data: the plain data of a value, from which `from_data` makes it again; without it the
            value cannot be written as data.
        check: gives a value that Python code passed back as it is held, or raises `ParameterFault`;
            without it the value must be an instance of the annotated class.
        is_instance: whether a value is written by `to_data`; by default, whether its class
            satisfies `predicate`.
    """
    _KINDS.append(
        Kind(
            predicate,
            from_data=from_data,
            from_text=from_text,
            to_data=to_data,
            check=check,
            holds=is_instance or (lambda value: predicate(type(value))),
        )
    )


def kind_of(annotation: Any) -> Kind | None:
    """The kind whose predicate takes the annotation."""
    return next((kind for kind in _KINDS if kind.predicate(annotation)), None)


def kind_holding(value: object) -> Kind | None:
    """The kind that writes the value as data."""
    return next((kind for kind in _KINDS if kind.holds(value)), None)
