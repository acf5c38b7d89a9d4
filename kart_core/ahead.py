"""Reading many small results ahead, where storage is far away: one wait for many instead of one for each.

Only a store that has `read_many` is asked; on a local disk there is nothing to be won.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from kart_core.content import MEMORY
from kart_core.records import known, parsed, remember
from kart_core.resolved import resolved
from kart_core.workspace import guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.resolved import Resolved
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

_TASKS: Final = 256
_BYTES: Final = 32 << 20


class _Remote(Protocol):
    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """The content of each file; None where there is none."""
        ...


class Ahead:
    """The contents of tasks' results, read a good number at a time, in the order in which they will be wanted.

    Args:
        tasks: the tasks whose results will be loaded.
    """

    def __init__(self, tasks: Sequence[AnyTask]) -> None:
        self._places: dict[str, int] = {}
        self._tasks: list[tuple[Resolved, str]] = []
        self._read: dict[str, bytes | None] = {}
        if len(tasks) < 2:
            return
        by_class: dict[type[Any], Resolved] = {}  # tasks that were given no settings of their own share it
        for task in tasks:
            if task._kart_recorded and not task._kart_wraps:
                cls = type(task)
                here = by_class.get(cls)
                if here is None or task._kart_given:
                    here = resolved(task)
                    if not task._kart_given:
                        by_class[cls] = here
                if not here.workspace.remote:
                    continue
                if here.serializer is not None and hasattr(here.workspace.store, "read_many"):
                    self._places.setdefault(task.unique_id, len(self._tasks))
                    self._tasks.append((here, task.unique_id))

    def take(self, task: AnyTask) -> bytes | None:
        """The content of a task's result; None where it was not read ahead, and for the second time."""
        if not self._places:
            return None
        unique_id = task.unique_id
        if unique_id not in self._read:
            place = self._places.pop(unique_id, None)
            if place is None:
                return None
            self._read_from(place)
        self._places.pop(unique_id, None)
        return self._read.pop(unique_id, None)

    def _read_from(self, place: int) -> None:
        """Reads the results from a place in the order on, as many as are to be held at once."""
        here = self._tasks[place][0]
        some = [one for one in self._tasks[place : place + _TASKS] if one[0].workspace is here.workspace]
        store = cast("_Remote", here.workspace.store)
        paths = [(one, unique_id, one.record_path(unique_id)) for one, unique_id in dict.fromkeys(some)]
        unknown = [path for one, _, path in paths if known(one.workspace, path) is None]
        with guarded(here.workspace, ""):
            for path, data in zip(unknown, store.read_many(unknown), strict=True):
                if data is not None:
                    found = parsed(here.workspace, path, data)
                    remember(here.workspace, path, found.attempt, tuple(found.outputs))
            wanted: dict[str, str] = {}
            left = _BYTES
            for one, unique_id, path in paths:
                written = known(one.workspace, path)
                if unique_id in self._read:
                    continue
                if written is None or len(written[1]) != 1 or (size := written[1][0].size) > MEMORY:
                    self._read[unique_id] = None  # is read alone, when it is wanted
                    continue
                left -= size
                if left < 0 and wanted:
                    break
                wanted[unique_id] = f"{one.result_path}_{unique_id}.pkl"
            contents = store.read_many(list(wanted.values()))
        self._read.update(zip(wanted, contents, strict=True))
