"""The command that lists the plugins, or shows one with its settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import click

from kart_core import config as configuration
from kart_core import host
from kart_core.cli.roots import configured
from kart_core.errors import PluginError
from kart_core.report.say import say
from kart_core.report.tables import show_facts, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.host import PluginState


def show_plugins(
    name: str | None,
    *,
    check: bool,
    timeout: float,
    files: Sequence[str],
    plugin_settings: Sequence[str],
    disabled: Sequence[str],
    as_json: bool,
) -> int:
    """Lists the plugins, or shows one; gives the exit code, which is 70 if a checked one is not fit."""
    with configured((), files, plugin_settings, disabled):
        here = host.current()
        states = here.check(timeout) if check else here.states()
        if name is None:
            chosen = states
            _print_json([_plugin_data(state) for state in states]) if as_json else _show_all(states)
        else:
            chosen = [_one(name, states)]
            _show_one(chosen[0], as_json=as_json)
    return PluginError.exit_code if check and any(state.state in ("broken", "conflict") for state in chosen) else 0


def _one(name: str, states: Sequence[PluginState]) -> PluginState:
    from kart_core.announcements import canonical

    for state in states:
        if state.target == name or canonical(name) in (canonical(state.name), canonical(state.distribution)):
            return state
    close = configuration.nearest(name, [state.name for state in states])
    hint = f"did you mean {close}?" if close else "`kart-core plugins` lists those that there are"
    raise click.UsageError(f"there is no plugin {name}; {hint}")


def _show_all(states: Sequence[PluginState]) -> None:
    rows = [
        (state.name, state.state, f"{state.distribution} {state.version}".strip() or state.source, _about(state))
        for state in states
    ]
    show_table(("name", "state", "from", "provides"), rows, styles=("bold", None, "dim"))


def _about(state: PluginState) -> str:
    provided = "; ".join(
        f"{hook.removeprefix('kart_')}: {', '.join(names)}" for hook, names in state.provides.items() if names
    )
    took = f"{state.milliseconds:.0f} ms" if state.milliseconds is not None else ""
    return " -- ".join(part for part in (provided, took, state.why) if part)


def _show_one(state: PluginState, *, as_json: bool) -> None:
    inspected = state.source not in ("built in", "") and state.state not in ("disabled", "broken")
    settings = host.current().settings_of(state.name) if inspected else []
    if as_json:
        _print_json({**_plugin_data(state), "settings": [attrs.asdict(setting) for setting in settings]})
        return
    facts = [("name", state.name), ("state", state.state), ("class", state.target), ("source", state.source)]
    facts += [("from", f"{state.distribution} {state.version}".strip())] if state.distribution else []
    facts += [(hook.removeprefix("kart_"), ", ".join(names)) for hook, names in state.provides.items() if names]
    facts += [("took", f"{state.milliseconds:.0f} ms")] if state.milliseconds is not None else []
    facts += [("why", state.why)] if state.why else []
    show_facts(facts)
    if settings:
        say("")
        show_table(
            ("setting", "type", "default", "value", "source", "help"),
            (
                (one.name, one.type, one.default or "required", one.value or one.fault or "", one.source, one.help)
                for one in settings
            ),
            styles=("bold",),
        )


def _plugin_data(state: PluginState) -> dict[str, Any]:
    return {**attrs.asdict(state), "provides": {hook: list(names) for hook, names in state.provides.items()}}


def _print_json(data: object) -> None:
    say(json.dumps(data, indent=2, ensure_ascii=False, default=str))
