"""A workspace: the URL under which results live, and the store that reads and writes there."""

from __future__ import annotations

import logging
import os
from typing import Final
from weakref import WeakKeyDictionary

from kart_core import host, running
from kart_core.errors import ConfigError, KartError, PluginError, StorageError
from kart_core.plugin import Storage, Store

_log = logging.getLogger("kart_core.workspace")

RECORDS: Final = ".kart/records"
FORMAT: Final = ".kart/format"
FORMAT_VERSION: Final = b"1\n"


class Workspace:
    """One open workspace.

    Attributes:
        url: as people name it: an absolute folder, or a URL.
        store: the files under it.
        storage: the record of the plugin that opened it.
        remote: whether it is reached over a network.
    """

    __slots__ = ("_format_file", "_formatted", "remote", "storage", "store", "url")

    def __init__(self, url: str, store: Store, storage: Storage) -> None:
        self.url = url
        self.store = store
        self.storage = storage
        self.remote = storage.shared == "network"
        self._formatted = False
        self._format_file: str | None = None

    def ensure_format(self, again: bool = True) -> None:
        """Writes the version of the layout at the first write.

        Args:
            again: whether to look once more where that was done, for a folder may have been deleted since.

        Raises:
            StorageError: the workspace cannot be written, or is of a later version.
        """
        # To ask a far storage each time would cost.
        if self._formatted and (not again or self._format_file is None or os.path.exists(self._format_file)):
            return
        local = self.store.local_path(FORMAT)
        with guarded(self, FORMAT, writing=True):
            try:
                found = self.store.read(FORMAT)
            except FileNotFoundError:
                self.store.put(FORMAT, FORMAT_VERSION)
                found = FORMAT_VERSION
            # A file that was written once does not tell that this process may write; records go beside it.
            if local is not None and not os.access(os.path.dirname(local), os.W_OK | os.X_OK):
                raise PermissionError("Permission denied")
        if found != FORMAT_VERSION:
            version = found[:20].decode(errors="replace").strip()
            raise StorageError(
                f"the workspace {self.url} has layout version {version!r}; this kart writes version 1: update "
                "kart-core, or choose another workspace_directory"
            )
        self._formatted = True
        self._format_file = local

    def where(self, path: str) -> str:
        """A file of the workspace as people name it."""
        return f"{self.url.rstrip('/')}/{path}"

    def __repr__(self) -> str:
        return f"Workspace({self.url!r})"


class guarded:  # noqa: N801 - a context manager that reads as a word
    """Turns what a store raises into a `StorageError` that names the file.

    Libraries of remote storages draw the waits between their retries from `random`; within, they
    do not move the running task's stream.

    Args:
        workspace: where the file is.
        path: the file.
        writing: whether it is only written: what is missing then is a folder that cannot be made. Of what is read,
            a missing file stays `FileNotFoundError`.
    """

    __slots__ = ("_passes", "_path", "_stream", "_workspace")

    def __init__(self, workspace: Workspace, path: str, *, writing: bool = False) -> None:
        self._workspace = workspace
        self._path = path
        self._passes = KartError if writing else (FileNotFoundError, KartError)

    def __enter__(self) -> None:
        self._stream = None
        # Only in the thread of the task: elsewhere, giving the state back would take back what the task drew meanwhile.
        if self._workspace.remote and running.is_inside():
            import random

            self._stream = random.getstate()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._stream is not None:
            import random

            random.setstate(self._stream)
        if isinstance(error, (OSError, ValueError)) and not isinstance(error, self._passes):
            raise storage_error(self._workspace, self._path, error) from error


def storage_error(workspace: Workspace, path: str, error: Exception) -> StorageError:
    """The error of a file that cannot be read or written."""
    why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return StorageError(
        f"{workspace.where(path)} cannot be used: {why}; check that the workspace exists, that there is room, and that "
        "you may read and write there, or set workspace_directory"
    )


_opened: WeakKeyDictionary[host.Host, dict[str, Workspace]] = WeakKeyDictionary()


def open_workspace(url: str) -> Workspace:
    """The workspace at a URL or folder, opened once per host of plugins.

    A relative folder is relative to the working directory.

    Raises:
        ConfigError: an empty or malformed URL.
        PluginError: no plugin provides its scheme.
    """
    if not url.strip():
        raise ConfigError(
            "workspace_directory is empty; give a folder such as ./resources/ or a URL such as s3://bucket/x"
        )
    present = host.current()
    opened = _opened.setdefault(present, {})
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        scheme, url = "file", os.path.abspath(rest if separator else os.path.expanduser(url))
    # One place is one workspace, however it is spelt.
    key = url if scheme == "file" else f"{scheme}://{rest.rstrip('/')}"
    workspace = opened.get(key)
    if workspace is None:
        workspace = opened[key] = _open(scheme, url, present)
    return workspace


def _open(scheme: str, url: str, present: host.Host) -> Workspace:
    if scheme == "file":
        folder = url
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise StorageError(f"the workspace {folder} is a file, not a folder; set workspace_directory to a folder")
    storage = present.storage(scheme)
    if storage is None:
        storage = _generic(scheme, url, present)
    try:
        return Workspace(url, storage.open(url), storage)
    except KartError:
        raise
    except Exception as error:
        raise StorageError(f"the workspace {url} cannot be opened: {type(error).__name__}: {error}") from error


def _generic(scheme: str, url: str, present: host.Host) -> Storage:
    """Any other scheme that fsspec knows goes to fsspec as it is."""
    missing = present.missing("kart_storages", scheme)
    from fsspec.registry import known_implementations  # pyright: ignore[reportMissingTypeStubs]

    if scheme not in known_implementations or "pip install" in str(missing) or "is provided by" in str(missing):
        raise PluginError(f"{missing} (workspace_directory={url})")
    from kart_core.builtin.fsspec_store import FsspecStore

    _log.warning(
        "no plugin provides %s://; it goes to fsspec as it is, where two processes that write at once are not told "
        "apart",
        scheme,
    )
    return Storage(scheme, open=FsspecStore, shared="network", exclusive=False)
