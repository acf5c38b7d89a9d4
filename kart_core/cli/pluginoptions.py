"""Settings of plugins as options: ``--dask-ship`` is ``--set plugins.dask.ship=true``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kart_core.cli.options import Unknown
from kart_core.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from kart_core.plugin_settings import PluginSetting

_FLAGS = ("bool", "bool | None")


class PluginOption(NamedTuple):
    """What one option sets."""

    place: str
    """As ``--set`` takes it: ``plugins.NAME.KEY``."""
    flag: bool
    """Whether the option may stand without a value."""


def plugin_option(option: str) -> PluginOption | None:
    """The setting of a plugin that an option means; None where no plugin has such a name. Imports that plugin.

    Args:
        option: as written, without ``=VALUE``: ``--dask-ship``.

    Raises:
        Unknown: the plugin has no such setting.
        PluginError: the plugin cannot be imported.
    """
    from kart_core import host
    from kart_core.announcements import canonical
    from kart_core.config import nearest

    word = option.removeprefix("--")
    names = {canonical(name): name for name in _names()} if option.startswith("--") else {}
    for position in (index for index, letter in enumerate(word) if letter in "-_" and index):
        name = names.get(canonical(word[:position])) if word[:position].islower() else None
        if name is None:
            continue
        key = word[position + 1 :].replace("-", "_")
        found = {setting.name: setting for setting in host.current().settings_of(name)}
        if key in found:
            return PluginOption(f"plugins.{name}.{key}", found[key].type in _FLAGS)
        close = nearest(key, found)
        hint = f"did you mean {_written(name, close)}?" if close else f"it has {', '.join(found) or 'none'}"
        raise Unknown(f"the plugin {name} has no setting {key}, so there is no {option}; {hint}")
    return None


def write_plugins(formatter: click.HelpFormatter) -> None:
    """Writes the options for the settings of the plugins that there are, where there are any."""
    records = [
        (
            f"{_written(name, setting.name)} {'[true|false]' if setting.type in _FLAGS else setting.type}",
            _about(setting),
        )
        for name in _names()
        for setting in _settings(name)
    ]
    if records:
        with formatter.section("Settings of plugins (in files: [plugins.NAME])"):
            formatter.write_dl(records)


def _settings(name: str) -> list[PluginSetting]:
    from kart_core import host

    try:
        return host.current().settings_of(name)
    except PluginError:  # it is told where the plugin is used; help is for the others, too
        return []


def _names() -> Iterator[str]:
    """The plugins that may have settings, by name."""
    from kart_core import host

    for state in host.current().states():
        if state.source not in ("built in", "") and state.state not in ("disabled", "broken"):
            yield state.name


def _written(name: str, key: str) -> str:
    return f"--{name}-{key}".replace("_", "-")


def _about(setting: PluginSetting) -> str:
    default = "[required]" if setting.default is None else f"[default: {setting.default}]"
    return f"{setting.help} {default}".strip()
