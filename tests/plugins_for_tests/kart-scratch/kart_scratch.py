"""Results in the folder for temporary files: ``scratch://name``."""

from __future__ import annotations

import os
import tempfile

from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Plugin, Storage, Store, hookimpl


class Scratch(Plugin):
    @hookimpl
    def kart_storages(self) -> list[Storage]:
        return [Storage("scratch", open=self.open, shared="machine")]

    def open(self, url: str) -> Store:
        return LocalStore(os.path.join(tempfile.gettempdir(), url.removeprefix("scratch://")))
