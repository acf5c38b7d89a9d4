"""What runs again and what is reused.

Looking changes nothing, and a result is the old or the new one, never a mixture.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kart_core as kart
from tests.traces import IN_PROCESSES, STORE_AT, note, noted

if TYPE_CHECKING:
    from tests.conftest import Files, Project


class Noted(kart.TaskOnKart[str]):
    """Notes that it ran."""

    def run(self) -> str:
        name = type(self).__name__
        note(name)
        return name


class A(Noted):
    pass


class B(Noted):
    a: A


class C(Noted):
    b: B


class Apart(Noted):
    pass


class Both(Noted):
    c: C
    apart: Apart


class Numbered(kart.TaskOnKart[int]):
    """One of many, each with its own number."""

    i: int
    upstream: tuple[Any, ...] = ()

    def run(self) -> int:
        note(self.i)
        return self.i


def chain(**rerun: bool) -> C:
    """A → B → C, some of them set to rerun."""
    given = {name: {"rerun": True} if rerun.get(name) else {} for name in "abc"}
    return C(b=B(a=A(**given["a"]), **given["b"]), **given["c"])


def ran(*tasks: Any, **asked: Any) -> str:
    """What a build ran, in order."""
    noted()
    kart.build(*tasks, return_value=False, **asked)
    return " ".join(noted())


@pytest.fixture(autouse=True)
def stored(project: Any) -> None:
    """Everything is stored."""
    kart.build(Both(c=chain(), apart=Apart()), return_value=False)


# --- which tasks run


def test_with_everything_stored_nothing_runs() -> None:
    assert ran(chain()) == ""


def test_a_rerun_two_steps_above_the_task_that_is_asked_for_runs_nothing() -> None:
    assert ran(chain(a=True)) == ""


def test_a_rerun_one_step_above_runs_it_and_the_task_that_is_asked_for() -> None:
    assert ran(chain(b=True)) == "B C"


def test_a_rerun_of_the_task_that_is_asked_for_runs_it_alone() -> None:
    assert ran(chain(c=True)) == "C"


def test_reruns_of_all_run_all_in_order() -> None:
    assert ran(chain(a=True, b=True, c=True)) == "A B C"


def test_a_rerun_two_above_runs_where_the_task_between_must_run(workspace: Files) -> None:
    assert ran(chain(a=True, b=True)) == "A B C"
    workspace.remove(chain().b.output().path)
    assert ran(chain(a=True)) == "", "C is stored, and so it is not asked what it requires"
    assert ran(chain(a=True).b) == "A B"


def test_asking_twice_in_one_process_runs_twice() -> None:
    task = chain(b=True)
    assert [ran(task), ran(task), ran(chain(b=True))] == ["B C"] * 3


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_tasks_in_one_graph_one_that_is_set_to_rerun_is_enough(order: int) -> None:
    assert ran(*[chain().b, B(a=A(), rerun=True)][::order]) == "B"
    assert ran(*[chain(), B(a=A(), rerun=True)][::order]) == "B C", (
        "C requires B, which is set to rerun, whoever says so"
    )
    assert ran(*[chain().b, chain(b=True)][::order]) == "B C"
    assert ran(*[chain(), chain().b.a, chain(a=True).b][::order]) == "A B"


def test_rerun_given_to_the_build_means_the_roots() -> None:
    assert ran(chain(), rerun=True) == "C"
    assert ran(chain(), Apart(), rerun=True).split() in (["C", "Apart"], ["Apart", "C"])


def test_rerun_in_the_configuration_means_every_task_of_the_class(project: Any) -> None:
    project.write("kart.toml", "[B]\nrerun = true\n")
    assert ran(chain()) == "B C"
    assert ran(C(b=B(a=A(), rerun=False))) == "", "the constructor goes before"


def test_rerun_as_a_default_of_the_class_runs_it_each_time() -> None:
    class Fresh(Noted):
        rerun: bool = True

    assert [ran(Fresh()), ran(Fresh())] == ["Fresh", "Fresh"]


def test_rerun_from_runs_the_named_task_and_all_that_depends_on_it() -> None:
    assert ran(chain(), rerun_from=["A"]) == "A B C"
    assert ran(chain(), rerun_from=["B"]) == "B C"
    assert ran(chain(), rerun_from=[f"{A.__module__}.A"]) == "A B C"
    assert ran(Both(c=chain(), apart=Apart()), rerun_from=["B"]) == "B C Both", "what does not depend on it is reused"


def test_rerun_from_a_name_that_is_no_task_of_the_run_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(kart.ParameterError) as failed:
        kart.build(chain(), rerun_from=["D"])
    assert all(fact in str(failed.value) for fact in ("'D'", "A, B, C"))


def test_rerun_from_on_the_command_line(pipeline: Any) -> None:
    def attempts() -> list[str]:
        return [kart.results(name)[0].attempt for name in ("pipeline.Numbers", "pipeline.Total")]

    assert pipeline.kart("run", "pipeline:Total").code == 0
    before = attempts()
    assert pipeline.kart("run", "pipeline:Total", "--rerun-from", "Numbers").code == 0
    assert not {*before} & {*attempts()}


@pytest.mark.parametrize("gone", ["result", "record"])
def test_a_task_runs_whose_result_or_record_is_missing(gone: str, workspace: Files) -> None:
    task = chain()
    workspace.remove(workspace.record_of(task) if gone == "record" else task.output().path)
    assert not task.complete()
    assert ran(task) == "C"


def test_requirements_are_looked_at_only_for_tasks_that_must_run(workspace: Files) -> None:
    workspace.remove(chain().b.a.output().path)
    assert ran(chain()) == ""
    assert ran(chain(), rerun=True) == "C"
    assert ran(chain(b=True)) == "A B C"


@st.composite
def graphs(draw: Any) -> tuple[list[list[int]], list[bool], list[bool], list[int]]:
    """Some numbered tasks: what each requires, whether it reruns, whether it is missing, and which are asked for."""
    size = draw(st.integers(1, 7))
    upstream = [draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else [] for i in range(size)]
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    roots = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3, unique=True))
    return upstream, draw(flags), draw(flags), roots


def must_run(
    upstream: Sequence[Sequence[int]], rerun: Sequence[bool], missing: Sequence[bool], roots: Sequence[int]
) -> set[int]:
    """The rule of the design, word for word."""
    looked_at: set[int] = set()
    run: set[int] = set()
    pending = list(roots)
    while pending:
        i = pending.pop()
        if i in looked_at:
            continue
        looked_at.add(i)
        if missing[i] or rerun[i] or any(rerun[j] for j in upstream[i]):
            run.add(i)
            pending.extend(upstream[i])
    return run


@settings(
    deadline=None,
    max_examples=10 if IN_PROCESSES or STORE_AT else 60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has a workspace of its own
)
@given(graphs())
def test_of_any_graph_exactly_those_run_that_the_rule_names(workspace: Files, graph: Any) -> None:
    upstream, rerun, missing, roots = graph

    def made(rerun: Sequence[bool]) -> list[Numbered]:
        tasks: list[Numbered] = []
        for i, needed in enumerate(upstream):
            given = {"rerun": True} if rerun[i] else {}
            tasks.append(Numbered(i=i, upstream=tuple(tasks[j] for j in needed), **given))
        return tasks

    new = workspace.beside(uuid.uuid4().hex)
    plain = made([False] * len(rerun))
    kart.build(*plain, return_value=False, workspace_directory=new.url)
    for task, gone in zip(plain, missing, strict=True):
        if gone:
            [path] = [path for path in new.results() if task.unique_id in path]
            new.remove(path)
    asked = [made(rerun)[i] for i in roots]
    expected = must_run(upstream, rerun, missing, roots)
    plan = kart.plan(*asked, workspace_directory=new.url)
    assert {node.task.i for node in plan.to_run} == expected
    assert {int(i) for i in ran(*asked, workspace_directory=new.url).split()} == expected


# --- looking


def test_looking_never_changes_a_byte(workspace: Files) -> None:
    workspace.remove(chain().b.a.output().path)
    before = workspace.snapshot()
    for task in (chain(), chain(a=True, b=True, c=True), chain().b.a, Apart(rerun=True)):
        _ = repr(task), str(kart.plan(task)), task.unique_id, hash(task), task.output(), task.requires(), task.task_log
        _ = kart.plan(task, rerun=True), kart.plan(task, rerun_from=[type(task).__name__])
        _ = task.complete(), task.output().exists()
    _ = kart.record(chain()), kart.results(C), Both(c=chain(), apart=Apart()).load("c")
    assert workspace.snapshot() == before


def test_looking_into_a_workspace_that_is_not_there_makes_none(workspace: Files) -> None:
    nowhere = workspace.beside("nowhere")
    task = C(b=B(a=A()), workspace_directory=nowhere.url)
    _ = repr(task), kart.plan(task), task.complete(), task.output().exists(), task.task_log
    assert kart.plan(chain(), workspace_directory=nowhere.url).to_run
    assert not nowhere.is_there()


def test_looking_on_the_command_line_changes_nothing(pipeline: Any, workspace: Files) -> None:
    assert pipeline.kart("run", "pipeline:Total").code == 0
    before = workspace.snapshot()
    for words in (["plan", "pipeline:Total"], ["plan", "pipeline:Total", "--rerun"], ["config"], ["plugins"]):
        assert pipeline.kart(*words).code == 0
    assert pipeline.kart("show", kart.results("pipeline.Total")[0].unique_id).code == 0
    assert workspace.snapshot() == before


def test_a_build_that_runs_nothing_changes_nothing(workspace: Files) -> None:
    before = workspace.snapshot()
    assert ran(chain()) == ""
    assert workspace.snapshot() == before


def test_complete_says_whether_a_result_is_stored_whatever_rerun_says(workspace: Files) -> None:
    assert chain(a=True, b=True, c=True).complete()
    assert chain(c=True).b.complete()
    assert not Apart(workspace_directory=workspace.beside("nowhere").url, rerun=True).complete()


def test_a_task_that_is_set_to_rerun_still_gives_its_stored_value() -> None:
    assert Both(c=chain(c=True), apart=Apart()).load("c") == "C"


# --- a rerun that fails, or is killed


HOW = Path("how.json")


class Fragile(kart.TaskOnKart[dict[str, int]]):
    """Has two outputs, and fails in the way that the file `HOW` says."""

    def output(self) -> Any:
        return {name: self.make_target(f"{name}.json") for name in ("left", "right")}

    def run(self) -> None:
        way, value = json.loads(HOW.read_text())
        self.dump(value, "left")
        if way == "raises":
            raise ValueError("no")
        if way == "exits":
            raise SystemExit(3)
        if way == "interrupted":
            raise KeyboardInterrupt
        if way == "cannot be stored":
            self.dump({1, 2}, "right")
        if way != "forgets":
            self.dump(value, "right")


INTERRUPTED = pytest.param("interrupted", marks=pytest.mark.inline(reason="it comes in the process that builds"))


@pytest.mark.parametrize("way", ["raises", "exits", INTERRUPTED, "cannot be stored", "forgets"])
def test_a_rerun_that_fails_leaves_the_old_result_as_it_was(way: str, workspace: Files) -> None:
    HOW.write_text(json.dumps(["good", 1]))
    kart.build(Fragile())
    before = {path: seen for path, seen in workspace.snapshot().items() if "/runs" not in path}
    HOW.write_text(json.dumps([way, 2]))
    with pytest.raises((kart.BuildError, KeyboardInterrupt)):
        kart.build(Fragile(rerun=True))
    after = {path: seen for path, seen in workspace.snapshot().items() if "/runs" not in path}
    assert {path: seen[-1] for path, seen in after.items()} == {path: seen[-1] for path, seen in before.items()}
    assert [kept for path, kept in after.items() if kept[-1]] == [kept for path, kept in before.items() if kept[-1]]
    assert Fragile().complete()
    assert kart.build(Fragile()) == {"left": 1, "right": 1}


def test_while_a_rerun_runs_the_old_result_is_there() -> None:
    class Looks(kart.TaskOnKart[list[Any]]):
        def run(self) -> list[Any]:
            seen = [self.complete(), self.output().exists() and kart.record(self).attempt]
            self.dump([])
            return_after_dump = [self.complete(), kart.record(self).attempt] if self.complete() else [False, None]
            self.dump([*seen, *return_after_dump])
            return None  # type: ignore[return-value]

    kart.build(Looks(), return_value=False)
    attempt = kart.record(Looks()).attempt
    assert kart.build(Looks(rerun=True)) == [True, attempt, True, attempt]
    assert kart.record(Looks()).attempt != attempt


PAIR = """\
import os, signal, sys
import kart_core as kart


class Pair(kart.TaskOnKart[tuple[int, int]]):
    value: int = kart.parameter(significant=False)
    moment: int = kart.parameter(default=-1, significant=False)

    def output(self):
        return (self.make_target("left.json"), self.make_target("right.json"))

    def run(self):
        if self.moment >= 0:
            die_at(self.moment)
        return (self.value, self.value)


def die_at(moment):
    '''A real kill of the process that runs the task, at the start of one of the steps that change the file system.'''
    left = [moment]

    def watched(step):
        def do(*words, **named):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return step(*words, **named)
        return do

    for name in ("replace", "rename", "unlink", "remove", "link"):
        setattr(os, name, watched(getattr(os, name)))


if __name__ == "__main__":
    value, moment = map(int, sys.argv[1:])
    kart.build(Pair(value=value, moment=moment, rerun=True))
"""


@pytest.mark.local(reason="the kills are between the steps of the operating system")
def test_a_rerun_that_is_killed_at_any_moment_leaves_the_old_result_the_new_one_or_none(project: Any) -> None:
    project.write("pair.py", PAIR)
    ask = (
        "import kart_core as kart, json, pair; task = pair.Pair(value=0); "
        "print(json.dumps(kart.build(task) if task.complete() else None))"
    )
    found: list[Any] = []
    for moment in range(20):
        assert project.python("pair.py", "1", "-1").code == 0
        code = project.python("pair.py", "2", str(moment)).code
        assert code in (0, 1 if IN_PROCESSES else -signal.SIGKILL)
        done = project.python("-c", ask)
        assert done.code == 0, done.err
        found.append(done.data)
        if code == 0:
            break
    assert all(value in (None, [1, 1], [2, 2]) for value in found), found
    assert found[0] == [1, 1], "killed before it changed anything"
    assert None in found, "killed while its outputs were put in place: not complete"
    assert found[-1] == [2, 2]
    assert project.python("pair.py", "3", "-1").code == 0, "what a kill left is in nobody's way"


READ = """\
import sys, time
import kart_core as kart
import pair

task = pair.Pair(value=0)
reader = pair.Reader(pair=task)
last, seen, end = int(sys.argv[1]), set(), time.monotonic() + 60
while time.monotonic() < end and last not in seen:
    try:
        left, right = reader.load(task)
    except kart.MissingDataError:
        continue
    assert left == right, (left, right)
    seen.add(left)
print(len(seen))
"""


def test_who_reads_while_a_task_reruns_sees_the_old_result_the_new_one_or_none(project: Any) -> None:
    reader_class = "class Reader(kart.TaskOnKart[int]):\n    pair: Pair\n\n\n"
    project.write("pair.py", PAIR.replace("def die_at", reader_class + "def die_at"))
    last = 10 if IN_PROCESSES else 40  # processes are started for each build
    write = (
        "import kart_core as kart, pair, time\n"
        f"for value in range({last + 1}):\n    kart.build(pair.Pair(value=value, rerun=True), return_value=False)\n"
        "    time.sleep(0.01)\n"
    )
    reading = subprocess.Popen(
        [sys.executable, "-c", READ, str(last)],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        done = project.python("-c", write)
        assert done.code == 0, done.err
        out, err = reading.communicate(timeout=60)
    finally:
        reading.kill()
    assert reading.returncode == 0, err
    assert int(out) > 1


def test_the_record_of_a_rerun_names_a_new_attempt_and_what_it_read() -> None:
    before = kart.record(chain())
    assert ran(chain(c=True)) == "C"
    after = kart.record(chain())
    assert after.attempt != before.attempt
    assert json.dumps(after.parameters) == json.dumps(before.parameters)


class Halves(kart.TaskOnKart[dict[str, int]]):
    def output(self) -> dict[str, kart.Target]:
        return {"a": self.make_target("halves/a.pkl"), "b": self.make_target("halves/b.pkl")}

    def run(self) -> dict[str, int]:
        return {"a": time.monotonic_ns(), "b": time.monotonic_ns()}


@pytest.mark.local(reason="a folder stands where a file is to be put")
def test_the_record_goes_first_also_where_a_deleted_output_made_the_task_run() -> None:
    kart.build(Halves())
    record = Path("resources", ".kart/records", f"{__name__}.Halves", f"{Halves().unique_id}.json")
    assert record.exists()
    [path] = Path("resources/halves").glob("b_*.pkl")
    path.unlink()
    path.mkdir()  # where nothing can be put: the run ends while its outputs are put in their places
    with pytest.raises(kart.BuildError):
        kart.build(Halves())
    assert not record.exists()
    path.rmdir()
    assert not Halves().complete()
    assert kart.build(Halves()) == kart.build(Halves())


class Grows(kart.TaskOnKart[bytes]):
    """What it makes fits the first time, and no more later."""

    def run(self) -> bytes:
        return b"x" * (500_000 if Path("full").exists() else 10)


FULL = """\
import resource, sys
import kart_core as kart
from tests.test_rerun import Grows

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # stands for a disk that is full
try:
    kart.build(Grows(), rerun=True)
except kart.BuildError as error:
    print(type(error.failures[Grows()]).__name__)
"""


@pytest.mark.local(reason="it fills a disk")
def test_a_rerun_for_which_there_is_no_room_leaves_the_old_result(project: Project) -> None:
    kart.build(Grows())
    project.write("full", "")
    project.write("full.py", FULL)
    done = project.python("full.py", environment={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.out == "StorageError\n", done.err
    assert Grows().complete()
    assert kart.build(Grows()) == b"x" * 10
