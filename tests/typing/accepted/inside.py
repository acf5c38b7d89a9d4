"""The helpers of a task that runs."""

import numpy as np
from typing_extensions import assert_type

import kart_core as kart


class Split(kart.TaskOnKart[list[float]]):
    n: int = 3

    def run(self) -> list[float]:
        generator = kart.rng("split")
        assert_type(generator, np.random.Generator)
        found: list[float] = []
        for i in kart.progress(range(self.n)):
            assert_type(i, int)
            found.append(float(generator.random()))
        return found
