"""Google's API discovery document, for teams whose setup names a local copy of it.

The storage library needs no such document. Where ``DISCOVER_CACHE_LOCAL_PATH`` names one, its
``rootUrl`` and ``servicePath`` say where the API is: this is how a private or restricted endpoint
is given. A copy that is not there yet is fetched once, by one process, and written whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

from kart_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import IO

__all__ = ["VARIABLE", "Document", "read_or_fetch"]

VARIABLE = "DISCOVER_CACHE_LOCAL_PATH"

_LARGEST = 16 << 20
"""Bytes beyond which an answer is no discovery document; the real one has about 200,000."""


class Document(NamedTuple):
    """What is taken from a discovery document."""

    root: str
    """Without a slash at its end: ``https://storage.googleapis.com``."""
    service: str
    """Without slashes around it: ``storage/v1``."""
    upload: str
    """Without slashes around it: ``upload/storage/v1``."""


def read_or_fetch(path: str, url: str, timeouts: tuple[float, float]) -> Document:
    """The document of a file; if there is no such file, it is fetched and written first.

    Args:
        path: the local file.
        url: where the document is fetched from.
        timeouts: seconds to wait for a connection, and for an answer.

    Raises:
        StorageError: the file or the answer is no such document, or there is no answer.
    """
    path = os.path.expanduser(path)
    text = _read(path)
    if text is None:
        with _alone(path, sum(timeouts) + 5):
            text = _read(path)
            if text is None:  # nobody was quicker
                text = _fetch(url, timeouts)
                document = _parse(text, f"what {_host(url)} gave for {VARIABLE}")
                _write_whole(path, text)
                return document
    return _parse(text, f"the file of {VARIABLE} ({path})")


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = error.strerror or type(error).__name__
    raise StorageError(
        f"the file of {VARIABLE} ({path}) cannot be read: {why}; name a file that can, or unset {VARIABLE}"
    )


def _parse(text: bytes, what: str) -> Document:
    try:
        document: Any = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        held = cast("dict[str, Any]", document)
        root, service = held.get("rootUrl"), held.get("servicePath")
        right = held.get("name", "storage") == "storage" and held.get("version", "v1") == "v1"
        if right and isinstance(root, str) and isinstance(service, str):
            address = urlsplit(root)
            if address.scheme in ("http", "https") and address.hostname:
                service = service.strip("/")
                return Document(root.rstrip("/"), service, _upload_path(held) or f"upload/{service}")
    raise StorageError(
        f"{what} is not the discovery document of the API storage v1, with its rootUrl and servicePath; "
        f"remove the file so that it is fetched anew, or unset {VARIABLE}"
    )


def _upload_path(document: dict[str, Any]) -> str | None:
    """Where the document says that content goes: ``upload/storage/v1``."""
    found: Any = document
    for name in ("resources", "objects", "methods", "insert", "mediaUpload", "protocols", "simple", "path"):
        found = cast("dict[str, Any]", found).get(name) if isinstance(found, dict) else None
    if not isinstance(found, str):
        return None
    path, separator, _ = found.strip("/").partition("/b/{bucket}")
    return path if separator else None


def _fetch(url: str, timeouts: tuple[float, float]) -> bytes:
    import requests

    try:
        with requests.get(url, timeout=timeouts, stream=True) as answer:
            if answer.status_code == 200:
                return answer.raw.read(_LARGEST + 1, decode_content=True)
            why = f"it answers {answer.status_code}"
    except requests.exceptions.Timeout:
        why = "no answer in time"
    except (requests.exceptions.RequestException, OSError) as error:
        why = type(error).__name__
    raise StorageError(
        f"the discovery document that {VARIABLE} asks for cannot be fetched from {_host(url)}: {why}; put the file in "
        f"its place yourself, set [plugins.gcs] discovery_url to where it is, or unset {VARIABLE}"
    )


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or url


def _write_whole(path: str, text: bytes) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        why = error.strerror or type(error).__name__
    else:
        return
    raise StorageError(f"the file of {VARIABLE} ({path}) cannot be written: {why}; name a file that can")


@contextlib.contextmanager
def _alone(path: str, longest: float) -> Generator[None]:
    """While the lock beside a file is held: of all processes and threads, one at a time."""
    folder, name = os.path.split(os.path.abspath(path))
    lock = os.path.join(folder, f".{name}.lock")
    try:
        os.makedirs(folder, exist_ok=True)
        file = open(lock, "ab")  # noqa: SIM115 closed below
    except OSError as error:
        why = error.strerror or type(error).__name__
        file = None
    else:
        why = ""
    if file is None:
        raise StorageError(f"the file of {VARIABLE} ({path}) cannot be written: {why}; name a file that can")
    with file:
        until = time.monotonic() + longest
        while not _locked(file):
            if time.monotonic() > until:
                raise StorageError(
                    f"another process holds the lock of the file of {VARIABLE} ({lock}) for too long; end that process"
                )
            time.sleep(0.02)
        yield  # closing the file gives the lock back


def _locked(file: IO[bytes]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return _locked_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _locked_on_windows(file: IO[bytes]) -> bool:
    import msvcrt

    system: Any = msvcrt
    file.seek(0)
    try:
        system.locking(file.fileno(), system.LK_NBLCK, 1)
    except OSError:
        return False
    return True
