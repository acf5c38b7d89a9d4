"""What a running task has: its attempt, with what it dumped, read, logged and drew.

Global random generators are shared by all threads, so one task runs at a time in a process;
`current()` is that task's attempt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, TypeVar

from kart_core.digest import digest16
from kart_core.errors import KartError, SerializationError

if TYPE_CHECKING:
    import numpy as np

    from kart_core.content import Content
    from kart_core.resolved import Resolved
    from kart_core.target import Target
    from kart_core.task import TaskOnKart

T = TypeVar("T")

one_at_a_time = threading.RLock()
"""Held while a task runs; a build inside a task's `run` takes it again in the same thread."""


class Attempt:
    """One execution of one task.

    Attributes:
        task: the task.
        id: the attempt's id, which stands in the record.
        staged: what was dumped, by the target's path, and not yet put in its place.
        read: the attempt and the digest of what was read of each task, by unique id.
        log: what the task noted in `task_log`.
        outputs: what the task's `output()` gave, asked once.
        resolved: what holds for the task in this run.
        unique_id: the task's.
        above: the attempt in whose `run` this one was asked for, if there is one.
    """

    __slots__ = (
        "_generators",
        "above",
        "id",
        "log",
        "on_progress",
        "outputs",
        "read",
        "resolved",
        "staged",
        "task",
        "unique_id",
    )

    def __init__(
        self,
        task: TaskOnKart[Any],
        id_: str,
        resolved: Resolved,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self.task = task
        self.above = _current
        self.resolved = resolved
        self.unique_id = task.unique_id
        self.id = id_
        self.staged: dict[str, tuple[Target, Content]] = {}
        self.read: dict[str, tuple[str | None, str]] = {}
        self.log: dict[str, Any] = {}
        self.outputs: Any = resolved.output(task, self.unique_id)
        self.on_progress = on_progress
        self._generators: dict[str, Any] = {}

    def stage(self, target: Target, content: Content) -> None:
        """Keeps a serialized value until the run has returned; the last dump to a target counts."""
        earlier = self.staged.pop(target.path, None)
        if earlier is not None:
            earlier[1].discard()
        self.staged[target.path] = (target, content)

    def discard(self) -> None:
        """Drops what was staged."""
        for _, content in self.staged.values():
            content.discard()
        self.staged.clear()

    def generator(self, name: str) -> np.random.Generator:
        """The task's own numpy generator of that name, made once per attempt."""
        if name not in self._generators:
            import numpy as np

            source = f"{self.unique_id}/{name}".encode()
            self._generators[name] = np.random.default_rng(int.from_bytes(digest16(source), "big"))
        return self._generators[name]


_current: Attempt | None = None
_thread: int | None = None  # in which the current attempt runs


def current() -> Attempt | None:
    """The attempt of the task that is running in this process, if one is."""
    return _current


def enter(attempt: Attempt | None) -> Attempt | None:
    """Makes an attempt the current one; gives back the one before, to be entered again afterwards."""
    global _current, _thread
    before, _current = _current, attempt
    _thread = threading.get_ident()
    return before


def is_inside() -> bool:
    """Whether what asks is the running task itself, and no other thread."""
    return _current is not None and _thread == threading.get_ident()


def _attempt_for(what: str) -> Attempt:
    if _current is None:
        raise KartError(f"{what} is for the run() of a task; no task is running")
    return _current


def rng(name: str = "") -> np.random.Generator:
    """A numpy generator that is the running task's own.

    Its stream is made from the task's unique id and `name`: it is the same every time, and no
    other draw, in this task or elsewhere, moves it.

    Args:
        name: tells several generators of one task apart.

    Raises:
        KartError: no task is running.

    Example:
        >>> import kart_core as kart
        >>> class Split(kart.TaskOnKart[list[int]]):
        ...     def run(self) -> list[int]:
        ...         return [int(i) for i in kart.rng("split").permutation(5)]
        >>> kart.build(Split()) == kart.build(Split())
        True
    """
    return _attempt_for("kart.rng()").generator(name)


def progress(iterable: Iterable[T], *, total: int | None = None) -> Iterator[T]:
    """Yields what `iterable` gives, and shows how far the running task has come.

    Args:
        iterable: what the task goes through.
        total: how many items it will give; by default its length, where it has one.

    Raises:
        KartError: no task is running.

    Example:
        >>> import kart_core as kart
        >>> class Slow(kart.TaskOnKart[int]):
        ...     def run(self) -> int:
        ...         return sum(i for i in kart.progress(range(1000)))
        >>> kart.build(Slow())
        499500
    """
    attempt = _attempt_for("kart.progress()")
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    return _reported(iterable, attempt, total)


def _reported(iterable: Iterable[T], attempt: Attempt, total: int | None) -> Iterator[T]:
    told = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        if attempt.on_progress is not None and (now := time.monotonic()) - told >= 0.1:
            told = now
            attempt.on_progress(done, total)


def no_representation(target: Target, value: object, error: Exception) -> SerializationError:
    """The error of a value that the format of its target cannot represent."""
    return SerializationError(
        f"{target.serializer.suffix} cannot represent the {type(value).__name__} dumped to {target.path}: {error}; "
        "dump another value, or name another format in output() with self.make_target('name.pkl')"
    )
