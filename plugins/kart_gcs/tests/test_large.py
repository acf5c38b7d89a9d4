"""Large results: sent and read in parts, and nobody sees a part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

WRITER = """
import resource, sys
from kart_gcs import Gcs

url, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Gcs().open(url)
store.put("small", b"1")
store.read("small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(path, "wb") as file:
    for start in range(0, size, 1 << 20):
        file.write(start.to_bytes(8, "big") * (1 << 17))
print("ready", flush=True)
store.put_file("large", path)
written = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with store.open("large") as file:
    for start in range(0, size, 1 << 20):
        assert file.read(1 << 20) == start.to_bytes(8, "big") * (1 << 17), start
    assert file.read() == b""
read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((written - before) // 1024, (read - before) // 1024)
"""


def _memory(project: Any, bucket: Any, size: int, environment: dict[str, str], tmp_path: Path) -> tuple[int, ...]:
    project.write("writer.py", WRITER)
    words = ("writer.py", f"gs://{bucket.name}/work", str(tmp_path / "large"), str(size))
    outcome = project.python(*words, environment={**environment, "TMPDIR": str(tmp_path)}, timeout=300)
    assert outcome.code == 0, outcome.err
    return tuple(int(number) for number in outcome.out.splitlines()[-1].split())


def test_a_large_result_takes_the_memory_of_a_few_parts(project: Any, bucket: Any, guard: Any, tmp_path: Path) -> None:
    written, read = _memory(project, bucket, 160 << 20, {}, tmp_path)
    assert written < 120, "MiB"
    assert read < 120, "MiB"
    assert not (tmp_path / "large").exists()


@pytest.mark.slow
def test_a_result_of_a_gigabyte(project: Any, bucket: Any, guard: Any, tmp_path: Path) -> None:
    """Straight to the emulator: the guard would hold parts in memory too."""
    written, read = _memory(project, bucket, 1 << 30, {"STORAGE_EMULATOR_HOST": guard.upstream}, tmp_path)
    assert written < 200, "MiB"
    assert read < 200, "MiB"


def test_a_writer_that_is_killed_half_way_leaves_nothing_visible(
    project: Any, bucket: Any, guard: Any, tmp_path: Path
) -> None:
    path = project.write("writer.py", WRITER)
    bucket.put("work/large", b"before")
    words = [sys.executable, str(path), f"gs://{bucket.name}/work", str(tmp_path / "large"), str(96 << 20)]
    guard.delay = 0.1
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        until = time.monotonic() + 30
        while guard.kinds().get("PART", 0) < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    assert bucket.names() == ["work/large", "work/small"]
    assert bucket.get("work/large") == b"before"
    assert (tmp_path / "large").exists()
