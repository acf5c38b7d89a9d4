"""A target: where one output of a task lives, and how it is written."""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
import zipfile
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO

from kart_core import content, host, underway
from kart_core.errors import (
    CorruptResultError,
    GraphError,
    KartError,
    MissingDataError,
    ParameterError,
    SerializationError,
)
from kart_core.nested import is_mapping, is_sequence
from kart_core.plugin import Serializer, Stat
from kart_core.workspace import Workspace, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kart_core.records import Output
    from kart_core.task import TaskOnKart


class Target:
    """Where one output lives: a path in a workspace, and the serializer that its suffix names.

    Targets are made by `TaskOnKart.make_target` and `TaskOnKart.make_model_target`.

    Attributes:
        workspace: the open workspace.
        path: the file's path in it, with ``/``.
        keyed: whether the path holds the unique id, so that its content never changes but by a rerun.
    """

    __slots__ = ("_serializer", "keyed", "path", "workspace")

    def __init__(
        self, workspace: Workspace, path: str, *, keyed: bool = True, serializer: Serializer | None = None
    ) -> None:
        self.workspace = workspace
        self.path = path
        self.keyed = keyed
        self._serializer = serializer

    @property
    def url(self) -> str:
        """The file as people name it: an absolute path, or a URL."""
        return self.workspace.where(self.path)

    @property
    def serializer(self) -> Serializer:
        """The record that writes and reads the file.

        Raises:
            SerializationError: no plugin provides the suffix.
        """
        if self._serializer is None:
            self._serializer = serializer_of(self.path)
        return self._serializer

    def exists(self) -> bool:
        """Whether the file is there."""
        underway.wait_for(self.workspace, self.path)
        return self.stat() is not None

    def stat(self) -> Stat | None:
        """What the store knows of the file; None where there is none."""
        with guarded(self.workspace, self.path):
            return self.workspace.store.stat(self.path)

    def read(self, expected: Output | None, data: bytes | None = None) -> Any:
        """The value in the file, held against what the record says of it.

        Args:
            expected: size and digest; None for data that no task wrote.
            data: the content, where it was read ahead.

        Raises:
            MissingDataError: no such file.
            CorruptResultError: the content is not what was written.
            SerializationError: the content cannot be read in this format.
        """
        serializer = self.serializer
        underway.wait_for(self.workspace, self.path)
        try:
            if expected is not None and expected.size <= content.MEMORY:
                if data is None:
                    with guarded(self.workspace, self.path):
                        data = self.workspace.store.read(self.path)
                return content.read_bytes(serializer.load, data, expected.size, expected.digest)
            with guarded(self.workspace, self.path), self.workspace.store.open(self.path) as file:
                if expected is None:
                    return self._load(file)
                return content.read(self._load, file, expected.size, expected.digest, seekable=serializer.seekable)
        except FileNotFoundError:
            raise MissingDataError(f"{self.url} is not there; build the task that makes it") from None
        except content.Mismatch as mismatch:
            raise self.corrupt(mismatch) from None
        except (KartError, MemoryError):
            raise
        except Exception as error:
            raise self._unreadable(error) from error

    def _load(self, file: BinaryIO) -> Any:
        """The value in an open file; of errors only those of reading the file itself are the store's."""
        try:
            return self.serializer.load(file)
        except (FileNotFoundError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> SerializationError:
        return SerializationError(
            f"{self.url} cannot be read as .{self.serializer.suffix}: {type(error).__name__}: {error}; "
            "check that what it was made of can be imported here"
        )

    def read_parts(self, expected: Output | None) -> Iterator[Any]:
        """The parts of a value that was dumped in parts, read one at a time.

        Raises:
            MissingDataError: no such file.
            CorruptResultError: the content is not what was written; found before the first part is given.
        """
        serializer = self.serializer
        underway.wait_for(self.workspace, self.path)
        if serializer.stream is None:
            yield self.read(expected)
            return
        try:
            with guarded(self.workspace, self.path):
                file = self.workspace.store.open(self.path)
        except FileNotFoundError:
            raise MissingDataError(f"{self.url} is not there; build the task that makes it") from None
        with file:
            if expected is not None:
                try:
                    with guarded(self.workspace, self.path):
                        content.verify(file, expected.size, expected.digest)
                except content.Mismatch as mismatch:
                    raise self.corrupt(mismatch) from None
                file.seek(0)
            parts = serializer.stream(file)
            while True:
                with guarded(self.workspace, self.path):
                    try:
                        part = next(parts)
                    except StopIteration:
                        return
                    except (KartError, MemoryError, OSError):
                        raise
                    except Exception as error:
                        raise self._unreadable(error) from error
                yield part

    def corrupt(self, mismatch: content.Mismatch) -> CorruptResultError:
        """The error of a file that is not what its record says."""
        return CorruptResultError(
            f"{self.url} is not what was written: {mismatch.found}; delete the file and its task runs again"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"Target({self.url!r})"


def serializer_of(path: str) -> Serializer:
    """The serializer that the end of a file name chooses; of two that fit, the one with the longer suffix.

    Raises:
        SerializationError: no plugin provides one.
    """
    present = host.current()
    parts = path[path.rfind("/") + 1 :].split(".")
    for start in range(1, len(parts)):
        found = present.serializer(".".join(parts[start:]))
        if found is not None:
            return found
    if len(parts) == 1:
        raise SerializationError(f"the target {path!r} has no suffix; name the format, as in {parts[0]}.pkl")
    raise SerializationError(f"{present.missing('kart_serializers', parts[-1])} (target {path!r})")


def checked_path(path: str, owner: object) -> str:
    """A target's path, normalised.

    Raises:
        ParameterError: it is empty, absolute, leads out of the workspace, or into kart's own folder.
    """
    given = str(path).replace(os.sep, "/")
    normal = posixpath.normpath(given)
    if not given or normal in (".", "..") or normal.startswith(("/", "../")) or "://" in given or "\0" in given:
        raise ParameterError(
            f"{owner!r} names the target {path!r}, which leads out of its workspace; give a path relative to "
            "workspace_directory"
        )
    if normal == ".kart" or normal.startswith(".kart/"):
        raise ParameterError(f"{owner!r} names the target {path!r} in kart's own folder .kart; choose another folder")
    return normal


def keyed_path(path: str, unique_id: str) -> str:
    """The path with the unique id before its suffixes.

    Example:
        >>> keyed_path("models/best.tar.gz", "0f")
        'models/best_0f.tar.gz'
    """
    start = path.rfind("/") + 1
    dot = path.find(".", start + 1)
    return f"{path}_{unique_id}" if dot < 0 else f"{path[:dot]}_{unique_id}{path[dot:]}"


def declared(task: TaskOnKart[Any]) -> Any:
    """What the task's `output()` gives.

    Raises:
        GraphError: it raised an exception, which is the error's cause.
    """
    try:
        return task.output()
    except KartError:
        raise
    except Exception as error:
        raise GraphError(f"output() of {task!r} raised {type(error).__name__}: {error}; correct it there") from error


def flatten(structure: Any, owner: object) -> dict[str, Target]:
    """Every target in what `output()` gave, by its name in the structure: ``""`` for one alone, ``model``, ``parts.0``.

    Raises:
        ParameterError: it holds something that is no target.
    """
    found: dict[str, Target] = {}
    pending: deque[tuple[str, Any]] = deque([("", structure)])
    while pending:
        name, value = pending.popleft()
        if isinstance(value, Target):
            found[name] = value
        elif is_mapping(value):
            pending.extend((f"{name}.{key}" if name else str(key), v) for key, v in value.items())
        elif is_sequence(value):
            pending.extend((f"{name}.{i}" if name else str(i), v) for i, v in enumerate(value))
        else:
            raise ParameterError(
                f"output() of {owner!r} holds a {type(value).__name__}; give targets made by self.make_target(…), "
                "alone or in a list, tuple or mapping"
            )
    return found


def shaped_like(structure: Any, values: Callable[[Target], Any]) -> Any:
    """The structure of `output()` with a value in place of each target."""
    if isinstance(structure, Target):
        return values(structure)
    if is_mapping(structure):
        return {key: shaped_like(value, values) for key, value in structure.items()}
    made = [shaped_like(value, values) for value in structure]
    return tuple(made) if isinstance(structure, tuple) else made


def model_serializer(save: Callable[[Any, str], object], load: Callable[[str], Any]) -> Serializer:
    """A serializer of two functions that write and read a file or folder by its local path, kept as a zip file."""

    def dump(value: Any, file: BinaryIO) -> None:
        with tempfile.TemporaryDirectory(prefix="kart-") as folder:
            save(value, os.path.join(folder, "model"))
            names = sorted(
                os.path.relpath(os.path.join(at, name), folder) for at, _, files in os.walk(folder) for name in files
            )
            if not names:
                raise ValueError("the save function wrote no file at the path that it was given")
            with zipfile.ZipFile(file, "w") as archive:
                for name in names:
                    # A fixed date: equal models are equal files.
                    info = zipfile.ZipInfo(name.replace(os.sep, "/"))
                    with (
                        open(os.path.join(folder, name), "rb") as source,
                        archive.open(info, "w", force_zip64=True) as into,
                    ):
                        shutil.copyfileobj(source, into, 1 << 20)

    def read(file: BinaryIO) -> Any:
        with tempfile.TemporaryDirectory(prefix="kart-") as folder:
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)
            return load(os.path.join(folder, "model"))

    return Serializer("zip", dump=dump, load=read, seekable=True)
