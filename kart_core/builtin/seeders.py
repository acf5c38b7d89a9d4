"""The seeder of Python's own ``random``."""

from __future__ import annotations

import random

from kart_core.plugin import Seeder

__all__ = ["RECORDS"]

RECORDS = {
    ("kart_seeders", "random.seed"): Seeder(
        "random.seed", module="random", seed=random.seed, save=random.getstate, restore=random.setstate
    )
}
"""Each record under its hook and name, as the host looks it up."""
