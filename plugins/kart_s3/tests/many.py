"""Tasks by the hundred, for tests that count; importable by workers."""

from __future__ import annotations

import kart_core as kart


class Leaf(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        return self.number


class Other(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        return -self.number


class Root(kart.TaskOnKart[int]):
    leaves: int
    salt: int = 0

    def requires(self) -> list[Leaf]:
        return [Leaf(number=number) for number in range(self.leaves)]

    def run(self) -> int:
        return self.salt + sum(self.load())


class Pair(kart.TaskOnKart[int]):
    """Two outputs."""

    def output(self) -> dict[str, kart.Target]:
        return {"one": self.make_target("pair/one.json"), "two": self.make_target("pair/two.txt")}

    def run(self) -> None:
        self.dump({"one": [1], "two": "2"})
