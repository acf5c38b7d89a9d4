"""A plugin of pytest that keeps the local workspaces of the core's tests in a bucket, see `mirrored`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import gcs_servers
import mirrored
import pytest

from kart_core.builtin import storages


@pytest.fixture(autouse=True, scope="session")
def _emulator() -> Iterator[None]:
    port = gcs_servers.free_port()
    with gcs_servers.fake_gcs(port, f"http://127.0.0.1:{port}") as url:
        gcs_servers.Bucket(url, "kart-core")
        os.environ["STORAGE_EMULATOR_HOST"] = url
        yield


mirrored.install(storages)
