"""What goes wrong on a cluster stays where it is, and is told in a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from clusters import apart
from distributed import Client

import kart_core as kart
from kart_core.building import execute


def _until(is_so: Any) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _later(do: Any) -> threading.Thread:
    thread = threading.Thread(target=do)
    thread.start()
    return thread


# --- workers that are gone


def test_a_task_that_kills_its_process_costs_one_try_and_nobody_else(
    on_dask: Any, project: Any, caplog: pytest.LogCaptureFixture
) -> None:
    leaves = [project.pipe.Leaf(i=i) for i in range(8)]
    report = execute(project.pipe.Killed(), *leaves)
    assert not report.failures
    assert project.ran().count("killed") == 2
    assert all(project.ran().count(f"leaf{i}") == 1 for i in range(8))
    assert "SIGKILL" in caplog.text
    assert "tried again" in caplog.text


def test_a_task_that_kills_its_process_for_good_fails_alone(on_dask: Any, project: Any) -> None:
    task = project.pipe.KilledForGood(times=9)
    report = execute(task, *(project.pipe.Leaf(i=i) for i in range(8)))
    assert list(report.failures) == [task]
    assert project.ran().count("killed") == 1
    assert "signal 9 (SIGKILL)" in str(report.failures[task])
    assert len(report.ran) == 8


@pytest.mark.parametrize("retries", [0, 1])
def test_a_worker_that_is_killed_costs_the_task_that_it_ran_one_try(retries: int, on_own: Any, project: Any) -> None:
    doomed, other = on_own.worker(), on_own.worker()
    task = (project.pipe.WaitsAgain if retries else project.pipe.Waits)(name="go")

    def kill() -> None:
        _until(lambda: any(path.name.startswith("begun-go") for path in Path().iterdir()))
        pid = int(next(Path().glob("begun-go-*")).name.rpartition("-")[2])
        parent = _parent(pid)
        assert parent in (doomed.pid, other.pid)
        os.kill(parent, signal.SIGKILL)
        _until(lambda: _is_gone(pid))  # what it could still store would count
        Path("go").touch()

    thread = _later(kill)
    report = execute(task, *(project.pipe.Leaf(i=i) for i in range(8)))
    thread.join()
    assert project.ran().count("waits") == 1 + retries
    assert len(report.ran) == 8 + retries
    if not retries:
        (error,) = report.failures.values()
        assert "is gone: Dask lost its worker" in str(error)


def test_the_lease_of_a_task_with_a_timeout_is_not_waited_for_when_its_worker_is_gone(
    on_own: Any, project: Any
) -> None:
    on_own.worker()
    on_own.worker()
    Path("kart.toml").write_text('[TaskOnKart]\nshould_lock_run = true\n[leases]\nexpiry = "1h"\n')
    run = project.start("run", "pipe:WaitsWithin")
    try:
        _until(lambda: list(Path().glob("begun-go-*")))
        pid = int(next(Path().glob("begun-go-*")).name.rpartition("-")[2])
        time.sleep(0.5)  # that it has begun is heard of
        os.kill(_parent(_parent(pid)), signal.SIGKILL)
        _until(lambda: _is_gone(pid))
        Path("go").touch()
        _, err = run.communicate(timeout=60)
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()
    assert run.returncode == 0, err
    assert project.ran().count("waits") == 2


def test_a_worker_that_is_retired_costs_no_try(on_own: Any, project: Any, caplog: pytest.LogCaptureFixture) -> None:
    on_own.worker()
    on_own.worker()
    task = project.pipe.Waits(name="go")

    def retire() -> None:
        _until(lambda: list(Path().glob("begun-go-*")))
        pid = int(next(Path().glob("begun-go-*")).name.rpartition("-")[2])
        parent = _parent(pid)
        with Client(scheduler_file=on_own.file, set_as_default=False) as client:
            pids = client.run(os.getpid)
            client.retire_workers([address for address, found in pids.items() if found == parent])
        Path("go").touch()

    thread = _later(retire)
    report = execute(task)
    thread.join()
    assert not report.failures
    assert report.ran == [task]


def test_a_scheduler_that_is_killed_is_one_sentence_and_the_next_run_goes_on(
    on_own: Any, project: Any, standing: Any
) -> None:
    on_own.worker()
    run = project.start("run", "pipe:Total", "--n", "5", "pipe:Waits")
    _until(lambda: list(Path().glob("begun-go-*")) and len(project.ran()) >= 6)
    time.sleep(0.5)
    os.killpg(on_own.scheduler.pid, signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 70, err
    assert "the Dask scheduler tcp://127.0.0.1" in err
    assert "is gone" in err
    assert "Traceback" not in err, err
    Path("go").touch()
    again = project.kart("run", "pipe:Waits", environment={"KART_DASK__SCHEDULER_FILE": standing.file})
    assert again.returncode == 0, again.stderr
    total = project.kart("run", "pipe:Total", "--n", "5", environment={"KART_DASK__SCHEDULER_FILE": standing.file})
    assert total.returncode == 0, total.stderr
    assert all(project.ran().count(f"leaf{i}") == 1 for i in range(5))


def test_a_run_that_is_interrupted_leaves_nothing_running(on_dask: Any, project: Any) -> None:
    run = project.start("run", "pipe:Waits")
    _until(lambda: list(Path().glob("begun-go-*")))
    pid = int(next(Path().glob("begun-go-*")).name.rpartition("-")[2])
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    _until(lambda: _is_gone(pid))


def test_ctrl_c_in_a_terminal_leaves_the_workers_of_a_local_cluster_to_the_run(project: Any) -> None:
    run = subprocess.Popen(
        project.words("run", "pipe:Waits", "--executor", "dask", "--workers", "1"),
        **project.how(None),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _until(lambda: list(Path().glob("begun-go-*")))
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the whole group in its foreground
    Path("go").touch()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "Traceback" not in err, err
    assert ": 1 ran, 0 reused" in out, out + err


KILLED = """\
import os
import kart_core as kart
from kart_core.execution import outfit
import pipe

outfit.HOLD = 0.5
kart.build(pipe.AsksWithin(), should_lock_run=True)
"""


def test_a_process_that_holds_a_task_of_a_run_that_was_killed_ends_and_blocks_nobody(
    on_dask: Any, project: Any
) -> None:
    Path("killed.py").write_text(KILLED)
    Path("kart.toml").write_text('[leases]\nrenew_every = "0.5s"\nexpiry = "2s"\n')
    run = subprocess.Popen([sys.executable, "killed.py"], start_new_session=True)
    _until(lambda: list(Path().glob("begun-go-*")))
    holder = int(Path("holder.txt").read_text())
    run.kill()
    run.wait()
    Path("go").touch()
    _until(lambda: _is_gone(holder))
    assert kart.build(project.pipe.AsksWithin(), should_lock_run=True) == 1


HELD = """\

import kart_core as kart
from kart_core.execution import outfit
import pipe

outfit.HOLD = 2.0
assert kart.build(pipe.HeldOnOne()) == 2
"""


def test_a_process_that_holds_a_task_is_kept_while_other_runs_use_its_worker(on_own: Any, project: Any) -> None:
    for name in ("one", "two"):
        on_own.worker(options=("--resources", f"{name}=1"))
    Path("held.py").write_text(HELD)
    run = subprocess.Popen([sys.executable, "held.py"], start_new_session=True)
    try:
        _until(lambda: Path("begun-two").exists())
        # Longer than the process is kept when nothing is heard of its run; and of as many runs as are remembered.
        for i, seconds in enumerate((5.0, 0.0, 0.0, 0.0, 0.0)):
            other = project.kart("run", "pipe:OnOne", "--i", str(i), "--seconds", str(seconds))
            assert other.returncode == 0, other.stderr
        assert not _is_gone(int(Path("holder.txt").read_text()))
        Path("go").touch()
        assert run.wait(60) == 0
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()


# --- clusters that cannot be used


def test_a_scheduler_that_does_not_answer_is_one_sentence(project: Any) -> None:
    done = project.kart(
        *("run", "pipe:Leaf", "--i", "1", "--executor", "dask"),
        *("--set", "plugins.dask.address=tcp://127.0.0.1:1", "--set", "plugins.dask.connect_timeout=1"),
    )
    assert done.returncode == 70
    assert "the Dask scheduler tcp://127.0.0.1:1 cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_with_several_threads_are_refused(on_own: Any, project: Any) -> None:
    on_own.worker(threads=2)
    with pytest.raises(kart.PluginError, match=r"has 2 threads.*--nthreads 1"):
        kart.build(project.pipe.Leaf(i=1))


def test_workers_with_several_threads_that_come_later_are_refused(on_own: Any, project: Any) -> None:
    thread = _later(lambda: (_until(lambda: Path("started").exists()), on_own.worker(threads=2)))
    Path("started").touch()
    with pytest.raises(kart.PluginError, match=r"--nthreads 1"):
        kart.build(project.pipe.Leaf(i=1))
    thread.join()


def test_a_worker_without_kart_is_named(on_own: Any, project: Any) -> None:
    on_own.worker(before="import sys; sys.modules['kart_core'] = None; ")
    with pytest.raises(kart.PluginError, match=r"has no kart-core.*pip install"):
        kart.build(project.pipe.Leaf(i=1))


def test_a_worker_with_another_version_of_kart_is_an_error_that_shows_both(on_own: Any, project: Any) -> None:
    from kart_core._version import __version__

    on_own.worker(before="import kart_core._version as v; v.__version__ = '0.0.9'; ")
    with pytest.raises(kart.PluginError, match=r"has kart-core 0\.0\.9, and the process that builds has") as error:
        kart.build(project.pipe.Leaf(i=1))
    assert __version__ in str(error.value)


PLUGIN = """\
from kart_core.plugin import Plugin, Serializer, hookimpl


class Other(Plugin):
    @hookimpl
    def kart_serializers(self):
        return [Serializer("other", dump=self.dump, load=self.load)]

    def dump(self, value, file):
        file.write(value.encode())

    def load(self, file):
        return file.read().decode()
"""

USER = """\
import kart_core as kart


class Text(kart.TaskOnKart[str]):
    def output(self):
        return self.make_target("text.other")

    def run(self) -> str:
        return "text"
"""


@apart
def test_a_plugin_of_another_version_on_a_worker_is_an_error_that_shows_both(
    on_own: Any, project: Any, tmp_path: Path
) -> None:
    for version in ("1.0", "2.0"):
        folder = tmp_path / version
        (folder / f"kart_other-{version}.dist-info").mkdir(parents=True)
        (folder / "kart_other.py").write_text(PLUGIN)
        info = folder / f"kart_other-{version}.dist-info"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kart-other\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[kart_core.serializers]\nother = kart_other:Other\n")
    (project.folder / "user.py").write_text(USER)
    on_own.worker(hidden=[tmp_path / "1.0"], environment={"PYTHONPATH": str(tmp_path / "2.0")})
    done = project.kart("run", "user:Text", environment={"PYTHONPATH": str(tmp_path / "1.0")})
    assert done.returncode == 70
    assert "kart-other 1.0" in done.stderr
    assert "has version 2.0" in done.stderr


@apart
def test_a_disk_that_a_worker_does_not_share_is_refused(on_own: Any, project: Any) -> None:
    (project.folder / "resources").mkdir()
    on_own.worker(hidden=[project.folder / "resources"])
    with pytest.raises(kart.ConfigError, match=r"does not see the workspace .*resources of the process that builds"):
        kart.build(project.pipe.Plain(i=1))


def test_memory_is_refused_when_planned(on_dask: Any, project: Any) -> None:
    with pytest.raises(kart.ConfigError, match="memory://"):
        kart.build(project.pipe.Leaf(i=1), workspace_directory="memory://x")


# --- settings


def test_two_places_of_the_cluster_are_refused(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_DASK__ADDRESS", "tcp://127.0.0.1:1")
    monkeypatch.setenv("KART_DASK__SCHEDULER_FILE", "file.json")
    with pytest.raises(kart.ConfigError, match="address and scheduler_file each say where the cluster is"):
        kart.build(project.pipe.Leaf(i=1), executor="dask")


@pytest.mark.parametrize("text", ["", "garbage", "{}", '{"address": 1}', '{"address": "http://127.0.0.1:1"}'])
def test_a_scheduler_file_that_names_no_scheduler_is_said_at_once(
    project: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    Path("half.json").write_text(text)
    monkeypatch.setenv("KART_DASK__SCHEDULER_FILE", "half.json")
    with pytest.raises(kart.PluginError, match=r"half\.json names no scheduler"):
        kart.build(project.pipe.Leaf(i=1), executor="dask")


def test_an_address_of_a_kind_that_dask_does_not_know_is_said_at_once(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KART_DASK__ADDRESS", "http://127.0.0.1:8786")
    with pytest.raises(kart.PluginError, match="it knows no http://; give tcp://HOST:PORT"):
        kart.build(project.pipe.Leaf(i=1), executor="dask")


def test_a_scheduler_file_that_is_not_there_is_named(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_DASK__SCHEDULER_FILE", "absent.json")
    with pytest.raises(kart.PluginError, match=r"there is no file absent\.json"):
        kart.build(project.pipe.Leaf(i=1), executor="dask")


def test_a_cluster_is_made_by_a_function_and_closed_after_the_run(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "own_cluster.py").write_text(
        "from distributed import LocalCluster\n\n"
        "made = []\n\n\n"
        "def make():\n"
        "    made.append(LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None))\n"
        "    return made[0]\n"
    )
    monkeypatch.setenv("KART_DASK__CLUSTER", "own_cluster:make")
    assert kart.build(project.pipe.Leaf(i=1), executor="dask") >= 0
    import own_cluster

    assert own_cluster.made[0].status.name == "closed"
    monkeypatch.setenv("KART_DASK__CLUSTER", "own_cluster:absent")
    with pytest.raises(kart.PluginError, match=r"own_cluster:absent.*cannot be had"):
        kart.build(project.pipe.Leaf(i=2), executor="dask")
