"""A seeder for a team that comes from gokart and keeps its numbers.

gokart seeded `random`, then drew names for two temporary files from it, and then called ``run()``:
its documents show the stream of ``random.seed(57)`` from the third number on. Here the same two
numbers are drawn with the seed. Install this folder with pip, and name the method::

    [TaskOnKart]
    fix_random_seed_methods = ["gokart.random.seed", "numpy.random.seed"]
    fix_random_seed_value = 57
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from kart_core.plugin import Plugin, Seeder, hookimpl


class GokartSeed(Plugin):
    """`random` as tasks of gokart found it."""

    @hookimpl
    def kart_seeders(self) -> Sequence[Seeder]:
        return [Seeder("gokart.random.seed", module="random", seed=seed, save=random.getstate, restore=random.setstate)]


def seed(value: int) -> None:
    """Seeds `random` and takes the names of two temporary files from it, as gokart did before each task."""
    random.seed(value)
    for _ in range(2):
        random.randrange(0, 10_000_000_000)
