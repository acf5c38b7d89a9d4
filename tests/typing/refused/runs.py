"""Wrong bodies of tasks."""

from newcomer import Numbers, Total

import kart_core as kart


class Loads(kart.TaskOnKart[int]):
    numbers: Numbers
    maybe: Numbers | None = None

    def run(self) -> None:
        self.load(self.numbers).upper()  # refused: wrong use of what is loaded
        text: str = self.load(self.numbers)  # refused: wrong type for what is loaded
        total: int = self.load([self.numbers])  # refused: a list is loaded
        for number in self.load_generator(self.numbers):
            number.upper()  # refused: wrong use of what is loaded in parts
        self.load(self.maybe)  # refused: there may be no task
        self.load(3)  # refused: no task
        self.dump("three")  # refused: wrong type dumped
        self.dump(self.load(self.numbers))  # refused: wrong type dumped
        self.dump(None)  # refused: wrong type dumped
        self.dump(1, 2)  # refused: no target
        print(text, total)


class ReturnsText(kart.TaskOnKart[int]):
    def run(self) -> str:  # refused: wrong return of run
        return "three"


class ReturnsList(kart.TaskOnKart[int]):
    def run(self) -> list[int]:  # refused: wrong return of run
        return [3]


class ReturnsOther(kart.TaskOnKart[list[int]]):
    def run(self) -> list[str]:  # refused: wrong return of run
        return ["three"]


class ReturnsMore(kart.TaskOnKart[int]):
    def run(self) -> int | str:  # refused: wrong return of run
        return 3


class TakesArguments(kart.TaskOnKart[int]):
    def run(self, n: int) -> int:  # refused: run takes nothing
        return n


class RequiresText(kart.TaskOnKart[int]):
    def requires(self) -> int:  # refused: requirements are tasks
        return 1


class WritesText(kart.TaskOnKart[int]):
    def output(self) -> int:  # refused: outputs are targets
        return 1


class IsComplete(kart.TaskOnKart[int]):
    def complete(self) -> str:  # refused: yes or no
        return "yes"


total = Total(numbers=Numbers())
text: str = kart.build(total)  # refused: wrong type for what is built
both: tuple[int, int] = kart.build(total, Numbers())  # refused: wrong type for what is built
kart.build(3)  # refused: no task
kart.build(Total)  # refused: a class for a task
kart.build(total, rerun="yes")  # refused: wrong type of a setting
kart.build(total, workspace="x")  # refused: unknown setting
numbers: Numbers = total.clone()  # refused: wrong type for a clone
total.load(total).upper()  # refused: wrong use of what is loaded
