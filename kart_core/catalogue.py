"""Which plugins there are, and which of them provides a name.

Order decides nothing: where two provide one name, the configuration chooses or there is an error.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from kart_core.announcements import canonical, scan
from kart_core.config import Config, nearest
from kart_core.errors import ConfigError, PluginError
from kart_core.known_plugin import KnownPlugin, PluginState, from_announcements, from_code

if TYPE_CHECKING:
    from kart_core.plugin import Plugin

__all__ = ["BUILTIN", "Catalogue"]

BUILTIN: Final[Mapping[str, Mapping[str, str]]] = {
    "kart_storages": {"file": "local_store", "memory": "memory_store"},
    "kart_serializers": {
        **dict.fromkeys(("pkl", "json", "txt", "bin"), "serializers"),
        **dict.fromkeys(("npy", "npz"), "arrays"),
    },
    "kart_hashers": dict.fromkeys(("numpy.ndarray", "numpy.dtype", "numpy.generic"), "hashers"),
    "kart_seeders": {"random.seed": "seeders"},
    "kart_executors": {"inline": "executors", "processes": "processes"},
    "kart_event": {},
}
"""Every built-in name and the module of `kart_core.builtin` that holds its record."""

_CORE: Final = "kart-core"
"""The distribution of the built-in plugins, as `prefer` names it."""

_SHOWN = {
    "kart_storages": "{}://",
    "kart_serializers": ".{}",
    "kart_hashers": "ids of {}",
    "kart_seeders": "the seed method {}",
    "kart_executors": "the executor {}",
    "kart_event": "the listener {}",
}
"""How messages write a name of each hook."""

_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "kart_storages": {"s3": "kart-s3", "s3a": "kart-s3", "gs": "kart-gcs", "gcs": "kart-gcs"},
    "kart_seeders": {
        "numpy.random.seed": "kart-torch-seed",
        "torch.random.manual_seed": "kart-torch-seed",
        "torch.manual_seed": "kart-torch-seed",
        "torch.cuda.manual_seed_all": "kart-torch-seed",
        "torch.use_deterministic_algorithms": "kart-torch-seed",
    },
    "kart_executors": {"dask": "kart-dask"},
}
"""kart's own plugins: which package to install for a name that nobody here provides."""

_PACKAGED_HOOKS: Final = tuple(hook for hook in _SHOWN if hook != "kart_event")
"""The hooks whose names must each have one provider; a listener's name is free."""


class Catalogue:
    """Every plugin that is named in the configuration or in code, or is installed.

    Args:
        config: where ``[plugins]`` and ``[plugins.prefer]`` stand.
        plugins: plugins that no distribution brings: a class, an instance, or ``module:Class``.
        disable: names of plugins that are switched off besides those that the configuration names.

    Attributes:
        own: the plugins that no distribution brings, known without a look at what is installed.
    """

    def __init__(self, config: Config, plugins: Sequence[type[Plugin] | Plugin | str], disable: Sequence[str]) -> None:
        self._prefer = dict(_preferences(config))
        self._disabled = {**_disabled(config), **dict.fromkeys(disable, "switched off by --no-plugin")}
        self.own = self._marked(_own(config, plugins))
        self._installed: list[KnownPlugin] | None = None
        self._lock = threading.Lock()

    def all(self) -> list[KnownPlugin]:
        """Every plugin, also those that are switched off; what is installed is looked at on the first call."""
        with self._lock:
            if self._installed is None:
                self._installed = self._marked(from_announcements(scan()))
                _part(self.own + self._installed)
            return self.own + self._installed

    def enabled(self) -> list[KnownPlugin]:
        """The plugins that are not switched off."""
        return [plugin for plugin in self.all() if plugin.disabled is None]

    def find(self, name: str) -> KnownPlugin:
        """The plugin of a name, a distribution or a class.

        Raises:
            PluginError: there is none.
        """
        for plugin in self.all():
            if plugin.called(name):
                return plugin
        near = nearest(name, [plugin.name for plugin in self.all()])
        hint = f"did you mean {near}?" if near else "`kart-core plugins` lists those that there are"
        raise PluginError(f"there is no plugin {name}: {hint}")

    def is_plainly_builtin(self, hook: str, name: str) -> bool:
        """Whether a name is built in and nobody speaks of it, so that nothing else need be looked at."""
        return (
            name in BUILTIN[hook]
            and name not in self._prefer
            and not any(name in plugin.provides(hook) for plugin in self.own if plugin.disabled is None)
        )

    def choose(self, hook: str, name: str) -> KnownPlugin | None:
        """The one plugin that provides a name; None where none does, or where the built-in one holds.

        Raises:
            PluginError: several provide it and nothing chooses, or what is chosen does not provide it.
        """
        candidates = [plugin for plugin in self.enabled() if name in plugin.provides(hook)]
        builtin = name in BUILTIN[hook]
        preferred = self._prefer.get(name)
        if preferred is not None and (candidates or builtin):
            if builtin and canonical(preferred) == canonical(_CORE):
                return None
            chosen = [plugin for plugin in candidates if plugin.called(preferred)]
            if len(chosen) == 1:
                return chosen[0]
            if not self._provides_otherwise(preferred, hook, name):
                raise PluginError(_wrong_choice(hook, name, preferred, candidates))
        if builtin and all(plugin.announced is not None for plugin in candidates):
            return None  # nothing takes over a built-in name by being installed
        if len(candidates) + builtin > 1:
            raise PluginError(_conflict(hook, name, candidates))
        return candidates[0] if candidates else None

    def missing(self, hook: str, name: str) -> PluginError | ConfigError:
        """The error for a name that nobody provides, with what to do about it."""
        shown = _SHOWN[hook].format(name)
        for plugin in self.all():
            if plugin.disabled is not None and name in plugin.provides(hook):
                return PluginError(f"{shown} is provided by the plugin {plugin.label}, which is {plugin.disabled}")
        if package := _PACKAGES.get(hook, {}).get(name):
            return PluginError(f"no plugin provides {shown} — pip install {package}")
        names = self.names(hook)
        near = nearest(name, names)
        hint = f"did you mean {_SHOWN[hook].format(near)}?" if near else f"there are {', '.join(names) or 'none'}"
        # Of executors a few words are all that there are: another is a slip of who asks, and nothing lacks.
        kind = ConfigError if hook == "kart_executors" else PluginError
        return kind(f"no plugin provides {shown}: {hint}")

    def names(self, hook: str) -> list[str]:
        """Every name of a hook that is built in or provided by a plugin."""
        return sorted({*BUILTIN[hook], *(name for plugin in self.enabled() for name in plugin.provides(hook))})

    def states(self) -> list[PluginState]:
        """What is known of every plugin, and of every name that is switched off; imports nothing."""
        from kart_core._version import __version__

        provides = {hook: tuple(names) for hook, names in BUILTIN.items() if names}
        target = "kart_core.builtin:Builtin"
        states = [PluginState("builtin", _CORE, __version__, target, "built in", "ready", "", provides)]
        plugins = self.all()
        states.extend(plugin.state(self._conflict_of(plugin)) for plugin in plugins)
        for name, why in self._disabled.items():
            if not any(plugin.called(name) for plugin in plugins):
                states.append(PluginState(name, "", "", "", "", "disabled", f"{why}; no plugin of this name is known"))
        return states

    def _conflict_of(self, plugin: KnownPlugin) -> str | None:
        if plugin.disabled is not None:
            return None
        for hook in _PACKAGED_HOOKS:
            for name in plugin.provides(hook):
                try:
                    chosen = self.choose(hook, name)
                except PluginError as error:
                    return str(error)
                if chosen is None and name not in self._prefer:
                    return (
                        f"{_SHOWN[hook].format(name)} is built in and stays so: to use this plugin's, write "
                        f"{_choice(name, plugin.distribution)} in the section [plugins.prefer]"
                    )
        return None

    def _provides_otherwise(self, preferred: str, hook: str, name: str) -> bool:
        """Whether the preference is about another hook: a scheme and an executor may bear one name."""
        others = [other for other in _PACKAGED_HOOKS if other != hook]
        return any(
            plugin.called(preferred) and any(name in plugin.provides(other) for other in others)
            for plugin in self.enabled()
        )

    def _marked(self, plugins: list[KnownPlugin]) -> list[KnownPlugin]:
        for plugin in plugins:
            plugin.disabled = next((why for name, why in self._disabled.items() if plugin.called(name)), None)
        return plugins


def _conflict(hook: str, name: str, candidates: Sequence[KnownPlugin]) -> str:
    builtin = name in BUILTIN[hook]
    labels = [*(["kart itself"] if builtin else []), *(plugin.label for plugin in candidates)]
    choices = [*([_CORE] if builtin else []), *(plugin.distribution or plugin.target for plugin in candidates)]
    lines = " or ".join(_choice(name, choice) for choice in choices)
    return (
        f"{' and '.join(labels)} {'both' if len(labels) == 2 else 'all'} provide {_SHOWN[hook].format(name)}: "
        f"choose one in the section [plugins.prefer] with {lines}, "
        f'or switch one off with [plugins] disable = ["{choices[-1]}"]'
    )


def _wrong_choice(hook: str, name: str, preferred: str, candidates: Sequence[KnownPlugin]) -> str:
    labels = [*(["kart itself"] if name in BUILTIN[hook] else []), *(plugin.label for plugin in candidates)]
    return (
        f"[plugins.prefer] chooses {preferred} for {_SHOWN[hook].format(name)}, which does not provide it here; "
        f"what does: {', '.join(labels)}"
    )


def _choice(name: str, choice: str) -> str:
    """The line of configuration, in a form that both TOML and INI take."""
    key = name if re.fullmatch(r"[\w-]+", name) else f'"{name}"'
    return f'{key} = "{choice}"'


def _part(plugins: Sequence[KnownPlugin]) -> None:
    """Marks plugins that bear one name: a section of the configuration could not tell them apart."""
    enabled = [plugin for plugin in plugins if plugin.disabled is None]
    for plugin in enabled:
        other = next((other for other in enabled if other is not plugin and other.name == plugin.name), None)
        if other is not None:
            plugin.clash = (
                f"two plugins are called {plugin.name}, {plugin.label} and {other.label}: switch one off with "
                f'[plugins] disable = ["{other.distribution or other.target}"], or rename the class of your own'
            )


def _own(config: Config, plugins: Iterable[type[Plugin] | Plugin | str]) -> list[KnownPlugin]:
    found = config.find(["plugins"], "load")
    named = [from_code(name, found.source) for name in _words(found.value)] if found is not None else []
    given = [from_code(plugin, "given in code") for plugin in plugins]
    return list({plugin.target: plugin for plugin in (*named, *given)}.values())


def _disabled(config: Config) -> dict[str, str]:
    """Who is switched off: what one layer of the configuration switches off, another does not switch on."""
    unset = {name: value for name, value in config.environment.items() if name != "KART_DISABLE_PLUGINS"}
    disabled: dict[str, str] = {}
    for layer in (config, Config(config.files, config.environment), Config(config.files, unset)):
        found = layer.find(["plugins"], "disable")
        if found is not None:
            for name in _words(found.value):
                disabled.setdefault(name, f"switched off by {found.source}")
    return disabled


def _preferences(config: Config) -> Iterator[tuple[str, str]]:
    """The choices: a table in TOML, a section of its own in an INI file, which keeps quotation marks."""
    found = config.find(["plugins"], "prefer")
    if found is not None:
        if not isinstance(cast("object", found.value), dict):
            raise ConfigError(
                f"{found.source}: expected a table of name = distribution, given {found.value!r}; "
                "in an INI file it is a section of its own, [plugins.prefer]"
            )
        for name, choice in cast("Mapping[str, object]", found.value).items():
            yield name, str(choice)
    for name, entry in config.section("plugins.prefer").items():
        yield name.strip("\"'"), str(entry.value).strip("\"'")


def _words(value: object) -> list[str]:
    """The names in a list of TOML, or in a text with commas, blanks or lines between them."""
    if isinstance(value, str):
        return [word for part in re.split(r"[\s,\[\]]+", value) if (word := part.strip("\"'"))]
    if isinstance(value, Iterable):
        return [str(item) for item in cast("Iterable[object]", value)]
    return [str(value)]
