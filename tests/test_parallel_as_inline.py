"""The promise of several processes: what tasks do in two or in four of them is what they do inline.

The tests of graphs, failure, reruns, seeding and yielded tasks are run again as they are, with their tasks in other
processes; and a graph with something of everything is built by each executor, and what became of it compared.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

import attrs
import numpy
import pytest

import kart_core as kart
from kart_core.building import execute
from kart_core.plugin import Event
from tests.traces import IN_PROCESSES, note, noted, notes

pytestmark = pytest.mark.usefixtures("project")

HERE = Path(__file__)
AS_THEY_ARE = ["test_graph.py", "test_failure.py", "test_rerun.py", "test_seeding.py", "test_dynamic.py"]
SLOW = pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes minutes; SLOW_TESTS=1 runs it")
KART = os.path.dirname(kart.__file__) + os.sep


# --- tests that say nothing of where their tasks run


class Process(kart.TaskOnKart[int]):
    def run(self) -> int:
        return os.getpid()


def test_tasks_run_where_the_environment_says() -> None:
    assert (kart.build(Process()) != os.getpid()) == IN_PROCESSES


@SLOW
@pytest.mark.parametrize("file", AS_THEY_ARE)
@pytest.mark.parametrize("workers", [2, 4])
def test_tests_hold_also_where_tasks_run_in_other_processes(file: str, workers: int, tmp_path: Path) -> None:
    sure = f"{HERE}::{test_tasks_run_where_the_environment_says.__name__}"
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, sure, str(HERE.with_name(file))],
        cwd=HERE.parents[1],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "KART_EXECUTOR": "processes",
            "KART_WORKERS": str(workers),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = tests.communicate(timeout=1200)
    except BaseException:
        os.killpg(tests.pid, signal.SIGKILL)
        tests.wait()
        raise
    assert tests.returncode == 0, out[-10_000:]


# --- something of everything


class Figures(kart.TaskOnKart[dict[str, Any]]):
    """Draws from every generator that the core seeds."""

    name: str
    size: int = 3

    def run(self) -> dict[str, Any]:
        return {
            "random": [random.random() for _ in range(self.size)],
            "numpy": numpy.random.random(self.size).tolist(),
            "rng": kart.rng("a").random(self.size).tolist(),
            "rng of random": [kart.rng("a", kind="random").random() for _ in range(self.size)],
        }


class Whole(kart.TaskOnKart[float]):
    numbers: tuple[Figures, ...]
    weights: Mapping[str, float] = kart.parameter(factory=dict)
    named: Mapping[str, Figures | None] = kart.parameter(factory=dict)

    def run(self) -> float:
        self.task_log["read"] = len(self.numbers)
        drawn = [*self.load(self.numbers), *(self.load(task) for task in self.named.values() if task is not None)]
        return sum(sum(one["random"]) for one in drawn) * sum(self.weights.values()) + random.random()


class Parts(kart.TaskOnKart[dict[str, Any]]):
    """Has several outputs, one of them without its id in the path."""

    numbers: Figures

    def output(self) -> dict[str, Any]:
        return {
            "text": self.make_target("parts/text.txt"),
            "rest": [self.make_target("parts/one.json"), self.make_target("parts/two.pkl", use_unique_id=False)],
        }

    def run(self) -> dict[str, Any]:
        print("a line on the standard output")
        return {"text": "text", "rest": [self.load(self.numbers)["random"], {1, 2, 3}]}


class Link(kart.TaskOnKart[int]):
    i: int
    before: Link | None = None

    def run(self) -> int:
        return (0 if self.before is None else self.load(self.before)) + self.i


class Asks(kart.TaskOnKart[list[Any]]):
    """Yields tasks, between draws."""

    wanted: Sequence[str]

    def run(self) -> Any:
        first = random.random()
        one = yield [Figures(name=name) for name in self.wanted]
        other = yield {"a": Figures(name=f"after {len(one)}"), "b": None}
        return [first, one, other, random.random()]


class AsksForWhatFails(kart.TaskOnKart[str]):
    careful: bool

    def run(self) -> Any:
        try:
            yield [Figures(name="beside"), Fails(kind=f"yielded, {self.careful}")]
        except kart.BuildError as error:
            if not self.careful:
                raise
            return f"{error}; {random.random()}"


class Builds(kart.TaskOnKart[list[Any]]):
    """Builds tasks inside of its run."""

    def run(self) -> list[Any]:
        first = random.random()
        return [first, kart.build(Figures(name="inside")), random.random()]


class Flaky(kart.TaskOnKart[float], retries=2):
    fails: int

    def run(self) -> float:
        drawn = random.random()
        note(f"try {self.fails}")
        tried = notes().count(f"try {self.fails}")
        if tried <= self.fails:
            raise OSError(tried, "not yet", "some file")
        return drawn


class Bundle(kart.WrapperTask):
    tasks: tuple[kart.TaskOnKart[Any], ...]


class Absent(kart.ExternalTask[str]):
    def output(self) -> kart.Target:
        return self.make_target("absent.txt", use_unique_id=False)


class Silent(kart.TaskOnKart[int]):
    def run(self) -> None:
        random.random()


class Unstorable(kart.TaskOnKart[Any]):
    def output(self) -> kart.Target:
        return self.make_target("set.json")

    def run(self) -> Any:
        return {1, 2}


class After(kart.TaskOnKart[int]):
    task: kart.TaskOnKart[Any]

    def run(self) -> int:
        return 1


class Refused(Exception):
    """An exception that pickle alone could not make again."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


class Holds(Exception):
    """An exception that holds what cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Fails(kart.TaskOnKart[int]):
    kind: str

    def run(self) -> int:
        if self.kind == "plain":
            raise ValueError("the reason", 3)
        if self.kind == "own":
            raise Refused(3, reason="no")
        if self.kind == "unpicklable":
            raise Holds("held")
        if self.kind == "exits":
            raise SystemExit(3)
        if self.kind == "of a library":
            return json.loads("{not JSON")  # type: ignore[no-any-return]
        if self.kind.startswith(("below", "yielded")):
            return deep(5)
        try:
            deep(2)
        except LookupError as error:
            if self.kind == "caused":
                raise RuntimeError("caused") from error
            raise RuntimeError("in the course of another")  # noqa: B904 - that is what is looked at
        return 1


def deep(left: int) -> int:
    if left == 0:
        raise LookupError("at the bottom")
    return deep(left - 1)


KINDS = ["plain", "own", "unpicklable", "exits", "of a library", "below", "caused", "while"]


def everything() -> list[kart.TaskOnKart[Any]]:
    numbers = [Figures(name=name, size=2) for name in "abcdef"]
    fixed = Figures(name="fixed", fix_random_seed_value=57)
    zero = Figures(name="zero", fix_random_seed_value=0, fix_random_seed_methods=["numpy.random.seed", "random.seed"])
    link = Link(i=0)
    for i in range(1, 30):
        link = Link(i=i, before=link)
    fails = [Fails(kind=kind) for kind in KINDS]
    return [
        Whole(numbers=(*numbers, fixed), weights={"a": 0.5, "b": 1.5}, named={"x": fixed, "y": None}),
        Whole(numbers=()),
        Parts(numbers=zero),
        link,
        Asks(wanted=["a", "asked"]),
        AsksForWhatFails(careful=True),
        AsksForWhatFails(careful=False),
        Builds(),
        Flaky(fails=1),
        Flaky(fails=3),
        Bundle(tasks=(numbers[0], *fails)),
        After(task=After(task=fails[0])),
        After(task=Absent()),
        Silent(),
        Unstorable(),
        After(task=After(task=After(task=numbers[1]))),
    ]


# --- what became of it


@dataclass(frozen=True)
class Became:
    """What became of a build of everything, less the moments and the places.

    What is yielded inside of a run may be a run of its own, or part of the one that is going on: so much the reports of
    the two may differ.
    """

    values: Mapping[kart.TaskOnKart[Any], Any]
    ids: Mapping[kart.TaskOnKart[Any], str]
    records: Mapping[str, Mapping[str, Any]]
    failures: Mapping[kart.TaskOnKart[Any], Any]
    blocked: frozenset[kart.TaskOnKart[Any]]
    events: Counter[Any]
    journal: Counter[Any]
    files: Sequence[str]
    tries: Counter[str]
    exit_code: int


def became(where: Path, **executor: Any) -> Became:
    """Builds everything in a workspace of its own."""
    events: list[Event] = []
    noted()
    report = execute(*everything(), workspace_directory=where, listen=[events.append], **executor)
    journals = list((where / ".kart/runs").iterdir())
    lines = [json.loads(line) for journal in journals for line in journal.read_text().splitlines()]
    records = list((where / ".kart/records").rglob("*.json"))
    tries = Counter(noted())
    planned = [node.task for node in report.plan.nodes]
    recorded = {path.stem for path in records}
    good = [task for task in planned if task.unique_id in recorded]
    values = kart.build(*good, workspace_directory=where, **executor)
    assert not noted(), "what is stored does not run again"
    here = str(where)
    return Became(
        values=dict(zip(good, values, strict=True)),
        ids={task: task.unique_id for task in planned},
        records={path.stem: record(path.stem, here) for path in records},
        failures={task: told(error, here) for task, error in report.failures.items()},
        blocked=frozenset(report.blocked),
        events=Counter(
            (e.kind, e.task, e.unique_id, placeless(str(e.error), here)) for e in events if e.kind in KINDS_OF_EVENTS
        ),
        journal=Counter(
            (line["kind"], line["task"], line["unique_id"], placeless(str(line.get("error")), here))
            for line in lines
            if line["kind"] in KINDS_OF_EVENTS
        ),
        files=sorted(
            str(path.relative_to(where)) for path in where.rglob("*") if path.is_file() and path not in journals
        ),
        tries=tries,
        exit_code=report.exit_code,
    )


KINDS_OF_EVENTS = ("task_started", "task_finished", "task_failed", "task_blocked")


def placeless(text: str, where: str) -> str:
    return text.replace(where, "WORKSPACE")


def record(unique_id: str, where: str) -> Mapping[str, Any]:
    """What a record says but for its moments, after a look at whether its attempts are those that were read."""
    found = attrs.asdict(kart.record(unique_id, where))
    for required in found["requirements"]:
        if (attempt := required.pop("attempt")) is not None:
            assert attempt == kart.record(required["unique_id"], where).attempt
    for output in found["outputs"]:
        assert (output.pop("mark") is None) == (unique_id in output["path"])
    del found["attempt"], found["started"], found["seconds"]
    return found


def told(error: BaseException, where: str) -> Any:
    """What an exception tells: its type, what it holds, its cause, and its traceback from this file on, less kart's."""
    frames = dropwhile(lambda frame: frame.filename != __file__, traceback.extract_tb(error.__traceback__))
    return (
        type(error),
        placeless(repr(error.args), where),
        placeless(str(error), where),
        {name: placeless(repr(value), where) for name, value in vars(error).items() if name != "lock"},
        [(f.filename, f.lineno, f.name, f.line) for f in frames if not f.filename.startswith(KART)],
        [None if e is None else told(e, where) for e in (error.__cause__, error.__context__)],
        error.__suppress_context__,
    )


@pytest.mark.parametrize("workers", [2, 4])
def test_everything_becomes_the_same(workers: int, tmp_path: Path) -> None:
    inline = became(tmp_path / "inline", executor="inline")
    processes = became(tmp_path / "processes", executor="processes", workers=workers)
    for field in Became.__dataclass_fields__:
        assert getattr(processes, field) == getattr(inline, field), field
    assert len(inline.values) > 45 < len(inline.records)
    assert {task for task in inline.failures if isinstance(task, Fails)} == {Fails(kind=kind) for kind in KINDS}
    assert {type(task) for task in inline.failures} == {Fails, Flaky, AsksForWhatFails, Absent, Silent, Unstorable}
    assert inline.blocked == {
        After(task=Fails(kind="plain")),
        After(task=After(task=Fails(kind="plain"))),
        After(task=Absent()),
    }


def test_what_one_executor_stored_the_other_reuses(tmp_path: Path) -> None:
    good = [task for task in everything() if isinstance(task, (Whole, Parts, Link, Asks, Builds))]
    executors: list[dict[str, Any]] = [{"executor": "inline"}, {"executor": "processes", "workers": 2}]
    for where, (one, other) in ((tmp_path / "one", executors), (tmp_path / "other", executors[::-1])):
        ran = execute(*good, workspace_directory=where, **one).ran
        again = execute(*good, workspace_directory=where, **other)
        assert len(ran) > 35
        assert (again.ran, set(again.reused)) == ([], set(good))


class Mood(kart.TaskOnKart[str]):
    mood: str = kart.parameter(significant=False)

    def run(self) -> str:
        return self.mood


class Sentence(kart.TaskOnKart[str]):
    mood: Mood
    end: str = kart.parameter(default="", significant=False)

    def run(self) -> str:
        return f"I am {self.load(self.mood)}{self.end}"


def test_what_another_process_made_anew_is_what_is_read(tmp_path: Path) -> None:
    for i, executor in enumerate(("inline", "processes", "inline", "processes", "processes")):
        sentence = Sentence(mood=Mood(mood=f"{i} years old", rerun=True), end="!" * i)
        assert kart.build(sentence, executor=executor) == f"I am {i} years old{'!' * i}"
        assert sentence.load(sentence.mood) == f"{i} years old"
