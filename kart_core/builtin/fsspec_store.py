"""Results on any filesystem that fsspec knows.

It is as good as what stands behind it: a write is as whole as the filesystem's own
``pipe_file`` (on object stores it is; on SFTP and the like a reader may meet a part, which the
digest in the record then gives away), and of two processes that `create` one file at the same
moment both may be told that they did. Storages that matter have plugins of their own.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from kart_core.builtin.local_store import refuse_way_out
from kart_core.plugin import Stat, Store

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

__all__ = ["FsspecStore"]

_IN_MEMORY = 8 << 20
"""Bytes up to which `FsspecStore.open` keeps the content in memory; larger ones go to a local temporary file."""

_AT_ONCE = 32
"""Requests that `FsspecStore.stat_many` has under way together."""

# What filesystems call that which changes with the content, and the time at which it changed.
_MARKS = ("ETag", "etag", "e_tag", "generation", "md5Hash")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")

_creating = threading.Lock()


class FsspecStore(Store):
    """A store on a filesystem of fsspec.

    The filesystem itself is made when it is first needed, and made anew where a store that was
    pickled arrives.

    Args:
        url: any URL that fsspec takes; files are kept below it.
        options: what the filesystem's constructor takes.

    Raises:
        ImportError: the package that the scheme needs is not installed.
        ValueError: fsspec does not know the scheme.

    Example:
        >>> store = FsspecStore("memory://fsspec_store/example")
        >>> store.create("a/b.txt", b"kart"), store.create("a/b.txt", b"cart")
        (True, False)
        >>> store.read("a/b.txt")
        b'kart'
    """

    def __init__(self, url: str, **options: Any) -> None:
        from fsspec.core import get_filesystem_class  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

        cast("Any", get_filesystem_class)(url.partition("://")[0].partition("::")[0])
        self.url = url
        self._options = options
        self._opened: tuple[Any, str] | None = None

    def __repr__(self) -> str:
        return f"FsspecStore({self.url!r})"  # the options may hold credentials

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def stat(self, path: str) -> Stat | None:
        filesystem, full = self._locate(path)
        try:
            with _as_os_errors(full):
                info = filesystem.info(full)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if info.get("type") == "directory" else _stat(info)

    def stat_many(self, paths: Sequence[str]) -> list[Stat | None]:
        if len(paths) < 2 or not self._open()[0].async_impl:
            return [self.stat(path) for path in paths]
        with ThreadPoolExecutor(min(len(paths), _AT_ONCE)) as threads:
            return list(threads.map(self.stat, paths))

    def read(self, path: str) -> bytes:
        filesystem, full = self._locate(path)
        with _as_os_errors(full):
            return filesystem.cat_file(full)

    def open(self, path: str) -> BinaryIO:
        # The whole content at once: range requests would mix two contents if it is replaced meanwhile.
        found = self.stat(path)
        if found is None:
            raise FileNotFoundError(2, "no such file", self._locate(path)[1])
        if found.size <= _IN_MEMORY:
            return io.BytesIO(self.read(path))
        filesystem, full = self._locate(path)
        file = tempfile.NamedTemporaryFile(prefix=".kart-", suffix=".tmp")  # noqa: SIM115 the caller closes it
        try:
            with _as_os_errors(full):
                filesystem.get_file(full, file.name)
        except BaseException:
            file.close()
            raise
        return cast("BinaryIO", file)

    def put(self, path: str, data: bytes) -> None:
        filesystem, full = self._locate(path)
        with _as_os_errors(full):
            try:
                filesystem.pipe_file(full, data)
            except FileNotFoundError:  # a filesystem with real folders
                filesystem.makedirs(filesystem._parent(full), exist_ok=True)
                filesystem.pipe_file(full, data)

    def put_file(self, path: str, source: str) -> None:
        filesystem, full = self._locate(path)
        with _as_os_errors(full):
            try:
                filesystem.put_file(source, full)
            except FileNotFoundError:
                if not os.path.exists(source):
                    raise
                filesystem.makedirs(filesystem._parent(full), exist_ok=True)
                filesystem.put_file(source, full)
        os.unlink(source)

    def create(self, path: str, data: bytes) -> bool:
        with _creating:
            if self.stat(path) is not None:
                return False
            self.put(path, data)
            return True

    def remove(self, path: str) -> bool:
        if self.stat(path) is None:  # object stores do not say whether there was one
            return False
        filesystem, full = self._locate(path)
        try:
            with _as_os_errors(full):
                filesystem.rm_file(full)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        filesystem, root = self._open()
        folder = prefix.strip("/")
        start = self._locate(folder)[1] if folder else root
        try:
            with _as_os_errors(start):
                found: Mapping[str, dict[str, Any]] = filesystem.find(start, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        below = start.rstrip("/") + "/"
        for name, info in found.items():
            if name.startswith(below) and not name.endswith("/"):
                path = name[len(root.rstrip("/")) + 1 :]
                # Some filesystems tell less of a file in a listing than of one alone.
                stat: Stat | None = _stat(info)
                if not stat.mark:
                    stat = self.stat(path)
                if stat is not None:
                    yield path, stat

    def staging_directory(self, path: str) -> None:  # noqa: ARG002
        return None

    def local_path(self, path: str) -> None:  # noqa: ARG002
        return None

    def _open(self) -> tuple[Any, str]:
        """The filesystem, and the root in its own form."""
        if self._opened is None:
            from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

            # A cached listing goes stale as soon as another process writes.
            options = {"use_listings_cache": False, **self._options}
            with _as_os_errors(self.url):
                filesystem, root = cast("Any", url_to_fs)(self.url, **options)
            self._opened = filesystem, root
        return self._opened

    def _locate(self, path: str) -> tuple[Any, str]:
        refuse_way_out(path)
        filesystem, root = self._open()
        return filesystem, f"{root.rstrip('/')}/{path}"


def _stat(info: Mapping[str, Any]) -> Stat:
    time = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    modified = _seconds(time)
    mark = next((str(info[name]) for name in _MARKS if info.get(name) is not None), None)
    if mark is None and time is not None:
        # As a number where it can be: some filesystems write a time in two ways, alone and in a listing.
        mark = str(time if modified is None else modified)
    return Stat(int(info.get("size") or 0), mark or "", modified)


def _seconds(time: Any) -> float | None:
    if isinstance(time, (int, float)):
        return float(time)
    if isinstance(time, str):
        from datetime import datetime

        try:
            time = datetime.fromisoformat(time.replace("Z", "+00:00"))
        except ValueError:
            return None
    return time.timestamp() if hasattr(time, "timestamp") else None


@contextlib.contextmanager
def _as_os_errors(path: str) -> Generator[None, None, None]:
    """What a storage library raises of its own becomes an `OSError`, as a store promises."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error} ({path})") from error
