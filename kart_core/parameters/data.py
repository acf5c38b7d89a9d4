"""Parameters given as plain data, by TOML and JSON.

Data has types already, and they are held to: a string is no number. What data has no type for
(paths, enums, bytes, in JSON dates) is a string in the form of `kart_core.parameters.scalars`.
All faults of a value are told at once, each with its place.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from enum import Enum
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from kart_core.parameters.annotation import describe, is_a, is_empty_tuple, is_union, members, plain
from kart_core.parameters.checking import ABSTRACT, MAPPINGS, checker
from kart_core.parameters.fault import ParameterFault, fault, placed, show, type_name
from kart_core.parameters.kinds import kind_of
from kart_core.parameters.scalars import by_specificity, is_none_word, reader, unquoted, write_scalar
from kart_core.parameters.shapes import has_fields, structure_class

_EXACT = frozenset({int, float, bool})
_MOMENTS = frozenset({date, datetime, time})
_NUMBERS = frozenset({"decimal.Decimal", "fractions.Fraction"})
_NOT_FINITE = frozenset({"nan", "inf", "-inf"})


def structure(value: Any, annotation: Any) -> object:
    """Makes a parameter's value from plain data.

    Args:
        value: what TOML or JSON gave: None, a bool, number, string, date, list or mapping.
        annotation: a resolved annotation.

    Returns:
        the value; `checker` of the same annotation then gives what a task holds.

    Raises:
        ParameterFault: the data does not fit; its `faults` tell each place where it does not.

    Example:
        >>> structure(["a.csv"], list[str] | None)
        ['a.csv']
        >>> structure({"a": 1, "b": "2", "c": "3"}, dict[str, int])
        Traceback (most recent call last):
        kart_core.parameters.fault.ParameterFault: expected dict[str, int], given {'a': 1, 'b': '2', 'c': '3'} (dict)
          item 'b': expected int, given '2' (str)
          item 'c': expected int, given '3' (str)
    """
    try:
        return _structure(value, annotation)
    except RecursionError:
        raise ParameterFault(describe(annotation), "data nested too deeply", kind=type_name(value)) from None


def _structure(value: Any, annotation: Any) -> object:
    annotation = plain(annotation)
    if annotation in _EXACT and type(value) is annotation:
        return value
    kind = kind_of(annotation)
    if kind is not None:
        return _guarded(value, annotation, kind.from_data)
    if annotation in (Any, object) or isinstance(annotation, (TypeVar, str)):
        return value
    if is_union(annotation):
        return _union(value, annotation)
    if get_origin(annotation) is Literal:
        return _literal(value, annotation)
    if annotation is NoneType:
        if value is None:
            return None
        raise fault("None", value)
    read = reader(annotation)
    if read is not None:
        return _scalar(value, annotation, read)
    make = _composite(annotation)
    if make is None:
        raise fault(f"{describe(annotation)}, which cannot be given as data; give it in Python", value)
    return make(value, annotation)


def _guarded(value: Any, annotation: Any, make: Callable[[object, Any], object]) -> object:
    try:
        return make(value, annotation)
    except ParameterFault:
        raise
    except ValueError as error:
        raise ParameterFault(describe(annotation), f"{show(value)}: {error}", kind=type_name(value)) from None


def _scalar(value: Any, kind: Any, read: Callable[[str], object]) -> object:
    if isinstance(value, str) and (kind not in _EXACT or (kind is float and value in _NOT_FINITE)):
        return read(value)
    if kind is float and type(value) is int:
        return checker(float)(value)
    if kind in _MOMENTS and type(value) is kind:
        return value
    if kind is timedelta and type(value) in (int, float):
        return _guarded(value, kind, _seconds)
    if type(value) is int and f"{kind.__module__}.{kind.__qualname__}" in _NUMBERS:
        return cast("Any", kind)(value)
    raise fault(describe(kind), value)


def _seconds(value: Any, _: Any) -> timedelta:
    try:
        return timedelta(seconds=value)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _literal(value: Any, annotation: Any) -> object:
    for choice in get_args(annotation):
        if type(value) is type(choice) and value == choice:
            return choice
        if isinstance(choice, (Enum, bytes)) and value == write_scalar(choice):
            return choice
    raise fault(f"one of {describe(annotation)[8:-1]}", value)


def _union(value: Any, annotation: Any) -> object:
    alternatives = by_specificity(members(annotation))
    if Any in alternatives or object in alternatives:
        return value
    if NoneType in alternatives and _says_none(value, has_str=str in alternatives):
        return None
    if isinstance(value, str) and str in alternatives:
        quoted = unquoted(value)
        if quoted is not None:
            return quoted
    taken: list[tuple[Any, object]] = []
    reasons: list[ParameterFault] = []
    for member in alternatives:
        if member is not NoneType:
            try:
                taken.append((member, _structure(value, member)))
            except ParameterFault as error:
                reasons.append(error)
    shapes = [member for member, _ in taken if is_a(value, dict) and _is_shape(member)]
    if len(shapes) > 1:
        expected = f"data of one class of {describe(annotation)}"
        both = " and of ".join(describe(member) for member in shapes)
        raise ParameterFault(expected, f"{show(value)}, which is data of {both}", kind=type_name(value))
    if taken:
        return taken[0][1]
    if len(reasons) == 1:  # with one member beside None its own words tell more
        raise ParameterFault(describe(annotation), reasons[0].given, kind=reasons[0].kind, faults=reasons[0].faults)
    raise fault(describe(annotation), value)


def _says_none(value: Any, *, has_str: bool) -> bool:
    return value is None or (isinstance(value, str) and (is_none_word(value) or (value == "" and not has_str)))


def _is_shape(annotation: Any) -> bool:
    return kind_of(annotation) is not None or has_fields(_base(annotation))


def _base(annotation: Any) -> Any:
    """The class of ``Class[argument]``, and of a bare ``typing.List``."""
    return get_origin(annotation) or getattr(annotation, "__origin__", annotation)


def _composite(annotation: Any) -> Callable[[Any, Any], object] | None:
    """What makes the values of an annotation that has parts; None for one that data cannot give."""
    base = _base(annotation)
    if base is tuple:
        return _tuple
    if base in (list, set, frozenset) or base in ABSTRACT:
        return _collection
    if base in MAPPINGS:
        return _mapping
    if has_fields(base):
        return _class
    return _named_tuple if hasattr(base, "_fields") and hasattr(base, "_make") else None


def form_of(annotation: Any) -> str | None:
    """The JSON form of an annotation's values, for messages; None for what data cannot give."""
    make = _composite(annotation)
    if make is not None:
        return '{"…": …}' if make in (_mapping, _class) else "[…, …]"
    return '{"…": …}' if kind_of(annotation) is not None else None


def _collection(value: Any, annotation: Any) -> object:
    base, arguments = _base(annotation), get_args(annotation)
    item = arguments[0] if arguments else Any
    made = _all(
        value, annotation, [(f"item {place}", each, item) for place, each in enumerate(_list(value, annotation))]
    )
    if isinstance(base, type) and issubclass(base, AbstractSet):
        return frozenset(made) if base is frozenset else set(made)
    return made


def _list(value: Any, annotation: Any) -> list[Any]:
    if is_a(value, list):
        return value
    raise fault(describe(annotation), value)


def _tuple(value: Any, annotation: Any) -> object:
    items = _list(value, annotation)
    arguments = () if is_empty_tuple(annotation) else get_args(annotation) or (Any, Ellipsis)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(items)
    return tuple(_all_of(value, annotation, items, arguments))


def _named_tuple(value: Any, annotation: Any) -> object:
    kind: Any = get_origin(annotation) or annotation
    hints = typing.get_type_hints(kind)
    items = _list(value, annotation)
    return kind._make(_all_of(value, annotation, items, [hints.get(name, Any) for name in kind._fields]))


def _all_of(value: Any, annotation: Any, items: list[object], arguments: Iterable[Any]) -> list[object]:
    expected = list(arguments)
    if len(items) != len(expected):
        given = f"{show(value)}, which has {len(items)} items"
        raise ParameterFault(describe(annotation), given, kind=type_name(value))
    parts = enumerate(zip(items, expected, strict=True))
    return _all(value, annotation, [(f"item {place}", item, each) for place, (item, each) in parts])


def _mapping(value: Any, annotation: Any) -> object:
    """An object, whose keys are read as text; or a list of pairs, for keys that are no text."""
    key_type, item_type = get_args(annotation) or (Any, Any)
    pairs = _pairs(value, annotation)
    read: Callable[[Any, Any], object] = _key if is_a(value, dict) else _structure
    keys = _each(value, annotation, [(f"key {key!r}", key, key_type) for key, _ in pairs], read)
    items = _all(value, annotation, [(f"item {key!r}", item, item_type) for key, item in pairs])
    try:
        return dict(zip(keys, items, strict=True))
    except TypeError as error:
        raise ParameterFault(describe(annotation), f"{show(value)}: {error}", kind=type_name(value)) from None


def _pairs(value: Any, annotation: Any) -> list[tuple[Any, Any]]:
    if is_a(value, dict):
        return list(value.items())
    pairs = _list(value, annotation)
    if any(not is_a(pair, list) or len(pair) != 2 for pair in pairs):
        raise fault(describe(annotation), value)
    return [(key, item) for key, item in pairs]


def _key(text: str, annotation: Any) -> object:
    from kart_core.parameters.text import parse_text

    return text if plain(annotation) in (Any, object, str) else parse_text(text, annotation)


def _class(value: Any, annotation: Any) -> object:
    return structure_class(value, annotation, _structure)


def _all(value: Any, annotation: Any, parts: Iterable[tuple[str, Any, Any]]) -> list[object]:
    return _each(value, annotation, parts, _structure)


def _each(
    value: Any, annotation: Any, parts: Iterable[tuple[str, Any, Any]], make: Callable[[Any, Any], object]
) -> list[object]:
    """What is made of each part (its place, data, annotation); if any fails, the faults of all of them."""
    made: list[object] = []
    faults: list[str] = []
    for place, part, expected in parts:
        try:
            made.append(make(part, expected))
        except ParameterFault as error:  # noqa: PERF203 - all faults are told at once
            faults += placed(place, error)
    if faults:
        raise ParameterFault(describe(annotation), show(value), kind=type_name(value), faults=faults)
    return made
