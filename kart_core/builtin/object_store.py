"""What every object store has in common: a base class for the stores of buckets, on fsspec's event loop.

A plugin subclasses `ObjectStore` and says how single requests are made and what their errors
mean; everything that must be right in each store is here, once: whole writes, large uploads in
parts that are aborted when they fail, one winner of an exclusive creation though answers get lost,
few requests for many questions (`kart_core.builtin.object_lookup`), reads that go on where the
connection broke, and retries in one layer (`kart_core.builtin.patience`).

What a subclass gives, all of it coroutines on fsspec's loop but for the first. **None of them
retries**: the client libraries' own retries must be switched off.

``fault(error)``
    What an exception of the client library means, as a `Fault`.
``connect()``
    The client, made in this process, at the first request. It is in ``self.client`` from then on.
``head(key)``
    A `Head`, or None where there is no such object.
``get(key, start, mark)``
    A `Body`: the object from byte ``start`` on; with a mark, only if the object still has it.
``write(key, data, Condition)``
    One PUT; gives the new mark. The condition's ``note`` is kept as metadata of the object.
``delete(key, mark)``
    With a mark, only if the object still has it. Need not say whether there was one.
``page(prefix, start, token)``
    A `Page` of the keys that begin with ``prefix``: the first page from the key ``start`` on (``""``:
    from the first; some keys shortly before ``start`` do no harm), the next ones by the token.
``begin(key, size, note)``, ``part(upload, number, offset, data, last)``, ``finish(upload, parts)``, ``abort(upload)``
    A large upload: ``begin`` gives whatever the others need; ``part`` gives what ``finish`` needs of it.
``uploads(prefix, token)``
    What killed uploads left, by page, for ``kart-core storage sweep``; by default there is nothing.

What becomes of a fault is said at `Fault`. Keys are whole keys of the bucket; paths are relative to
the workspace's root. A subclass keeps no secret in its attributes: a store is pickled with all of
them but the client, and its `repr` is in error messages.
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import tempfile
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, TypeVar, cast

from kart_core.builtin.gathering import gathered
from kart_core.builtin.local_store import refuse_way_out
from kart_core.builtin.object_facts import (
    Body,
    Condition,
    Fault,
    Head,
    Leftover,
    ObjectStoreDenied,
    ObjectStoreError,
    Page,
    Refused,
    new_note,
)
from kart_core.builtin.object_lookup import look_many
from kart_core.builtin.object_upload import upload_parts
from kart_core.builtin.patience import Patience
from kart_core.plugin import ConditionalStore, Stat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "Body",
    "Condition",
    "Fault",
    "Head",
    "Leftover",
    "ObjectStore",
    "ObjectStoreDenied",
    "ObjectStoreError",
    "Page",
]

_log = logging.getLogger("kart_core.storage")

_IN_MEMORY = 8 << 20
"""Bytes up to which `ObjectStore.open` keeps the content in memory; larger ones go to a local temporary file."""

_GOOD_WAY = 1 << 20
"""Bytes after which a read that broke has come far enough to be given new patience."""

_ABORT = 5.0
"""Seconds that an interrupted upload may take to remove what it has sent."""

T = TypeVar("T")


class _Cut(Exception):
    """Content that ended too early."""


class _Session:
    """What a store has in one process."""

    def __init__(self, at_once: int) -> None:
        from fsspec.asyn import get_loop  # pyright: ignore

        self.process = os.getpid()
        self.loop: asyncio.AbstractEventLoop = cast("Any", get_loop)()
        self.client: Any = None
        self.connecting = asyncio.Lock()
        # More requests at once than connections would wait inside the client library; aiohttp then
        # shuffles those who wait, by the global random generator.
        self.slots = asyncio.Semaphore(at_once)
        self.answered = False


class ObjectStore(ConditionalStore):
    """The base of a store in a bucket. See the module for what a subclass gives.

    Args:
        url: the workspace's URL, as people name it.
        root: the prefix of its keys, without a slash at the end; ``""`` for the whole bucket.
        at_once: requests under way together; the client must have as many connections.
        patience: seconds for which a request is tried again.
        first_patience: the same, as long as the store has never answered in this process.
    """

    part_size: ClassVar[int] = 8 << 20
    """Bytes of a part of a large upload, at least; content up to two parts goes in one request."""
    parts_at_once: ClassVar[int] = 4
    """Parts under way together; 1: they are sent one after the other, in their order."""
    page_size: ClassVar[int] = 1000
    """Keys in a page of a listing."""

    def __init__(
        self, url: str, root: str, *, at_once: int = 32, patience: float = 60.0, first_patience: float = 6.0
    ) -> None:
        self.url = url
        self._root = f"{root.strip('/')}/" if root.strip("/") else ""
        self._at_once = at_once
        self._patience = patience
        self._first_patience = min(first_patience, patience)
        self._session: _Session | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    # --- what a subclass gives ------------------------------------------------------------

    def fault(self, error: Exception) -> Fault:
        """What an exception means."""
        raise NotImplementedError

    async def connect(self) -> Any:
        """The client, made in this process."""
        raise NotImplementedError

    async def head(self, key: str) -> Head | None:
        """What is known of an object; None where there is none."""
        raise NotImplementedError

    async def get(self, key: str, start: int, mark: str | None) -> Body:
        """An object's content from a byte on; with a mark, only if it still has it."""
        raise NotImplementedError

    async def write(self, key: str, data: bytes, condition: Condition) -> str:
        """Writes an object with one request; gives its mark."""
        raise NotImplementedError

    async def delete(self, key: str, mark: str | None) -> None:
        """Deletes an object; with a mark, only if it still has it."""
        raise NotImplementedError

    async def page(self, prefix: str, start: str, token: str | None) -> Page:
        """One page of the objects whose keys begin with a prefix."""
        raise NotImplementedError

    async def begin(self, key: str, size: int, note: str) -> Any:
        """Begins a large upload."""
        raise NotImplementedError

    async def part(self, upload: Any, number: int, offset: int, data: bytes, last: bool) -> Any:
        """Sends one part; the first has the number 1."""
        raise NotImplementedError

    async def finish(self, upload: Any, parts: Sequence[Any]) -> None:
        """Makes the object of its parts."""
        raise NotImplementedError

    async def abort(self, upload: Any) -> None:
        """Drops what was sent; no error if there is nothing any more."""
        raise NotImplementedError

    def guarding(self) -> AbstractContextManager[None]:
        """What all requests are made within, on fsspec's loop; a plugin whose library logs secrets hides them there."""
        return nullcontext()

    async def uploads(
        self, prefix: str, token: str | None
    ) -> tuple[Sequence[tuple[str, Any, float | None]], str | None]:
        """A page of the uploads that were begun and not ended: key, what `abort` takes, when it began; and a token."""
        del prefix, token
        return (), None

    @property
    def client(self) -> Any:
        """What `connect` gave in this process."""
        return self._here().client

    # --- the store ------------------------------------------------------------------------

    def stat(self, path: str) -> Stat | None:
        return self._run(self.look(self._key(path)))

    def stat_many(self, paths: Sequence[str]) -> list[Stat | None]:
        keys = [self._key(path) for path in paths]
        return self._run(look_many(self, keys)) if keys else []

    def read(self, path: str) -> bytes:
        file = self._run(self._fetch(self._key(path), lambda size: io.BytesIO()))  # noqa: ARG005
        return cast("io.BytesIO", file).getvalue()

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """`read` of each path, in their order, concurrently; None where there is no such file."""
        keys = [self._key(path) for path in paths]

        async def one(key: str) -> bytes | None:
            try:
                file = await self._fetch(key, lambda size: io.BytesIO())  # noqa: ARG005
            except Refused as refused:
                if refused.fault.kind == "missing":
                    return None
                raise
            return cast("io.BytesIO", file).getvalue()

        async def every() -> list[bytes | None]:
            return await gathered([one(key) for key in keys])

        return self._run(every()) if keys else []

    def open(self, path: str) -> BinaryIO:
        # One request brings the whole: ranges would mix two contents, and the digest needs every byte.
        file = self._run(self._fetch(self._key(path), _new_file))
        file.seek(0)
        return file

    def put(self, path: str, data: bytes) -> None:
        key = self._key(path)
        if len(data) > 2 * self.part_size:
            view = memoryview(data)
            self._run(upload_parts(self, key, len(data), lambda start, count: bytes(view[start : start + count])))
        else:
            self._run(self._write(key, data, Condition()))

    def put_file(self, path: str, source: str) -> None:
        key = self._key(path)
        size = os.path.getsize(source)

        def read(start: int, count: int) -> bytes:
            with open(source, "rb") as file:
                file.seek(start)
                return file.read(count)

        if size > 2 * self.part_size:
            self._run(upload_parts(self, key, size, read))
        else:
            self._run(self._write(key, read(0, size), Condition()))
        os.unlink(source)

    def create(self, path: str, data: bytes) -> bool:
        return self._run(self._write(self._key(path), data, Condition(new=True, note=new_note()))) is not None

    def replace(self, path: str, data: bytes, mark: str | None) -> str | None:
        """Writes the content only if the file still has the mark; of many who try at once, one succeeds.

        A mark may be a digest of the content: put something unique into it.

        Args:
            path: the file.
            data: its new content.
            mark: the one that it must have; None where there must be no such file.

        Returns:
            The new mark; None where the file is another now, or gone.
        """
        return self._run(self._write(self._key(path), data, Condition(new=mark is None, mark=mark, note=new_note())))

    def remove(self, path: str) -> bool:
        key = self._key(path)

        async def remove() -> bool:
            if await self.look(key) is None:  # deleting does not say whether there was one
                return False
            return await self._delete(key, None)

        return self._run(remove())

    def remove_unchanged(self, path: str, mark: str) -> bool:
        """Removes the file only if it still has the mark; whether it did, as far as answers came through."""
        return self._run(self._delete(self._key(path), mark))

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        folder = prefix.strip("/")
        start = f"{self._key(folder)}/" if folder else self._root
        token: str | None = None
        while True:
            page = self._run(self.next_page(start, "", token))
            for key, stat in page.entries:
                if not key.endswith("/"):  # the markers of folders that consoles make
                    yield key[len(self._root) :], stat
            token = page.token
            if token is None:
                return

    def staging_directory(self, path: str) -> None:  # noqa: ARG002
        return None

    def local_path(self, path: str) -> None:  # noqa: ARG002
        return None

    # --- what killed uploads left ---------------------------------------------------------

    def leftovers(self) -> Iterator[Leftover]:
        """What uploads that were begun below the root, and neither ended nor aborted, hold in the bucket."""
        token: str | None = None
        while True:
            found, token = self._run(self.trying(lambda: self.uploads(self._root, token)))  # noqa: B023
            for key, upload, started in found:
                if key.startswith(self._root):
                    yield Leftover(key[len(self._root) :], upload, started)
            if token is None:
                return

    def sweep(self, leftover: Leftover) -> None:
        """Removes what an upload left; if it is under way after all, it fails."""
        self._run(self.trying(lambda: self.abort(leftover.upload)))

    # --- single requests, tried again: for this module, object_lookup and object_upload ----

    async def look(self, key: str) -> Stat | None:
        """`stat` by the whole key."""
        head = await self._head(key)
        return None if head is None else head.stat

    async def next_page(self, prefix: str, start: str, token: str | None) -> Page:
        """`page`, tried again."""
        return await self.trying(lambda: self.page(prefix, start, token))

    async def trying(self, request: Callable[[], Awaitable[T]], patience: Patience | None = None) -> T:
        """Makes a request until it is answered, or time is up, or the answer is final.

        Args:
            request: makes it anew.
            patience: where the request itself says how it comes on.

        Raises:
            Refused: the last fault.
        """
        session = self._here()
        patience = patience or self._new_patience()
        while True:
            try:
                await self._connected(session)
                async with session.slots:
                    answer = await request()
            except Exception as error:
                fault = self.meant(error)
            else:
                session.answered = True
                return answer
            if fault.kind in ("missing", "unmet"):
                session.answered = True
            wait = patience.wait() if fault.kind == "passing" else None
            if wait is None:
                if fault.kind == "passing":
                    session.answered = False  # what is asked next is not waited for as long
                raise Refused(fault, again=patience.tried)
            _log.debug("%s: %s; tried again in %.1f s", self.url, fault.why, wait)
            await asyncio.sleep(wait)

    async def mine(self, key: str, note: str | None) -> str | None:
        """The mark of an object that is there by our own write, of which the answer was lost; None if it is not."""
        head = await self._head(key)
        return head.stat.mark if head is not None and note is not None and head.note == note else None

    def meant(self, error: Exception) -> Fault:
        """`fault`, and what is found here."""
        if isinstance(error, Refused):
            return error.fault
        if isinstance(error, _Cut):
            return Fault("passing", str(error), "check the network")
        if isinstance(error, asyncio.TimeoutError):
            return Fault("passing", "no answer in time", "check the endpoint and the network")
        return self.fault(error)

    @property
    def slots(self) -> asyncio.Semaphore:
        """What a request waits for, so that no more are under way than there are connections."""
        return self._here().slots

    async def _head(self, key: str) -> Head | None:
        try:
            return await self.trying(lambda: self.head(key))
        except Refused as refused:
            if refused.fault.kind == "missing":
                return None
            raise

    async def _write(self, key: str, data: bytes, condition: Condition) -> str | None:
        """The new mark; None where the condition does not hold."""
        try:
            return await self.trying(lambda: self.write(key, data, condition))
        except Refused as refused:
            if condition == Condition() or refused.fault.kind not in ("unmet", "missing"):
                raise
            # Asked whether or not a try failed before: aiohttp tries once more on its own, unseen, where a connection
            # that had been kept open broke.
            return await self.mine(key, condition.note)

    async def _delete(self, key: str, mark: str | None) -> bool:
        try:
            await self.trying(lambda: self.delete(key, mark))
        except Refused as refused:
            if refused.fault.kind == "missing":
                return refused.again
            if refused.fault.kind == "unmet" and mark is not None:
                return refused.again and await self._head(key) is None
            raise
        return True

    async def _fetch(self, key: str, new_file: Callable[[int], BinaryIO]) -> BinaryIO:
        """The content in a new file; where a connection breaks on the way, it goes on from there."""
        patience = self._new_patience()
        file: BinaryIO | None = None
        expected: Stat | None = None
        done = 0

        async def receive() -> None:
            nonlocal file, expected, done
            body = await self.get(key, done, expected.mark if expected is not None and done else None)
            expected = body.stat
            file = file or new_file(expected.size)
            fresh = 0
            async for chunk in body.chunks:
                file.write(chunk)
                done += len(chunk)
                fresh += len(chunk)
                if fresh >= _GOOD_WAY:
                    fresh = 0
                    patience.renew(self._patience)
            if done < expected.size:
                raise _Cut(f"only {done} of {expected.size} bytes came")

        try:
            while True:
                try:
                    await self.trying(receive, patience)
                    return cast("BinaryIO", file)
                except Refused as refused:
                    # Somebody replaced the object while it was read: from the beginning, then.
                    if refused.fault.kind != "unmet" or (wait := patience.wait()) is None:
                        raise
                if file is not None:
                    file.close()
                file, expected, done = None, None, 0
                await asyncio.sleep(wait)
        except BaseException:
            if file is not None:
                file.close()
            raise

    # --- the bridge to fsspec's loop ------------------------------------------------------

    def _key(self, path: str) -> str:
        if ".." in path or path[:1] in ("", "/"):
            refuse_way_out(path)
        return self._root + path

    def _here(self) -> _Session:
        session = self._session
        if session is None or session.process != os.getpid():
            session = self._session = _Session(self._at_once)
        return session

    def _new_patience(self) -> Patience:
        return Patience(self._patience if self._here().answered else self._first_patience)

    async def _connected(self, session: _Session) -> None:
        if session.client is None:
            async with session.connecting:
                if session.client is None:
                    session.client = await self.connect()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on fsspec's loop, which has a thread of its own: the caller may have a running loop too."""
        ended = threading.Event()

        async def whole() -> T:
            try:
                with self.guarding():
                    return await work
            finally:
                ended.set()

        loop = self._here().loop
        future = asyncio.run_coroutine_threadsafe(whole(), loop)
        try:
            return future.result()
        except Refused as refused:
            fault = refused.fault
        except BaseException:  # an interruption: an upload is given a moment to remove what it has sent
            if future.cancel():
                ended.wait(_ABORT)
            raise
        if fault.kind == "missing":
            raise FileNotFoundError(errno.ENOENT, fault.why or "no such object", self.url)
        kind = ObjectStoreDenied if fault.kind == "denied" else ObjectStoreError
        advice = f"; {fault.advice}" if fault.advice else ""
        raise kind(f"{self.url}: {fault.why}{advice}")


def _new_file(size: int) -> BinaryIO:
    if size <= _IN_MEMORY:
        return io.BytesIO()
    return cast("BinaryIO", tempfile.TemporaryFile(prefix=".kart-", suffix=".tmp"))
