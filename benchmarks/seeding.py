"""What it costs to seed the generators for a task and to give them back: `python -m benchmarks.seeding`.

Needs kart, numpy and kart-torch-seed, installed or on the path; without the plugin numpy's state is
copied. CPU time, the median of several rounds; ends with 1 where the promise is not kept.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from kart_core import host
from kart_core.seeding import Generators

LIMIT: Final = 15.0
"""Microseconds that a task of a build may cost, with the default methods."""

TASKS: Final = 1_000
ROUNDS: Final = 15
DEFAULT: Final = ("random.seed", "numpy.random.seed")


def build(methods: Sequence[Sequence[str]], tasks: int = TASKS) -> None:
    """What a build does about generators for so many tasks, whose methods take turns."""
    with Generators() as generators:
        for i in range(tasks):
            generators.fix(methods[i % len(methods)], i)
            generators.release()


def microseconds(work: Callable[[], object], tasks: int) -> float:
    """The CPU time of a task, the median of the rounds."""
    work()
    rounds: list[float] = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        rounds.append((time.process_time() - start) / tasks * 1e6)
    return statistics.median(rounds)


def bare() -> None:
    """The two calls alone, with nothing given back."""
    import random

    for i in range(TASKS):
        random.seed(i)
        np.random.seed(i)


def single() -> None:
    """Builds of one task each: everything is saved and given back for it."""
    for _ in range(TASKS // 10):
        build([DEFAULT], 1)


def main() -> int:
    """Measures, and prints what was found."""
    seeder = host.current().seeder("numpy.random.seed")
    plugin = "with kart-torch-seed" if seeder is not None else "without kart-torch-seed"
    in_build = microseconds(lambda: build([DEFAULT]), TASKS)
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, {plugin}, {os.cpu_count()} CPUs")
    print(f"{microseconds(bare, TASKS):7.1f} µs  random.seed and numpy.random.seed alone")
    print(f"{in_build:7.1f} µs  a task in a build of {TASKS:,}: seeding and giving back (at most {LIMIT:g})")
    turns = microseconds(lambda: build([DEFAULT, DEFAULT[:1]]), TASKS)
    print(f"{turns:7.1f} µs  a task where every other one does not name numpy")
    print(f"{microseconds(single, TASKS // 10):7.1f} µs  a task that is a build of its own")
    return 0 if in_build <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
