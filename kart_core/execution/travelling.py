"""How an exception goes from the process where it was raised to the one that reports it.

Nothing here raises: an exception that pickle does not take, or that cannot be made again, arrives
as near to what it was as it can be had. So an exception is taken apart, and each of its parts
travels, or does not, for itself: its class by name, its arguments and attributes each in a pickle
of its own, the exceptions behind it and in it by number, its traceback as the places that it
names. It is put together without its ``__init__``; if it then says something else than it did, it
is given the message that it had.
"""

from __future__ import annotations

import importlib
import io
import pickle
import re
import sys
import traceback
from functools import reduce
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import attrs

from kart_core.errors import KartError
from kart_core.execution.frames import Place, places_of, traceback_of
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

_STR_FAILED = "<exception str() failed>"  # as the interpreter says it
_BASE = vars(BaseException)
_HINT = re.compile(r"Did you mean: '(\S+)'\?")

_T = TypeVar("_T")


@attrs.define
class _Class:
    """How a class is found."""

    module: str
    name: str
    tracked: str | None
    """Of one that was sent with its definition: its id."""


@attrs.define
class _Argument:
    """One of the arguments: pickled, or what it is shown as."""

    data: bytes | None
    kind: str = ""
    text: str | None = None
    shown: str | None = None


@attrs.define
class _Record:
    """One exception."""

    classes: list[_Class]
    """Its class and the exceptions among the bases, nearest first."""
    text: str | None
    """What it says; None where that cannot be had."""
    args: list[_Argument] = attrs.field(factory=list[_Argument])
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


def pack(error: BaseException) -> bytes:
    """An exception, with all that is behind it and in it, as bytes for `unpack`.

    Args:
        error: the exception; whatever it holds, nothing is raised.

    Example:
        >>> unpack(pack(KeyError("missing")))
        KeyError('missing')
    """
    return _Packer().pack(error)


def unpack(data: bytes) -> BaseException:
    """The exception of which `pack` made the bytes.

    Args:
        data: the bytes.

    Returns:
        It has the class, the arguments and attributes, the notes, the traceback and the chain of
        the original. What cannot be had here is left out. Where its class cannot, it is of a class
        of that name below the nearest base that can.
    """
    made = _attempt(lambda: _Unpacker(pickle.loads(data)).all()[0], None)
    return KartError("a task failed in a worker process, and its exception did not arrive") if made is None else made


def _attempt(get: Callable[[], _T], otherwise: _T) -> _T:
    """What a piece of somebody else's code gives, or, if it raises anything, something else."""
    try:
        return get()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return otherwise


def _is_error(value: object) -> bool:
    return issubclass(type(value), BaseException)  # not isinstance: an object may lie about its class


def _text_of(value: object, how: Callable[[object], str] = str) -> str | None:
    return _attempt(lambda: "".join([how(value)]), None)  # a plain str, whatever it was


def _cut(text: str) -> str:
    more = len(text) - MOST_TEXT
    return text if more <= 0 else f"{text[:MOST_TEXT]} … ({more} characters more)"


# --- taking apart


class _Packer:
    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._numbers: dict[int, int] = {}
        self._left = MOST_BYTES

    def pack(self, error: BaseException) -> bytes:
        self.number(error)
        records: list[_Record] = []
        for one in self.errors:  # grows while it is gone through
            bare = _Record([_Class("builtins", "Exception", None)], type(one).__name__)
            records.append(_attempt(lambda one=one: self._record(one), bare))
        return pickle.dumps(records, pickle.HIGHEST_PROTOCOL)

    def number(self, error: BaseException | None) -> int | None:
        if error is None or (id(error) not in self._numbers and len(self.errors) >= MOST_ERRORS):
            return None
        if id(error) not in self._numbers:
            self._numbers[id(error)] = len(self.errors)
            self.errors.append(error)
        return self._numbers[id(error)]

    def _record(self, error: BaseException) -> _Record:
        text = _text_of(error)
        record = _Record(list(_classes(type(error))), text and _cut(text))
        record.places = _attempt(lambda: places_of(error.__traceback__), [])
        record.cause = self.number(_BASE["__cause__"].__get__(error))
        record.context = self.number(_BASE["__context__"].__get__(error))
        record.suppress = _BASE["__suppress_context__"].__get__(error)
        arguments: tuple[object, ...] = _BASE["args"].__get__(error)
        if _is_group(type(error)):
            group = cast("Any", error)
            numbers = [self.number(member) for member in group.exceptions]
            record.members = str(group.message), [number for number in numbers if number is not None]
        else:
            record.args = [self._argument(argument, text or "") for argument in arguments[:MOST_ITEMS]]
        record.own = dict(self._portable(_attempt(lambda: list(_own(error)), [])))
        record.state = dict(self._portable(list(_dict_of(error).items())))
        if _reduces_itself(type(error)):
            way = _attempt(lambda: error.__reduce_ex__(4), None)
            if isinstance(way, tuple):
                record.reduced = self._pickled(way[:3])
        if isinstance(error, (NameError, AttributeError)):
            record.hint = _attempt(lambda: _hint(error), None)
        return record

    def _argument(self, value: object, text: str) -> _Argument:
        data = self._pickled(value)
        if data is not None:
            return _Argument(data)
        # What the message shows of it, and no more.
        said, shown = _text_of(value), _text_of(value, repr)
        return _Argument(
            None,
            type(value).__qualname__,
            _cut(said) if said is not None and said in text else None,
            _cut(shown) if shown is not None and shown in text else None,
        )

    def _portable(self, items: list[tuple[Any, object]]) -> Iterator[tuple[str, bytes]]:
        for name, value in items:
            data = self._pickled(value)
            if data is None:
                data = _attempt(lambda value=value: self._in_part(value), None)
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
        if not _attempt(lambda: _Values(file, self).dump(value) or True, False):
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

    def __init__(self, file: io.BytesIO, packer: _Packer) -> None:
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


def _classes(cls: type[BaseException]) -> Iterator[_Class]:
    for base in cls.__mro__:
        if issubclass(base, BaseException):
            yield _Class(module_name(str(base.__module__)), base.__qualname__, _tracked(base))


def _is_group(cls: type) -> bool:
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
                value = _attempt(lambda place=place: place.__get__(error, type(error)), None)
                if value is not None:
                    yield name, value


def _dict_of(error: BaseException) -> dict[Any, object]:
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


# --- putting together


class _Unpacker:
    def __init__(self, records: list[_Record]) -> None:
        self._records = records
        self._made: dict[int, BaseException] = {}
        self._under_way: set[int] = set()

    def all(self) -> list[BaseException]:
        # First all of them, then what they hold, so that they may hold each other.
        errors = [self.error(number) for number in range(len(self._records))]
        for error, record in zip(errors, self._records, strict=True):
            _attempt(lambda error=error, record=record: self._fill(error, record), None)
        for error, record in zip(errors, self._records, strict=True):
            _attempt(lambda error=error, record=record: _give_text(error, record), None)
        return errors

    def error(self, number: int) -> BaseException:
        if number not in self._made:
            if number in self._under_way:
                raise pickle.UnpicklingError("an exception is among its own arguments")
            self._under_way.add(number)
            self._made[number] = self._new(self._records[number])
        return self._made[number]

    def _new(self, record: _Record) -> BaseException:
        cls = _found(record.classes[0])
        if cls is not None and record.reduced is not None:
            made = _attempt(lambda: self._by_its_own_way(record), None)
            if made is not None and type(made) is cls and _says(made, record):
                return made
        args = tuple(self._argument(argument) for argument in record.args)
        members: list[BaseException] = []
        if record.members is not None:
            members = [self.error(number) for number in record.members[1]]
            args = (record.members[0], members)
        candidates = (
            cls if cls is not None and not at else _stand_in(record, base)
            for at, one in enumerate(record.classes)
            if (base := _found(one)) is not None
        )
        for candidate in candidates:
            made = _attempt(lambda candidate=candidate: _bare(candidate, args), None) if candidate else None
            if made is not None:
                return made
        return _bare(_stand_in(record, Exception) or Exception, (_told(record),))

    def _by_its_own_way(self, record: _Record) -> BaseException:
        make, args, *state = self._value(record.reduced or b"")
        made: Any = make(*args)
        if state and state[0] is not None:
            if hasattr(made, "__setstate__"):
                made.__setstate__(state[0])
            else:
                made.__dict__.update(state[0])
        return made

    def _argument(self, argument: _Argument) -> object:
        data = argument.data
        instead = _Shown(argument.kind, argument.text, argument.shown)
        return instead if data is None else _attempt(lambda: self._value(data), instead)

    def _value(self, data: bytes) -> Any:
        return _Parts(io.BytesIO(data), self).load()

    def _fill(self, error: BaseException, record: _Record) -> None:
        nothing = object()
        for name, data in record.own.items():
            value = _attempt(lambda data=data: self._value(data), nothing)
            if value is not nothing:
                _attempt(lambda name=name, value=value: _set(error, name, value), None)
        held = _dict_of(error)
        for name, data in record.state.items():
            value = _attempt(lambda data=data: self._value(data), nothing)
            if value is not nothing:
                held.setdefault(name, value)
        here: dict[str, Any] = {}
        if record.hint is not None:
            here = _hinted(error, record.hint)
        _set(error, "__traceback__", traceback_of(record.places, here))
        _set(error, "__cause__", None if record.cause is None else self._made[record.cause])
        _set(error, "__context__", None if record.context is None else self._made[record.context])
        _set(error, "__suppress_context__", record.suppress)


class _Parts(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, unpacker: _Unpacker) -> None:
        super().__init__(file)
        self._unpacker = unpacker

    def persistent_load(self, pid: Any, /) -> Any:
        kind, what = pid
        if kind == "error":
            return self._unpacker.error(what)
        if kind == "traceback":
            return traceback_of([Place(*place) for place in what])
        found = _with_id(what)
        if found is None:
            raise pickle.UnpicklingError("the class is not known here")
        return found


class _Shown:
    """Stands for an argument that could not be sent."""

    def __init__(self, kind: str, text: str | None, shown: str | None) -> None:
        self._text = text if text is not None else f"<{kind}>"
        self._shown = shown if shown is not None else f"<{kind}>"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._shown


def _set(error: BaseException, name: str, value: object) -> None:
    BaseException.__setattr__(error, name, value)  # not what a class makes of setting an attribute


def _with_id(tracked: str) -> type | None:
    definitions = sys.modules.get("kart_core.execution.definitions")
    return None if definitions is None else definitions.class_with(tracked)


def _found(one: _Class) -> type[BaseException] | None:
    """The class in this process."""
    found: Any = None if one.tracked is None else _with_id(one.tracked)
    if found is None and "<" not in one.name:
        found = _attempt(lambda: reduce(getattr, one.name.split("."), _module(one.module)), None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _module(name: str) -> Any:
    return sys.modules.get(name) or importlib.import_module(name)


def _stand_in(record: _Record, base: type[BaseException]) -> type[BaseException] | None:
    """A class with the name of the original's, which says what the original said."""
    text = _told(record)
    first = record.classes[0]

    def say(_self: BaseException) -> str:
        return text

    body = {"__module__": first.module, "__qualname__": first.name, "__str__": say, "__doc__": base.__doc__}
    return _attempt(lambda: type(base)(first.name.rpartition(".")[2], (base,), body), None)


def _bare(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An exception made by the nearest class of the interpreter's own, past the code of those below it."""
    builtin: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    made: Any = _attempt(lambda: builtin.__new__(cls, *args), None)
    if type(made) is not cls:
        made = _attempt(lambda: builtin.__new__(cls), None)
    if type(made) is not cls:
        made = cls.__new__(cls)
    _attempt(lambda: builtin.__init__(made, *args), None)
    if not _is_group(cls):
        _set(made, "args", args)
    return made


def _says(error: BaseException, record: _Record) -> bool:
    """Whether an exception says what it did."""
    text, told = _text_of(error), record.text
    if text is None or told is None:
        return text is told
    if len(told) > MOST_TEXT:  # a part of it may have been cut before it was put together again
        return text[: MOST_TEXT // 2] == told[: MOST_TEXT // 2]
    return text == told


def _give_text(error: BaseException, record: _Record) -> None:
    if _says(error, record):
        return
    other = _stand_in(record, type(error))
    try:
        _set(error, "__class__", other)
    except TypeError:  # one of the interpreter's own, which takes its message from the arguments
        _set(error, "args", (_told(record),))


def _told(record: _Record) -> str:
    return _STR_FAILED if record.text is None else record.text


def _hinted(error: BaseException, hint: str) -> dict[str, Any]:
    """Lets the interpreter find the name again that was meant: the variables of the last frame for it."""
    if isinstance(error, AttributeError):
        _set(error, "obj", _Named(hint))
        return {}
    name, dot, _ = hint.partition(".")
    return {name: _Named(str(getattr(error, "name", ""))) if dot else None}


class _Named:
    """Stands for an object of which one attribute is known by name."""

    def __init__(self, name: str) -> None:
        self.__dict__[name] = None

    def __dir__(self) -> list[str]:
        return list(self.__dict__)
