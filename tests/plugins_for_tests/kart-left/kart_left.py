"""One of two distributions that announce the scheme ``both``."""

from __future__ import annotations

from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Plugin, Storage, hookimpl


class Left(Plugin):
    @hookimpl
    def kart_storages(self) -> list[Storage]:
        return [Storage("both", open=lambda url: LocalStore("/left"), shared="machine")]
