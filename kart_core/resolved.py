"""What holds for the tasks of a class in one run: its settings, its workspace, its names, resolved once.

A run asks for these things many times for each task; a task that was given no settings of its
own shares them with all of its class.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from kart_core import config, host
from kart_core.construction import State, setting, state_of
from kart_core.declaration import Shape, shape_of
from kart_core.target import Target, declared, serializer_of
from kart_core.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.plugin import Serializer
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]


class Resolved:
    """The settings and names of the tasks of one class, or of one task that was given settings itself.

    Attributes:
        shape: of the class.
        name: ``module.Class``.
        record_folder: where records stand in the workspace.
        result_path: a result's path in the workspace, without id and suffix.
        workspace: where results live.
        serializer: of the default target; None where `output` is overridden.
    """

    __slots__ = (
        "fail_on_empty",
        "given",
        "host",
        "lock",
        "methods",
        "modification_time_check",
        "name",
        "name_as_json",
        "record_folder",
        "rerun",
        "result_path",
        "seed",
        "serializer",
        "shape",
        "strict",
        "workspace",
    )

    def __init__(self, shape: Shape, state: State, given: dict[str, Any], present: host.Host) -> None:
        def value(name: str) -> Any:
            return given[name] if name in given else setting(shape, state, name)

        self.shape = shape
        self.given = given
        self.host = present
        self.name = state.full_name
        self.name_as_json = json.dumps(state.full_name, ensure_ascii=False)
        self.record_folder = state.record_folder
        self.result_path = state.result_path
        self.workspace: Workspace = open_workspace(value("workspace_directory"))
        self.serializer: Serializer | None = serializer_of(".pkl") if shape.plain_output else None
        self.methods: Sequence[str] = value("fix_random_seed_methods")
        self.seed: int | None = value("fix_random_seed_value")
        self.rerun: bool = value("rerun")
        self.strict: bool = value("strict_check")
        self.modification_time_check: bool = value("modification_time_check")
        self.fail_on_empty: bool = value("fail_on_empty_dump")
        self.lock: bool | Literal["auto"] = value("should_lock_run")

    def record_path(self, unique_id: str) -> str:
        """Where a record stands in the workspace."""
        return f"{self.record_folder}/{unique_id}.json"

    def output(self, task: AnyTask, unique_id: str) -> Any:
        """What the task's `output()` gives; the default one is made here, for it is asked for every task."""
        if self.serializer is None:
            return declared(task)
        return Target(self.workspace, f"{self.result_path}_{unique_id}.pkl", serializer=self.serializer)


def resolved(task: AnyTask) -> Resolved:
    """What holds for a task under the current configuration and plugins."""
    shape, conf = shape_of(type(task)), config.current()
    state: State = shape.state
    if state is None or state.config is not conf:  # pyright: ignore[reportUnnecessaryComparison]
        state = state_of(shape)
    present = host.current(conf)
    given: Any = task._kart_given
    if given:
        return Resolved(shape, state, given, present)
    known: Resolved | None = state.resolved
    if known is None or known.host is not present:
        # A relative workspace is taken at its place now, and keeps it while this configuration holds.
        known = state.resolved = Resolved(shape, state, given, present)
    return known
