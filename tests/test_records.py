"""The promises of what is on disk: whole or not there, whoever is killed and whenever, and damage is found.

The kills are real: a process of its own gets SIGKILL, either from here while it runs, or before
each single thing that it does to the file system, one after the other, until it has done all.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import xxhash

import kart_core as kart
from kart_core.building import execute
from kart_core.plugin import Event
from tests.conftest import Files, Project
from tests.traces import STORE_AT

pytestmark = pytest.mark.usefixtures("project")


class Number(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        self.task_log["i"] = self.i
        return self.i


class Sum(kart.TaskOnKart[int]):
    numbers: tuple[Number, ...]
    scale: float = 1.0
    label: str = kart.parameter(default="", significant=False)

    def run(self) -> int:
        return sum(self.load(self.numbers))


class Stored(kart.TaskOnKart[Any]):
    """Stores one value in two files of a format."""

    suffix: str
    large: bool = False

    def output(self) -> list[kart.Target]:
        return [self.make_target(f"{name}.{self.suffix}") for name in ("a", "b")]

    def run(self) -> Any:
        n = 3 << 20 if self.large else 3
        values: dict[str, Callable[[str], Any]] = {
            "pkl": lambda c: c * n,
            "json": lambda c: [c * n],
            "txt": lambda c: c * n,
            "bin": lambda c: c.encode() * n,
            "npy": lambda c: np.full(n, ord(c), dtype="u1"),
            "npz": lambda c: {"a": np.full(n, ord(c), dtype="u1")},
        }
        return [values[self.suffix](c) for c in "ab"]


class Alone(kart.TaskOnKart[list[str]]):
    """One file whose parts are read one at a time."""

    def output(self) -> kart.Target:
        return self.make_target("alone.json")

    def run(self) -> list[str]:
        return ["one", "two"]


def result_path(task: kart.TaskOnKart[Any]) -> str:
    target = task.output()
    assert isinstance(target, kart.Target)
    return target.path


# --- what a record says


def test_a_record_says_how_a_result_came_to_be(workspace: Files) -> None:
    task = Sum(numbers=(Number(i=1), Number(i=2)), scale=0.5, label="a", fix_random_seed_value=7)
    np.random.get_state()  # imports it: a method whose library is not imported is not called
    before = time.time()
    report = execute(task)
    record = kart.record(task)
    [output] = record.outputs
    content = workspace.read(result_path(task))
    assert (record.task, record.unique_id) == (f"{__name__}.Sum", task.unique_id)
    assert record.attempt.startswith(f"{report.run}-")
    assert (output.path, output.size) == (result_path(task), len(content))
    assert (output.digest, output.serializer) == (xxhash.xxh3_128_hexdigest(content), "pkl/1")
    assert record.seed == {"value": 7, "methods": ["random.seed", "numpy.random.seed"]}
    assert (record.parameters["scale"], record.parameters["label"]) == (0.5, "a")
    assert record.settings == {"fix_random_seed_value": 7}
    assert record.code is not None
    assert len(record.code) == 32
    assert before - 1 <= record.started <= time.time()
    assert 0 <= record.seconds < 60
    assert before - 1 <= record.finished.timestamp() <= time.time() + 1
    assert record.finished.tzinfo is timezone.utc
    assert abs(datetime.now(tz=timezone.utc) - record.finished).total_seconds() < 60
    assert record.host == platform.node()
    assert record.versions == {"python": platform.python_version(), "kart_core": kart.__version__}
    assert bool(record.plugins) is bool(STORE_AT), "of plugins, those of other storage alone took part"


def test_a_record_names_the_attempts_that_were_read() -> None:
    task = Sum(numbers=(Number(i=1), Number(i=2)))
    kart.build(task)
    read = {required.unique_id: required for required in kart.record(task).requirements}
    for number in task.numbers:
        record = kart.record(number)
        assert read[number.unique_id].task == record.task
        assert read[number.unique_id].attempt == record.attempt
        assert read[number.unique_id].digest == record.outputs[0].digest


def test_a_record_names_the_attempts_of_inputs_that_were_reused() -> None:
    kart.build(Number(i=1), Number(i=2))
    first = kart.record(Number(i=1)).attempt
    task = Sum(numbers=(Number(i=1), Number(i=2)))
    kart.build(task)
    assert kart.record(task).requirements[0].attempt == first
    kart.build(Number(i=1), rerun=True)
    kart.build(task, rerun=True)
    assert kart.record(task).requirements[0].attempt == kart.record(Number(i=1)).attempt != first


def test_a_record_holds_the_seed_that_was_made_from_the_id() -> None:
    kart.build(Number(i=1), Number(i=2))
    seeds = [kart.record(Number(i=i)).seed["value"] for i in (1, 2)]
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_record_is_small_strict_json(workspace: Files) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    task = Sum(numbers=(Number(i=1),), scale=float("inf"), label='ø \udce9 \n "')
    kart.build(task)
    text = workspace.read(workspace.record_of(task)).decode()
    json.loads(text, parse_constant=refuse)
    assert len(text) < 2000
    assert kart.record(task).parameters["label"] == 'ø \udce9 \n "'


def test_every_rerun_is_an_attempt_of_its_own() -> None:
    attempts = set()
    for _ in range(3):
        kart.build(Number(i=1), rerun=True)
        attempts.add(kart.record(Number(i=1)).attempt)
    assert len(attempts) == 3


def test_a_result_that_was_never_made_has_no_record() -> None:
    with pytest.raises(kart.MissingDataError, match=r"Number\(i=1\)"):
        kart.record(Number(i=1))


def test_a_record_is_found_by_its_id_or_its_first_digits() -> None:
    kart.build(*(Number(i=i) for i in range(20)), return_value=False)
    unique_id = Number(i=3).unique_id
    assert kart.record(unique_id) == kart.record(unique_id[:12]) == kart.record(Number(i=3))
    first = [Number(i=i).unique_id[0] for i in range(20)]
    with pytest.raises(kart.ParameterError, match="more digits"):
        kart.record(max(first, key=first.count))
    with pytest.raises(kart.MissingDataError, match="0123456789"):
        kart.record("0123456789")
    with pytest.raises(kart.ParameterError, match="xyz"):
        kart.record("xyz")


def test_the_results_of_a_class_are_listed_oldest_first(workspace: Files) -> None:
    assert kart.results(Number) == []
    for i in (3, 1, 2):
        kart.build(Number(i=i))
    assert [record.parameters["i"] for record in kart.results(Number)] == [3, 1, 2]
    assert kart.results(f"{__name__}.Number") == kart.results(Number)
    elsewhere = workspace.beside("elsewhere").url
    kart.build(Number(i=9), workspace_directory=elsewhere)
    assert [record.parameters["i"] for record in kart.results(Number, elsewhere)] == [9]


# --- task_log


def test_the_task_log_is_read_back_from_the_record() -> None:
    assert Number(i=5).task_log == {}
    kart.build(Number(i=5))
    assert Number(i=5).task_log == {"i": 5} == kart.record(Number(i=5)).log


def test_the_task_log_is_of_the_last_execution_alone() -> None:
    class Notes(kart.TaskOnKart[int]):
        def run(self) -> int:
            assert self.task_log == {}
            self.task_log[os.environ["NOTE"]] = [1, {"a": None}]
            return 1

    for note in ("first", "second"):
        os.environ["NOTE"] = note
        kart.build(Notes(), rerun=True)
        assert Notes().task_log == {note: [1, {"a": None}]}
    del os.environ["NOTE"]


def test_a_task_log_that_no_record_can_hold_fails_the_task_by_name() -> None:
    class Notes(kart.TaskOnKart[int]):
        def run(self) -> int:
            self.task_log["what"] = {1, 2}
            return 1

    with pytest.raises(kart.BuildError, match=r"task_log of .*Notes\(\)"):
        kart.build(Notes())
    assert not Notes().complete()


# --- looking changes nothing


def test_looking_never_changes_a_byte(workspace: Files) -> None:
    task = Sum(numbers=(Number(i=1), Number(i=2)))
    kart.plan(task)
    task.complete()
    assert not workspace.is_there()
    kart.build(task)
    before = workspace.snapshot()
    again = Sum(numbers=(Number(i=1, rerun=True), Number(i=2)), rerun=True)
    for looked in (task, again):
        kart.plan(looked, rerun=True, rerun_from=["Number"], strict_check=True, modification_time_check=True)
        looked.complete()
        repr(looked)
        kart.record(looked)
        kart.results(Sum)
        _ = looked.task_log, looked.output()
    assert workspace.snapshot() == before


def test_a_build_that_runs_nothing_changes_no_byte(workspace: Files) -> None:
    task = Sum(numbers=(Number(i=1), Number(i=2)))
    kart.build(task)
    before = workspace.snapshot()
    kart.build(task)
    assert workspace.snapshot() == before


def test_the_layout_on_disk_is_the_one_that_is_written_down(workspace: Files) -> None:
    report = execute(Number(i=1))
    module = __name__.replace(".", "/")
    assert set(workspace.files()) == {
        f"{module}/Number_{Number(i=1).unique_id}.pkl",
        f".kart/records/{__name__}.Number/{Number(i=1).unique_id}.json",
        f".kart/runs/{report.run}.jsonl",
        ".kart/format",
    }
    lines = [json.loads(line) for line in workspace.read(f".kart/runs/{report.run}.jsonl").splitlines()]
    assert [line["kind"] for line in lines] == ["run_started", "task_finished", "run_finished"]


def test_a_workspace_of_a_later_layout_is_not_written_to(workspace: Files) -> None:
    workspace.write(".kart/format", "2\n")
    with pytest.raises(kart.KartError, match=r"layout version '2'.*update") as error:
        kart.build(Number(i=1))
    assert error.value.exit_code == 70
    assert not Number(i=1).complete()


@pytest.mark.local(reason="a far storage is not asked each time whether it was deleted")
def test_a_workspace_that_was_deleted_between_two_builds_gets_its_version_again(workspace: Files) -> None:
    kart.build(Number(i=1))
    shutil.rmtree(workspace.url)
    assert kart.build(Number(i=1)) == 1
    assert workspace.read(".kart/format") == b"1\n"


# --- damage


def damaged(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "a byte flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "cut short": data[:-1],
        "emptied": b"",
        "grown": data + b"\0",
        "halved": data[:middle],
        "zeroed": bytes(len(data)),
    }


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("suffix", ["pkl", "json", "txt", "bin", "npy", "npz"])
@pytest.mark.parametrize("how", damaged(b"aa"))
def test_a_damaged_result_is_an_error_that_names_it_and_never_a_wrong_value(
    suffix: str, how: str, large: bool, workspace: Files
) -> None:
    task = Stored(suffix=suffix, large=large)
    kart.build(task, return_value=False)
    path = task.output()[1].path
    workspace.write(path, damaged(workspace.read(path))[how])
    for load in (lambda: kart.build(task), lambda: task.load(task)):
        with pytest.raises(kart.CorruptResultError, match=path) as error:
            load()
    assert error.value.exit_code == 70


def test_two_results_that_were_exchanged_are_found(workspace: Files) -> None:
    task = Stored(suffix="txt")
    kart.build(task)
    a, b = (target.path for target in task.output())
    contents = workspace.read(a), workspace.read(b)
    workspace.write(b, contents[0])
    workspace.write(a, contents[1])
    with pytest.raises(kart.CorruptResultError, match=a):
        kart.build(task)


@pytest.mark.parametrize("how", damaged(b"aa"))
def test_damage_is_found_before_the_first_part_is_given(how: str, workspace: Files) -> None:
    kart.build(Alone())
    path = result_path(Alone())
    workspace.write(path, damaged(workspace.read(path))[how])
    with pytest.raises(kart.CorruptResultError, match=path):
        next(Number(i=1).load_generator(Alone()))


def test_damage_is_found_however_a_result_is_loaded(workspace: Files) -> None:
    class Reads(kart.TaskOnKart[Any]):
        stored: Stored = Stored(suffix="txt")
        alone: Alone = Alone()

    kart.build(*(Reads().requires()).values(), return_value=False)  # type: ignore[union-attr]
    targets = [*Stored(suffix="txt").output(), Alone().output()]
    loads: list[Callable[[], Any]] = [
        lambda: Reads().load(),
        lambda: Reads().load("stored"),
        lambda: [Reads().load(target) for target in targets],
        lambda: list(Reads().load_generator()),
        lambda: list(Reads().load_generator(Reads().stored)),
        lambda: [list(Reads().load_generator(target)) for target in targets],
        lambda: Alone().load(Stored(suffix="txt")),
        lambda: Stored(suffix="txt").load(targets[1]),
    ]
    for load in loads:
        load()
    workspace.write(targets[1].path, "xxx")
    for load in loads:
        with pytest.raises(kart.CorruptResultError, match=r"b_"):
            load()


def test_a_damaged_input_fails_the_task_that_reads_it(workspace: Files) -> None:
    task = Sum(numbers=(Number(i=1), Number(i=2)))
    kart.build(*task.numbers)
    workspace.write(result_path(Number(i=2)), b"damaged")
    with pytest.raises(kart.BuildError) as error:
        kart.build(task)
    assert isinstance(error.value.failures[task], kart.CorruptResultError)
    assert not task.complete()


def test_a_result_whose_damaged_file_is_deleted_runs_again(workspace: Files) -> None:
    kart.build(Number(i=1))
    workspace.write(result_path(Number(i=1)), b"damaged")
    workspace.remove(result_path(Number(i=1)))
    assert kart.build(Number(i=1)) == 1


@pytest.mark.parametrize("name", ["result", "record"])
def test_a_result_of_which_a_file_is_gone_is_not_complete_and_runs_again(name: str, workspace: Files) -> None:
    kart.build(Number(i=1))
    workspace.remove(result_path(Number(i=1)) if name == "result" else workspace.record_of(Number(i=1)))
    assert not Number(i=1).complete()
    assert list(execute(Number(i=1)).ran) == [Number(i=1)]
    assert kart.build(Number(i=1)) == 1


RECORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "emptied": lambda record: b"",
    "cut short": lambda record: json.dumps(record).encode()[:-20],
    "no text": lambda record: b"\xff\xfe\x00",
    "a list": lambda record: [record],
    "null": lambda record: None,
    "without outputs": lambda record: {k: v for k, v in record.items() if k != "outputs"},
    "outputs are a number": lambda record: {**record, "outputs": 3},
    "an output is a text": lambda record: {**record, "outputs": ["a.pkl"]},
    "a size is a text": lambda record: {**record, "outputs": [{**record["outputs"][0], "size": "3"}]},
    "a digest is none": lambda record: {**record, "outputs": [{**record["outputs"][0], "digest": None}]},
    "an attempt is a number": lambda record: {**record, "attempt": 1},
    "a requirement is a number": lambda record: {**record, "requirements": [1]},
}


@pytest.mark.parametrize("how", RECORDS)
def test_a_damaged_record_is_an_error_that_names_it_and_what_to_do(
    how: str, project: Project, workspace: Files
) -> None:
    project.write("one.py", "import kart_core as kart\nclass One(kart.TaskOnKart[int]):\n    def run(self): return 1\n")
    assert project.kart("run", "one:One").code == 0
    [path] = workspace.records()
    made = RECORDS[how](json.loads(workspace.read(path)))
    workspace.write(path, made if isinstance(made, bytes) else json.dumps(made))
    os.utime("one.py", (1, 1))  # a record is read because it is asked for, not because the source is newer
    again = project.shell("run", "one:One")
    assert again.code == 70
    assert path in again.err
    assert "delete it" in again.err
    assert "Traceback" not in again.err
    workspace.remove(path)
    assert project.kart("run", "one:One").code == 0


def test_an_output_of_which_the_record_does_not_speak_is_not_taken_for_the_result(workspace: Files) -> None:
    class Moved(kart.TaskOnKart[int]):
        place: str = kart.parameter(default="old.pkl", significant=False)

        def output(self) -> kart.Target:
            return self.make_target(self.place)

        def run(self) -> int:
            return 1

    kart.build(Moved())
    other = Moved(place="new.pkl")
    assert not other.complete()
    workspace.write(result_path(other), b"by hand")
    with pytest.raises(kart.KartError, match=r"new_"):
        kart.build(other)


# --- kills

KILLED = """\
import os, signal, sys
import kart_core as kart

class Pair(kart.TaskOnKart[list[str]]):
    def output(self):
        return [self.make_target("small.txt"), self.make_target("large.txt")]

    def run(self):
        word = os.environ["WORD"]
        return [word, word * (1 << 20)]

class After(kart.TaskOnKart[str]):
    pair: Pair = Pair()

    def run(self):
        return self.load(self.pair)[0]

CHANGES = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate"}
left = int(os.environ.get("KILL_BEFORE", "-1"))

def kill(event, arguments):
    global left
    opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (event in CHANGES or opens) and "resources" in str(arguments[0]):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

if __name__ == "__main__":
    sys.addaudithook(kill)
    kart.build(Pair(), return_value=False, rerun="rerun" in sys.argv)
"""

STATE = """\
import killed, kart_core
task = killed.Pair()
if task.complete():
    small, large = task.load(task)
    assert large == small * (1 << 20), "a mixture"
    print("complete", small)
else:
    try:
        task.load(task)
        print("loaded though not complete")
    except kart_core.MissingDataError:
        print("not complete")
"""


def killed(project: Project, before: int, *words: str) -> bool:
    """Builds in a process that is killed before one of its changes to the workspace; whether it came to it."""
    environment = {"KILL_BEFORE": str(before), "WORD": "new"}
    code = project.python("killed.py", *words, environment=environment).code
    assert code in (0, -signal.SIGKILL)
    return code != 0


def state(project: Project) -> str:
    done = project.python("-c", STATE)
    assert done.code == 0, done.err
    return done.out.strip()


@pytest.fixture
def killing(project: Project) -> Project:
    project.write("killed.py", KILLED)
    return project


@pytest.mark.local(reason="the kills are between the steps of the operating system")
def test_a_first_run_killed_before_any_of_its_changes_leaves_all_or_nothing(killing: Project) -> None:
    states = []
    while killed(killing, len(states)):
        states.append(state(killing))
        # Whatever the kill left, the next run makes the result whole.
        assert killing.python("killed.py", environment={"WORD": "repaired"}).code == 0
        assert state(killing) in ("complete repaired", "complete new")
        subprocess.run(["rm", "-r", "resources"], check=True)
    assert len(states) >= 5
    assert set(states) <= {"not complete", "complete new"}
    assert states[0] == "not complete"
    first = states.index("complete new") if "complete new" in states else len(states)
    assert states == ["not complete"] * first + ["complete new"] * (len(states) - first)


@pytest.mark.local(reason="the kills are between the steps of the operating system")
def test_a_rerun_killed_before_any_of_its_changes_leaves_the_old_the_new_or_none(killing: Project) -> None:
    states: list[str] = []
    while True:
        subprocess.run(["rm", "-rf", "resources"], check=True)
        assert killing.python("killed.py", environment={"WORD": "old"}).code == 0
        if not killed(killing, len(states), "rerun"):
            break
        states.append(state(killing))
        assert killing.python("killed.py", environment={"WORD": "repaired"}).code == 0
        assert state(killing).startswith("complete ")
    assert len(states) >= 5
    order = {"complete old": 0, "not complete": 1, "complete new": 2}
    assert [order[s] for s in states] == sorted(order[s] for s in states), states
    assert states[0] == "complete old"
    assert "not complete" in states


SLOW = """\
import os, pathlib, time
import kart_core as kart

class First(kart.TaskOnKart[int]):
    def run(self):
        pathlib.Path("first").open("a").write("x")
        return 1

class Slow(kart.TaskOnKart[str]):
    first: First = First()

    def run(self):
        self.dump("half" * (1 << 20))
        pathlib.Path("running").touch()
        if "WAIT" in os.environ:
            time.sleep(600)
        self.dump("whole")

if __name__ == "__main__":
    kart.build(Slow(), rerun="RERUN" in os.environ)
"""


def kill_while_it_runs(project: Project, **environment: str) -> None:
    Path("running").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "slow.py"], env={**os.environ, "WAIT": "1", **environment})
    try:
        while not Path("running").exists():
            assert process.poll() is None, "it ended before it ran the task"
            time.sleep(0.005)
    finally:
        process.kill()
        assert process.wait(60) == -signal.SIGKILL


def test_a_task_killed_while_it_runs_is_not_complete_and_what_it_needed_is_kept(project: Project) -> None:
    project.write("slow.py", SLOW)
    project.write("kart.toml", "[leases]\nexpiry = 4\nrenew_every = 1\n")  # the dead one's is waited for
    kill_while_it_runs(project)
    look = "import slow; print(slow.Slow().complete(), slow.First().complete())"
    assert project.python("-c", look).out.split() == ["False", "True"]
    assert project.python("slow.py").code == 0
    assert Path("first").read_text() == "x", "what was finished before the kill does not run again"
    assert project.python("-c", "import slow; t = slow.Slow(); print(t.load(t))").out.strip() == "whole"


def test_a_rerun_killed_while_it_runs_leaves_the_old_result(project: Project, workspace: Files) -> None:
    project.write("slow.py", SLOW)
    assert project.python("slow.py").code == 0
    before = {path: workspace.read(path) for path in workspace.results()}
    kill_while_it_runs(project, RERUN="1")
    assert {path: workspace.read(path) for path in workspace.results() if "/." not in path} == before
    assert project.python("-c", "import slow; t = slow.Slow(); print(t.complete(), t.load(t))").out.split() == [
        "True",
        "whole",
    ]


def test_a_build_killed_between_two_tasks_goes_on_after_those_that_are_done(project: Project) -> None:
    source = (
        "import os, pathlib, signal\nimport kart_core as kart\n"
        "class Step(kart.TaskOnKart[int]):\n    i: int\n    before: 'Step | None' = None\n"
        "    def run(self):\n        pathlib.Path('ran').open('a').write(f'{self.i} ')\n        return self.i\n"
        "def task():\n    step = None\n    for i in range(5):\n        step = Step(i=i, before=step)\n    return step\n"
        "def listen(event):\n    if event.kind == 'task_finished':\n"
        "        if pathlib.Path('ran').read_text().split()[-1] == '2': os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n    from kart_core.building import execute\n"
        "    execute(task(), listen=[listen] if 'KILL' in os.environ else [])\n"
    )
    project.write("steps.py", source)
    assert project.python("steps.py", environment={"KILL": "1"}).code == -signal.SIGKILL
    assert project.python("steps.py").code == 0
    assert Path("ran").read_text().split() == ["0", "1", "2", "3", "4"]


@pytest.mark.local(reason="the kills are between the steps of the operating system")
def test_files_that_a_kill_left_are_no_results(killing: Project) -> None:
    left = 0
    while killed(killing, left):
        left += 1
        for record in kart.results("killed.Pair"):
            assert len(record.outputs) == 2
        listed = list(Path("resources").rglob("*.tmp"))
        assert all(p.name.startswith(".") for p in listed), "what is being written starts with a dot"
    assert state(killing) == "complete new"


# --- a second process

RENEWS = """\
import os, sys
import kart_core as kart

class Pair(kart.TaskOnKart[list[str]]):
    def output(self):
        return [self.make_target("small.txt"), self.make_target("large.txt")]

    def run(self):
        word = os.environ["WORD"]
        return [word, word * 100]

if __name__ == "__main__":
    for i in range(int(sys.argv[1])):
        os.environ["WORD"] = str(i)
        kart.build(Pair(), return_value=False, rerun=True)
"""


def test_a_reader_sees_the_old_result_or_the_new_one_or_none_and_never_a_mixture(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = 8 if STORE_AT else 300
    project.write("renews.py", RENEWS)
    monkeypatch.syspath_prepend(project.folder)
    assert project.python("renews.py", "1").code == 0
    import renews  # type: ignore[import-not-found]

    task = renews.Pair()
    process = subprocess.Popen([sys.executable, "renews.py", str(times)])
    seen, none = set(), 0
    try:
        while process.poll() is None:
            try:
                small, large = task.load(task)
            except kart.MissingDataError:
                none += 1
                continue
            assert large == small * 100
            seen.add(small)
    finally:
        process.kill()
        process.wait(60)
    assert process.returncode == 0
    assert task.load(task)[0] == str(times - 1)
    assert len(seen) > 1


def test_a_result_is_read_by_a_second_process_which_runs_nothing(pipeline: Project, workspace: Files) -> None:
    assert pipeline.python("pipeline.py", "Total", "--Numbers-n", "5").code == 0
    before = workspace.snapshot()
    code = (
        "import pipeline, kart_core as kart\nfrom kart_core.building import execute\n"
        "task = pipeline.Total(numbers=pipeline.Numbers(n=5))\n"
        "print(kart.build(task), sum(kart.build(task.numbers)), len(execute(task).ran), task.task_log)"
    )
    done = pipeline.python("-c", code)
    assert done.code == 0, done.err
    total, numbers, ran, log = done.out.split()
    assert (total == numbers, ran, log) == (True, "0", "{}")
    assert workspace.snapshot() == before


def test_a_result_that_another_process_renewed_is_read_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("renews.py", RENEWS)
    monkeypatch.syspath_prepend(project.folder)
    monkeypatch.setenv("WORD", "here")
    import renews  # type: ignore[import-not-found]

    assert kart.build(renews.Pair())[0] == "here"
    assert project.python("renews.py", "3").code == 0
    assert kart.build(renews.Pair())[0] == "2"
    assert project.python("renews.py", "2").code == 0
    assert next(Number(i=1).load_generator(renews.Pair())) == "1"
    assert project.python("renews.py", "3").code == 0
    assert Number(i=1).load(renews.Pair().output()[0]) == "2"


def test_two_processes_that_build_the_same_at_once_both_end_well(pipeline: Project) -> None:
    commands = [[sys.executable, "pipeline.py", "Total", "--Numbers-n", str(5 + i // 3)] for i in range(6)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    ends = [(process.communicate(timeout=60)[0], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0] * 6, ends
    code = "import pipeline; t = pipeline.Total(numbers=pipeline.Numbers(n=5)); print(t.complete(), t.load(t) >= 0)"
    assert pipeline.python("-c", code).out.split() == ["True", "True"]


def test_builds_in_several_threads_of_one_process_end_well() -> None:
    ends: list[Any] = []

    def build(i: int) -> None:
        ends.append(kart.build(Sum(numbers=tuple(Number(i=j) for j in range(i, i + 5)))))

    threads = [threading.Thread(target=build, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ends) == [10, 15, 20, 25]


def test_an_event_is_plain_and_frozen() -> None:
    heard: list[Event] = []
    execute(Number(i=1), listen=[heard.append])
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        heard[0].kind = "other"  # type: ignore[misc,assignment]
