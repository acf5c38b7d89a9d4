"""Wrong declarations, and changes to a task."""

from newcomer import Numbers

import kart_core as kart


class Wrong(kart.TaskOnKart[int]):
    a: int = "x"  # refused: wrong default
    b: int = kart.parameter(default="x")  # refused: wrong default
    c: int = kart.parameter(defualt=1)  # refused: unknown option of parameter
    d: int = kart.parameter(factory=str)  # refused: wrong factory
    e: int = kart.parameter(default=1, significant="no")  # refused: wrong type of an option


class Setting(Numbers):
    rerun: str = "always"  # refused: wrong type of a setting in a class body


class Changes(kart.TaskOnKart[int]):
    n: int = 1

    def run(self) -> int:
        self.n = 2  # refused: assignment to a field inside the task
        return self.n


numbers = Numbers()
numbers.n = 3  # refused: assignment to a field
numbers.rerun = True  # refused: assignment to a setting
numbers.unique_id = "0" * 32  # refused: assignment to the id


class Misspelt(kart.TaskOnKart[int], verison=2):  # refused: wrong class keyword
    pass


class Retried(kart.TaskOnKart[int], retries="2"):  # refused: wrong type of a class keyword
    pass


class Used(kart.TaskOnKart[int], uses=len):  # refused: uses is a sequence
    pass
