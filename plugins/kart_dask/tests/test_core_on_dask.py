"""The core's own tests of graphs, failure, reruns, seeding and yielded tasks, with their tasks on a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FILES = ["test_graph.py", "test_failure.py", "test_rerun.py", "test_seeding.py", "test_dynamic.py"]
TOO_LONG = "not 20000"  # a chain of 20,000 goes to the scheduler and back 20,000 times: some minutes


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_the_cores_tests_hold_on_a_cluster(file: str, standing: Any, tmp_path: Path) -> None:
    sure = f"{ROOT}/tests/test_parallel_as_inline.py::test_tasks_run_where_the_environment_says"
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}", "-k", TOO_LONG]
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, sure, str(ROOT / "tests" / file)],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "KART_EXECUTOR": "dask",
            "KART_WORKERS": "2",
            "KART_DASK__SCHEDULER_FILE": standing.file,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = tests.communicate(timeout=900)
    except BaseException:
        os.killpg(tests.pid, signal.SIGKILL)
        tests.wait()
        raise
    assert tests.returncode == 0, out[-10_000:]


def test_everything_becomes_the_same(on_dask: Any, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    # Imported by its name, as workers import it.
    from tests.test_parallel_as_inline import Became, became

    inline = became(project.folder / "inline", executor="inline")
    cluster = became(project.folder / "dask", executor="dask", workers=2)
    for one in (inline, cluster):
        for record in one.records.values():
            # Of the default list those are called whose library was imported by then, by whatever task ran before.
            del record["seed"]["methods"]  # type: ignore[attr-defined]
    for field in {*Became.__dataclass_fields__} - {"events", "journal"}:
        assert getattr(cluster, field) == getattr(inline, field), field
