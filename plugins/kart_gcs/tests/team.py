"""Tasks that count their runs, for processes that build at once."""

from __future__ import annotations

import json
import sys

import kart_core as kart


def note(task: kart.TaskOnKart[int]) -> None:
    with open("bodies.txt", "ab", buffering=0) as file:  # each line is written at once, at the end
        file.write(f"{task.unique_id}\n".encode())


class Leaf(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        note(self)
        return self.number


class Middle(kart.TaskOnKart[int]):
    first: int

    def requires(self) -> list[Leaf]:
        return [Leaf(number=self.first + number) for number in range(9)]

    def run(self) -> int:
        note(self)
        return sum(self.load())


class Root(kart.TaskOnKart[int]):
    """One of 201 tasks."""

    def requires(self) -> list[Middle]:
        return [Middle(first=9 * number) for number in range(20)]

    def run(self) -> int:
        note(self)
        return sum(self.load())


def main() -> None:
    """Says when it could begin, begins when it is told to, and says what it got."""
    print("ready", flush=True)
    sys.stdin.readline()
    print(kart.build(Root(), **json.loads(sys.argv[1])), flush=True)
