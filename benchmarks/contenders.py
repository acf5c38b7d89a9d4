"""Who is measured, doing what: each case as named commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.environments import HERE, command, python

T = TypeVar("T")

CASES = HERE / "cases"
LEAVES = 1_000
PLANNED = (25_000, 50_000, 100_000)
MEGABYTES = 400
COLD, WARM = 0, 1
"""The root's parameter: nothing is stored when it is COLD; all leaves are, and not the root, when it is WARM."""


@dataclass(frozen=True)
class Measurement:
    """One process that is measured.

    Attributes:
        case: what is done: ``"fan-out, cold"``.
        name: by whom: ``"kart"``.
        command: the process.
        result: what it must find; None where it says nothing.
        prepare: processes that run before it, unmeasured.
        cwd: where it runs.
        environment: its variables.
    """

    case: str
    name: str
    command: Sequence[str]
    result: object = None
    prepare: Sequence[Sequence[str]] = ()
    cwd: str | None = None
    environment: dict[str, str] = field(default_factory=dict[str, str])


def _turned(items: Iterable[T], turn: int) -> list[T]:
    found = list(items)
    first = turn % len(found)
    return found[first:] + found[:first]


FAN_OUT = {
    "plain loop": ("kart", "fan_out_plain.py", "1"),
    "plain loop, two files": ("kart", "fan_out_plain.py", "2"),
    "kart": ("kart", "fan_out_kart.py", "loads"),
    "joblib.Memory": ("joblib", "fan_out_joblib.py"),
    "doit": ("doit", "fan_out_doit.py"),
    "luigi": ("luigi", "fan_out_luigi.py"),
    "gokart, no side logs": ("gokart", "fan_out_gokart.py", "0"),
    "gokart": ("gokart", "fan_out_gokart.py", "1"),
}


def _fan_out(folder: Path, turn: int) -> Iterator[Measurement]:
    total = sum(range(LEAVES))
    for name, (environment, script, *options) in _turned(FAN_OUT.items(), turn):
        place = str(folder / "fan_out" / name.replace(" ", "_"))
        run = [python(environment), str(CASES / script), place, str(LEAVES)]
        yield Measurement("fan-out, cold", name, [*run, str(COLD), *options], total + COLD)
        yield Measurement("fan-out, leaves stored", name, [*run, str(WARM), *options], total + WARM)
        if name == "kart":  # in the same folder: the leaves are stored
            yield Measurement("fan-out, leaves stored", "kart, only requires", [*run, str(WARM), "requires"], WARM)
            one = [python(environment), str(CASES / script), place + "_one", "1"]
            stored = [*one, str(COLD), "requires"]
            yield Measurement("one leaf, stored", name, [*one, str(WARM), "requires"], WARM, prepare=[stored])


def _start(folder: Path, _turn: int) -> Iterator[Measurement]:
    kart = python("kart")
    yield Measurement("construction", "kart", [kart, str(CASES / "construction.py")])
    for module in ("attrs", "kart_core", "kart_core:TaskOnKart,build"):
        yield Measurement("import", module, [kart, str(CASES / "importing.py"), module])
    yield Measurement("command line", "bare python", [kart, "-c", "pass"])
    yield Measurement("command line", "kart-core --help", [command("kart", "kart-core"), "--help"])

    yield _stored_run(folder)


PIPELINE = """\
import kart_core as kart

class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 10

    def run(self) -> list[int]:
        return list(range(self.n))

class Total(kart.TaskOnKart[int]):
    numbers: Numbers

    def run(self) -> int:
        return sum(self.load(self.numbers))
"""


def _stored_run(folder: Path) -> Measurement:
    place = folder / "command_line"
    place.mkdir(parents=True)
    (place / "pipeline.py").write_text(PIPELINE)
    run = [command("kart", "kart-core"), "run", "pipeline:Total"]
    return Measurement("command line", "kart-core run, stored", run, prepare=[run, run], cwd=str(place))


def _planning(folder: Path, _turn: int) -> Iterator[Measurement]:
    for count in (100, *PLANNED):
        run = [python("kart"), str(CASES / "planning.py"), str(folder / "planning"), str(count)]
        yield Measurement("planning", f"{count:,} tasks", run, count + 1)


def _arrays(folder: Path, turn: int) -> Iterator[Measurement]:
    last = MEGABYTES * 125_000 - 1.0
    for suffix, plain in (("npy", "numpy"), ("pkl", "pickle")):
        for name, script in _turned([(plain, "array_plain.py"), ("kart", "array_kart.py")], turn):
            for step in ("dump", "load"):
                place = str(folder / "arrays" / name / suffix)
                run = [python("kart"), str(CASES / script), place, step, suffix, str(MEGABYTES)]
                yield Measurement(f".{suffix}, {step}", name, run, last)


GROUPS: Mapping[str, Callable[[Path, int], Iterator[Measurement]]] = {
    "fan-out": _fan_out,
    "start": _start,
    "planning": _planning,
    "arrays": _arrays,
}
"""What one round of each group measures, by the group's name.

A group takes the round's folder, which is new, and its number: each round another contender comes
first, so that none always finds the disk as the same other one left it.
"""
