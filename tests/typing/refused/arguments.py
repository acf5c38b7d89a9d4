"""Wrong ways to make a task."""

from collections.abc import Sequence
from typing import Literal

import kart_core as kart


class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 10
    kind: Literal["even", "odd"] = "even"
    names: Sequence[str] = ()
    maybe: int | None = None

    def run(self) -> list[int]:
        return [self.n]


class Words(kart.TaskOnKart[list[str]]):
    def run(self) -> list[str]:
        return []


class MoreNumbers(kart.TaskOnKart[list[int]]):
    def run(self) -> list[int]:
        return []


class Total(kart.TaskOnKart[int]):
    numbers: Numbers
    others: kart.TaskOnKart[list[int]]
    many: tuple[Numbers, ...] = ()

    def run(self) -> int:
        return 1


numbers = Numbers()

Numbers(m=3)  # refused: unknown argument
Total()  # refused: missing arguments
Total(numbers=numbers)  # refused: missing argument
Numbers(5)  # refused: positional argument
Numbers(n="5")  # refused: wrong scalar type
Numbers(n=None)  # refused: None where there is no Optional
Numbers(n=1.5)  # refused: float for int
Numbers(maybe="x")  # refused: wrong type for an Optional
Numbers(names=[1])  # refused: wrong item
Numbers(kind="prime")  # refused: wrong Literal

Total(numbers=MoreNumbers(), others=numbers)  # refused: wrong upstream task class
Total(numbers=numbers, others=Words())  # refused: upstream of a wrong result type
Total(numbers=numbers, others=numbers, many=(Words(),))  # refused: wrong upstream among several
Total(numbers=Numbers, others=numbers)  # refused: a class for a task

Numbers(workspace_directory=3)  # refused: wrong setting type
Numbers(rerun="yes")  # refused: wrong setting type
Numbers(fix_random_seed_value="57")  # refused: wrong setting type
Numbers(fix_random_seed_methods=[random := 1])  # refused: wrong setting type
Numbers(significant=None)  # refused: wrong setting type
Numbers(workspace="x")  # refused: unknown setting
