"""What type checkers say of users' code: pyright in strict mode and mypy with --strict, without a plugin.

The folder ``accepted`` is free of faults and of ``Any``; in ``refused`` each line with a comment
``# refused: …`` is reported by both, and no other line is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

FOLDER = Path(__file__).parent / "typing"
ACCEPTED = sorted((FOLDER / "accepted").glob("*.py"))
REFUSED = sorted((FOLDER / "refused").glob("*.py"))


@attrs.frozen
class Said:
    """What a checker said, by line: ``refused/fields.py:9``."""

    faults: dict[str, list[str]]
    revealed: dict[str, list[str]]


def said(lines: list[tuple[str, int, str, str]]) -> Said:
    answer = Said({}, {})
    for file, line, kind, text in lines:
        path = (FOLDER / file).resolve()
        if path.is_relative_to(FOLDER) and kind != "note":
            kept = answer.revealed if kind == "revealed" else answer.faults
            kept.setdefault(f"{path.relative_to(FOLDER).as_posix()}:{line}", []).append(text)
    return answer


def run(*command: str) -> str:
    environment = {**os.environ, "MYPYPATH": str(FOLDER / "accepted"), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=FOLDER, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        pytest.fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def mypy() -> Said:
    options = ("--strict", "--python-version=3.10", "--config-file=", f"--cache-dir={FOLDER.parent.parent}/.mypy_cache")
    files = [file.relative_to(FOLDER).as_posix() for file in ACCEPTED + REFUSED]
    found = re.findall(r"^(.+?):(\d+): (\w+): (.*)$", run("mypy", *options, *files), re.M)
    return said(
        [
            (file, int(line), "revealed" if text.startswith("Revealed type") else kind, text)
            for file, line, kind, text in found
        ]
    )


@pytest.fixture(scope="module")
def pyright() -> Said:
    answer = json.loads(run("pyright", "--outputjson", "--project", ".", "--pythonpath", sys.executable))
    assert answer["summary"]["filesAnalyzed"] >= len(ACCEPTED + REFUSED)

    def line(one: dict[str, Any]) -> tuple[str, int, str, str]:
        revealed = one["message"].startswith("Type of ") and one["severity"] == "information"
        return one["file"], one["range"]["start"]["line"] + 1, "revealed" if revealed else "fault", one["message"]

    return said([line(one) for one in answer["generalDiagnostics"]])


def marked(mark: str, files: list[Path]) -> set[str]:
    return {
        f"{file.relative_to(FOLDER).as_posix()}:{number}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if mark in line
    }


@pytest.mark.parametrize("checker", ["pyright", "mypy"])
def test_users_code_is_accepted(checker: str, request: pytest.FixtureRequest) -> None:
    faults = request.getfixturevalue(checker).faults
    assert {line: texts for line, texts in faults.items() if line.startswith("accepted/")} == {}


@pytest.mark.parametrize("checker", ["pyright", "mypy"])
def test_no_revealed_type_is_any(checker: str, request: pytest.FixtureRequest) -> None:
    revealed = request.getfixturevalue(checker).revealed
    assert set(revealed) == marked("reveal_type(", ACCEPTED)
    for line, texts in revealed.items():
        assert not re.search(r"\b(Any|Unknown)\b", " ".join(texts)), f"{line}: {texts}"


@pytest.mark.parametrize("checker", ["pyright", "mypy"])
def test_wrong_code_is_refused_on_its_line_and_no_other(checker: str, request: pytest.FixtureRequest) -> None:
    faults = {
        line: texts for line, texts in request.getfixturevalue(checker).faults.items() if line.startswith("refused/")
    }
    expected = marked("# refused: ", REFUSED)
    assert sorted(expected - set(faults)) == [], "passed though it is wrong"
    assert {line: faults[line] for line in sorted(set(faults) - expected)} == {}, "refused though it is right"
