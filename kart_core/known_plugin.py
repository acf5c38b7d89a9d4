"""One plugin as the host knows it: from what its distribution announces to the plugin that is ready.

It is known before it is imported, and imported when one of its names is first used.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Literal

import attrs

from kart_core.announcements import Announcement, canonical
from kart_core.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kart_core.config import Config
    from kart_core.plugin import Plugin
    from kart_core.registration import Record, Registration

__all__ = ["GROUP_HOOKS", "KnownPlugin", "PluginState", "from_announcements", "from_code"]

GROUP_HOOKS = {
    "kart_core.storages": "kart_storages",
    "kart_core.serializers": "kart_serializers",
    "kart_core.hashers": "kart_hashers",
    "kart_core.seeders": "kart_seeders",
    "kart_core.executors": "kart_executors",
    "kart_core.events": "kart_event",
}
"""`kart_core.plugin.GROUPS` the other way round; that module is not imported to list plugins."""


@attrs.frozen
class PluginState:
    """What is known of one plugin, as people are shown it."""

    name: str
    """By this name it is configured and switched off: ``s3``."""
    distribution: str
    """The distribution that brought it, empty for a plugin without one."""
    version: str
    """The distribution's version."""
    target: str
    """The plugin class: ``kart_s3:S3``."""
    source: str
    """Where kart has it from: ``installed``, ``built in``, ``[plugins] load``, ``given in code``."""
    state: Literal["found", "disabled", "conflict", "ready", "broken"]
    why: str = ""
    """For a plugin that is disabled, in conflict or broken: why, and what to do."""
    provides: Mapping[str, Sequence[str]] = attrs.field(factory=dict[str, "tuple[str, ...]"])
    """For each hook the names that it provides, so far as that is known without importing it."""
    milliseconds: float | None = None
    """How long it took to import and register it; None where that was not done."""


class KnownPlugin:
    """A plugin that was announced, named in the configuration, or given in code.

    Attributes:
        name: its name in the configuration.
        target: its class, ``module:Class``.
        distribution: empty for a plugin without one.
        version: the distribution's.
        source: where kart has it from.
        announced: for each hook the names announced; None for a plugin without a distribution.
        disabled: why it is switched off; None where it is not.
        clash: why its name cannot be told from another plugin's; None where it can.
    """

    def __init__(
        self,
        name: str,
        target: str,
        source: str,
        *,
        distribution: str = "",
        version: str = "",
        announced: Mapping[str, Sequence[str]] | None = None,
        given: type[Plugin] | Plugin | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.source = source
        self.distribution = distribution
        self.version = version
        self.announced = announced
        self.disabled: str | None = None
        self.clash: str | None = None
        self.loading = False
        self.milliseconds: float | None = None
        self.registration: Registration | None = None
        self.failure: PluginError | ConfigError | None = None
        self._given = given

    @property
    def label(self) -> str:
        """How messages name it: distribution and version, or the class."""
        return f"{self.distribution} {self.version}".rstrip() if self.distribution else self.target

    @property
    def identity(self) -> tuple[str, str]:
        """The name and version under which records remember it."""
        if self.distribution:
            return self.distribution, self.version
        return "local:" + self.target.replace(":", "."), self.version

    def called(self, text: str) -> bool:
        """Whether `text` names this plugin: by its name, its distribution or its class."""
        names = {canonical(name) for name in (self.name, self.distribution) if name}
        return text == self.target or canonical(text) in names

    def provides(self, hook: str) -> Sequence[str]:
        """The names that it provides by a hook, so far as they are known."""
        if self.announced is not None:
            return self.announced.get(hook, ())
        if self.registration is not None:
            return tuple(self.registration.records.get(hook, ()))
        return ()

    def record(self, hook: str, name: str, config: Config, trace: bool) -> Record:
        """One of its records; the plugin is imported if it was not yet.

        Raises:
            PluginError: it is broken.
            ConfigError: its settings are.
        """
        return self.load(config, trace).records[hook][name]

    def plugin_class(self) -> type[Plugin]:
        """Its class, imported if it was not yet; a `Fault` tells why that cannot be done."""
        from kart_core.registration import class_behind

        if self._given is None:
            return class_behind(self.target)
        return self._given if isinstance(self._given, type) else type(self._given)

    def load(self, config: Config, trace: bool = False) -> Registration:
        """Imports and registers it, once; a failure is remembered and raised again.

        Raises:
            PluginError: it is broken.
            ConfigError: its settings are.
        """
        if self.loading:
            raise PluginError(f"the plugin {self.name} ({self.label}) is asked for while it is being imported")
        if self.registration is None and self.failure is None:
            self.loading = True
            started = time.perf_counter()
            try:
                self.registration = self._loaded(config, trace)
            except (PluginError, ConfigError) as error:
                self.failure = error
            finally:
                self.loading = False
                self.milliseconds = (time.perf_counter() - started) * 1e3
            if trace:
                _traced(self)
        if self.failure is not None:
            raise self.failure
        assert self.registration is not None
        return self.registration

    def not_importable(self) -> str | None:
        """Why another process cannot import it; None where it can."""
        if self._given is None:
            return None
        if not isinstance(self._given, type):
            return "it was given as an instance, not as a class"
        module, _, name = self.target.partition(":")
        if "<locals>" in name:
            return "its class stands in a function"
        return "its class is not in a module with a file" if module == "__main__" else None

    def state(self, conflict: str | None) -> PluginState:
        """What is known of it now; nothing is imported to say it."""
        provides = {hook: tuple(names) for hook in GROUP_HOOKS.values() if (names := self.provides(hook))}
        if self.disabled is not None:
            state, why = "disabled", self.disabled
        elif self.failure is not None:
            state, why = "broken", str(self.failure.__cause__ or self.failure)
        elif self.clash is not None:
            state, why = "conflict", self.clash
        elif conflict is not None:
            state, why = "conflict", conflict
        else:
            state, why = ("found" if self.registration is None else "ready"), ""
        return PluginState(
            self.name,
            self.distribution,
            self.version,
            self.target,
            self.source,
            state,
            why,
            provides,
            self.milliseconds,
        )

    def _loaded(self, config: Config, trace: bool) -> Registration:
        from kart_core.registration import Fault, register

        if self.clash is not None:
            raise PluginError(self.clash)
        secrets: object = None
        try:
            plugin = self._given
            if plugin is None or isinstance(plugin, type):
                plugin_class = self.plugin_class()
                plugin, secrets = _made(plugin_class, self.name, config)
            return register(plugin, self.label, self.announced, trace)
        except Fault as fault:
            from kart_core.plugin_settings import hide

            text = hide(str(fault), secrets)
            shown = fault if text == str(fault) else Fault(text)  # what it was raised from may show the secret too
            raise PluginError(
                f"the plugin {self.name} ({self.label}) is broken: {text}; repair it, or switch it off with "
                f'[plugins] disable = ["{self.name}"] or --no-plugin {self.name}'
            ) from shown


def _made(plugin_class: type[Plugin], name: str, config: Config) -> tuple[Plugin, object]:
    from kart_core.plugin_settings import fill, hide
    from kart_core.registration import Fault

    settings = fill(plugin_class.settings_class, name, config)
    try:
        return (plugin_class() if settings is None else plugin_class(settings)), settings
    except Exception as error:
        text = hide(f"{type(error).__name__}: {error}", settings)
    raise Fault(f"making an instance of {plugin_class.__qualname__} failed: {text}")


def from_announcements(announcements: Iterable[Announcement]) -> list[KnownPlugin]:
    """The installed plugins: one for each class that a distribution announces.

    The name is the distribution's without a leading ``kart-``, so that ``pip install kart-s3``
    brings ``[plugins.s3]``; a distribution with several classes adds each one's name.
    """
    distributions: dict[str, dict[str, list[Announcement]]] = {}
    for announcement in announcements:
        if announcement.group in GROUP_HOOKS:
            targets = distributions.setdefault(announcement.distribution, {})
            targets.setdefault(announcement.target, []).append(announcement)
    plugins: list[KnownPlugin] = []
    for distribution, targets in distributions.items():
        base = canonical(distribution)
        base = base.removeprefix("kart_") or base
        for target, entries in targets.items():
            announced: dict[str, list[str]] = {}
            for entry in entries:
                announced.setdefault(GROUP_HOOKS[entry.group], []).append(entry.name)
            name = base if len(targets) == 1 else f"{base}_{_snake(target)}"
            version = entries[0].version
            plugins.append(
                KnownPlugin(name, target, "installed", distribution=distribution, version=version, announced=announced)
            )
    return plugins


def from_code(plugin: type[Plugin] | Plugin | str, source: str) -> KnownPlugin:
    """A plugin without a distribution, named after its class: ``MyStore`` is ``my_store``.

    Args:
        plugin: the class, an instance with its settings, or ``module:Class``.
        source: where it was named.
    """
    if isinstance(plugin, str):
        return KnownPlugin(_snake(plugin), plugin, source)
    from kart_core.naming import module_name

    plugin_class: type[object] = plugin if isinstance(plugin, type) else type(plugin)
    target = f"{module_name(plugin_class.__module__)}:{plugin_class.__qualname__}"
    return KnownPlugin(_snake(target), target, source, given=plugin)


def _snake(target: str) -> str:
    name = re.split(r"[:.]", target)[-1]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _traced(plugin: KnownPlugin) -> None:
    import sys

    result = "ready" if plugin.failure is None else "broken"
    print(f"kart: {plugin.label}: {plugin.target} loaded: {result} in {plugin.milliseconds:.2f} ms", file=sys.stderr)
