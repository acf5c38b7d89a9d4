"""One plugin, imported, checked, registered with pluggy and asked for its records.

Each plugin has a `pluggy.PluginManager` of its own, so that what `check_pending` finds is that
plugin's fault and no other's, and what a hook gives is known to be its answer.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from operator import attrgetter
from typing import Any, TypeAlias, cast

import attrs
import pluggy

from kart_core.plugin import GROUPS, Event, Executor, Hasher, Plugin, Seeder, Serializer, Storage

__all__ = ["Fault", "Record", "Registration", "class_behind", "register"]

Record: TypeAlias = Storage | Serializer | Hasher | Seeder | Executor

_RECORDS: Mapping[str, tuple[type[Any], str]] = {
    "kart_storages": (Storage, "scheme"),
    "kart_serializers": (Serializer, "suffix"),
    "kart_hashers": (Hasher, "type"),
    "kart_seeders": (Seeder, "method"),
    "kart_executors": (Executor, "name"),
}
"""What each hook gives a sequence of, and the attribute of a record that holds its name."""


class Fault(Exception):
    """Why a plugin is broken, in one sentence."""


@attrs.frozen
class Registration:
    """A plugin that is ready."""

    plugin: Plugin
    records: Mapping[str, Mapping[str, Record]]
    """For each hook the records by name."""
    listener: Callable[[Event], None] | None
    """Takes an event to the plugin's ``kart_event``; None where it has none."""


def class_behind(target: str) -> type[Plugin]:
    """Imports the plugin class that ``module:Class`` names.

    Raises:
        Fault: it cannot be imported, is not there, or is no `Plugin`.
    """
    module, _, attribute = target.partition(":")
    if not attribute:
        raise Fault(f"{target!r} names no class: a plugin is named as module:Class")
    try:
        found: object = import_module(module)
    except (Exception, SystemExit) as error:
        raise Fault(f"importing {module} failed: {_line(error)}{_place(error)}") from error
    try:
        found = attrgetter(attribute)(found)
    except AttributeError:
        raise Fault(f"the module {module} has no {attribute}") from None
    if isinstance(found, type) and issubclass(found, Plugin):
        return found
    raise Fault(f"{target} is {_described(cast('object', found))}, no subclass of kart_core.Plugin")


def register(
    plugin: Plugin, label: str, announced: Mapping[str, Sequence[str]] | None, trace: bool = False
) -> Registration:
    """Registers a plugin with pluggy and puts its records into dictionaries.

    Args:
        plugin: the plugin, with its settings.
        label: how the plugin is called in what is traced.
        announced: for each hook the names that the plugin's distribution announces; None for a
            plugin without a distribution, which announces nothing.
        trace: whether each hook call is printed to standard error.

    Raises:
        Fault: the plugin breaks a rule of the host.
    """
    _check_names(type(plugin))
    manager = pluggy.PluginManager("kart_core")
    manager.add_hookspecs(Plugin)
    try:
        manager.register(plugin, label)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise Fault(_validation(error)) from error
    if trace:
        _trace(manager, label)
    records = {hook: _records(manager, hook) for hook in _RECORDS}
    listens = bool(manager.hook.kart_event.get_hookimpls())
    if announced is not None:
        _compare(records, listens, announced)
    return Registration(plugin, records, _listener(manager) if listens else None)


def _check_names(plugin: type[Plugin]) -> None:
    for name in dir(plugin):
        if not name.startswith("kart_"):
            continue
        where = f"{plugin.__module__}.{plugin.__qualname__}.{name}"
        if name not in GROUPS:
            near = get_close_matches(name, GROUPS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(GROUPS)}"
            raise Fault(f"{where} is no hook of kart: {hint}")
        method: object = getattr(plugin, name)
        if method is not getattr(Plugin, name) and not hasattr(method, "kart_core_impl"):
            raise Fault(f"{where} overrides a hook without its marker: write @hookimpl above it")


def _records(manager: pluggy.PluginManager, hook: str) -> dict[str, Record]:
    kind, attribute = _RECORDS[hook]
    caller = getattr(manager.hook, hook)
    if not caller.get_hookimpls():
        return {}
    try:
        answers = cast("list[object]", caller())
    except Exception as error:
        raise Fault(f"{hook} failed: {_line(error)}{_place(error)}") from error
    records: dict[str, Record] = {}
    for answer in answers:
        if not isinstance(answer, Sequence):
            raise Fault(f"{hook} gave {_described(answer)}: it gives a sequence of {kind.__name__} records")
        for record in cast("Sequence[object]", answer):
            if not isinstance(record, kind):
                raise Fault(f"{hook} gave {_described(record)} among its records: each is a {kind.__name__}")
            name = getattr(record, attribute)
            if not isinstance(name, str) or not name:
                raise Fault(f"{hook} gave a record whose {attribute} is {name!r}: it is a text that is not empty")
            if name in records:
                raise Fault(f"{hook} gave two records for {name!r}")
            records[name] = cast("Record", record)
    return records


def _compare(
    records: Mapping[str, Mapping[str, Record]], listens: bool, announced: Mapping[str, Sequence[str]]
) -> None:
    for hook, given in records.items():
        expected = announced.get(hook, ())
        if absent := sorted(set(expected) - set(given)):
            raise Fault(f"it announces {_listed(absent)} in {GROUPS[hook]}, but {hook} gives no such record")
        if extra := sorted(set(given) - set(expected)):
            raise Fault(f"{hook} gives {_listed(extra)}, which is not announced: add it to {GROUPS[hook]}")
    events = announced.get("kart_event", ())
    if listens and not events:
        raise Fault(f"it implements kart_event, which is not announced: add an entry to {GROUPS['kart_event']}")
    if events and not listens:
        raise Fault(f"it announces {_listed(events)} in {GROUPS['kart_event']}, but implements no kart_event")


def _listener(manager: pluggy.PluginManager) -> Callable[[Event], None]:
    call = manager.hook.kart_event

    def listen(event: Event) -> None:
        call(event=event)

    return listen


def _trace(manager: pluggy.PluginManager, label: str) -> None:
    started: list[float] = []

    def before(hook: str, implementations: Sequence[object], values: Mapping[str, object]) -> None:
        del hook, implementations, values
        started.append(time.perf_counter())

    def after(
        outcome: pluggy.Result[Any], hook: str, implementations: Sequence[Any], values: Mapping[str, object]
    ) -> None:
        milliseconds = (time.perf_counter() - started.pop()) * 1e3
        about = ", ".join(value.kind if isinstance(value, Event) else type(value).__name__ for value in values.values())
        if outcome.exception is not None:
            result = f"raised {type(outcome.exception).__name__}"
        elif hook in _RECORDS:
            result = _traced(outcome.get_result())
        else:
            result = "told"
        for implementation in implementations:
            function = implementation.function
            place = f"{function.__module__}.{function.__qualname__}"
            print(f"kart: {label}: {hook}({about}) by {place}: {result} in {milliseconds:.2f} ms", file=sys.stderr)

    manager.add_hookcall_monitoring(before, after)


def _traced(answers: object) -> str:
    """The names in what a hook gave: never the records themselves, which may hold a plugin and its secrets."""
    names: list[str] = []
    for answer in cast("Sequence[object]", answers):
        for record in cast("Sequence[object]", answer) if isinstance(answer, Sequence) else (answer,):
            attribute = next((attribute for kind, attribute in _RECORDS.values() if isinstance(record, kind)), None)
            names.append(str(getattr(record, attribute)) if attribute else _described(record))
    return "[" + ", ".join(names) + "]"


def _validation(error: pluggy.PluginValidationError) -> str:
    first, *rest = str(error).splitlines()
    if first.startswith("unknown hook"):
        name = first.split("'")[1]
        near = get_close_matches(name, GROUPS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(GROUPS)}"
        return f"{name} is marked with @hookimpl, but it is no hook of kart: {hint}"
    return ": ".join(rest or [first])


def _line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str:
    """Where in the plugin's own files an error was raised: kart's and import's frames say nothing to its author."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<") and "importlib" not in frame.filename
    ]
    own = [frame for frame in frames if "pluggy" not in frame.filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _described(value: object) -> str:
    return f"the class {value.__qualname__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
