"""Results in the memory of this process, where fsspec's own ``memory://`` sees them too."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from kart_core.builtin.local_store import refuse_way_out
from kart_core.plugin import Stat, Storage, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RECORDS", "MemoryStore"]


class MemoryStore(Store):
    """A store on fsspec's filesystem in memory.

    It goes to that filesystem's dictionary of files directly, because the filesystem's own
    functions look at every file to answer about one, and write in two steps.

    Args:
        url: ``memory://`` and the folder in it.

    Example:
        >>> store = MemoryStore("memory://memory_store/example")
        >>> store.put("a.txt", b"kart")
        >>> import fsspec
        >>> fsspec.filesystem("memory").cat("/memory_store/example/a.txt")
        b'kart'
    """

    def __init__(self, url: str) -> None:
        from fsspec.implementations.memory import MemoryFile, MemoryFileSystem  # pyright: ignore[reportMissingTypeStubs]

        self.url = url
        self._new_file: Any = MemoryFile
        self._filesystem: Any = cast("Any", MemoryFileSystem)()
        self._root = self._filesystem._strip_protocol(url) + "/"

    def __repr__(self) -> str:
        return f"MemoryStore({self.url!r})"

    def __reduce__(self) -> tuple[type[MemoryStore], tuple[str]]:
        return MemoryStore, (self.url,)

    def stat(self, path: str) -> Stat | None:
        file = self._files.get(self._locate(path))
        return None if file is None else _stat(file)

    def stat_many(self, paths: Sequence[str]) -> list[Stat | None]:
        return [self.stat(path) for path in paths]

    def read(self, path: str) -> bytes:
        full = self._locate(path)
        file = self._files.get(full)
        if file is None:
            raise FileNotFoundError(2, "no such file in memory", full)
        return file.getvalue()

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))  # without a copy: the bytes are shared until somebody writes

    def put(self, path: str, data: bytes) -> None:
        full = self._locate(path)
        self._files[full] = self._new_file(self._filesystem, full, data)

    def put_file(self, path: str, source: str) -> None:
        with open(source, "rb") as file:
            self.put(path, file.read())
        os.unlink(source)

    def create(self, path: str, data: bytes) -> bool:
        full = self._locate(path)
        file = self._new_file(self._filesystem, full, data)
        return self._files.setdefault(full, file) is file

    def remove(self, path: str) -> bool:
        return self._files.pop(self._locate(path), None) is not None

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        folder = prefix.strip("/")
        below = self._locate(folder) + "/" if folder else self._root
        for full, file in self._files.copy().items():
            if full.startswith(below):
                yield full[len(self._root) :], _stat(file)

    def staging_directory(self, path: str) -> None:  # noqa: ARG002
        return None

    def local_path(self, path: str) -> None:  # noqa: ARG002
        return None

    @property
    def _files(self) -> dict[str, Any]:
        return self._filesystem.store

    def _locate(self, path: str) -> str:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        return self._root + path


def _stat(file: Any) -> Stat:
    return Stat(file.size, file.modified.isoformat(), file.modified.timestamp())


# Nobody but this process sees it, and here `create` has one winner.
RECORDS = {("kart_storages", "memory"): Storage("memory", open=MemoryStore, shared="process")}
"""Each record under its hook and name, as the host looks it up."""
