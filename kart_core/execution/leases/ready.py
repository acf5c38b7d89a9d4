"""A lease's file that stands ready, so that on a local disk a lease costs a name and no file.

Most tasks are short, and to make a file and remove it is most of what a lease of theirs would cost. So a process writes
one file of its own beside the leases, ``.kart-….tmp``, and takes a lease by linking it under the task's name: that is
as exclusive as creating one. Who gives the lease back removes the name.

The leases that share a file are renewed together, which is why it is in use for a second only: then a lease shares its
file with those alone that one process took in that second and still holds. And it is linked once under one name, so
that no task ever has two leases of one content.
"""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final

from kart_core.execution.leases.facts import FOLDER
from kart_core.temporary import clear, new_name, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kart_core.plugin import Store

__all__ = ["Ready", "clear_after", "forget", "ready", "remove"]

_LIFE: Final = 1.0
"""Seconds for which a file is linked."""

_MOST: Final = 8
"""Files that stand ready at the same time: one for each class of tasks that take turns."""


class Ready:
    """A file that holds what a lease says.

    Attributes:
        token: the lease's own.
        since: when it was written, in seconds since the epoch.
        data: its content.
    """

    __slots__ = ("_until", "_used", "data", "path", "since", "token")

    def __init__(self, path: str, token: str, since: float, data: bytes, until: float) -> None:
        self.path = path
        self.token = token
        self.since = since
        self.data = data
        self._until = until
        self._used: dict[str, object] = {}

    def is_fresh(self, now: float) -> bool:
        """Whether it may still be linked."""
        return now < self._until

    def may_be(self, name: str) -> bool:
        """Whether it has never been linked under a name; it counts as linked from now on."""
        mine = object()
        return self._used.setdefault(name, mine) is mine

    def link(self, name: str) -> bool | None:
        """Links it; whether that was the first file of the name, or None where it cannot be linked.

        Args:
            name: the path of the lease, for which `may_be` has said yes.
        """
        try:
            os.link(self.path, name)
        except FileExistsError:
            # A network file system may do it, lose the answer, do it again, and find it done.
            with suppress(FileNotFoundError):
                return os.path.samefile(self.path, name)
            return False
        except OSError:  # there are no links there, or the folder is gone
            return None
        return True


_ready: dict[tuple[str, str, float, float], Ready] = {}
_lock = Lock()


def ready(
    folder: str,
    task: str,
    terms: tuple[float, float],
    now: float,
    write: Callable[[], tuple[str, float, bytes]],
) -> Ready | None:
    """A file that may be linked now; None where there can be none.

    Args:
        folder: of the leases, on this machine, with a slash at its end.
        task: ``module.Class``.
        terms: how long the lease lives, which its content says.
        now: seconds, by the clock that leases go by.
        write: gives the token, the time and the content of a new one.
    """
    key = (folder, task, *terms)
    found = _ready.get(key)
    if found is not None and found.is_fresh(now):
        return found
    with _lock:
        for old in [one for one, file in _ready.items() if not file.is_fresh(now)]:
            _remove(_ready.pop(old))
        if len(_ready) >= _MOST:
            _remove(_ready.pop(next(iter(_ready))))
        token, since, data = write()
        path = f"{folder}{new_name()}"
        made = _ready[key] = Ready(path, token, since, data, now + _LIFE)
        try:
            sweep(folder)
            _write(path, data)
        except BaseException as error:
            _remove(_ready.pop(key))
            if isinstance(error, OSError):
                return None  # whoever writes the lease itself says what is wrong
            raise
    return made


def remove() -> None:
    """Removes the files that stand ready."""
    with _lock:
        for file in list(_ready.values()):
            _remove(file)
        _ready.clear()


def clear_after(store: Store, processes: Collection[int]) -> None:
    """Removes the files of processes that were killed, and so could not do it themselves.

    Args:
        store: of a workspace in which they took leases.
        processes: their numbers, on this machine.
    """
    folder = store.local_path(FOLDER)
    if folder is not None:
        clear(folder, processes)


def forget() -> None:
    """Leaves them to the process from which this one was forked."""
    global _lock
    _lock = Lock()
    _ready.clear()


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _remove(file: Ready) -> None:
    with suppress(OSError):  # it is gone with its folder; or it stays, and is removed when this process is no more
        os.unlink(file.path)


atexit.register(remove)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)
