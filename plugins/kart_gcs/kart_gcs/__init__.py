"""kart workspaces on Google Cloud Storage: ``gs://bucket/prefix``.

The plugin is found by kart when it is installed. Nothing of Google's libraries is imported before
the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kart_core.plugin import Plugin, Storage, hookimpl
from kart_gcs.settings import GcsSettings

if TYPE_CHECKING:
    from kart_core.plugin import Store

__all__ = ["Gcs", "GcsSettings"]

__version__ = "0.1.0"


class Gcs(Plugin, settings=GcsSettings):
    """Results in buckets of Google Cloud Storage, through gcsfs."""

    settings: GcsSettings

    @hookimpl
    def kart_storages(self) -> list[Storage]:
        """``gs://`` and ``gcs://``, which are the same."""
        return [Storage(scheme, open=self.open) for scheme in ("gs", "gcs")]

    def open(self, url: str) -> Store:
        """The store of a workspace's URL. Nothing is asked of the network.

        Raises:
            StorageError: the URL names no bucket.
        """
        from kart_gcs.store import GcsStore

        return GcsStore(url, self.settings or GcsSettings())
