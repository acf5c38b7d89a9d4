"""Tasks in worker processes: everything is as inline, on all cores, and what goes wrong stays where it is."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import kart_core as kart
from kart_core.building import BuildsOnImport, execute
from tests.conftest import Project

PIPE = """\
import logging
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
        ran("total")
        return sum(self.load(self.leaves))


class ByName(kart.TaskOnKart[int]):
    n: int

    def requires(self):
        if os.environ.get("TEST_WORKER_ASKED") and os.getpid() != int(os.environ["TEST_WORKER_ASKED"]):
            raise AssertionError("requires() was called in a worker")
        return {"leaves": [Leaf(i=i) for i in range(self.n)], "first": Leaf(i=0)}

    def run(self) -> int:
        return sum(self.load("leaves")) - self.load("first")


class Killed(kart.TaskOnKart[int], retries=1):
    times: int = 1

    def run(self) -> int:
        ran("killed")
        if Path("ran.txt").read_text().count("killed") <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7


class KilledForGood(Killed, retries=0):
    pass


class Sleeps(kart.TaskOnKart[int], timeout=0.5):
    seconds: float

    def run(self) -> int:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path("child.txt").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(self.seconds)
        child.kill()
        child.wait()
        return 1


class OnGpu(kart.TaskOnKart[int], resources={"gpu": 1}):
    i: int

    def run(self) -> int:
        begun = time.time()
        time.sleep(0.1)
        with open("gpu.txt", "a") as file:
            file.write(f"{begun} {time.time()}\\n")
        return self.i


class First(kart.TaskOnKart[int]):
    def run(self) -> int:
        return 1

class Part(kart.TaskOnKart[int], resources={"gpu": 1}):
    i: int
    def run(self) -> int:
        with open("began.txt", "a") as file:
            file.write("part ")
        time.sleep(0.1 + 0.07 * (self.i % 2))
        return self.i

class Whole(kart.TaskOnKart[int], resources={"gpu": 2}, priority=1):
    first: First
    def run(self) -> int:
        with open("began.txt", "a") as file:
            file.write("whole ")
        return 0

class Chatty(kart.TaskOnKart[int]):
    def run(self) -> int:
        print("printed by the task")
        print("told as an error", file=sys.stderr)
        logging.getLogger("pipe").warning("logged %s", "by the task", extra={"shoe": 44})
        logging.getLogger("pipe").debug("not shown")
        return 1


class Deep(kart.TaskOnKart[int]):
    before: "Deep | None" = None

    def run(self) -> int:
        return 1 if self.before is None else 1 + self.load(self.before)


class Grow(kart.TaskOnKart[int]):
    n: int
    depth: int = 2

    def run(self):
        ran(f"grow{self.n}")
        if self.depth == 0:
            return self.n
        got = yield [Grow(n=self.n * 3 + k, depth=self.depth - 1) for k in range(3)]
        again = random.random()
        return sum(got) + again


class Fails(kart.TaskOnKart[int]):
    def run(self) -> int:
        raise ValueError("no luck")


class AsksForFailure(kart.TaskOnKart[str]):
    def run(self):
        try:
            yield [Fails(), Leaf(i=1)]
        except kart.BuildError as error:
            return f"{type(next(iter(error.failures.values()))).__name__}"


class AsksForItself(kart.TaskOnKart[int]):
    def run(self):
        yield AsksForItself()
"""


@pytest.fixture
def pipe(project: Any) -> Any:
    """The module of these tests' tasks, in a project."""
    project.write("pipe.py", PIPE)
    import importlib

    sys.path.insert(0, str(project.folder))
    importlib.invalidate_caches()
    return importlib.import_module("pipe")


def _ran() -> list[str]:
    path = Path("ran.txt")
    return sorted(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else []


def test_what_workers_make_is_what_one_process_makes(pipe: Any) -> None:
    total = pipe.Total(leaves=tuple(pipe.Leaf(i=i) for i in range(20)))
    inline = kart.build(total, workspace_directory="inline")
    assert kart.build(total, workspace_directory="two", workers=2) == inline
    processes = {line.split()[1] for line in Path("ran.txt").read_text().splitlines()}
    assert len(processes) >= 2
    here, there = (kart.record(total, workspace_directory=name) for name in ("inline", "two"))
    assert (here.task, here.unique_id, here.outputs, here.parameters, here.code, here.versions) == (
        there.task,
        there.unique_id,
        there.outputs,
        there.parameters,
        there.code,
        there.versions,
    )
    # Which methods were called depends on what a process had imported before.
    assert here.seed["value"] == there.seed["value"]
    assert {one.digest for one in here.requirements} == {one.digest for one in there.requirements}


def test_a_second_run_on_workers_starts_no_process(pipe: Any) -> None:
    kart.build(pipe.Leaf(i=1), workers=2)
    assert _ran() == ["leaf1"]
    report = execute(pipe.Leaf(i=1), workers=2)
    assert _ran() == ["leaf1"]
    assert (len(report.ran), len(report.reused)) == (0, 1)


GOES_WRONG = """\
import os, signal, sys, time
import kart_core as kart

class Child(kart.TaskOnKart[int]):
    how: str
    def requires(self):
        if self.how == "circle":
            return Root(how=self.how)
        if self.how == "interrupt":
            time.sleep(0.3)  # workers are starting
            signal.raise_signal(signal.SIGINT)
        raise ValueError("no luck")
    def run(self):
        return 1

class Root(kart.TaskOnKart[int]):
    how: str
    def requires(self):
        return Child(how=self.how)
    def run(self):
        return 1

if __name__ == "__main__":
    try:
        kart.build(Root(how=sys.argv[1]), workers=2)
    except BaseException as error:
        print(type(error).__name__)
    try:
        os.waitpid(-1, os.WNOHANG)
        print("there is a child")
    except ChildProcessError:
        print("there is none")
"""


@pytest.mark.parametrize(
    ("how", "said"), [("circle", "GraphError"), ("error", "GraphError"), ("interrupt", "KeyboardInterrupt")]
)
def test_a_plan_that_fails_leaves_no_worker_that_has_started_meanwhile(project: Any, how: str, said: str) -> None:
    project.write("wrong.py", GOES_WRONG)
    done = project.python("wrong.py", how)
    assert done.out.split("\n")[1:] == ["there is none", ""], done.err
    assert said == done.out.split("\n")[0]


def test_requires_is_not_called_in_a_worker(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_WORKER_ASKED", str(os.getpid()))
    inline = kart.build(pipe.ByName(n=4), workspace_directory="inline")
    assert kart.build(pipe.ByName(n=4), workers=2) == inline


def test_a_long_chain_travels_to_workers_as_small_pieces(pipe: Any) -> None:
    task = None
    for _ in range(1500):
        task = pipe.Deep(before=task)
    assert kart.build(task, workers=2) == 1500


def test_a_killed_worker_costs_its_task_one_try_and_nobody_else(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    leaves = [pipe.Leaf(i=i) for i in range(8)]
    report = execute(pipe.Killed(), *leaves, workers=2)
    assert not report.failures
    assert _ran().count("killed") == 2
    assert all(_ran().count(f"leaf{i}") == 1 for i in range(8))
    assert "SIGKILL" in caplog.text
    assert "tried again" in caplog.text


def test_a_worker_killed_for_good_is_the_failure_of_its_task_alone(pipe: Any) -> None:
    leaves = [pipe.Leaf(i=i) for i in range(8)]
    task = pipe.KilledForGood(times=9)
    report = execute(task, *leaves, workers=2)
    assert list(report.failures) == [task]
    assert "signal 9 (SIGKILL)" in str(report.failures[task])
    assert len(report.ran) == 8


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_beyond_its_timeout_is_stopped_with_all_that_it_started(pipe: Any, workers: int) -> None:
    task, leaf = pipe.Sleeps(seconds=30.0), pipe.Leaf(i=1)
    clock = time.monotonic()
    report = execute(task, leaf, workers=workers)
    assert time.monotonic() - clock < 15
    assert list(report.failures) == [task]
    assert isinstance(report.failures[task], TimeoutError)
    assert "0.5 s" in str(report.failures[task])
    assert [type(one) for one in report.ran] == [pipe.Leaf]
    for pid in map(int, Path("child.txt").read_text().split()):
        _wait_until_gone(pid)


def _wait_until_gone(pid: int) -> None:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")


def test_a_task_within_its_timeout_is_like_any_other(pipe: Any) -> None:
    assert kart.build(pipe.Sleeps(seconds=0.01)) == 1


def test_a_resource_of_which_there_is_one_is_never_used_twice_at_once(pipe: Any) -> None:
    kart.build(*(pipe.OnGpu(i=i) for i in range(5)), workers=3)
    spans = sorted(tuple(map(float, line.split())) for line in Path("gpu.txt").read_text().splitlines())
    assert len(spans) == 5
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


def test_a_configured_limit_lets_more_of_a_resource_be_used(project: Any, pipe: Any) -> None:
    project.write("kart.toml", "[resources]\ngpu = 2\n")
    kart.build(*(pipe.OnGpu(i=i) for i in range(4)), workers=4)
    spans = sorted(tuple(map(float, line.split())) for line in Path("gpu.txt").read_text().splitlines())
    together = max(sum(a <= begun < b for a, b in spans) for begun, _ in spans)
    assert together == 2


def test_a_task_that_takes_more_of_a_resource_is_not_kept_waiting_by_those_that_take_less(
    project: Any, pipe: Any
) -> None:
    project.write("kart.toml", "[resources]\ngpu = 2\n")
    kart.build(pipe.Whole(first=pipe.First()), *(pipe.Part(i=i) for i in range(12)), workers=3)
    began = Path("began.txt").read_text().split()
    assert sorted(began) == ["part"] * 12 + ["whole"]
    assert began.index("whole") < 8


def test_more_of_a_resource_than_there_is_is_refused_when_planned(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_RESOURCES__GPU", "0.5")
    with pytest.raises(kart.ConfigError, match=r"OnGpu takes 1 of the resource 'gpu', and there is 0\.5"):
        kart.build(pipe.OnGpu(i=1), workers=2)


def test_what_a_worker_logs_and_prints_reaches_the_users_handlers(
    pipe: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "pipe"):
        kart.build(pipe.Chatty(), workers=2)
    (record,) = [record for record in caplog.records if record.name == "pipe"]
    assert record.getMessage() == "pipe.Chatty: logged by the task"
    assert (record.__dict__["kart_task"], record.__dict__["shoe"]) == ("pipe.Chatty", 44)
    assert record.funcName == "run"
    shown = capsys.readouterr()
    assert "printed by the task\n" in shown.out
    assert "told as an error\n" in shown.err


def test_tasks_that_grow_give_the_same_on_workers_as_inline(pipe: Any) -> None:
    inline = kart.build(pipe.Grow(n=1), workspace_directory="inline")
    once = sorted(_ran())
    Path("ran.txt").unlink()
    assert kart.build(pipe.Grow(n=1), workers=2) == inline
    assert sorted(_ran()) == once
    here, there = kart.record(pipe.Grow(n=1), workspace_directory="inline"), kart.record(pipe.Grow(n=1))
    assert {one.unique_id for one in here.requirements} == {one.unique_id for one in there.requirements}


def test_a_failure_of_what_a_task_asked_for_is_raised_where_it_asked(pipe: Any) -> None:
    assert kart.build(pipe.AsksForFailure(), workspace_directory="inline") == "ValueError"
    assert kart.build(pipe.AsksForFailure(), workers=2) == "ValueError"


def test_a_task_that_asks_for_itself_is_told_of_the_circle(pipe: Any) -> None:
    for workers in (1, 2):
        report = execute(pipe.AsksForItself(), workers=workers)
        (error,) = report.failures.values()
        assert "GraphError: these tasks require each other in a circle" in f"{type(error).__name__}: {error}"


def test_memory_cannot_be_shared_with_workers(pipe: Any) -> None:
    with pytest.raises(kart.ConfigError, match="memory://"):
        kart.build(pipe.Leaf(i=1), workspace_directory="memory://x", workers=2)
    with pytest.raises(kart.ConfigError, match="timeout"):
        kart.build(pipe.Sleeps(seconds=0.0), workspace_directory="memory://x")
    assert _ran() == []


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_a_number_of_workers_that_is_none_is_refused(pipe: Any, workers: Any) -> None:
    with pytest.raises(kart.ParameterError, match="workers takes a whole number"):
        kart.build(pipe.Leaf(i=1), workers=workers)


def test_workers_can_be_configured(project: Any, pipe: Any) -> None:
    project.write("kart.toml", "[run]\nworkers = 2\n")
    kart.build(*(pipe.Leaf(i=i) for i in range(8)))
    assert str(os.getpid()) not in {line.split()[1] for line in Path("ran.txt").read_text().splitlines()}
    project.write("kart.toml", "[run]\nworker = 2\n")
    with pytest.raises(kart.ConfigError, match="did you mean 'workers'"):
        kart.build(pipe.Leaf(i=9))


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("timeout=0", "not above 0"),
        ("timeout='x'", "is no int or float"),
        ("retry_wait=-1", "below 0"),
        ("resources=3", "is no mapping"),
        ("resources={'gpu': 0}", "an amount above 0"),
        ("resources={'gpu': 'two'}", "an amount above 0"),
    ],
)
def test_a_class_keyword_that_makes_no_sense_is_refused(keyword: str, message: str) -> None:
    with pytest.raises(kart.ParameterError, match=message):
        exec(f"class Wrong(kart.TaskOnKart[int], {keyword}): pass", {"kart": kart, "__name__": __name__})


def test_the_wait_before_each_new_try_is_twice_the_one_before(project: Any, caplog: Any) -> None:
    project.write(
        "waits.py",
        """\
import time
import kart_core as kart

class Flaky(kart.TaskOnKart[int], retries=3, retry_wait=0.1):
    def run(self) -> int:
        with open("tries.txt", "a") as file:
            file.write(f"{time.monotonic()}\\n")
        if len(open("tries.txt").readlines()) < 4:
            raise OSError("not yet")
        return 1
""",
    )
    for workers in ("1", "2"):
        done = project.shell("run", "waits:Flaky", "--workers", workers, "--workspace-directory", f"w{workers}")
        assert done.code == 0, done.err
        times = [float(line) for line in Path("tries.txt").read_text().splitlines()]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert len(waits) == 3
        assert all(wait >= least for wait, least in zip(waits, (0.1, 0.2, 0.4), strict=True))
        Path("tries.txt").unlink()


# --- where user code may stand -----------------------------------------------------------

SCRIPT = """\
import os
import attrs
import kart_core as kart
from beside import helper

@attrs.frozen
class Point:
    x: int

class One(kart.TaskOnKart[Point]):
    n: int
    def run(self) -> Point:
        return Point(helper(self.n))

class Both(kart.TaskOnKart[int]):
    ones: tuple[One, ...]
    def run(self) -> int:
        return sum(p.x for p in self.load(self.ones))

"""


@pytest.mark.parametrize("name", ["pipeline.py", "my-script.py"])
def test_tasks_of_a_script_and_of_a_module_beside_it_run_on_workers(project: Any, name: str) -> None:
    project.write("below/beside.py", "def helper(n: int) -> int:\n    return 2 * n\n")
    project.write(
        f"below/{name}",
        SCRIPT
        + "if __name__ == '__main__':\n"
        + "    print(kart.build(Both(ones=tuple(One(n=i) for i in range(4))), workers=2))\n",
    )
    done = project.python(f"below/{name}")
    assert (done.code, done.out) == (0, "12\n"), done.err


def test_tasks_of_a_package_run_as_a_module_run_on_workers(project: Any) -> None:
    project.write("pack/__init__.py", "")
    project.write("beside.py", "def helper(n: int) -> int:\n    return 2 * n\n")
    project.write(
        "pack/flow.py",
        SCRIPT + "if __name__ == '__main__':\n    print(kart.build(Both(ones=(One(n=1), One(n=2))), workers=2))\n",
    )
    done = project.python("-m", "pack.flow")
    assert (done.code, done.out) == (0, "6\n"), done.err


INSTALLED = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "flow-to-install"
version = "1"
""",
    "flow_to_install/__init__.py": """\
import kart_core as kart

from flow_to_install.beside import helper


class One(kart.TaskOnKart[int]):
    n: int

    def run(self) -> int:
        return helper(self.n)


class Both(kart.TaskOnKart[int]):
    ones: tuple[One, ...]

    def run(self) -> int:
        return sum(self.load(self.ones))
""",
    "flow_to_install/beside.py": "def helper(n: int) -> int:\n    return 2 * n\n",
}


def test_tasks_of_an_installed_package_run_on_workers_of_an_isolated_interpreter(project: Any, tmp_path: Path) -> None:
    for name, text in INSTALLED.items():
        project.write(f"source/{name}", text)
    installed = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", installed], check=True)
    python = installed / "bin" / "python"
    ask = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    # What kart needs is where this Python has it; the package is nowhere but here.
    here = [str(Path(kart.__file__).parents[1]), *(path for path in sys.path if path.endswith("site-packages"))]
    (site / "kart.pth").write_text("\n".join(here))
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", site, project.folder / "source"]
    subprocess.run(pip, check=True)
    build = "from flow_to_install import Both, One; ones = tuple(One(n=i) for i in range(4))"
    print_it = "import kart_core as kart; print(kart.build(Both(ones=ones), workers=2))"
    words = [python, "-I", "-c", f"{build}; {print_it}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr


def test_a_script_that_builds_without_a_guard_is_told_so(project: Any) -> None:
    project.write("beside.py", "def helper(n: int) -> int:\n    return 2 * n\n")
    project.write("pipeline.py", SCRIPT + "kart.build(One(n=1), One(n=2), workers=2)\n")
    done = project.python("pipeline.py")
    assert done.code != 0
    assert "if __name__ == '__main__':" in done.err


def test_tasks_of_an_interactive_session_run_on_workers(project: Any) -> None:
    lines = """\
import kart_core as kart
factor = 3
class One(kart.TaskOnKart[int]):
    n: int
    def run(self) -> int:
        return factor * self.n

class Both(kart.TaskOnKart[int]):
    ones: tuple[One, ...]
    def run(self) -> int:
        return sum(self.load(self.ones))

print(kart.build(Both(ones=tuple(One(n=i) for i in range(5))), workers=2))
"""
    done = subprocess.run(
        [sys.executable, "-i"], input=lines, capture_output=True, text=True, timeout=120, cwd=project.folder
    )
    assert "30" in done.stdout, done.stderr
    done = subprocess.run(
        [sys.executable, "-"], input=lines, capture_output=True, text=True, timeout=120, cwd=project.folder
    )
    assert (done.returncode, done.stdout) == (0, "30\n"), done.stderr


def test_a_module_that_workers_cannot_import_is_one_sentence(project: Any) -> None:
    project.write(
        "broken.py",
        """\
import os
import kart_core as kart
if os.environ.get("TEST_BUILDER") != str(os.getpid()):
    raise ImportError("libexotic.so is not here")

class One(kart.TaskOnKart[int]):
    def run(self) -> int:
        return 1
""",
    )
    project.write(
        "main.py",
        """\
import os
os.environ["TEST_BUILDER"] = str(os.getpid())
import kart_core as kart
from broken import One
if __name__ == "__main__":
    kart.run()
""",
    )
    done = project.python("main.py", "One", "--workers", "2")
    assert done.code == 70 or done.code == 40, done.err
    assert "libexotic.so is not here" in done.err
    assert "a worker cannot import" in done.err
    assert "Traceback" not in done.err


def test_a_secret_given_in_python_does_not_travel(project: Any) -> None:
    project.write(
        "hidden.py",
        """\
import kart_core as kart

class Logs(kart.TaskOnKart[int]):
    key: kart.Secret = kart.parameter(significant=False)
    def run(self) -> int:
        return len(self.key.reveal())
""",
    )
    done = project.shell("run", "hidden:Logs", "--workers", "2", environment={"KART_LOGS__KEY": "swordfish"})
    assert done.code == 0, done.err
    project.write(
        "given.py",
        "import kart_core as kart\nfrom hidden import Logs\nif __name__ == '__main__':\n"
        "    kart.build(Logs(key=kart.Secret('sword' + 'fish')), workers=2, rerun=True)\n",
    )
    done = project.python("given.py")
    assert done.code != 0
    assert "secrets do not travel" in done.err
    assert "swordfish" not in done.err


def test_a_secret_that_its_class_makes_itself_is_made_in_the_worker(project: Any) -> None:
    project.write(
        "hidden.py",
        """\
import os
import kart_core as kart

class Logs(kart.TaskOnKart[int]):
    key: kart.Secret = kart.parameter(factory=lambda: kart.Secret(os.environ["THE_KEY"]), significant=False)
    def run(self) -> int:
        return len(self.key.reveal())
""",
    )
    done = project.shell("run", "hidden:Logs", "--workers", "2", "--print", environment={"THE_KEY": "swordfish"})
    assert done.code == 0, done.err
    assert "9" in done.out.split()


def test_a_letter_that_the_console_cannot_show_does_not_end_the_run(project: Any) -> None:
    project.write(
        "says.py",
        """\
import kart_core as kart

class Says(kart.TaskOnKart[int]):
    def run(self) -> int:
        print("caf\\u00e9")
        return 7

if __name__ == "__main__":
    print(kart.build(Says(), workers=2))
""",
    )
    done = project.python("says.py", environment={"PYTHONIOENCODING": "ascii:strict"})
    assert (done.code, done.out) == (0, "caf\\xe9\n7\n"), done.err


def test_a_plugin_that_was_given_as_an_object_cannot_go_to_workers(pipe: Any) -> None:
    from kart_core.plugin import Plugin

    class Mine(Plugin):
        pass

    with pytest.raises(kart.PluginError, match="cannot go to another process"):
        kart.build(pipe.Leaf(i=1), workers=2, plugins=[Mine()])


def test_events_and_the_journal_tell_of_tasks_on_workers(pipe: Any) -> None:
    events: list[Any] = []
    report = execute(*(pipe.Leaf(i=i) for i in range(6)), workers=2, listen=[events.append])
    kinds = [event.kind for event in events]
    assert kinds.count("task_started") == kinds.count("task_finished") == 6
    (journal,) = Path("resources/.kart/runs").glob(f"{report.run}.jsonl")
    assert sum(json.loads(line)["kind"] == "task_finished" for line in journal.read_text().splitlines()) == 6


def test_the_coordinator_killed_leaves_no_worker(project: Any, pipe: Any) -> None:
    project.write(
        "sleeper.py",
        """\
import os, time
import kart_core as kart

class Sleeper(kart.TaskOnKart[int]):
    i: int
    def run(self) -> int:
        with open(f"pid{self.i}.txt", "w") as file:
            file.write(str(os.getpid()))
        time.sleep(60)
        return 1

class Both(kart.WrapperTask):
    ones: tuple[Sleeper, ...] = (Sleeper(i=1), Sleeper(i=2))
""",
    )
    command = [sys.executable, "-c", "from kart_core.cli import main; main()", "run", "sleeper:Both", "--workers", "2"]
    running = subprocess.Popen(command, cwd=project.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids: list[int] = []
    for _ in range(400):
        pids = [int(text) for path in project.folder.glob("pid?.txt") if (text := path.read_text())]
        if len(pids) == 2:
            break
        time.sleep(0.05)
    assert len(pids) == 2
    running.kill()
    running.wait()
    for pid in pids:
        _wait_until_gone(pid)


def test_a_long_task_is_said_to_have_begun_when_it_begins(pipe: Any) -> None:
    told: dict[str, float] = {}
    tasks = [pipe.OnGpu(i=i) for i in range(3)]
    execute(*tasks, workers=2, listen=[lambda e: told.setdefault(f"{e.kind} {e.unique_id}", time.monotonic())])
    for task in tasks:
        took = told[f"task_finished {task.unique_id}"] - told[f"task_started {task.unique_id}"]
        assert took > 0.05


MANY_ASK = """\
import kart_core as kart

class Slow(kart.TaskOnKart[int]):
    def run(self) -> int:
        import time
        time.sleep(1)
        return 1

class Asks(kart.TaskOnKart[int]):
    i: int
    def run(self):
        open(f"asks-{self.i}", "w").close()
        return (yield Slow()) + self.i

class Shared(kart.TaskOnKart[int]):
    def run(self) -> int:
        import time
        with open("bodies", "a") as file:
            file.write("x")
        time.sleep(0.5)
        return 1

class Builds(kart.TaskOnKart[int]):
    i: int
    def run(self) -> int:
        return kart.build(Shared()) + self.i
"""


WATCHES = """\
import os
from kart_core.building import execute
from many import Asks

begun = []

def listen(event):
    if event.kind == "task_finished" and event.task.endswith("Slow"):
        begun.append(sum(name.startswith("asks-") for name in os.listdir()))

if __name__ == "__main__":
    report = execute(*(Asks(i=i) for i in range(30)), workers=2, listen=[listen])
    print(begun[0], len(report.ran))
"""


def test_tasks_that_wait_for_others_do_not_start_processes_without_end(project: Any) -> None:
    project.write("many.py", MANY_ASK)
    project.write("watches.py", WATCHES)
    begun, ran = project.python("watches.py").out.split()
    assert int(ran) == 31
    assert 2 <= int(begun) <= 10  # four that wait for each worker, and some that were about to begin


def test_what_two_workers_build_inside_their_tasks_at_once_runs_once(project: Any) -> None:
    project.write("many.py", MANY_ASK)
    project.write(
        "main.py",
        "import kart_core as kart\nfrom many import *\nif __name__ == '__main__':\n"
        "    print(kart.build(Builds(i=1), Builds(i=2), workers=2), open('bodies').read())\n",
    )
    done = project.python("main.py")
    assert (done.code, done.out) == (0, "(2, 3) x\n"), done.err


LOGS = """\
import logging
import kart_core as kart

class Word(str):
    pass

class Odd(kart.TaskOnKart[int]):
    def run(self) -> int:
        class Inner(str):
            pass
        logging.getLogger("app").warning(Inner("odd"), extra={"level_": Inner("a"), "request": 1})
        return 1

class Plain(kart.TaskOnKart[int]):
    i: int
    def run(self) -> int:
        logging.getLogger("app").warning("plain")
        return self.i

class Needs(logging.Filter):
    def filter(self, record):
        return record.request == 1

if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("app").addFilter(Needs())
    print(kart.build(Odd(), Plain(i=2), workers=2))
"""


def test_no_line_of_a_log_ends_a_worker_or_the_run(project: Any) -> None:
    project.write("logs.py", LOGS)
    done = project.python("logs.py")
    assert (done.code, done.out) == (0, "(1, 2)\n"), done.err
    assert "Odd: odd" in done.err
    assert "AttributeError" in done.err  # of the user's filter, as logging tells of it


def test_a_script_that_builds_when_it_is_imported_gets_the_one_sentence(project: Project) -> None:
    project.write(
        "careless.py",
        "import kart_core as kart\n\n\n"
        "class One(kart.TaskOnKart[int]):\n    n: int\n\n    def run(self) -> int:\n        return self.n\n\n\n"
        "kart.build(One(n=1), One(n=2), workers=2)\n",
    )
    done = project.python("careless.py")
    assert done.code == 1
    assert done.err.count("Traceback") == 1, done.err
    assert "if __name__ == '__main__':" in done.err.splitlines()[-1]
    assert "BuildsOnImport: a module builds when it is imported" in done.err.splitlines()[-1]
    assert issubclass(BuildsOnImport, kart.ConfigError)
