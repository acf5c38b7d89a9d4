"""The store of a workspace in a bucket of Google Cloud Storage: single requests on the core's base.

An object's mark is its generation, which is another with every write, also of equal content.
"""

from __future__ import annotations

import base64
import json
import os
import re
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast
from urllib.parse import quote

from kart_core.builtin.object_store import Body, Condition, Fault, Head, ObjectStore, Page
from kart_core.errors import StorageError
from kart_core.plugin import Stat
from kart_gcs.settings import GcsSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kart_gcs.client import Answer, Client

__all__ = ["GcsStore"]

_NOTE = "kart-note"
_OBJECT = "name,size,generation,updated"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class GcsStore(ObjectStore):
    """A store in a bucket.

    Args:
        url: ``gs://bucket/prefix``.
        settings: of the plugin.

    Raises:
        StorageError: the URL names no bucket.
    """

    part_size: ClassVar[int] = 16 << 20
    # A session takes its parts in their order.
    parts_at_once: ClassVar[int] = 1

    def __init__(self, url: str, settings: GcsSettings | None = None) -> None:
        settings = settings or GcsSettings()
        self.bucket, root = _located(url)
        self._settings = settings
        super().__init__(url, root, at_once=settings.concurrency, patience=settings.retry_seconds)

    def fault(self, error: Exception) -> Fault:
        from kart_gcs.answers import meaning

        return meaning(error, None if self.client is None else self._client.endpoint)

    async def connect(self) -> Client:
        from kart_gcs.client import open_client

        return await open_client(self._settings)

    async def head(self, key: str) -> Head | None:
        fields = f"{_OBJECT},metadata"
        answer = await self._client.ask("GET", self._object(key), bucket=self.bucket, fields=fields)
        found = answer.json()
        noted: dict[str, str] = found.get("metadata") or {}
        return Head(_stat(found), noted.get(_NOTE))

    async def get(self, key: str, start: int, mark: str | None) -> Body:
        # What a user compressed comes as it is stored: so long as the object says.
        headers = {"Accept-Encoding": "gzip", **({"Range": f"bytes={start}-"} if start else {})}
        query = {"alt": "media", "ifGenerationMatch": mark}
        response = await self._client.stream(self._object(key), bucket=self.bucket, headers=headers, **query)
        stat = _stat_of_content(response.headers)
        if not stat.mark:
            response.close()
            raise _stranger(response.status)
        if mark is not None and stat.mark != mark:  # an emulator may not know the condition
            response.close()
            raise _changed(self.bucket, self._client.who)
        return Body(stat, self._client.chunks(response))

    async def write(self, key: str, data: bytes, condition: Condition) -> str:
        # The boundary is drawn anew each time: content that holds it would be cut there.
        boundary = f"kart-{os.urandom(16).hex()}".encode()
        described = {"name": key, "crc32c": _checksum(data), "metadata": _noted(condition.note)}
        told = json.dumps({name: value for name, value in described.items() if value is not None}).encode()
        kind = b"\r\nContent-Type: "
        head = b"--%b%bapplication/json; charset=UTF-8\r\n\r\n%b\r\n" % (boundary, kind, told)
        head += b"--%b%bapplication/octet-stream\r\n\r\n" % (boundary, kind)
        answer = await self._client.ask(
            "POST",
            self._client.endpoint.uploads(quote(self.bucket, safe="")),
            bucket=self.bucket,
            on="bucket",
            content=[head, data, b"\r\n--%b--\r\n" % boundary],
            headers={"Content-Type": f"multipart/related; boundary={boundary.decode()}"},
            keyed=True,
            uploadType="multipart",
            ifGenerationMatch="0" if condition.new else condition.mark,
            kmsKeyName=self._settings.kms_key_name,
            fields=_OBJECT,
        )
        written = _stat(answer.json())
        await self._require_size(key, written, len(data))
        return written.mark

    async def delete(self, key: str, mark: str | None) -> None:
        await self._client.ask("DELETE", self._object(key), bucket=self.bucket, ifGenerationMatch=mark)

    async def page(self, prefix: str, start: str, token: str | None) -> Page:
        answer = await self._client.ask(
            "GET",
            self._client.endpoint.objects(quote(self.bucket, safe="")),
            bucket=self.bucket,
            on="bucket",
            prefix=prefix or None,
            startOffset=start or None,
            pageToken=token,
            maxResults=str(self.page_size),
            fields=f"kind,items({_OBJECT}),nextPageToken",
        )
        listed = answer.json()
        items = cast("list[dict[str, Any]]", listed.get("items") or ())
        if listed.get("kind") != "storage#objects":
            raise _stranger(answer.status)
        return Page([(item["name"], _stat(item)) for item in items], listed.get("nextPageToken") or None)

    async def begin(self, key: str, size: int, note: str) -> _Upload:
        answer = await self._client.ask(
            "POST",
            self._client.endpoint.uploads(quote(self.bucket, safe="")),
            bucket=self.bucket,
            on="bucket",
            content=[json.dumps({"name": key, "metadata": _noted(note)}).encode()],
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": "application/octet-stream",
                "X-Upload-Content-Length": str(size),
            },
            keyed=True,
            uploadType="resumable",
            name=key,
            kmsKeyName=self._settings.kms_key_name,
            fields=_OBJECT,
        )
        return _Upload(key, size, answer.headers["Location"])

    async def part(self, upload: _Upload, number: int, offset: int, data: bytes, last: bool) -> None:  # noqa: ARG002
        if upload.checked < offset + len(data):
            upload.add(offset, data)
        if upload.broken:  # how far did the try before come?
            await self._ask_how_far(upload)
        end = offset + len(data)
        while upload.written is None and upload.arrived < end:
            upload.broken = True
            fresh = memoryview(data)[upload.arrived - offset :]
            span = f"bytes {upload.arrived}-{end - 1}/{upload.size}"
            headers = {"Content-Range": span, **({"X-Goog-Hash": upload.checksum} if last and upload.checksum else {})}
            before = upload.arrived
            answer = await self._to_session(upload, "PUT", [fresh], headers)
            upload.broken = False
            self._take(upload, answer)
            if upload.written is None and upload.arrived <= before:
                from kart_gcs.answers import Corrupted

                raise Corrupted("Google Cloud Storage took nothing of a part")

    async def finish(self, upload: _Upload, parts: Sequence[Any]) -> None:  # noqa: ARG002
        from kart_gcs.answers import Corrupted

        if upload.written is None:
            raise StorageError(f"{upload.key} was sent, and did not become an object; run again")
        try:
            await self._require_size(upload.key, upload.written, upload.size)
        except Corrupted as error:  # an emulator that takes the question how far it came for the end
            raise StorageError(f"{error}; {upload.key} was removed; run again") from None

    async def abort(self, upload: _Upload) -> None:
        from kart_gcs.answers import Answered

        try:
            await self._to_session(upload, "DELETE", None, {})
        except Answered as answered:
            if answered.status not in (404, 410, 499):  # 499 is how Google says that it is done
                raise

    # --- large uploads --------------------------------------------------------------------

    async def _ask_how_far(self, upload: _Upload) -> None:
        self._take(upload, await self._to_session(upload, "PUT", [], {"Content-Range": f"bytes */{upload.size}"}))
        upload.broken = False

    def _take(self, upload: _Upload, answer: Answer) -> None:
        """Notes how far an upload has come."""
        if answer.status in (200, 201):
            upload.written = _stat(answer.json())
            upload.arrived = upload.size
        else:  # 308: there is more to come
            _, _, end = answer.headers.get("Range", "").rpartition("-")
            upload.arrived = int(end) + 1 if end else 0

    async def _to_session(
        self, upload: _Upload, method: str, content: list[bytes | memoryview] | None, headers: Mapping[str, str]
    ) -> Answer:
        return await self._client.ask(
            method, upload.address, bucket=self.bucket, content=content, headers=headers, keyed=True, on="upload"
        )

    async def _require_size(self, key: str, written: Stat, size: int) -> None:
        """Removes what was cut on its way, so that nobody reads it."""
        if written.size == size:
            return
        from kart_gcs.answers import Corrupted

        await self.delete(key, written.mark)
        raise Corrupted(f"only {written.size} of {size} bytes arrived")

    # --- places ---------------------------------------------------------------------------

    @property
    def _client(self) -> Client:
        return cast("Client", self.client)

    def _object(self, key: str) -> str:
        return f"{self._client.endpoint.objects(quote(self.bucket, safe=''))}/{quote(key, safe='')}"


class _Upload:
    """A large upload under way."""

    def __init__(self, key: str, size: int, address: str) -> None:
        self.key = key
        self.size = size
        self.address = address  # whoever knows it may write: it is never logged
        self.arrived = 0
        self.broken = False
        self.written: Stat | None = None
        self.checked = 0
        self._sum = _running_checksum()

    def add(self, offset: int, data: bytes) -> None:
        """Takes a part into the checksum; each part once."""
        if self._sum is not None:
            self._sum.update(data)
        self.checked = offset + len(data)

    @property
    def checksum(self) -> str | None:
        """Of all parts, as a header says it."""
        return None if self._sum is None else f"crc32c={base64.b64encode(self._sum.digest()).decode()}"


class _Url(NamedTuple):
    bucket: str
    root: str


def _located(url: str) -> _Url:
    bucket, _, root = url.partition("://")[2].partition("/")
    longest = 222 if "." in bucket else 63
    if not _BUCKET.fullmatch(bucket) or len(bucket) > longest or ".." in bucket:
        raise StorageError(
            f"{bucket!r} in {url} is no name of a bucket: 3 to 63 lower-case letters, digits, '-', '_' or '.', as in "
            "gs://my-bucket/results; correct workspace_directory"
        )
    return _Url(bucket, root.strip("/"))


def _stat(found: Mapping[str, Any]) -> Stat:
    if not found.get("generation"):
        raise _stranger(200)
    return Stat(int(found.get("size") or 0), str(found.get("generation") or ""), _seconds(found.get("updated")))


def _stat_of_content(headers: Mapping[str, str]) -> Stat:
    from email.utils import parsedate_to_datetime

    whole = headers.get("Content-Range", "").rpartition("/")[2]
    size = whole if whole.isdecimal() else headers.get("Content-Length", "")
    modified = headers.get("Last-Modified")
    return Stat(
        int(size) if size.isdecimal() else int(headers.get("x-goog-stored-content-length") or 0),
        headers.get("x-goog-generation", ""),
        parsedate_to_datetime(modified).timestamp() if modified else None,
    )


def _seconds(time: Any) -> float | None:
    if not isinstance(time, str):
        return None
    from datetime import datetime

    # Python before 3.11 takes no fraction but of 3 or 6 digits.
    head, dot, rest = time.removesuffix("Z").partition(".")
    fraction = re.match(r"\d*", rest)
    try:
        whole = datetime.fromisoformat(f"{head}+00:00").timestamp()
    except ValueError:
        return None
    return whole + (float(f"0.{fraction[0]}") if dot and fraction and fraction[0] else 0.0)


def _noted(note: str | None) -> dict[str, str] | None:
    return None if note is None else {_NOTE: note}


def _checksum(data: bytes) -> str | None:
    """What Google holds the content against before it takes it; None where computing it would be slow."""
    running = _running_checksum()
    if running is None:
        return None
    running.update(data)
    return base64.b64encode(running.digest()).decode()


def _running_checksum() -> Any:
    import google_crc32c  # pyright: ignore

    crc32c: Any = google_crc32c
    return crc32c.Checksum() if crc32c.implementation == "c" else None


def _stranger(status: int) -> Exception:
    from kart_gcs.answers import Stranger

    return Stranger(status)


def _changed(bucket: str, who: str) -> Exception:
    from kart_gcs.answers import Answered

    return Answered(412, b"", on="object", bucket=bucket, who=who, anonymous=False)
