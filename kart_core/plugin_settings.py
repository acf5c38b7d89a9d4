"""The settings of one plugin: an attrs class, filled from the configuration.

A setting is given in ``[plugins.NAME]``, as ``KART_NAME__KEY`` or by ``--set plugins.NAME.KEY=VALUE``.
A value of a `Secret` field is never shown, neither in a listing nor in a fault.
"""

from __future__ import annotations

import functools
import types
import typing
from typing import TYPE_CHECKING, Any, Union, cast

import attrs

from kart_core import parameters
from kart_core.announcements import canonical
from kart_core.config import nearest
from kart_core.errors import ConfigError
from kart_core.plugin import Secret
from kart_core.registration import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kart_core.config import Config, Found

__all__ = ["PluginSetting", "fill", "hide", "listed", "secret_keys", "sections"]


@attrs.frozen
class PluginSetting:
    """What is known of one setting of a plugin, as people are shown it."""

    name: str
    type: str
    default: str | None
    """As Python writes it; None where it must be given."""
    value: str | None
    """The value that holds, as Python writes it; stars for a secret; None where there is none or a wrong one."""
    source: str
    """Where the value comes from: ``kart.toml [plugins.s3] endpoint_url``, or ``default``."""
    help: str
    fault: str | None = None
    """What is wrong with the value; None where nothing is."""


@attrs.frozen
class _Field:
    name: str
    annotation: Any
    default: object
    help: str

    @property
    def secret(self) -> bool:
        return _holds_secret(self.annotation)


@attrs.frozen
class _Taken:
    """What the configuration gives for one field."""

    found: Found | None
    """None where the default holds."""
    value: object = None
    fault: str | None = None


def sections(config: Config, name: str) -> list[str]:
    """The sections that speak of the plugin `name`, however they write it: ``torch-seed`` is ``torch_seed``."""
    own = f"plugins.{name}"
    spelt = (section for section in config.sections() if section.startswith("plugins.") and section != own)
    return [own, *(section for section in spelt if canonical(section.removeprefix("plugins.")) == name)]


def secret_keys(settings_class: type[Any] | None) -> Sequence[str]:
    """The names of the settings that are secrets."""
    return [field.name for field in _fields(settings_class) if field.secret] if settings_class is not None else ()


def fill(settings_class: type[Any] | None, name: str, config: Config) -> Any:
    """An instance of the settings class, filled from the configuration.

    Args:
        settings_class: the attrs class; None for a plugin that has no settings.
        name: the plugin's name.
        config: the configuration.

    Returns:
        The instance; None where there is no class.

    Raises:
        ConfigError: a value is of the wrong type, is missing, or its key is unknown. All
            faults are told at once.
    """
    fields = list(_fields(settings_class)) if settings_class is not None else []
    faults = list(_unknown(fields, name, config))
    values: dict[str, object] = {}
    for field in fields:
        taken = _take(field, name, config)
        if taken.fault is not None:
            faults.append(taken.fault)
        elif taken.found is not None:
            values[field.name] = taken.value
    if faults:
        raise ConfigError("\n".join(faults))
    if settings_class is None:
        return None
    try:
        return settings_class(**values)
    except (TypeError, ValueError) as error:
        text = hide(str(error), values)
    raise ConfigError(f"the settings of the plugin {name}: {text}; see `kart-core plugins {name}`")


def listed(settings_class: type[Any] | None, name: str, config: Config) -> list[PluginSetting]:
    """Each setting with its type, default, value, source and help, whatever is wrong with it."""
    if settings_class is None:
        return []
    return [_shown(field, _take(field, name, config)) for field in _fields(settings_class)]


def hide(text: str, values: object) -> str:
    """`text` with every secret among the values (a mapping, or an instance of a settings class) replaced by stars."""
    for secret in _secrets(values):
        text = text.replace(secret, "***")
    return text


def _shown(field: _Field, taken: _Taken) -> PluginSetting:
    default = None if field.default is attrs.NOTHING else _written(field.default)
    value = default if taken.found is None else None if taken.fault is not None else _written(taken.value)
    return PluginSetting(
        name=field.name,
        type=_type_name(field.annotation),
        default="***" if default is not None and field.secret and field.default is not None else default,
        value="***" if value is not None and field.secret and value != "None" else value,
        source="default" if taken.found is None else taken.found.source,
        help=field.help,
        fault=taken.fault,
    )


def _written(value: object) -> str:
    return "made when needed" if isinstance(value, attrs.Factory) else repr(value)  # type: ignore[arg-type]


def _fields(settings_class: type[Any]) -> Iterator[_Field]:
    try:
        annotations = typing.get_type_hints(settings_class, include_extras=True)
    except NameError as error:
        raise Fault(
            f"the settings class {settings_class.__module__}.{settings_class.__qualname__} has a field whose type "
            f"cannot be found: {error}; import it outside `if TYPE_CHECKING`"
        ) from error
    for field in attrs.fields(settings_class):
        if field.init:
            name = field.alias or field.name
            text = str(field.metadata.get("help", ""))
            yield _Field(name, annotations.get(field.name, Any), field.default, text)


def _unknown(fields: Sequence[_Field], name: str, config: Config) -> Iterator[str]:
    names = [field.name for field in fields]
    own = set(sections(config, name))
    for section, key, found in config.values():
        if section in own and key not in names:
            near = nearest(key, names)
            hint = f"did you mean {near}?" if near else f"it has {', '.join(names) or 'no settings'}"
            yield f"{found.source}: the plugin {name} has no setting {key}: {hint}"


def _take(field: _Field, name: str, config: Config) -> _Taken:
    try:
        found = config.find(sections(config, name), field.name)
    except ConfigError as error:  # an environment variable that is not set
        return _Taken(None, fault=str(error))
    if found is None:
        if field.default is not attrs.NOTHING:
            return _Taken(None)
        variable = f"KART_{name}__{field.name}".upper()
        place = f"[plugins.{name}] {field.name} = … or {variable}"
        return _Taken(None, fault=f"the plugin {name} needs the setting {field.name}: give {place}")
    plain = _without_secrets(field.annotation)
    try:
        value = _parsed(found, plain)
    except parameters.ParameterFault as fault:
        given = "" if field.secret else f", given {fault.given}"
        expected = "a text" if field.secret else fault.expected
        return _Taken(found, fault=f"{found.source}: the setting {field.name} of {name} is {expected}{given}")
    return _Taken(found, _as_secret(value) if field.secret else value)


def _parsed(found: Found, annotation: Any) -> Any:
    if found.text:
        return parameters.parse_text(str(found.value), annotation)
    return parameters.structure(found.value, annotation)


def _type_name(annotation: Any) -> str:
    return parameters.describe(annotation).replace(f"{Secret.__module__}.{Secret.__name__}", Secret.__name__)


def _holds_secret(annotation: Any) -> bool:
    return annotation is Secret or any(_holds_secret(argument) for argument in typing.get_args(annotation))


def _without_secrets(annotation: Any) -> Any:
    """The annotation with `str` in place of `Secret`, which only here is more than a text."""
    if annotation is Secret:
        return str
    arguments = typing.get_args(annotation)
    if not arguments or not _holds_secret(annotation):
        return annotation
    replaced = tuple(_without_secrets(argument) for argument in arguments)
    origin: Any = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return functools.reduce(lambda left, right: left | right, replaced)
    return origin[replaced]


def _as_secret(value: Any) -> Any:
    """The value with every text in it made a `Secret`: one too many is better than one too few."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, dict):
        return {key: _as_secret(item) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        items = [_as_secret(item) for item in cast("Sequence[object]", value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, (set, frozenset)):
        return frozenset(_as_secret(item) for item in cast("frozenset[object]", value))
    return value


def _secrets(values: object) -> Iterator[str]:
    if isinstance(values, Secret):
        if values.reveal():
            yield values.reveal()
    elif isinstance(values, dict):
        for item in cast("dict[object, object]", values).values():
            yield from _secrets(item)
    elif isinstance(values, (list, tuple, set, frozenset)):
        for item in cast("Sequence[object]", values):
            yield from _secrets(item)
    elif attrs.has(type(values)):
        for field in attrs.fields(type(values)):
            yield from _secrets(getattr(values, field.name, None))
