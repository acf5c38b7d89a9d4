"""The promises of temporary files: what a killed process left goes, and nothing that anybody still writes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kart_core as kart
from tests.conftest import Project

BIG = """\
import os, signal, sys
import kart_core as kart

class Big(kart.TaskOnKart[list[bytes]]):
    n: int = 0

    def run(self):
        self.dump(self.parts())

    def parts(self):
        for i in range(3):
            yield bytes([i]) * (1 << 20)
        if os.environ.get("END") == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("END") == "wait":
            print("staged", flush=True)
            sys.stdin.readline()

class Small(kart.TaskOnKart[int]):
    n: int = 0

    def run(self):
        return self.n
"""

TOKEN = re.compile(
    r"kart-(?P<host>[0-9a-f]+)-(?P<place>[0-9a-f]+)-(?P<pid>\d+)-(?P<start>\d+)-(?P<number>[0-9a-f]+)\.tmp"
)


@pytest.fixture
def big(project: Project) -> Project:
    project.write("big.py", BIG)
    return project


def built(project: Project, what: str, end: str = "") -> int:
    return project.python("-c", f"import big, kart_core; kart_core.build(big.{what})", environment={"END": end}).code


def temporary(folder: str = "resources") -> set[str]:
    return {path.name for path in Path(folder).rglob(".*.tmp")}


def left(project: Project) -> re.Match[str]:
    """What a process that was killed while it wrote has left."""
    assert built(project, "Big()", "kill") == -signal.SIGKILL
    (name,) = temporary()
    found = TOKEN.search(name)
    assert found is not None
    return found


def test_what_a_killed_process_left_goes_when_another_stores_there(big: Project) -> None:
    left(big)
    assert built(big, "Big(n=1)") == 0
    assert temporary() == set()


def test_what_was_left_beside_small_results_and_records_goes_too(big: Project) -> None:
    token = left(big)[0]
    assert built(big, "Small()") == 0
    for folder in ("resources/big", "resources/.kart/records/big.Small"):
        Path(folder, f".{token}").write_bytes(b"half")
    assert built(big, "Small(n=1)") == 0
    assert temporary() == set()


def test_a_run_that_stores_nothing_touches_nothing(big: Project) -> None:
    left(big)
    assert built(big, "Small()") == 0
    name = f".{left(big)[0]}"
    assert built(big, "Small()") == 0
    assert temporary() == {name}


def test_the_folder_for_files_on_their_way_is_looked_through_too(big: Project) -> None:
    where = "workspace_directory='memory://x', local_temporary_directory='staging'"
    for end, code in (("kill", -signal.SIGKILL), ("", 0)):
        assert built(big, f"Big({where})", end) == code
        assert len(temporary("staging")) == (1 if end else 0)


def test_what_a_living_process_writes_stays(big: Project) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", "import big, kart_core; kart_core.build(big.Big())"],
        cwd=big.folder,
        env={**os.environ, "END": "wait"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "staged\n"
    before = temporary()
    assert len(before) == 1
    assert built(big, "Big(n=1)") == 0
    assert temporary() == before
    writer.communicate("\n", timeout=60)
    assert writer.returncode == 0
    assert temporary() == set()
    assert len(big.files()) == 2


def test_a_process_that_has_the_number_of_the_killed_one_keeps_nothing_alive(big: Project) -> None:
    found = left(big)
    if found["start"] == "0":
        pytest.skip("this system does not say when a process began")
    (path,) = Path("resources").rglob(".*.tmp")
    path.rename(path.with_name(path.name.replace(f"-{found['pid']}-", f"-{os.getpid()}-")))
    assert built(big, "Big(n=1)") == 0
    assert temporary() == set()


def test_another_machines_file_stays_however_old_it_is(big: Project) -> None:
    found = left(big)
    (path,) = Path("resources").rglob(".*.tmp")
    other = path.rename(path.with_name(path.name.replace(f"kart-{found['host']}", "kart-000000")))
    os.utime(other, (0, 0))
    assert built(big, "Big(n=1)") == 0
    assert temporary() == {other.name}


def test_a_file_of_before_the_machines_last_start_goes_when_it_has_not_been_touched_for_a_day(big: Project) -> None:
    found = left(big)
    (path,) = Path("resources").rglob(".*.tmp")
    older = path.rename(path.with_name(path.name.replace(f"-{found['place']}-", "-000000-")))
    assert built(big, "Big(n=1)") == 0
    assert temporary() == {older.name}
    yesterday = time.time() - 25 * 3600
    os.utime(older, (yesterday, yesterday))
    assert built(big, "Big(n=2)") == 0
    assert temporary() == set()


def test_files_that_others_named_so_stay(big: Project) -> None:
    names = {".a.tmp", ".kart-1-2.tmp", ".notes.kart-x-y-1-2-3.tmp"}
    assert built(big, "Big()") == 0
    for name in names:
        Path("resources/big", name).write_bytes(b"")
    assert built(big, "Big(n=1)") == 0
    assert temporary() == names


def test_the_longest_file_name_can_be_stored(project: Project) -> None:
    class Long(kart.TaskOnKart[str]):
        name: str

        def output(self) -> kart.Target:
            return self.make_target(self.name, use_unique_id=False)

        def run(self) -> str:
            return "text"

    assert kart.build(Long(name="é" * 125 + ".txt")) == "text"
    assert kart.build(Long(name="🎉" * 62 + ".txt")) == "text"
