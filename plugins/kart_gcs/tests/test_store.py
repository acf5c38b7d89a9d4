"""The store keeps what every store promises, and what Google's library would break."""

from __future__ import annotations

import random
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kart_core.plugin import Store
from kart_core.testing.stores import StoreContract

from kart_gcs import Gcs, GcsSettings


@pytest.fixture
def store(bucket: Any) -> Store:
    return Gcs().open(f"gs://{bucket.name}/work/space")


class TestStore(StoreContract):
    odd_paths = (*StoreContract.odd_paths, "a+b/c%2Fd#e;f&g.txt", "back\\slash", "//double//", "tab\tand\x7f")

    @pytest.fixture
    def store(self, bucket: Any) -> Store:
        self.bucket = bucket
        return Gcs().open(f"gs://{bucket.name}/work/space")

    def plant(self, path: str, data: bytes) -> None:
        self.bucket.put(f"work/space/{path}", data)

    def found(self, path: str) -> bytes | None:
        return self.bucket.get(f"work/space/{path}")
