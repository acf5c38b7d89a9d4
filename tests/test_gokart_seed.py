"""A team that comes from gokart keeps its numbers, with the outside plugin of the examples, really installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parent.parent / "examples" / "kart_gokart_seed"
DOCUMENTED = [65, 41, 61, 37, 55, 81, 48, 2, 94, 21]
"""What the documents of gokart print for ``random.randint(0, 100)`` with the seed 57."""

ASK = """\
import json, random
import kart_core as kart


class Draw(kart.TaskOnKart[list[int]]):
    def run(self):
        return [random.randint(0, 100) for _ in range(10)]


random.seed(1)
expected = [random.random() for _ in range(3)]
random.seed(1)
old = Draw(fix_random_seed_methods=["gokart.random.seed"], fix_random_seed_value=57)
own = Draw(fix_random_seed_value=57)
both = Draw(fix_random_seed_methods=["random.seed", "gokart.random.seed"], fix_random_seed_value=57)
answer = {"drawn": kart.build(old, own, both), "ids": [old.unique_id, own.unique_id]}
answer["seed"] = dict(kart.record(old).seed)
answer["caller"] = [random.random() for _ in range(3)] == expected
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process says in which the plugin is installed."""
    folder = tmp_path_factory.mktemp("gokart")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(PLUGIN)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_numbers_of_the_documents_of_gokart(answer: Any) -> None:
    assert answer["drawn"][0] == DOCUMENTED


def test_next_to_the_stream_of_a_bare_seed(answer: Any) -> None:
    assert answer["drawn"][1] != DOCUMENTED
    assert answer["ids"][0] != answer["ids"][1]


def test_of_two_methods_that_seed_one_generator_the_later_counts_and_the_caller_gets_his_own_back(answer: Any) -> None:
    assert answer["drawn"][2] == DOCUMENTED
    assert answer["caller"]


def test_the_record_names_the_method(answer: Any) -> None:
    assert answer["seed"] == {"value": 57, "methods": ["gokart.random.seed"]}
