"""Every form of parameter, setting and class keyword."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from typing_extensions import assert_type, reveal_type

import kart_core as kart


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Options:
    depth: int = 3


def helper(x: int) -> int:
    return x


class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 10

    def run(self) -> list[int]:
        return [helper(self.n)]


class Train(kart.TaskOnKart[float], version=2, uses=(helper, Options), namespace="shop", retries=2, priority=1):
    """A task of every kind of parameter."""

    LIMIT: ClassVar[int] = 3

    rate: float
    numbers: Numbers
    name: str = "plain"
    kind: Literal["tree", "forest"] = "tree"
    seed: int | None = None
    colour: Colour = Colour.RED
    folder: Path = Path("data")
    day: date = date(2026, 1, 1)
    at: datetime | None = None
    every: timedelta = timedelta(hours=1)
    raw: bytes = b""
    pair: tuple[int, str] = (1, "a")
    options: Options = Options()
    optional: kart.TaskOnKart[list[int]] | None = None
    many: tuple[Numbers, ...] = ()
    anything: Sequence[kart.TaskOnKart[object]] = ()
    words: list[str] = kart.parameter(factory=list[str], significant=False)
    by_name: Mapping[str, Numbers] = kart.parameter(factory=dict[str, Numbers])
    depth: int = kart.parameter(default=3, omit_default=True, description="how deep the trees are")
    token: str = kart.parameter(default="", private=True)
    must: int = kart.parameter(description="a parameter without a default")

    @cached_property
    def size(self) -> int:
        return self.numbers.n * self.LIMIT

    def run(self) -> float:
        return self.rate * self.size


class Always(Numbers):
    """A class may give a setting, and another default, to all its tasks."""

    n: int = 20
    rerun: bool = True
    workspace_directory: str = "memory://here"


train = Train(
    rate=1,
    must=2,
    numbers=Numbers(),
    kind="forest",
    optional=Always(),
    many=(Numbers(n=1), Always()),
    anything=[Numbers(), Train(rate=0.5, must=1, numbers=Numbers())],
    words=["a"],
    by_name={"a": Numbers()},
    workspace_directory="./elsewhere/",
    local_temporary_directory="/tmp",
    rerun=True,
    strict_check=True,
    modification_time_check=True,
    fail_on_empty_dump=True,
    should_lock_run="auto",
    significant=False,
    serialized_task_definition_check=True,
    fix_random_seed_value=0,
    fix_random_seed_methods=["random.seed"],
)
assert_type(train.rate, float)
assert_type(train.kind, Literal["tree", "forest"])
assert_type(train.seed, int | None)
assert_type(train.optional, kart.TaskOnKart[list[int]] | None)
assert_type(train.many, tuple[Numbers, ...])
assert_type(train.words, list[str])
assert_type(train.by_name, Mapping[str, Numbers])
assert_type(train.depth, int)
assert_type(train.must, int)
assert_type(train.size, int)
assert_type(train.workspace_directory, str)
assert_type(train.fix_random_seed_value, int | None)
assert_type(train.fix_random_seed_methods, Sequence[str])
assert_type({train: 1}, dict[Train, int])
assert_type(train == train.clone(), bool)
reveal_type(Train.__init__)
reveal_type(Always())
