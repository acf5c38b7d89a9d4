"""A workspace that cannot be used is one sentence, before any task has spent its time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kart_core as kart
from tests.conftest import Project

pytestmark = pytest.mark.local(reason="folders of this machine that cannot be made")

_ran: list[str] = []


class One(kart.TaskOnKart[int]):
    def run(self) -> int:
        _ran.append("One")
        return 1


class Asks(kart.TaskOnKart[int]):
    where: str

    def run(self) -> object:
        yield One(workspace_directory=self.where)
        return 2


class Leaves(kart.TaskOnKart[int]):
    """Deletes the folder in which it runs."""

    def run(self) -> int:
        shutil.rmtree(os.getcwd())
        return 3


class After(kart.TaskOnKart[int]):
    leaves: Leaves

    def run(self) -> int:
        return self.load(self.leaves) + 1


SCRIPT = """\
import kart_core as kart


class One(kart.TaskOnKart[int]):
    def run(self) -> int:
        print("it ran")
        return 1


if __name__ == "__main__":
    kart.run()
"""


@pytest.fixture(params=["link", "link/sub", "file/below", "proc"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that cannot be made."""
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    (tmp_path / "file").write_text("no folder")
    if request.param == "proc":
        if not os.path.isdir("/proc/self"):
            pytest.skip("there is no /proc here")
        return "/proc/nope"
    return str(tmp_path / request.param)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_workspace_that_cannot_be_made_is_found_before_the_first_task(
    unusable: str, workers: int, project: Project
) -> None:
    _ran.clear()
    with pytest.raises(kart.StorageError) as error:
        kart.build(One(), workspace_directory=unusable, workers=workers)
    assert f"{unusable}/" in str(error.value)
    assert "cannot be used" in str(error.value)
    assert _ran == []


def test_a_command_says_so_in_one_sentence(unusable: str, project: Project) -> None:
    project.write("pipeline.py", SCRIPT)
    done = project.python("pipeline.py", "One", "--workspace-directory", unusable)
    assert done.code == 70
    assert "it ran" not in done.out
    assert "Traceback" not in done.err
    assert done.err.startswith(f"error: {unusable}/")
    assert done.err.count("\n") == 1


def test_a_workspace_in_which_a_task_asks_for_others_is_found_before_these_run(unusable: str, project: Project) -> None:
    _ran.clear()
    with pytest.raises(kart.KartError, match="cannot be used"):
        kart.build(Asks(where=unusable))
    assert _ran == []


def test_a_workspace_that_was_made_and_may_no_longer_be_written_is_found_before_the_first_task(
    project: Project,
) -> None:
    _ran.clear()
    kart.build(One(), workspace_directory="shared")
    for path in ("shared/.kart", "shared"):
        os.chmod(path, 0o555)
    project.write("pipeline.py", SCRIPT)
    words = [sys.executable, "pipeline.py", "One", "--workspace-directory", "shared"]
    if os.geteuid() == 0:  # nothing is forbidden to root, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("there is no setpriv here")
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    for path in ("shared", "shared/.kart"):
        os.chmod(path, 0o755)
    assert done.returncode == 70, done.stderr
    assert "it ran" not in done.stdout
    assert f"error: {project.folder}/shared/" in done.stderr


def test_a_task_may_delete_the_working_directory(project: Project) -> None:
    (project.folder / "gone").mkdir()
    os.chdir("gone")
    try:
        assert kart.build(After(leaves=Leaves()), workspace_directory=project.folder / "resources") == 4
    finally:
        os.chdir(project.folder)
