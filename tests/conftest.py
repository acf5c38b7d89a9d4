"""What several files of tests share: a project of a user's, and ways to give commands in it."""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kart_core import config
from kart_core.cli import main
from tests.traces import IN_PROCESSES

_EXECUTION = ("KART_EXECUTOR", "KART_WORKERS")
"""With these set, tests that do not say where their tasks run are run elsewhere: see `test_parallel_as_inline`."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Passes over what is about one process where tasks run in others."""
    for item in items if IN_PROCESSES else ():
        marker = item.get_closest_marker("inline")
        if marker is not None:
            item.add_marker(pytest.mark.skip(reason=f"inline only: {marker.kwargs['reason']}"))


@pytest.fixture(scope="session")
def python_of() -> Callable[[str], str]:
    """Gives a Python of a version that really runs; skips the test where there is none."""
    found: dict[str, str | None] = {}

    def look(version: str) -> str | None:
        if sys.version_info[:2] == tuple(map(int, version.split("."))):
            return sys.executable
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))
        for python in (shutil.which(f"python{version}"), *map(str, pyenv)):
            if python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                return python
        return None

    def python_of(version: str) -> str:
        if version not in found:
            found[version] = look(version)
        python = found[version]
        if python is None:
            pytest.skip(f"no Python {version} here; what must hold on it is checked where there is one")
        return python

    return python_of


PIPELINE = """\
import random

import kart_core as kart


class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 10

    def run(self) -> list[int]:
        return [random.randint(0, 100) for _ in range(self.n)]


class Total(kart.TaskOnKart[int]):
    numbers: Numbers

    def run(self) -> None:
        self.dump(sum(self.load(self.numbers)))


if __name__ == "__main__":
    kart.run()
"""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The standard output, which is JSON."""
        return json.loads(self.out)


class Project:
    """A folder with a user's modules, in which commands are given."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, name: str, text: str) -> Path:
        """Writes one of the user's files."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def kart(self, *words: str) -> Outcome:
        """``kart-core`` in this process."""
        self._capsys.readouterr()
        importlib.invalidate_caches()  # a test writes modules faster than a folder's time of modification tells
        with pytest.raises(SystemExit) as ended:
            main(words)
        captured = self._capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    def shell(self, *words: str, environment: Mapping[str, str] | None = None) -> Outcome:
        """``kart-core`` in a process of its own."""
        return self.python("-c", "from kart_core.cli import main; main()", *words, environment=environment)

    def python(self, *words: str, environment: Mapping[str, str] | None = None) -> Outcome:
        """Python with the given words, in a process of its own."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def files(self, below: str = "resources") -> Sequence[str]:
        """Every file of a folder but kart's own, relative to the project."""
        found = (path.relative_to(self.folder) for path in (self.folder / below).rglob("*") if path.is_file())
        return sorted(str(path) for path in found if ".kart" not in path.parts)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    """An empty project, which is the working directory; what its modules leave in memory goes afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in os.environ if name.startswith("KART_") and name not in _EXECUTION]:
        monkeypatch.delenv(name)
    modules = set(sys.modules)
    config.load_default()
    yield Project(tmp_path, capsys)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    gc.collect()
    monkeypatch.undo()
    config.load_default()


@pytest.fixture
def pipeline(project: Project) -> Project:
    """A project with the newcomer's ``pipeline.py``."""
    project.write("pipeline.py", PIPELINE)
    return project
