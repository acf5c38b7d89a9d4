"""What is said of leases: who holds one, what stands in storage, and what can go wrong."""

from __future__ import annotations

import json
import os
import platform
import time
from functools import lru_cache
from typing import Any, Final, NamedTuple

import attrs

from kart_core.errors import KartError
from kart_core.execution.leases.terms import Terms

FOLDER: Final = ".kart/leases"
"""Where the leases of a workspace are."""


@attrs.frozen
class Holder:
    """Who holds a lease, as its content says."""

    task: str = ""
    """``module.Class``."""
    host: str = ""
    process: int = 0
    since: float = 0.0
    """Seconds since the epoch by the holder's clock: for people, and compared with no other clock."""
    expiry: float = Terms().expiry
    """Seconds without a renewal after which the holder itself counts its lease as lost."""
    token: str = ""
    """No two leases have the same."""

    def __str__(self) -> str:
        if not self.token:
            return "somebody"
        return f"process {self.process} on {self.host}, since {_time(self.since)}"


def _time(since: float) -> str:
    then = time.localtime(since)
    form = "%H:%M:%S" if then[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, then)


class Entry(NamedTuple):
    """One file of a lease."""

    number: int
    """1 for the first holder's, one more for each that took over."""
    data: bytes
    mark: str
    """Changes with each renewal."""


Seen = tuple[Entry, ...]
"""What stands in storage of one lease, the lowest number first. It travels between processes."""


def this_host() -> str:
    """The name of this machine, as holders write it."""
    return os.uname().nodename if hasattr(os, "uname") else platform.node()


@lru_cache(maxsize=1)
def _origin(process: int) -> str:
    return f'"host":{json.dumps(this_host())},"process":{process}'


def content(token: str, task: str, since: float, terms: Terms, beat: int) -> bytes:
    """What a holder writes into its lease.

    Args:
        token: the lease's own.
        task: ``module.Class``.
        since: seconds since the epoch.
        terms: for others, who may have other ones.
        beat: the number of the renewal, so that no content is written twice.
    """
    names, rest = _constant(task, os.getpid(), terms)
    return f'{{"token":"{token}",{names},"since":{since:.3f},{rest},"beat":{beat}}}\n'.encode()


@lru_cache(maxsize=64)
def _constant(task: str, process: int, terms: Terms) -> tuple[str, str]:
    """What is the same in all leases of a class: a run takes thousands."""
    names = f'"task":{json.dumps(task)},{_origin(process)}'
    return names, f'"renew_every":{terms.renew_every:g},"expiry":{terms.expiry:g}'


def over(data: bytes) -> bytes:
    """What is written into a lease that was taken over, made of the content of the one that took it."""
    return f'{{"over":"{token_of(data)}"}}\n'.encode()


def token_of(data: bytes) -> str:
    """The token in a lease's content."""
    return holder_of(data).token


def holder_of(data: bytes) -> Holder:
    """Who wrote a lease; somebody unknown where its content cannot be read."""
    try:
        found: dict[str, Any] = json.loads(data)
        expiry = float(found["expiry"])
        return Holder(
            task=str(found["task"]),
            host=str(found["host"]),
            process=int(found["process"]),
            since=float(found["since"]),
            expiry=expiry if 0 < expiry < float("inf") else Terms().expiry,
            token=str(found["token"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Holder()  # half a content, on a file system that cannot create whole files: the next look sees the rest


@attrs.frozen
class Taken:
    """A lease that another holds. It is plain data, and may travel to the process that waits."""

    seen: Seen
    """What stood there."""

    @property
    def holder(self) -> Holder:
        """Who holds it."""
        return holder_of(self.seen[-1].data)

    def __str__(self) -> str:
        return str(self.holder)


class TakenElsewhere(KartError):
    """Another works on the task: come back to it later.

    Attributes:
        taken: who, and what a `Watch` begins with; None where the lease was gone when it was looked at.
    """

    of_leases = True

    def __init__(self, message: str, taken: Taken | None) -> None:
        super().__init__(message)
        self.taken = taken

    def __reduce__(self) -> tuple[type[TakenElsewhere], tuple[str, Taken | None]]:
        return type(self), (str(self), self.taken)


class LostLease(TakenElsewhere):
    """A lease was taken over while its owner worked: the owner's result is not stored, the other's counts."""
