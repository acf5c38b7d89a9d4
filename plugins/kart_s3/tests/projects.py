"""A user's folder with a pipeline, in which commands are given."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import Server

from kart_core.cli import main

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
    kart.add_config("base.ini")
    kart.run()
"""

BASE_INI = """\
[TaskOnKart]
workspace_directory=${TASK_WORKSPACE_DIRECTORY}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


class Project:
    """A folder in which commands are given."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self._capsys = capsys
        self.write("pipeline.py", PIPELINE)

    def write(self, name: str, text: str) -> Path:
        """Writes one of the user's files."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def use(self, server: Server, url: str | None = None) -> str:
        """Makes a workspace of a server the one of every task; gives its URL."""
        url = url or server.new_url()
        self.monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        self.monkeypatch.setenv("KART_WORKSPACE_DIRECTORY", url)
        return url

    def kart(self, *words: str) -> Outcome:
        """``kart-core`` in this process."""
        self._capsys.readouterr()
        importlib.invalidate_caches()
        with pytest.raises(SystemExit) as ended:
            main(words)
        captured = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    def python(self, *words: str, environment: Mapping[str, str] | None = None) -> Outcome:
        """Python in a process of its own."""
        variables = dict(os.environ) if environment is None else dict(environment)
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=variables, capture_output=True, text=True, timeout=120
        )
        return Outcome(done.returncode, done.stdout, done.stderr)
