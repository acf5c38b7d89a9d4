"""A first pipeline, as the README has it."""

import random

from typing_extensions import assert_type, reveal_type

import kart_core as kart


class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 10

    def run(self) -> list[int]:
        return [random.randint(0, 100) for _ in range(self.n)]


class Total(kart.TaskOnKart[int]):
    numbers: Numbers

    def run(self) -> None:
        self.dump(sum(self.load(self.numbers)))


if __name__ == "__main__":
    kart.run()

total = Total(numbers=Numbers(n=5))
assert_type(kart.build(total), int)
assert_type(total.numbers, Numbers)
assert_type(total.numbers.n, int)
assert_type(total.unique_id, str)
reveal_type(total)
reveal_type(Numbers.__init__)
