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
from kart_core.temporary import clear, new_name, sweep_old

if TYPE_CHECKING:
    from collections.abc import Collection

    from kart_core.plugin import Store

__all__ = ["Ready", "clear_after", "remove"]

_LIFE: Final = 1.0
"""Seconds for which a file is linked."""


class Ready:
    """A file that holds what a lease says.

    Args:
        folder: of the leases, on this machine, with a slash at its end.
        token: of the leases that it is for.
        since: seconds since the epoch.
        data: its content.
        now: seconds, by the clock that leases go by.

    Attributes:
        until: when it is to be linked no more, by the same clock.

    Raises:
        OSError: it cannot be written.
    """

    __slots__ = ("_used", "data", "path", "since", "token", "until")

    def __init__(self, folder: str, token: str, since: float, data: bytes, now: float) -> None:
        self.path = f"{folder}{new_name()}"
        self.token = token
        self.since = since
        self.data = data
        self.until = now + _LIFE
        self._used: dict[str, object] = {}
        with _lock:
            for old in [file for file in _written if file.until <= now]:
                old.remove()
            _written[self] = None
        try:
            _write(self.path, data)
        except BaseException:
            self.remove()
            raise
        sweep_old(folder, self.path)

    def link(self, unique_id: str, name: str) -> bool:
        """Links it, unless it has been linked there before; whether it is the lease of the task now.

        Args:
            unique_id: the task's.
            name: the path of the task's lease, on this machine.
        """
        mine = object()
        if self._used.setdefault(unique_id, mine) is not mine:
            return False
        try:
            os.link(self.path, name)
        except FileExistsError:
            # A network file system may do it, lose the answer, do it again, and find it done.
            with suppress(OSError):
                return os.path.samefile(self.path, name)
            return False
        except OSError:  # there are no links there, or the folder is gone
            return False
        return True

    def remove(self) -> None:
        """Removes it; it is linked no more, and the leases that it has become are as they were."""
        self.until = float("-inf")
        _written.pop(self, None)
        with suppress(OSError):  # it is gone with its folder; or it stays until somebody sweeps
            os.unlink(self.path)


_written: dict[Ready, None] = {}
_lock = Lock()


def remove() -> None:
    """Removes the files of this process that stand ready."""
    with _lock:
        for file in list(_written):
            file.remove()


def clear_after(store: Store, processes: Collection[int]) -> None:
    """Removes the files of processes that were killed, and so could not do it themselves.

    Args:
        store: of a workspace in which they took leases.
        processes: their numbers, on this machine.
    """
    folder = store.local_path(FOLDER)
    if folder is not None:
        clear(folder, processes)


def _in_new_process() -> None:
    """They are left to the process from which this one was forked."""
    global _lock
    _lock = Lock()
    for file in list(_written):
        file.until = float("-inf")
    _written.clear()


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
    with open(descriptor, "wb") as file:
        file.write(data)


atexit.register(remove)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_new_process)
