"""What a running task has: its attempt, with what it dumped, read, logged and drew.

Global random generators are shared by all threads, so one task runs at a time in a process;
`current()` is that task's attempt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextvars import Context, copy_context
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from kart_core.digest import digest16
from kart_core.errors import KartError, ParameterError, SerializationError

if TYPE_CHECKING:
    from random import Random

    import numpy as np

    from kart_core.content import Content
    from kart_core.resolved import Resolved
    from kart_core.target import Target
    from kart_core.task import TaskOnKart

T = TypeVar("T")

one_at_a_time = threading.RLock()
"""Held while a task runs; a build inside a task's `run` takes it again in the same thread."""


among_others = False
"""Whether this process is one of several that run tasks under leases: what is built inside a task is leased too."""

imports_code = False
"""Whether this process is a worker that imports the code of tasks: what is built now would be built in every worker."""


class Attempt:
    """One execution of one task.

    Attributes:
        task: the task.
        id: the attempt's id, which stands in the record.
        staged: what was dumped, by the target's path, and not yet put in its place.
        read: the attempt and the digest of what was read of each task, by unique id.
        log: what the task noted in `task_log`.
        outputs: what the task's `output()` gave, asked once.
        targets: the targets in it by name, and each by itself, once a target was named.
        resolved: what holds for the task in this run.
        unique_id: the task's.
        seed: with which the task runs: the one that was set, or one made from its unique id.
        above: the attempt in whose `run` this one was asked for, if there is one.
        context: the configuration and the plugins of the build, for threads that the task starts.
    """

    __slots__ = (
        "_generators",
        "above",
        "context",
        "id",
        "log",
        "on_progress",
        "outputs",
        "read",
        "resolved",
        "seed",
        "staged",
        "targets",
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
        self.context = copy_context()
        self.resolved = resolved
        self.unique_id = task.unique_id
        self.seed = int(self.unique_id[:8], 16) if resolved.seed is None else resolved.seed
        self.id = id_
        self.staged: dict[str, tuple[Target, Content]] = {}
        self.read: dict[str, tuple[str | None, str]] = {}
        self.log: dict[str, Any] = {}
        self.outputs: Any = resolved.output(task, self.unique_id)
        self.targets: tuple[Mapping[str, Target], Mapping[Target, Target]] | None = None
        self.on_progress = on_progress
        self._generators: dict[tuple[str, str], Any] = {}

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

    def generator(self, name: str, kind: str) -> Any:
        """The task's own generator of that name and kind, made once per attempt."""
        key = (kind, name)
        if key not in self._generators:
            # The streams of numpy's generators were there first: their source names no kind.
            source = f"{self.unique_id}/{name}" if kind == "numpy" else f"{self.unique_id}:{kind}/{name}"
            self._generators[key] = _GENERATORS[kind](int.from_bytes(digest16(source.encode()), "big"))
        return self._generators[key]


def _numpy_generator(seed: int) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(seed)


def _random_generator(seed: int) -> Random:
    from random import Random

    return Random(seed)


def _torch_generator(seed: int) -> Any:
    torch: Any = import_module("torch")  # not by a statement: type checkers need not have torch to check kart
    return torch.Generator().manual_seed(seed % 2**63)


_GENERATORS: Final[Mapping[str, Callable[[int], object]]] = {
    "numpy": _numpy_generator,
    "random": _random_generator,
    "torch": _torch_generator,
}


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


def context_in_thread(task: TaskOnKart[Any]) -> Context | None:
    """What holds for a running task, where another thread than that of its `run` asks; None elsewhere.

    A thread begins without the context of the one that starts it, and would look where the process's own
    configuration says.
    """
    attempt = _current
    if attempt is None or _thread == threading.get_ident() or attempt.task != task:
        return None
    return attempt.context.copy()  # a context is entered by one thread at a time


def _attempt_for(what: str) -> Attempt:
    if _current is None:
        raise KartError(f"{what} is for the run() of a task; no task is running")
    return _current


@overload
def rng(name: str = "", kind: Literal["numpy"] = "numpy") -> np.random.Generator: ...
@overload
def rng(name: str = "", *, kind: Literal["random"]) -> Random: ...
# torch.Generator; were it named here, `rng` as a whole would have no type where torch is not installed.
@overload
def rng(name: str = "", *, kind: Literal["torch"]) -> Any: ...
def rng(name: str = "", kind: str = "numpy") -> Any:
    """A random generator that is the running task's own.

    Its stream is made from the task's unique id, `name` and `kind`: it is the same every time,
    and no other draw, in this task or elsewhere, moves it.

    Args:
        name: tells several generators of one task apart.
        kind: whose generator: ``"numpy"`` gives a `numpy.random.Generator`, ``"random"`` a
            `random.Random`, ``"torch"`` a `torch.Generator` on the CPU, for samplers and data loaders.

    Raises:
        KartError: no task is running, or the library is not installed.
        ParameterError: there is no such kind.

    Example:
        >>> import kart_core as kart
        >>> class Split(kart.TaskOnKart[list[int]]):
        ...     def run(self) -> list[int]:
        ...         return [int(i) for i in kart.rng("split").permutation(5)]
        >>> kart.build(Split()) == kart.build(Split())
        True
    """
    attempt = _attempt_for("kart.rng()")
    if kind not in _GENERATORS:
        kinds = ", ".join(map(repr, _GENERATORS))
        raise ParameterError(f"kart.rng() makes no generator of kind {kind!r}; the kinds are {kinds}")
    try:
        return attempt.generator(name, kind)
    except ModuleNotFoundError as error:
        raise KartError(
            f"kart.rng(kind={kind!r}) in the run() of {attempt.task!r} needs {error.name}, which is not installed; "
            f"pip install {error.name}, or take another kind"
        ) from error


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
    # Serializers of kart's own say what to give instead, and which format takes the value.
    advice = (
        ", with self.make_target('name.pkl') in output()"
        if str(error).endswith(".pkl")
        else "; dump another value, or name another format in output() with self.make_target('name.pkl')"
    )
    return SerializationError(
        f"{target.serializer.suffix} cannot represent the {type(value).__name__} dumped to {target.path}: "
        f"{error}{advice}"
    )
