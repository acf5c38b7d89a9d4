"""The host: imports a plugin when a name that it provides is first used, and keeps its records.

A name is looked up in dictionaries that are filled once; no hook is called per value or per task.
Built-in names need neither a look at what is installed nor an import of it.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from kart_core import config as configuration
from kart_core.catalogue import BUILTIN, Catalogue
from kart_core.errors import ConfigError, PluginError
from kart_core.known_plugin import KnownPlugin, PluginState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from kart_core.config import Config
    from kart_core.plugin import Event, Executor, Hasher, Plugin, Seeder, Serializer, Storage
    from kart_core.plugin_settings import PluginSetting
    from kart_core.registration import Record

__all__ = ["Host", "PluginState", "current", "using"]

_logger = logging.getLogger("kart_core")


class Host:
    """The plugins that one configuration allows, and what they provide.

    To make one is cheap: what is installed is looked at when a name that is not built in is
    first asked for.

    Args:
        config: where ``[plugins]``, ``[plugins.prefer]`` and the plugins' settings stand.
        plugins: plugins that no distribution brings: a class, an instance with its settings, or
            ``module:Class``.
        disable: names of plugins that are switched off besides those that the configuration names.

    Example:
        >>> host = Host(configuration.Config())
        >>> host.serializer("json").suffix
        'json'
        >>> print(host.missing("kart_storages", "s3"))
        no plugin provides s3:// — pip install kart-s3
    """

    def __init__(
        self,
        config: Config,
        plugins: Sequence[type[Plugin] | Plugin | str] = (),
        disable: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._given = tuple(plugins)
        self._disable = tuple(disable)
        self._trace = "plugins" in config.environment.get("KART_TRACE", "").replace(",", " ").split()
        self._catalogue = Catalogue(config, plugins, disable)
        self._answers: dict[str, dict[str, Record | None]] = {hook: {} for hook in BUILTIN}
        self._hashers: dict[type, Hasher | None] = {}
        self._used: dict[str, str] = {}
        self._lock = threading.RLock()

    def with_plugins(self, plugins: Sequence[type[Plugin] | Plugin | str], config: Config) -> Host:
        """A host of another configuration with further plugins, in which what is switched off here stays so."""
        return Host(config, (*self._given, *plugins), self._disable)

    @property
    def disabled(self) -> Sequence[str]:
        """The plugins that are switched off besides those that the configuration names."""
        return self._disable

    def storage(self, scheme: str) -> Storage | None:
        """How URLs of a scheme are opened, or None where nobody provides it (see `missing`).

        Raises:
            PluginError: two provide it, or the plugin that does is broken.
            ConfigError: the settings of that plugin are wrong.
        """
        return cast("Storage | None", self._record("kart_storages", scheme.lower()))

    def serializer(self, suffix: str) -> Serializer | None:
        """How files of a suffix, without its dot, are written and read; None and errors as for `storage`."""
        return cast("Serializer | None", self._record("kart_serializers", suffix))

    def hasher(self, type_: type) -> Hasher | None:
        """How values of a type become bytes, by its own hasher or that of the nearest base class with one.

        None and errors as for `storage`.
        """
        try:
            return self._hashers[type_]
        except KeyError:
            pass
        bases = (f"{base.__module__}.{base.__qualname__}" for base in type_.__mro__[:-1])
        found = next((record for base in bases if (record := self._record("kart_hashers", base)) is not None), None)
        hasher = cast("Hasher | None", found)
        if not self._is_loading():
            self._hashers[type_] = hasher
        return hasher

    def seeder(self, method: str) -> Seeder | None:
        """How a generator is fixed, by the method's dotted name; None and errors as for `storage`."""
        return cast("Seeder | None", self._record("kart_seeders", method))

    def executor(self, name: str) -> Executor | None:
        """Where tasks are run, by name; None and errors as for `storage`."""
        return cast("Executor | None", self._record("kart_executors", name))

    def listeners(self) -> list[Callable[[Event], None]]:
        """Who is told of a run's events: call each with every event.

        A listener never raises: one that fails is reported once, as a warning of the logger
        ``kart_core``, and is told no more. So is an installed one that is broken; one that the
        configuration or the code names is an error.

        Raises:
            PluginError: a listener that was named is broken.
            ConfigError: the settings of a listener are wrong.
        """
        listeners: list[Callable[[Event], None]] = []
        for plugin in self._catalogue.enabled():
            if plugin.announced is not None and not plugin.provides("kart_event"):
                continue
            try:
                with self._lock:
                    registration = plugin.load(self._config, self._trace)
            except PluginError as error:
                if plugin.announced is None:
                    raise
                _logger.warning("%s", error)
                continue
            if registration.listener is not None:
                self._remember(plugin)
                listeners.append(_Listener(plugin.label, registration.listener, registration.plugin.settings))
        return listeners

    def names(self, hook: str) -> list[str]:
        """Every name of a hook that is built in or provided by a plugin, for messages and listings."""
        return self._catalogue.names(hook)

    def missing(self, hook: str, name: str) -> PluginError | ConfigError:
        """The error for a name that nobody provides: ``no plugin provides s3:// — pip install kart-s3``."""
        return self._catalogue.missing(hook, name)

    def states(self) -> list[PluginState]:
        """Every plugin that is built in, named or installed, and what is known of it; imports nothing."""
        return self._catalogue.states()

    def check(self, timeout: float = 30.0) -> list[PluginState]:
        """The state of every plugin after it was imported in a process of its own.

        Args:
            timeout: seconds after which a plugin that is still not ready is broken.
        """
        from kart_core.plugin_check import check

        return check(self._catalogue, self._config, timeout)

    def settings_of(self, name: str) -> list[PluginSetting]:
        """The settings of a plugin, each with its value and where it came from; imports the plugin.

        Args:
            name: the plugin's name, its distribution, or its class.

        Raises:
            PluginError: there is no such plugin, or it cannot be imported.
        """
        from kart_core.plugin_settings import listed
        from kart_core.registration import Fault

        plugin = self._catalogue.find(name)
        try:
            return listed(plugin.plugin_class().settings_class, plugin.name, self._config)
        except Fault as fault:
            raise PluginError(f"the plugin {plugin.name} ({plugin.label}) is broken: {fault}") from fault

    def secret_settings(self) -> set[tuple[str, str]]:
        """Where the configuration speaks of settings that are secrets: sections and keys.

        Raises:
            PluginError: a plugin that is configured cannot be imported.
        """
        from kart_core.plugin_settings import secret_keys, sections
        from kart_core.registration import Fault

        found: set[tuple[str, str]] = set()
        configured = [name for name in self._config.sections() if name.startswith("plugins.")]
        for plugin in self._catalogue.enabled() if configured else ():
            spoken = [section for section in sections(self._config, plugin.name) if section in configured]
            try:
                keys = secret_keys(plugin.plugin_class().settings_class) if spoken else ()
            except Fault as fault:
                raise PluginError(f"the plugin {plugin.name} ({plugin.label}) is broken: {fault}") from fault
            found.update((section, key) for section in spoken for key in keys)
        return found

    def sections(self) -> set[str]:
        """The sections of the configuration that speak of plugins which this process has."""
        return {"plugins"} | {f"plugins.{plugin.name}" for plugin in self._catalogue.enabled()}

    def used(self) -> Mapping[str, str]:
        """The plugins whose records were used so far: distribution, or ``local:module.Class``, to version."""
        return self._used

    def identities(self) -> dict[str, str]:
        """Every plugin that is not switched off, used or not: distribution, or ``local:module.Class``, to version."""
        return dict(plugin.identity for plugin in self._catalogue.enabled())

    def require(self, used: Mapping[str, str], where: str) -> None:
        """Makes sure that this process has the plugins that another one used, in the same versions.

        They count as used here too from then on: results are made with them.

        Args:
            used: what `used` gave there.
            where: how messages name that process: ``the coordinating process``.

        Raises:
            PluginError: a plugin is missing here, switched off, or of another version.
        """
        here = self.identities()
        for name, version in used.items():
            plugin = f"{name} {version}".rstrip()
            if name not in here:
                raise PluginError(
                    f"{where} uses the plugin {plugin}, which this process does not have: install it in both, "
                    "or switch it off in both"
                )
            if here[name] != version:
                raise PluginError(
                    f"{where} uses the plugin {plugin}, and this process has version {here[name]}: "
                    "install one version in both"
                )
        self._used.update(used)

    def importable(self) -> list[str]:
        """The plugins without a distribution as ``module:Class``, from which another process makes its own host.

        Raises:
            PluginError: one was given as an instance, or its class cannot be imported by another process.
        """
        own = [plugin for plugin in self._catalogue.own if plugin.disabled is None]
        for plugin in own:
            if why := plugin.not_importable():
                raise PluginError(
                    f"the plugin {plugin.target} cannot go to another process: {why}; "
                    "put the class into a module, or run without workers"
                )
        return [plugin.target for plugin in own]

    def _record(self, hook: str, name: str) -> Record | None:
        answers = self._answers[hook]
        try:
            return answers[name]
        except KeyError:
            pass
        with self._lock:
            record = self._looked_up(hook, name)
            if not self._is_loading():
                answers[name] = record
            return record

    def _looked_up(self, hook: str, name: str) -> Record | None:
        self._load_own()
        plugin = None if self._catalogue.is_plainly_builtin(hook, name) else self._catalogue.choose(hook, name)
        if plugin is None:
            return _builtin_record(hook, name)
        record = plugin.record(hook, name, self._config, self._trace)
        if hook != "kart_executors":  # where tasks run has no part in what they make
            self._remember(plugin)
        return record

    def _load_own(self) -> None:
        """Imports the plugins that bear no announcement: only then is it known what they provide."""
        for plugin in self._catalogue.own:
            if plugin.registration is None and plugin.disabled is None and not plugin.loading:
                plugin.load(self._config, self._trace)

    def _is_loading(self) -> bool:
        """Whether a plugin's import has led back here: what it provides is not there yet, and not the last word."""
        return any(plugin.loading for plugin in self._catalogue.own)

    def _remember(self, plugin: KnownPlugin) -> None:
        name, version = plugin.identity
        self._used = {**self._used, name: version}


class _Listener:
    """Takes events to one plugin until it fails."""

    def __init__(self, label: str, tell: Callable[[Event], None], settings: object) -> None:
        self._label = label
        self._tell = tell
        self._settings = settings
        self._dropped = False

    def __call__(self, event: Event) -> None:
        if self._dropped:
            return
        try:
            self._tell(event)
        except Exception as error:
            from kart_core.plugin_settings import hide

            self._dropped = True
            text = hide(f"{type(error).__name__}: {error}", self._settings)
            sentence = "the plugin %s is told no more of this run: its kart_event failed at %s: %s"
            _logger.warning(sentence, self._label, event.kind, text)


def _builtin_record(hook: str, name: str) -> Record | None:
    module = BUILTIN[hook].get(name)
    if module is None:
        return None
    from importlib import import_module

    records: Mapping[tuple[str, str], Record] = import_module(f"kart_core.builtin.{module}").RECORDS
    return records[hook, name]


_using: ContextVar[Host | None] = ContextVar("kart_core.host", default=None)
_latest: tuple[Config, Host] | None = None


def current(config: Config | None = None) -> Host:
    """The host in use here: that of `using`, or one made of the current configuration.

    Args:
        config: the current configuration, where it is at hand.
    """
    global _latest
    host = _using.get()
    if host is not None:
        return host
    if config is None:
        config = configuration.current()
    latest = _latest
    if latest is None or latest[0] is not config:
        latest = _latest = (config, Host(config))
    return latest[1]


@contextmanager
def using(host: Host) -> Generator[None]:
    """Makes `host` the current one in this context."""
    token = _using.set(host)
    try:
        yield
    finally:
        _using.reset(token)
