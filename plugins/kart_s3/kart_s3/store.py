"""Results in a bucket of S3: single requests, and nothing else. What makes a store of them is in the base class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kart_core.builtin.object_store import Body, Condition, Head, ObjectStore, ObjectStoreError, Page
from kart_core.plugin import Stat
from kart_s3 import client, faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractContextManager

    from kart_core.builtin.object_store import Fault
    from kart_s3.settings import S3Settings

__all__ = ["S3Store"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")  # old buckets have long names with capitals
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_NOTE = "kart-note"
_CHUNK = 1 << 18


class S3Store(ObjectStore):
    """The objects of a bucket below a prefix.

    Args:
        url: ``s3://bucket/prefix``.
        settings: the plugin's settings.

    Raises:
        StorageError: the URL has no bucket's name.
    """

    def __init__(self, url: str, settings: S3Settings) -> None:
        bucket, _, prefix = url.partition("://")[2].partition("/")
        if not _BUCKET.fullmatch(bucket) or ".." in bucket or _ADDRESS.fullmatch(bucket):
            fault = faults.bad_name(bucket)
            raise ObjectStoreError(f"{url}: {fault.why}; {fault.advice}")
        super().__init__(url, prefix, at_once=settings.concurrency, patience=settings.retry_seconds)
        self._bucket = bucket
        self._settings = settings
        self._bucket_is_there = False
        payer = {"RequestPayer": "requester"} if settings.requester_pays else {}
        self._common = {"Bucket": bucket, **payer}
        names = {"ServerSideEncryption": settings.server_side_encryption, "SSEKMSKeyId": settings.kms_key_id}
        self._encryption = {name: value for name, value in names.items() if value is not None}

    def fault(self, error: Exception) -> Fault:
        return faults.fault_of(error, self._bucket, self._settings)

    def guarding(self) -> AbstractContextManager[None]:
        return client.redaction.guarding()

    async def connect(self) -> client.Connection:
        return await client.connect(self._settings)

    @property
    def _s3(self) -> Any:
        return self.client.client

    async def head(self, key: str) -> Head | None:
        try:
            answer = await self._s3.head_object(Key=key, **self._common)
        except Exception as error:
            if self.fault(error).kind == "passing":
                raise
            await self._explain(error)
            return None
        return Head(_stat(answer), answer.get("Metadata", {}).get(_NOTE))

    async def _explain(self, error: Exception) -> None:
        """An answer to HEAD has no content, so it says neither why it refuses nor that there is no bucket."""
        missing = self.fault(error).kind == "missing"
        if missing and self._bucket_is_there:
            return
        await self._s3.list_objects_v2(Prefix=self._root, MaxKeys=1, **self._common)
        if not missing:
            raise error
        self._bucket_is_there = True

    async def get(self, key: str, start: int, mark: str | None) -> Body:
        more: dict[str, Any] = {"Range": f"bytes={start}-"} if start else {}
        if mark is not None:
            more["IfMatch"] = f'"{mark}"'
        answer = await self._s3.get_object(Key=key, **more, **self._common)
        found = _stat(answer)
        if start and (total := str(answer.get("ContentRange", "")).rpartition("/")[2]).isdigit():
            found = found._replace(size=int(total))
        return Body(found, _chunks(answer["Body"]))

    async def write(self, key: str, data: bytes, condition: Condition) -> str:
        more: dict[str, Any] = {}
        if condition.new:
            more["IfNoneMatch"] = "*"
        if condition.mark is not None:
            more["IfMatch"] = f'"{condition.mark}"'
        if condition.note is not None:
            more["Metadata"] = {_NOTE: condition.note}
        answer = await self._s3.put_object(Key=key, Body=data, **more, **self._encryption, **self._common)
        return _mark(answer)

    async def delete(self, key: str, mark: str | None) -> None:
        more = {} if mark is None else {"IfMatch": f'"{mark}"'}
        await self._s3.delete_object(Key=key, **more, **self._common)

    async def page(self, prefix: str, start: str, token: str | None) -> Page:
        more: dict[str, Any] = {"ContinuationToken": token} if token is not None else {}
        if token is None and len(start) > len(prefix):
            more["StartAfter"] = start[:-1]  # it is exclusive; what begins as `start` does comes after this
        answer = await self._s3.list_objects_v2(Prefix=prefix, MaxKeys=self.page_size, **more, **self._common)
        self._bucket_is_there = True
        entries = [(found["Key"], _listed(found)) for found in answer.get("Contents", ())]
        return Page(entries, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    async def begin(self, key: str, size: int, note: str) -> tuple[str, str]:
        del size
        answer = await self._s3.create_multipart_upload(
            Key=key, Metadata={_NOTE: note}, **self._encryption, **self._common
        )
        return key, answer["UploadId"]

    async def part(self, upload: tuple[str, str], number: int, offset: int, data: bytes, last: bool) -> dict[str, Any]:
        del offset, last
        answer = await self._s3.upload_part(
            Key=upload[0], UploadId=upload[1], PartNumber=number, Body=data, **self._common
        )
        sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
        return {"PartNumber": number, "ETag": answer["ETag"], **sums}

    async def finish(self, upload: tuple[str, str], parts: Sequence[dict[str, Any]]) -> None:
        await self._s3.complete_multipart_upload(
            Key=upload[0], UploadId=upload[1], MultipartUpload={"Parts": list(parts)}, **self._common
        )

    async def abort(self, upload: tuple[str, str]) -> None:
        try:
            await self._s3.abort_multipart_upload(Key=upload[0], UploadId=upload[1], **self._common)
        except Exception as error:
            if self.fault(error).kind != "missing":
                raise

    async def uploads(
        self, prefix: str, token: str | None
    ) -> tuple[Sequence[tuple[str, Any, float | None]], str | None]:
        more: dict[str, Any] = {}
        if token is not None:
            more["KeyMarker"], _, more["UploadIdMarker"] = token.partition("\0")
        answer = await self._s3.list_multipart_uploads(Prefix=prefix, **more, **self._common)
        found = [
            (one["Key"], (one["Key"], one["UploadId"]), one["Initiated"].timestamp() if "Initiated" in one else None)
            for one in answer.get("Uploads", ())
        ]
        if not answer.get("IsTruncated") or not answer.get("NextKeyMarker"):
            return found, None
        return found, f"{answer['NextKeyMarker']}\0{answer.get('NextUploadIdMarker', '')}"


async def _chunks(body: Any) -> AsyncIterator[bytes]:
    async with body:
        while chunk := await body.read(_CHUNK):
            yield chunk


def _mark(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _stat(answer: dict[str, Any]) -> Stat:
    return Stat(int(answer.get("ContentLength") or 0), _mark(answer), _time(answer.get("LastModified")))


def _listed(found: dict[str, Any]) -> Stat:
    return Stat(int(found.get("Size") or 0), _mark(found), _time(found.get("LastModified")))


def _time(moment: Any) -> float | None:
    # In whole seconds, as the answer to HEAD has them; a listing has some digits more.
    return None if moment is None else float(int(moment.timestamp()))
