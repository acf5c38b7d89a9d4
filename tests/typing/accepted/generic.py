"""Tasks that are generic, and tasks that stand for others by what they make."""

from typing import Generic, TypeVar

from newcomer import Numbers
from typing_extensions import assert_type, reveal_type

import kart_core as kart

Item = TypeVar("Item")


class First(kart.TaskOnKart[Item], Generic[Item]):
    """Takes any task that makes a list, and makes one of its items."""

    source: kart.TaskOnKart[list[Item]]

    def run(self) -> Item:
        values = self.load(self.source)
        assert_type(values, list[Item])
        return values[0]


class Flag(kart.TaskOnKart[bool]):
    def run(self) -> bool:
        return True


class Add(kart.TaskOnKart[int]):
    """What makes a bool makes an int: a task is covariant in its result."""

    left: kart.TaskOnKart[int]
    right: kart.TaskOnKart[int | str]

    def run(self) -> int:
        assert_type(self.load(self.right), int | str)
        return self.load(self.left)


first = First(source=Numbers())
assert_type(first, First[int])
assert_type(kart.build(first), int)
assert_type(kart.build(Add(left=Flag(), right=first)), int)
reveal_type(first.source)
