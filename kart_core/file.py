"""A file as a parameter: its content, not its name or its date, takes part in the unique id."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from kart_core.content import Content
from kart_core.errors import MissingDataError
from kart_core.nested import is_mapping
from kart_core.parameters import ParameterFault, register

# The digests that were found, by path, size and modification time in nanoseconds.
_digests: dict[tuple[str, int, int], str] = {}

# File systems may keep whole seconds, so two contents of one size that are written at once may have one time.
_SETTLED: Final = 2.0


class File(os.PathLike[str]):
    """A local file whose content enters the unique id of the task that has it as a parameter.

    Touching or renaming the file changes nothing; another content makes what depends on it run.
    The content is hashed once for each size and modification time, as soon as that time is two seconds past.

    Args:
        path: the file.

    Raises:
        MissingDataError: there is no such file, when its digest is first needed: when a task is made with it.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.csv").write_text("1,2"), (folder / "b.csv").write_text("1,2")
        >>> File(folder / "a.csv") == File(folder / "b.csv")
        True
    """

    __slots__ = ("path",)

    path: str
    """The path as it was given."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", os.fspath(path))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a File does not change; make another: File({value!r})")

    @property
    def digest(self) -> str:
        """The digest of the content: xxh3-128, 32 hex digits."""
        try:
            stat = os.stat(self.path)
            key = (os.path.abspath(self.path), stat.st_size, stat.st_mtime_ns)
            digest = _digests.get(key)
            if digest is None:
                digest = Content.of_file(self.path).digest
                if time.time() - stat.st_mtime > _SETTLED:
                    _digests[key] = digest
        except OSError as error:
            raise MissingDataError(
                f"the file {self.path} cannot be read: {error.strerror or error}; put it there, or correct the path"
            ) from error
        return digest

    def read_bytes(self) -> bytes:
        """The content."""
        with open(self.path, "rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content as text."""
        with open(self.path, encoding=encoding) as file:
            return file.read()

    def _kart_encode(self) -> bytes:
        return b"F" + bytes.fromhex(self.digest)

    def __fspath__(self) -> str:
        return self.path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and (self.path == other.path or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> Any:
        return File, (self.path,)

    def __repr__(self) -> str:
        return f"File({self.path!r})"


def _from_data(value: object, annotation: Any) -> object:  # noqa: ARG001
    if isinstance(value, File):
        return value
    if is_mapping(value) and set(value) == {"file"}:
        value = value["file"]
    if not isinstance(value, str) or not value:
        raise ParameterFault("the path of a file", repr(value), kind=type(value).__name__)
    return File(value)


register(
    lambda annotation: annotation is File,
    from_data=_from_data,
    from_text=_from_data,
    to_data=lambda file: {"file": file.path},
)
