"""What the tests share: a folder of their own to work in, and Python in a process of its own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kart_core import config

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; what a test does to the generators of this process stays in the test."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KART_")]:
        monkeypatch.delenv(name)
    config.load_default()
    states = random.getstate(), np.random.get_state()
    yield tmp_path
    random.setstate(states[0])
    np.random.set_state(states[1])
    monkeypatch.undo()
    config.load_default()


@pytest.fixture
def python(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Python with the given words, in a process of its own, in the test's folder."""

    def python(*words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return python


@pytest.fixture
def ask(python: Any) -> Ask:
    """What a new process says to an expression, after some lines."""

    def ask(expression: str, *before: str, environment: Mapping[str, str] | None = None) -> Any:
        lines = ["import json, sys, kart_core as kart", *before, f"print(json.dumps({expression}))"]
        done = python("-c", "\n".join(lines), environment=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ask


@pytest.fixture
def anew(folder: Path) -> Callable[..., Any]:
    """Builds tasks that have no result yet."""
    import kart_core as kart

    count = 0

    def anew(*tasks: Any, **given: Any) -> Any:
        nonlocal count
        count += 1
        return kart.build(*tasks, workspace_directory=f"anew/{count}", **given)

    return anew
