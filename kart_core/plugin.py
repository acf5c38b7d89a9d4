"""What a plugin of kart is: a subclass of `Plugin` that implements some of its hooks.

A hook returns *records*: small frozen objects that say what the plugin provides and how
to use it. The distribution announces the names that it provides as entry points, one per
name, so that kart can find a plugin without importing it::

    # pyproject.toml of a plugin that reads and writes YAML
    [project.entry-points."kart_core.serializers"]
    yaml = "kart_yaml:Yaml"

The class behind the entry is imported when one of its names is first used. A plugin that
stands in a project needs no distribution: name it in ``[plugins] load`` or pass the class
to ``kart_core.build(..., plugins=[Mine])``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import attrs
import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from attrs import AttrsInstance

__all__ = [
    "GROUPS",
    "ConditionalStore",
    "Demand",
    "Event",
    "Executor",
    "ExecutorSession",
    "FutureSession",
    "Hasher",
    "Plugin",
    "RemoteWork",
    "RemoteWorker",
    "Secret",
    "Seeder",
    "Serializer",
    "Stat",
    "Storage",
    "Store",
    "Work",
    "WorkReturned",
    "WorkerPool",
    "hookimpl",
]

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

hookspec = pluggy.HookspecMarker("kart_core")
hookimpl = pluggy.HookimplMarker("kart_core")
"""The marker of a method that implements a hook: ``@hookimpl``."""

GROUPS: Mapping[str, str] = {
    "kart_storages": "kart_core.storages",
    "kart_serializers": "kart_core.serializers",
    "kart_hashers": "kart_core.hashers",
    "kart_seeders": "kart_core.seeders",
    "kart_executors": "kart_core.executors",
    "kart_event": "kart_core.events",
}
"""Each hook and the entry-point group in which a distribution announces it."""


class Secret(str):
    """A text that is never shown: not printed, not logged, not recorded, not in an id.

    It is a ``str`` for the library that needs it; ``repr``, ``format`` and ``str()`` show stars.
    `reveal` gives the text.

    Example:
        >>> key = Secret("abc")
        >>> print(key, f"{key}", repr(key), key.reveal())
        *** *** Secret('***') abc
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret('***')"

    def __format__(self, format_spec: str) -> str:
        return format("***", format_spec)

    def __reduce_ex__(self, protocol: Any, /) -> Any:
        raise TypeError("a Secret is never pickled: let the other process read it from where it comes from")

    def reveal(self) -> str:
        """The text itself."""
        return str.__str__(self)


class Stat(NamedTuple):
    """What a store knows of a file without reading it."""

    size: int
    """Bytes."""
    mark: str
    """A text that changes when the file changes: a modification time, an ETag, a generation."""
    modified: float | None
    """Seconds since the epoch by the storage's own clock, where it says so."""


@runtime_checkable
class Store(Protocol):
    """The files under one root, which is a workspace.

    A path is relative to the root and uses ``/``. Every write is whole: a reader sees the old
    content, the new one, or no file; never a part. A file that is not there is a
    ``FileNotFoundError``; another failure is an ``OSError`` of its kind.
    """

    def stat(self, path: str) -> Stat | None:
        """What is known of the file, or None where there is none."""
        ...

    def stat_many(self, paths: Sequence[str]) -> list[Stat | None]:
        """`stat` of each path, in their order; a remote store asks concurrently."""
        ...

    def read(self, path: str) -> bytes:
        """The whole content."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The content as an open, seekable file, for reading only."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Writes the whole content, over what was there."""
        ...

    def put_file(self, path: str, source: str) -> None:
        """Puts the content of the local file `source`; `source` is gone afterwards."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Writes the content only if there is no such file; of many who try at once, one is told True."""
        ...

    def remove(self, path: str) -> bool:
        """Removes the file; whether there was one."""
        ...

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        """Every file whose path begins with the folder `prefix` (``""``: every file), with its stat."""
        ...

    def staging_directory(self, path: str) -> str | None:
        """A local directory from which `put_file` to `path` is a mere rename, or None where there is none."""
        ...

    def local_path(self, path: str) -> str | None:
        """The file's path on this machine's file system, or None where it has none."""
        ...


@runtime_checkable
class ConditionalStore(Store, Protocol):
    """A store that also writes and removes on condition, decided by the storage itself, in one step.

    With it, a lease that is renewed too late is never one that another holds by now; a store
    without it needs only `create`.
    """

    def replace(self, path: str, data: bytes, mark: str | None) -> str | None:
        """Writes the content only if the file still has the mark; None: only if there is no such file.

        Of many who try at once, one succeeds. It is given the new mark, the others None.
        """
        ...

    def remove_unchanged(self, path: str, mark: str) -> bool:
        """Removes the file only if it still has the mark; whether it did."""
        ...


@attrs.frozen
class Storage:
    """A record of `Plugin.kart_storages`: how URLs of one scheme are opened."""

    scheme: str
    """The part of a URL before ``://``."""
    open: Callable[[str], Store]
    """Takes the workspace's whole URL and gives its store. It touches no network."""
    shared: Literal["process", "machine", "network"] = "network"
    """Who sees what is written there: this process alone, this machine, or everyone."""
    exclusive: bool = True
    """Whether `Store.create` has one winner among processes."""
    quiet: bool = False
    """Whether no library behind it ever draws from a global random generator, not even for the waits between retries.

    Then, where storage is far, a result may be on its way while the next task runs.
    """


@attrs.frozen
class Serializer:
    """A record of `Plugin.kart_serializers`: how a value becomes the content of a file and back."""

    suffix: str
    """The end of a target's file name that chooses this serializer, without the dot: ``parquet``, ``tar.gz``."""
    dump: Callable[[Any, BinaryIO], None]
    """Writes the value to the file. It raises `TypeError` or `ValueError` for what the format cannot represent."""
    load: Callable[[BinaryIO], Any]
    """Reads the value back."""
    types: Sequence[str] = ()
    """The types that it takes, as ``"pandas:DataFrame"``; empty: it decides for each value."""
    version: int = 1
    """Raised by one when the format on disk changes; it stands in every record."""
    seekable: bool = False
    """Whether both functions need a real file that can seek; otherwise a stream that is read once will do."""
    stream: Callable[[BinaryIO], Iterator[Any]] | None = None
    """Reads the parts of a value that was dumped in parts, one at a time; None where the format has none."""


@attrs.frozen
class Hasher:
    """A record of `Plugin.kart_hashers`: how a value of a type becomes part of a unique id."""

    type: str
    """The type's module and qualified name with a dot: ``numpy.ndarray``.

    Subclasses are taken too, told apart by name.
    """
    encode: Callable[[Any], bytes]
    """Gives equal bytes for equal values and different ones for different values, on every platform."""


@attrs.frozen
class Seeder:
    """A record of `Plugin.kart_seeders`: how a library's global random generator is fixed."""

    method: str
    """The name by which `fix_random_seed_methods` calls it: ``numpy.random.seed``."""
    module: str
    """The module whose import makes seeding necessary: ``numpy.random``. It is not imported for seeding's sake."""
    seed: Callable[[int], None]
    """Fixes the generator; the number is from 0 to 2**32 - 1."""
    save: Callable[[], Any]
    """The generator's state, to be given back."""
    restore: Callable[[Any], None]
    """Gives a saved state back."""


class Work(Protocol[Result_co]):
    """Work that was taken; every ``concurrent.futures.Future`` is one."""

    def result(self) -> Result_co:
        """What the work gave, once it is done; what it raised is raised here."""
        ...


class ExecutorSession(Protocol):
    """Takes work until it is shut down; every ``concurrent.futures.Executor`` is one.

    It is what an executor opens that runs work in the process that submits it.
    """

    def submit(self, fn: Callable[..., Result], /, *args: Any) -> Work[Result]:
        """Takes a function and its arguments, and gives what stands for its result."""
        ...

    def shutdown(self, wait: bool = True) -> None:
        """Takes no more work; with `wait` what was taken is done when it returns."""
        ...


class RemoteWorker(Protocol):
    """A process that takes messages and answers with messages, until it is told to end or is killed."""

    @property
    def pid(self) -> int:
        """The number by which people know the process."""
        ...

    def fileno(self) -> int:
        """A descriptor that becomes readable when a message has come, or the worker has ended."""
        ...

    def send(self, message: bytes) -> None:
        """Sends a message; an `OSError` where the worker has ended."""
        ...

    def receive(self) -> bytes:
        """The next message, for which it waits; `EOFError` or `OSError` where the worker has ended."""
        ...

    def has_message(self) -> bool:
        """Whether `receive` would not wait."""
        ...

    def interrupt(self) -> None:
        """Asks for an end, as Ctrl-C does."""
        ...

    def kill(self) -> None:
        """Ends the worker and all that it started, at once."""
        ...

    def ending(self) -> str:
        """How the worker ended, such as ``was killed by signal 9 (SIGKILL)``; waits for it."""
        ...


class WorkerPool(Protocol):
    """Starts worker processes; it is what an executor opens that runs work in other processes.

    What the messages say is kart's business. A pool only carries them, whole and in their order.
    """

    def start(self, entry: str) -> RemoteWorker:
        """Starts a worker that calls a function, ``module:function``, with the descriptor of a stream socket."""
        ...

    def shutdown(self, wait: bool = True) -> None:
        """Ends every worker that is left; with `wait`, those that were told to end have time to do so."""
        ...


class WorkReturned(Exception):
    """Raised by `RemoteWork.result` where the engine gives work back undone, and the work is not to blame.

    A worker was retired, or a queue emptied. The work is given to the engine again, and that is no failed try.
    """


class RemoteWork(Protocol):
    """Work that an engine has taken; every ``concurrent.futures.Future`` is one."""

    def result(self) -> bytes:
        """What the function gave; called when the work is done, from any thread.

        Raises:
            KartError: the engine itself cannot go on; the run ends with this error.
            WorkReturned: it is to be given to the engine again.
            Exception: the worker that had it is gone; the exception says so in a sentence.
        """
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object:
        """Has `fn` called, in any thread, when there is a result or there will be none."""
        ...

    def cancel(self) -> object:
        """Takes the work back if it has not begun; otherwise nothing happens."""
        ...


@attrs.frozen(eq=False)
class Demand:
    """What a piece of work asks of an engine, and what is good to know of it."""

    name: str
    """By which people know it: ``pipeline.Train``, or ``pipeline.Train and 41 more``."""
    priority: int = 0
    """The higher goes first."""
    resources: Mapping[str, float] = attrs.field(factory=dict[str, float])
    """What the class keyword ``resources`` says.

    kart keeps to the limits of its configuration itself. An engine whose workers have such resources places it there.
    """
    timeout: float | None = None
    """Seconds after which kart stops it; for an engine that wants to know."""
    beside: RemoteWork | None = None
    """Earlier work, in whose worker process this has to run; where that process is gone, ``result`` raises."""
    hear: Callable[[bytes], None] | None = None
    """Takes what the work tells while it runs, from any thread; see `FutureSession`."""


class FutureSession(Protocol):
    """Gives work to an engine that has a scheduler of its own, and gets futures for it.

    It is what an executor opens whose workers are not kart's to start and to stop: those of a cluster. A
    piece of work is some tasks, which it runs one after the other in a process of its own beside the worker.
    So a worker process must take one piece at a time, and need not do so in its main thread.

    An engine that can carry messages from a running function calls it with one more argument,
    ``tell=send``: a function that takes bytes, from any thread, and brings them to ``demand.hear`` in the
    coordinating process before the work is done. Without, what tasks log and print is seen when they have ended.
    """

    @property
    def workers(self) -> int:
        """How many pieces of work can run at once now; it may change at any time, and be 0 for a while."""
        ...

    @property
    def about(self) -> str:
        """A line for people once it is at work, such as where its dashboard is; empty where there is nothing to say."""
        ...

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> RemoteWork:
        """Has a function called in a worker process.

        Args:
            fn: a function of kart, which every worker process can import if kart-core is installed there.
            args: are small: tasks, never their results.
            demand: what the work asks for.

        Raises:
            KartError: the engine takes no work any more.
        """
        ...

    def everywhere(self, fn: Callable[..., object], /, *args: bytes) -> None:
        """Calls a function of kart once in every worker process, whatever runs there; it returns at once.

        The end of a run is told so. An engine that cannot do it does nothing.
        """
        ...

    def shutdown(self, wait: bool = True) -> None:
        """Ends the session; a cluster that it started is ended with it.

        Args:
            wait: whether what is under way may end first.
        """
        ...


@attrs.frozen
class Executor:
    """A record of `Plugin.kart_executors`: where tasks are run."""

    name: str
    open: Callable[[int], ExecutorSession | WorkerPool | FutureSession]
    """Takes the number of workers and gives a session.

    One that runs work in the process that submits it gives an `ExecutorSession`: its ``submit`` takes
    work and gives futures; its ``shutdown`` ends it. One that starts processes of its own gives a
    `WorkerPool`, and one that gives work to an engine a `FutureSession`.
    """
    in_process: bool = False
    """Whether the work runs in the process that submits it."""
    shared: Literal["process", "machine", "network"] = "machine"
    """From where its workers see what is stored: from this machine, or from others too.

    A workspace that they cannot share is refused when a run is planned.
    """


@attrs.frozen
class Event:
    """What happened in a run, as `Plugin.kart_event` is told."""

    kind: Literal[
        "run_started",
        "task_started",
        "task_progress",
        "task_waiting",
        "task_finished",
        "task_reused",
        "task_failed",
        "task_blocked",
        "run_finished",
    ]
    run: str
    """The run's id."""
    time: float
    """Seconds since the epoch."""
    task: str | None = None
    """The task's name, ``module.Class``; None for an event of the whole run."""
    unique_id: str | None = None
    seconds: float | None = None
    """How long the task, or the run, took; None where it has not ended."""
    error: str | None = None
    """One line, where it failed."""
    counts: Mapping[str, int] | None = None
    """Numbers by name.

    For an event of the run how many tasks will run, are reused, have failed; for progress ``done`` and ``total``.
    """
    holder: str | None = None
    """Of a task that waits: the process of another run that works on it, its machine, and since when."""


class Plugin:
    """The hooks of kart, their documentation, and the base class of every plugin.

    A plugin overrides the hooks that it implements, each marked with ``@hookimpl``, and gives
    records. All hooks are optional.

    Args:
        settings: an instance of the plugin's settings class, filled from ``[plugins.NAME]`` of
            the configuration, from ``KART_NAME__KEY`` in the environment and from
            ``--set plugins.NAME.KEY=VALUE``; None where the class names no settings.

    Example:
        A plugin with settings. The class keyword names an attrs class; each of its fields is a
        setting, with its type, its default, and ``metadata={"help": ...}``:

        >>> import attrs
        >>> @attrs.frozen
        ... class ShoutSettings:
        ...     volume: int = attrs.field(default=1, metadata={"help": "how loud"})
        >>> class Shout(Plugin, settings=ShoutSettings):
        ...     settings: ShoutSettings
        >>> Shout(ShoutSettings(volume=3)).settings.volume
        3
    """

    settings_class: ClassVar[type[AttrsInstance] | None] = None
    """The attrs class of the plugin's settings, as given by the class keyword ``settings``."""

    settings: Any

    def __init_subclass__(cls, settings: type[AttrsInstance] | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if settings is not None:
            if not attrs.has(settings):
                raise TypeError(f"settings={settings!r} of the plugin {cls.__qualname__} is no attrs class")
            cls.settings_class = settings

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings

    @hookspec
    def kart_storages(self) -> Sequence[Storage]:
        """Where results can be stored: a record per URL scheme.

        Entry-point group ``kart_core.storages``; the entry's name is the scheme.

        Example:
            Any filesystem of fsspec under a scheme of one's own:

            >>> from kart_core.builtin.fsspec_store import FsspecStore
            >>> class Scratch(Plugin):
            ...     @hookimpl
            ...     def kart_storages(self) -> list[Storage]:
            ...         return [Storage("scratch", open=self.open, shared="process", exclusive=False)]
            ...
            ...     def open(self, url: str) -> Store:
            ...         return FsspecStore("memory://" + url.removeprefix("scratch://"))
            >>> store = Scratch().kart_storages()[0].open("scratch://here")
            >>> store.put("a.txt", b"kart")
            >>> store.read("a.txt")
            b'kart'
        """
        return ()

    @hookspec
    def kart_serializers(self) -> Sequence[Serializer]:
        """How values are written and read: a record per suffix of a file name.

        Entry-point group ``kart_core.serializers``; the entry's name is the suffix.

        Example:
            >>> import io
            >>> class Upper(Plugin):
            ...     @hookimpl
            ...     def kart_serializers(self) -> list[Serializer]:
            ...         return [Serializer("upper", dump=self.dump, load=self.load, types=("builtins:str",))]
            ...
            ...     def dump(self, value: str, file: BinaryIO) -> None:
            ...         file.write(value.upper().encode())
            ...
            ...     def load(self, file: BinaryIO) -> str:
            ...         return file.read().decode()
            >>> file = io.BytesIO()
            >>> record = Upper().kart_serializers()[0]
            >>> record.dump("kart", file)
            >>> record.load(io.BytesIO(file.getvalue()))
            'KART'
        """
        return ()

    @hookspec
    def kart_hashers(self) -> Sequence[Hasher]:
        """How values of other libraries' types become part of a unique id: a record per type.

        Entry-point group ``kart_core.hashers``; the entry's name is the type.

        Example:
            >>> from fractions import Fraction
            >>> class Fractions(Plugin):
            ...     @hookimpl
            ...     def kart_hashers(self) -> list[Hasher]:
            ...         return [Hasher("fractions.Fraction", encode=lambda value: str(value).encode())]
            >>> Fractions().kart_hashers()[0].encode(Fraction(1, 2))
            b'1/2'
        """
        return ()

    @hookspec
    def kart_seeders(self) -> Sequence[Seeder]:
        """How the random generators of libraries are fixed: a record per method.

        Entry-point group ``kart_core.seeders``; the entry's name is the method.

        Example:
            >>> import random
            >>> class Own(Plugin):
            ...     @hookimpl
            ...     def kart_seeders(self) -> list[Seeder]:
            ...         return [Seeder("own.seed", module="random", seed=self.seed,
            ...                        save=random.getstate, restore=random.setstate)]
            ...
            ...     def seed(self, value: int) -> None:
            ...         random.seed(value + 1)
            >>> Own().kart_seeders()[0].seed(56)
            >>> random.randint(0, 100) == random.Random(57).randint(0, 100)
            True
        """
        return ()

    @hookspec
    def kart_executors(self) -> Sequence[Executor]:
        """Where tasks are run: a record per name.

        Entry-point group ``kart_core.executors``; the entry's name is the executor's.

        Example:
            >>> from kart_core.builtin.executors import InlineExecutor
            >>> class Here(Plugin):
            ...     @hookimpl
            ...     def kart_executors(self) -> list[Executor]:
            ...         return [Executor("here", open=lambda workers: InlineExecutor(), in_process=True)]
            >>> Here().kart_executors()[0].open(1).submit(sum, [1, 2]).result()
            3

            Workers in other processes are started by a `WorkerPool`. This one adds a word to kart's own:

            >>> from kart_core.builtin.processes import WorkerProcess, WorkerProcesses
            >>> class ToldProcesses(WorkerProcesses):
            ...     def start(self, entry: str) -> WorkerProcess:
            ...         print("starts a worker that calls", entry)
            ...         return super().start(entry)
            >>> class Told(Plugin):
            ...     @hookimpl
            ...     def kart_executors(self) -> list[Executor]:
            ...         return [Executor("told", open=lambda workers: ToldProcesses(), shared="machine")]
            >>> pool = Told().kart_executors()[0].open(2)
            >>> worker = pool.start("os:close")
            starts a worker that calls os:close
            >>> worker.ending()
            'ended with exit status 0'
            >>> pool.shutdown()

            An engine that has a scheduler of its own and gives futures, here the standard library's, of which
            each pool is one process, so that it is known where a piece of work ran (see `FutureSession`):

            >>> from concurrent.futures import Future, ProcessPoolExecutor
            >>> from multiprocessing import get_context
            >>> class Pools:
            ...     about = ""
            ...
            ...     def __init__(self, workers: int) -> None:
            ...         spawned = get_context("spawn")  # never forked
            ...         self._pools = [ProcessPoolExecutor(1, spawned) for _ in range(workers)]
            ...         self._where: dict[Future[bytes], ProcessPoolExecutor] = {}
            ...
            ...     @property
            ...     def workers(self) -> int:
            ...         return len(self._pools)
            ...
            ...     def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> Future[bytes]:
            ...         pool = self._where.get(demand.beside) if demand.beside else None
            ...         if pool is None:
            ...             pool = self._pools[0]
            ...             self._pools.append(self._pools.pop(0))  # each in its turn
            ...         future = pool.submit(fn, *args)
            ...         self._where[future] = pool
            ...         return future
            ...
            ...     def everywhere(self, fn: Callable[..., object], /, *args: bytes) -> None:
            ...         for pool in self._pools:
            ...             pool.submit(fn, *args)
            ...
            ...     def shutdown(self, wait: bool = True) -> None:
            ...         for pool in self._pools:
            ...             pool.shutdown(wait, cancel_futures=not wait)
            >>> class Futures(Plugin):
            ...     @hookimpl
            ...     def kart_executors(self) -> list[Executor]:
            ...         return [Executor("futures", open=Pools)]
            >>> session = Futures().kart_executors()[0].open(1)
            >>> session.submit(bytes.upper, b"kart", demand=Demand("a piece")).result()
            b'KART'
            >>> session.shutdown()
        """
        return ()

    @hookspec
    def kart_event(self, event: Event) -> None:
        """Told of everything that happens in a run, in the process that coordinates it.

        Entry-point group ``kart_core.events``; the entry's name is free. A listener that raises
        is reported, and the run goes on.

        Example:
            >>> class Seen(Plugin):
            ...     kinds: ClassVar[list[str]] = []
            ...
            ...     @hookimpl
            ...     def kart_event(self, event: Event) -> None:
            ...         self.kinds.append(event.kind)
            >>> Seen().kart_event(Event("run_started", run="r1", time=0.0))
            >>> Seen.kinds
            ['run_started']
        """
