"""Imports each plugin in a process of its own, so that one that fails, hangs or crashes is only itself broken."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING, Any

import attrs

from kart_core.config import Config
from kart_core.errors import ConfigError, PluginError
from kart_core.known_plugin import KnownPlugin, PluginState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kart_core.catalogue import Catalogue

__all__ = ["answer", "check"]

_CHILD = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from kart_core.plugin_check import answer; answer()"
)


def check(catalogue: Catalogue, config: Config, timeout: float) -> list[PluginState]:
    """The state of every plugin of the catalogue, after an attempt to make it ready.

    Args:
        catalogue: the plugins.
        config: what their settings are filled from.
        timeout: seconds that each may take.

    Returns:
        The states, in the order of `Catalogue.states`. A plugin that is switched off is not imported.
    """
    states = {state.target: state for state in catalogue.states()}
    plugins = [plugin for plugin in catalogue.all() if plugin.disabled is None and plugin.clash is None]
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        given = (states[plugin.target] for plugin in plugins)
        checked = threads.map(_checked, plugins, given, repeat(config), repeat(timeout))
        found = {state.target: state for state in checked}
    return [found.get(state.target, state) if state.target else state for state in catalogue.states()]


def answer() -> None:
    """What the process of one plugin does: it reads which plugin, and writes what became of it."""
    # What the plugin prints must not get between: the answer has the real standard output for itself.
    output = os.dup(1)
    os.dup2(2, 1)
    config: Config = pickle.load(sys.stdin.buffer)
    plugin = KnownPlugin(**pickle.load(sys.stdin.buffer))
    with suppress(PluginError, ConfigError):  # the state tells what went wrong
        plugin.load(config)
    state = plugin.state(None)
    told = {"state": state.state, "why": state.why, "provides": state.provides, "milliseconds": state.milliseconds}
    with os.fdopen(output, "w", encoding="utf-8") as file:
        json.dump(told, file)


def _checked(plugin: KnownPlugin, state: PluginState, config: Config, timeout: float) -> PluginState:
    if plugin.not_importable():
        return state  # given in code: it is in this process already
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as reply:
        _ask(question, plugin, config)
        # Files, not pipes: a process that the plugin started could hold a pipe open for ever.
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD], stdin=question, stdout=reply, stderr=subprocess.DEVNULL
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return attrs.evolve(state, state="broken", why=f"it was not ready after {timeout:g} s")
        finally:
            process.kill()
            process.wait()
        reply.seek(0)
        return _read(state, reply.read(), status)


def _ask(question: Any, plugin: KnownPlugin, config: Config) -> None:
    pickle.dump(sys.path, question)
    pickle.dump(_of_plugins(config), question)
    pickle.dump(
        {
            "name": plugin.name,
            "target": plugin.target,
            "source": plugin.source,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "announced": plugin.announced,
        },
        question,
    )
    question.seek(0)


def _of_plugins(config: Config) -> Config:
    """The configuration with no other options than those of plugins: the rest may hold what cannot be pickled."""
    options: Mapping[Any, Any] = {
        origin: {section: entries for section, entries in table.items() if section.startswith("plugins.")}
        for origin, table in config.options.items()
    }
    return Config(config.files, config.environment, options)


def _read(state: PluginState, reply: bytes, status: int) -> PluginState:
    if not reply:
        end = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return attrs.evolve(state, state="broken", why=f"importing it ended the process, which {end}")
    told = json.loads(reply)
    if told["state"] == "ready" and state.state == "conflict":
        told.update(state=state.state, why=state.why)
    provides = {hook: tuple(names) for hook, names in told["provides"].items()}
    return attrs.evolve(state, **{**told, "provides": provides or state.provides})
