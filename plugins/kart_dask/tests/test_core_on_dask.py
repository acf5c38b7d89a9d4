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
OF_THE_COORDINATOR = [
    # Dask's client imports numpy, where it is installed, and looks for modules itself.
    "tests/test_seeding.py::test_the_record_tells_the_same_methods_whatever_the_process_had_imported",
    "tests/test_seeding.py::test_who_does_not_use_numpy_does_not_pay_for_it",
    "tests/test_seeding.py::test_the_import_hook_is_gone_after_the_run",
    "tests/test_seeding.py::test_a_task_may_clear_the_finders_that_it_does_not_know",
    # It limits what the process that builds, and those that it starts, may write; the cluster's were there before.
    "tests/test_rerun.py::test_a_rerun_for_which_there_is_no_room_leaves_the_old_result",
]
SOME = [
    *("requires_is_called_once_for", "cycle_is_an_error", "several_roots", "higher_priority"),
    *("writes_nothing_fails_itself", "original_exception", "tried_again_as_often", "code_20"),
    *("rerun_two_above", "rerun_of_the_task_that", "names_a_new_attempt", "rerun_that_fails_leaves and raises"),
    *("bare_random_seed", "first_and_the_one_that_runs_last", "inside_run_is_not_too_late and 3", "another_stream"),
    *("yielded_may_yield", "failure_where_it_yielded", "each_other_are_an_error", "with_its_exception"),
]
"""Words in the names of some of all kinds; SLOW_TESTS=1 runs every test."""


def on_cluster(standing: Any, folder: Path, *words: str) -> None:
    """Runs tests of the core with their tasks on the cluster."""
    sure = f"{ROOT}/tests/test_parallel_as_inline.py::test_tasks_run_where_the_environment_says"
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'inner'}", "--rootdir", str(ROOT)]
    options += [f"--deselect={name}" for name in OF_THE_COORDINATOR]
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, sure, *words],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "KART_"))},
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


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_the_cores_tests_hold_on_a_cluster(file: str, standing: Any, tmp_path: Path) -> None:
    on_cluster(standing, tmp_path, str(ROOT / "tests" / file))


def test_some_of_the_cores_tests_hold_on_a_cluster(standing: Any, tmp_path: Path) -> None:
    words = " or ".join(f"({word})" for word in (*SOME, "where_the_environment_says"))
    on_cluster(standing, tmp_path, *(str(ROOT / "tests" / file) for file in FILES), "-k", words)


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
