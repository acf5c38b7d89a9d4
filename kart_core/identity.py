"""Unique ids, and what tasks require: found at first need, by work lists, where construction could not tell.

See `kart_core.construction` for the two digests of a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from kart_core import config
from kart_core.construction import (
    ID_SETTINGS,
    default_encoding,
    encode_field,
    known_encoding,
    setting,
    state_of,
    suffix_of,
)
from kart_core.declaration import MISSING, shape_of
from kart_core.digest import blake2b
from kart_core.encoding import SCALARS, field_names
from kart_core.errors import GraphError, KartError
from kart_core.frozen import freeze
from kart_core.nested import holds_task, is_items, is_mapping, is_named_tuple, is_sequence, is_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from kart_core.config import Config
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_memo: tuple[Config | None, WeakValueDictionary[tuple[type, bytes], AnyTask]] = (None, WeakValueDictionary())


def canonical(task: AnyTask) -> AnyTask:
    """The first of the equal tasks that were asked for under this configuration.

    What is found out of a task once is kept there.
    """
    global _memo
    conf = config.current()
    if _memo[0] is not conf:
        _memo = (conf, WeakValueDictionary())
    return _memo[1].setdefault((type(task), task._kart_digest), task)


def requirements(task: AnyTask) -> Any:
    """What `requires()` of the task gave, asked once for all equal tasks."""
    held = task.__dict__
    if "_kart_requires" not in held:
        first = canonical(task)
        if "_kart_requires" not in first.__dict__:
            first.__dict__["_kart_requires"] = _asked(first)
        held["_kart_requires"] = first.__dict__["_kart_requires"]
    return held["_kart_requires"]


def _asked(task: AnyTask) -> Any:
    try:
        return freeze(task.requires())
    except KartError:
        raise
    except Exception as error:
        raise GraphError(f"requires() of {task!r} raised {type(error).__name__}: {error}; correct it there") from error


def required_tasks(task: AnyTask) -> tuple[AnyTask, ...]:
    """The tasks that the task requires, in order.

    Raises:
        GraphError: if an overridden `requires()` gives something that is no task.
    """
    if not type(task)._kart_overrides_requires:
        return task._kart_children
    held = task.__dict__
    if "_kart_required" not in held:
        held["_kart_required"] = tuple(tasks_in(requirements(task), task))
    return held["_kart_required"]


def tasks_in(structure: Any, owner: AnyTask, where: str = "requires()") -> Iterator[AnyTask]:
    """Every task in what `requires()` gave: a task, None, or a list, tuple or mapping of such."""
    pending = [structure]
    while pending:
        value = pending.pop()
        if value is None:
            continue
        if is_task(value):
            yield value
        elif is_mapping(value):
            pending.extend(reversed(list(value.values())))
        elif is_items(value):
            pending.extend(reversed(list(value)))
        else:
            raise GraphError(
                f"{where} of {owner!r} gave a {type(value).__name__}; give a task, or a list, tuple or mapping of tasks"
            )


def identity(task: AnyTask) -> bytes:
    """The 16 bytes of the task's unique id."""
    known: bytes | None = task._kart_identity
    return known if known is not None else _resolve(task)


def _resolve(root: AnyTask) -> bytes:
    """Finds the identities of the root and of what it stands on, by a work list: graphs may be 20,000 deep."""
    on_path: dict[tuple[type, bytes], AnyTask] = {}
    stack: list[tuple[AnyTask, bool]] = [(root, False)]
    while stack:
        task, ready = stack.pop()
        key = (type(task), task._kart_digest)
        if task._kart_identity is not None:
            continue
        first = canonical(task)
        if first._kart_identity is not None:
            task.__dict__["_kart_identity"] = first._kart_identity
            continue
        if ready:
            del on_path[key]
            first.__dict__["_kart_identity"] = task.__dict__["_kart_identity"] = _identity_of(task)
            continue
        if key in on_path:
            raise cycle([*_from(on_path, key), task])
        on_path[key] = task
        stack.append((task, True))
        needed = [*task._kart_children, *(required_tasks(task) if type(task)._kart_overrides_requires else ())]
        stack.extend((t, False) for t in needed if t._kart_identity is None)
    return root.__dict__["_kart_identity"]


def _from(on_path: Mapping[tuple[type, bytes], AnyTask], key: tuple[type, bytes]) -> Iterator[AnyTask]:
    keys = list(on_path)
    return (on_path[k] for k in keys[keys.index(key) :])


def cycle(tasks: Sequence[AnyTask]) -> GraphError:
    """The error of tasks that require each other in a circle, the first repeated at the end."""
    return GraphError(
        "these tasks require each other in a circle: "
        + " → ".join(repr(task) for task in tasks)
        + "; let requires() of one of them end the circle"
    )


def holds_files(task: AnyTask) -> bool:
    """Whether a significant parameter of the task holds something whose content may change: a file."""
    shape = shape_of(type(task))
    if shape.all_scalars:
        return False
    held = task.__dict__
    pending: list[object] = [held[s.name] for s in shape.slots if s.significant and type(held[s.name]) not in SCALARS]
    while pending:
        value = pending.pop()
        if is_task(value):
            continue
        if hasattr(type(value), "_kart_encode"):
            return True
        if is_mapping(value):
            items: Iterable[object] = (item for pair in value.items() for item in pair)
        elif is_items(value):
            items = value
        else:
            items = (getattr(value, name, None) for name in field_names(type(value)) or ())
        pending.extend(item for item in items if type(item) not in SCALARS)
    return False


def identity_now(task: AnyTask) -> bytes:
    """The identity that the task would have if it were made now: another where a file's content has changed."""
    return _identity_of(task)


def _identity_of(task: AnyTask) -> bytes:
    """The identity of a task whose children and requirements have theirs."""
    shape = shape_of(type(task))
    state = state_of(shape)
    parts = [state.prefix]
    for slot in shape.slots:
        if not slot.significant:
            continue
        value = significant_part(task.__dict__[slot.name])
        if value is MISSING:
            continue
        encoded = slot.key + encode_field(shape, slot.name, value, _by_identity)
        if slot.omit_default and encoded == default_encoding(shape, slot):
            continue
        parts.append(encoded)
    given = task._kart_given
    parts.append(suffix_of(shape, {name: given.get(name, setting(shape, state, name)) for name in ID_SETTINGS}))
    if type(task)._kart_overrides_requires and not _required_by_fields(task):
        required = significant_part(requirements(task))
        if required is not MISSING:
            parts.append(b"?" + encode_field(shape, "requires()", required, _by_identity))
    return blake2b(b"".join(parts), digest_size=16).digest()


def _by_identity(value: object) -> bytes | None:
    if is_task(value):
        return b"T" + identity(value)
    return known_encoding(value)


def significant_part(value: Any) -> Any:
    """The value without the tasks that do not count for ids; `MISSING` where it is such a task itself.

    A value in which every task counts is given back as it is, whatever its class.
    """
    if is_task(value):
        return MISSING if value._kart_insignificant else value
    if not is_items(value) and not is_mapping(value):
        return value
    held = list(value.values() if is_mapping(value) else value)
    parts = list(map(significant_part, held))
    if all(part is item for part, item in zip(parts, held, strict=True)):
        return value
    if is_named_tuple(value):
        # A named tuple keeps its length: what does not count becomes None.
        return value._make(None if part is MISSING else part for part in parts)
    if is_mapping(value):
        return {key: part for key, part in zip(value, parts, strict=True) if part is not MISSING}
    kept = [part for part in parts if part is not MISSING]
    return cast("Any", type(value))(kept) if type(value) in (tuple, set, frozenset) else kept


def _required_by_fields(task: AnyTask) -> bool:
    """Whether `requires()` gives just what the fields hold, which is in the id already."""
    required = requirements(task)
    fields = fields_with_tasks(task)
    if is_mapping(required):
        return dict(required) == fields
    held = list(fields.values())
    if is_sequence(required):
        return list(required) == held or (len(held) == 1 and _as_list(required) == _as_list(held[0]))
    return [required] == held or (required is None and not held)


def _as_list(value: Any) -> Any:
    return list(value) if is_sequence(value) else value


def fields_with_tasks(task: AnyTask) -> dict[str, Any]:
    """The fields of the task that hold tasks, in the order of their declaration."""
    if not task._kart_children:
        return {}
    shape = shape_of(type(task))
    return {info.name: value for info in shape.infos if holds_task(value := task.__dict__[info.name])}
