"""kart: reproducible, cached data and machine-learning pipelines.

A pipeline is a set of typed task classes; `build` runs what is missing and gives back the
result. See the README for a first pipeline, and `TaskOnKart` for what a task can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kart_core._version import __version__

if TYPE_CHECKING:
    from kart_core.building import build, plan
    from kart_core.cli import run
    from kart_core.config import add_config
    from kart_core.declaration import parameter
    from kart_core.errors import (
        BuildError,
        ConfigError,
        CorruptResultError,
        GraphError,
        IdentityError,
        KartError,
        MissingDataError,
        ParameterError,
        PluginError,
        SerializationError,
        StorageError,
    )
    from kart_core.file import File
    from kart_core.plugin import Plugin, Secret, hookimpl
    from kart_core.records import Record, record, results
    from kart_core.running import progress, rng
    from kart_core.target import Target
    from kart_core.task import ExternalTask, TaskOnKart, WrapperTask

__all__ = [
    "BuildError",
    "ConfigError",
    "CorruptResultError",
    "ExternalTask",
    "File",
    "GraphError",
    "IdentityError",
    "KartError",
    "MissingDataError",
    "ParameterError",
    "Plugin",
    "PluginError",
    "Record",
    "Secret",
    "SerializationError",
    "StorageError",
    "Target",
    "TaskOnKart",
    "WrapperTask",
    "__version__",
    "add_config",
    "build",
    "hookimpl",
    "parameter",
    "plan",
    "progress",
    "record",
    "results",
    "rng",
    "run",
]

# Where each public name stands: it is imported when it is first asked for, so that
# `import kart_core` costs nothing that a program does not use.
_HOMES = {
    **dict.fromkeys(("build", "plan"), "kart_core.building"),
    "run": "kart_core.cli",
    "add_config": "kart_core.config",
    "parameter": "kart_core.declaration",
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "kart_core.errors"),
    **dict.fromkeys(("progress", "rng"), "kart_core.running"),
    "File": "kart_core.file",
    **dict.fromkeys(("Plugin", "Secret", "hookimpl"), "kart_core.plugin"),
    **dict.fromkeys(("Record", "record", "results"), "kart_core.records"),
    "Target": "kart_core.target",
    **dict.fromkeys(("ExternalTask", "TaskOnKart", "WrapperTask"), "kart_core.task"),
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'kart_core' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
