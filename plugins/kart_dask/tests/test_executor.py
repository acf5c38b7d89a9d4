"""What a cluster makes of tasks is what one process makes of them."""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import kart_core as kart
from kart_core.building import execute


def test_results_and_records_are_those_of_one_process(on_dask: Any, project: Any) -> None:
    total = project.pipe.Total(n=30)
    inline = kart.build(total, workspace_directory="inline", executor="inline")
    assert kart.build(total) == inline
    here, there = kart.record(total, workspace_directory="inline"), kart.record(total)
    assert (here.task, here.unique_id, here.outputs, here.parameters, here.seed["value"], here.code, here.versions) == (
        there.task,
        there.unique_id,
        there.outputs,
        there.parameters,
        there.seed["value"],
        there.code,
        there.versions,
    )
    assert {one.digest for one in here.requirements} == {one.digest for one in there.requirements}


def test_a_second_run_does_not_even_speak_to_the_scheduler(project: Any) -> None:
    kart.build(project.pipe.Leaf(i=1))
    report = execute(project.pipe.Leaf(i=1), executor="dask", workers=2)
    assert (len(report.ran), len(report.reused), report.about) == (0, 1, "")


def test_a_long_chain_travels_as_small_pieces(on_dask: Any, project: Any) -> None:
    task = None
    for _ in range(150):
        task = project.pipe.Deep(before=task)
    assert kart.build(task) == 150


def test_tasks_work_where_the_process_that_builds_works(on_dask: Any, project: Any) -> None:
    assert set(kart.build(*(project.pipe.Where(i=i) for i in range(4)))) == {str(project.folder)}


def test_a_pipeline_that_grows_three_levels_deep_is_equal_everywhere(on_dask: Any, project: Any) -> None:
    task = project.pipe.Grow()
    inline = kart.build(task, workspace_directory="inline", executor="inline")
    once = project.ran()
    for executor in ("processes", "dask"):
        Path("ran.txt").unlink()
        assert kart.build(task, workspace_directory=executor, executor=executor, workers=2) == inline
        assert project.ran() == once
        here = kart.record(task, workspace_directory="inline")
        there = kart.record(task, workspace_directory=executor)
        assert {one.unique_id for one in here.requirements} == {one.unique_id for one in there.requirements}
    Path("ran.txt").unlink()
    report = execute(task, workspace_directory="dask")
    assert (report.ran, project.ran()) == ([], [])


def test_a_pipeline_that_grows_goes_on_after_a_kill(on_dask: Any, project: Any) -> None:
    Path("slow").touch()
    # Each task that waits for what it has yielded has a lease, which outlives the kill by its expiry.
    Path("kart.toml").write_text('[leases]\nrenew_every = "0.5s"\nexpiry = "2s"\n')
    run = project.start("run", "pipe:Grow")
    _until(lambda: sum(name == "grow0" for name in project.ran()) >= 2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.communicate()
    time.sleep(1.0)  # what the workers had begun ends
    began = {path: path.stat().st_mtime_ns for path in Path("resources/.kart/records").glob("*/*.json")}
    assert began
    done = project.kart("run", "pipe:Grow")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in began} == began  # what was stored did not run again
    inline = kart.build(project.pipe.Grow(), workspace_directory="inline", executor="inline")
    assert kart.build(project.pipe.Grow()) == inline


def test_what_a_task_logs_and_prints_is_seen_while_it_runs(
    on_dask: Any, project: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    def heard() -> None:
        end = time.monotonic() + 60
        while "logged by the task" not in caplog.text and time.monotonic() < end:
            time.sleep(0.05)
        shown.append(caplog.text)
        Path("heard").touch()

    listener = threading.Thread(target=heard)
    listener.start()
    with caplog.at_level(logging.INFO):
        kart.build(project.pipe.Chatty())
    listener.join()
    assert "pipe.Chatty: logged by the task" in shown[0]
    assert "printed by the task\n" in capsys.readouterr().out


def test_a_task_beyond_its_timeout_is_stopped_and_its_worker_goes_on(on_dask: Any, project: Any) -> None:
    task, leaf = project.pipe.Sleeps(), project.pipe.Leaf(i=1)
    report = execute(task, leaf)
    assert isinstance(report.failures[task], TimeoutError)
    assert [type(one).__name__ for one in report.ran] == ["Leaf"]
    assert kart.build(project.pipe.Leaf(i=2)) >= 0


def test_code_that_was_changed_is_imported_anew_by_workers_that_live_on(on_dask: Any, project: Any) -> None:
    first = project.kart("run", "pipe:Plain", "--i", "1")
    assert first.returncode == 0, first.stderr
    text = (project.folder / "pipe.py").read_text()
    (project.folder / "pipe.py").write_text(text.replace("10**6) + self.i", "10**6) + 1000000000"))
    second = project.kart("run", "pipe:Plain", "--i", "2")
    assert second.returncode == 0, second.stderr
    assert kart.build(project.pipe.Plain(i=2)) >= 1000000000


def test_without_a_cluster_one_is_started_on_this_machine(project: Any) -> None:
    done = project.kart("run", "pipe:Total", "--executor", "dask", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "21 ran" in done.stdout
    assert "dashboard http://127.0.0.1" in done.stdout
    assert len({line.split()[1] for line in Path("ran.txt").read_text().splitlines()}) == 2


def test_resources_that_workers_have_say_where_a_task_runs(on_own: Any, project: Any) -> None:
    on_own.worker(environment={"TEST_WORKER": "worker1"})
    on_own.worker(environment={"TEST_WORKER": "worker2"}, options=("--resources", "GPU=1"))
    assert set(kart.build(*(project.pipe.OnGpu(i=i) for i in range(4)))) == {"worker2"}


def test_resources_of_workers_that_come_later_say_so_too(on_own: Any, project: Any) -> None:
    on_own.worker(environment={"TEST_WORKER": "worker1"})

    def join() -> None:
        _until(lambda: list(Path().glob("begun-go-*")))
        on_own.worker(environment={"TEST_WORKER": "worker2"}, options=("--resources", "GPU=1"))
        Path("go").touch()

    thread = threading.Thread(target=join)
    thread.start()
    report = execute(*(project.pipe.OnGpuLater(i=i) for i in range(4)))
    thread.join()
    assert not report.failures
    assert set(kart.build(*(project.pipe.OnGpuLater(i=i) for i in range(4)))) == {"worker2"}


def _until(is_so: Any) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
