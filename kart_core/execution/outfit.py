"""What a worker process of an engine is told before its first task: the same for every piece of a run.

It may be on another machine. So secrets do not go along: neither the environment, of which only
kart's own variables are sent, nor what is configured for a field that is a `Secret`. A worker finds
them where it runs, or in the same file, where it sees it.
"""

from __future__ import annotations

import os
import pickle
import sys
import sysconfig
from typing import TYPE_CHECKING, Any, Final

import attrs

from kart_core import config, host
from kart_core._version import __version__
from kart_core.config.files import Entry, File, mark_of, read_file
from kart_core.config.layers import SECTIONS, Config, variables_of
from kart_core.declaration import shape_of
from kart_core.errors import KartError, PluginError
from kart_core.host import Host
from kart_core.task import TaskOnKart

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from kart_core.declaration import Shape

HOLD: float = 300.0
"""Seconds after which a process ends that holds tasks, and of whose run nothing was heard: it is over."""

_VERSION_ENDS: Final = b"\n"
_PREFIX: Final = "KART_"
_UNTOLD: Final = "${WORKERS_ARE_TOLD_OF_CLASSES_THAT_ARE_IMPORTED_WHERE_THE_RUN_IS_STARTED}"  # says so where it is used
_INSTALLED: Final = tuple(
    os.path.join(os.path.realpath(path), "") for name, path in sysconfig.get_paths().items() if "lib" in name
)

Secrets = frozenset[tuple[str, str]]
"""Sections and keys of secrets."""


@attrs.frozen
class Outfit:
    """What a worker needs besides tasks."""

    run: str
    files: Sequence[File]
    variables: Mapping[str, str]
    """Those of kart's variables that are no secrets."""
    hidden: frozenset[str]
    """The names of variables that hold secrets, which the worker may have of its own."""
    options: Mapping[Any, Any]
    plugins: Sequence[str]
    """Those that no distribution brings, as ``module:Class``."""
    disabled: Sequence[str]
    used: Mapping[str, str]
    """The plugins that the process that builds has used, with their versions."""
    versions: Mapping[str, str]
    """Every plugin that the process that builds has, with its version; a task may use what that process does not."""
    levels: Mapping[str, int]
    watched: bool
    """Whether somebody wants to know how far tasks have come."""
    locking: int | None
    """How many processes work, where tasks run under leases; None where they run without."""
    hold: float
    """`HOLD`."""
    directory: str
    """The working directory of the process that builds."""
    path: Sequence[str]
    """Where that process finds modules besides the installed ones, of which each worker has its own."""

    def packed(self) -> bytes:
        """As bytes for `opened`; the version of kart stands first, to be read by any other."""
        return __version__.encode() + _VERSION_ENDS + pickle.dumps(self, protocol=5)

    def config(self) -> Config:
        """The configuration, as it is for tasks of this run in this process."""
        files = [
            read_file(file.mark[0], shown=file.path) if mark_of(file.mark[0]) == file.mark else file
            for file in self.files
        ]
        # Settings that this process happens to have would lead its tasks elsewhere.
        own = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX) or name in self.hidden}
        return Config(tuple(files), {**own, **self.variables}, self.options)

    def wear(self) -> None:
        """Works where the process that builds works, and finds modules where it does, as far as they are here."""
        sys.path[:0] = [folder for folder in self.path if folder not in sys.path and os.path.exists(folder)]
        if os.path.isdir(self.directory):
            os.chdir(self.directory)


def outfit(run: str, levels: Mapping[str, int], watched: bool, locking: int | None) -> Outfit:
    """The outfit of a run, from the configuration and the plugins that are in use.

    Of a class that is not imported here nobody knows which of its parameters are secrets, so nothing is told of it.

    Args:
        run: the id of the run.
        levels: of loggers.
        watched: whether somebody wants to know how far tasks have come.
        locking: how many processes work, where tasks run under leases.

    Raises:
        PluginError: a plugin of the project cannot be imported by another process.
    """
    conf, present = config.current(), host.current()
    shapes = [shape_of(cls) for cls in _loaded(TaskOnKart)]
    secrets = frozenset(_secrets(shapes)) | present.secret_settings()
    spoken = {section for shape in shapes for section in shape.sections} | {*SECTIONS, *present.sections()}
    ours = {name: value for name, value in conf.environment.items() if name.startswith(_PREFIX)}
    hidden = {variable for section, key in secrets for variable in variables_of(section, key)}
    hidden |= {name for name in ours if "__" in name and not _speaks(name, spoken)}
    return Outfit(
        run,
        [attrs.evolve(file, table=_told(file.table, secrets, spoken)) for file in conf.files],
        {name: value for name, value in ours.items() if name not in hidden},
        frozenset(hidden),
        {origin: _told(table, secrets, spoken) for origin, table in conf.options.items()},
        present.importable(),
        present.disabled,
        dict(present.used()),
        present.identities(),
        levels,
        watched,
        locking,
        HOLD,
        os.getcwd(),
        [folder for folder in map(os.path.abspath, sys.path) if not _is_installed(folder)],
    )


def opened(packed: bytes, where: str) -> tuple[Outfit, Config, Host]:
    """An outfit that came, with the configuration and the plugins that hold for it here.

    Args:
        packed: as it came.
        where: how messages name this process.

    Raises:
        PluginError: this process has another version of kart or of a plugin than the one that builds.
        ConfigError: the configuration cannot be used here.
    """
    version, _, body = packed.partition(_VERSION_ENDS)
    if version.decode() != __version__:
        raise PluginError(
            f"the process that builds has kart-core {version.decode()}, and {where} has {__version__}: install one "
            "version in both"
        )
    told: Outfit = pickle.loads(body)
    told.wear()
    conf = told.config()
    present = Host(conf, told.plugins, told.disabled)
    try:
        present.require(told.used, "the process that builds")
    except KartError as error:
        raise type(error)(str(error).replace("this process", where)) from None
    for name, there in present.identities().items():
        if told.versions.get(name, there) != there:
            raise PluginError(
                f"the process that builds has the plugin {name} {told.versions[name]}, and {where} has version "
                f"{there}: install one version in both"
            )
    return told, conf, present


def _is_installed(path: str) -> bool:
    """Whether a path leads to installed packages or to Python's own library."""
    return os.path.join(os.path.realpath(path), "").startswith(_INSTALLED) or path.endswith(".zip")


def _secrets(shapes: Iterable[Shape]) -> Iterable[tuple[str, str]]:
    for shape in shapes:
        for info in shape.infos:
            if "Secret" in str(info.annotation):
                yield from ((section, info.name) for section in shape.sections)


def _loaded(cls: type[Any]) -> Iterator[type[Any]]:
    """A task class and all that were made of it."""
    pending = [cls]
    while pending:
        found = pending.pop()
        yield found
        pending.extend(found.__subclasses__())


def _speaks(variable: str, sections: Iterable[str]) -> bool:
    return any(variable.startswith(next(iter(variables_of(section, "")))) for section in sections)


def _told(table: Mapping[str, Mapping[str, Entry]], secrets: Secrets, spoken: Container[str]) -> Any:
    return {
        section: {
            key: entry if section in spoken else Entry(_UNTOLD, text=True, source=entry.source, interpolated=True)
            for key, entry in entries.items()
            if (section, key) not in secrets
        }
        for section, entries in table.items()
    }
