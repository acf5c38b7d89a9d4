"""The tasks that a command line asks for, made under the configuration that it gives."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import click

from kart_core import config
from kart_core.cli import classes
from kart_core.cli.options import Meaning, parameters
from kart_core.config.files import read_file
from kart_core.declaration import MISSING, shape_of
from kart_core.errors import ParameterError
from kart_core.naming import qualified_name
from kart_core.parameters import ParameterFault, describe, parse_text
from kart_core.settings import SETTINGS
from kart_core.task import TaskOnKart

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from kart_core.cli.arguments import Arguments, Given
    from kart_core.cli.classes import TaskClass
    from kart_core.host import Host


def check(given: Sequence[Given]) -> None:
    """Makes sure that the text of every option can be read.

    Raises:
        click.UsageError: it cannot; all faults at once.
    """
    faults = [fault for option in given if (fault := _fault(option)) is not None]
    if faults:
        raise click.UsageError("; ".join(faults))


def _fault(option: Given) -> str | None:
    for meaning in option.meanings:
        try:
            parse_text(option.text, meaning.annotation)
        except ParameterFault as fault:  # noqa: PERF203
            return f"{option.option}: {fault.hidden() if meaning.private else fault}"
        except ParameterError as error:
            return f"{option.option}: {error}"
    return None


@contextmanager
def configured(
    given: Sequence[Given],
    files: Sequence[str] = (),
    plugin_settings: Sequence[str] = (),
    disabled: Sequence[str] = (),
) -> Generator[None]:
    """The configuration that the options of a command line make, for the time of a ``with``.

    Args:
        given: the options of tasks; those of a named task alone are left to `make`.
        files: of ``--config``: they win over the files that are found.
        plugin_settings: of ``--set``: ``plugins.NAME.KEY=VALUE`` each.
        disabled: of ``--no-plugin``.

    Raises:
        click.UsageError: a plugin or a setting of one that does not exist.
        ConfigError: a file that cannot be read.
    """
    classes.find_project()
    base = config.refresh()
    if files:
        # Of this run alone, and after the files that the pipeline's own module adds: they win.
        base = config.Config((*base.files, *(read_file(file) for file in files)), base.environment, base.options)
    layer: dict[tuple[str, str], object] = {
        (_section(meaning), meaning.name): option.text
        for option in given
        for meaning in option.meanings
        if not meaning.root
    }
    settings = [_plugin_setting(text) for text in plugin_settings]
    layer.update(((section, key), value) for section, key, value in settings)
    made = base.with_options(layer, origin="command line") if layer else base
    if not settings and not disabled:
        with config.using(made):
            yield
        return
    from kart_core import host

    own = host.Host(made, disable=disabled)
    _check_plugins(own, settings, disabled)
    with config.using(made), host.using(own):
        yield


def make(arguments: Arguments) -> list[TaskOnKart[Any]]:
    """The named tasks, each with the parameters that the command line gives to it alone.

    Raises:
        click.UsageError: a parameter without a value.
        ParameterError: a value, from the configuration perhaps, that the task refuses.
    """
    maker = _Maker(arguments.given)
    return [maker.make(cls, _own(cls, arguments.given), ()) for cls in arguments.roots]


class _Maker:
    """Makes tasks from the command line, the configuration and their defaults; required tasks the same way."""

    def __init__(self, given: Sequence[Given]) -> None:
        # The general before the special, so that the special wins.
        shared = [(meaning, option.text) for option in given for meaning in option.meanings if not meaning.root]
        self._shared = sorted(shared, key=lambda pair: len(pair[0].cls.__mro__))

    def make(self, cls: TaskClass, given: Mapping[str, Any], above: tuple[TaskClass, ...]) -> TaskOnKart[Any]:
        values = dict(given)
        sections = shape_of(cls).sections
        missing: list[str] = []
        for field in parameters(cls).values():
            if field.name in values or config.current().find(sections, field.name) is not None:
                continue
            if field.default is not MISSING:
                remade = self._remade(field.default)
                if remade is not field.default:
                    values[field.name] = remade
                continue
            required = required_class(field.annotation)
            if required is None:
                missing.append(f"{field.name} ({describe(field.annotation)})")
            elif required in (cls, *above):
                raise click.UsageError(
                    f"{qualified_name(cls)} needs another {qualified_name(required)} in {field.name}, which needs"
                    f" another, without end; give {_way(cls, field.name, root=not above)} as JSON"
                )
            else:
                values[field.name] = self.make(required, {}, (*above, cls))
        if missing:
            names = " ".join(_way(cls, name.partition(" ")[0], root=not above) for name in missing)
            raise click.UsageError(f"{qualified_name(cls)} needs a value for {', '.join(missing)}; give {names}")
        return cls(**values)

    def _remade(self, value: Any) -> Any:
        """A default, with the options of the tasks in it: it was made with the class, before they were known."""
        if not self._shared:
            return value
        if isinstance(value, TaskOnKart):
            task = cast("TaskOnKart[Any]", value)
            changes = self._changes(task)
            return task.clone(**changes) if changes else task
        if isinstance(value, (tuple, list)):
            items = cast("Sequence[Any]", value)
            remade = [self._remade(item) for item in items]
            changed = any(new is not old for new, old in zip(remade, items, strict=True))
            return (tuple(remade) if isinstance(value, tuple) else remade) if changed else items
        if isinstance(value, dict):
            mapping = cast("Mapping[Any, Any]", value)
            renewed = {key: self._remade(item) for key, item in mapping.items()}
            return renewed if any(renewed[key] is not item for key, item in mapping.items()) else mapping
        return value

    def _changes(self, task: TaskOnKart[Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        fields = parameters(type(task))
        for name in fields:
            held = getattr(task, name)
            remade = self._remade(held)
            if remade is not held:
                changes[name] = remade
        for meaning, text in self._shared:
            fixed = meaning.name in fields or SETTINGS[meaning.name].id_forming
            if isinstance(task, meaning.cls) and fixed:
                changes[meaning.name] = parse_text(text, meaning.annotation)
        return changes


def required_class(annotation: Any) -> TaskClass | None:
    """The task class of a field that must hold a task and whose annotation says exactly which."""
    from typing import get_origin

    found = classes.mentioned(annotation)
    if len(found) != 1 or found[0] is not (get_origin(annotation) or annotation):
        return None
    return found[0]


def _own(cls: TaskClass, given: Sequence[Given]) -> dict[str, Any]:
    return {
        meaning.name: parse_text(option.text, meaning.annotation)
        for option in given
        for meaning in option.meanings
        if meaning.root and meaning.cls is cls
    }


def _way(cls: TaskClass, name: str, *, root: bool) -> str:
    name = name.replace("_", "-")
    return f"--{name} VALUE" if root else f"--{cls.__name__}-{name} VALUE"


def _section(meaning: Meaning) -> str:
    return "TaskOnKart" if meaning.cls is TaskOnKart else qualified_name(meaning.cls)


def _plugin_setting(text: str) -> tuple[str, str, str]:
    """Section, key and value of a ``--set``."""
    place, equals, value = text.partition("=")
    first, _, rest = place.partition(".")
    name, _, key = rest.rpartition(".")
    if not equals or first != "plugins" or not name or not key:
        raise click.UsageError(
            "--set takes plugins.NAME.KEY=VALUE, such as plugins.s3.endpoint_url=http://localhost:9000"
        )
    return f"plugins.{name}", key.replace("-", "_"), value


def _check_plugins(own: Host, settings: Sequence[tuple[str, str, str]], disabled: Sequence[str]) -> None:
    """Refuses what would have no effect: a plugin that is not there, or a setting that it does not have."""
    unknown = [state.name for state in own.states() if not state.target]
    for name in disabled:
        if name in unknown:
            known = [state.name for state in own.states() if state.target]
            close = config.nearest(name, known)
            hint = f"did you mean {close}?" if close else "`kart-core plugins` lists those that there are"
            raise click.UsageError(f"--no-plugin {name}: there is no plugin of that name; {hint}")
    for section, key, _ in settings:
        name = section.removeprefix("plugins.")
        found = {setting.name: setting for setting in own.settings_of(name)}
        if key not in found:
            close = config.nearest(key, found)
            hint = f"did you mean {close}?" if close else f"its settings are {', '.join(found) or 'none'}"
            raise click.UsageError(f"--set {section}.{key}: the plugin {name} has no such setting; {hint}")
        if (fault := found[key].fault) is not None:
            raise click.UsageError(fault)
