"""The core's own tests, with every workspace in a bucket: the same promises, the same results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[2] / "tests"
FILES = ("rerun", "records", "failure", "load_and_dump", "outputs", "identity")

# It holds locally only while the task's source is newer than its record by less than the clock's slack.
NOT = "not test_a_damaged_record_is_an_error_that_names_it_and_what_to_do"


@pytest.mark.slow
@pytest.mark.skipif(not CORE.is_dir(), reason="the core's tests are not here")
@pytest.mark.parametrize("name", FILES)
def test_the_cores_tests_hold_in_a_bucket(name: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(HERE / "core_on_a_bucket"), str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CORE_TEST_BUCKET": "gs://kart-core/t"}
    words = ["-m", "pytest", "-q", "-p", "on_a_bucket", "-k", NOT, "--basetemp", str(tmp_path / "core")]
    done = subprocess.run(
        [sys.executable, *words, str(CORE / f"test_{name}.py")],
        cwd=CORE.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
