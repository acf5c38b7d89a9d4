r"""Values as canonical bytes, from which unique ids are made.

Equal values have equal bytes; values of different type or content have different ones, on
every platform, in every process and in every supported Python. Each encoding begins with a
word that says what it is and says where it ends, so that encodings can stand one after the
other without ambiguity.

What counts: the exact type and the content. The order of mappings and sets does not count;
``-0.0`` and ``0.0`` differ; all NaN are one. An instance of an attrs class or dataclass is its
class and all of its fields; an enum member is its class and name; functions and classes are
their import path. A value of another type is for `Special` to encode, or an error: never its
pickle, never its repr.

Example:
    >>> encode(1), encode(1.0), encode(True), encode("1")
    (b'int:1;', b'float:?\xf0\x00\x00\x00\x00\x00\x00', b'true;', b'str1:1')
    >>> encode({"a": 1, "b": 2}) == encode({"b": 2, "a": 1})
    True
    >>> encode(lambda: 1)
    Traceback (most recent call last):
    kart_core.encoding.EncodingError: function: a lambda or local function has no import path: move it to module level
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from typing import Any, cast

from kart_core.frozen import DEEPEST, FrozenDict, FrozenList
from kart_core.naming import module_name

__all__ = ["SCALARS", "EncodingError", "Special", "encode", "encode_named", "encode_tuple", "field_names"]

Special = Callable[[object], "bytes | None"]
"""Encodes values of types that are not known here; None for one that it does not know either.

Its bytes must tell types apart by themselves.
"""


class EncodingError(Exception):
    """A value, or something in it, that has no canonical bytes.

    Attributes:
        type_name: the type of the value, ``module.Name`` (built-in types without module).
        reason: why, and what to do.
    """

    def __init__(self, type_name: str, reason: str) -> None:
        super().__init__(type_name, reason)
        self.type_name = type_name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.type_name}: {self.reason}"


def encode(value: object, special: Special | None = None) -> bytes:
    """The canonical bytes of a value.

    Args:
        value: a value of Python's own types, or of types built from them.
        special: asked for each value, however deep, whose exact type is not known here; it goes
            before what is done for enums, attrs classes, dataclasses and the like.

    Raises:
        EncodingError: for a value that neither side knows.
    """
    scalar = SCALARS.get(type(value))
    return scalar(value) if scalar is not None else _encode(value, special, 0)


def encode_tuple(items: Iterable[bytes]) -> bytes:
    """The canonical bytes of a tuple whose items are all of types not known here.

    Args:
        items: what `Special` gave for each.

    Example:
        >>> encode_tuple([b"one"]) == encode((object(),), lambda _: b"one")
        True
    """
    return _sized(b"tuple", b"".join([_sized(b"special", item) for item in items]))


def encode_named(items: Iterable[tuple[str, bytes]]) -> bytes:
    """The canonical bytes of a mapping from names to what is encoded already; their order does not count.

    Args:
        items: each name, once, with the bytes that `encode` gave.

    Example:
        >>> encode_named([("n", encode(1))])
        b'named9:1:nint:1;'
    """
    joined = b"".join([_name(name) + data for name, data in sorted(items)])
    return b"named%d:%b" % (len(joined), joined)


@functools.lru_cache(4096)  # they are names of fields: few, and each asked for once per task
def _name(name: str) -> bytes:
    text = name.encode()
    return b"%d:%b" % (len(text), text)


# --- scalars: a task's constructor passes here for each field, so each is one expression if it can


_pack_double = Struct(">d").pack
_NAN = b"float:" + _pack_double(float("nan"))


def _none(_value: None) -> bytes:
    return b"none;"


def _bool(value: bool) -> bytes:
    return b"true;" if value else b"false;"


def _int(value: int) -> bytes:
    return b"int:%x;" % value  # in hexadecimal: Python limits the length of decimal ones


def _float(value: float) -> bytes:
    return b"float:" + _pack_double(value) if value == value else _NAN


def _str(value: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError:  # lone surrogates, as in undecodable file names
        data = value.encode("utf-8", "surrogatepass")
    return b"str%d:%b" % (len(data), data)


def _bytes(value: bytes) -> bytes:
    return b"bytes%d:%b" % (len(value), value)


SCALARS: dict[type, Callable[[Any], bytes]] = {
    types.NoneType: _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
}
"""The encoders of the commonest types, by exact type."""


# --- everything else


_Encoder = Callable[[Any, "Special | None", int], bytes]


def _encode(value: object, special: Special | None, depth: int) -> bytes:
    kind = type(value)
    scalar = SCALARS.get(kind)
    if scalar is not None:
        return scalar(value)
    if depth > DEEPEST:
        raise EncodingError(_name_of(kind), f"nested deeper than {DEEPEST} levels, or it holds itself")
    encoder = _KNOWN.get(kind) or _find_known(kind)
    if encoder is not None:
        return encoder(value, special, depth + 1)
    if special is not None:
        data = special(value)
        if data is not None:
            return _sized(b"special", data)
    return _encode_by_structure(value, special, depth + 1)


def _sized(word: bytes, *parts: bytes) -> bytes:
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    return b"%b%d:%b" % (word, len(content), content)


def _items(word: bytes) -> _Encoder:
    def encoder(value: Iterable[object], special: Special | None, depth: int) -> bytes:
        return _sized(word, b"".join([_encode(item, special, depth) for item in value]))

    return encoder


def _unordered(word: bytes) -> _Encoder:
    def encoder(value: Iterable[object], special: Special | None, depth: int) -> bytes:
        return _sized(word, b"".join(sorted([_encode(item, special, depth) for item in value])))

    return encoder


def _pairs(value: Mapping[object, object], special: Special | None, depth: int) -> bytes:
    pairs = [_encode(key, special, depth) + _encode(item, special, depth) for key, item in value.items()]
    return b"".join(sorted(pairs))


def _dict(value: Mapping[object, object], special: Special | None, depth: int) -> bytes:
    return _sized(b"dict", _pairs(value, special, depth))


def _mapping(value: Mapping[object, object], special: Special | None, depth: int) -> bytes:
    return _sized(b"mapping", _import_path(type(value)), _pairs(value, special, depth))


def _reduced(word: bytes, reduce: Callable[[Any], object]) -> _Encoder:
    """An encoder of what `reduce` makes of the value: its parts, of types known here."""

    def encoder(value: object, special: Special | None, depth: int) -> bytes:
        return _sized(word, _encode(reduce(value), special, depth))

    return encoder


def _range(value: range) -> tuple[int, int | None, int | None]:
    # Equal ranges are those with equal items, whatever their stop.
    return len(value), value[0] if value else None, value.step if len(value) > 1 else None


def _partial(value: functools.partial[Any]) -> tuple[object, ...]:
    return value.func, value.args, value.keywords


def _method(value: Any) -> tuple[object, str]:
    return value.__self__, value.__name__


def _zoneinfo(value: Any) -> str:
    if value.key is None:
        raise EncodingError("zoneinfo.ZoneInfo", "it has no key: make it by its name, ZoneInfo('Europe/Paris')")
    return value.key


def _named(value: Any, _special: Special | None, _depth: int) -> bytes:
    return _sized(b"named_object", _import_path(value))


def _builtin(value: Any, special: Special | None, depth: int) -> bytes:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return _named(value, special, depth)
    return _KNOWN[types.MethodType](value, special, depth)


_KNOWN: dict[type, _Encoder] = {
    complex: lambda value, _special, _depth: _sized(b"complex", _float(value.real), _float(value.imag)),
    bytearray: lambda value, _special, _depth: _sized(b"bytearray", bytes(value)),
    tuple: _items(b"tuple"),
    list: _items(b"list"),
    FrozenList: _items(b"list"),
    set: _unordered(b"set"),
    frozenset: _unordered(b"frozenset"),
    dict: _dict,
    FrozenDict: _dict,
    types.MappingProxyType: _mapping,
    range: _reduced(b"range", _range),
    functools.partial: _reduced(b"partial", _partial),
    types.FunctionType: _named,
    types.BuiltinFunctionType: _builtin,
    types.MethodType: _reduced(b"method", _method),
}

# Types that are not worth an import: a value of one can only come where its module is there already.
_KNOWN_BY_NAME: dict[str, _Encoder] = {
    "collections.Counter": _mapping,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "datetime.date": _reduced(b"date", lambda value: value.isoformat()),
    "datetime.datetime": _reduced(
        b"datetime", lambda value: (value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo)
    ),
    "datetime.time": _reduced(
        b"time", lambda value: (value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo)
    ),
    "datetime.timedelta": _reduced(b"timedelta", lambda value: (value.days, value.seconds, value.microseconds)),
    "datetime.timezone": _reduced(b"timezone", lambda value: value.utcoffset(None)),
    "decimal.Decimal": _reduced(b"decimal", lambda value: tuple(value.as_tuple())),
    "fractions.Fraction": _reduced(b"fraction", lambda value: (value.numerator, value.denominator)),
    "pathlib.PosixPath": _reduced(b"path", lambda value: value.as_posix()),
    "pathlib.PurePosixPath": _reduced(b"path", lambda value: value.as_posix()),
    "pathlib.PureWindowsPath": _reduced(b"windows_path", lambda value: value.as_posix()),
    "pathlib.WindowsPath": _reduced(b"path", lambda value: value.as_posix()),
    "uuid.UUID": _reduced(b"uuid", lambda value: value.bytes),
    "zoneinfo.ZoneInfo": _reduced(b"zoneinfo", _zoneinfo),
}


_HOMES = {"pathlib._local": "pathlib"}
"""Modules that only some Pythons have, and where others keep what is in them."""

_MODULES = frozenset({*_HOMES, *(name.rpartition(".")[0] for name in _KNOWN_BY_NAME)})


def _find_known(kind: type) -> _Encoder | None:
    if kind.__module__ not in _MODULES:
        return None
    home = _HOMES.get(kind.__module__, kind.__module__)
    encoder = _KNOWN_BY_NAME.get(f"{home}.{kind.__qualname__}")
    if encoder is None or getattr(sys.modules.get(home), kind.__name__, None) is not kind:
        return None
    _KNOWN[kind] = encoder
    return encoder


def _encode_by_structure(value: Any, special: Special | None, depth: int) -> bytes:
    kind = _type(value)
    if isinstance(value, type):
        return _named(value, special, depth)
    if isinstance(value, enum.Enum):
        # The name of several flags together differs between Pythons; their value does not.
        which: object = value.value if isinstance(value, enum.Flag) else value.name
        return _sized(b"enum", _import_path(kind), _encode(which, special, depth))
    fields = field_names(kind)
    if fields is not None:
        parts: list[tuple[str, bytes]] = []
        for name in fields:
            try:
                item = getattr(value, name)
            except AttributeError:
                raise EncodingError(_name_of(kind), f"its field {name!r} has no value") from None
            parts.append((name, _encode(item, special, depth)))
        return _sized(b"object", _import_path(kind), encode_named(parts))
    if issubclass(cast("type", kind), Mapping) and dict not in kind.__mro__:
        return _mapping(value, special, depth)
    if callable(value) and _found_under_its_name(value) is value:
        return _named(value, special, depth)
    raise EncodingError(_name_of(kind), _why_not(value))


_PRIMITIVES = (int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset)


def field_names(kind: type[Any]) -> Iterable[str] | None:
    """The fields that are the whole content of an instance, where the class says so itself."""
    if issubclass(kind, tuple):
        return getattr(cast("type[Any]", kind), "_fields", None)
    if issubclass(kind, _PRIMITIVES):
        return None  # a field would not be all: the value is also a number, a text, a list
    declared = kind.__dict__
    if "__attrs_attrs__" in declared:
        return [field.name for field in declared["__attrs_attrs__"]]
    if "__dataclass_fields__" in declared:
        from dataclasses import fields

        return [field.name for field in fields(kind)]
    return None


def _why_not(value: object) -> str:
    kind = _type(value)
    if kind.__name__ == "Secret" and kind.__module__ == "kart_core.plugin":
        return "a secret never enters an id: give the parameter significant=False, or make it a plugin's setting"
    if isinstance(value, types.ModuleType):
        return "a module is no value: name a function or class in it"
    if hasattr(kind, "__attrs_attrs__") or hasattr(kind, "__dataclass_fields__"):
        return "a subclass of a decorated class: decorate it too, with @attrs.frozen or @dataclass(frozen=True)"
    base = next((base for base in kind.__mro__[1:] if base in _PRIMITIVES), None)
    if base is not None:
        return f"a subclass of {base.__name__} may mean more than its content: give a plain {base.__name__}"
    return "no way is known to make an id of it: give plain values or an attrs class, or a plugin with kart_hashers"


# --- names of functions and classes


def _import_path(value: Any) -> bytes:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise EncodingError(_name_of(_type(value)), "it has no import path: give a function of a module")
    if "<" in name:
        kind = "class" if isinstance(value, type) else "function"
        what = "local class" if kind == "class" else "lambda or local function"
        raise EncodingError(kind, f"a {what} has no import path: move it to module level")
    found = _found_under_its_name(value)
    if found is not None and found is not value:
        raise EncodingError(
            _name_of(_type(value)), f"{module}.{name} now names another object: give the one that is found there"
        )
    return _str(f"{_HOMES.get(module) or module_name(module)}:{name}")


def _found_under_its_name(value: Any) -> object | None:
    """What an import of the value's name would give; None where that gives nothing."""
    found: object | None = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in (getattr(value, "__qualname__", None) or "?").split("."):
        found = getattr(found, part, None)
    return found


def _type(value: object) -> type[Any]:
    return type(value)


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
