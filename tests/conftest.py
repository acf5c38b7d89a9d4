"""What several files of tests share: a project of a user's, and ways to give commands in it."""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kart_core import config, workspace
from kart_core.cli import main
from tests.traces import IN_PROCESSES, STORE_AT

_EXECUTION = ("KART_EXECUTOR", "KART_WORKERS", "KART_DASK__SCHEDULER_FILE")
"""With these set, tests that do not say where their tasks run are run elsewhere: see `test_parallel_as_inline`."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Passes over what is about one process where tasks run in others, and over local files where storage is remote."""
    for item in items:
        for name, given in (("inline", IN_PROCESSES), ("local", STORE_AT)):
            marker = item.get_closest_marker(name)
            if given and marker is not None:
                item.add_marker(pytest.mark.skip(reason=f"{name} only: {marker.kwargs['reason']}"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a shell runs in the background, and for all that is started from there. Tests press Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


def _share_connection() -> None:
    """Lets all workspaces of a bucket use one connection: to make one takes longer than most tests."""
    from kart_core.builtin.object_store import ObjectStore

    own, made = ObjectStore._here, list[Any]()

    def shared(store: ObjectStore) -> Any:
        if not made:
            made.append(own(store))
        return made[0]

    ObjectStore._here = shared  # type: ignore[method-assign]


if STORE_AT:
    _share_connection()


class Files:
    """The files of a workspace, seen through its store, wherever it is.

    Attributes:
        url: the workspace, as `workspace_directory` takes it.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def _store(self) -> Any:
        return workspace.open_workspace(self.url).store

    def beside(self, name: str) -> Files:
        """Another workspace next to this one."""
        return Files(f"{self.url.rpartition('/')[0]}/{name}")

    def files(self, below: str = "") -> list[str]:
        """The paths of all files in a folder, kart's own among them; on this machine also what no store shows."""
        if "://" in self.url:
            return sorted(path for path, _ in self._store.list(below))
        root = Path(self.url)
        return sorted(path.relative_to(root).as_posix() for path in (root / below).rglob("*") if path.is_file())

    def results(self) -> list[str]:
        """The paths of all files but kart's own."""
        return [path for path in self.files() if not path.startswith(".kart/")]

    def records(self) -> list[str]:
        """The paths of all records."""
        return self.files(".kart/records")

    def record_of(self, task: Any) -> str:
        """The path of the task's one record."""
        [path] = [path for path in self.records() if path.endswith(f"/{task.unique_id}.json")]
        return path

    def exists(self, path: str) -> bool:
        return self._store.stat(path) is not None

    def size(self, path: str) -> int:
        return self._store.stat(path).size

    def is_there(self) -> bool:
        """Whether anything was made, be it a folder."""
        return os.path.exists(self.url) or bool(self.files())

    def read(self, path: str) -> bytes:
        return self._store.read(path)

    def write(self, path: str, content: bytes | str) -> None:
        """Writes a file as somebody else than kart would."""
        self._store.put(path, content.encode() if isinstance(content, str) else content)

    def remove(self, path: str) -> None:
        assert self._store.remove(path), f"there was no {path}"

    def snapshot(self) -> dict[str, tuple[Any, bytes | None]]:
        """Every file, with what shows whether it was written again, and its content; on this machine folders too."""
        if "://" in self.url:
            return {path: (self._store.stat(path), self.read(path)) for path in self.files()}
        found: dict[str, tuple[Any, bytes | None]] = {}
        for path in Path(self.url).rglob("*"):
            stat = path.stat()
            shows = (stat.st_ino, stat.st_mtime_ns, stat.st_mode)
            found[str(path)] = (shows, path.read_bytes() if path.is_file() else None)
        return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    """An empty project, which is the working directory; what its modules leave in memory goes afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in os.environ if name.startswith("KART_") and name not in _EXECUTION]:
        monkeypatch.delenv(name)
    if STORE_AT:
        monkeypatch.setenv("KART_WORKSPACE_DIRECTORY", f"{STORE_AT}/{uuid.uuid4().hex}/resources")
    modules = set(sys.modules)
    config.load_default()
    yield Project(tmp_path, capsys)
    own = [
        name
        for name in set(sys.modules) - modules
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path))
    ]
    for name in own:
        del sys.modules[name]
    if own:
        gc.collect()
    monkeypatch.undo()
    config.load_default()


@pytest.fixture(name="workspace")
def _workspace(project: Project) -> Files:
    """Where the project stores."""
    return Files(os.environ.get("KART_WORKSPACE_DIRECTORY", str(project.folder / "resources")))


@pytest.fixture
def pipeline(project: Project) -> Project:
    """A project with the newcomer's ``pipeline.py``."""
    project.write("pipeline.py", PIPELINE)
    return project
