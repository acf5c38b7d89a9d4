"""Parameters written as plain data, for records and for people."""

from __future__ import annotations

import json
import math
import typing
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin

import attrs

from kart_core.parameters.annotation import is_a, is_union, members, plain
from kart_core.parameters.checking import checker, from_numpy
from kart_core.parameters.fault import ParameterFault, fault
from kart_core.parameters.kinds import kind_holding
from kart_core.parameters.scalars import write_scalar

if TYPE_CHECKING:
    from collections.abc import Mapping

_AS_THEY_ARE = frozenset({bool, int, str, type(None)})


def unstructure(value: Any, annotation: Any = Any) -> Any:
    """Writes a value as plain data: None, bool, int, float, str, list, and dict with str keys, fit for JSON.

    `structure` gives the value back from it, given the annotation.

    Args:
        value: as a task holds it.
        annotation: the parameter's. With it, a string in a union that would be read as another
            type of the union is written in double quotes.

    Raises:
        ParameterFault: the value has no such form: an array, a function, a secret.

    Example:
        >>> import pathlib
        >>> unstructure({"path": pathlib.PurePosixPath("a.csv"), "sizes": (1, 2)})
        {'path': 'a.csv', 'sizes': [1, 2]}
        >>> unstructure("none", str | None)
        '"none"'
    """
    return _written(value, plain(annotation))


def _written(value: Any, annotation: Any) -> Any:
    kind = cast("type[Any]", type(value))
    if kind in _AS_THEY_ARE:
        return _quoted_where_needed(value, annotation) if kind is str and is_union(annotation) else value
    value = from_numpy(value)
    kind = cast("type[Any]", type(value))
    if kind in _AS_THEY_ARE:
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    taught = kind_holding(value)
    if taught is not None and taught.to_data is not None:
        return taught.to_data(value)
    text = write_scalar(value)
    if text is not None:
        return text
    return _written_parts(value, kind, _member(value, annotation))


def _quoted_where_needed(text: str, annotation: Any) -> str:
    from kart_core.parameters.data import structure

    return text if structure(text, annotation) == text else json.dumps(text, ensure_ascii=False)


def _member(value: Any, annotation: Any) -> Any:
    """The member of a union whose value it is."""
    if not is_union(annotation):
        return annotation
    for member in members(annotation):
        try:
            checker(member)(value)
        except ParameterFault:
            continue
        return member
    return Any


def _written_parts(value: Any, kind: type[Any], annotation: Any) -> Any:
    arguments = get_args(annotation)
    if is_a(value, dict):
        if typing.is_typeddict(annotation):
            types = _hints(annotation)
            return {key: _written(item, plain(types.get(key, Any))) for key, item in value.items()}
        key_type, item_type = (plain(each) for each in (arguments or (Any, Any)))
        return _written_mapping(value, key_type, item_type)
    if is_a(value, set, frozenset):
        item_type = plain(arguments[0]) if arguments else Any
        return sorted((_written(item, item_type) for item in value), key=json.dumps)
    if is_a(value, list, tuple):
        return [_written(item, each) for item, each in zip(value, _item_types(value, annotation), strict=True)]
    names = _field_names(kind)
    if names is None:
        raise fault("a value that can be written as JSON", value)
    types = _hints(annotation if get_origin(annotation) is kind else kind)
    return {name: _written(getattr(value, name), plain(types.get(name, Any))) for name in names}


def _written_mapping(value: Mapping[Any, Any], key_type: Any, item_type: Any) -> Any:
    """An object, or a list of pairs where a key is no string, or might be read as something else."""
    if not is_union(key_type) and all(type(key) is str for key in value):
        return {key: _written(item, item_type) for key, item in value.items()}
    return [[_written(key, key_type), _written(item, item_type)] for key, item in value.items()]


def _item_types(value: Any, annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    if hasattr(value, "_fields"):
        types = _hints(cast("type[Any]", type(value)))
        return [plain(types.get(name, Any)) for name in value._fields]
    if get_origin(annotation) is tuple and len(arguments) == len(value) and Ellipsis not in arguments:
        return [plain(argument) for argument in arguments]
    return [plain(arguments[0]) if arguments else Any] * len(value)


def _hints(kind: Any) -> dict[str, Any]:
    """The annotations of a class, or of ``Class[argument]`` with the argument in place of the variable."""
    try:
        hints = typing.get_type_hints(get_origin(kind) or kind)
    except (NameError, TypeError, AttributeError):  # a name that only type checkers see
        return {}
    arguments = dict(zip(getattr(get_origin(kind), "__parameters__", ()), get_args(kind), strict=False))
    return {name: _filled(hint, arguments) for name, hint in hints.items()} if arguments else hints


def _filled(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    variables = getattr(hint, "__parameters__", ())
    if variables and not isinstance(hint, type):
        return hint[tuple(arguments.get(variable, variable) for variable in variables)]
    return arguments.get(hint, hint) if isinstance(hint, typing.TypeVar) else hint


def _field_names(kind: type[Any]) -> list[str] | None:
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind) if field.init]
    fields: Mapping[str, Any] | None = getattr(kind, "__dataclass_fields__", None)
    return None if fields is None else [name for name, field in fields.items() if field.init]
