"""What the storage's answers and the failures on the way to it mean."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, cast

from kart_core.builtin.object_store import Fault
from kart_core.errors import StorageError
from kart_gcs.access import Unavailable

if TYPE_CHECKING:
    from kart_gcs.endpoint import Endpoint

__all__ = ["Answered", "Corrupted", "Late", "Stranger", "meaning"]

_MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})
_TOO_OFTEN = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded"})


class Answered(Exception):
    """The storage answered with a failure.

    Attributes:
        status: of HTTP.
        reason: Google's word for it: ``forbidden``.
        text: Google's sentence.
        on: ``object``, or ``bucket`` for a request that does not ask for an object that is there.
        who: who asked: the account and where its credentials are from.
        anonymous: whether the request had no token.
    """

    def __init__(self, status: int, body: bytes, *, on: str, bucket: str, who: str, anonymous: bool) -> None:
        self.status = status
        self.reason, self.text = _said(body)
        self.on = on
        self.bucket = bucket
        self.who = who
        self.anonymous = anonymous
        super().__init__(f"{status} {self.text}")


class Late(Exception):
    """No answer in time."""

    def __init__(self, endpoint: Endpoint, what: str, setting: str, seconds: float) -> None:
        super().__init__(f"{endpoint.host} {what} within {seconds:g} s")
        self.setting = setting


class Stranger(Exception):
    """An answer as Google Cloud Storage does not give it."""


class Corrupted(Exception):
    """What arrived is not what was sent."""


def meaning(error: Exception, endpoint: Endpoint | None) -> Fault:
    """What an exception of a request means.

    Args:
        error: the exception.
        endpoint: where the request went; None where that could not be found out.
    """
    if isinstance(error, Answered):
        return _of_answer(error)
    if isinstance(error, Unavailable):
        return Fault("passing", str(error), "check the network and its proxy")
    if isinstance(error, Late):
        where = "check the endpoint and the network"
        return Fault("passing", str(error), f"{where}, or raise [plugins.gcs] {error.setting}")
    if isinstance(error, Corrupted):
        return Fault("passing", str(error), "try again later")
    if isinstance(error, StorageError):
        return Fault("final", str(error))
    host = "the endpoint" if endpoint is None else endpoint.host
    if isinstance(error, Stranger):
        return Fault(
            "final", f"{host} does not answer as Google Cloud Storage does", "check the endpoint and the proxy"
        )
    return _of_connection(error, host)


def _of_answer(error: Answered) -> Fault:
    status, bucket = error.status, error.bucket
    if status == 404 and (error.on == "bucket" or "bucket does not exist" in error.text):
        create = f"create it (gcloud storage buckets create gs://{bucket}), or correct workspace_directory"
        return Fault("final", f"there is no bucket {bucket}", create)
    if status == 404:
        return Fault("missing", "no such object")
    if status in (304, 412):
        return Fault("unmet", "the object is another than was expected")
    if status in _MAY_PASS or error.reason in _TOO_OFTEN:
        return Fault("passing", f"Google Cloud Storage answers {status} ({error.text})", "try again later")
    if status == 401:
        return _unknown(error)
    if status == 403:
        return _forbidden(error)
    if status == 410:
        return Fault("final", "the upload has ended before all of it was sent", "run again")
    lowered = error.text.lower()
    if "requester pays" in lowered:
        advice = "set [plugins.gcs] requester_pays = true and project to the one that pays"
        return Fault("final", f"the bucket {bucket} lets the requester pay, and no project was named", advice)
    if "encrypt" in lowered or "encrypt" in error.reason.lower():
        advice = "set [plugins.gcs] encryption_key_variable to the name of the variable that holds its key"
        return Fault("final", f"an object of the bucket {bucket} is encrypted with another key ({error.text})", advice)
    if "invalid bucket name" in lowered:
        return Fault("final", f"{bucket!r} is no name of a bucket", "correct workspace_directory")
    return Fault("final", f"Google Cloud Storage answers {status} ({error.text})")


def _unknown(error: Answered) -> Fault:
    if error.anonymous:
        why = f"the bucket {error.bucket} is not open to everyone, and the request had no credentials ({error.who})"
        return Fault("denied", why, "set GCS_CREDENTIAL to the path or the text of a service account's key")
    return Fault(
        "denied",
        f"the token of {error.who} is not accepted ({error.text})",
        "check that the account still exists, and that the endpoint is the one that it belongs to",
    )


def _forbidden(error: Answered) -> Fault:
    if error.anonymous:
        return _unknown(error)
    return Fault(
        "denied",
        f"{error.who} may not do that in the bucket {error.bucket} ({error.text})",
        "grant it the role roles/storage.objectUser on that bucket: to get, list, create and delete objects",
    )


def _of_connection(error: Exception, host: str) -> Fault:
    import aiohttp

    check = "check the endpoint and the network"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Fault("final", f"the certificate of {host} is not trusted", "check the endpoint, or SSL_CERT_FILE")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return Fault("final", f"{host} does not speak TLS", "check whether the endpoint is http:// or https://")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Fault("passing", f"the name {host} is not known", check)
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return Fault(
            "passing", f"{host} cannot be reached ({os.strerror(number) if number else 'no connection'})", check
        )
    if isinstance(error, aiohttp.InvalidURL):
        return Fault("final", f"{host} is no address", "check [plugins.gcs] endpoint_url and STORAGE_EMULATOR_HOST")
    if isinstance(error, (aiohttp.ClientError, ConnectionError, EOFError)):
        return Fault("passing", f"the connection to {host} broke ({type(error).__name__})", check)
    if isinstance(error, ImportError):
        return Fault("final", f"{error}", "pip install kart-gcs")
    return Fault("final", f"{type(error).__name__}: {error}")


def _said(body: bytes) -> tuple[str, str]:
    """Google's word and sentence for a failure; a text of another kind is cut."""
    try:
        error: Any = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return "", " ".join(body[:300].decode(errors="replace").split())[:150] or "no reason given"
    if not isinstance(error, dict):
        return "", str(error)[:300]
    held = cast("dict[str, Any]", error)
    details = cast("list[dict[str, Any]]", held.get("errors") or [])
    reason = next((str(detail["reason"]) for detail in details if detail.get("reason")), "")
    return reason, " ".join(str(held.get("message") or reason or "no reason given").split()).rstrip(".")[:300]
