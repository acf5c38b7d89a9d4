"""The core's own tests, with every workspace in a bucket: the same promises, the same results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from servers import Server

CORE = Path(__file__).resolve().parents[3] / "tests/in_a_bucket.py"


@pytest.mark.skipif(not CORE.exists(), reason="the core's tests are not here")
@pytest.mark.parametrize("name", ["seaweed", pytest.param("moto", marks=pytest.mark.slow)])
def test_the_cores_tests_hold_in_a_bucket(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    url = server.new_url()
    done = subprocess.run(
        [sys.executable, str(CORE), "--basetemp", str(tmp_path / "core")],
        env=server.environment(CORE_TESTS_STORE_AT=url),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    print(done.stdout)  # how many passed, and what was left out and why: shown with -rP
    assert done.returncode == 0, done.stderr[-1000:]
    assert server.keys(url)
