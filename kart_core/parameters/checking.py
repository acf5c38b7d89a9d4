"""Values that Python code gives to a parameter, checked against its annotation.

An annotation is compiled once, into a function that takes a value and gives it back as the
task holds it. Nothing is guessed: a ``str`` is no path and no number, a ``bool`` is no ``int``,
a list is no tuple. What changes is only what a reader would call the same value: an ``int`` in
a ``float`` field, a numpy scalar, a list or dictionary that becomes read-only.
"""

from __future__ import annotations

import collections.abc
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from kart_core.frozen import FrozenDict, FrozenList, freeze
from kart_core.parameters.annotation import (
    SCALARS,
    describe,
    is_alias,
    is_empty_tuple,
    is_union,
    members,
    plain,
    scalar_type,
)
from kart_core.parameters.fault import ParameterFault, fault, show, type_name
from kart_core.parameters.kinds import kind_of

Check = Callable[[object], object]

ABSTRACT = frozenset(
    {
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Collection,
        collections.abc.Container,
        collections.abc.Iterable,
        collections.abc.Reversible,
        collections.abc.Set,
        collections.abc.MutableSet,
    }
)
MAPPINGS = frozenset({dict, collections.abc.Mapping, collections.abc.MutableMapping})
_ONE_SHOT = (collections.abc.Iterator, str, bytes, bytearray)


def checker(annotation: Any) -> Check:
    """Compiles an annotation into the check of a parameter's values.

    Args:
        annotation: a resolved annotation. What cannot be checked at run time (a type variable, a
            name that was not resolved, a protocol that is not ``runtime_checkable``) takes any value.

    Returns:
        a function that gives a value back as the task holds it, or raises `ParameterFault`.

    Example:
        >>> checker(float)(1)
        1.0
        >>> checker(list[int])([1, "2"])
        Traceback (most recent call last):
        kart_core.parameters.fault.ParameterFault: expected list[int], given [1, '2'] (list), whose item 1 is '2' (str)
    """
    return _compile(plain(annotation), widen=True)


def _compile(annotation: Any, *, widen: bool) -> Check:
    """With `widen`, an int is taken for a float; a union tries its members without it first."""
    if is_alias(annotation):
        return _alias(annotation, widen=widen)
    annotation = plain(annotation)
    kind = kind_of(annotation)
    if kind is not None:
        check = kind.check
        return _instance(annotation) if check is None else lambda value: check(value, annotation)
    if annotation is NoneType:
        return _none
    scalar = scalar_type(annotation)
    if scalar is not None:
        return _scalar(scalar, widen=widen)
    if annotation is complex:
        return _complex(widen=widen)
    if is_union(annotation):
        return _union(annotation, widen=widen)
    origin = get_origin(annotation)
    if origin is Literal:
        return _literal(annotation)
    if origin is type:
        return _class(annotation)
    if typing.is_typeddict(origin or annotation):
        return _typed_dict(annotation, widen=widen)
    base = origin or _collection_of_alias(annotation)
    if base in (list, tuple, set, frozenset) or base in ABSTRACT:
        return _collection(annotation, base, widen=widen)
    if base in MAPPINGS:
        return _mapping(annotation, base, widen=widen)
    if base is cast("Any", collections.abc.Callable):
        return _callable(annotation)
    return _instance(annotation)


def _alias(annotation: Any, *, widen: bool) -> Check:
    compiled: list[Check] = []

    def check(value: object) -> object:
        if not compiled:  # at first need: it may stand for something that names it again
            compiled.append(_compile(plain(annotation), widen=widen))
        try:
            return compiled[0](value)
        except RecursionError:
            given = "a value nested too deeply, which perhaps holds itself"
            raise ParameterFault(describe(annotation), given, kind=type_name(value)) from None

    return check


def _collection_of_alias(annotation: Any) -> Any:
    # a bare typing.List, typing.Sequence, … has its class as __origin__, though no arguments
    return getattr(annotation, "__origin__", annotation)


def _none(value: object) -> object:
    if value is None:
        return None
    raise fault("None", value)


def _scalar(kind: type, *, widen: bool) -> Check:
    convert = _CONVERT[kind]

    def check(given: object) -> object:
        if type(given) is kind:
            return given
        value = from_numpy(given)
        if type(value) is kind:
            return value
        if kind is float and widen and isinstance(value, int) and not isinstance(value, bool):
            return _exact_float(value)
        if isinstance(value, kind) and not isinstance(value, bool):
            _refuse_secret(value, kind)
            return convert(value)
        raise fault(kind.__name__, given)

    return check


# The plain scalar in an instance of a subclass (an IntEnum, a str of some library). The class's
# own methods are avoided: a str subclass may well have another __str__.
_CONVERT: Mapping[type, Callable[[Any], object]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bool: bool,
}


def _refuse_secret(value: object, kind: type) -> None:
    from kart_core.plugin import Secret

    if isinstance(value, Secret):
        raise fault(f"{kind.__name__} (a field for a secret is annotated Secret, so that it is never shown)", value)


def _exact_float(value: int) -> float:
    try:
        converted = float(value)
    except OverflowError:
        converted = None
    if converted is None or int(converted) != value:
        raise fault("float (this int has more digits than a float holds)", value)
    return converted


def from_numpy(value: object) -> object:
    """A numpy scalar as its Python value; any other value as it is. numpy is not imported for it."""
    numpy = sys.modules.get("numpy")
    generic = getattr(numpy, "generic", None)
    return cast("Any", value).item() if generic is not None and isinstance(value, generic) else value


def _complex(*, widen: bool) -> Check:
    def check(value: object) -> object:
        value = from_numpy(value)
        if type(value) is complex:
            return value
        if widen and isinstance(value, (int, float)) and not isinstance(value, bool):
            return complex(_exact_float(value) if isinstance(value, int) else value)
        raise fault("complex", value)

    return check


def _union(annotation: Any, *, widen: bool) -> Check:
    alternatives = members(annotation)
    if any(member in (Any, object) for member in alternatives):
        return _anything
    as_given = frozenset(member for member in alternatives if member is NoneType or member in SCALARS)
    checks = [_compile(member, widen=False) for member in alternatives]
    if widen:
        # Only when no member takes the value as it is may an int become a float.
        checks += [_compile(member, widen=True) for member in alternatives]
    values = [member for member in alternatives if member is not NoneType]

    def check(value: object) -> object:
        if type(value) in as_given:
            return value
        reason = None
        for attempt in checks:
            try:
                return attempt(value)
            except ParameterFault as error:  # noqa: PERF203 - the first that takes the value ends it
                reason = error if attempt is not _none else reason
        # With one member beside None its own words tell more.
        given = reason.given if reason is not None and len(values) == 1 else show(value)
        raise ParameterFault(describe(annotation), given, kind=type_name(value))

    return check


def _literal(annotation: Any) -> Check:
    choices: dict[tuple[type, object], object] = {(type(choice), choice): choice for choice in get_args(annotation)}

    def check(value: object) -> object:
        value = from_numpy(value)
        try:
            return choices[type(value), value]
        except (KeyError, TypeError):
            raise fault(describe(annotation), value) from None

    return check


def _class(annotation: Any) -> Check:
    bases = tuple(get_origin(member) or member for member in members(get_args(annotation)[0]))
    checkable = all(isinstance(base, type) for base in bases)

    def check(value: object) -> object:
        if isinstance(value, type) and (not checkable or issubclass(value, bases)):
            return value
        raise fault(describe(annotation), value)

    return check


def _callable(annotation: Any) -> Check:
    def check(value: object) -> object:
        if callable(value):
            return value
        raise fault(describe(annotation), value)

    return check


def _collection(annotation: Any, base: Any, *, widen: bool) -> Check:
    arguments = get_args(annotation)
    if is_empty_tuple(annotation):
        return _fixed_tuple(annotation, (), widen=widen)
    if base is tuple and arguments and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return _fixed_tuple(annotation, arguments, widen=widen)
    check_item = _compile(arguments[0], widen=widen) if arguments else _anything
    takes: tuple[type, ...] = (set, frozenset) if base is set else (base,)
    # Of tasks there may be thousands, and nothing in them is to be changed.
    just = {arguments[0]} if base is tuple and arguments and getattr(arguments[0], "_kart_is_task", False) else None

    def check(value: Any) -> object:
        if just is not None and _is_just(value, just):
            return value
        if not isinstance(value, takes) or (base in ABSTRACT and _is_one_shot(value)):
            raise fault(describe(annotation), value)
        items = cast("Iterable[object]", value)
        try:
            held = [check_item(item) for item in items]
        except ParameterFault:  # only now is it asked which of them, of thousands perhaps
            held = [_part(annotation, value, ("item", place), check_item, item) for place, item in enumerate(items)]
        return _rebuilt(value, held)

    return check


def _is_just(value: object, kinds: set[object]) -> bool:
    """Whether a value is a tuple of items of just these classes, and of no subclasses."""
    return type(value) is tuple and set(map(type, cast("tuple[object, ...]", value))) == kinds


def _is_one_shot(value: object) -> bool:
    return isinstance(value, _ONE_SHOT)


def _part(annotation: Any, whole: object, place: tuple[str, object], check: Check, part: object) -> object:
    """What is held for one part of a value; its fault is told as one of the whole."""
    try:
        return check(part)
    except ParameterFault as error:
        what, name = place
        given = f"{show(whole)}, whose {what} {name!r} is {error.given}"
        raise ParameterFault(describe(annotation), given, kind=type_name(whole)) from None


def _rebuilt(value: object, items: list[object]) -> object:
    """What a task holds for a collection, given its items as they are held."""
    if isinstance(value, list):
        return FrozenList(items)
    if isinstance(value, (set, frozenset)):
        return frozenset(items)
    if isinstance(value, tuple):
        return _same_tuple(cast("tuple[object, ...]", value), items)
    return freeze(value)


def _same_tuple(value: tuple[object, ...], items: list[object]) -> tuple[object, ...]:
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    make = getattr(type(value), "_make", None)
    return tuple(items) if make is None else make(items)


def _fixed_tuple(annotation: Any, arguments: tuple[Any, ...], *, widen: bool) -> Check:
    if any("Unpack" in str(get_origin(argument)) or str(argument).startswith("*") for argument in arguments):
        return _collection(tuple, tuple, widen=widen)  # tuple[int, *tuple[str, ...]]: only that it is a tuple
    checks = [_compile(argument, widen=widen) for argument in arguments]

    def check(value: Any) -> object:
        if not isinstance(value, tuple):
            raise fault(describe(annotation), value)
        items = cast("tuple[object, ...]", value)
        if len(items) != len(checks):
            given = f"{show(items)}, which has {len(items)} items"
            raise ParameterFault(describe(annotation), given, kind=type_name(items))
        pairs = enumerate(zip(checks, items, strict=True))
        held = [_part(annotation, items, ("item", place), one, item) for place, (one, item) in pairs]
        return _same_tuple(items, held)

    return check


def _mapping(annotation: Any, base: Any, *, widen: bool) -> Check:
    arguments = get_args(annotation) or (Any, Any)
    check_key, check_item = _compile(arguments[0], widen=widen), _compile(arguments[1], widen=widen)

    def check(value: Any) -> object:
        if not isinstance(value, base):
            raise fault(describe(annotation), value)
        held: dict[object, object] = {}
        for key, item in cast("Mapping[object, object]", value).items():
            held_key = _part(annotation, value, ("key", key), check_key, key)
            held[held_key] = _part(annotation, value, ("item", key), check_item, item)
        return FrozenDict(held)

    return check


def _typed_dict(annotation: Any, *, widen: bool) -> Check:
    shape: Any = get_origin(annotation) or annotation
    checks: dict[str, Check] = {}

    def check(value: Any) -> object:
        if not isinstance(value, dict):
            raise fault(describe(annotation), value)
        if not checks:  # at first need: the class may refer to itself
            checks.update({key: _compile(each, widen=widen) for key, each in typing.get_type_hints(shape).items()})
        items = cast("dict[str, object]", value)
        missing, unknown = shape.__required_keys__ - items.keys(), items.keys() - checks.keys()
        if missing or unknown:
            wrong = [f"without {key!r}" for key in sorted(missing)] + [f"with {key!r}" for key in unknown]
            given = f"{show(items)}, {', '.join(wrong)}"
            raise ParameterFault(describe(annotation), given, kind=type_name(items))
        return FrozenDict(
            {key: _part(annotation, items, ("item", key), checks[key], item) for key, item in items.items()}
        )

    return check


def _anything(value: object) -> object:
    try:
        return freeze(from_numpy(value))
    except ValueError as error:
        raise ParameterFault("a value that is not endless", str(error), kind=type_name(value)) from None


def _instance(annotation: Any) -> Check:
    kind = get_origin(annotation) or annotation
    if kind is object or not isinstance(kind, type) or isinstance(annotation, TypeVar) or _is_uncheckable(kind):
        return _anything
    # A datetime is a date for Python; a day and a moment are not the same parameter.
    excluded = datetime if kind is date else None
    numpy_kind = kind.__module__ == "numpy"

    def check(value: object) -> object:
        given = value if numpy_kind or isinstance(value, kind) else from_numpy(value)
        if isinstance(given, kind) and (excluded is None or not isinstance(given, excluded)):
            return given if isinstance(given, Enum) else _freeze(given)
        raise fault(describe(annotation), value)

    return check


def _freeze(value: object) -> object:
    return freeze(value) if isinstance(value, tuple) else value


def _is_uncheckable(kind: type) -> bool:
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return True
    return kind is Any  # a class since Python 3.11
