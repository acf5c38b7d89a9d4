"""How a task is made: its arguments checked, its defaults and settings configured, its digests computed.

A task has two digests. The *local* one is over everything it holds and decides `==`. The
*identity* is over what decides its result, and its hex form is the unique id. For most
tasks the two are one and ready when the task is made. They differ where a parameter is
insignificant, where a setting that enters no id was given, where `requires()` is
overridden, or where that holds for a task further up: see `kart_core.identity`.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from kart_core import code, config
from kart_core.config import runs
from kart_core.declaration import MISSING, Factory, ParameterInfo, Shape, Slot, classes_beside, shape_of
from kart_core.digest import blake2b
from kart_core.encoding import SCALARS, EncodingError, encode, encode_tuple
from kart_core.errors import ConfigError, IdentityError, ParameterError
from kart_core.frozen import freeze
from kart_core.naming import qualified_name
from kart_core.nested import holds_task, is_items, is_mapping, is_task, is_tasks
from kart_core.parameters import ParameterFault, checker, describe, scalar_type
from kart_core.settings import DEFAULT_SEED_METHODS, SETTINGS, check_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kart_core.config import Config
    from kart_core.plugin import Secret
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

SCHEME: Final = 1
"""The version of the way in which ids are made; a change makes every id new."""

ID_SETTINGS: Final = ("fix_random_seed_methods", "fix_random_seed_value", "serialized_task_definition_check")


class _Faulty:
    """A configured value that cannot be had; it stops only what uses it."""

    def __init__(self, error: ConfigError) -> None:
        self.error = error


class State:
    """What a configuration makes of a task class: the defaults of its parameters and settings, encoded ahead."""

    __slots__ = (
        "config",
        "encodings",
        "full_name",
        "prefix",
        "record_folder",
        "resolved",
        "result_path",
        "settings",
        "significant",
        "suffix",
        "values",
    )

    def __init__(self, shape: Shape, conf: Config) -> None:
        self.config = conf
        self.settings: dict[str, Any] = {}
        self.resolved: Any = None  # see kart_core.resolved
        faults = list(config_faults(shape, conf))
        if faults:
            others = (
                f for c in classes_beside(shape.cls) if c is not shape.cls for f in config_faults(shape_of(c), conf)
            )
            raise ConfigError("\n".join(dict.fromkeys([*faults, *others, *runs.faults(conf)])))
        self.values: dict[str, Any] = {slot.name: _default(shape, slot, conf) for slot in shape.slots}
        self.encodings: dict[str, bytes | None] = {
            slot.name: _ahead(shape, slot, self.values[slot.name]) for slot in shape.slots
        }
        namespace = conf.find(shape.sections, "namespace")
        module = f"{namespace.value}.{shape.module}" if namespace is not None else shape.module
        self.prefix = encode((SCHEME, module, shape.cls.__qualname__, shape.policy.version))
        self.suffix = suffix_of(shape, {name: setting(shape, self, name) for name in ID_SETTINGS})
        self.significant: bool = setting(shape, self, "significant")
        name = shape.cls.__qualname__.replace("<locals>", "locals")
        self.full_name = f"{module}.{name}"
        self.record_folder = f".kart/records/{module}.{name}"
        self.result_path = f"{module.replace('.', '/')}/{name}"


# --- construction -----------------------------------------------------------------------


def construct(task: AnyTask, given: dict[str, Any]) -> None:
    """Fills a new task from the arguments given, checks them, and gives it its digests.

    Raises:
        ParameterError: an argument that is missing, unknown or of the wrong type.
        IdentityError: a value of which no id can be made.
    """
    shape = shape_of(type(task))
    state: State = shape.state
    if state is None or state.config is not config.current():  # pyright: ignore[reportUnnecessaryComparison]
        state = state_of(shape)
    held = task.__dict__
    parts = [state.prefix]
    hidden: list[bytes] = []
    children: list[AnyTask] = []
    plain = shape.all_significant and not shape.cls._kart_overrides_requires
    for slot in shape.slots:
        name = slot.name
        value = given.pop(name, MISSING)
        if value is MISSING:
            value = state.values[name]
            ahead = state.encodings[name]
            if ahead is not None:
                held[name] = value
                (parts if slot.significant else hidden).append(ahead)
                continue
            if value is MISSING:
                _refuse_unknown(shape, given)  # a name that was misspelt is why another is missing
                raise _missing(shape, state, {**given, **held})
            if isinstance(value, _Faulty):
                raise value.error
            if isinstance(value, Factory):
                value = _fit_default(shape, slot, value.make())
            encoded = _encode(shape, slot, value, children)
        elif type(value) is slot.exact:
            encoded = SCALARS[type(value)](value)
        else:
            try:
                value = slot.check(value)
            except ParameterFault as fault:
                raise _wrong(shape, slot.info, fault) from None
            encode_scalar = SCALARS.get(type(value))
            encoded = encode_scalar(value) if encode_scalar else _encode(shape, slot, value, children)
        held[name] = value
        encoded = slot.key + encoded
        if slot.omit_default and encoded == default_encoding(shape, slot):
            continue
        (parts if slot.significant else hidden).append(encoded)
    suffix = state.suffix
    if given:
        settings = _take_settings(shape, given)
        held["_kart_given"] = settings
        id_forming = {name: settings.get(name, setting(shape, state, name)) for name in ID_SETTINGS}
        suffix = suffix_of(shape, id_forming)
        if not settings.keys() <= set(ID_SETTINGS):
            plain = False
            hidden.append(encode(settings))
        if not settings.get("significant", state.significant):
            held["_kart_insignificant"] = True
    elif not state.significant:
        held["_kart_insignificant"] = True
    if children:
        held["_kart_children"] = tuple(children)
        if plain:
            for child in children:
                if child._kart_identity != child._kart_digest or child._kart_insignificant:
                    plain = False
                    break
    parts.append(suffix)
    digest = blake2b(b"".join(parts + hidden if hidden else parts), digest_size=16).digest()
    held["_kart_digest"] = digest
    if plain:
        held["_kart_identity"] = digest


def _encode(shape: Shape, slot: Slot, value: object, children: list[AnyTask]) -> bytes:
    if is_tasks(value):  # there may be thousands
        children.extend(value)
        return encode_tuple([b"T" + task._kart_digest for task in value])

    def special(value: object) -> bytes | None:
        if is_task(value):
            children.append(value)
            return b"T" + value._kart_digest
        if not slot.significant and _is_secret(value):
            return b"S" + blake2b(cast("Secret", value).reveal().encode()).digest()
        return known_encoding(value)

    before = len(children)
    try:
        encoded = encode_field(shape, slot.name, value, special)
    except IdentityError:
        if slot.significant or holds_task(value):
            raise
        # What enters no id may be anything, a logger or a lambda: tasks are equal where they hold the same object.
        encoded = b"I%x;" % id(value)
    found = len(children) - before
    if found and not is_task(value) and _count_tasks(value) != found:
        raise ParameterError(
            f"the parameter {slot.name!r} of {shape.name} holds a task inside of an object, where it cannot be a "
            "requirement; hold the task in a field of its own, or in a tuple, list or mapping"
        )
    return encoded


def _count_tasks(value: object) -> int:
    """How many tasks a value holds where they are looked for: alone, and in containers."""
    if is_task(value):
        return 1
    if is_tasks(value):
        return len(value)
    if is_mapping(value):
        return sum(_count_tasks(key) + _count_tasks(item) for key, item in value.items())
    return sum(map(_count_tasks, value)) if is_items(value) else 0


def _is_secret(value: object) -> bool:
    # By name: `kart_core.plugin` need not be imported for it.
    return type(value).__name__ == "Secret" and type(value).__module__ == "kart_core.plugin"


def encode_field(shape: Shape, name: str, value: object, special: Callable[[object], bytes | None]) -> bytes:
    try:
        return encode(value, special)
    except EncodingError as error:
        raise IdentityError(
            f"no unique id of {shape.name}: its field {name!r} holds a {error.type_name}, {error.reason}; "
            "leave it out of the id with parameter(significant=False), or install a plugin with a hasher for the type"
        ) from None


def known_encoding(value: object) -> bytes | None:
    """The encoding of a value of a type that a plugin, or the type itself, knows how to encode."""
    own = getattr(type(value), "_kart_encode", None)
    if own is not None:
        return own(value)
    from kart_core import host

    cls = type(value)
    hasher = host.current().hasher(cls)
    if hasher is None:
        return None
    # A library names its own classes differently from version to version: there the hasher's name for them counts.
    same_library = cls.__module__.partition(".")[0] == hasher.type.partition(".")[0]
    name = hasher.type if same_library else f"{cls.__module__}.{cls.__qualname__}"
    return encode((name, hasher.encode(value)))


def _refuse_unknown(shape: Shape, given: Mapping[str, Any]) -> None:
    unknown = [name for name in given if name not in SETTINGS and name not in shape.by_name]
    if unknown:
        known = [*shape.by_name, *SETTINGS]
        near = config.nearest(unknown[0], known)
        hint = f"; did you mean {near!r}?" if near else f"; it has {', '.join(shape.by_name) or 'none'}"
        raise ParameterError(f"{shape.name} has no parameter {unknown[0]!r}{hint}")


def _take_settings(shape: Shape, given: dict[str, Any]) -> dict[str, Any]:
    _refuse_unknown(shape, given)
    return {name: check_setting(shape.name, name, given[name]) for name in sorted(given)}


def check_setting(owner: str, name: str, value: Any) -> Any:
    """The value of a setting as it is held.

    Raises:
        ParameterError: if it is of the wrong type.
    """
    if name == "workspace_directory" and isinstance(value, os.PathLike):
        value = os.fspath(cast("os.PathLike[str]", value))
    try:
        value = _checker_of(name)(value)
    except ParameterFault as fault:
        raise ParameterError(
            f"the setting {name!r} of {owner} is given {fault.given}, but it takes {fault.expected}"
        ) from None
    if name == "fix_random_seed_value" and (why := check_seed(value)):
        raise ParameterError(f"{owner}: {why}")
    return tuple(value) if name == "fix_random_seed_methods" else value


@cache
def _checker_of(name: str) -> Callable[[object], object]:
    return checker(SETTINGS[name].annotation)


def _missing(shape: Shape, state: State, given: Mapping[str, Any]) -> ParameterError:
    names = [s.name for s in shape.slots if state.values[s.name] is MISSING and s.name not in given]
    wanted = ", ".join(f"{name}: {describe(shape.by_name[name].info.annotation)}" for name in names)
    return ParameterError(
        f"{shape.name} needs {wanted}; give it where the task is made, or in the section [{shape.cls.__name__}] "
        "of the configuration"
    )


def _wrong(shape: Shape, info: ParameterInfo, fault: ParameterFault) -> ParameterError:
    told = fault.hidden() if info.told_by_type else fault
    return ParameterError(
        f"the parameter {info.name!r} of {shape.name} takes {told.expected}, but was given {told.given}"
    )


# --- defaults and settings --------------------------------------------------------------


def state_of(shape: Shape) -> State:
    """The state of a class under the current configuration, made once."""
    conf = config.current()
    state: State | None = shape.state
    if state is None or state.config is not conf:
        state = shape.state = State(shape, conf)
    return state


def setting(shape: Shape, state: State, name: str) -> Any:
    """The value of a setting for tasks of a class that were not given one themselves."""
    if name in state.settings:
        return state.settings[name]
    found = state.config.find(shape.sections, name)
    value: Any
    if found is not None:
        try:
            value = _convert(found.value, SETTINGS[name].annotation, found.text)
        except ParameterFault as fault:
            raise ConfigError(f"{found.source}: given {fault.given}, but it takes {fault.expected}") from None
        value = check_setting(shape.name, name, value)
    elif name in shape.defaults:
        value = check_setting(shape.name, name, shape.defaults[name])
    else:
        value = SETTINGS[name].default
    state.settings[name] = value
    return value


def _default(shape: Shape, slot: Slot, conf: Config) -> Any:
    found = None
    if not slot.name.startswith("_"):
        try:
            found = conf.find(shape.sections[:-1], slot.name)
        except ConfigError as error:
            return _Faulty(error)
    if found is not None:
        try:
            return slot.check(_convert(found.value, slot.info.annotation, found.text))
        except ParameterFault as fault:
            told = fault.hidden() if slot.info.told_by_type else fault
            return _Faulty(ConfigError(f"{found.source}: {shape.name} takes {told.expected}, given {told.given}"))
    given = slot.info.given_default
    return given if given is MISSING or isinstance(given, Factory) else _fit_default(shape, slot, given)


def _fit_default(shape: Shape, slot: Slot, value: Any) -> Any:
    """A default as a task holds it."""
    try:
        return slot.check(freeze(value))
    except ParameterFault as fault:
        raise ParameterError(
            f"the default of {slot.name!r} of {shape.name} is {fault.given}, but it takes {fault.expected}"
        ) from None


def _convert(value: object, annotation: Any, text: bool) -> Any:
    if not text and type(value) is scalar_type(annotation):
        return value  # most settings are; the converters need not be imported for them
    from kart_core.parameters import parse_text, structure

    return parse_text(value, annotation) if text and isinstance(value, str) else structure(value, annotation)


def _ahead(shape: Shape, slot: Slot, value: object) -> bytes | None:
    encode_scalar = SCALARS.get(type(value))
    if encode_scalar is None:
        return None
    encoded = slot.key + encode_scalar(value)
    if slot.omit_default and encoded == default_encoding(shape, slot):
        return b""
    return encoded


def default_encoding(shape: Shape, slot: Slot) -> bytes | None:
    default = slot.info.default
    return None if default is MISSING else slot.key + _encode(shape, slot, _fit_default(shape, slot, default), [])


def suffix_of(shape: Shape, settings: Mapping[str, Any]) -> bytes:
    """The encoding of the id-forming settings that differ from their defaults."""
    told: dict[str, Any] = {}
    if settings["fix_random_seed_value"] is not None:
        told["fix_random_seed_value"] = settings["fix_random_seed_value"]
    if tuple(settings["fix_random_seed_methods"]) != DEFAULT_SEED_METHODS:
        told["fix_random_seed_methods"] = tuple(settings["fix_random_seed_methods"])
    if settings["serialized_task_definition_check"]:
        digest = code.digest(shape.cls, shape.policy.uses)
        if digest is None:
            raise IdentityError(
                f"serialized_task_definition_check is on for {shape.name}, but its source cannot be read; "
                "define it in a file, or switch the check off and use the class keyword version"
            )
        told["code"] = digest
    return b";" + encode(told) if told else b""


def config_faults(shape: Shape, conf: Config) -> Iterator[str]:
    """What is wrong in the sections of the configuration that speak of a task class: a sentence for each fault."""
    for section in shape.sections:
        configured = conf.section(section)
        if not configured:
            continue
        own = _shapes_named(section, shape.cls) if section != "TaskOnKart" else []
        known = {*SETTINGS, "namespace", *(name for s in own for name in s.by_name)}
        for key, found in configured.items():
            if key not in known:
                near = config.nearest(key, known)
                hint = f"; did you mean {near!r}?" if near else ""
                if found.source.startswith("environment "):
                    hint += "; variables that begin with KART_ are kart's: name one of yours otherwise"
                yield f"{found.source}: {section} has no parameter {key!r}{hint}"
                continue
            info = next((s.by_name[key].info for s in own if key in s.by_name), None)
            if info is not None:
                annotation = info.annotation
            else:
                annotation = SETTINGS[key].annotation if key in SETTINGS else str
            try:
                found = conf.find([section], key)
            except ConfigError:
                continue  # an undefined variable stops only what uses the value
            if found is not None:
                try:
                    _convert(found.value, annotation, found.text)
                except ParameterFault as fault:
                    told = fault.hidden() if info is not None and info.told_by_type else fault
                    yield f"{found.source}: given {told.given}, but it takes {told.expected}"


def _shapes_named(section: str, beside: type[Any]) -> list[Shape]:
    # The name first: the shape of a class may be in the making, by a default that makes a task.
    return [shape_of(c) for c in classes_beside(beside) if section in (c.__name__, qualified_name(c))]
