"""The core's own tests, with every workspace in a bucket: the same promises, the same results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CORE = Path(__file__).resolve().parents[3] / "tests/in_a_bucket.py"


@pytest.mark.slow
@pytest.mark.skipif(not CORE.exists(), reason="the core's tests are not here")
def test_the_cores_tests_hold_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CORE), "--basetemp", str(tmp_path / "core")],
        env={**os.environ, "CORE_TESTS_STORE_AT": f"gs://{bucket.name}/core"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    print(done.stdout)  # how many passed, and what was left out and why: shown with -rP
    assert done.returncode == 0, done.stderr[-1000:]
    assert bucket.names()
