"""The configuration as a whole: files, environment and options, in their order of authority."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import attrs

from kart_core.config.files import GENERAL, Entry, File, Table
from kart_core.config.interpolation import interpolate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PREFIX = "KART_"
_PLUGINS = "plugins."
_LISTS = {"KART_DISABLE_PLUGINS": ("plugins", "disable")}
"""Variables that hold a list of names, and the key that they stand for."""
_SHORT = {"KART_WORKERS": ("run", "workers"), "KART_EXECUTOR": ("run", "executor")}
"""Variables that say how runs are executed, and the key that they stand for."""
SECTIONS = ("run", "resources", "leases")
"""The sections that speak neither of tasks nor of plugins."""
_OWN_SECTIONS = {section.upper(): section for section in SECTIONS}
_SWITCHES = frozenset({"KART_TRACE"})
"""Variables that are no configuration of tasks or plugins."""


@attrs.frozen
class Found:
    """A configured value, and where it was found."""

    value: Any
    """A string where `text` holds, and otherwise what TOML or a caller of `build` gave."""
    text: bool
    """Whether it is text that is yet to be parsed by the parameter's annotation."""
    source: str
    """For people: ``kart.toml [Train] n``, ``environment KART_TRAIN__N``, ``command line --Train-n``."""


@attrs.frozen(eq=False, slots=False)
class Config:
    """Everything that is configured, immutable.

    Make one with `load_default`, or with `with_options` from another.

    Args:
        files: those that were read; a later one wins over an earlier one.
        environment: the variables, as they were when the configuration was made.
        options: values given to a run, by origin.
    """

    files: Sequence[File] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
    options: Mapping[Literal["command line", "build"], Table] = attrs.field(factory=dict[Any, Any], repr=False)
    _file_table: Table = attrs.field(init=False, repr=False)
    _variables: Mapping[str, str] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        merged: Table = {}
        for file in self.files:
            _merge(merged, file.table)
        variables = {
            name: value
            for name, value in self.environment.items()
            if name.startswith(_PREFIX) and name not in _SWITCHES
        }
        object.__setattr__(self, "_file_table", merged)
        object.__setattr__(self, "_variables", variables)

    def find(self, sections: Sequence[str], key: str) -> Found | None:
        """The value of greatest authority.

        The command line goes before what `build` was given, that before the environment, and
        that before files; within one of them the first section that holds the key is taken.

        Args:
            sections: the most specific first: ``["pipeline.Train", "Train", "Base", "TaskOnKart"]``.
            key: the parameter or setting.

        Raises:
            ConfigError: the value names an environment variable that is not set.
        """
        entry = self._entry(sections, key)
        return None if entry is None else self._found(entry)

    def section(self, name: str) -> Mapping[str, Found]:
        """Every key of one section with its value of greatest authority, as a plugin needs it.

        Args:
            name: ``Train``, ``pipeline.Train``, ``plugins``, ``plugins.s3``.

        Raises:
            ConfigError: a value names an environment variable that is not set.
        """
        return {key: self._found(entry) for key, entry in self._merged.get(name, {}).items()}

    def keys(self, section: str) -> Sequence[str]:
        """The keys that a section holds, whatever their values are."""
        return tuple(self._merged.get(section, ()))

    def sections(self) -> Sequence[str]:
        """The names of all sections that hold something, in the order in which they were met."""
        return tuple(self._merged)

    def values(self) -> Iterator[tuple[str, str, Found]]:
        """Every section, key and value of greatest authority.

        Values are given as they stand: ``${VARIABLE}`` is not replaced, so that listing never fails.
        """
        for section, entries in self._merged.items():
            for key, entry in entries.items():
                yield section, key, Found(entry.value, entry.text, entry.source)

    def with_options(
        self, options: Mapping[tuple[str, str], object], *, origin: Literal["command line", "build"]
    ) -> Config:
        """This configuration with values that were given to a run.

        Args:
            options: by section and key, ``{("Train", "n"): "3"}``. A string from the command line
                is text; everything else has its type already.
            origin: who gave them. What the same origin gave before is kept, and loses.
        """
        added: Table = {}
        for (section, key), value in options.items():
            text = isinstance(value, str) and origin == "command line"
            added.setdefault(section, {})[key] = Entry(value, text, _option_source(section, key, origin))
        merged: Table = {}
        _merge(merged, self.options.get(origin, {}))
        _merge(merged, added)
        return Config(self.files, self.environment, {**self.options, origin: merged})

    def _entry(self, sections: Sequence[str], key: str) -> Entry | None:
        for origin in ("command line", "build"):
            given = self.options.get(origin)
            if given:
                for section in sections:
                    if section in given and key in given[section]:
                        return given[section][key]
        if self._variables:
            for section in sections:
                for variable in variables_of(section, key):
                    if variable in self._variables:
                        return self._from_environment(variable)
        for section in sections:
            if section in self._file_table and key in self._file_table[section]:
                return self._file_table[section][key]
        return None

    def _from_environment(self, variable: str) -> Entry:
        value, source = self._variables[variable], f"environment {variable}"
        if variable in _LISTS:
            return Entry([name.strip() for name in value.split(",") if name.strip()], text=False, source=source)
        return Entry(value, text=True, source=source)

    def _found(self, entry: Entry) -> Found:
        if not entry.interpolated:
            return Found(entry.value, entry.text, entry.source)
        value = interpolate(entry.value, self.environment, entry.source)
        # The TOML string "${N}" is text for an int field: TOML has no other way to say it.
        from_variable = isinstance(entry.value, str) and value != entry.value
        return Found(value, entry.text or from_variable, entry.source)

    @cached_property
    def _merged(self) -> Table:
        merged: Table = {}
        _merge(merged, self._file_table)
        _merge(merged, self._environment_table())
        for origin in ("build", "command line"):
            _merge(merged, self.options.get(origin, {}))
        return merged

    def _environment_table(self) -> Table:
        """The variables by section and key: those that files or options name, or else as spelt, in lower case."""
        known = {
            variable: (section, key)
            for table in (*self.options.values(), self._file_table)
            for section, entries in table.items()
            for key in entries
            for variable in variables_of(section, key)
        }
        sections = {_spelt(section): section for section in (*self._file_table, *self._option_sections())}
        table: Table = {}
        for variable in self._variables:
            section, key = known.get(variable) or _guessed(variable, sections)
            table.setdefault(section, {})[key] = self._from_environment(variable)
        return table

    def _option_sections(self) -> list[str]:
        return [section for table in self.options.values() for section in table]


def _merge(into: Table, table: Table) -> None:
    for section, entries in table.items():
        into.setdefault(section, {}).update(entries)


def _spelt(section: str) -> str:
    return section.removeprefix(_PLUGINS).replace(".", "_").replace("-", "_").upper()


def variables_of(section: str, key: str) -> Iterator[str]:
    """The environment variables that set a key of a section."""
    for variable, place in (*_LISTS.items(), *_SHORT.items()):
        if place == (section, key):
            yield variable
    spelt = key.replace("-", "_").upper()
    yield f"{_PREFIX}{_spelt(section)}__{spelt}"
    if section == GENERAL:
        yield f"{_PREFIX}{spelt}"


def _guessed(variable: str, sections: Mapping[str, str]) -> tuple[str, str]:
    if variable in _LISTS:
        return _LISTS[variable]
    if variable in _SHORT:
        return _SHORT[variable]
    section, separator, key = variable.removeprefix(_PREFIX).rpartition("__")
    if not separator:
        return GENERAL, key.lower()
    return sections.get(section) or _OWN_SECTIONS.get(section, f"{_PLUGINS}{section.lower()}"), key.lower()


def _option_source(section: str, key: str, origin: str) -> str:
    if origin == "build":
        return f"build({key}=…)" if section == GENERAL else f"build, [{section}] {key}"
    spelt = key.replace("_", "-")
    if section.startswith(_PLUGINS) or section == "plugins":
        return f"command line --set {section}.{key}"
    return f"command line --{spelt}" if section == GENERAL else f"command line --{section}-{spelt}"
