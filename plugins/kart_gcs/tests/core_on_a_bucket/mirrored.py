"""Local workspaces whose files are really kept in a bucket, with a folder as the window to it.

The core's tests look into ``resources/`` and change what is there by hand. Here everything that kart
reads and writes goes to a bucket; what it wrote stands in the folder too, and what the test changed
in the folder goes to the bucket before kart's next request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO
from urllib.parse import quote

from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Stat, Storage, Store


def install(storages: Any) -> None:
    """Makes a bucket of what kart calls the storage of this machine."""
    storages.RECORDS["kart_storages", "file"] = Storage("file", open=_open, shared="machine")


def _open(url: str) -> Store:
    folder = os.path.abspath(url.removeprefix("file://"))
    if folder.startswith("/proc"):
        return LocalStore(folder)
    from kart_gcs import Gcs

    return Mirrored(folder, Gcs().open(f"{os.environ['CORE_TEST_BUCKET']}/{quote(folder.strip('/'))}"))


class Mirrored(Store):
    """A bucket, and the folder that is a window to it."""

    def __init__(self, folder: str, bucket: Store) -> None:
        self.window = LocalStore(folder)
        self.bucket = bucket
        self.seen: dict[str, tuple[str, int]] | None = None

    def stat(self, path: str) -> Stat | None:
        return self._pushed().stat(path)

    def stat_many(self, paths: Sequence[str]) -> list[Stat | None]:
        return self._pushed().stat_many(paths)

    def read(self, path: str) -> bytes:
        return self._pushed().read(path)

    def open(self, path: str) -> BinaryIO:
        return self._pushed().open(path)

    def put(self, path: str, data: bytes) -> None:
        self._pushed().put(path, data)
        self._show(path, data)

    def put_file(self, path: str, source: str) -> None:
        with open(source, "rb") as file:
            data = file.read()
        self._pushed().put_file(path, source)
        self._show(path, data)

    def create(self, path: str, data: bytes) -> bool:
        made = self._pushed().create(path, data)
        if made:
            self._show(path, data)
        return made

    def remove(self, path: str) -> bool:
        was = self._pushed().remove(path)
        self.window.remove(path)
        self._note(path)
        return was

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        yield from self._pushed().list(prefix)

    def staging_directory(self, path: str) -> None:
        return None

    def local_path(self, path: str) -> None:
        return None

    def _pushed(self) -> Store:
        """The bucket, after what somebody changed in the folder by hand has gone there."""
        now = {path: (stat.mark, stat.size) for path, stat in self.window.list("")}
        if self.seen is None:
            self.seen = {}
            for path, _ in list(self.bucket.list("")):
                if path not in now:
                    self.bucket.remove(path)
                elif self.bucket.read(path) == self.window.read(path):
                    self.seen[path] = now[path]
        for path in self.seen.keys() - now.keys():
            self.bucket.remove(path)
        for path, state in now.items():
            if self.seen.get(path) != state:
                self.bucket.put(path, self.window.read(path))
        self.seen = now
        return self.bucket

    def _show(self, path: str, data: bytes) -> None:
        self.window.put(path, data)
        self._note(path)

    def _note(self, path: str) -> None:
        stat = self.window.stat(path)
        assert self.seen is not None
        if stat is None:
            self.seen.pop(path, None)
        else:
            self.seen[path] = (stat.mark, stat.size)
