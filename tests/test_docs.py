"""Everything that the README, the docs and the docstrings show is run, as they show it.

A page is a story that is told in a folder of its own, block by block:

- a block whose first line is a comment that names a file is written to that file;
- a ``console`` block runs each line after ``$`` and compares what it prints: ``...`` stands for anything, one id
  for another, one duration for another, and ``~/project`` for the folder;
- a ``pycon`` block is a doctest, in a process of its own;
- any other ``python`` block is a script; it is only compiled if it begins with ``# gokart`` or ``# not run``.

Other blocks (``text``, ``toml`` without a file name …) are for the eye.
"""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import kart_core

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted(module.name for module in pkgutil.walk_packages(kart_core.__path__, "kart_core."))

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"^(?:#|;|//) ([\w./-]+\.(?:py|toml|ini|cfg|txt|csv|json))$")
VARYING = [
    (re.compile(r"\b\d{8}T\d{6}-[0-9a-f]{8}"), "RUN"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"), "ID"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+]0000 on \S+"), "START"),
    (re.compile(r"\bpython 3[.\d]+, kart_core [.\d]+"), "VERSIONS"),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line on which it begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KART_", "PYTEST_", "COV_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {
        **kept,
        "PATH": path,
        "HOME": str(home),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONHASHSEED": "1",
    }


def execute(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def matches(expected: str, printed: str, folder: Path) -> bool:
    printed = printed.replace(str(folder.resolve()), "~/project")
    for pattern, word in VARYING:
        expected, printed = pattern.sub(word, expected), pattern.sub(word, printed)
    return doctest.OutputChecker().check_output(expected.strip() + "\n", printed.strip() + "\n", FLAGS)


def run_console(block: Block, folder: Path, where: str) -> None:
    for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = shown.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command = command[:-1] + more.removeprefix(">").strip()
        done = execute(["bash", "-c", command], folder)
        if expected.strip():
            kept = matches(expected, done.stdout, folder)
        else:
            kept = done.returncode == 0
        if not kept:
            pytest.fail(f"{where}: $ {command}\n{done.stdout}", pytrace=False)


def run_block(block: Block, folder: Path, where: str) -> None:
    first = block.text.partition("\n")[0]
    if block.language == "python":
        compile(block.text, where, "exec")
    if named := FILE_NAME.match(first):
        file = folder / named[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")
    elif block.language == "console":
        run_console(block, folder, where)
    elif block.language == "pycon":
        (folder / "shown.txt").write_text(block.text, encoding="utf-8")
        options = ["-o", "ELLIPSIS", "-o", "NORMALIZE_WHITESPACE"]
        done = execute([sys.executable, "-m", "doctest", *options, "shown.txt"], folder)
        if done.returncode:
            pytest.fail(f"{where}\n{done.stdout}", pytrace=False)
    elif block.language == "python" and not first.startswith(("# gokart", "# not run")):
        (folder / "shown.py").write_text(block.text, encoding="utf-8")
        done = execute([sys.executable, "shown.py"], folder)
        if done.returncode:
            pytest.fail(f"{where}\n{done.stdout}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_happens(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        run_block(block, tmp_path, f"{page.name}:{block.line}")


@pytest.mark.parametrize("module", MODULES)
def test_what_a_docstring_shows_happens(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(module), optionflags=FLAGS)
    assert not found.failed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_between_pages_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked
