"""A piece of work on an engine's worker: it is run in a process of its own beside it.

An engine's worker process has a life of its own. Its threads draw from the global random generators (Dask's
do, whenever they measure a message) and would shift the numbers of tasks; it may forbid children, or run
what it is given in another thread than the main one; and it keeps the modules that it has imported, be
they changed since. So it only hands on: the process beside it is begun with the first piece of a run that
comes here, takes one piece after the other, and ends with the run, with the worker, or when it has long
had nothing to do. While it holds a task the process that builds sends it an empty piece from time to time;
where the worker is busy with another run it waits for that to end.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from kart_core.builtin.processes import WorkerProcess
from kart_core.digest import digest16
from kart_core.errors import KartError
from kart_core.execution.forwarding import forward
from kart_core.execution.leases.facts import this_host
from kart_core.execution.outfit import opened
from kart_core.execution.piece import Home, News
from kart_core.execution.travelling import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_ENTRY: Final = "kart_core.execution.apart:main"
_IDLE: Final = 60.0  # seconds without work after which a process that holds nothing ends
_RUNS: Final = 4  # runs of which a worker keeps a process
_TOLD, _DONE, _HOLDS = b"T", b"D", b"H"
_BUSY, _FREE = b"busy", b"free"  # said where a parcel is expected
_BY_ITSELF: Final = "ended with exit status 0"  # it had long had nothing to do, just when it was given work

_one_piece: Final = threading.Lock()
_beside: Final[dict[bytes, WorkerProcess]] = {}
_holding: Final[set[bytes]] = set()  # those of `_beside` in which tasks wait


def run_piece(outfit: bytes, parcel: bytes, tell: Callable[[bytes], None] | None = None) -> bytes:
    """Runs a piece of work on a worker of an engine.

    Args:
        outfit: as `Outfit.packed` gave it.
        parcel: a `Parcel`, pickled.
        tell: brings bytes to the coordinating process at once; None where the engine carries none.

    Returns:
        What became of it, as a pickled list of news; failures are news, too.
    """
    told: list[Any] = []

    def keep(data: bytes) -> None:
        told.extend(pickle.loads(data))

    digest = digest16(outfit)
    with _one_piece, _others_wait(digest):
        while True:
            process = _process(digest, outfit)
            heard = False
            try:
                process.send(parcel)
                while (message := process.receive())[:1] == _TOLD:
                    heard = True
                    (tell or keep)(message[1:])
                (_holding.add if message[:1] == _HOLDS else _holding.discard)(digest)
                break
            except (EOFError, OSError):
                _beside.pop(digest)
                _holding.discard(digest)
                ending = process.ending()
                if heard or ending != _BY_ITSELF:
                    return pickle.dumps([*told, ("died", f"it {ending}")], protocol=5)
    return message[1:] if not told else pickle.dumps([*told, *pickle.loads(message[1:])], protocol=5)


def leave(outfit: bytes) -> None:
    """Ends the process of a run, whatever it does; called on a worker when the run is over.

    Args:
        outfit: the digest of the run's outfit.
    """
    process = _beside.get(outfit)
    if process is not None:
        process.kill()  # who waits for it sees that; nobody does as a rule


@contextmanager
def _others_wait(digest: bytes) -> Generator[None]:
    """Tells processes of other runs that no word of theirs comes through now: it is not for their run to be missed."""
    for other in _holding - {digest}:
        try:
            _beside[other].send(_BUSY)
        except OSError:  # noqa: PERF203 - it has ended, with its run
            _holding.discard(other)
            _beside.pop(other).ending()
    try:
        yield
    finally:
        for other in _holding - {digest}:
            with suppress(OSError):
                _beside[other].send(_FREE)


def _process(digest: bytes, outfit: bytes) -> WorkerProcess:
    process = _beside.pop(digest, None)
    if process is None:
        process = WorkerProcess(_ENTRY)
        process.send(outfit)
    _beside[digest] = process  # the latest stands last
    # One that holds tasks is not in the way for long: it ends with its run, or soon after.
    for old in [other for other in _beside if other not in _holding][:-_RUNS]:
        oldest = _beside.pop(old)
        oldest.kill()
        oldest.ending()
    return process


def _leave(connection: Connection, news: News, write_here: Callable[[], None]) -> None:
    """Called in a process that a task has forked: the conversation is its parent's alone, and must end with it."""
    news.mute()
    connection.close()
    write_here()


def main(descriptor: int) -> None:
    """What the process beside a worker does.

    Args:
        descriptor: of the socket that leads to the worker.
    """
    os.set_inheritable(descriptor, False)  # a program that a task starts would keep it open after this process
    connection = Connection(descriptor)
    sending = threading.Lock()
    parcels: SimpleQueue[bytes] = SimpleQueue()

    def send(kind: bytes, data: bytes) -> None:
        with sending:
            connection.send_bytes(kind + data)

    def read() -> None:
        try:
            while True:
                parcels.put(connection.recv_bytes())
        except (EOFError, OSError):
            # The worker is gone. This process leads a group of its own: all that it started goes too.
            os.killpg(os.getpid(), signal.SIGKILL)

    outfit = connection.recv_bytes()
    threading.Thread(target=read, name="kart-read", daemon=True).start()
    where = f"the worker {socket.gethostname()}:{os.getpid()}"
    news = News(lambda data: send(_TOLD, data))
    home: Home | None = None
    is_reached = True
    while True:
        holds = home is not None and home.holds
        patience = _IDLE if home is None or not holds else home.outfit.hold if is_reached else None
        try:
            parcel = parcels.get(timeout=patience)
        except Empty:
            return
        if parcel in (_BUSY, _FREE):
            is_reached = parcel == _FREE
            continue
        news.add("begun", where, this_host(), os.getpid())
        news.flush()
        try:
            if home is None:
                home = Home(*opened(outfit, where), where, news)
                write_here = forward(home.tell, home.outfit.levels)
                os.register_at_fork(after_in_child=partial(_leave, connection, news, write_here))
            home.run(pickle.loads(parcel))
        except KartError as error:
            news.add("unfit", pack(error))
        send(_HOLDS if home is not None and home.holds else _DONE, news.rest())
