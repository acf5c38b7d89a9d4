"""The client: gcsfs's filesystem for its session and its headers, with single requests of our own.

gcsfs repeats a failed request six times, waiting by the global `random`, and tells a missing
bucket from a missing object no more than a lost right from a full quota. Here a request is made
once, and what the storage says of a failure is kept. Nothing that is secret is given to gcsfs, which
would keep it where pickles and logs find it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import aiohttp
from gcsfs.core import GCSFileSystem  # pyright: ignore[reportMissingTypeStubs]
from yarl import URL

from kart_core.errors import StorageError
from kart_gcs import credentials, endpoint
from kart_gcs.access import Access
from kart_gcs.answers import Answered, Late, Stranger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kart_gcs.endpoint import Endpoint
    from kart_gcs.settings import GcsSettings

__all__ = ["Answer", "Client", "open_client"]

_PIECE = 1 << 18
_LARGE = 1 << 19
"""Bytes beyond which content is sent in pieces: aiohttp warns of large texts given whole."""


class Answer(NamedTuple):
    """What the storage answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body, which is a JSON object."""
        try:
            found: Any = json.loads(self.body or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Stranger(self.status)
        return cast("dict[str, Any]", found)


class _FileSystem(GCSFileSystem):
    """gcsfs's filesystem, which asks our `Access` for tokens."""

    def __init__(self, access: Access, project: str | None, **keywords: Any) -> None:
        # For gcsfs the requests are anonymous: it would keep what it is given, and ask for tokens in its own way.
        cast("Any", super()).__init__(project=project or "", token="anon", **keywords)
        self._access = access

    def __reduce__(self) -> Any:
        raise TypeError("a filesystem with credentials is never pickled")

    def to_json(self, *_: Any, **__: Any) -> str:
        raise TypeError("a filesystem with credentials is never written as JSON")

    def _get_headers(self, *arguments: Any, **keywords: Any) -> dict[str, str]:
        headers = cast("Any", super())._get_headers(*arguments, **keywords)
        return {**headers, **self._access.headers()}


async def open_client(settings: GcsSettings) -> Client:
    """The client of this process: endpoint and credentials are found, and a token is asked for.

    Raises:
        StorageError: there is no endpoint, or there are no credentials, that can be used.
        Unavailable: the server of tokens does not answer.
    """

    def find() -> tuple[Endpoint, Access]:
        place = endpoint.find(settings, os.environ)
        found = credentials.find(settings, os.environ, emulated=place.emulated)
        access = Access(found, (settings.connect_timeout, settings.read_timeout))
        access.renew()
        return place, access

    place, access = await asyncio.to_thread(find)
    return Client(settings, place, access)


class Client:
    """Single requests to the storage. It is made on the event loop on which it is used.

    Args:
        settings: of the plugin.
        place: where the storage is.
        access: who asks.
    """

    def __init__(self, settings: GcsSettings, place: Endpoint, access: Access) -> None:
        self.access = access
        self._settings = settings
        project = settings.project or access.found.project or os.environ.get("GOOGLE_CLOUD_PROJECT")
        if settings.requester_pays and not project:
            raise StorageError("[plugins.gcs] requester_pays needs the project that pays: set [plugins.gcs] project")
        self._customer = _customer_key(settings)
        self._filesystem: Any = _FileSystem(
            access,
            project,
            endpoint_url=None if place.source == "default" else place.root,
            requester_pays=project if settings.requester_pays else False,
            requests_timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout, sock_read=settings.read_timeout
            ),
            session_kwargs=_session(settings.concurrency),
            loop=asyncio.get_running_loop(),
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        # gcsfs knows of another address, where this machine's client certificate is asked for.
        self.endpoint = place._replace(root=self._filesystem._location)

    @property
    def who(self) -> str:
        """Who asks, as messages name it."""
        found = self.access.found
        return f"{found.who} ({found.source})" if found.kind == "json" else f"{found.who} by {found.source}"

    async def ask(
        self,
        method: str,
        url: str,
        *,
        bucket: str,
        on: str = "object",
        content: list[bytes | memoryview] | None = None,
        headers: Mapping[str, str] | None = None,
        keyed: bool = False,
        **query: str | None,
    ) -> Answer:
        """Makes one request; a token that is refused is renewed once.

        Args:
            method: of HTTP.
            url: the address, percent-encoded.
            bucket: its name, for messages.
            on: whether it asks for an object that may be missing, or of the ``bucket``.
            content: what is sent, in pieces.
            headers: none of them secret.
            keyed: whether the customer's key belongs to the request.
            query: what stands behind the question mark.

        Raises:
            Answered: the storage answered with a failure.
        """
        response = await self._open(method, url, bucket, on, content, headers, keyed, query)
        try:
            return Answer(response.status, response.headers, await response.read())
        except asyncio.TimeoutError:
            raise self._late() from None
        finally:
            response.release()

    async def stream(
        self, url: str, *, bucket: str, headers: Mapping[str, str], **query: str | None
    ) -> aiohttp.ClientResponse:
        """The answer to a request for an object's content, whose body is still to be read by `chunks`."""
        return await self._open("GET", url, bucket, "object", None, headers, True, query)

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of an answer, as it arrives."""
        try:
            async for chunk in response.content.iter_chunked(_PIECE):
                yield chunk
        except asyncio.TimeoutError:
            raise self._late() from None
        finally:
            if response.content.at_eof():
                response.release()
            else:  # what was not read would be taken for the next answer
                response.close()

    async def _open(
        self,
        method: str,
        url: str,
        bucket: str,
        on: str,
        content: list[bytes | memoryview] | None,
        headers: Mapping[str, str] | None,
        keyed: bool,
        query: Mapping[str, str | None],
    ) -> aiohttp.ClientResponse:
        renewed = False
        while True:
            if not self.access.valid():
                await asyncio.to_thread(self.access.renew)
            every = self._filesystem._get_headers({**(headers or {}), **(self._customer if keyed else {})})
            response = await self._send(method, url, content, every, query)
            if response.status < 400:
                return response
            async with response:
                body = await response.content.read(1 << 16)
            if response.status == 401 and not self.access.anonymous and not renewed:
                renewed = True
                self.access.refused(every.get("Authorization"))
                continue
            raise Answered(response.status, body, on=on, bucket=bucket, who=self.who, anonymous=self.access.anonymous)

    async def _send(
        self,
        method: str,
        url: str,
        content: list[bytes | memoryview] | None,
        headers: dict[str, str],
        query: Mapping[str, str | None],
    ) -> aiohttp.ClientResponse:
        filesystem = self._filesystem
        session = await filesystem._set_session()
        # aiohttp would make a request again, unseen, where a connection that had been kept open broke.
        session._retry_connection = False
        # The names of objects are encoded already, and may hold what looks like an encoding.
        address = URL(url, encoded=True).update_query(filesystem._get_params(query))
        size = sum(len(piece) for piece in content or ())
        data: Any = None
        if content is not None:
            headers["Content-Length"] = str(size)
            data = _pieces(content) if size > _LARGE else b"".join(content)
        try:
            return await session.request(
                method, address, headers=headers, data=data, allow_redirects=False, timeout=filesystem.requests_timeout
            )
        except aiohttp.ConnectionTimeoutError:
            raise Late(
                self.endpoint, "gives no connection", "connect_timeout", self._settings.connect_timeout
            ) from None
        except asyncio.TimeoutError:
            raise self._late() from None

    def _late(self) -> Late:
        return Late(self.endpoint, "gives no answer", "read_timeout", self._settings.read_timeout)


async def _pieces(content: list[bytes | memoryview]) -> AsyncIterator[memoryview]:
    for part in content:
        view = memoryview(part)
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]


def _session(concurrency: int) -> dict[str, Any]:
    """What the session is made with, on the event loop."""
    proxies = any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy"))
    return {
        "connector": aiohttp.TCPConnector(limit=concurrency, ttl_dns_cache=60),
        "auto_decompress": False,  # content is given back as it was stored
        "trust_env": proxies,
    }


def _customer_key(settings: GcsSettings) -> dict[str, str]:
    """The headers of the customer's own key. They are secret."""
    variable = settings.encryption_key_variable
    if not variable:
        return {}
    text = os.environ.get(variable, "").strip()
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        why = "holds no 32 bytes as base64" if text else "is not set"
        raise StorageError(
            f"{variable}, which [plugins.gcs] encryption_key_variable names, {why}; make one: openssl rand -base64 32"
        )
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return {
        "x-goog-encryption-algorithm": "AES256",
        "x-goog-encryption-key": text,
        "x-goog-encryption-key-sha256": digest,
    }
