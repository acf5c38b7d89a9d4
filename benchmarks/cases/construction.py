"""Makes tasks of four scalar parameters, each with its unique id, and says how long one takes."""

from __future__ import annotations

import gc
import time

from clock import done, imported

import kart_core as kart


class Train(kart.TaskOnKart[int]):
    rounds: int
    rate: float
    name: str
    shuffle: bool

    def run(self) -> int:
        return 0


imported()
COUNT, REPEATS = 20_000, 5
best = float("inf")
for repeat in range(REPEATS):
    gc.collect()
    start = time.process_time()
    for number in range(repeat * COUNT, (repeat + 1) * COUNT):
        _ = Train(rounds=number, rate=0.5, name="benchmark", shuffle=True).unique_id
    best = min(best, time.process_time() - start)
done(seconds_each=best / COUNT)
