"""Makes a graph of COUNT tasks of which nothing is stored, in layers of 100, and plans it."""

from __future__ import annotations

import sys

from clock import done, imported

import kart_core as kart

FOLDER, COUNT = sys.argv[1], int(sys.argv[2])
plan = kart.plan  # imported when first asked for


class Step(kart.TaskOnKart[int]):
    number: int
    before: tuple[Step, ...] = ()

    def run(self) -> int:
        return self.number


class Last(kart.TaskOnKart[int]):
    steps: tuple[Step, ...]

    def run(self) -> int:
        return 0


imported()
WIDTH = 100
layer = tuple(Step(number=number) for number in range(WIDTH))
for first in range(WIDTH, COUNT, WIDTH):
    layer = tuple(Step(number=first + place, before=(layer[place],)) for place in range(WIDTH))
planned = plan(Last(steps=layer), workspace_directory=FOLDER)
done(result=len(planned.nodes))
