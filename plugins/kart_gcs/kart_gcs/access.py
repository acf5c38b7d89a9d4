"""Access: a token that holds, got when first needed, renewed before it ends.

The first request of a process asks for its token at once, so that a wrong key is one sentence in
less than a second, and not half a minute of retries in the storage library.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from kart_core.errors import StorageError
from kart_gcs.credentials import google_credentials, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from kart_gcs.credentials import Found

__all__ = ["Access", "Unavailable"]

_AHEAD = 300.0
"""Seconds before its end at which a token is renewed."""

_MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})


class Unavailable(OSError):
    """The server of tokens gives no answer for now; asking again may help."""


class Access:
    """The tokens of one credential. Safe to use from several threads.

    Args:
        found: the credentials.
        timeouts: seconds to wait for a connection, and for an answer.
    """

    def __init__(self, found: Found, timeouts: tuple[float, float]) -> None:
        self.found = found
        self._timeouts = timeouts
        self._credentials = google_credentials(found)
        self._lock = threading.Lock()
        self._token: str | None = None
        self._until = 0.0
        self._asked = 0
        self._failure: StorageError | Unavailable | None = None

    def __repr__(self) -> str:
        return f"Access({self.found!r})"

    def __reduce__(self) -> Any:
        raise TypeError("credentials are never pickled: the other process reads its own")

    @property
    def anonymous(self) -> bool:
        """Whether requests bear no token."""
        return self._credentials is None

    def valid(self) -> bool:
        """Whether `headers` can be taken now, without asking for a token."""
        return self._credentials is None or (self._token is not None and time.monotonic() < self._until)

    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        if self._token is None:
            return {}
        project = getattr(self._credentials, "quota_project_id", None)
        quota = {"x-goog-user-project": str(project)} if project else {}
        return {"Authorization": f"Bearer {self._token}", **quota}

    def refused(self, token: str | None) -> None:
        """Tells that the store refused a token, which `headers` gave: the next one is asked for anew."""
        with self._lock:
            if self._token is not None and (token is None or token.endswith(self._token)):
                self._token = None

    def renew(self) -> None:
        """Gets a token if there is none that holds.

        Raises:
            StorageError: the credentials are refused.
            Unavailable: no answer, or one that says to come again.
        """
        if self.valid():
            return
        before = self._asked
        with self._lock:
            if self.valid():
                return
            if self._asked != before and self._failure is not None:
                # Somebody asked while this one waited: many who ask one after the other would wait for ever.
                raise type(self._failure)(str(self._failure))
            try:
                self._failure = None
                self._ask()
            except (StorageError, Unavailable) as error:
                self._failure = error
                raise
            finally:
                self._asked += 1

    def _ask(self) -> None:
        from google.auth import exceptions

        asked = _Asking(self._timeouts)
        try:
            self._credentials.refresh(asked)
        except Unavailable:
            raise
        except exceptions.GoogleAuthError as error:
            fault = self._refusal(error, asked.host)
        except (ValueError, TypeError, KeyError, OSError) as error:
            fault = self._refusal(error, asked.host)
        else:
            fault = None
        finally:
            asked.close()
        if fault is not None:
            # Without its cause, which may hold what was sent.
            raise fault
        self._token = cast("str | None", self._credentials.token)
        if not self._token:
            raise StorageError(f"{asked.host} gave no token for {self.found.source} ({self.found.who})")
        self._until = time.monotonic() + self._lasts()

    def _lasts(self) -> float:
        """Seconds for which the token is used; a clock that is wrong makes it shorter, never endless."""
        expiry = self._credentials.expiry
        if expiry is None:
            return 3000.0
        from google.auth import _helpers

        left = (expiry - cast("Any", _helpers).utcnow()).total_seconds()
        return max(left - _AHEAD, left / 2, 1.0)

    def _refusal(self, error: Exception, host: str) -> StorageError:
        why = str(error.args[0]) if error.args else type(error).__name__
        for secret in secrets_in(self.found):
            why = why.replace(secret, "***")
        why = " ".join(why.split())[:300].rstrip(".")
        if self.found.kind == "metadata":
            return StorageError(
                f"the metadata server {host} gives no token ({why}); it is there on Google's machines that have a "
                "service account; elsewhere set GCS_CREDENTIAL, or [plugins.gcs] metadata_server = false"
            )
        asked = f" by {host}" if host else ""
        return StorageError(
            f"the credentials of {self.found.source} ({self.found.who}) are refused{asked}: {why}; "
            "check that the account and its key still exist and that this machine's clock is right, or make a new key"
        )


class _Asking:
    """How google-auth asks for a token: once, with a time limit.

    Its own retries wait by the global `random`, whose stream belongs to the user's task. An error
    that is none of google-auth's ends them.
    """

    def __init__(self, timeouts: tuple[float, float]) -> None:
        import requests
        from google.auth.transport.requests import Request

        self.host = ""
        self.session = requests.Session()
        self._request = cast("Callable[..., Any]", Request(self.session))
        self._timeouts = timeouts

    def __call__(self, url: str, method: str = "GET", **keywords: Any) -> Any:
        from google.auth import exceptions

        self.host = urlsplit(url).hostname or url
        keywords["timeout"] = self._timeouts
        try:
            response = self._request(url=url, method=method, **keywords)
        except exceptions.TransportError as error:
            raise Unavailable(f"{self.host}, which gives tokens, cannot be reached ({_kind(error)})") from None
        if response.status in _MAY_PASS:
            raise Unavailable(f"{self.host}, which gives tokens, answers {response.status}")
        return response

    def close(self) -> None:
        self.session.close()


def _kind(error: Exception) -> str:
    """What kept a request from its server, in a few words."""
    import requests

    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, requests.exceptions.Timeout):
        return "no answer in time"
    text = str(cause)
    for sign, words in _SIGNS.items():
        if sign in text:
            return words
    return type(cause).__name__


_SIGNS = {
    "Name or service not known": "no such name",
    "nodename nor servname": "no such name",
    "Temporary failure in name resolution": "its name is not found",
    "Failed to resolve": "its name is not found",
    "Connection refused": "connection refused",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted",
    "Connection reset": "connection reset",
    "Network is unreachable": "no network",
}
