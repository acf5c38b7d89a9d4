"""The schemes that kart opens by itself: folders of this machine, and memory.

Every other scheme that fsspec knows is opened by `kart_core.builtin.fsspec_store.FsspecStore`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Storage

if TYPE_CHECKING:
    from kart_core.plugin import Store

__all__ = ["RECORDS"]


def _open_local(url: str) -> Store:
    return LocalStore(os.path.abspath(url.removeprefix("file://")))


def _open_memory(url: str) -> Store:
    from kart_core.builtin.memory_store import MemoryStore

    return MemoryStore(url)


RECORDS = {
    ("kart_storages", record.scheme): record
    for record in (
        Storage("file", open=_open_local, shared="machine"),
        # Nobody but this process sees it, and here `create` has one winner.
        Storage("memory", open=_open_memory, shared="process"),
    )
}
"""Each record under its hook and name, as the host looks it up."""
