"""The servers, once per session, and buckets in them."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))
servers = importlib.import_module("gcs_servers")

_number = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with SLOW_TESTS=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("SLOW_TESTS"):
        for item in items:
            if item.get_closest_marker("slow") and item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason="slow; run with SLOW_TESTS=1"))


_FOREIGN = (
    "GCS_CREDENTIAL",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GCE_METADATA_HOST",
    "K_SERVICE",
    "DISCOVER_CACHE_LOCAL_PATH",
    "STORAGE_EMULATOR_HOST",
    "https_proxy",
    "http_proxy",
    "HTTPS_PROXY",
    "HTTP_PROXY",
)


@pytest.fixture(scope="session")
def storage() -> Iterator[Any]:
    """The guard, and the emulator behind it."""
    inner, outer = servers.free_port(), servers.free_port()
    with (
        servers.fake_gcs(inner, f"http://127.0.0.1:{outer}") as url,
        servers.guarded(outer, url) as guard,
    ):
        yield guard


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's: no credentials, no gcloud, no proxy."""
    for name in [name for name in os.environ if name in _FOREIGN or name.startswith("KART_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "no-gcloud"))


@pytest.fixture
def guard(storage: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guard, which lets everyone in; the environment names it as the emulator."""
    storage.reset()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
    return storage


@pytest.fixture
def bucket(guard: Any) -> Any:
    """A new bucket."""
    return servers.Bucket(guard.upstream, f"kart-{next(_number)}-{os.getpid()}")


@pytest.fixture(scope="session")
def _tokens() -> Iterator[Any]:
    with servers.token_server() as tokens:
        yield tokens


@pytest.fixture
def tokens(_tokens: Any) -> Any:
    """The server of tokens, which has granted none."""
    url = _tokens.url
    _tokens.__init__(url=url)
    return _tokens


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


class Project:
    """A user's folder, in which commands are given in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def kart(self, *words: str, environment: Mapping[str, str] | None = None, timeout: float = 60) -> Outcome:
        return self.python(
            "-c", "from kart_core.cli import main; main()", *words, environment=environment, timeout=timeout
        )

    def python(self, *words: str, environment: Mapping[str, str] | None = None, timeout: float = 60) -> Outcome:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def ask(self, code: str, environment: Mapping[str, str] | None = None, timeout: float = 60) -> Any:
        """What a script in a process of its own assigned to ``answer``."""
        self.write("asked.py", f"{code}\nimport json\nprint(json.dumps(answer))\n")
        done = self.python("asked.py", environment=environment, timeout=timeout)
        assert done.code == 0, done.err
        return json.loads(done.out.splitlines()[-1])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)
