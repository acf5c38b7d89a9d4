"""A value that a parameter's annotation does not take, told as facts: what was expected, what was given."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _short.maxfrozenset = 4
_short.maxlevel = 3


class ParameterFault(ValueError):
    """A value that an annotation does not take.

    It names neither task nor field: whoever asked knows them, and adds them.

    Args:
        expected: what the annotation takes, in the words of `describe`, perhaps with the form
            in which it is written.
        given: what was given instead, shortened. It shows the value: where that is private, take
            `kind` instead.
        kind: the type of what was given, which shows nothing of the value.
        faults: where one value has several faults, each as a sentence with the place of it;
            otherwise empty.

    Example:
        >>> fault = ParameterFault("int", "'x' (str)", kind="str")
        >>> str(fault)
        "expected int, given 'x' (str)"
        >>> fault.hidden()
        ParameterFault('expected int, given a value of type str')
    """

    def __init__(self, expected: str, given: str, *, kind: str, faults: Sequence[str] = ()) -> None:
        super().__init__(expected, given)
        self.expected = expected
        self.given = given
        self.kind = kind
        self.faults = tuple(faults)

    def __str__(self) -> str:
        message = f"expected {self.expected}, given {self.given}"
        return message if not self.faults else message + "".join(f"\n  {fault}" for fault in self.faults)

    def __repr__(self) -> str:
        return f"ParameterFault({str(self)!r})"

    def hidden(self) -> ParameterFault:
        """The same fault without the value, for parameters that are private."""
        return ParameterFault(self.expected, f"a value of type {self.kind}", kind=self.kind)


def show(value: object) -> str:
    """A value in few characters, with its type: ``'x' (str)``."""
    if value is None:
        return "None"
    return f"{_short.repr(value)} ({type_name(value)})"


def type_name(value: object) -> str:
    """The name of a value's type, read-only lists and dictionaries by the names that users know."""
    name = type(value).__qualname__
    return {"FrozenList": "list", "FrozenDict": "dict"}.get(name, name)


def fault(expected: str, value: object) -> ParameterFault:
    """The fault of a value that was given where something else was expected."""
    return ParameterFault(expected, show(value), kind=type_name(value))


def text_fault(expected: str, text: str) -> ParameterFault:
    """The fault of a text that is not of the expected form."""
    return ParameterFault(expected, show_text(text), kind="str")


def show_text(text: str) -> str:
    """A text in few characters, in quotes."""
    return repr(text if len(text) <= 60 else text[:57] + "…")


def placed(place: str, error: BaseException) -> list[str]:
    """The faults of a part as faults of the whole, each a sentence that begins with the place."""
    if isinstance(error, ParameterFault) and error.faults:
        return [f"{place}, {fault}" for fault in error.faults]
    if isinstance(error, KeyError):
        return [f"{place} is missing"]
    return [f"{place}: {error}"]
