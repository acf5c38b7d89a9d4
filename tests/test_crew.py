"""What happens between the process that builds and its workers when tasks do what nobody expects of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kart_core as kart
from kart_core.building import execute

pytestmark = pytest.mark.inline("says itself how many workers there are")

PIPE = """\
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path

import kart_core as kart


class Step(kart.TaskOnKart[int]):
    i: int
    does: str = ""

    def run(self):
        if self.does == "asks":
            yield Step(i=60)
        elif self.does == "fails":
            raise ValueError("no luck")
        elif self.does == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.does == "ends":
            os._exit(3)
        return self.i


class Other(kart.TaskOnKart[int]):
    i: int
    seconds: float = 0.0

    def run(self) -> int:
        time.sleep(self.seconds)
        return self.i


class SleepsAfterAsking(kart.TaskOnKart[int], timeout=1.0):
    def run(self):
        yield Step(i=1)
        time.sleep(60)
        return 1


class Patient(kart.TaskOnKart[int], timeout=1e9):
    def run(self) -> int:
        return 1


class PrintsForever(kart.TaskOnKart[int], timeout=1.0):
    def run(self) -> int:
        while True:
            print("and on")


class OnGpu(kart.TaskOnKart[int], resources={"gpu": 1}):
    i: int
    below: int = 0

    def run(self):
        self.note("begins")
        if self.below:
            yield OnGpu(i=self.i, below=self.below - 1)
            self.note("goes on")
        time.sleep(0.05)
        self.note("ends")
        return self.i

    def note(self, what):
        with open("gpu.txt", "a") as file:
            file.write(f"{what}\\n")


def speak(i: int) -> int:
    print(f"child {i} prints")
    logging.getLogger("pipe").warning("child %s logs", i)
    return i


class Forks(kart.TaskOnKart[int]):
    def run(self) -> int:
        print("before")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = sum(pool.map(speak, range(20)))
        print("after")
        return found


class ForksAndIsKilled(kart.TaskOnKart[int]):
    def run(self) -> int:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
        return 1


class Prints(kart.TaskOnKart[int]):
    def run(self) -> int:
        print("a line")
        return 1
"""

COMMAND = [sys.executable, "-c", "from kart_core.cli import main; main()", "run"]


@pytest.fixture
def pipe(project: Any) -> Any:
    """The module of these tests' tasks, in a project."""
    project.write("pipe.py", PIPE)
    import importlib

    sys.path.insert(0, str(project.folder))
    importlib.invalidate_caches()
    return importlib.import_module("pipe")


def _run(project: Any, code: str) -> subprocess.CompletedProcess[str]:
    """Builds in a process of its own, which is ended where it would hang."""
    project.write("main.py", f"import kart_core as kart\nfrom pipe import *\nif __name__ == '__main__':\n{code}")
    return subprocess.run(
        [sys.executable, "main.py"], cwd=project.folder, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_may_ask_for_what_its_own_worker_was_to_run_next(project: Any, pipe: Any, workers: int) -> None:
    steps = "*(Step(i=i, does='asks' if 24 < i < 40 else '') for i in range(120))"
    done = _run(project, f"    print(len(kart.build({steps}, executor='processes', workers={workers})))\n")
    assert (done.returncode, done.stdout) == (0, "120\n"), done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_asked_for_others_is_still_stopped_at_its_timeout(project: Any, pipe: Any, workers: int) -> None:
    done = _run(project, f"    kart.build(SleepsAfterAsking(), workers={workers})\n")
    assert "took longer than its timeout of 1 s" in done.stderr


def test_a_timeout_may_be_longer_than_the_system_can_wait(pipe: Any) -> None:
    assert kart.build(pipe.Patient(), workers=2) == 1


def test_a_task_that_never_ceases_to_print_is_stopped_at_its_timeout(project: Any, pipe: Any) -> None:
    done = _run(project, "    kart.build(PrintsForever(), Step(i=1), workers=2)\n")
    assert "took longer than its timeout of 1 s" in done.stderr
    assert "1 task failed" in done.stderr


def test_a_failure_just_before_a_worker_is_killed_is_told_as_it_was(pipe: Any) -> None:
    fails, killed = pipe.Step(i=30, does="fails"), pipe.Step(i=31, does="is killed")
    steps = [pipe.Step(i=i) for i in range(60)]
    report = execute(*steps[:30], fails, killed, *steps[30:], executor="processes", workers=1)
    assert {task: type(error) for task, error in report.failures.items()} == {
        fails: ValueError,
        killed: kart.KartError,
    }
    assert len(report.ran) == 60


def test_a_worker_that_ended_by_itself_is_not_said_to_have_lacked_memory(pipe: Any) -> None:
    ends, killed = pipe.Step(i=1, does="ends"), pipe.Step(i=1, does="is killed")
    report = execute(ends, killed, workers=2)
    assert "ended with exit status 3" in str(report.failures[ends])
    assert "memory" not in str(report.failures[ends])
    assert "memory" in str(report.failures[killed])


def test_short_tasks_are_not_sent_again_and_again_behind_a_long_one(pipe: Any) -> None:
    quick, others = [pipe.Step(i=i) for i in range(300)], [pipe.Other(i=i) for i in range(200)]
    slow = pipe.Other(i=200, seconds=2.0)
    report = execute(*quick[:10], *others, slow, *quick[10:], executor="processes", workers=1)
    assert len(report.ran) == 501
    numbers = [int(kart.record(task).attempt.rpartition("-")[2]) for task in report.ran]
    assert max(numbers) < 1500  # one for each time that a task was sent


def test_a_task_may_ask_for_one_that_takes_the_same_resource(project: Any, pipe: Any) -> None:
    for workers in (1, 2):
        done = _run(
            project,
            f"    print(kart.build(OnGpu(i=1, below=2), OnGpu(i=2, below=1), OnGpu(i=3), workers={workers}, "
            f"workspace_directory='w{workers}'))\n",
        )
        assert (done.returncode, done.stdout) == (0, "(1, 2, 3)\n"), done.stderr
        notes = Path("gpu.txt").read_text().split("\n")[:-1]
        Path("gpu.txt").unlink()
        assert notes.count("ends") == 6
        if workers == 1:
            continue
        for i, note in enumerate(notes):  # whoever goes on ends before another begins, or it asks
            if note == "goes on":
                assert notes[i + 1] == "ends", notes


def test_what_the_children_of_a_task_print_and_log_is_shown(project: Any, pipe: Any) -> None:
    done = _run(project, "    print(kart.build(Forks(), Step(i=1), workers=2)[0])\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [lines.count(f"child {i} prints") for i in range(20)] == [1] * 20
    assert lines.count("before") == lines.count("after") == 1
    assert lines[-1] == "190"
    assert all(f"child {i} logs" in done.stderr for i in range(20))


def test_a_worker_that_is_killed_is_missed_also_while_its_children_live(project: Any, pipe: Any) -> None:
    done = _run(project, "    kart.build(ForksAndIsKilled(), Step(i=1), workers=2)\n")
    assert "signal 9 (SIGKILL)" in done.stderr


def test_output_that_nobody_reads_is_not_said_to_be_a_worker_that_died(project: Any, pipe: Any) -> None:
    project.write("main.py", "import kart_core as kart\nfrom pipe import Prints\nkart.build(Prints(), workers=2)\n")
    project.write(
        "main.py",
        "import kart_core as kart\nfrom pipe import *\nif __name__ == '__main__':\n"
        "    kart.build(Prints(), workers=2)\n",
    )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "main.py"],
            cwd=project.folder,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert "BrokenPipeError" in done.stderr
    assert "worker process" not in done.stderr


def test_what_a_task_asks_for_comes_before_others_that_would_ask(pipe: Any, project: Any) -> None:
    project.write(
        "asks.py",
        """\
import os
import kart_core as kart


class Leaf(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        return self.i


class Asks(kart.TaskOnKart[int], priority=1):
    i: int

    def run(self):
        with open("pids.txt", "a") as file:
            file.write(f"{os.getpid()}\\n")
        return (yield Leaf(i=self.i))
""",
    )
    done = _run(project, "    import asks\n    kart.build(*(asks.Asks(i=i) for i in range(40)), workers=2)\n")
    assert done.returncode == 0, done.stderr
    assert len(set(Path("pids.txt").read_text().split())) <= 8  # each that waits for another holds its worker


def test_many_tasks_may_wait_for_one_resource(project: Any, pipe: Any) -> None:
    project.write(
        "many.py",
        """\
import kart_core as kart


class Call(kart.TaskOnKart[int], resources={"api": 1}):
    i: int

    def run(self) -> int:
        return self.i


class Tenths(kart.TaskOnKart[int], resources={"api": 0.9}):
    def run(self) -> int:
        return 0
""",
    )
    done = _run(
        project,
        "    import many\n    kart.build(many.Tenths(), *map(lambda i: many.Call(i=i), range(3000)), workers=2)\n",
    )
    assert done.returncode == 0, done.stderr


def test_a_worker_that_has_ended_is_not_killed_again() -> None:
    from kart_core.builtin.processes import WorkerProcesses

    pool = WorkerProcesses()
    worker = pool.start("tests.test_crew:_ends_at_once")
    assert worker.ending() == "ended with exit status 0"
    # Its number is anybody's now; a group that takes it over must not be hit.
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], start_new_session=True)
    worker._process.pid = other.pid
    pool.shutdown()
    assert other.poll() is None
    other.kill()
    other.wait()


def _ends_at_once(descriptor: int) -> None:
    os.close(descriptor)


def test_an_interruption_before_the_first_task_ends_the_run(project: Any, pipe: Any) -> None:
    done = _run(
        project,
        """\
    from kart_core.building import execute
    def interrupt(event):
        if event.kind == "run_started":
            os.kill(os.getpid(), signal.SIGINT)
    report = execute(Step(i=1), Step(i=2), workers=2, listen=[interrupt])
    print(report.interrupted, len(report.unfinished))
""",
    )
    assert (done.returncode, done.stdout) == (0, "True 2\n"), done.stderr


def test_far_storage_is_written_while_the_worker_runs_the_next_task(project: Any) -> None:
    project.write(
        "far.py",
        """\
import time
from pathlib import Path

import kart_core as kart
from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Plugin, Storage, hookimpl


class Slow(LocalStore):
    def put(self, path, *rest):
        if path.startswith("far/Step"):  # a result is there only when the other task has begun too
            for _ in range(400):
                if len(list(Path().glob("begun*"))) == 2:
                    break
                time.sleep(0.05)
            else:
                raise OSError("the other task does not begin")
        return super().put(path, *rest)


class Far(Plugin):
    @hookimpl
    def kart_storages(self):
        return [Storage("far", open=lambda url: Slow(str(Path("far_away").resolve())), shared="network", quiet=True)]


class Step(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        Path(f"begun{self.i}").touch()
        return self.i


if __name__ == "__main__":
    how = {"plugins": [Far], "workspace_directory": "far://here", "executor": "processes", "workers": 1}
    print(kart.build(Step(i=1), Step(i=2), **how))
""",
    )
    done = project.python("far.py")
    assert (done.code, done.out) == (0, "(1, 2)\n"), done.err


def test_a_command_line_may_be_long_also_with_workers(project: Any, pipe: Any) -> None:
    project.write(
        "main.py",
        "import sys\nimport kart_core as kart\nfrom pipe import *\nif __name__ == '__main__':\n"
        "    print(kart.build(Step(i=len(sys.argv)), executor='processes'))\n",
    )
    done = project.python("main.py", *("word" * 10 for _ in range(5000)))
    assert (done.code, done.out) == (0, "5001\n"), done.err


def test_a_worker_that_is_interrupted_before_it_works_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    from kart_core.builtin.processes import WorkerProcesses

    pool = WorkerProcesses()
    worker = pool.start("tests.test_crew:_waits")
    assert worker.receive() == b"here"
    worker.interrupt()
    assert worker.ending() == "was killed by signal 2 (SIGINT)"
    pool.shutdown()
    assert capfd.readouterr().err == ""


def _waits(descriptor: int) -> None:
    import time
    from multiprocessing.connection import Connection

    Connection(descriptor).send_bytes(b"here")
    time.sleep(30)
