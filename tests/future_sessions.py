"""An executor of a plugin that gives futures: the standard library's pools, each of one spawned process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kart_core.plugin import Demand, Executor, Plugin, hookimpl

_messages: Any = None  # in a worker: the queue to the coordinating process


def _begin(messages: Any) -> None:
    global _messages
    _messages = messages


def _carried(fn: Callable[..., bytes], number: int, *args: bytes) -> None:
    given = fn(*args, tell=lambda data: _messages.put((number, data, False)))
    _messages.put((number, given, True))  # after what was told


class Mute:
    """A pool for each worker, so that it is known which process ran a piece of work. It carries no messages."""

    about = "pools of the standard library"

    def __init__(self, workers: int) -> None:
        self._context = get_context("spawn")
        self._pools = [self._pool() for _ in range(workers)]
        self._load = [0] * workers
        self._where: dict[Future[bytes], tuple[int, ProcessPoolExecutor]] = {}

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self._context)

    @property
    def workers(self) -> int:
        return len(self._pools)

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> Future[bytes]:
        place = self._place(demand)
        if isinstance(demand.beside, Future):
            place, pool = self._where[demand.beside]
            if pool is not self._pools[place]:
                gone: Future[bytes] = Future()
                gone.set_exception(BrokenProcessPool("the process ended"))
                return gone
        try:
            future = self._pools[place].submit(fn, *args)
        except BrokenProcessPool:
            if demand.beside is not None:
                gone = Future()
                gone.set_exception(BrokenProcessPool("the process ended"))
                return gone
            self._pools[place].shutdown()
            self._pools[place] = self._pool()
            self._load[place] = 0
            future = self._pools[place].submit(fn, *args)
        self._where[future] = place, self._pools[place]
        self._load[place] += 1
        future.add_done_callback(lambda _: self._ended(place))
        return future

    def _place(self, demand: Demand) -> int:
        del demand
        return self._load.index(min(self._load))

    def _ended(self, place: int) -> None:
        self._load[place] -= 1

    def everywhere(self, fn: Callable[..., object], /, *args: bytes) -> None:
        for pool in self._pools:
            pool.submit(fn, *args)

    def shutdown(self, wait: bool = True) -> None:
        for pool in self._pools:
            if not wait:
                for process in list(pool._processes.values()):
                    process.kill()
            pool.shutdown(wait, cancel_futures=not wait)


class Pools(Mute):
    """The same with messages."""

    def __init__(self, workers: int) -> None:
        self._messages = get_context("spawn").SimpleQueue()
        self._hearers: dict[int, tuple[Future[bytes], Callable[[bytes], None]]] = {}
        super().__init__(workers)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self._context, _begin, (self._messages,))

    def _read(self) -> None:
        while (message := self._messages.get()) is not None:
            number, data, is_last = message
            future, hear = self._hearers[number]
            if is_last:
                future.set_result(data)
            else:
                hear(data)

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> Future[bytes]:
        assert demand.hear is not None
        number, outer = len(self._hearers), Future[bytes]()
        self._hearers[number] = outer, demand.hear
        inner = super().submit(_carried, fn, number, *args, demand=demand)  # type: ignore[arg-type]
        if inner in self._where:
            self._where[outer] = self._where[inner]
        inner.add_done_callback(lambda done: done.exception() and outer.set_exception(done.exception()))
        return outer

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)
        self._messages.put(None)
        self._reader.join()


class Futures(Plugin):
    """The executor ``futures``, and others, each with one thing that is different."""

    @hookimpl
    def kart_executors(self) -> list[Executor]:
        return [
            Executor("futures", open=Pools),
            Executor("mute", open=Mute),
            Executor("forgetful", open=Forgetful),
            Executor("directed", open=Directed),
            Executor("late", open=Late),
            Executor("silent", open=Silent),
        ]


class Late(Mute):
    """Storage that shows the old record of a task for a while after its worker has replaced it."""

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> Future[bytes]:
        future: Future[bytes] = Future()
        (record,) = Path("resources/.kart/records").rglob("*.json")
        old, new = Path("old.json"), Path("new.json")
        os.link(record, old)

        def appear() -> None:
            os.replace(new, record)

        def settle(done: Future[bytes]) -> None:
            os.rename(record, new)
            os.rename(old, record)
            threading.Timer(0.5, appear).start()
            future.set_result(done.result())

        super().submit(fn, *args, demand=demand).add_done_callback(settle)
        return future


class Silent(Mute):
    """Workers that run what they are given, and of which nothing is heard any more."""

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> Future[bytes]:
        super().submit(fn, *args, demand=demand)
        return Future()


class Directed(Pools):
    """The tasks of a class named ``There`` run in the second pool, all others in the first."""

    def _place(self, demand: Demand) -> int:
        return int(".There" in demand.name)

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> Future[bytes]:
        future = super().submit(fn, *args, demand=demand)
        if demand.beside is not None:
            Path("beside.txt").touch()
        return future


class Forgetful(Mute):
    """Workers that store their results where nobody sees them."""

    def submit(self, fn: Callable[..., bytes], /, *args: bytes, demand: Demand) -> Future[bytes]:
        future: Future[bytes] = Future()

        def removed(done: Future[bytes]) -> None:
            for record in Path("resources/.kart/records").rglob("*.json"):
                record.unlink()
            future.set_result(done.result())

        super().submit(fn, *args, demand=demand).add_done_callback(removed)
        return future


def wait_for(path: Path, seconds: float = 30.0) -> None:
    """Waits until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)
