"""The reproducibility matrix: one pipeline, the same digests in every cell, written into docs/reproducibility.md.

A row is a circumstance of ``matrix_cell.py``, a column is a Python, and each cell is had by every executor. For another
executor add it to `EXECUTORS`, for another circumstance a function to ``CIRCUMSTANCES``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kart_torch_seed
import pytest

import kart_core

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
INLINE, DASK = "inline", "Dask"
EXECUTORS: Mapping[str, Mapping[str, Any]] = {
    INLINE: {"executor": "inline"},
    "2 processes": {"executor": "processes", "workers": 2},
    "4 processes": {"executor": "processes", "workers": 4},
    DASK: {"executor": "dask", "workers": 2},
}
"""What a build is told, by the name of the executor on the page."""

NEEDED = ("attrs", "numpy", "pluggy", "tomli", "typing_extensions", "xxhash")
"""What kart and the plugin import in a cell."""

HERE = Path(__file__).parent
KART_DASK = HERE.parents[1] / "kart_dask"
PAGE = HERE.parents[2] / "docs" / "reproducibility.md"
BEGIN, END = "<!-- The matrix: written by plugins/kart_torch_seed/tests/test_matrix.py -->", "<!-- end -->"
FIRST = "from scratch, each first in a build"
RETRYING = "on a storage that retries inside `run()`"
INSIDE = "built inside another task"
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"

RANDOM = "https://docs.python.org/3/library/random.html#notes-on-reproducibility"
LEGACY = "https://numpy.org/doc/stable/reference/random/legacy.html"
POLICY = "https://numpy.org/doc/stable/reference/random/compatibility.html"
TORCH = "https://docs.pytorch.org/docs/stable/notes/randomness.html"
PROMISES = {
    "random": ("`random()` for a seed, for ever; the rest has been the same from Python 3.10 to 3.13", RANDOM),
    "numpy, old style": ("the same stream in every release", LEGACY),
    'numpy, new style: kart.rng("…")': ("the same stream in one build of numpy; a release may change it", POLICY),
    'kart.rng("…", kind="random")': ("as for `random`", RANDOM),
    "torch, CPU": ("nothing between releases or platforms", TORCH),
    'kart.rng("…", kind="torch")': ("as for torch", TORCH),
    "torch, data loader with two workers": ("as for torch", TORCH),
    "torch, CUDA": ("nothing between releases or platforms, nor between CPU and GPU", TORCH),
}
"""What each source's own library promises, and where."""


def circumstances() -> Sequence[str]:
    spec = importlib.util.spec_from_file_location("matrix_cell", HERE / "matrix_cell.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.CIRCUMSTANCES)


ROWS = circumstances()


@dataclass(frozen=True)
class Column:
    """A Python and one of `EXECUTORS`."""

    python: str
    executor: str

    def __str__(self) -> str:
        return f"{self.python} {self.executor}"


SLOW = "SLOW_TESTS" in os.environ
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith("KART_")}
COLUMNS = [Column(python, executor) for python in PYTHONS for executor in EXECUTORS]


def is_quick(row: str, column: Column) -> bool:
    """Whether a cell is always had. The rest takes minutes; SLOW_TESTS=1 has it all."""
    if column.executor == DASK:  # whose cluster takes seconds to start
        return column.python == OWN and row in (RETRYING, INSIDE)
    return column.executor == INLINE or (column.python == OWN and column.executor == "2 processes")


CELLS = [
    pytest.param(row, column, id=f"{row}-{column}")
    for row in ROWS
    for column in COLUMNS
    if SLOW or is_quick(row, column)
]


# --- the Pythons


@cache
def interpreter(version: str) -> str | None:
    """The executable of a Python of this version, if one is found."""
    if version == OWN:
        return sys.executable
    for environment in (dict(os.environ), *pyenv(version)):
        try:
            done = subprocess.run(
                [f"python{version}", "-c", "import sys; print(sys.executable)"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            return None
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def pyenv(version: str) -> Iterator[dict[str, str]]:
    """Environments in which pyenv, where there is one, offers a Python of this version."""
    if shutil.which("pyenv") is None:
        return
    done = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False)
    for line in done.stdout.split():
        if re.fullmatch(rf"{re.escape(version)}\.\d+", line):
            yield {**os.environ, "PYENV_VERSION": line}


# --- the cells


class Shared:
    """What is found out once, also where several processes share the tests among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def once(self, name: str, find: Callable[[Path], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What `find`, given a folder of its own, found; whoever comes second waits for it."""
        own = self.folder / re.sub(r"\W+", "-", name)
        answer = own.with_suffix(".json")
        try:
            own.mkdir()
        except FileExistsError:
            for _ in range(2400):
                if answer.exists():
                    break
                time.sleep(0.1)
        else:
            try:
                found = find(own)
            except BaseException as error:
                found = {"failed": repr(error)}
            unfinished = own.with_suffix(".tmp")
            unfinished.write_text(json.dumps(found))
            unfinished.rename(answer)
        return json.loads(answer.read_text())


class Cells:
    """What was found in each cell; a cell is a process of its own, and run once."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def __call__(self, row: str, column: Column) -> Mapping[str, Any]:
        found = self._shared.once(f"{row} {column}", lambda folder: self._run(row, column, folder))
        if "lacking" in found:
            pytest.skip(found["lacking"])
        assert "failed" not in found, found["failed"]
        return found

    def _libraries(self, version: str, what: str, *options: str) -> Mapping[str, Any]:
        """The folder into which pip has put libraries for a Python that is not this one."""

        def install(folder: Path) -> Mapping[str, Any]:
            always = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--python-version", version]
            pip = [sys.executable, "-m", "pip", "install", *always, "--target", str(folder), *options]
            if subprocess.run(pip, capture_output=True, check=False).returncode:
                return {"lacking": f"pip cannot install {what} for Python {version} here"}
            return {"folder": str(folder)}

        return self._shared.once(f"libraries {version} {what}", install)

    def _needed(self, column: Column) -> Sequence[Mapping[str, Any]]:
        """Where a cell finds what is not installed for it."""
        if column.python == OWN:
            lacking = {"lacking": "distributed is not installed here"}
            return [] if column.executor != DASK or find_spec("distributed") is not None else [lacking]
        found = [self._libraries(column.python, "numpy and the others", "--no-deps", *NEEDED)]
        if column.executor == DASK:
            found.append(self._libraries(column.python, "distributed", "distributed"))
        return found

    def _run(self, row: str, column: Column, folder: Path) -> Mapping[str, Any]:
        python = interpreter(column.python)
        if python is None:
            return {"lacking": f"Python {column.python} is not found here"}
        if column.executor == DASK and not KART_DASK.exists():
            return {"lacking": "the plugin is tested without kart_dask"}
        needed = self._needed(column)
        for one in needed:
            if "folder" not in one:
                return one
        sources = {str(Path(package.__file__ or "").parents[1]) for package in (kart_core, kart_torch_seed)}
        load = ["matrix_cell:Cloud", *(["kart_torch_seed:TorchSeed"] if column.python != OWN else [])]
        if column.executor == DASK and (column.python != OWN or find_spec("kart_dask") is None):
            load.append("kart_dask:Dask")
            sources.add(str(KART_DASK))
        settings = ['[TaskOnKart]\nworkspace_directory = "retrying://results"'] if row == RETRYING else []
        (folder / "kart.toml").write_text("\n".join([f"[plugins]\nload = {json.dumps(load)}", *settings]))
        path = os.pathsep.join([str(HERE), *(one["folder"] for one in needed), *sources])
        done = subprocess.run(
            [python, "-c", f"import matrix_cell; matrix_cell.main({row!r}, {EXECUTORS[column.executor]!r})"],
            cwd=folder,
            env={**OUTSIDE, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            return {"failed": done.stderr[-3000:]}
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    base = tmp_path_factory.getbasetemp()
    return Cells(Shared((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "matrix"))


def reference(cells: Cells, column: Column, source: str) -> str:
    """The id and digest with which a cell's are compared: torch promises nothing between its releases, so its own."""
    own = cells(FIRST, Column(column.python, INLINE))
    if "torch" in source:
        return own["found"][source]
    return cells(FIRST, Column(OWN, INLINE))["found"][source]


@pytest.mark.parametrize(("row", "column"), CELLS)
def test_every_cell_has_the_same_ids_and_digests(cells: Cells, row: str, column: Column) -> None:
    found = cells(row, column)["found"]
    assert found == {source: reference(cells, column, source) for source in found}
    assert len(set(found.values())) == len(found) >= 4


def test_the_page_shows_the_matrix(cells: Cells) -> None:
    if not PAGE.exists():
        pytest.skip("the plugin is tested without the pages of kart")
    if not SLOW:
        pytest.skip("the whole matrix takes minutes; SLOW_TESTS=1 has it all, and writes the page")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    shown, _, after = rest.partition(END)
    found = cells(FIRST, Column(OWN, INLINE))["found"]
    for source, value in found.items():
        row = re.search(rf"^\| {re.escape(name(source))} \| `(\w+)`", shown, re.MULTILINE)
        if row is not None and "torch" not in source:
            assert value.rpartition("/")[2].startswith(row[1]), f"{source}: for a change that is meant, empty the table"
    for row in ROWS:
        for column in COLUMNS:
            cells(row, column)  # where one cannot be had here, the page stays as it is
    table = written(cells)
    shown_sources, sources = (re.findall(r"^\| ([^|]+) \| `\w+`", text, re.MULTILINE) for text in (shown, table))
    # A machine without torch does not take its rows away.
    if table != shown and set(shown_sources) <= set(sources):
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")


# --- the table


def name(source: str) -> str:
    """A source as the page writes it."""
    return re.sub(r"(kart\.rng\(.*\))", r"`\1`", source)


def written(cells: Cells) -> str:
    """The tables, in Markdown."""
    heads = [head(python, cells(FIRST, Column(python, INLINE))["versions"]) for python in PYTHONS]
    lines = ["", "", f"| {', '.join(EXECUTORS)} | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for row in ROWS:
        counts = [" or ".join(map(str, sizes(cells, row, python))) + " the same" for python in PYTHONS]
        lines.append(f"| {row} | {' | '.join(counts)} |")
    lines += ["", "| source | digest in all these cells | what its library promises |", "| --- | --- | --- |"]
    everything = {source: value for column in COLUMNS for source, value in cells(FIRST, column)["found"].items()}
    for source, value in everything.items():
        promise, where = PROMISES[source]
        lines.append(f"| {name(source)} | `{value.rpartition('/')[2][:12]}` | {promise} ([source]({where})) |")
    return "\n".join([*lines, "", ""])


def sizes(cells: Cells, row: str, python: str) -> Sequence[int]:
    """How many sources there are in a cell: one number, unless executors differ in what can be had."""
    return sorted({len(cells(row, Column(python, executor))["found"]) for executor in EXECUTORS})


def head(python: str, versions: Mapping[str, str]) -> str:
    libraries = ", ".join(f"{library} {versions[library]}" for library in ("numpy", "torch") if library in versions)
    return f"Python {python}<br>{libraries}"
