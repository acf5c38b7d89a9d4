"""Annotations taken apart: what remains of one when names, marks and aliases are resolved, and how it is written."""

from __future__ import annotations

import typing
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

SCALARS: frozenset[type] = frozenset({int, float, str, bool, bytes})
"""Python's own scalars, which a field annotated with them holds as exactly these types."""

_SHORT_MODULES = frozenset({"builtins", "collections", "datetime", "decimal", "fractions", "pathlib", "typing", "uuid"})
_MARKS = frozenset({"Final", "ClassVar", "Required", "NotRequired", "ReadOnly", "InitVar"})
_DEEPEST: Final = 20


def plain(annotation: Any) -> Any:
    """The annotation without what does not change the values that it takes.

    ``Annotated[X, …]``, ``Required[X]`` and their like become ``X``, a ``NewType`` what it is made
    from, an alias (``type Numbers = list[int]``) what it stands for, ``None`` its type.

    Example:
        >>> plain(typing.Annotated[int, "metres"])
        <class 'int'>
    """
    for _ in range(_DEEPEST):
        if annotation is None:
            return NoneType
        if isinstance(annotation, type) and not get_args(annotation):
            return annotation
        following = _resolved(annotation)
        if following is annotation:
            return annotation
        annotation = following
    return annotation


def _resolved(annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin is typing.Annotated or getattr(origin, "_name", None) in _MARKS:
        return get_args(annotation)[0]
    if hasattr(annotation, "__supertype__"):
        return annotation.__supertype__
    if type(annotation).__name__ == "TypeAliasType":
        return annotation.__value__
    if type(origin).__name__ == "TypeAliasType":
        return origin.__value__[get_args(annotation)]
    return annotation


def is_alias(annotation: Any) -> bool:
    """Whether it is the name of an alias (``type Numbers = …``), which may stand for something that names it again."""
    return "TypeAliasType" in (type(annotation).__name__, type(get_origin(annotation)).__name__)


def is_a(value: Any, *kinds: type) -> bool:
    """``isinstance``, except that a type checker does not narrow the value to containers of unknown things."""
    return isinstance(value, kinds)


def is_union(annotation: Any) -> bool:
    """Whether it is ``X | Y``, ``Union`` or ``Optional``."""
    origin = get_origin(annotation)
    return origin is Union or origin is UnionType


def is_empty_tuple(annotation: Any) -> bool:
    """Whether it is the tuple without items, which has other arguments on Python 3.10 than on later ones."""
    return get_origin(annotation) is tuple and get_args(annotation) in ((), ((),))


def members(annotation: Any) -> list[Any]:
    """The members of a union, unions in it flattened; of any other annotation, it alone.

    Example:
        >>> members(int | None)
        [<class 'int'>, <class 'NoneType'>]
    """
    annotation = plain(annotation)
    if not is_union(annotation):
        return [annotation]
    return [member for argument in get_args(annotation) for member in members(argument)]


def scalar_type(annotation: Any) -> type | None:
    """The exact type of the values of a plain scalar annotation, or None for any other.

    Example:
        >>> scalar_type(int), scalar_type(int | None)
        (<class 'int'>, None)
    """
    annotation = plain(annotation)
    return annotation if isinstance(annotation, type) and annotation in SCALARS else None


def describe(annotation: Any) -> str:
    """The annotation as a user would write it, the classes of a project with their module.

    Example:
        >>> describe(typing.Optional[typing.List[int]])
        'list[int] | None'
        >>> describe(typing.Literal["a", 1])
        "Literal['a', 1]"
    """
    if annotation is None or annotation is NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, list):  # the arguments in Callable[[int], str]
        return f"[{', '.join(describe(item) for item in typing.cast('list[Any]', annotation))}]"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return describe(arguments[0])
    if is_union(annotation):
        return " | ".join(describe(argument) for argument in arguments)
    if origin is Literal:
        return f"Literal[{', '.join(_literal(argument) for argument in arguments)}]"
    if origin is not None:
        inner = ", ".join(describe(argument) for argument in arguments)
        if not inner and origin is not tuple:
            return _name(origin)  # a bare typing.List
        return f"{_name(origin)}[{inner or '()'}]"
    return _name(annotation)


def _literal(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)


def _name(annotation: Any) -> str:
    name = getattr(annotation, "__qualname__", None) or getattr(annotation, "__name__", None)
    if name is None:
        return getattr(annotation, "_name", None) or getattr(annotation, "__forward_arg__", None) or repr(annotation)
    module = str(getattr(annotation, "__module__", "builtins") or "builtins")
    if not isinstance(annotation, type) or module == "collections.abc" or module.split(".")[0] in _SHORT_MODULES:
        return str(name)
    return f"{module}.{name}"
