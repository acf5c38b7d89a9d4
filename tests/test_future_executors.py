"""Executors that give futures: everything is as inline, on workers that an engine chooses."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import kart_core as kart
from kart_core.building import RunReport, execute
from kart_core.execution import futures
from kart_core.execution.leases import leases
from kart_core.workspace import open_workspace
from tests.future_sessions import Futures, Pools, wait_for

PIPE = """\
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import kart_core as kart


def ran(name):
    with open("ran.txt", "a") as file:
        file.write(f"{name} {os.getpid()}\\n")


class Leaf(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        ran(f"leaf{self.i}")
        return random.randint(0, 10**6) + self.i


class Total(kart.TaskOnKart[int]):
    leaves: tuple[Leaf, ...]

    def run(self) -> int:
        return sum(self.load(self.leaves))


class ByName(kart.TaskOnKart[int]):
    n: int

    def requires(self):
        if os.environ.get("TEST_WORKER_ASKED") and os.getpid() != int(os.environ["TEST_WORKER_ASKED"]):
            raise AssertionError("requires() was called in a worker")
        return {"leaves": [Leaf(i=i) for i in range(self.n)], "first": Leaf(i=0)}

    def run(self) -> int:
        return sum(self.load("leaves")) - self.load("first")


class Deep(kart.TaskOnKart[int]):
    before: "Deep | None" = None

    def run(self) -> int:
        return 1 if self.before is None else 1 + self.load(self.before)


class Link(kart.TaskOnKart[int]):
    i: int
    before: "Link | None" = None
    bad: int = -1

    def run(self) -> int:
        if self.i == self.bad:
            ran(f"bad{self.i}")
            raise ValueError("no luck")
        ran("link")
        return self.i + (0 if self.before is None else self.load(self.before))


class Fibonacci(kart.TaskOnKart[int]):
    i: int

    def requires(self):
        return [Fibonacci(i=self.i - 1), Fibonacci(i=self.i - 2)] if self.i > 1 else []

    def run(self) -> int:
        return sum(self.load()) if self.i > 1 else self.i


class Rung(kart.TaskOnKart[int]):
    side: int
    below: tuple["Rung", ...] = ()

    def run(self) -> int:
        return (self.side + sum(self.load(self.below))) % 1000


class FailsOrKills(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        if self.i == 3:
            raise ValueError("no luck")
        if self.i == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.i


def speak(i):
    print(f"child {i} prints")
    return i


class Forks(kart.TaskOnKart[int]):
    def run(self) -> int:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return sum(pool.map(speak, range(20)))


class ForksAndIsKilled(kart.TaskOnKart[int]):
    def run(self) -> int:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


class AsksForNothing(kart.TaskOnKart[str]):
    def run(self):
        try:
            yield 5
        except kart.GraphError as error:
            got = yield Leaf(i=1)
            return f"{type(error).__name__} {got}"


class WaitsAndCloses(kart.TaskOnKart[int]):
    def run(self):
        ran("waits")
        yield Slow()
        ran("goes-on")
        return 1


class Slow(kart.TaskOnKart[int]):
    def run(self) -> int:
        ran("slow")
        time.sleep(1.5)
        return 1


class Killed(kart.TaskOnKart[int], retries=1):
    times: int = 1

    def run(self) -> int:
        ran("killed")
        if Path("ran.txt").read_text().count("killed") <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7


class KilledForGood(Killed, retries=0):
    pass


class Sleeps(kart.TaskOnKart[int], timeout=1.0):
    seconds: float

    def run(self) -> int:
        print("in a process of its own")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path("child.txt").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(self.seconds)
        child.kill()
        child.wait()
        return 1


class Chatty(kart.TaskOnKart[int]):
    def run(self) -> int:
        print("printed by the task")
        print("told as an error", file=sys.stderr)
        logging.getLogger("pipe").warning("logged %s", "by the task", extra={"shoe": 44})
        logging.getLogger("pipe").debug("not shown")
        return 1


class Grow(kart.TaskOnKart[float]):
    n: int
    depth: int = 2

    def run(self):
        ran(f"grow{self.n}")
        if self.depth == 0:
            return self.n
        first = random.random()
        got = yield [Grow(n=self.n * 3 + k, depth=self.depth - 1) for k in range(3)]
        again = yield {"one": Leaf(i=self.n)}
        return sum(got) + again["one"] + random.random() + first


class GrowsWithin(kart.TaskOnKart[float], timeout=30):
    def run(self):
        first = random.random()
        got = yield [Leaf(i=1), Leaf(i=2)]
        return sum(got) + random.random() + first


class Fails(kart.TaskOnKart[int]):
    def run(self) -> int:
        raise ValueError("no luck")


class AsksForFailure(kart.TaskOnKart[str]):
    def run(self):
        try:
            yield [Fails(), Leaf(i=1)]
        except kart.BuildError as error:
            return f"{type(next(iter(error.failures.values()))).__name__}"


class AsksAndDies(kart.TaskOnKart[int], retries=1):
    def run(self):
        ran("asks")
        me = os.getpid()
        yield Leaf(i=5)
        if Path("ran.txt").read_text().count("asks") == 1:
            os.kill(me, signal.SIGKILL)
        return 3


def is_renewed(task):
    "Whether a lease is renewed while its task waits for others."
    path = Path("resources/.kart/leases", task.unique_id)
    seen, end = set(), time.monotonic() + 20
    while len(seen) < 4 and time.monotonic() < end:
        time.sleep(0.02)
        seen.add(path.stat().st_mtime_ns)
    return len(seen) == 4


class There(kart.TaskOnKart[int]):
    def run(self) -> int:
        return 1


class AsksThere(kart.TaskOnKart[int]):
    def run(self):
        return (yield There())


class Behind(kart.TaskOnKart[bool]):
    "What goes on beside it waits until it has ended."

    def run(self) -> bool:
        while not Path("beside.txt").exists():
            time.sleep(0.02)
        return is_renewed(AsksThere())


class InOnePiece(kart.TaskOnKart[bool]):
    i: int

    def requires(self):
        return InOnePiece(i=0) if self.i else ()

    def run(self):
        if self.i == 1:
            yield There()
        return is_renewed(InOnePiece(i=1)) if self.i == 2 else True


class AsksForSecretive(kart.TaskOnKart[int]):
    def run(self):
        return (yield Secretive())


class Cancelled(kart.TaskOnKart[int]):
    def run(self) -> int:
        import asyncio

        raise asyncio.CancelledError("in a coroutine")


class AsksLate(kart.TaskOnKart[int]):
    def run(self):
        Path("begun").touch()
        time.sleep(0.6)
        got = yield Leaf(i=1)
        return got


class AsksForNothingWithin(kart.TaskOnKart[int], timeout=100):
    def run(self):
        first = yield []
        second = yield {}
        return len(first) + len(second)


class AsksForSecretiveWithin(AsksForSecretive, timeout=100):
    pass


class Secretive(kart.TaskOnKart[int]):
    word: kart.Secret = kart.parameter(significant=False)

    def run(self) -> int:
        return len(self.word.reveal())
"""


@pytest.fixture
def pipe(project: Any) -> Any:
    """The module of these tests' tasks, in a project."""
    project.write("pipe.py", PIPE)
    sys.path.insert(0, str(project.folder))
    importlib.invalidate_caches()
    return importlib.import_module("pipe")


def build(*tasks: kart.TaskOnKart[Any], **settings: Any) -> Any:
    """Builds on the engine."""
    return kart.build(*tasks, executor="futures", workers=2, plugins=[Futures], **settings)


def run(*tasks: kart.TaskOnKart[Any], executor: str = "futures", **settings: Any) -> RunReport:
    return execute(*tasks, executor=executor, workers=2, plugins=[Futures], **settings)


def _ran() -> list[str]:
    path = Path("ran.txt")
    return sorted(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else []


def test_what_an_engine_makes_is_what_one_process_makes(pipe: Any) -> None:
    total = pipe.Total(leaves=tuple(pipe.Leaf(i=i) for i in range(20)))
    inline = kart.build(total, workspace_directory="inline")
    Path("ran.txt").unlink()
    assert build(total) == inline
    processes = {line.split()[1] for line in Path("ran.txt").read_text().splitlines()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    here, there = kart.record(total, workspace_directory="inline"), kart.record(total)
    assert (here.task, here.unique_id, here.outputs, here.parameters, here.seed, here.code, here.versions) == (
        there.task,
        there.unique_id,
        there.outputs,
        there.parameters,
        there.seed,
        there.code,
        there.versions,
    )


def test_a_second_run_opens_no_worker(pipe: Any) -> None:
    build(pipe.Leaf(i=1))
    report = run(pipe.Leaf(i=1))
    assert (_ran(), len(report.ran), len(report.reused)) == (["leaf1"], 0, 1)


def test_nothing_is_left_in_the_workspace_by_which_workers_knew_it(pipe: Any) -> None:
    build(pipe.Leaf(i=1))
    assert [path.suffix for path in Path("resources/.kart/runs").iterdir()] == [".jsonl"]


def test_nothing_is_left_beside_leases(pipe: Any) -> None:
    assert not run(pipe.Leaf(i=1), pipe.WaitsAndCloses(), should_lock_run=True).failures
    assert list(Path("resources/.kart/leases").rglob("*")) == []


def test_requires_is_not_called_in_a_worker(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_WORKER_ASKED", str(os.getpid()))
    inline = kart.build(pipe.ByName(n=4), workspace_directory="inline")
    assert build(pipe.ByName(n=4)) == inline


def test_a_long_chain_travels_as_small_pieces(pipe: Any) -> None:
    task = None
    for _ in range(600):
        task = pipe.Deep(before=task)
    assert build(task) == 600


def chain(pipe: Any, length: int, **values: Any) -> Any:
    task = None
    for i in range(length):
        task = pipe.Link(i=i, before=task, **values)
    return task


def test_the_links_of_a_chain_go_together(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[str] = []
    submit = Pools.submit

    def counted(self: Any, *args: Any, demand: Any) -> Any:
        submitted.append(demand.name)
        return submit(self, *args, demand=demand)

    monkeypatch.setattr(Pools, "submit", counted)
    assert build(chain(pipe, 300)) == sum(range(300))
    assert _ran() == ["link"] * 300
    assert len(submitted) < 60
    submitted.clear()
    inline = kart.build(pipe.Fibonacci(i=200), workspace_directory="inline")
    assert build(pipe.Fibonacci(i=200)) == inline
    assert len(submitted) < 60


def test_short_tasks_of_a_narrow_graph_go_together(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ladder: at every step two tasks that each need both of the step before."""
    submitted: list[str] = []
    submit = Pools.submit

    def counted(self: Any, *args: Any, demand: Any) -> Any:
        submitted.append(demand.name)
        return submit(self, *args, demand=demand)

    monkeypatch.setattr(Pools, "submit", counted)
    monkeypatch.setattr(futures, "NEAR", 1.0)  # however slow the machine is
    step: tuple[Any, ...] = ()
    for _ in range(100):
        step = tuple(pipe.Rung(side=side, below=step) for side in (1, 2))
    inline = kart.build(*step, workspace_directory="inline")
    assert build(*step) == inline
    assert len(submitted) < 100


def test_a_task_with_a_timeout_may_ask_for_nothing(pipe: Any) -> None:
    assert build(pipe.AsksForNothingWithin()) == 0


def test_behind_a_link_that_fails_no_other_runs(pipe: Any) -> None:
    task = chain(pipe, 60, bad=40)
    report = run(task, pipe.Leaf(i=1))
    assert [str(error) for error in report.failures.values()] == ["no luck"]
    assert (len(report.ran), len(report.blocked)) == (41, 19)
    assert _ran() == ["bad40", "leaf1", *["link"] * 40]


def test_a_failure_is_told_before_another_task_can_take_the_process_with_it(pipe: Any) -> None:
    for executor in ("futures", "mute"):
        tasks = [pipe.FailsOrKills(i=i) for i in range(8)]
        report = run(*tasks, executor=executor, workspace_directory=executor)
        told = {task.i: str(error) for task, error in report.failures.items()}
        assert told.keys() == {3, 4}
        assert told[3] == "no luck"
        assert "SIGKILL" in told[4]


def test_a_task_may_fork(pipe: Any) -> None:
    assert build(pipe.Forks()) == sum(range(20))


def test_the_end_of_a_process_is_heard_also_while_what_it_forked_lives(pipe: Any) -> None:
    (error,) = run(pipe.ForksAndIsKilled()).failures.values()
    assert "SIGKILL" in str(error)


def test_who_yields_no_task_is_told_where_it_yielded(pipe: Any) -> None:
    assert str(build(pipe.AsksForNothing())).startswith("GraphError ")


def test_a_task_that_waits_for_others_keeps_its_lease(pipe: Any) -> None:
    from kart_core.execution.leases import leases
    from kart_core.workspace import open_workspace

    def other() -> None:
        wait_for(Path("ran.txt"))
        while "slow" not in Path("ran.txt").read_text():
            time.sleep(0.02)
        held.extend(lease.holder.task for lease in leases(open_workspace("resources")))
        reports.append(subprocess.run([sys.executable, "-c", OTHER], check=False))

    held: list[str] = []
    reports: list[Any] = []
    beside = threading.Thread(target=other)
    beside.start()
    report = run(pipe.WaitsAndCloses(), should_lock_run=True)
    beside.join()
    assert not report.failures
    assert reports[0].returncode == 0
    assert sorted(held) == ["pipe.Slow", "pipe.WaitsAndCloses"]
    assert _ran() == ["goes-on", "slow", "waits"]
    assert not leases(open_workspace("resources"))


@pytest.mark.parametrize("executor", ["directed", "mute"])
def test_the_lease_of_a_task_that_waits_is_renewed_however_long_its_worker_is_busy(
    pipe: Any, project: Any, executor: str
) -> None:
    from kart_core import config

    project.write("kart.toml", '[leases]\nrenew_every = "0.1s"\n')
    config.load_default()
    if executor == "directed":
        tasks = (pipe.AsksThere(), pipe.Behind())
    else:  # whoever asks and who runs after it are of one piece, and nothing is told before its end
        tasks = (pipe.InOnePiece(i=1), pipe.InOnePiece(i=2))
    workers = 2 if executor == "directed" else 1
    given = {"executor": executor, "workers": workers, "plugins": [Futures], "should_lock_run": True}
    report = execute(*tasks, **given)
    assert not report.failures
    assert kart.build(tasks[1], **given) is True


def test_a_process_that_holds_a_task_is_kept_as_long_as_the_run(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kart_core.execution import outfit

    monkeypatch.setattr(outfit, "HOLD", 0.5)
    assert build(pipe.WaitsAndCloses()) == 1
    assert _ran() == ["goes-on", "slow", "waits"]


OTHER = "import kart_core as kart, pipe; kart.build(pipe.WaitsAndCloses(), should_lock_run=True)"


def test_a_task_that_yields_while_its_run_ends_leaves_no_lease(pipe: Any) -> None:
    def interrupt() -> None:
        while not Path("begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    report = run(pipe.AsksLate())
    interrupting.join()
    assert report.interrupted
    assert leases(open_workspace("resources")) == []


def test_what_has_run_counts_as_run_though_an_interrupt_took_its_news(pipe: Any) -> None:
    def interrupt() -> None:
        while len(list(Path("resources").rglob("*.json"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    report = run(*(pipe.Leaf(i=i) for i in range(2)), executor="silent")
    interrupting.join()
    assert report.interrupted
    assert sorted(task.i for task in report.ran) == [0, 1]
    assert report.unfinished == []


def test_a_killed_worker_costs_its_task_one_try_and_nobody_else(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    leaves = [pipe.Leaf(i=i) for i in range(8)]
    report = run(pipe.Killed(), *leaves)
    assert not report.failures
    assert _ran().count("killed") == 2
    assert "tried again" in caplog.text


def test_an_engine_that_carries_no_messages_does_the_same(pipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(pipe.Grow(n=1), pipe.Killed(), pipe.Chatty(), executor="mute")
    assert not report.failures
    assert "printed by the task\n" in capsys.readouterr().out


def test_a_worker_killed_for_good_is_the_failure_of_its_task_alone(pipe: Any) -> None:
    leaves = [pipe.Leaf(i=i) for i in range(8)]
    task = pipe.KilledForGood(times=9)
    report = run(task, *leaves)
    assert list(report.failures) == [task]
    assert "is gone" in str(report.failures[task])
    assert len(report.ran) == 8


def test_a_task_beyond_its_timeout_is_stopped_and_the_worker_lives_on(
    pipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task, leaf = pipe.Sleeps(seconds=30.0), pipe.Leaf(i=1)
    report = run(task, leaf)
    assert isinstance(report.failures.pop(task), TimeoutError)
    assert not report.failures
    assert [type(one) for one in report.ran] == [pipe.Leaf]
    assert capsys.readouterr().out == "in a process of its own\n"
    assert kart.build(pipe.Sleeps(seconds=0.01), executor="futures", plugins=[Futures]) == 1


def test_what_tasks_log_and_print_reaches_the_users_handlers(
    pipe: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "pipe"):
        build(pipe.Chatty())
    (record,) = [record for record in caplog.records if record.name == "pipe"]
    assert record.getMessage() == "pipe.Chatty: logged by the task"
    assert (record.__dict__["kart_task"], record.__dict__["shoe"]) == ("pipe.Chatty", 44)
    shown = capsys.readouterr()
    assert "printed by the task\n" in shown.out
    assert "told as an error\n" in shown.err


def test_tasks_that_grow_are_held_where_they_began_and_go_on_there(pipe: Any) -> None:
    inline = kart.build(pipe.Grow(n=1), workspace_directory="inline")
    once = _ran()
    Path("ran.txt").unlink()
    assert build(pipe.Grow(n=1)) == inline
    assert _ran() == once
    here, there = kart.record(pipe.Grow(n=1), workspace_directory="inline"), kart.record(pipe.Grow(n=1))
    assert {one.unique_id for one in here.requirements} == {one.unique_id for one in there.requirements}
    assert not run(pipe.Grow(n=1)).ran


def test_a_task_with_a_timeout_may_grow(pipe: Any) -> None:
    inline = kart.build(pipe.GrowsWithin(), workspace_directory="inline")
    assert build(pipe.GrowsWithin()) == inline


def test_a_failure_of_what_a_task_asked_for_is_raised_where_it_asked(pipe: Any) -> None:
    assert build(pipe.AsksForFailure()) == "ValueError"


def test_a_held_task_whose_worker_is_gone_has_failed_this_try(pipe: Any) -> None:
    assert build(pipe.AsksAndDies()) == 3
    assert _ran().count("asks") == 2


def test_what_a_worker_says_is_stored_must_be_there(pipe: Any) -> None:
    report = run(pipe.Leaf(i=1), executor="forgetful")
    (error,) = report.failures.values()
    assert isinstance(error, kart.StorageError)
    assert "says that it has stored" in str(error)
    assert report.exit_code == 70


@pytest.mark.parametrize("locked", [False, True])
def test_an_old_record_that_storage_still_shows_is_not_taken_for_the_new_one(pipe: Any, locked: bool) -> None:
    kart.build(pipe.Leaf(i=1))
    before = kart.record(pipe.Leaf(i=1)).attempt
    report = run(pipe.Leaf(i=1, rerun=True), executor="late", should_lock_run=locked)
    assert not report.failures
    assert kart.record(pipe.Leaf(i=1)).attempt != before


def test_memory_cannot_be_shared_with_an_engine(pipe: Any) -> None:
    with pytest.raises(kart.ConfigError, match="memory://"):
        build(pipe.Leaf(i=1), workspace_directory="memory://x")


def test_a_secret_is_found_by_the_worker_and_does_not_travel(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kart_core import config
    from kart_core.execution.outfit import outfit

    monkeypatch.setenv("KART_SECRETIVE__WORD", "swordfish")
    config.refresh()
    assert b"swordfish" not in outfit("r", {}, False, None).packed()
    assert build(pipe.AsksForSecretive()) == 9
    assert build(pipe.AsksForSecretiveWithin()) == 9
    assert build(pipe.Secretive()) == 9


def test_nothing_is_told_of_classes_that_are_not_imported(
    pipe: Any, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kart_core import config
    from kart_core.execution.outfit import opened, outfit

    project.write("kart.toml", '[Elsewhere]\nword = "swordfish"\n[Leaf]\ni = 7\n[Secretive]\nword = "halibut"\n')
    monkeypatch.setenv("KART_ELSEWHERE__OTHER", "sturgeon")
    config.load_default()
    packed = outfit("r", {}, False, None).packed()
    assert not any(word in packed for word in (b"swordfish", b"sturgeon", b"halibut"))
    Path("kart.toml").unlink()  # as for a worker on another machine
    _, there, _ = opened(packed, "there")
    assert there.find(["Leaf"], "i").value == 7  # type: ignore[union-attr]
    with pytest.raises(kart.ConfigError, match=r"\[Elsewhere\] word.*CLASSES_THAT_ARE_IMPORTED_WHERE_THE_RUN"):
        there.find(["Elsewhere"], "word")


INLINE = """\
import sys
import kart_core as kart

import pipe

kart.build(pipe.Total(leaves=(pipe.Leaf(i=1),)))
kart.build(pipe.Grow(n=1))
of_engines = ("futures", "ledger", "outfit", "piece", "apart", "aside", "turns", "leases", "pool")
print([name for name in of_engines if f"kart_core.execution.{name}" in sys.modules])
"""


def test_a_run_in_one_process_imports_nothing_of_it(pipe: Any, project: Any) -> None:
    project.write("inline.py", INLINE)
    done = project.python("inline.py")
    assert done.out == "[]\n", done.err


def test_a_cancelled_coroutine_is_the_failure_of_its_task_alone(pipe: Any) -> None:
    report = run(pipe.Cancelled(), pipe.Leaf(i=1))
    assert [type(error).__name__ for error in report.failures.values()] == ["CancelledError"]
    assert [task.i for task in report.ran] == [1]
