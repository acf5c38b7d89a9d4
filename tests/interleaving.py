"""Runs actors whose every access to storage waits for its turn, in an order that a seed decides.

So the unlucky orders come up that real processes meet once in a million tries, and come up again with the same seed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Stat

_PATIENCE = 60.0


class Turns:
    """Gives one of several threads its turn, again and again, until all have ended."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._running = 0
        self._turn: int | None = None
        self._mine = threading.local()

    def wait(self) -> None:
        """Called by an actor before each access: comes back when it is the actor's turn."""
        number: int | None = getattr(self._mine, "number", None)
        if number is None:
            return  # the test itself
        with self._changed:
            self._waiting.add(number)
            self._running -= 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._turn == number, _PATIENCE)
            self._turn = None
            self._waiting.discard(number)
            self._running += 1

    def run(self, actors: Sequence[Callable[[], None]]) -> None:
        """Runs the actors to their end; what one raises is raised."""
        failures: list[BaseException] = []

        def act(number: int, actor: Callable[[], None]) -> None:
            self._mine.number = number
            try:
                self.wait()
                actor()
            except BaseException as error:
                failures.append(error)
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

        threads = [threading.Thread(target=act, args=pair, daemon=True) for pair in enumerate(actors)]
        with self._changed:
            self._running = len(threads)
        for thread in threads:
            thread.start()
        while True:
            with self._changed:
                assert self._changed.wait_for(lambda: self._running == 0 and self._turn is None, _PATIENCE)
                if not self._waiting:
                    break
                self._turn = self._random.choice(sorted(self._waiting))
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: self._turn is None, _PATIENCE)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


class SteppedStore(LocalStore):
    """A local store whose every access is a step of `Turns`."""

    def __init__(self, root: str, turns: Turns) -> None:
        super().__init__(root)
        self._turns = turns

    def stat(self, path: str) -> Stat | None:
        self._turns.wait()
        return super().stat(path)

    def read(self, path: str) -> bytes:
        self._turns.wait()
        return super().read(path)

    def put(self, path: str, data: bytes) -> None:
        self._turns.wait()
        super().put(path, data)

    def create(self, path: str, data: bytes) -> bool:
        self._turns.wait()
        return super().create(path, data)

    def remove(self, path: str) -> bool:
        self._turns.wait()
        return super().remove(path)

    def list(self, prefix: str) -> Iterator[tuple[str, Stat]]:
        self._turns.wait()
        return super().list(prefix)

    def local_path(self, path: str) -> Any:
        self._turns.wait()
        return super().local_path(path)
