"""The promise that brings people here: "the output is as follows every time"."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import kart_core as kart

METHODS = ["random.seed", "numpy.random.seed", "torch.random.manual_seed"]
NUMPY_57 = [79, 86, 5, 22, 79, 98, 56, 40, 81, 37]
TORCH_57 = [0.14460121095180511, -0.11649507284164429, 0.6928958296775818, -0.916053831577301, 0.7317505478858948]

EXAMPLE = Path(__file__).parents[3] / "examples" / "fixed_seed.py"

MAIN = """\
import random

import kart_core as kart


class Draw(kart.TaskOnKart[dict]):
    def run(self):
        import numpy as np
        import torch

        self.dump({
            "random": [random.randint(0, 100) for _ in range(10)],
            "numpy": [int(np.random.randint(0, 100)) for _ in range(10)],
            "torch": [torch.randn(1).tolist()[0] for _ in range(5)],
        })


if __name__ == "__main__":
    kart.run()
"""

INI = """\
[Draw]
fix_random_seed_methods = ["random.seed", "numpy.random.seed", "torch.random.manual_seed"]
fix_random_seed_value = 57
"""

LAST = """\
import json, sys
import kart_core as kart
from main import Draw

for path in sys.argv[1:]:
    kart.add_config(path)
print(json.dumps(kart.build(Draw())))
"""


def bare(seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randint(0, 100) for _ in range(10)]


def results(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().hex() for path in (folder / "resources/main").iterdir()}


def test_five_ways_to_give_the_seed_are_one_id_one_file_and_these_numbers(folder: Path, python: Any) -> None:
    pytest.importorskip("torch")
    (folder / "main.py").write_text(MAIN)
    (folder / "last.py").write_text(LAST)
    (folder / "base.ini").write_text(INI)
    given = json.dumps(METHODS)
    options = ["--fix-random-seed-methods", given, "--fix-random-seed-value", "57"]
    build = f"kart.build(Draw(fix_random_seed_methods={METHODS!r}, fix_random_seed_value=57))"
    ways: dict[str, Sequence[str]] = {
        "from Python": ["-c", f"import kart_core as kart; from main import Draw; {build}"],
        "from main.py": ["main.py", "Draw", *options],
        "from kart-core run": ["-m", "kart_core", "run", "main:Draw", *options],
        "from base.ini": ["last.py", "base.ini"],
        "from kart.toml": ["last.py"],
    }
    found: dict[str, Any] = {}
    for way, words in ways.items():
        if way == "from kart.toml":
            (folder / "kart.toml").write_text(
                f"[Draw]\nfix_random_seed_methods = {given}\nfix_random_seed_value = 57\n"
            )
        done = python(*words)
        assert done.returncode == 0, (way, done.stderr)
        found[way] = results(folder)
        assert len(found[way]) == 1, way
        for path in (folder / "resources/main").iterdir():
            path.unlink()
    assert len({json.dumps(files) for files in found.values()}) == 1
    done = python("last.py")
    assert json.loads(done.stdout) == {"random": bare(57), "numpy": NUMPY_57, "torch": TORCH_57}


def test_the_example_prints_these_numbers(folder: Path, python: Any) -> None:
    pytest.importorskip("torch")
    if not EXAMPLE.exists():
        pytest.skip("the plugin is tested without the examples of kart")
    done = python(str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    printed = {line.split()[0]: [json.loads(word) for word in line.split()[1:]] for line in done.stdout.splitlines()}
    assert printed == {"random": bare(57), "numpy": NUMPY_57, "torch": TORCH_57}


class Draw(kart.TaskOnKart[list[int]]):
    def run(self) -> list[int]:
        return [random.randint(0, 100) for _ in range(10)]


def test_two_seeds_are_two_results() -> None:
    one, other = Draw(fix_random_seed_value=57), Draw(fix_random_seed_value=58)
    assert kart.build(one, other) == (bare(57), bare(58))
    assert one.unique_id != other.unique_id
    assert len(list(Path("resources").glob("**/Draw_*.pkl"))) == 2
    assert kart.build(one, other) == (bare(57), bare(58))


def test_a_list_of_methods_equal_to_the_default_changes_no_id() -> None:
    assert Draw(fix_random_seed_methods=["random.seed", "numpy.random.seed"]).unique_id == Draw().unique_id
    assert Draw(fix_random_seed_methods=["random.seed"]).unique_id != Draw().unique_id
    assert Draw(fix_random_seed_value=None).unique_id == Draw().unique_id


def test_the_plugin_changes_no_id_and_no_number(ask: Any, folder: Path) -> None:
    (folder / "main.py").write_text(
        MAIN.replace("import torch", "").replace('"torch": [torch', '"torch": [0 and torch')
    )
    answers = [
        ask("[Draw().unique_id, kart.build(Draw(), rerun=True)]", "from main import Draw", environment=environment)
        for environment in ({}, {"KART_DISABLE_PLUGINS": "torch_seed"})
    ]
    assert answers[0] == answers[1]


def test_the_record_tells_the_seed_and_the_methods_whatever_the_process_had_imported(ask: Any, folder: Path) -> None:
    (folder / "main.py").write_text(MAIN)
    seed = ask("dict(kart.record(task).seed)", "import random; from collections.abc import Sequence",
               "class Draw(kart.TaskOnKart[int]):",
               "    def run(self): return random.randint(0, 100)",
               f"task = Draw(fix_random_seed_methods={METHODS[:2]!r}, fix_random_seed_value=57)",
               "kart.build(task)")  # fmt: skip
    assert seed == {"value": 57, "methods": METHODS[:2]}
