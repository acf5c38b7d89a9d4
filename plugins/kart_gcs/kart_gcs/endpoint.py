"""Where Google's storage API is: of several that say so, the one that holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from kart_core.errors import StorageError
from kart_gcs import discovery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kart_gcs.settings import GcsSettings

__all__ = ["Endpoint", "find"]

_OF_GOOGLE = frozenset({"storage.googleapis.com", "www.googleapis.com", "storage.mtls.googleapis.com"})


class Endpoint(NamedTuple):
    """The addresses of the API."""

    root: str
    """``https://storage.googleapis.com``"""
    service: str = "storage/v1"
    upload: str = "upload/storage/v1"
    source: str = "default"
    emulated: bool = False
    """Whether it is an emulator, to which what belongs to Google is not sent unless it is given outright."""

    @property
    def host(self) -> str:
        """As messages name it."""
        return urlsplit(self.root).netloc.rpartition("@")[2] or self.root

    def objects(self, bucket: str) -> str:
        """The address of a bucket's objects."""
        return f"{self.root}/{self.service}/b/{bucket}/o"

    def uploads(self, bucket: str) -> str:
        """The address to which a bucket's new objects are sent."""
        return f"{self.root}/{self.upload}/b/{bucket}/o"


def find(settings: GcsSettings, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint that holds.

    ``endpoint_url`` of ``[plugins.gcs]``; then the document of ``DISCOVER_CACHE_LOCAL_PATH``; then
    ``STORAGE_EMULATOR_HOST``; then Google's own. A document that names Google's public endpoint
    decides nothing that an emulator's name would not: who sets both means the emulator.

    Raises:
        StorageError: what is given is no address, or the document is none.
    """
    if settings.endpoint_url:
        return Endpoint(_address(settings.endpoint_url, "[plugins.gcs] endpoint_url"), source="[plugins.gcs]")
    emulator = environment.get("STORAGE_EMULATOR_HOST", "").strip()
    document = None
    if path := environment.get(discovery.VARIABLE, "").strip():
        timeouts = (settings.connect_timeout, settings.read_timeout)
        document = discovery.read_or_fetch(path, settings.discovery_url, timeouts)
        if not emulator or urlsplit(document.root).hostname not in _OF_GOOGLE:
            return Endpoint(*document, source=discovery.VARIABLE, emulated=bool(emulator))
    if emulator and emulator != "default":
        emulator = emulator if "://" in emulator else f"http://{emulator}"
        return Endpoint(_address(emulator, "STORAGE_EMULATOR_HOST"), source="STORAGE_EMULATOR_HOST", emulated=True)
    universe = environment.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "").strip() or "googleapis.com"
    return Endpoint(f"https://storage.{universe}")


def _address(url: str, source: str) -> str:
    try:
        address = urlsplit(url)
        fault = address.scheme not in ("http", "https") or not address.hostname or address.port == 0
    except ValueError:
        fault = True
    if fault:
        raise StorageError(f"{source} is not an address such as https://storage.example.com:443; correct it")
    return url.rstrip("/")
