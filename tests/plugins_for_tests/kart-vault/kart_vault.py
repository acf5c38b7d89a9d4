"""A storage scheme with settings, one of them secret."""

from __future__ import annotations

import attrs

from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Plugin, Secret, Storage, Store, hookimpl


@attrs.frozen
class VaultSettings:
    token: Secret = attrs.field(metadata={"help": "who you are"})
    root: str = attrs.field(default="/vault", metadata={"help": "where the files lie"})
    retries: int = attrs.field(default=3, validator=attrs.validators.le(9))
    spare_token: Secret | None = None


class Vault(Plugin, settings=VaultSettings):
    settings: VaultSettings

    @hookimpl
    def kart_storages(self) -> list[Storage]:
        if self.settings.token.reveal() == "raise":
            raise RuntimeError(f"cannot open with {self.settings.token.reveal()}")
        return [Storage("vault", open=self.open, shared="machine")]

    def open(self, url: str) -> Store:
        return LocalStore(self.settings.root + "/" + url.removeprefix("vault://"))
