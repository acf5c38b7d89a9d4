"""The text forms of single values, read and written: one form per type, the same everywhere.

| type | text |
|---|---|
| ``int`` | ``-3``, ``1_000`` |
| ``float`` | ``0.5``, ``1e-3``, ``3``, ``nan``, ``inf`` |
| ``bool`` | ``true`` ``false``, ``yes`` ``no``, ``on`` ``off``, ``1`` ``0`` |
| ``str`` | the text itself |
| ``bytes`` | UTF-8 text, or ``base64:`` and what follows |
| ``Path`` | the path |
| ``date``, ``time`` | ``2024-12-31``, ``23:59:30`` |
| ``datetime`` | ``2024-12-31T23:59:30+01:00``, ``…Z``, ``…[Europe/Berlin]``; without a zone it has none |
| ``timedelta`` | ``90s``, ``1h30m``, ``1.5`` (seconds), ``1 day, 2:00:00``, ``PT1H30M`` |
| ``Enum`` | the member's name; of flags, ``A|B`` |
| ``complex``, ``Decimal``, ``Fraction``, ``UUID`` | as Python writes them |
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from datetime import date, datetime, time, timedelta
from enum import Enum, Flag
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from kart_core.parameters.annotation import describe
from kart_core.parameters.fault import ParameterFault, text_fault
from kart_core.parameters.moments import (
    parse_date,
    parse_datetime,
    parse_time,
    parse_timedelta,
    write_datetime,
    write_timedelta,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Reader = Callable[[str], object]

_INT = re.compile(r"[+-]?[0-9]+(_[0-9]+)*")
_FLOAT = re.compile(r"[+-]?(([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|inf(inity)?)", re.IGNORECASE)
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_BASE64 = "base64:"


def is_none_word(text: str) -> bool:
    """Whether the text says None, where None may be said."""
    return text.lower() in ("none", "null")


def unquoted(text: str) -> str | None:
    """What stands between double quotes, as JSON reads them; None where the text is not quoted."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def reader(annotation: Any) -> Reader | None:
    """What reads the text form of the values of a class; None for what has no text form of its own."""
    if not isinstance(annotation, type):
        return None
    if annotation in _READERS:
        return _READERS[annotation]
    if issubclass(annotation, Enum):
        return lambda text: _parse_enum(text, annotation)
    if issubclass(annotation, PurePath):
        return annotation
    return _foreign_reader(cast("type[Any]", annotation))


def _foreign_reader(kind: type[Any]) -> Reader | None:
    """Readers of types whose modules cost an import: who has the type has paid for it."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in ("decimal.Decimal", "fractions.Fraction", "uuid.UUID"):

        def read(text: str) -> object:
            try:
                return kind(text)
            except (ValueError, ArithmeticError):
                raise text_fault(describe(kind), text) from None

        return read
    if name == "kart_core.plugin.Secret":
        return kind
    return None


def _parse_int(text: str) -> int:
    if _INT.fullmatch(text):
        try:
            return int(text)
        except ValueError:  # more digits than Python reads
            pass
    raise text_fault("int", text)


def _parse_float(text: str) -> float:
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isfinite(value) or text.lstrip("+-")[0] in "nNiI":
            return value
        raise text_fault("float (this number is larger than any)", text)
    raise text_fault("float", text)


def _parse_bool(text: str) -> bool:
    value = _WORDS.get(text.lower())
    if value is None:
        raise text_fault("bool (true or false, yes or no, on or off, 1 or 0)", text)
    return value


def parse_str(text: str) -> str:
    """The text itself, if it can be written as UTF-8."""
    if not text.isascii():
        _utf8(text)
    return text


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ParameterFault("text in UTF-8", ascii(text), kind="str") from None


def _parse_bytes(text: str) -> bytes:
    if not text.startswith(_BASE64):
        return _utf8(text)
    try:
        return base64.b64decode(text.removeprefix(_BASE64).encode("ascii", "replace"), validate=True)
    except binascii.Error:
        raise text_fault("bytes (base64: and what base64 gives, or text)", text) from None


def _parse_complex(text: str) -> complex:
    try:
        return complex(text)
    except ValueError:
        raise text_fault("complex (like 1+2j)", text) from None


def _parse_enum(text: str, kind: type[Enum]) -> Enum:
    named = kind.__members__
    if text in named:
        return named[text]
    if issubclass(kind, Flag):
        names = [] if text == "0" else text.split("|")
        if all(name in named for name in names):
            return _joined(kind, names)
    raise text_fault(f"{describe(kind)}, one of {', '.join(named)}", text)


def _joined(kind: type[Flag], names: Iterable[str]) -> Flag:
    value = kind(0)
    for name in names:
        value |= kind[name]
    return value


def parse_literal(text: str, annotation: Any) -> object:
    """The choice of a ``Literal`` whose text form is `text`; a number goes before a string."""
    for choice in sorted(get_args(annotation), key=lambda choice: isinstance(choice, str)):
        if choice is None:
            if is_none_word(text):
                return None
            continue
        read = reader(type(choice))
        try:
            if read is not None and read(text) == choice:
                return choice
        except ParameterFault:
            continue
    raise text_fault(f"one of {describe(annotation)[8:-1]}", text)


def write_scalar(value: object) -> str | None:
    """The text form of a single value, from which `reader` of its class gives it back.

    None stands for a type that has no text form.
    """
    if isinstance(value, Enum):
        return _write_enum(value)
    if isinstance(value, bytes):
        return _write_bytes(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, datetime):
        return write_datetime(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return write_timedelta(value)
    if isinstance(value, (float, complex)):
        return str(value)
    if type(value).__module__ in ("decimal", "fractions", "uuid"):
        return str(value)
    return None


def _write_enum(value: Enum) -> str:
    named: dict[str, Any] = dict(type(value).__members__)
    name: str | None = value.name
    if name in named:
        return name
    held: Any = value  # flags that were joined: they have no name of their own on Python 3.10
    return "|".join(name for name, member in named.items() if member.value and member in held) or "0"


def _write_bytes(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = _BASE64
    return _BASE64 + base64.b64encode(value).decode() if text.startswith(_BASE64) else text


_READERS: dict[Any, Reader] = {
    int: _parse_int,
    float: _parse_float,
    bool: _parse_bool,
    str: parse_str,
    bytes: _parse_bytes,
    complex: _parse_complex,
    date: parse_date,
    datetime: parse_datetime,
    time: parse_time,
    timedelta: parse_timedelta,
}


_RANKS: dict[Any, int] = {
    **{kind: rank for rank, kind in enumerate((int, float, bool, complex, datetime, date, time, timedelta), start=2)},
    bytes: 20,
    str: 30,
}


def _rank(annotation: Any) -> int:
    if get_origin(annotation) is Literal:
        return 0
    if not isinstance(annotation, type) or annotation in _RANKS:
        return _RANKS.get(annotation, 15)
    if issubclass(annotation, Enum):
        return 1
    return 21 if issubclass(annotation, PurePath) else 15


def by_specificity(alternatives: Iterable[Any]) -> list[Any]:
    """The members of a union in the order in which a text is tried on them.

    A type goes before those that take its texts too: a choice before a number, an ``int`` before
    a ``float``, anything before ``Path`` and ``str``.

    Example:
        >>> by_specificity([str, float, int])
        [<class 'int'>, <class 'float'>, <class 'str'>]
    """
    return sorted(alternatives, key=_rank)
