"""What goes to another process: by reference where it can be imported there, otherwise with its definition.

A class or function of a module is pickled by its name, as pickle does it. One that no import
finds (of a notebook or a prompt, local to a function, below ``if __name__ == "__main__":``) is
sent as what it is; `kart_core.execution.definitions` knows how, and is imported when that is needed.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType
from typing import Any

from kart_core.errors import KartError
from kart_core.execution.reference import by_reference, reduced, reference_to

__all__ = ["by_reference", "dumps"]


class _NoReferenceError(Exception):
    """Something was met that the other process cannot import."""


class _ByReference(pickle.Pickler):
    """pickle's own way, which stops at what the other process would look for in vain."""

    def reducer_override(self, value: object, /) -> Any:
        if issubclass(type(value), (type, FunctionType)):
            reference = reference_to(value)
            if reference is None:
                raise _NoReferenceError
            return reduced(value, reference)
        return NotImplemented


def dumps(value: object) -> bytes:
    """A value for another process that has the same ``sys.path``; `pickle.loads` gives it back there.

    A class that travels with its definition is one class there however often it is sent, and has
    the unique ids and the code digest that it has here.

    Args:
        value: the value.

    Raises:
        KartError: the value, or something that a class or function in it uses, can be had in no other process.

    Example:
        >>> pickle.loads(dumps([1, KartError]))
        [1, <class 'kart_core.errors.KartError'>]
        >>> dumps({"reply": (n for n in range(3))})
        Traceback (most recent call last):
        kart_core.errors.KartError: ['reply'] holds a generator, which no other process can have (cannot pickle \
'generator' object); make it where it is used, or run with executor='inline'
    """
    file = io.BytesIO()
    try:
        _ByReference(file, pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()
    except Exception:  # whatever it was, it is the second way that says why
        from kart_core.execution import definitions

    try:
        return definitions.dumps(value)
    except Exception as error:
        from kart_core.execution.culprit import sentence

        raise KartError(sentence(value, error, definitions.dumps)) from error
