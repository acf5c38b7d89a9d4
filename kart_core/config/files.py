"""Configuration files: which are read, and what they hold, section by section."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, cast

import attrs

from kart_core.config.ini import read_ini
from kart_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GENERAL = "TaskOnKart"
"""The section that holds for every task."""

_PLUGIN_KEYS: Mapping[str, tuple[type, str]] = {
    "disable": (list, "a list of names"),
    "load": (list, "a list of module:Class"),
    "prefer": (dict, "a table of name = distribution"),
}
"""What ``[plugins]`` itself holds; a table of another name in it holds a plugin's settings."""


@attrs.frozen
class Entry:
    """One value as a file, the environment or an option holds it."""

    value: Any = attrs.field(repr=False)
    text: bool
    """Whether the value is text yet to be parsed; otherwise it has a type already."""
    source: str
    """Where it stands, for messages."""
    interpolated: bool = False
    """Whether ``${…}`` in it is to be replaced."""


Table = dict[str, dict[str, Entry]]


@attrs.frozen
class File:
    """A configuration file that was read."""

    path: str
    """As it was given, which is how messages name it."""
    mark: tuple[str, int, int]
    """Absolute path, size and time of modification when it was read."""
    table: Table = attrs.field(repr=False)


def mark_of(path: str) -> tuple[str, int, int] | None:
    """What changes when the file does; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return os.path.abspath(path), stat.st_size, stat.st_mtime_ns


def working_directory() -> str:
    """The working directory.

    Raises:
        ConfigError: it was deleted.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the working directory was deleted; change to one that is there") from None


def read_file(path: str, *, shown: str | None = None) -> File:
    """Reads one configuration file.

    Args:
        path: ends in ``.toml``, ``.ini`` or ``.cfg``; relative to the working directory.
        shown: how messages name the file; by default, `path`.

    Raises:
        ConfigError: the file is not there, cannot be read, or is not well formed; all faults
            of an INI file and of the layout of a TOML file are told at once.
    """
    name = shown or path
    suffix = os.path.splitext(path)[1]
    if suffix not in (".toml", ".ini", ".cfg"):
        raise ConfigError(f"{name}: a configuration file ends in .toml, .ini or .cfg; rename it")
    mark = mark_of(path)
    if mark is None:
        raise ConfigError(
            f"{name}: there is no such file; relative paths start at the working directory, {working_directory()}"
        )
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read().removeprefix("\ufeff")  # the codec that does it itself is a module more to import
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: the file cannot be read as text: {error}") from None
    table, faults = _ini(name, text) if suffix != ".toml" else _toml(name, text)
    if faults:
        raise ConfigError("\n".join(f"{name}: {fault}" for fault in faults))
    return File(name, mark, table)


def _ini(path: str, text: str) -> tuple[Table, list[str]]:
    sections, faults = read_ini(text)
    return {
        section: {
            key: Entry(value, text=True, source=f"{path} [{section}] {key}", interpolated=True)
            for key, value in values.items()
        }
        for section, values in sections.items()
    }, faults


def _toml(path: str, text: str) -> tuple[Table, list[str]]:
    of_project = os.path.basename(path) == "pyproject.toml"
    if of_project and not _may_name_kart(text):
        return {}, []  # most projects have such a file, and to read TOML takes longer than many a run
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return {}, [f"not valid TOML: {error}"]
    if of_project:
        document = cast("dict[str, Any]", document.get("tool", {})).get("kart", {})
        if not isinstance(document, dict):
            return {}, ["tool.kart must be a table"]
    table: Table = {}
    faults: list[str] = []
    for section, values in _sections(cast("dict[str, Any]", document), faults):
        entries = table.setdefault(section, {})
        for key, value in values.items():
            entries[key] = Entry(value, text=False, source=f"{path} [{section}] {key}", interpolated=True)
    return table, faults


def _may_name_kart(text: str) -> bool:
    """Whether a key or table ``kart`` can be in the text, however TOML lets it be written; False is certain."""
    following = (part.lstrip("\"' \t")[:1] for part in text.split("kart")[1:])
    return "\\u" in text or "\\U" in text or any(one in ("]", ".", "=") for one in following)


def _sections(document: dict[str, Any], faults: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, values in document.items():
        if not isinstance(values, dict):
            faults.append(f"{name} stands outside of a table; what holds for every task stands in [{GENERAL}]")
        elif name == "plugins":
            yield from _plugin_sections(cast("dict[str, Any]", values), faults)
        else:
            yield from _task_sections(name, cast("dict[str, Any]", values))


def _task_sections(name: str, values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    # [pipeline.Train] is a table in a table for TOML; who writes it means ["pipeline.Train"].
    # A table of tables is taken for a module where it is named like one, not like a class.
    is_module = not name.rpartition(".")[2][:1].isupper() and all(isinstance(value, dict) for value in values.values())
    if is_module and values:
        for inner, inner_values in values.items():
            yield from _task_sections(f"{name}.{inner}", inner_values)
    else:
        yield name, values


def _plugin_sections(values: dict[str, Any], faults: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    own: dict[str, Any] = {}
    for key, value in values.items():
        kind, meaning = _PLUGIN_KEYS.get(key, (dict, "a table of settings"))
        if not isinstance(value, kind):
            faults.append(f"[plugins] {key} must be {meaning}")
        elif key in _PLUGIN_KEYS:
            own[key] = value
        else:
            yield f"plugins.{key}", cast("dict[str, Any]", value)
    if own:
        yield "plugins", own
