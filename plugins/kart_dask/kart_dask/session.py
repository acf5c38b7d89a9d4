"""A session of futures on Dask: pieces of work go to workers, what they give comes back."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as Promise
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker
from distributed import TimeoutError as DaskTimeoutError

from kart_core.errors import KartError, PluginError
from kart_core.plugin import WorkReturned
from kart_dask import shipping, travelling
from kart_dask.cluster import Connection
from kart_dask.workers import Workers, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from kart_core.plugin import Demand, RemoteWork
    from kart_dask.settings import DaskSettings

__all__ = ["DaskSession"]

PATIENCE: float = 30.0
"""Seconds in which a worker must give a result that is there, or answer when the run is over."""

_log = logging.getLogger("kart_core.build")


class Piece:
    """Work that Dask has."""

    def __init__(self, key: str, hear: Callable[[bytes], None] | None, beside: str | None) -> None:
        self.key = key
        self.hear = hear
        self.beside = beside
        self.worker: str | None = None
        self.future: Any = None
        self.promise: Promise[bytes] = Promise()

    def result(self) -> bytes:
        """What came of it."""
        return self.promise.result()

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Has `fn` called when something has."""
        self.promise.add_done_callback(fn)

    def cancel(self) -> None:
        """Takes it back; Dask does not stop what runs."""
        if self.future is not None:
            self.future.cancel()
        self.fail(CancelledError("it was taken back"))

    def fail(self, error: BaseException) -> None:
        """Ends it without a result, if it has none."""
        with suppress(InvalidStateError):
            self.promise.set_exception(error)


class DaskSession:
    """Gives work to a cluster, which is connected to, or started, with the first piece.

    Args:
        settings: which cluster it is.
        workers: how many workers a cluster on this machine has.
    """

    def __init__(self, settings: DaskSettings, workers: int) -> None:
        self._settings = settings
        self._asked = workers
        self._connection: Connection | None = None
        self._topic = f"kart-{os.urandom(8).hex()}"
        self._topics: list[str] = []
        self._count = 0
        self._pieces: dict[str, Piece] = {}
        self._lock = threading.Lock()
        self._done: SimpleQueue[Piece | None] = SimpleQueue()
        self._collector = threading.Thread(target=self._collect, name="kart-dask", daemon=True)
        self._closing = False
        self._broken: PluginError | None = None
        self.about = ""

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        return 0 if self._connection is None else len(self._known)

    def _connect(self) -> Connection:
        connection = self._connection = Connection(self._settings, self._asked)
        client = connection.client
        self._known = Workers(client, self._lost)
        self._topics.append("all")
        client.run_on_scheduler(travelling.by_value(travelling.obey))
        if self._settings.ship:
            shipping.ship(client)
        check(client)
        if not len(self._known):
            _log.warning("the Dask scheduler %s has no workers yet; the run waits for one", connection.where)
        client.subscribe_topic(self._topic, self._heard)
        self._topics.append(self._topic)
        self._collector.start()
        link = client.dashboard_link
        self.about = f"Dask at {connection.where}" + (f", dashboard {link}" if link else "")
        return connection

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> RemoteWork:
        """Gives a piece of work to the cluster.

        Raises:
            PluginError: there is no cluster, or its scheduler is gone.
        """
        connection = self._connection or self._connect()
        if connection.client.status != "running":
            raise self._gone()
        if self._broken is not None:
            raise self._broken
        beside = demand.beside.worker if isinstance(demand.beside, Piece) else None
        self._count += 1
        piece = Piece(f"{self._topic}-{self._count}", demand.hear, beside)
        if demand.beside is not None and beside not in self._known:
            piece.fail(ConnectionError("it has left the cluster"))
            return piece
        with self._lock:
            self._pieces[piece.key] = piece
        try:
            there = self._known.resources(demand.resources)
            piece.future = connection.client.submit(
                travelling.by_value(travelling.run),
                f"{fn.__module__}:{fn.__qualname__}",
                self._topic,
                piece.key,
                *args,
                key=piece.key,
                pure=False,
                priority=demand.priority,
                resources={name: demand.resources[name] for name in there} or None,
                workers=[beside] if beside is not None else None,
            )
            piece.future.add_done_callback(partial(self._is_done, piece))
        except Exception as error:
            if connection.client.status == "running":
                raise
            raise self._gone() from error
        if beside is not None and beside not in self._known:  # it left meanwhile, unseen by `_lost`
            self._end(piece, ConnectionError("it has left the cluster"))
        if self._broken is not None:  # meanwhile, unseen by `_fail_all`
            self._end(piece, self._broken)
        return piece

    def _is_done(self, piece: Piece, future: Any) -> None:
        del future
        self._done.put(piece)

    # --- what Dask tells, in threads of its own ---------------------------------------------

    def _heard(self, event: tuple[float, tuple[str, bytes, str]]) -> None:
        _, (key, data, ended_on) = event
        piece = self._pieces.get(key)
        if piece is not None and ended_on:
            self._give(piece, ended_on, data)
        elif piece is not None and piece.hear is not None:
            piece.hear(data)

    def _lost(self, worker: str) -> None:
        """A worker has left; what had to run there can run nowhere."""
        with self._lock:
            waiting = [piece for piece in self._pieces.values() if piece.beside == worker]
        for piece in waiting:
            self._end(piece, ConnectionError("it has left the cluster"))

    def _collect(self) -> None:
        """Takes what is done, one after the other; as a rule its last message has brought it."""
        try:
            while (piece := self._done.get()) is not None:
                if not piece.promise.done():
                    self._fetch(piece)
                if piece.promise.done():
                    piece.future.release()
        except BaseException as error:
            self._fail_all(error)

    def _fetch(self, piece: Piece) -> None:
        """Asks for the outcome of a piece whose last message has not come; others wait meanwhile, so not for ever."""
        try:
            outcome = piece.future.result(timeout=PATIENCE)
        except KilledWorker as killed:
            error: Any = killed
            self._end(piece, ConnectionError(f"Dask lost its worker {error.last_worker.address} while it ran"))
        except CancelledError:
            self._end(piece, CancelledError("it was taken back") if self._closing else self._gone())
        except (TimeoutError, DaskTimeoutError):
            if piece.future.done():
                self._end(piece, ConnectionError(f"its worker has not told its result within {PATIENCE:g} s"))
            else:  # the worker has left with it, and Dask has it run anew, by the next worker that there is
                piece.future.add_done_callback(partial(self._is_done, piece))
        except Exception as error:
            self._end(piece, error)
        else:
            self._settle(piece, outcome)

    def _fail_all(self, error: BaseException) -> None:
        """Nothing can be taken any more: what is open fails, and what would come."""
        _log.debug("the thread that takes results from Dask has failed", exc_info=error)
        said = str(error).strip() or "no more is known"
        self._broken = PluginError(f"the results of Dask cannot be taken any more: {type(error).__name__}: {said}")
        with self._lock:
            pieces = list(self._pieces.values())
        for piece in pieces:
            self._end(piece, self._broken)

    def _settle(self, piece: Piece, outcome: Any) -> None:
        kind, where, given = outcome
        if kind == "unfit":
            self._end(piece, PluginError(where))
        elif kind == "again":
            self._end(piece, WorkReturned(f"Dask gave it to another worker, {where}, when the first one left"))
        elif given is None:
            self._end(piece, ConnectionError(f"what it told last, on {where}, has not come"))
        else:
            self._give(piece, where, given)

    def _give(self, piece: Piece, where: str, given: bytes) -> None:
        piece.worker = where
        self._end(piece, None)
        with suppress(InvalidStateError):  # it has failed meanwhile, in another thread
            piece.promise.set_result(given)

    def _end(self, piece: Piece, error: BaseException | None) -> None:
        with self._lock:
            self._pieces.pop(piece.key, None)
        if error is not None:
            piece.fail(error)

    def _gone(self) -> KartError:
        assert self._connection is not None
        return PluginError(
            f"the Dask scheduler {self._connection.where} is gone; what is stored stays, and a run with another "
            "scheduler goes on from there"
        )

    def everywhere(self, fn: Callable[..., object], /, *args: bytes) -> None:
        """Calls a function in every worker process; one that does not answer is not waited for for ever."""
        telling = threading.Thread(target=self._tell_all, args=(fn, *args), name="kart-dask-all", daemon=True)
        telling.start()
        telling.join(PATIENCE)
        if telling.is_alive():
            _log.warning("a worker of Dask has not answered for %g s when it was told that the run is over", PATIENCE)

    def _tell_all(self, fn: Callable[..., object], *args: bytes) -> None:
        if self._connection is None or self._connection.client.status != "running":
            return
        try:
            self._connection.client.run(
                travelling.by_value(travelling.call), f"{fn.__module__}:{fn.__qualname__}", *args, on_error="ignore"
            )
        except Exception as error:
            _log.debug("the workers could not be told of the end of the run: %s", error)

    def shutdown(self, wait: bool = True) -> None:
        """Leaves the cluster, and ends it if it was made for this run."""
        del wait  # the crew has waited for what it wants
        self._closing = True
        if self._connection is None:
            return
        self._done.put(None)
        client = self._connection.client
        if client.status == "running":
            # Else the scheduler tells it of its own end.
            for topic in self._topics:
                client.unsubscribe_topic(topic)
            self._connection.close()
            return
        # It is trying to reach its scheduler again, and would tell people in fifty lines that it is stopped in that.
        chatter = logging.getLogger("distributed.client")
        chatter.addFilter(_nothing)
        try:
            self._connection.close()
        finally:
            chatter.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    del record
    return False
