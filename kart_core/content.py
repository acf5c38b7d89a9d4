"""The content of one file on its way between a value and a store: serialized once, hashed as it passes.

Small content stays in memory; content that grows beyond a mebibyte goes on to a local file,
so that a large result is held neither twice in memory nor read twice from disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import xxhash

from kart_core.temporary import new_name, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kart_core.plugin import Store

MEMORY: Final = 1 << 20
"""Content up to this many bytes is kept in memory."""

_CHUNK: Final = 1 << 20

_LARGE: Final = 1 << 24
"""From this many bytes at once on, room for all of them is asked for first."""


def digest_of(data: bytes) -> str:
    """The digest of a content as records hold it: xxh3-128, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(data)


class Content:
    """A serialized value that is not yet in its place: `data`, or the local file `path`."""

    __slots__ = ("data", "digest", "path", "size")

    def __init__(self, data: bytes | None, path: str | None, size: int, digest: str) -> None:
        self.data = data
        self.path = path
        self.size = size
        self.digest = digest

    @classmethod
    def of_file(cls, path: str) -> Content:
        """The content of a local file, which is given away."""
        with open(path, "rb") as file:
            hash_ = xxhash.xxh3_128()
            size = 0
            while chunk := file.read(_CHUNK):
                hash_.update(chunk)
                size += len(chunk)
        return cls(None, path, size, hash_.hexdigest())

    def put(self, store: Store, path: str) -> None:
        """Puts the content in its place."""
        if self.data is not None:
            store.put(path, self.data)
        elif self.path is not None:
            store.put_file(path, self.path)
            self.path = None

    def discard(self) -> None:
        """Removes the local file, if there is one."""
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):  # put_file may have taken it before it failed
                os.unlink(self.path)
            self.path = None


def _new_file(directory: str) -> tuple[int, str]:
    """A new file, open for writing, that others may read as the umask says: tempfile's are for their owner alone."""
    folder = os.path.join(directory, "")
    sweep(folder, wholly=True)
    path = f"{folder}{new_name()}"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666), path


def _reserve(handle: int, start: int, length: int) -> None:
    """Asks the file system for room for what is about to be written, as numpy's `tofile` does: writing is faster then.

    Only Linux's own call will do: `os.posix_fallocate` writes a byte into each block where a file system lacks that.
    Where it is refused nothing is lost, and what is wrong is told by the writing itself.
    """
    if sys.platform != "linux" or sys.maxsize <= 1 << 32:
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):  # some Pythons have no ctypes, some systems no call
        import ctypes

        keep_size = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h
        fallocate = ctypes.CDLL(None).fallocate
        fallocate(ctypes.c_int(handle), ctypes.c_int(keep_size), ctypes.c_int64(start), ctypes.c_int64(length))


class _Spool:
    """A file to write to that hashes what passes and leaves memory when it grows.

    It is no `io.RawIOBase`: making and closing one takes longer than pickling a small value.
    """

    size = 0
    path: str | None = None
    closed = False
    _file: io.FileIO | None = None
    _hash: Any = None

    def __init__(self, directory: Callable[[], str]) -> None:
        self._directory = directory
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """The content is taken whether the serializer closes its file or not."""

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        """As `close`."""

    def writelines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.write(line)

    def tell(self) -> int:
        return self.size

    def write(self, data: Any, /) -> int:
        length = len(data) if type(data) is bytes else memoryview(data).nbytes
        if self._file is None:
            if self.size + length <= MEMORY:
                self._parts.append(data if type(data) is bytes else bytes(data))
                self.size += length
                return length
            self._roll_over()
        self._write_through(memoryview(data).cast("B") if length else memoryview(b""))
        self.size += length
        return length

    def _roll_over(self) -> None:
        handle, self.path = _new_file(self._directory())
        self._file = io.FileIO(handle, "w")
        self._hash = xxhash.xxh3_128()
        parts, self._parts = self._parts, []
        for part in parts:
            self._write_through(memoryview(part))

    def _write_through(self, view: memoryview) -> None:
        # Piece by piece, so that what is hashed is still in the processor's cache when it is written.
        file = cast("io.FileIO", self._file)
        if len(view) >= _LARGE:
            _reserve(file.fileno(), file.tell(), len(view))
        for start in range(0, len(view), _CHUNK):
            piece = view[start : start + _CHUNK]
            self._hash.update(piece)
            while piece:
                piece = piece[file.write(piece) :]

    def content(self) -> Content:
        if self._file is None:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            return Content(data, None, len(data), digest_of(data))
        self._file.close()
        return Content(None, self.path, self.size, self._hash.hexdigest())

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
        if self.path is not None:
            os.unlink(self.path)


def write(
    dump: Callable[[Any, BinaryIO], None], value: Any, directory: Callable[[], str], *, seekable: bool
) -> Content:
    """Serializes a value.

    Args:
        dump: writes the value to the file that it is given.
        value: what is written.
        directory: gives the local folder for content that does not stay in memory.
        seekable: whether `dump` needs a real file.
    """
    if seekable:
        handle, path = _new_file(directory())
        try:
            with open(handle, "wb") as file:
                dump(value, file)
            return Content.of_file(path)
        except BaseException:
            os.unlink(path)
            raise
    spool = _Spool(directory)
    try:
        dump(value, cast("BinaryIO", spool))
        return spool.content()
    except BaseException:
        spool.abandon()
        raise


class _HashingReader(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = xxhash.xxh3_128()
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            piece = view[done : done + _CHUNK]
            count = cast("Any", self._file).readinto(piece)
            if not count:
                break
            self.hash.update(piece[:count])
            done += count
        self.size += done
        return done


class Mismatch(Exception):
    """The content is not what its record says; `found` tells what it is."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


def read(load: Callable[[BinaryIO], Any], file: BinaryIO, size: int, digest: str, *, seekable: bool) -> Any:
    """Reads a value back and holds the content against its size and digest.

    Raises:
        Mismatch: if the content is another; whatever `load` made of it is dropped.
    """
    reader = _HashingReader(file)
    if seekable:
        _drain(reader)
        _compare(size, digest, reader.size, reader.hash.hexdigest())
        file.seek(0)
        return load(file)
    buffered = io.BufferedReader(reader, _CHUNK)
    try:
        value = load(cast("BinaryIO", buffered))
    except Exception:
        # Damaged content breaks a format in any way it likes; that it is damaged is the news.
        _drain(reader)
        _compare(size, digest, reader.size, reader.hash.hexdigest())
        raise
    _drain(reader)
    _compare(size, digest, reader.size, reader.hash.hexdigest())
    return value


def read_bytes(load: Callable[[BinaryIO], Any], data: bytes, size: int, digest: str) -> Any:
    """`read` of a content that is in memory: compared first, so that `load` never meets a damaged one."""
    if len(data) != size or digest_of(data) != digest:
        _compare(size, digest, len(data), digest_of(data))
    return load(io.BytesIO(data))


def verify(file: BinaryIO, size: int, digest: str) -> None:
    """Holds a whole content against its size and digest.

    Raises:
        Mismatch: if it is another.
    """
    reader = _HashingReader(file)
    _drain(reader)
    _compare(size, digest, reader.size, reader.hash.hexdigest())


def _drain(reader: _HashingReader) -> None:
    rest = bytearray(_CHUNK)
    while reader.readinto(rest):
        pass


def _compare(size: int, digest: str, found_size: int, found_digest: str) -> None:
    if found_size != size:
        raise Mismatch(f"{found_size} bytes instead of {size}")
    if found_digest != digest:
        raise Mismatch(f"digest {found_digest} instead of {digest}")
