"""Tasks of which some meet others, in this process or another, while leases may have been taken ahead."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import kart_core as kart


def until(name: str) -> None:
    """Waits until there is a file; another process makes it."""
    end = time.monotonic() + 60
    while not Path(name).exists():
        assert time.monotonic() < end, name
        time.sleep(0.01)


class Leaf(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        return self.number


class Slow(kart.TaskOnKart[int]):
    """Takes long; the third says so, and goes on when told to."""

    number: int

    def run(self) -> int:
        if os.environ.get("SLOW") == "waits" and self.number == 2:
            Path("third").touch()
            until("go on")
        elif os.environ.get("SLOW") == "waits" and self.number < 2:
            time.sleep(0.6)
        return self.number


class Sometimes(kart.TaskOnKart[int]):
    """Takes a moment, but the thirtieth waits for another process."""

    number: int

    def run(self) -> int:
        if os.environ.get("SLOW") == "waits" and self.number == 30:
            Path("third").touch()
            until("go on")
        return self.number


class Bad(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        if self.number == 40:
            raise {"fails": ValueError, "interrupted": KeyboardInterrupt}[os.environ["BAD"]]
        return self.number


class Inside(kart.TaskOnKart[int]):
    """Each builds the one that comes after the next, inside."""

    number: int

    def run(self) -> int:
        if self.number % 10 == 5:
            return kart.build(Inside(number=self.number + 2)) - 2
        return self.number


class Timed(kart.TaskOnKart[int], timeout=60):
    """Runs in a process aside, which also takes what comes next."""

    number: int

    def run(self) -> int:
        return self.number


class Yields(kart.TaskOnKart[int], priority=-1):
    number: int

    def run(self) -> Any:
        found = yield [Leaf(number=10 * self.number + one) for one in range(10)]
        return sum(found)


def main() -> None:
    """Builds as many of a class as asked for, and says their sum."""
    cls = globals()[sys.argv[1]]
    numbers = range(*map(int, sys.argv[2:]))
    print(sum(kart.build(*(cls(number=number) for number in numbers))))
