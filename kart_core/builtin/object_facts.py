"""What is said of objects in a bucket, and of what went wrong with them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from kart_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kart_core.plugin import Stat

__all__ = ["Body", "Condition", "Fault", "Head", "Leftover", "ObjectStoreDenied", "ObjectStoreError", "Page"]


class Fault(NamedTuple):
    """What an error of the client library means.

    ==============  ==========================================================================
    ``missing``     no such object: `FileNotFoundError`, or None or False where a question was asked
    ``unmet``       a condition does not hold: the object exists, or is another than was expected
    ``passing``     it may pass: tried again; then as ``final``. A write may have been done or not
    ``denied``      not allowed: `ObjectStoreDenied`
    ``final``       it will not pass: `ObjectStoreError`
    ==============  ==========================================================================
    """

    kind: Literal["missing", "unmet", "passing", "denied", "final"]
    why: str = ""
    """The cause, in some words, without any secret: ``the secret key is wrong``."""
    advice: str = ""
    """The next step: ``check AWS_SECRET_ACCESS_KEY``."""


class Condition(NamedTuple):
    """Under which condition an object is written."""

    new: bool = False
    """Only if there is no such object."""
    mark: str | None = None
    """Only if the object has this mark."""
    note: str | None = None
    """A text to keep with the object, by which the writer knows its own write again."""


class Head(NamedTuple):
    """What is known of an object without its content."""

    stat: Stat
    note: str | None = None
    """The note with which it was written."""


class Body(NamedTuple):
    """An object's content on its way."""

    stat: Stat
    """Of the whole object, wherever the content begins."""
    chunks: AsyncIterator[bytes]


class Page(NamedTuple):
    """A part of a listing, in the order of keys."""

    entries: Sequence[tuple[str, Stat]]
    token: str | None
    """Asks for the next page; None at the end."""


class Leftover(NamedTuple):
    """What an upload that was killed left in a bucket, invisible to readers."""

    path: str
    """The file that it would have become, relative to the root."""
    upload: Any
    """What `ObjectStore.abort` takes."""
    started: float | None
    """Seconds since the epoch."""


class ObjectStoreError(StorageError, OSError):
    """A request that a bucket refused, or that did not reach it: one sentence with the cause and the next step."""

    number: ClassVar[int] = errno.EIO

    def __init__(self, message: str) -> None:
        OSError.__init__(self, self.number, message)
        self._message = message

    def __str__(self) -> str:
        return self._message

    def __reduce__(self) -> tuple[type[ObjectStoreError], tuple[str]]:
        return type(self), (self._message,)


class ObjectStoreDenied(ObjectStoreError, PermissionError):
    """A request that the credentials do not allow."""

    number = errno.EACCES


class Refused(Exception):
    """A request that failed for good."""

    def __init__(self, fault: Fault, again: bool) -> None:
        super().__init__(fault.why)
        self.fault = fault
        self.again = again  # whether an earlier try may have been done without our hearing of it


def new_note() -> str:
    """What a write of our own is known by when its answer was lost: unique, and not from the user's `random`."""
    return os.urandom(12).hex()
