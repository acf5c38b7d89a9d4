"""Draws from random, numpy and torch with a fixed seed: the output is as follows every time.

Run it from this folder, with numpy, torch and kart-torch-seed installed::

    python fixed_seed.py           # the same twenty-five numbers, whatever ran before
    kart-core run fixed_seed:Draw  # the same result: it is stored, so nothing runs
    kart-core show fixed_seed:Draw # with which seed, and which methods were called with it
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import kart_core as kart


class Draw(kart.TaskOnKart[dict[str, list[float]]]):
    """Ten numbers of random, ten of numpy, five of torch.

    The seed stands in the class here. It may as well be given to the constructor, on the command
    line, or in ``kart.toml``: wherever it comes from, the id and the result are the same.
    """

    fix_random_seed_methods: Sequence[str] = ("random.seed", "numpy.random.seed", "torch.random.manual_seed")
    fix_random_seed_value: int | None = 57

    def run(self) -> dict[str, list[float]]:
        # Imported where they are used: kart seeds each at that moment, and nobody else waits for them.
        import numpy as np
        import torch

        normal: list[float] = [torch.randn(1).tolist()[0] for _ in range(5)]
        return {
            "random": [random.randint(0, 100) for _ in range(10)],
            "numpy": [int(np.random.randint(0, 100)) for _ in range(10)],
            "torch": normal,
        }


if __name__ == "__main__":
    random.random()  # moves nothing in the task, and what comes after the build goes on from here
    for name, numbers in kart.build(Draw(), rerun=True).items():
        print(f"{name:6}", *numbers)
