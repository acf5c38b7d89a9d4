"""Temporary files, named so that what a killed process left behind can be told and removed.

A name is ``.kart-HOST-PLACE-PID-START-NUMBER.tmp``: a digest of the machine's name; one of what
gives process numbers their meaning there, which is its last start and the container; the process and
when it began. A file is removed only where it is certain that nobody writes to it any more:

- another machine's: never, since a disk may be shared;
- of the same place: when its process is gone;
- of this machine before its last start, or of another container: when nobody has touched it for a day.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from kart_core.digest import blake2b

if TYPE_CHECKING:
    from collections.abc import Collection

_UNTOUCHED: Final = 24 * 3600.0
"""Seconds after which a file of a process that cannot be asked for is taken for left behind."""

_MOST: Final = 10_000
"""Files of a folder that are looked at where a small one is written: some milliseconds."""

_NAME = re.compile(
    r"\.kart-(?P<host>[0-9a-f]{6})-(?P<place>[0-9a-f]{6})-(?P<pid>\d{1,9})-(?P<start>\d+)-[0-9a-f]+\.tmp\Z"
)

_number = count()
_own = ""  # the beginning of this process's names; made at first need
_swept: set[str] = set()
_swept_wholly: set[str] = set()
_swept_of_old: set[str] = set()


def _forget() -> None:
    global _own
    _own = ""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def new_name() -> str:
    """The name of a new temporary file, ``.kart-….tmp``.

    Example:
        >>> new_name() == new_name(), new_name().startswith(".kart-")
        (False, True)
    """
    return f"{_own or _made()}{next(_number):x}.tmp"


def sweep(folder: str, *, wholly: bool = False) -> None:
    """Removes what killed processes left in a folder; at most once per process, for it lists the folder.

    Args:
        folder: the folder, with a slash at its end.
        wholly: to list it to its end, as large files are worth; otherwise of very many files some are looked at.
    """
    swept = _swept_wholly if wholly else _swept
    if folder in swept:
        return
    swept.add(folder)
    if os.name != "posix":  # elsewhere, to ask for a process by its number may end it
        return
    try:
        with os.scandir(folder) as entries:
            some = entries if wholly else islice(entries, _MOST)
            found = [name for entry in some if (name := entry.name)[0] == "." and name[-4:] == ".tmp"]
    except OSError:  # it is not there yet, or may not be listed: then it is not for us to clean
        return
    for name in found:
        path = os.path.join(folder, name)
        if _is_left(path, name):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # another was faster, or it is another's
                os.unlink(path)


def clear(folder: str, processes: Collection[int]) -> None:
    """Removes what processes of this machine left in a folder that are known to have ended.

    Args:
        folder: the folder.
        processes: their numbers.
    """
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            parts = _NAME.match(name)
            if parts is None or int(parts["pid"]) not in processes or parts["host"] != _host():
                continue
            # A number may be another's by now.
            if parts["place"] == _place() and _is_gone(int(parts["pid"]), parts["start"]):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def sweep_old(folder: str, new: str) -> None:
    """Removes temporary files of any machine that are a day older than another; at most once per process and folder.

    For folders of which every temporary file is gone within minutes, however long its process lives.

    Args:
        folder: the folder, with a slash at its end.
        new: a file that was written there just now: by the storage's clock.
    """
    if folder in _swept_of_old:
        return
    _swept_of_old.add(folder)
    with contextlib.suppress(OSError):
        limit = os.stat(new).st_mtime - _UNTOUCHED
        with os.scandir(folder) as entries:
            for entry in entries:
                if _NAME.match(entry.name) and entry.stat().st_mtime < limit:
                    os.unlink(entry.path)


def _is_left(path: str, name: str) -> bool:
    parts = _NAME.match(name)
    if parts is None or parts["host"] != _host():
        return False
    if parts["place"] == _place():
        return _is_gone(int(parts["pid"]), parts["start"])
    try:
        return time.time() - os.stat(path).st_mtime > _UNTOUCHED
    except FileNotFoundError:
        return False


def _is_gone(pid: int, start: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # it is another user's
    state, began = _asked(pid)
    return state == "Z" or (began != start and "0" not in (began, start))  # not buried yet, or its number is another's


def _asked(pid: int) -> tuple[str, str]:
    """The state of a process and when it began, in ticks of its machine; `"0"` where the system does not say."""
    text = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (text[0], text[19]) if len(text) > 19 else ("", "0")


def _made() -> str:
    global _own
    pid = os.getpid()
    # Not from `random`: that stream belongs to the user.
    _own = f".kart-{_host()}-{_place()}-{pid}-{_asked(pid)[1]}-{os.urandom(3).hex()}"
    return _own


def _host() -> str:
    return _short(os.uname().nodename if hasattr(os, "uname") else "")


def _place() -> str:
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return _short(f"{_read('/proc/sys/kernel/random/boot_id')}/{container}")


def _short(text: str) -> str:
    return blake2b(text.encode(errors="surrogateescape"), digest_size=3).hexdigest()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # only Linux has such files
        return ""
