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
import sys
from functools import reduce
from typing import Any

from kart_core.errors import KartError
from kart_core.execution.error_parts import (
    MOST_TEXT,
    Argument,
    ClassName,
    Packer,
    Record,
    attempt,
    dict_of,
    is_group,
    text_of,
)
from kart_core.execution.frames import Place, traceback_of

_STR_FAILED = "<exception str() failed>"  # as the interpreter says it


def pack(error: BaseException) -> bytes:
    """An exception, with all that is behind it and in it, as bytes for `unpack`.

    Args:
        error: the exception; whatever it holds, nothing is raised.

    Example:
        >>> unpack(pack(KeyError("missing")))
        KeyError('missing')
    """
    return Packer().pack(error)


def unpack(data: bytes) -> BaseException:
    """The exception of which `pack` made the bytes.

    Args:
        data: the bytes.

    Returns:
        It has the class, the arguments and attributes, the notes, the traceback and the chain of
        the original. What cannot be had here is left out. Where its class cannot, it is of a class
        of that name below the nearest base that can.
    """
    made = attempt(lambda: _Unpacker(pickle.loads(data)).all()[0], None)
    return KartError("a task failed in a worker process, and its exception did not arrive") if made is None else made


class _Unpacker:
    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self._made: dict[int, BaseException] = {}
        self._under_way: set[int] = set()

    def all(self) -> list[BaseException]:
        # First all of them, then what they hold, so that they may hold each other.
        errors = [self.error(number) for number in range(len(self._records))]
        for error, record in zip(errors, self._records, strict=True):
            attempt(lambda error=error, record=record: self._fill(error, record), None)
        for error, record in zip(errors, self._records, strict=True):
            attempt(lambda error=error, record=record: _give_text(error, record), None)
        return errors

    def error(self, number: int) -> BaseException:
        if number not in self._made:
            if number in self._under_way:
                raise pickle.UnpicklingError("an exception is among its own arguments")
            self._under_way.add(number)
            self._made[number] = self._new(self._records[number])
        return self._made[number]

    def _new(self, record: Record) -> BaseException:
        cls = _found(record.classes[0])
        if cls is not None and record.reduced is not None:
            made = attempt(lambda: self._by_its_own_way(record), None)
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
            made = attempt(lambda candidate=candidate: _bare(candidate, args), None) if candidate else None
            if made is not None:
                return made
        return _bare(_stand_in(record, Exception) or Exception, (_told(record),))

    def _by_its_own_way(self, record: Record) -> BaseException:
        make, args, *state = self._value(record.reduced or b"")
        made: Any = make(*args)
        if state and state[0] is not None:
            if hasattr(made, "__setstate__"):
                made.__setstate__(state[0])
            else:
                made.__dict__.update(state[0])
        return made

    def _argument(self, argument: Argument) -> object:
        data = argument.data
        instead = _Shown(argument.kind, argument.text, argument.shown)
        return instead if data is None else attempt(lambda: self._value(data), instead)

    def _value(self, data: bytes) -> Any:
        return _Parts(io.BytesIO(data), self).load()

    def _fill(self, error: BaseException, record: Record) -> None:
        nothing = object()
        for name, data in record.own.items():
            value = attempt(lambda data=data: self._value(data), nothing)
            if value is not nothing:
                attempt(lambda name=name, value=value: _set(error, name, value), None)
        held = dict_of(error)
        for name, data in record.state.items():
            value = attempt(lambda data=data: self._value(data), nothing)
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


def _found(one: ClassName) -> type[BaseException] | None:
    """The class in this process."""
    found: Any = None if one.tracked is None else _with_id(one.tracked)
    if found is None and "<" not in one.name:
        found = attempt(lambda: reduce(getattr, one.name.split("."), _module(one.module)), None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _module(name: str) -> Any:
    return sys.modules.get(name) or importlib.import_module(name)


def _stand_in(record: Record, base: type[BaseException]) -> type[BaseException] | None:
    """A class with the name of the original's, which says what the original said."""
    text = _told(record)
    first = record.classes[0]

    def say(_self: BaseException) -> str:
        return text

    body = {"__module__": first.module, "__qualname__": first.name, "__str__": say, "__doc__": base.__doc__}
    return attempt(lambda: type(base)(first.name.rpartition(".")[2], (base,), body), None)


def _bare(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An exception made by the nearest class of the interpreter's own, past the code of those below it."""
    builtin: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    made: Any = attempt(lambda: builtin.__new__(cls, *args), None)
    if type(made) is not cls:
        made = attempt(lambda: builtin.__new__(cls), None)
    if type(made) is not cls:
        made = cls.__new__(cls)
    attempt(lambda: builtin.__init__(made, *args), None)
    if not is_group(cls):
        _set(made, "args", args)
    return made


def _says(error: BaseException, record: Record) -> bool:
    """Whether an exception says what it did."""
    text, told = text_of(error), record.text
    if text is None or told is None:
        return text is told
    if len(told) > MOST_TEXT:  # a part of it may have been cut before it was put together again
        return text[: MOST_TEXT // 2] == told[: MOST_TEXT // 2]
    return text == told


def _give_text(error: BaseException, record: Record) -> None:
    if _says(error, record):
        return
    other = _stand_in(record, type(error))
    try:
        _set(error, "__class__", other)
    except TypeError:  # one of the interpreter's own, which takes its message from the arguments
        _set(error, "args", (_told(record),))


def _told(record: Record) -> str:
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
