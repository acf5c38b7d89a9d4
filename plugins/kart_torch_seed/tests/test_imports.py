"""Neither numpy nor torch is imported before a task needs it, with the plugin installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PIPELINE = """\
import random

import kart_core as kart


class Plain(kart.TaskOnKart[int]):
    def run(self):
        return random.randint(0, 100)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["plugins"],
        ["run", "pipeline:Plain"],
        ["plan", "pipeline:Plain", "--fix-random-seed-methods", '["torch.manual_seed"]'],
        ["run", "pipeline:Plain", "--fix-random-seed-methods", '["torch.manual_seed", "numpy.random.seed"]'],
    ],
    ids=["--help", "plugins", "run", "plan with torch seeded", "run with torch seeded"],
)
def test_no_command_imports_torch_or_numpy_for_a_task_that_does_not(
    folder: Path, python: Any, words: list[str]
) -> None:
    if "torch" in str(words):
        pytest.importorskip("torch")
    (folder / "pipeline.py").write_text(PIPELINE)
    done = python("-X", "importtime", "-m", "kart_core", *words)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "kart_core" in imported
    assert not imported & {"torch", "numpy"}


def test_the_plugin_itself_is_there(ask: Any) -> None:
    names = ask("host.current().names('kart_seeders')", "from kart_core import host")
    assert {"numpy.random.seed", "torch.manual_seed", "torch.use_deterministic_algorithms"} <= set(names)


def test_importing_the_plugin_imports_neither(ask: Any) -> None:
    assert ask("[name for name in ('numpy', 'torch') if name in sys.modules]", "import kart_torch_seed") == []


LATE = """\
import kart_core as kart


class Late(kart.TaskOnKart[list[float]]):
    fix_random_seed_value: int | None = 57

    def run(self):
        import torch

        return [torch.randn(1).tolist()[0] for _ in range(5)]
"""


def test_torch_that_is_imported_inside_run_is_seeded_at_that_moment_and_the_callers_afterwards(
    folder: Path, ask: Any
) -> None:
    pytest.importorskip("torch")
    (folder / "late.py").write_text(LATE)
    draws = "__import__('torch').randn(1).item()"
    ways = [
        ask(
            f"['torch' in sys.modules, kart.build(task, rerun=True), {draws}]",
            "from late import Late",
            "task = Late(fix_random_seed_methods=['torch.manual_seed'])",
        )
        for _ in range(2)
    ]
    assert ways[0][0] is False
    assert ways[0][1] == ways[1][1]
    assert ways[0][1][0] == 0.14460121095180511
    assert ways[0][2] != ways[1][2], "not the stream of the task, which is the same every time"
