"""Settings of plugins as options: ``--dask-ship`` is ``--set plugins.dask.ship=true``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    """The setting of a plugin that an option means; None where no plugin has such a one. Imports plugins of that name.

    Args:
        option: as written, without ``=VALUE``: ``--dask-ship``.
    """
    for name, key, settings in _meant(option):
        for setting in settings:
            if setting.name == key:
                return PluginOption(f"plugins.{name}.{key}", setting.type in _FLAGS)
    return None


def lacking(option: str) -> str | None:
    """What is to be said of an option that nothing knows, where it begins with a plugin's name."""
    from kart_core.config import nearest

    for name, key, settings in _meant(option):
        found = [setting.name for setting in settings]
        close = nearest(key, found)
        hint = f"did you mean {_written(name, close)}?" if close else f"it has {', '.join(found) or 'none'}"
        return f"the plugin {name} has no setting {key}, so there is no {option}; {hint}"
    return None


def _meant(option: str) -> Iterator[tuple[str, str, list[PluginSetting]]]:
    """The plugins whose name an option begins with, the setting that it would be, and those that there are."""
    from kart_core.announcements import canonical

    word = option.removeprefix("--")
    names = {canonical(name): name for name in _names()} if option.startswith("--") else {}
    for position in (index for index, letter in enumerate(word) if letter in "-_" and index):
        name = names.get(canonical(word[:position])) if word[:position].islower() else None
        if name is None:
            continue
        yield name, word[position + 1 :].replace("-", "_"), _settings(name)


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
