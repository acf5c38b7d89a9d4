"""Results on this machine's file system, by the operating system's own calls.

A file gets its name when it is whole: a reader, or a kill, never meets half a file. Where the system has files
without a name (``O_TMPFILE`` of Linux), what is written is one until then, and a kill leaves nothing; elsewhere, and
where a file is replaced, it stands first in a temporary file of the same folder, ``.kart-….tmp``, and is then renamed.
What a kill leaves is removed by a later process of the same machine that writes there (`kart_core.temporary`).
Permissions follow the umask, so that others who share the disk can read what they could read before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EINVAL, EISDIR, ENOSYS, EOPNOTSUPP, EPERM, EXDEV
from typing import TYPE_CHECKING, BinaryIO

from kart_core.plugin import Stat, Storage, Store
from kart_core.temporary import new_name, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RECORDS", "LocalStore", "refuse_way_out"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_CREATE_NAMELESS = os.O_WRONLY | getattr(os, "O_TMPFILE", 0)
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_FILE_TYPE, _FOLDER = 0o170000, 0o040000
_SMALL = 1 << 14
"""Bytes that most files do not have: one call reads them whole, and nobody need ask first how long they are."""


class LocalStore(Store):
    """A store in a folder of this machine.

    Every write is a hard link or a rename; `create` is a hard link, so that it has one winner, whole, on network
    file systems too.

    Args:
        root: the folder, as an absolute path; it is made when something is first put there.

    Example:
        >>> import tempfile
        >>> store = LocalStore(tempfile.mkdtemp())
        >>> store.put("a/b.txt", b"kart")
        >>> store.read("a/b.txt"), store.stat("a/b.txt").size, store.stat("c.txt")
        (b'kart', 4, None)
    """

    def __init__(self, root: str) -> None:
        if not os.path.isabs(root):
            raise ValueError(f"the root of a local store must be an absolute path, not {root!r}")
        self.root = os.path.normpath(root)
        self._base = self.root.rstrip(os.sep) + os.sep
        self._has_nameless = hasattr(os, "O_TMPFILE")
        self._is_checked = False

    def __repr__(self) -> str:
        return f"LocalStore({self.root!r})"

    def stat(self, path: str) -> Stat | None:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        try:
            found = os.stat(self._base + path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if found.st_mode & _FILE_TYPE == _FOLDER:
            return None
        return Stat(found.st_size, f"{found.st_mtime_ns}", found.st_mtime)

    def stat_many(self, paths: Sequence[str]) -> list[Stat | None]:
        # A plan asks about thousands of files, so this is `stat` written out; and where there is no folder, as before
        # the first run of a class, nothing is asked about the files in it.
        base, stat = self._base, os.stat
        found: list[Stat | None] = []
        folders: set[str] = set()
        missing: set[str] = set()
        for path in paths:
            if ".." in path or path[:1] in ("", "/"):
                refuse_way_out(path)
            if missing and path[: path.rfind("/") + 1] in missing:
                found.append(None)
                continue
            try:
                seen = stat(base + path)
            except (FileNotFoundError, NotADirectoryError):
                found.append(None)
                folder = path[: path.rfind("/") + 1]
                if folder not in folders:
                    (folders if os.path.isdir(base + folder) else missing).add(folder)
                continue
            is_folder = seen.st_mode & _FILE_TYPE == _FOLDER
            found.append(None if is_folder else Stat(seen.st_size, str(seen.st_mtime_ns), seen.st_mtime))
        return found

    def read(self, path: str) -> bytes:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        descriptor = os.open(self._base + path, _READ)
        try:
            data = os.read(descriptor, _SMALL)
            if len(data) < _SMALL:
                return data
            size = os.fstat(descriptor).st_size
            os.lseek(descriptor, 0, os.SEEK_SET)
            data = os.read(descriptor, size + 1)
            while len(data) < size:  # one call gives 2 GiB at most
                more = os.read(descriptor, size - len(data))
                if not more:
                    break
                data += more
            return data
        finally:
            os.close(descriptor)

    def open(self, path: str) -> BinaryIO:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        return open(self._base + path, "rb")

    def put(self, path: str, data: bytes) -> None:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        # Each result and each record goes this way. To rename would take the folder twice, for which others wait.
        if self._has_nameless and self._put_nameless(path, data):
            return
        temporary = self._write_temporary(path, data)
        try:
            os.replace(temporary, self._base + path)
        except BaseException:
            with suppress(FileNotFoundError):  # an interrupt may come when it has its name already
                os.unlink(temporary)
            raise

    def put_file(self, path: str, source: str) -> None:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        try:
            os.replace(source, self._base + path)
        except FileNotFoundError:
            if not os.path.exists(source):
                raise
            os.makedirs(os.path.dirname(self._base + path), exist_ok=True)
            self.put_file(path, source)
        except OSError as error:
            if error.errno != EXDEV:
                raise
            self._copy(path, source)
            os.unlink(source)

    def create(self, path: str, data: bytes) -> bool:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        temporary = self._write_temporary(path, data)
        try:
            os.link(temporary, self._base + path)
            return True
        except FileExistsError:
            # A network file system may do it, lose the answer, do it again, and find it done.
            return os.stat(temporary).st_nlink == 2
        except OSError:
            return self._create_without_links(path, data)
        finally:
            with suppress(FileNotFoundError):  # whether it is there says nothing about the other
                os.unlink(temporary)

    def remove(self, path: str) -> bool:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        try:
            os.unlink(self._base + path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        prefix = prefix.strip("/")
        if ".." in prefix:
            refuse_way_out(prefix)
        folders = [f"{prefix}/" if prefix else ""]
        while folders:
            folder = folders.pop()
            try:
                entries = os.scandir(self._base + folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            with entries:
                for entry in entries:
                    name = entry.name
                    if entry.is_dir():
                        if not (entry.is_symlink() and self._leads_back(folder, name)):
                            folders.append(f"{folder}{name}/")
                    elif not (name.startswith(".") and name.endswith(".tmp")):
                        found = self.stat(folder + name)
                        if found is not None:
                            yield folder + name, found

    def staging_directory(self, path: str) -> str:
        directory = os.path.dirname(self.local_path(path))
        os.makedirs(directory, exist_ok=True)
        return directory

    def local_path(self, path: str) -> str:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        return self._base + path

    def _put_nameless(self, path: str, data: bytes) -> bool:
        """Writes a file that has no name until it is whole; whether that can be done here."""
        target = self._base + path
        folder = target[: target.rfind("/") + 1]
        sweep(folder)
        try:
            try:
                descriptor = os.open(folder, _CREATE_NAMELESS, 0o666)
            except FileNotFoundError:
                os.makedirs(folder, exist_ok=True)
                descriptor = os.open(folder, _CREATE_NAMELESS, 0o666)
        except OSError as error:
            return self._lacks(error)
        try:
            if not self._is_checked:
                self._is_checked = True
                if not _heeds_umask(descriptor):
                    self._has_nameless = False
                    return False
            written = os.write(descriptor, data)
            if written < len(data):
                _write_rest(descriptor, data, written)
            source = f"/proc/self/fd/{descriptor}"
            try:
                os.link(source, target, src_dir_fd=descriptor, follow_symlinks=True)
            except FileExistsError:
                self._replace(source, descriptor, target, f"{folder}{new_name()}")
            except OSError as error:
                return self._lacks(error)
        finally:
            os.close(descriptor)
        return True

    def _lacks(self, error: OSError) -> bool:
        """Notes what there is not, on this file system or at all; whatever else is wrong, the other way says."""
        lacking = error.errno in (EOPNOTSUPP, EISDIR, EINVAL, ENOSYS, EPERM) or not os.path.exists("/proc/self/fd")
        self._has_nameless = not lacking
        return False

    def _replace(self, source: str, descriptor: int, target: str, temporary: str) -> None:
        """Puts a file without a name in the place of another."""
        try:
            os.link(source, temporary, src_dir_fd=descriptor, follow_symlinks=True)
            os.replace(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):  # an interrupt may come when it has its name already
                os.unlink(temporary)
            raise

    def _write_temporary(self, path: str, data: bytes) -> str:
        """A new file with the content, next to `path`; its name is given back."""
        temporary, descriptor = self._open_temporary(path)
        try:
            try:
                _write_rest(descriptor, data, 0)
            finally:
                os.close(descriptor)
        except BaseException:
            with suppress(FileNotFoundError):  # an interrupt may come when it has its name already
                os.unlink(temporary)
            raise
        return temporary

    def _open_temporary(self, path: str) -> tuple[str, int]:
        folder = self._base + path[: path.rfind("/") + 1]
        sweep(folder)
        # A short name, whatever the file's is: the kernel goes through it at each step.
        name = f"{folder}{new_name()}"
        try:
            return name, os.open(name, _CREATE, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(name), exist_ok=True)
            return name, os.open(name, _CREATE, 0o666)

    def _copy(self, path: str, source: str) -> None:
        """Puts a copy of a file of another file system."""
        from shutil import copyfileobj

        temporary, descriptor = self._open_temporary(path)
        try:
            with open(source, "rb") as read, open(descriptor, "wb") as write:
                copyfileobj(read, write, 1 << 20)
            os.replace(temporary, self._base + path)
        except BaseException:
            with suppress(FileNotFoundError):  # an interrupt may come when it has its name already
                os.unlink(temporary)
            raise

    def _create_without_links(self, path: str, data: bytes) -> bool:
        """Exclusive still, on a file system without hard links; but a reader may meet the file half written."""
        target = self._base + path
        try:
            descriptor = os.open(target, _CREATE, 0o666)
        except FileExistsError:
            return False
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
        except BaseException:
            os.unlink(target)
            raise
        return True

    def _leads_back(self, folder: str, name: str) -> bool:
        """Whether a link to a folder leads to one that holds it: following it would never end."""
        held_by = os.path.realpath(self._base + folder) + os.sep
        return held_by.startswith(os.path.join(os.path.realpath(self._base + folder + name), ""))


def _heeds_umask(descriptor: int) -> bool:
    """Whether a new file without a name has the permissions that it should: some kernels before 5.19 forget them."""
    with suppress(OSError, ValueError):
        status = os.open("/proc/self/status", os.O_RDONLY)
        try:
            told = os.read(status, 4096)
        finally:
            os.close(status)
        _, found, rest = told.partition(b"\nUmask:")
        return bool(found) and not os.fstat(descriptor).st_mode & int(rest.split(None, 1)[0], 8)
    return False


def _write_rest(descriptor: int, data: bytes, written: int) -> None:
    while written < len(data):  # one call takes 2 GiB at most
        written += os.write(descriptor, memoryview(data)[written:])


def refuse_way_out(path: str) -> None:
    """Raises `ValueError` if a path is not one of a file below a store's root.

    Example:
        >>> refuse_way_out("a/b..c.txt")
        >>> refuse_way_out("a/../../b.txt")
        Traceback (most recent call last):
        ValueError: the path 'a/../../b.txt' leads out of the workspace: give one without '..', relative to it
    """
    if not path:
        raise ValueError("the path of a file in the workspace is empty")
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"the path {path!r} leads out of the workspace: give one without '..', relative to it")


def _open(url: str) -> Store:
    return LocalStore(os.path.abspath(url.removeprefix("file://")))


RECORDS = {("kart_storages", "file"): Storage("file", open=_open, shared="machine")}
"""Each record under its hook and name, as the host looks it up."""
