"""An exception taken apart: the parts of which each travels, or does not, for itself.

Nothing of an exception's own code is trusted: its ``__str__``, ``__repr__`` and ``__reduce__`` may raise, or give
without end.
"""

from __future__ import annotations

import io
import pickle
import re
import sys
import traceback
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from kart_core.execution.frames import Place, places_of
from kart_core.naming import module_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_BYTES: Final = 1 << 24
"""What all arguments and attributes together may take, pickled."""
MOST_TEXT: Final = 1 << 20
"""How many characters of a message are sent for themselves."""
MOST_ERRORS: Final = 1000
"""How many exceptions behind and in one another."""
MOST_ITEMS: Final = 10_000

_BASE = vars(BaseException)
_HINT = re.compile(r"Did you mean: '(\S+)'\?")

_T = TypeVar("_T")


@attrs.define
class ClassName:
    """How a class is found."""

    module: str
    name: str
    tracked: str | None
    """Of one that was sent with its definition: its id."""


@attrs.define
class Argument:
    """One of the arguments: pickled, or what it is shown as."""

    data: bytes | None
    kind: str = ""
    text: str | None = None
    shown: str | None = None


@attrs.define
class Record:
    """One exception."""

    classes: list[ClassName]
    """Its class and the exceptions among the bases, nearest first."""
    text: str | None
    """What it says; None where that cannot be had."""
    args: list[Argument] = attrs.field(factory=list[Argument])
    members: tuple[str, list[int]] | None = None
    """Of a group: its message and the numbers of the exceptions in it."""
    own: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    """What the interpreter keeps beside the arguments."""
    state: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    reduced: bytes | None = None
    """What its own ``__reduce__`` gave."""
    cause: int | None = None
    context: int | None = None
    suppress: bool = False
    places: list[Place] = attrs.field(factory=list[Place])
    hint: str | None = None
    """The name that the interpreter thinks was meant."""


def attempt(get: Callable[[], _T], otherwise: _T) -> _T:
    """What a piece of somebody else's code gives, or, if it raises anything, something else."""
    try:
        return get()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return otherwise


def _is_error(value: object) -> bool:
    return issubclass(type(value), BaseException)  # not isinstance: an object may lie about its class


def text_of(value: object, how: Callable[[object], str] = str) -> str | None:
    """What a value says of itself, or None where it raises instead."""
    return attempt(lambda: "".join([how(value)]), None)  # a plain str, whatever it was


def cut(text: str) -> str:
    """A text of a length that can be sent."""
    more = len(text) - MOST_TEXT
    return text if more <= 0 else f"{text[:MOST_TEXT]} … ({more} characters more)"


class Packer:
    """Takes an exception apart, and all that are behind it and in it."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._numbers: dict[int, int] = {}
        self._left = MOST_BYTES

    def pack(self, error: BaseException) -> bytes:
        """The records of all of them, that of `error` first."""
        self.number(error)
        records: list[Record] = []
        for one in self.errors:  # grows while it is gone through
            bare = Record([ClassName("builtins", "Exception", None)], type(one).__name__)
            records.append(attempt(lambda one=one: self._record(one), bare))
        return pickle.dumps(records, pickle.HIGHEST_PROTOCOL)

    def number(self, error: BaseException | None) -> int | None:
        """The place of an exception among the records; None of none, and where there are too many."""
        if error is None or (id(error) not in self._numbers and len(self.errors) >= MOST_ERRORS):
            return None
        if id(error) not in self._numbers:
            self._numbers[id(error)] = len(self.errors)
            self.errors.append(error)
        return self._numbers[id(error)]

    def _record(self, error: BaseException) -> Record:
        text = text_of(error)
        record = Record(list(_classes(type(error))), text and cut(text))
        record.places = attempt(lambda: places_of(error.__traceback__), [])
        record.cause = self.number(_BASE["__cause__"].__get__(error))
        record.context = self.number(_BASE["__context__"].__get__(error))
        record.suppress = _BASE["__suppress_context__"].__get__(error)
        arguments: tuple[object, ...] = _BASE["args"].__get__(error)
        if is_group(type(error)):
            group = cast("Any", error)
            numbers = [self.number(member) for member in group.exceptions]
            record.members = str(group.message), [number for number in numbers if number is not None]
        else:
            record.args = [self._argument(argument, text or "") for argument in arguments[:MOST_ITEMS]]
        record.own = dict(self._portable(attempt(lambda: list(_own(error)), [])))
        record.state = dict(self._portable(list(dict_of(error).items())))
        if _reduces_itself(type(error)):
            way = attempt(lambda: error.__reduce_ex__(4), None)
            if isinstance(way, tuple):
                record.reduced = self._pickled(way[:3])
        if isinstance(error, (NameError, AttributeError)):
            record.hint = attempt(lambda: _hint(error), None)
        return record

    def _argument(self, value: object, text: str) -> Argument:
        data = self._pickled(value)
        if data is not None:
            return Argument(data)
        # What the message shows of it, and no more.
        said, shown = text_of(value), text_of(value, repr)
        return Argument(
            None,
            type(value).__qualname__,
            cut(said) if said is not None and said in text else None,
            cut(shown) if shown is not None and shown in text else None,
        )

    def _portable(self, items: list[tuple[Any, object]]) -> Iterator[tuple[str, bytes]]:
        for name, value in items:
            data = self._pickled(value)
            if data is None:
                data = attempt(lambda value=value: self._in_part(value), None)
            if data is not None and isinstance(name, str):
                yield name, data

    def _in_part(self, value: Any) -> bytes | None:
        """What can be had of a container."""
        if type(value) in (list, tuple, set, frozenset) and len(value) <= MOST_ITEMS:
            return self._pickled(type(value)(item for item in value if self._pickled(item) is not None))
        if type(value) is dict and len(cast("dict[Any, Any]", value)) <= MOST_ITEMS:
            pairs = cast("dict[Any, Any]", value).items()
            return self._pickled({key: item for key, item in pairs if self._pickled((key, item)) is not None})
        return None

    def _pickled(self, value: object) -> bytes | None:
        file = _Limited(self._left)
        if not attempt(lambda: _Values(file, self).dump(value) or True, False):
            return None
        data = file.getvalue()
        self._left -= len(data)
        return data


class _Limited(io.BytesIO):
    """A file that takes so many bytes and no more."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def write(self, data: Any, /) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("this is too long to be sent with an exception")
        return super().write(data)


class _Values(pickle.Pickler):
    """Pickles a part of an exception: exceptions in it by number, classes that came with their definition by id."""

    def __init__(self, file: io.BytesIO, packer: Packer) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._packer = packer

    def persistent_id(self, obj: Any, /) -> Any:
        if _is_error(obj):
            number = self._packer.number(obj)
            if number is None:
                raise pickle.PicklingError("too many exceptions")
            return "error", number
        if issubclass(type(obj), TracebackType):
            return "traceback", [attrs.astuple(place) for place in places_of(obj)]
        if issubclass(type(obj), type):
            tracked = _tracked(obj)
            if tracked is not None:
                return "class", tracked
        return None


def _tracked(cls: type) -> str | None:
    definitions = sys.modules.get("kart_core.execution.definitions")
    return None if definitions is None else definitions.id_of(cls)


def _classes(cls: type[BaseException]) -> Iterator[ClassName]:
    for base in cls.__mro__:
        if issubclass(base, BaseException):
            yield ClassName(module_name(str(base.__module__)), base.__qualname__, _tracked(base))


def is_group(cls: type) -> bool:
    """Whether it is a class of exception groups."""
    return any(base.__module__ == "builtins" and base.__name__ == "BaseExceptionGroup" for base in cls.__mro__)


def _own(error: BaseException) -> Iterator[tuple[str, object]]:
    """What a class of the interpreter's, or one with slots, keeps outside of ``__dict__``."""
    for base in type(error).__mro__:
        if base in (BaseException, object):
            continue
        kinds = (MemberDescriptorType, GetSetDescriptorType) if base.__module__ == "builtins" else MemberDescriptorType
        for name, place in vars(base).items():
            # The object of an AttributeError may be anything; the members of a group are known.
            if isinstance(place, kinds) and name not in ("obj", "exceptions", "message", "__dict__", "__weakref__"):
                value = attempt(lambda place=place: place.__get__(error, type(error)), None)
                if value is not None:
                    yield name, value


def dict_of(error: BaseException) -> dict[Any, object]:
    """The attributes of an exception, whatever its class makes of asking for them."""
    return _BASE["__dict__"].__get__(error)


def _reduces_itself(cls: type) -> bool:
    return any(
        base.__module__ != "builtins" and ("__reduce__" in vars(base) or "__reduce_ex__" in vars(base))
        for base in cls.__mro__
    )


def _hint(error: BaseException) -> str | None:
    told = "".join(traceback.TracebackException.from_exception(error).format_exception_only())
    found = _HINT.search(told, len(str(error)))
    return found.group(1) if found else None
