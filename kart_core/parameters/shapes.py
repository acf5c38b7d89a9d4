"""Classes with typed fields (attrs, dataclasses, typed dictionaries) made from plain data, by cattrs.

cattrs is lax by default (``bool("false")`` is True, ``int(3.7)`` is 3): here it makes the class,
and asks `kart_core.parameters.data` for the value of every field. It is imported when the first
such value is made.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, get_origin

import attrs

from kart_core.parameters.annotation import describe
from kart_core.parameters.fault import ParameterFault, fault, placed, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from cattrs import Converter

    Hook = Callable[[Any, Any], object]

_hooks: dict[Any, Hook] = {}
_converters: list[Converter] = []


def has_fields(kind: Any) -> bool:
    """Whether a class is an attrs class, a dataclass, or a typed dictionary."""
    return isinstance(kind, type) and (
        attrs.has(cast("type[Any]", kind)) or hasattr(kind, "__dataclass_fields__") or typing.is_typeddict(kind)
    )


def structure_class(value: Any, annotation: Any, structure: Hook) -> object:
    """Makes an instance from a mapping of its fields, none missing, none unknown.

    Args:
        value: the data.
        annotation: the class, or ``Class[argument]``.
        structure: makes the value of a field from its data and annotation.

    Raises:
        ParameterFault: with the faults of all fields.
    """
    if not isinstance(value, Mapping):
        raise fault(describe(annotation), value)
    table = dict(cast("Mapping[str, Any]", value))
    hook = _hooks.get(annotation) or _made_hook(annotation, structure)
    from cattrs.errors import ClassValidationError

    try:
        return hook(table, annotation)
    except ClassValidationError as error:
        raise _told(error, annotation, table) from None


def _made_hook(annotation: Any, structure: Hook) -> Hook:
    from cattrs import gen
    from cattrs.gen import typeddicts

    if not _converters:
        _converters.append(_strict_converter(structure))
    module: Any = typeddicts if typing.is_typeddict(get_origin(annotation) or annotation) else gen
    _hooks[annotation] = module.make_dict_structure_fn(annotation, _converters[0], _cattrs_forbid_extra_keys=True)
    return _hooks[annotation]


def _strict_converter(structure: Hook) -> Converter:
    from pathlib import Path

    from cattrs import Converter

    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    converter.register_structure_hook_func(lambda _: True, structure)
    for kind in (str, bytes, int, float, Path):  # cattrs has hooks for these that go before any predicate
        converter.register_structure_hook(kind, structure)
    return converter


def _told(error: Any, annotation: Any, table: dict[str, Any]) -> ParameterFault:
    """The faults that cattrs collected, as ours."""
    from cattrs.errors import ForbiddenExtraKeysError

    of_fields, of_the_whole = error.group_exceptions()
    faults: list[str] = []
    for inner, note in of_fields:
        faults += placed(f"field {note.name!r}", inner)
    for inner in of_the_whole:
        if isinstance(inner, ForbiddenExtraKeysError):
            names = list(typing.get_type_hints(get_origin(annotation) or annotation))
            faults += [f"there is no field {key!r}{_meant(key, names)}" for key in sorted(inner.extra_fields)]
        elif isinstance(inner, KeyError):
            faults.append(f"field {inner.args[0]!r} is missing")
        else:  # what the class's own __init__ says
            faults.append(f"{type(inner).__name__}: {inner}")
    return ParameterFault(describe(annotation), show(table), kind="dict", faults=faults)


def _meant(key: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
