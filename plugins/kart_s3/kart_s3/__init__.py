"""Workspaces on Amazon S3 and on servers that speak its protocol: ``s3://bucket/prefix``.

Example::

    kart-core run pipeline:Total --workspace-directory s3://bucket/results

Credentials are found as every tool of AWS finds them: in the environment, in shared files, by
roles. `S3Settings` says what else can be set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kart_core.plugin import Plugin, Storage, hookimpl
from kart_s3.settings import S3Settings

if TYPE_CHECKING:
    from kart_core.plugin import Store

__all__ = ["S3", "S3Settings"]

__version__ = "0.1.0"


class S3(Plugin, settings=S3Settings):
    """Opens ``s3://bucket/prefix``, and ``s3a://``, which is the same under the name that Hadoop gave it."""

    settings: S3Settings

    @hookimpl
    def kart_storages(self) -> list[Storage]:
        """Both schemes."""
        return [Storage(scheme, open=self._open, quiet=True) for scheme in ("s3", "s3a")]

    def _open(self, url: str) -> Store:
        from kart_s3.store import S3Store  # s3fs takes half a second to import

        return S3Store(url, self.settings)
