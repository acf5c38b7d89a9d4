"""The command that shows every effective value of the configuration, and where it comes from."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from kart_core import config, host
from kart_core.cli import classes
from kart_core.cli.options import parameters, written
from kart_core.cli.roots import configured, required_class
from kart_core.config import runs
from kart_core.declaration import MISSING, shape_of
from kart_core.errors import ConfigError, PluginError
from kart_core.naming import qualified_name
from kart_core.plugin import Secret
from kart_core.report.say import say
from kart_core.report.tables import show_table
from kart_core.settings import SETTINGS
from kart_core.task import TaskOnKart, task_classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kart_core.cli.arguments import Arguments, Given
    from kart_core.cli.classes import TaskClass
    from kart_core.config import Found

_HIDDEN = "***"
_SECRETIVE = re.compile(r"secret|passw|token|credential|key|private|auth", re.IGNORECASE)
_NOT_IMPORTED = "no class of that name is imported: not checked"


class Row(NamedTuple):
    """One effective value of the configuration."""

    section: str
    key: str
    value: str
    source: str
    note: str = ""


def show_configuration(
    arguments: Arguments,
    *,
    files: Sequence[str],
    plugin_settings: Sequence[str],
    as_json: bool,
) -> int:
    """Shows every effective value and where it comes from; gives the exit code."""
    with configured(arguments.given, files, plugin_settings):
        rows = list(_rows(arguments))
    if as_json:
        say(json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False))
        return 0
    columns = 5 if any(row.note for row in rows) else 4
    show_table(Row._fields[:columns], (row[:columns] for row in rows), styles=("bold", None, None, "dim"))
    return 0


def _rows(arguments: Arguments) -> Iterator[Row]:
    asked: list[TaskClass] = [TaskOnKart, *classes.reachable(arguments.roots)]
    for cls in asked:
        yield from _class_rows(cls, arguments.given)
    by_section = {name: cls for cls in (TaskOnKart, *task_classes()) for name in (cls.__name__, qualified_name(cls))}
    for section, key, found in config.current().values():
        cls = by_section.get(section)
        known = {*SETTINGS, *parameters(cls)} if cls is not None else set[str]()
        if section.startswith("plugins.") or (cls in asked and key in known):
            continue
        if section in (runs.SECTION, runs.RESOURCES):
            yield Row(section, key, _text(found.value), found.source, _fault_of_run(section, key, found))
            continue
        note = _NOT_IMPORTED if cls is None and section not in ("plugins", *config.SECTIONS) else ""
        if cls is not None and key not in known:
            close = config.nearest(key, known)
            note = f"{section} has no such parameter" + (f"; did you mean {close}?" if close else "")
        yield Row(section, key, _HIDDEN if _is_secretive(cls, key) else _text(found.value), found.source, note)
    for section in config.current().sections():
        if section.startswith("plugins."):
            yield from _plugin_rows(section)


def _fault_of_run(section: str, key: str, found: Found) -> str:
    """What is wrong with a value of the sections that are about runs; empty where nothing is."""
    try:
        runs.check(section, key, found)
    except ConfigError as error:
        return str(error).removeprefix(f"{found.source}: ")
    return ""


def _class_rows(cls: TaskClass, given: Iterable[Given]) -> Iterator[Row]:
    """The parameters of a class, and the settings where they differ from those of every task."""
    shape = shape_of(cls)
    section = "TaskOnKart" if cls is TaskOnKart else shape.name
    of_root = {meaning.name: one for one in given for meaning in one.meanings if meaning.root and meaning.cls is cls}
    for name, field in parameters(cls).items():
        hidden = field.private or _is_secret(field.annotation)
        if name in of_root:
            one = of_root[name]
            yield Row(section, name, _HIDDEN if hidden else one.text, f"command line {one.option}")
        elif field.default is MISSING and required_class(field.annotation) is not None:
            made = Row(section, name, "", "made from its own parameters")
            yield _effective(section, shape.sections, name, hidden=hidden) or made
        else:
            by_class = Row(section, name, "", "required") if field.default is MISSING else None
            shown = Row(section, name, _HIDDEN if hidden else written(field.default), "default")
            yield _effective(section, shape.sections, name, hidden=hidden) or by_class or shown
    for name, info in SETTINGS.items():
        if cls is TaskOnKart:
            default = Row(section, name, written(info.default), "default")
            yield _effective(section, shape.sections, name, hidden=False) or default
        elif (row := _effective(section, shape.sections[:-1], name, hidden=False)) is not None:
            yield row
        elif name in shape.defaults:
            yield Row(section, name, written(shape.defaults[name]), f"class {shape.name}")


def _effective(section: str, sections: Sequence[str], name: str, *, hidden: bool) -> Row | None:
    """The configured value of greatest authority; None where nothing is configured."""
    try:
        found = config.current().find(sections, name)
    except ConfigError as error:
        return Row(section, name, "", "configuration", str(error))
    return None if found is None else Row(section, name, _HIDDEN if hidden else _text(found.value), found.source)


def _plugin_rows(section: str) -> Iterator[Row]:
    name = section.removeprefix("plugins.")
    try:
        values = config.current().section(section)
    except ConfigError:
        yield from _unusable(section)
        return
    if name == "prefer":
        for key, found in values.items():
            yield Row(section, key, _text(found.value), found.source)
        return
    try:
        settings = {setting.name: setting for setting in host.current().settings_of(name)}
    except PluginError as error:
        # Whether a value is a secret, only the plugin can say.
        yield from (Row(section, key, _HIDDEN, found.source, str(error)) for key, found in values.items())
        return
    for key, found in values.items():
        setting = settings.get(key)
        if setting is None:
            yield Row(section, key, _HIDDEN, found.source, "the plugin has no such setting")
        else:
            yield Row(section, key, setting.value or "", setting.source, setting.fault or "")


def _unusable(section: str) -> Iterator[Row]:
    """A section in which a value names a variable that is not set: which one it is, and what stands beside it."""
    for place, key, found in config.current().values():
        if place == section:
            try:
                config.current().find([section], key)
            except ConfigError as error:
                yield Row(section, key, "", found.source, str(error))
            else:
                yield Row(section, key, _HIDDEN, found.source)


def _is_secret(annotation: Any) -> bool:
    return annotation is Secret or any(_is_secret(part) for part in get_args(annotation))


def _is_secretive(cls: TaskClass | None, key: str) -> bool:
    """Whether a value is not to be shown: where its class is not known, its name decides."""
    field = parameters(cls).get(key) if cls is not None else None
    if field is None:
        return bool(_SECRETIVE.search(key))
    return field.private or _is_secret(field.annotation)


def _text(value: object) -> str:
    """A value as a file or a variable holds it, or as a caller gave it."""
    return value if isinstance(value, str) else written(value)
