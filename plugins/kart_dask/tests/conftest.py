"""What the tests share: a user's project, and clusters."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kart_core import config

HERE = Path(__file__).parent
_S3 = HERE.parents[1] / "kart_s3"
sys.path.insert(0, str(HERE))

from pipes import PIPE  # noqa: E402

from clusters import Cluster  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a shell runs in the background, and for all that is started from there. Tests press Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "SLOW_TESTS" not in os.environ and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes a minute or two; SLOW_TESTS=1 runs it"))


class Project:
    """A folder with a user's module ``pipe``, which is the working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipe: Any = None

    def ran(self) -> list[str]:
        """What was run, in no order."""
        path = self.folder / "ran.txt"
        return sorted(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else []

    def kart(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """``kart-core`` in a process of its own."""
        return subprocess.run(self.words(*words), **self.how(environment), capture_output=True, timeout=240)

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            self.words(*words), **self.how(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-c", "from kart_core.cli import main; main()", *words]

    def how(self, environment: Mapping[str, str] | None) -> dict[str, Any]:
        return {"cwd": self.folder, "env": {**os.environ, **(environment or {})}, "text": True}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with the module of these tests' tasks."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pipe.py").write_text(PIPE)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    for name in [name for name in os.environ if name.startswith("KART_")]:
        monkeypatch.delenv(name)
    config.load_default()
    importlib.invalidate_caches()
    project = Project(folder)
    project.pipe = importlib.import_module("pipe")
    yield project
    del sys.modules["pipe"]
    monkeypatch.undo()
    config.load_default()


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two workers that runs all the time."""
    cluster = Cluster(tmp_path_factory.mktemp("standing"))
    for _ in range(2):
        cluster.worker()
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of a test's own, without workers."""
    cluster = Cluster(tmp_path / "cluster")
    yield cluster
    cluster.close()


@pytest.fixture
def on_dask(standing: Cluster, project: Project, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Has runs go to the standing cluster."""
    monkeypatch.setenv("KART_EXECUTOR", "dask")
    monkeypatch.setenv("KART_DASK__SCHEDULER_FILE", standing.file)
    return standing


@pytest.fixture
def on_own(cluster: Cluster, project: Project, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Has runs go to a cluster of the test's own."""
    monkeypatch.setenv("KART_EXECUTOR", "dask")
    monkeypatch.setenv("KART_DASK__SCHEDULER_FILE", cluster.file)
    return cluster


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, str]]:
    """A bucket named ``kart``; gives the variables by which other processes reach it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_S3), os.environ.get("PYTHONPATH")])),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(_S3))
    boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"]).create_bucket(Bucket="kart")
    yield variables
    server.stop()
