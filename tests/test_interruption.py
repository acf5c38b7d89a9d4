"""Ctrl-C and SIGTERM: what has run is kept, what runs is stopped, nothing is half written, nothing is left running."""

from __future__ import annotations

import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PIPE = """\
import os
import time

import kart_core as kart


class Step(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        with open("ran.txt", "a") as file:
            file.write(f"{self.i}\\n")
        time.sleep(0.04)
        return self.i


class Hundred(kart.TaskOnKart[int]):
    steps: tuple[Step, ...] = tuple(Step(i=i) for i in range(100))

    def run(self) -> int:
        return sum(self.load(self.steps))


class Stubborn(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        with open(f"begun{self.i}.txt", "w") as file:
            file.write(str(os.getpid()))
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass


class BothStubborn(kart.WrapperTask):
    ones: tuple[Stubborn, ...] = (Stubborn(i=1), Stubborn(i=2))
"""

COMMAND = [sys.executable, "-c", "from kart_core.cli import main; main()", "run"]


class Terminal:
    """A command in the foreground of a terminal of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execv(sys.executable, [*COMMAND, *words])
        self.shown = ""

    def read_until(self, pattern: str, seconds: float) -> None:
        """Reads what is shown until it matches."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.shown):
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{pattern!r} was not shown; what was: {self.shown}")

    def press_ctrl_c(self) -> None:
        """As a user does: the terminal sends the signal to its whole foreground group."""
        os.write(self._master, b"\x03")

    def end(self, seconds: float) -> int:
        """The exit code; fails if the command takes longer."""
        end = time.monotonic() + seconds
        while self._read(min(0.05, end - time.monotonic())) or time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self._read(0):
                    pass
                os.close(self._master)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it did not end within {seconds} s; shown: {self.shown[-2000:]}")

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


def _workers_of(folder: Path) -> list[int]:
    """The processes whose working directory is the folder."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if Path(entry / "cwd").readlink() == folder and "Z" not in (entry / "stat").read_text().split()[2]:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _ran(folder: Path) -> list[int]:
    path = folder / "ran.txt"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def _is_whole(folder: Path) -> int:
    """How many results are stored; each has its record, and nothing else lies there."""
    results = sorted(path.stem.rpartition("_")[2] for path in folder.glob("resources/pipe/Step_*.pkl"))
    records = sorted(path.stem for path in folder.glob("resources/.kart/records/pipe.Step/*.json"))
    assert set(records) <= set(results)
    left = [str(path) for path in folder.rglob("*.tmp")]
    assert not left
    return len(records)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("seed", range(5 if not os.environ.get("SLOW_TESTS") else 20))
def test_ctrl_c_at_any_moment_keeps_what_has_run_and_leaves_nothing_running(project: Any, seed: int) -> None:
    folder: Path = project.folder
    project.write("pipe.py", PIPE)
    terminal = Terminal(folder, "pipe:Hundred", "--workers", "2")
    for _ in range(400):
        if _ran(folder):
            break
        terminal._read(0.02)
    time.sleep(random.Random(seed).uniform(0, 1.7))
    terminal.press_ctrl_c()
    assert terminal.end(3.0) == 130, terminal.shown
    assert "interrupted" in terminal.shown
    assert _workers_of(folder) == []
    stored = _is_whole(folder)
    begun = set(_ran(folder))
    assert stored <= len(begun) <= stored + 2
    (folder / "ran.txt").unlink()
    done = project.shell("run", "pipe:Hundred", "--workers", "2")
    assert done.code == 0, done.err
    assert len(_ran(folder)) == 100 - stored
    assert _is_whole(folder) == 100


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_task_that_takes_no_notice_is_stopped_all_the_same(project: Any) -> None:
    folder: Path = project.folder
    project.write("pipe.py", PIPE)
    terminal = Terminal(folder, "pipe:BothStubborn", "--workers", "2")
    _await_both(folder, terminal)
    terminal.press_ctrl_c()
    assert terminal.end(4.0) == 130, terminal.shown
    assert _workers_of(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_second_ctrl_c_stops_at_once(project: Any) -> None:
    folder: Path = project.folder
    project.write("pipe.py", PIPE)
    terminal = Terminal(folder, "pipe:BothStubborn", "--workers", "2")
    _await_both(folder, terminal)
    terminal.press_ctrl_c()
    time.sleep(0.1)
    clock = time.monotonic()
    terminal.press_ctrl_c()
    assert terminal.end(3.0) == 130, terminal.shown
    assert time.monotonic() - clock < 1.0
    assert _workers_of(folder) == []


def _await_both(folder: Path, terminal: Terminal) -> None:
    for _ in range(400):
        if all((folder / f"begun{i}.txt").exists() for i in (1, 2)):
            return
        terminal._read(0.05)
    raise AssertionError(terminal.shown)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_a_run_as_ctrl_c_does(project: Any, workers: str) -> None:
    folder: Path = project.folder
    project.write("pipe.py", PIPE)
    running = subprocess.Popen(
        [*COMMAND, "pipe:Hundred", "--workers", workers],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for _ in range(400):
        if len(_ran(folder)) > 4:
            break
        time.sleep(0.02)
    running.terminate()
    told, _ = running.communicate(timeout=10)
    assert running.returncode == 130, told
    assert "interrupted" in told
    stored = _is_whole(folder)
    (folder / "ran.txt").unlink()
    assert project.shell("run", "pipe:Hundred").code == 0
    assert len(_ran(folder)) == 100 - stored


RENAMES = """\
import os, signal, sys
import kart_core as kart

class T(kart.TaskOnKart[int]):
    n: int
    def run(self) -> int:
        return self.n

if __name__ == "__main__":
    name, real, calls = sys.argv[1], getattr(os, sys.argv[1]), 0
    tasks = [T(n=i) for i in range(20)]
    if name == "replace":
        kart.build(*tasks)
    def interrupted(*arguments, **more):
        global calls
        real(*arguments, **more)
        calls += 1
        if calls == 5:
            signal.raise_signal(signal.SIGINT)
    setattr(os, name, interrupted)
    try:
        kart.build(*tasks, should_lock_run=name == "link", rerun=name == "replace")
    except KeyboardInterrupt:
        leases = [one for _, _, files in os.walk("resources/.kart/leases") for one in files]
        print("interrupted", [one for one in leases if not one.endswith(".tmp")])
"""


@pytest.mark.parametrize("name", ["replace", "link"])
def test_ctrl_c_between_a_file_and_its_name_is_an_interruption_and_leaves_no_lease(project: Any, name: str) -> None:
    project.write("renames.py", RENAMES)
    done = project.python("renames.py", name)
    assert done.out == "interrupted []\n", done.err


DEAF = """\
import os, signal, sys, threading, time
import kart_core as kart

class Deaf(kart.TaskOnKart[int]):
    def run(self) -> int:
        if not os.path.exists("second"):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # as code in C that does not look
            open("second", "w").close()
            time.sleep(60)
        return 1

def press():
    while not os.path.exists("second"):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    threading.Thread(target=press, daemon=True).start()
    try:
        kart.build(Deaf(), workers=2)
    except KeyboardInterrupt:
        print(kart.build(Deaf(), workers=2))
"""


def test_what_an_interrupted_run_had_to_kill_is_not_waited_for_by_the_next(project: Any) -> None:
    project.write("deaf.py", DEAF)
    project.write("kart.toml", "[leases]\nexpiry = 1000\n")
    done = project.python("deaf.py")
    assert (done.code, done.out) == (0, "1\n"), done.err


LAST_LINES = """\
import logging, os, signal, threading, time
import kart_core as kart

class Says(kart.TaskOnKart[int]):
    i: int
    def run(self) -> int:
        open(f"begun{self.i}", "w").close()
        while not os.path.exists("pressed"):
            time.sleep(0.02)
        time.sleep(0.1)  # until the run knows that it is to end
        print("said", self.i)
        logging.getLogger("mine").warning("logged %d", self.i)
        return self.i

def press():
    while not (os.path.exists("begun1") and os.path.exists("begun2")):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
    open("pressed", "w").close()

if __name__ == "__main__":
    threading.Thread(target=press, daemon=True).start()
    try:
        kart.build(Says(i=1), Says(i=2), workers=2)
    except KeyboardInterrupt:
        print("interrupted", len(kart.plan(Says(i=1), Says(i=2)).to_run))
"""


def test_what_tasks_print_and_log_while_an_interrupted_run_ends_is_shown(project: Any) -> None:
    project.write("last_lines.py", LAST_LINES)
    done = project.python("last_lines.py")
    said = done.out.splitlines()
    assert (sorted(said[:-1]), said[-1:]) == (["said 1", "said 2"], ["interrupted 0"]), done.err
    assert all(f"logged {i}" in done.err for i in (1, 2)), done.err
