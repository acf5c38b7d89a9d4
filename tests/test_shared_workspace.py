"""Whole runs that share a workspace: each task runs once, however many ask, are killed, or are stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import kart_core as kart
from kart_core.execution import leases
from kart_core.workspace import open_workspace
from tests.conftest import Project

SEEDS = 20 if os.environ.get("SLOW_TESTS") else 3
EXPIRY = 2.0
PATIENCE = 120.0

TEAM = """\
import os
import time
from pathlib import Path

import kart_core as kart
from kart_core.plugin import Plugin, hookimpl

ME = os.environ.get("ME", "")


def note(task) -> None:
    record = Path("resources/.kart/records", f"team.{type(task).__name__}", f"{task.unique_id}.json")
    with open("bodies.txt", "ab", buffering=0) as file:  # each line is written at once, at the end
        file.write(f"{ME} {task.unique_id} {'again' if record.exists() else 'first'}\\n".encode())


def wait_for(pattern: str, count: int = 1) -> None:
    end = time.monotonic() + 100
    while len(list(Path().glob(pattern))) < count:
        assert time.monotonic() < end, pattern
        time.sleep(0.01)


class Leaf(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        note(self)
        return self.number


class Middle(kart.TaskOnKart[int]):
    first: int

    def requires(self):
        return [Leaf(number=self.first + number) for number in range(9)]

    def run(self) -> int:
        note(self)
        return sum(self.load())


class Root(kart.TaskOnKart[int]):
    \"\"\"One of 201 tasks.\"\"\"

    def requires(self):
        return [Middle(first=9 * number) for number in range(20)]

    def run(self) -> int:
        note(self)
        return sum(self.load())


class Stamp(kart.TaskOnKart[str]):
    \"\"\"Ends when four have planned it.\"\"\"

    leaf: Leaf = Leaf(number=1)

    def run(self) -> str:
        note(self)
        wait_for("planned-*", 4)
        return f"{ME} {self.load(self.leaf)}"


class Long(kart.TaskOnKart[str]):
    \"\"\"Ends when it may.\"\"\"

    def run(self) -> str:
        note(self)
        Path(f"runs-{ME}").touch()
        wait_for(f"end-{ME}")
        return ME


class LongAndMore(kart.TaskOnKart[str]):
    def requires(self):
        return {"long": Long(), "leaf": Leaf(number=2)}

    def run(self) -> str:
        note(self)
        return self.load("long")


class Planned(Plugin):
    \"\"\"Tells the tests that a run has planned, or waits.\"\"\"

    name = "planned"

    @hookimpl
    def kart_event(self, event) -> None:
        if event.kind == "run_started":
            Path(f"planned-{ME}").touch()
        elif event.kind == "task_waiting":
            Path(f"waits-{ME}").touch()
"""

PROCESS = """\
import json
import logging
import sys

import kart_core as kart
import team

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    print("ready", flush=True)
    sys.stdin.readline()
    task = getattr(team, sys.argv[1])()
    print(kart.build(task, plugins=[team.Planned], **json.loads(sys.argv[2])), flush=True)
"""

SHORT = {"KART_LEASES__EXPIRY": f"{EXPIRY:g}", "KART_LEASES__RENEW_EVERY": "0.4"}
WORKERS: Mapping[int, tuple[dict[str, Any], dict[str, str]]] = {
    1: ({}, {"KART_SHOULD_LOCK_RUN": "true"}),
    2: ({"workers": 2}, {}),
}
"""What is given to a build, and its environment, with one process and with two workers."""


class Run:
    """A process that builds, once it is told to."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads fills up
        self._process = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **environment, "ME": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
        )

    def go(self) -> None:
        """Lets it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self.told

    def signal(self, which: int) -> None:
        self._process.send_signal(which)

    def result(self) -> str:
        """What the build gave, once it has ended well."""
        out, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, self.told
        return out.strip()

    def failure(self) -> str:
        """What the build raised."""
        self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 1, self.told
        return self.told.rstrip().splitlines()[-1]

    def killed(self) -> None:
        """Kills it; the workers end by themselves."""
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def told(self) -> str:
        """What it has written into its standard error output until now."""
        data = os.pread(self._told.fileno(), 1 << 20, 0)  # the position is the child's
        return data.decode(errors="replace")

    def close(self) -> None:
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self.killed()
        for stream in (self._process.stdin, self._process.stdout, self._told):
            assert stream is not None
            stream.close()


Start = Callable[..., list[Run]]


@pytest.fixture
def start(project: Project) -> Iterator[Start]:
    """Starts processes of a project, of the given names; all are about to build when it is done."""
    project.write("team.py", TEAM)
    project.write("process.py", PROCESS)
    runs: list[Run] = []

    def start(names: str, root: str, settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[Run]:
        words = ("process.py", root, json.dumps(settings))
        new = [Run(name, words, environment) for name in names]
        runs.extend(new)
        for run in new:
            run.ready()
        return new

    yield start
    for run in runs:
        run.close()


def bodies() -> list[tuple[str, str, str]]:
    """Each run of a task: in which process, of which task, and whether it had a record already."""
    path = Path("bodies.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, unique_id, which) for name, unique_id, which in map(str.split, lines)]


def held() -> list[leases.Held]:
    return leases.leases(open_workspace("resources"))


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def until(holds: Callable[[], Any]) -> None:
    """Waits until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


SUM = str(sum(range(180)))


@pytest.mark.parametrize("workers", WORKERS)
def test_four_processes_that_ask_at_once_run_each_task_once(start: Start, workers: int) -> None:
    runs = start("abcd", "Root", *WORKERS[workers])
    for run in runs:
        run.go()
    assert [run.result() for run in runs] == [SUM] * 4
    counts = Counter(unique_id for _, unique_id, _ in bodies())
    assert len(counts) == 201
    assert set(counts.values()) == {1}
    assert held() == []


@pytest.mark.parametrize("workers", WORKERS)
def test_four_reruns_at_once_are_one(start: Start, workers: int) -> None:
    settings, environment = WORKERS[workers]
    for name in "1234":
        Path(f"planned-{name}").touch()
    (first,) = start("z", "Stamp", settings, environment)
    first.go()
    assert first.result() == "z 1"
    for mark in Path().glob("planned-*"):
        mark.unlink()
    runs = start("abcd", "Stamp", {**settings, "rerun": True}, environment)
    before = len(bodies())
    for run in runs:
        run.go()
    results = [run.result() for run in runs]
    again = bodies()[before:]
    assert len(again) == 1
    assert results == [f"{again[0][0]} 1"] * 4
    assert held() == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_killed_processes_leave_is_completed_by_the_others(project: Project, start: Start, seed: int) -> None:
    dice = random.Random(seed)
    settings, environment = WORKERS[1 + seed % 2]
    runs = start("abcd", "Root", settings, {**environment, **SHORT})
    moments = sorted(dice.randrange(201) for _ in range(2))
    victims = dice.sample(runs, 2)
    for run in runs:
        run.go()
    for moment, victim in zip(moments, victims, strict=True):
        until(lambda moment=moment, victim=victim: len(bodies()) >= moment or not victim.running)
        time.sleep(dice.random() * 0.01)
        victim.killed()
    assert [run.result() for run in runs if run not in victims] == [SUM] * 2
    counts = Counter(unique_id for _, unique_id, _ in bodies())
    assert len(counts) == 201
    last = {unique_id: name for name, unique_id, _ in bodies()}
    killed = {victim.name for victim in victims}
    for name, unique_id, which in bodies():
        assert which == "first", "nothing runs that has a record"
        assert name == last[unique_id] or name in killed, "only what was killed runs twice"
    stored = [record for kind in ("Leaf", "Middle", "Root") for record in kart.results(f"team.{kind}", "resources")]
    attempts = [record.attempt for record in stored]
    assert len(attempts) == len(set(attempts)) == 201
    # What stays was held right when its process was killed, by tasks that are stored: nobody waits for it.
    for lease in held():
        until(lambda lease=lease: not is_alive(lease.holder.process))
        assert lease.unique_id in {record.unique_id for record in stored}
    (late,) = start("e", "Root", {**settings, "rerun": True}, {**environment, **SHORT})
    late.go()
    assert late.result() == SUM
    left = {lease.unique_id for lease in held()}
    assert stored[-1].unique_id not in left
    if left:
        assert {lease["unique_id"] for lease in project.kart("leases", "--release-expired", "--json").data} == left
        assert held() == []


def test_who_was_stopped_past_the_expiry_stores_nothing_and_returns_what_the_other_made(start: Start) -> None:
    _, environment = WORKERS[1]
    stopped, other = start("ab", "LongAndMore", {}, {**environment, **SHORT})
    stopped.go()
    until(Path("runs-a").exists)
    stopped.signal(signal.SIGSTOP)
    other.go()
    until(Path("runs-b").exists)
    assert "is taken over from process" in other.told
    Path("end-a").touch()
    stopped.signal(signal.SIGCONT)
    until(lambda: "what it made is not stored" in stopped.told)
    assert "has it now" in stopped.told
    assert not list(Path("resources/.kart/records/team.Long").glob("*.json"))
    Path("end-b").touch()
    assert (stopped.result(), other.result()) == ("b", "b")
    (record,) = kart.results("team.Long", "resources")
    long = [name for name, unique_id, _ in bodies() if unique_id == record.unique_id]
    assert long == ["a", "b"]
    counts = Counter(unique_id for _, unique_id, _ in bodies() if unique_id != record.unique_id)
    assert set(counts.values()) == {1}
    assert held() == []


def test_a_worker_that_was_stopped_past_the_expiry_stores_nothing(start: Start) -> None:
    settings, environment = WORKERS[2]
    stopped, other = start("ab", "Long", settings, {**environment, **SHORT})
    stopped.go()
    until(Path("runs-a").exists)
    (lease,) = held()
    os.kill(lease.holder.process, signal.SIGSTOP)
    try:
        other.go()
        until(Path("runs-b").exists)
        Path("end-b").touch()
        assert other.result() == "b"
    finally:
        Path("end-a").touch()
        os.kill(lease.holder.process, signal.SIGCONT)
    assert stopped.result() == "b"
    assert "what it made is not stored" in stopped.told
    assert held() == []


def test_who_waits_says_for_whom(start: Start) -> None:
    (run,) = start("a", "Long", {}, WORKERS[1][1])
    run.go()
    until(Path("runs-a").exists)
    words = ("-c", "from kart_core.cli import main; main()", "run", "team:Long")
    waiting = Run("b", words, WORKERS[1][1])
    try:
        until(lambda: "wait" in waiting.told)
        (line,) = [line for line in waiting.told.splitlines() if line.startswith("wait")]
        (lease,) = held()
        assert line.startswith(f"wait   team.Long {lease.unique_id[:8]}")
        assert f": it is run by process {lease.holder.process} on {os.uname().nodename}, since " in line
        Path("end-a").touch()
        run.result()
        out = waiting.result()
        assert "reused" in out
        assert f"reused team.Long {lease.unique_id[:8]}" in waiting.told  # each that began has an end
        assert [name for name, _, _ in bodies()] == ["a"]
    finally:
        waiting.close()


def test_a_lease_that_cannot_be_looked_at_fails_its_task_alone(project: Project, start: Start) -> None:
    (run,) = start("a", "LongAndMore", {}, WORKERS[1][1])
    (long,) = project.kart("plan", "team:Long", "--json").data
    lease = Path("resources/.kart/leases", long["unique_id"])
    lease.parent.mkdir(parents=True)
    lease.write_text("of somebody")
    run.go()
    until(lambda: Path("waits-a").exists() and bodies())
    Path("loop").symlink_to(lease.name)  # where it will stand, a loop
    Path("loop").replace(lease)
    assert run.failure() == "  1 more could not run, since they depend on what failed", run.told
    assert "Long" in run.told
    assert "symbolic links" in run.told
