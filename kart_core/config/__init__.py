"""What is configured: in files, in the environment, on the command line and by callers of `build`.

Files are ``pyproject.toml`` (its ``[tool.kart]``) and ``kart.toml`` of the working directory, then
those that `add_config` names; a later one wins. They have a section for each task class
(``[Train]``, or ``["pipeline.Train"]`` where two modules have one), ``[TaskOnKart]`` for what holds
for every task, ``[leases]``, ``[plugins]``, and ``[plugins.NAME]`` for a plugin's settings.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING

import attrs

from kart_core.config.files import GENERAL, File, mark_of, read_file, working_directory
from kart_core.config.layers import SECTIONS, Config, Found

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Token

__all__ = [
    "GENERAL",
    "SECTIONS",
    "Config",
    "Found",
    "add_config",
    "current",
    "load_default",
    "nearest",
    "refresh",
    "using",
]

_FOUND_BY_THEMSELVES = ("pyproject.toml", "kart.toml")

_in_use: ContextVar[Config | None] = ContextVar("kart_core.config", default=None)


@attrs.define
class _Default:
    """The process's own configuration, made when it is first asked for."""

    config: Config | None = None
    added: list[File] = attrs.field(factory=list[File])
    mark: object = None
    lock: Lock = attrs.field(factory=Lock)


_default = _Default()


def add_config(path: str | os.PathLike[str]) -> None:
    """Reads a configuration file, whose values win over those of files read before.

    The file is read at once; ``${VARIABLE}`` in its values is replaced when a value is used. A file
    that was added before is read again and takes the last place.

    Args:
        path: a ``.toml`` file (a ``pyproject.toml``: its ``[tool.kart]``), or an ``.ini`` or
            ``.cfg`` file. A relative path starts at the working directory.

    Raises:
        ConfigError: the file is not there, or is not well formed; the message tells every fault.

    Example::

        import kart_core

        kart_core.add_config("base.ini")  # [TaskOnKart] workspace_directory = ${BUCKET}/results
    """
    file = read_file(os.fspath(path))
    with _default.lock:
        _default.added = [other for other in _default.added if other.mark[0] != file.mark[0]] + [file]
        _default.config = None


def current() -> Config:
    """The configuration in use here: that of `using`, or else the process's own.

    The process's own is made when first asked for, and stays the same object until `add_config`,
    `load_default` or `refresh` makes another.

    Raises:
        ConfigError: a file in the working directory is not well formed.
    """
    return _in_use.get() or _default.config or load_default()


class using:  # noqa: N801 - a context manager that reads as a verb
    """Makes a configuration the one that `current` gives, within a ``with`` block.

    Example:
        >>> config = Config().with_options({("Train", "n"): "3"}, origin="command line")
        >>> with using(config):
        ...     current().find(["Train"], "n")
        Found(value='3', text=True, source='command line --Train-n')
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._tokens: list[Token[Config | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_in_use.set(self._config))

    def __exit__(self, *_error: object) -> None:
        _in_use.reset(self._tokens.pop())


def load_default() -> Config:
    """Reads the working directory's files, those of `add_config` and the environment again.

    Returns:
        the process's own configuration from now on.

    Raises:
        ConfigError: a file is not well formed.
    """
    with _default.lock:
        mark = _mark()
        found = [read_file(name) for name in _FOUND_BY_THEMSELVES if os.path.exists(name)]
        added = [
            file if mark_of(file.mark[0]) in (file.mark, None) else read_file(file.mark[0], shown=file.path)
            for file in _default.added
        ]
        _default.added = added
        _default.config = Config((*found, *added), dict(os.environ))
        _default.mark = mark
        return _default.config


def refresh() -> Config:
    """`current`, made anew first if a file, the working directory or the environment has changed since.

    A run begins with it, so that what a program did to ``os.environ`` before counts. Where nothing
    has changed, the configuration remains the same object.

    Raises:
        ConfigError: a file is not well formed.
    """
    if _in_use.get() is None and (_default.config is None or _default.mark != _mark()):
        return load_default()
    return current()


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, for messages.

    Example:
        >>> nearest("workspace_dir", ["rerun", "workspace_directory"])
        'workspace_directory'
    """
    from difflib import get_close_matches

    close = get_close_matches(name, list(candidates), n=1)
    return close[0] if close else None


def _mark() -> object:
    files = (*_FOUND_BY_THEMSELVES, *(file.mark[0] for file in _default.added))
    return working_directory(), [mark_of(path) for path in files], dict(os.environ)
