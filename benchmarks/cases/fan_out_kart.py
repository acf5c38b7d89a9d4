"""The fan-out with kart. MODE "loads": the root sums its leaves; "requires": it only requires them."""

from __future__ import annotations

import sys

from clock import done, imported

import kart_core as kart

FOLDER, LEAVES, SALT, MODE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
build = kart.build  # imported when first asked for


class Leaf(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        return self.number


class Loads(kart.TaskOnKart[int]):
    leaves: tuple[Leaf, ...]
    salt: int

    def run(self) -> int:
        return self.salt + sum(self.load(self.leaves))


class Requires(kart.TaskOnKart[int]):
    leaves: tuple[Leaf, ...]
    salt: int

    def run(self) -> int:
        return self.salt


imported()
root = {"loads": Loads, "requires": Requires}[MODE]
leaves = tuple(Leaf(number=number) for number in range(LEAVES))
done(result=build(root(leaves=leaves, salt=SALT), workspace_directory=FOLDER))
