"""The record of a finished task: how its result came to be. Written last, it is also the commit."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from kart_core import config, underway
from kart_core._version import __version__
from kart_core.construction import setting, state_of
from kart_core.declaration import shape_of
from kart_core.errors import CorruptResultError, KartError, MissingDataError, ParameterError
from kart_core.nested import is_tasks
from kart_core.plain_data import full_value, plain_settings, reference, unrecorded
from kart_core.resolved import Resolved, resolved
from kart_core.workspace import RECORDS, Workspace, guarded, open_workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kart_core.declaration import Shape
    from kart_core.running import Attempt
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_REMEMBERED: Final = 10_000

ESCAPE: Final = "backslashreplace"
"""How half a surrogate pair, as in a file name that is no text, is written: as the escape that JSON has for it."""

to_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""A value as JSON."""
text_of = json.encoder.encode_basestring
"""A text as JSON."""


@attrs.frozen
class Output:
    """One stored output, as its record says."""

    path: str
    """In the workspace, with ``/``."""
    size: int
    """Bytes."""
    digest: str
    """xxh3-128 of the content, 32 hex digits."""
    serializer: str
    """The suffix of the serializer, and its version: ``pkl/1``."""
    mark: str | None = None
    """The store's mark of the file, kept only where the path does not hold the unique id."""


@attrs.frozen
class Requirement:
    """One required task, as the record of the task that required it says."""

    task: str
    unique_id: str
    attempt: str | None
    """The attempt whose result was read; None where nothing was."""
    digest: str | None
    """The digest of what was read."""


@attrs.frozen
class Record:
    """How a result came to be."""

    task: str
    """``module.Class``."""
    unique_id: str
    attempt: str
    """The execution that made the result; its part before the last dash is the run."""
    outputs: Sequence[Output]
    requirements: Sequence[Requirement]
    parameters: Mapping[str, Any]
    """The parameters in full, as plain data."""
    settings: Mapping[str, Any]
    """The settings that were given to the task itself."""
    unrecorded: Mapping[str, Any]
    """What tasks that have no record of their own, external data and bundles, were made of, by unique id."""
    seed: Mapping[str, Any]
    """``value`` and ``methods``: each was called with it, where its library was imported or as soon as it was."""
    code: str | None
    """The digest of the task's code, where its source could be read."""
    started: float
    """Seconds since the epoch."""
    seconds: float
    """How long the attempt took, until its outputs were in place."""
    host: str
    versions: Mapping[str, str]
    """``python`` and ``kart_core``."""
    plugins: Mapping[str, str]
    """The outside plugins that took part, with their versions."""
    log: Mapping[str, Any]
    """What the task noted in `task_log`."""

    @property
    def finished(self) -> datetime:
        """When the attempt ended, in UTC."""
        return datetime.fromtimestamp(self.started + self.seconds, tz=timezone.utc)


# --- where ------------------------------------------------------------------------------


def record_path(task: AnyTask) -> str:
    """Where the task's record stands in its workspace."""
    return resolved(task).record_path(task.unique_id)


def workspace_of(task: AnyTask) -> Workspace:
    """The workspace in which the task's results live."""
    return resolved(task).workspace


# --- reading ----------------------------------------------------------------------------

_remembered: dict[tuple[str, str], tuple[str, tuple[Output, ...]]] = {}


def remember(workspace: Workspace, path: str, attempt: str, outputs: tuple[Output, ...]) -> None:
    """Keeps what was just written, so that who loads it next need not read its record again."""
    if len(_remembered) >= _REMEMBERED:
        _remembered.clear()
    _remembered[workspace.url, path] = (attempt, outputs)


def known(workspace: Workspace, path: str) -> tuple[str, tuple[Output, ...]] | None:
    """What is remembered of a record: the attempt and the outputs."""
    underway.wait_for(workspace, path)
    return _remembered.get((workspace.url, path))


def forget(workspace: Workspace, path: str) -> bool:
    """Drops what is remembered of a record; whether there was anything."""
    return _remembered.pop((workspace.url, path), None) is not None


def written(here: Resolved, unique_id: str) -> tuple[str, tuple[Output, ...]] | None:
    """The attempt and the outputs of a task's record; None where there is no record."""
    path = here.record_path(unique_id)
    held = known(here.workspace, path)
    if held is not None:
        return held
    found = fetch(here.workspace, path)
    return None if found is None else (found.attempt, tuple(found.outputs))


def fetch(workspace: Workspace, path: str) -> Record | None:
    """The record at a path; None where there is none.

    Raises:
        CorruptResultError: the file is no record.
    """
    underway.wait_for(workspace, path)
    try:
        with guarded(workspace, path):
            data = workspace.store.read(path)
    except FileNotFoundError:
        return None
    return parsed(workspace, path, data)


def parsed(workspace: Workspace, path: str, data: bytes) -> Record:
    """The record that a file holds.

    Raises:
        CorruptResultError: the file is no record.
    """
    try:
        return _parsed(json.loads(data))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptResultError(
            f"the record {workspace.where(path)} cannot be read ({type(error).__name__}: {error}); delete it and its "
            "task runs again"
        ) from None


_KINDS: Final = {
    **dict.fromkeys(("task", "unique_id", "attempt", "host"), str),
    **dict.fromkeys(("outputs", "requirements"), list),
    **dict.fromkeys(("parameters", "settings", "seed", "versions", "plugins", "log"), dict),
    **dict.fromkeys(("started", "seconds"), (int, float)),
}


def _parsed(found: dict[str, Any]) -> Record:
    fields = {field.name: found[field.name] for field in attrs.fields(Record)}
    wrong = [name for name, kind in _KINDS.items() if not isinstance(fields[name], kind)]
    if wrong:
        raise TypeError(f"its {wrong[0]} is a {type(fields[wrong[0]]).__name__}")
    fields["outputs"] = tuple(Output(**output) for output in found["outputs"])
    if any((type(o.path), type(o.size), type(o.digest)) != (str, int, str) for o in fields["outputs"]):
        raise TypeError("an output has no path, size and digest")
    fields["requirements"] = tuple(Requirement(*required) for required in found["requirements"])
    return Record(**fields)


def record(task: AnyTask | str, workspace_directory: str | None = None) -> Record:
    """The record of a stored result.

    Args:
        task: the task, or its unique id, or the first digits of it.
        workspace_directory: where to look for an id; by default the configured workspace.

    Raises:
        MissingDataError: nothing is stored.
        CorruptResultError: the record cannot be read.

    Example:
        >>> import kart_core as kart
        >>> class One(kart.TaskOnKart[int]):
        ...     def run(self) -> int:
        ...         return 1
        >>> kart.build(One())
        1
        >>> kart.record(One()).outputs[0].serializer
        'pkl/1'
    """
    config.refresh()
    if isinstance(task, str):
        return _by_id(task, workspace_at(workspace_directory))
    workspace = workspace_of(task) if workspace_directory is None else open_workspace(workspace_directory)
    found = fetch(workspace, record_path(task))
    if found is None:
        raise MissingDataError(f"no result of {task!r} is stored in {workspace.url}; build it first")
    return found


def workspace_at(workspace_directory: str | None) -> Workspace:
    """The workspace of that name; by default the one that is configured for every task."""
    if workspace_directory is None:
        from kart_core.task import TaskOnKart

        shape = shape_of(TaskOnKart)
        workspace_directory = cast("str", setting(shape, state_of(shape), "workspace_directory"))
    return open_workspace(workspace_directory)


def _by_id(unique_id: str, workspace: Workspace) -> Record:
    digits = unique_id.lower()
    if not digits or set(digits) - set("0123456789abcdef"):
        raise ParameterError(
            f"{unique_id!r} is no unique id; give its hex digits, as they stand in a result's file name"
        )
    paths = [path for path in _record_paths(workspace, RECORDS) if path.rpartition("/")[2].startswith(digits)]
    if not paths:
        raise MissingDataError(
            f"no result with the id {unique_id} is stored in {workspace.url}; look with kart-core plan"
        )
    if len(paths) > 1:
        names = ", ".join(sorted(path.removeprefix(f"{RECORDS}/") for path in paths)[:5])
        raise ParameterError(f"the id {unique_id} fits {len(paths)} results ({names}); give more digits")
    found = fetch(workspace, paths[0])
    if found is None:
        raise MissingDataError(f"the record {workspace.where(paths[0])} was removed while it was looked for")
    return found


def results(task_class: type[AnyTask] | str, workspace_directory: str | None = None) -> list[Record]:
    """The records of all stored results of a task class, oldest first.

    Args:
        task_class: the class, or its name as records have it: ``module.Class``.
        workspace_directory: where to look; by default the class's configured workspace.

    Raises:
        CorruptResultError: a record cannot be read.

    Example:
        >>> import kart_core as kart
        >>> class Square(kart.TaskOnKart[int]):
        ...     n: int
        ...     def run(self) -> int:
        ...         return self.n * self.n
        >>> kart.build(Square(n=2), Square(n=3))
        (4, 9)
        >>> [record.parameters["n"] for record in kart.results(Square)]
        [2, 3]
    """
    config.refresh()
    if isinstance(task_class, str):
        workspace, folder = workspace_at(workspace_directory), f"{RECORDS}/{task_class}"
    else:
        shape = shape_of(task_class)
        state = state_of(shape)
        workspace = open_workspace(workspace_directory or setting(shape, state, "workspace_directory"))
        folder = state.record_folder
    found = [fetch(workspace, path) for path in _record_paths(workspace, folder)]
    return sorted((r for r in found if r is not None), key=lambda r: (r.started, r.attempt))


def _record_paths(workspace: Workspace, folder: str) -> list[str]:
    with guarded(workspace, folder):
        return [path for path, _ in workspace.store.list(folder) if path.endswith(".json")]


# --- writing ----------------------------------------------------------------------------


def shared(methods: Sequence[str], code: str | None, plugins: Mapping[str, str]) -> str:
    """What the records of many tasks have in common, for `encoded`: as JSON, from the middle of the seed on.

    Args:
        methods: the seeding methods: each was called, where its library was imported or as soon as it was.
        code: the digest of the tasks' code.
        plugins: the outside plugins that took part.
    """
    versions = {"python": platform.python_version(), "kart_core": __version__}
    host = os.uname().nodename if hasattr(os, "uname") else platform.node()
    common = {"code": code, "host": host, "versions": versions, "plugins": plugins}
    return f'"methods":{to_text(methods)}}},{to_text(common)[1:-1]}'


def encoded(attempt: Attempt, requirements: Sequence[AnyTask], common: str, started: float) -> str:
    """The record of an attempt as JSON, but for what is known when the outputs are in place: see `with_outputs`.

    It is written for every task, so it is put together from parts; a general encoder takes several times as long.

    Args:
        attempt: what the task did.
        requirements: what the task required.
        common: what `shared` gave.
        started: seconds since the epoch.

    Raises:
        KartError: the task noted in `task_log` what JSON cannot hold.
    """
    task, here = attempt.task, attempt.resolved
    required = _requirements_text(requirements, attempt.read) if requirements else ""
    settings = to_text(plain_settings(task)) if task._kart_given else "{}"
    others = to_text(unrecorded(task)) if task._kart_children else "{}"
    return (
        f'{{"format":1,"task":{here.name_as_json},"unique_id":"{attempt.unique_id}","attempt":"{attempt.id}",'
        f'"requirements":[{required}],"parameters":{_parameters_text(task, here.shape)},'
        f'"unrecorded":{others},"settings":{settings},"seed":{{"value":{attempt.seed},{common},'
        f'"log":{log_text(attempt) if attempt.log else "{}"},"started":{started:.6f},"seconds":'
    )


def with_outputs(beginning: str, outputs: Sequence[Output], seconds: float) -> bytes:
    """The whole record of which `encoded` gave the beginning.

    Args:
        beginning: of `encoded`.
        outputs: what was put in place.
        seconds: how long the attempt took.
    """
    stored = _output_text(outputs[0]) if len(outputs) == 1 else ",".join(map(_output_text, outputs))
    return f'{beginning}{seconds:.6f},"outputs":[{stored}]}}\n'.encode(errors=ESCAPE)


def _output_text(output: Output) -> str:
    mark = "null" if output.mark is None else text_of(output.mark)
    return (
        f'{{"path":{text_of(output.path)},"size":{output.size},"digest":"{output.digest}",'
        f'"serializer":{text_of(output.serializer)},"mark":{mark}}}'
    )


def _requirements_text(requirements: Sequence[AnyTask], read: Mapping[str, tuple[str | None, str]]) -> str:
    names: dict[type[Any], str] = {}
    parts: list[str] = []
    for required in requirements:
        cls = type(required)
        name = names.get(cls)
        if name is None:
            name = names[cls] = text_of(state_of(shape_of(cls)).full_name)
        unique_id = required.unique_id
        found = read.get(unique_id)
        if found is None:
            parts.append(f'[{name},"{unique_id}",null,null]')
        else:
            attempt, digest = found
            parts.append(f'[{name},"{unique_id}",{"null" if attempt is None else text_of(attempt)},"{digest}"]')
    return ",".join(parts)


def _parameters_text(task: AnyTask, shape: Shape) -> str:
    held = task.__dict__
    parts: list[str] = []
    for slot in shape.slots:
        if not slot.as_json:  # private
            continue
        value: object = held[slot.name]
        if type(value) is int:
            text = str(value)
        elif type(value) is str and slot.exact is str:
            text = text_of(value)
        elif is_tasks(value):
            text = _references_text(value)
        else:
            text = to_text(full_value(value, slot.info.annotation))
        parts.append(slot.as_json + text)
    return "{" + ",".join(parts) + "}"


def _references_text(tasks: tuple[AnyTask, ...]) -> str:
    """`plain` of a tuple of tasks, as JSON: a task may hold thousands."""
    heads: dict[type[Any], str] = {}
    parts: list[str] = []
    for task in tasks:
        cls = type(task)
        head = heads.get(cls)
        if head is None:
            head = heads[cls] = to_text(reference(cls)).removesuffix("}")
        parts.append(f'{head},"unique_id":"{task.unique_id}"}}')
    return f'{{"tuple":[{",".join(parts)}]}}'


def log_text(attempt: Attempt) -> str:
    """What the task noted in `task_log`, as JSON.

    Raises:
        KartError: JSON cannot hold it.
    """
    try:
        return json.dumps(attempt.log, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise KartError(
            f"task_log of {attempt.task!r} holds what JSON cannot: {error}; "
            "note numbers, texts, lists and mappings of them"
        ) from error
