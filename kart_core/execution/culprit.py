"""Which part of a value it is that no other process can have."""

from __future__ import annotations

from itertools import chain
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from kart_core.declaration import shape_of
from kart_core.errors import said
from kart_core.nested import is_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DEEPEST = 20


def sentence(value: object, error: Exception, dumps: Callable[[object], bytes]) -> str:
    """What stands in the way of sending a value, where it is, and what to do.

    Args:
        value: the value.
        error: what `dumps` raised for it.
        dumps: pickles a value, or raises.
    """
    where: list[str] = []
    owner: type[Any] | None = None
    part: Any = value
    hidden = False
    for _ in range(_DEEPEST):
        if _is_task_class(part) or isinstance(part, _Fields):
            owner, where = part.cls if isinstance(part, _Fields) else part, []
        found = next(_failing(part, owner, dumps), None)
        if found is None:
            break
        name, part, private, error = found
        hidden = hidden or private
        where += [name] if name else []
    why = said(error)
    why = f" ({why})" if why and not hidden else ""
    holder = f"{owner.__qualname__} cannot be sent to a worker process: its " if owner is not None else ""
    place = f"{holder}{', '.join(where)}" if where else f"{holder}definition" if holder else "the value"
    if isinstance(part, (FunctionType, type)):
        return (
            f"{place} uses {part.__qualname__}, which cannot be sent{why}; put it into a module and import it, or run "
            "with executor='inline'"
        )
    kind = type(part).__name__
    holds = f"{place} holds {'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}, which no other process can have{why}; "
    module = "put the class into a module, " if owner is not None else ""
    return f"{holds}make it where it is used, {module}or run with executor='inline'"


def _failing(
    value: object, owner: type[Any] | None, dumps: Callable[[object], bytes]
) -> Iterator[tuple[str, object, bool, Exception]]:
    for name, inside, private in _parts(value, owner):
        fault = _fault(inside, dumps)
        if fault is not None:
            yield name, inside, private, fault


def _fault(value: object, dumps: Callable[[object], bytes]) -> Exception | None:
    try:
        dumps(value)
    except Exception as fault:
        return fault
    return None


def _is_task_class(value: object) -> bool:
    return isinstance(value, type) and getattr(value, "_kart_is_task", False) is True


def _parts(value: Any, owner: type[Any] | None) -> Iterator[tuple[str, Any, bool]]:
    """What a value is made of: how each part is called, and whether it is private."""
    if _is_task_class(value):
        written = value.__dict__.get("_kart_body")
        if written is not None:
            for name, inside in chain(written.names.items(), written.keywords.items()):
                if name not in ("__dict__", "__weakref__") and inside is not value:
                    yield f"attribute {name!r}" if not isinstance(inside, FunctionType) else f"{name}()", inside, False
    elif is_task(value):
        from kart_core.specification import flatten

        yield from (("", entry, False) for entry in flatten(value))
    elif isinstance(value, FunctionType):
        code = value.__code__
        for name in _names(code):
            if name in value.__globals__:
                yield f"global {name!r}", value.__globals__[name], False
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=False):
            try:
                inside = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            if inside is not owner:
                yield f"variable {name!r}", inside, False
    elif isinstance(value, tuple) and _is_entry(cast("tuple[Any, ...]", value)):
        cls, fields, *rest = cast("tuple[Any, ...]", value)
        yield "", cls, False
        yield "", _Fields(cls, fields), False
        yield from (("", one, False) for one in rest)
    elif isinstance(value, _Fields):
        infos = shape_of(value.cls).by_name
        for name, inside in value.fields.items():
            told = infos[name].info.told_by_type if name in infos else False
            yield f"field {name!r}", inside, told
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", inside, False) for key, inside in cast("dict[Any, Any]", value).items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from (("", inside, False) for inside in cast("list[Any]", value))


class _Fields:
    """The fields of one task."""

    def __init__(self, cls: type[Any], fields: dict[str, Any]) -> None:
        self.cls = cls
        self.fields = fields


def _is_entry(value: tuple[Any, ...]) -> bool:
    return len(value) > 1 and _is_task_class(value[0]) and isinstance(value[1], dict)


def _names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from _names(constant)
