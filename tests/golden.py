"""Prints the ids that must never change, as JSON: one task for each rule by which ids are made.

It needs kart and attrs alone, so that any Python can run it; what numpy adds is left out where
numpy is not installed. To take a change of ids that is meant::

    python tests/golden.py > tests/golden_ids.json
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import json
import os
import pathlib
import sys
import uuid
import zoneinfo
from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs

import kart_core as kart


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.frozen
class Point:
    x: int
    y: float = 0.0


class Pair(NamedTuple):
    left: int
    right: str


def helper(value: int) -> int:
    return value + 1


class Holder(kart.TaskOnKart[int]):
    value: Any = None


class Scalars(kart.TaskOnKart[int]):
    flag: bool = False
    count: int = 3
    rate: float = 0.5
    name: str = "kart"


class Versioned(Scalars, version=2):
    count: int = 3


class Named(kart.TaskOnKart[int], version="2024-05", namespace="fraud"):
    n: int = 1


class Old(kart.TaskOnKart[int]):
    __version: int = 2


class Checked(kart.TaskOnKart[int], uses=(helper,)):
    """Its code takes part."""

    serialized_task_definition_check: bool = True
    n: int = 1

    def run(self) -> int:
        # This comment does not.
        return helper(self.n)


class Sparse(kart.TaskOnKart[int]):
    n: int = 1
    verbose: bool = kart.parameter(default=False, significant=False)
    added: int = kart.parameter(default=7, omit_default=True)


class Join(kart.TaskOnKart[int]):
    left: Holder
    right: Holder
    others: tuple[Scalars, ...] = ()
    named: dict[str, Scalars] = kart.parameter(factory=dict)


class Dynamic(kart.TaskOnKart[int]):
    n: int

    def requires(self) -> Any:
        return {"below": Dynamic(n=self.n - 1), "beside": [Holder(value=self.n)]} if self.n else None


class Outer:
    class Inner(kart.TaskOnKart[int]):
        n: int = 1


def values() -> Iterator[tuple[str, Any]]:
    """Values of each kind of which ids are made, by a name."""
    zone = zoneinfo.ZoneInfo("UTC")
    moment = dt.datetime(2024, 5, 6, 7, 8, 9, 10)
    plain: list[Any] = [
        *(None, True, False, 0, 1, -1, 10**30, 1.0, 0.0, -0.0, 1e-300, float("inf"), float("nan"), 1j),
        *("", "1", "kärt\n\0", b"", b"1"),
        *((), (1,), (1, (2,)), [], [1], [[1], 2], {}, {"b": 1, "a": [2]}, {1: "x", (2,): "y"}),
        *(set[int](), {3, 1, 2}, frozenset({"b", "a"}), range(0, 10, 3)),
        *(dt.date(2024, 5, 6), moment, moment.replace(tzinfo=dt.timezone.utc), moment.replace(tzinfo=zone)),
        *(dt.time(1, 2), dt.timedelta(days=1, microseconds=1), dt.timezone(dt.timedelta(hours=1))),
        *(decimal.Decimal("1.10"), fractions.Fraction(1, 3), uuid.UUID(int=5), pathlib.PurePosixPath("a/b")),
        *(Colour.RED, Access.READ | Access.WRITE, Point(1), Pair(1, "a"), helper, Point, len),
    ]
    for i, value in enumerate(plain):
        yield f"{i:02} {type(value).__name__}", value


def arrays() -> Iterator[tuple[str, Any]]:
    try:
        import numpy as np
    except ImportError:
        return
    square = np.arange(6, dtype="<i4").reshape(2, 3)
    yield "array", square
    yield "array transposed", square.T
    yield "array of floats", square.astype("<f8")
    yield "array without items", np.empty((0, 2), dtype="<f4")
    yield "dtype", np.dtype("<f4")
    yield "scalar", np.float32(1.5)


def tasks() -> Iterator[tuple[str, kart.TaskOnKart[Any]]]:
    for name, value in (*values(), *arrays()):
        yield f"value {name}", Holder(value=value)
    yield "scalars", Scalars(flag=True, count=-5, rate=1, name="a")
    yield "defaults", Scalars()
    yield "version 2", Versioned()
    yield "version and namespace", Named()
    yield "version as a field", Old()
    yield "code", Checked()
    yield "insignificant parameter", Sparse(verbose=True)
    yield "omitted default", Sparse()
    yield "default not omitted", Sparse(added=8)
    yield "nested class", Outer.Inner()
    yield "seed value", Scalars(fix_random_seed_value=0)
    yield "seed methods", Scalars(fix_random_seed_methods=["random.seed"])
    yield "where and how", Scalars(workspace_directory="elsewhere", rerun=True)
    left, right = Holder(value=1), Holder(value=2)
    yield "requirements", Join(left=left, right=right)
    yield "requirements swapped", Join(left=right, right=left)
    yield (
        "many requirements",
        Join(left=left, right=right, others=(Scalars(), Scalars(count=1)), named={"a": Scalars()}),
    )
    yield "insignificant requirement", Join(left=left, right=Holder(value=2, significant=False))
    yield "requires()", Dynamic(n=5)
    if sys.modules.get("xxhash") or _importable("xxhash"):
        path = pathlib.Path("golden_file.csv")
        path.write_bytes(b"a,b\n1,2\n")
        yield "file", Holder(value=kart.File(path))
        path.unlink()


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: task.unique_id for name, task in tasks()}, indent=1) + os.linesep)
