"""Dumping: a value is serialized while its task runs, and put in its place when the run has returned."""

from __future__ import annotations

import os
import pickle
import tempfile
from typing import TYPE_CHECKING, Any, Final, cast

from kart_core import content, running
from kart_core.errors import KartError, ParameterError, SerializationError
from kart_core.nested import is_lazy, is_mapping, is_sequence
from kart_core.target import Target, flatten
from kart_core.workspace import storage_error

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sized

    from kart_core.running import Attempt
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


_UNREPRESENTABLE: Final = (
    TypeError,
    ValueError,
    OverflowError,
    AttributeError,
    RecursionError,
    pickle.PicklingError,
)


def dump(task: AnyTask, value: Any, where: str | Target | None) -> None:
    """Stages a value for the task that is running; see `TaskOnKart.dump`."""
    attempt = running.current()
    if attempt is None or (attempt.task is not task and attempt.task != task):
        raise KartError(f"dump() of {task!r} is for its own run(); return the value there, or build the task")
    structure = attempt.outputs
    if where is None:
        if isinstance(structure, Target):
            _stage(attempt, structure, value)
        else:
            _spread(attempt, structure, value, "")
        return
    if attempt.targets is None:  # once: a task may dump thousands one by one
        by_name = flatten(structure, task)
        attempt.targets = by_name, {target: target for target in by_name.values()}
    by_name, by_itself = attempt.targets
    if isinstance(where, str):
        target = by_name.get(where)
    else:
        target = by_itself.get(where) if isinstance(where, Target) else None
    if target is None:
        names = ", ".join(repr(name) for name in by_name) or "none"
        raise ParameterError(f"output() of {task!r} does not declare {where!r}; it declares {names}")
    _stage(attempt, target, value)


def _spread(attempt: Attempt, structure: Any, value: Any, name: str) -> None:
    """Stages a value that has the structure of the outputs, part by part."""
    if isinstance(structure, Target):
        _stage(attempt, structure, value)
        return
    if is_mapping(structure):
        if not is_mapping(value) or set(value) != set(structure):
            raise _unlike(attempt.task, f"a mapping with the keys {sorted(map(str, structure))}", value, name)
        pairs = [(structure[key], value[key], str(key)) for key in structure]
    else:
        if not is_sequence(value) or len(value) != len(structure):
            raise _unlike(attempt.task, f"{len(structure)} values in a list or tuple", value, name)
        pairs = [(part, item, str(i)) for i, (part, item) in enumerate(zip(structure, value, strict=True))]
    for part, item, key in pairs:
        _spread(attempt, part, item, f"{name}.{key}" if name else key)


def _unlike(task: AnyTask, expected: str, value: object, name: str) -> ParameterError:
    place = f" at {name!r}" if name else ""
    return ParameterError(
        f"{task!r} declares several outputs{place} and so dumps {expected}; it was given a {type(value).__name__}; "
        "dump one by one with self.dump(value, 'name')"
    )


def _stage(attempt: Attempt, target: Target, value: Any) -> None:
    task = attempt.task
    serializer = target.serializer
    if attempt.resolved.fail_on_empty and is_empty(value):
        raise SerializationError(
            f"{task!r} dumped an empty {type(value).__name__} to {target.path}, and fail_on_empty_dump is set; look at "
            "its input, or switch the setting off"
        )
    own: list[BaseException] | None = None  # what the user's own generator raised
    if is_lazy(value):
        own = []
        value = _watched(value, own)
    try:
        made = content.write(
            serializer.dump, value, lambda: staging_directory(task, target), seekable=serializer.seekable
        )
    except KartError:
        raise
    except Exception as error:
        if own and error in own:
            raise
        if isinstance(error, OSError):
            raise storage_error(target.workspace, target.path, error) from error
        if isinstance(error, _UNREPRESENTABLE):
            raise running.no_representation(target, value, error) from error
        raise
    attempt.stage(target, made)


def _watched(items: Iterator[Any], raised: list[BaseException]) -> Generator[Any, None, None]:
    try:
        yield from items
    except BaseException as error:
        raised.append(error)
        raise


def staging_directory(task: AnyTask, target: Target) -> str:
    """The local folder in which a large result waits for its place."""
    beside = target.workspace.store.staging_directory(target.path)
    if beside is not None:
        return beside
    configured = task.local_temporary_directory
    if configured:
        os.makedirs(configured, exist_ok=True)
        return configured
    return tempfile.gettempdir()


def is_empty(value: object) -> bool:
    """Whether a value holds nothing: None, an empty container or text, a data frame or array without rows."""
    if value is None:
        return True
    empty = getattr(value, "empty", None)
    if isinstance(empty, bool):
        return empty
    try:
        return len(cast("Sized", value)) == 0
    except TypeError:
        return False
