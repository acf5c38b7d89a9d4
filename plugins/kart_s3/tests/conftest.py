"""The servers that the tests ask: a real one that checks signatures, a fake one, and a proxy before either."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from projects import Project
from proxy import Proxy
from racers import Racers
from servers import ACCESS_KEY, SECRET_KEY, Server, start_seaweed

from kart_core.config import load_default

SLOW = bool(os.environ.get("SLOW_TESTS"))
SETTINGS = [name for name in os.environ if name.startswith(("AWS_", "KART_"))]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not SLOW and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with SLOW_TESTS=1"))


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS, which checks signatures, with the bucket ``kart``."""
    with start_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """The server of moto, a fake that knows every odd key, with the bucket ``kart``."""
    from moto.server import ThreadedMotoServer

    process = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    process.start()
    host, port = process.get_host_and_port()
    server = Server(f"http://{host}:{port}", "kart")
    server.client().create_bucket(Bucket="kart")
    yield server
    process.stop()


@pytest.fixture(scope="session")
def racers() -> Iterator[Racers]:
    """Eight processes that begin at the same moment."""
    with closing(Racers()) as eight:
        yield eight


@pytest.fixture
def proxy(seaweed: Server) -> Iterator[Proxy]:
    """A proxy before SeaweedFS that counts, waits, and breaks connections as a test says."""
    with Proxy(seaweed.endpoint) as one:
        yield one


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of the machine's own, and none of its services."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right keys in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], credentials: None
) -> Iterator[Project]:
    """An empty folder of a user's, which is the working directory, with the right keys in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    load_default()
    yield Project(tmp_path, capsys, monkeypatch)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    monkeypatch.undo()
    load_default()
