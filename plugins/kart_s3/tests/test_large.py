"""Results of a gigabyte, killed writers, and connections that break."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from projects import Project
from proxy import Proxy
from servers import Server
from test_store import open_store

import kart_core as kart

MEBIBYTE = 1 << 20

WRITER = """\
import resource, sys, os
from kart_s3 import S3, S3Settings
store = S3(S3Settings(endpoint_url=sys.argv[2])).kart_storages()[0].open(sys.argv[1])
store.stat("warm")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
if sys.argv[3] == "write":
    before = peak()
    store.put_file("large.bin", sys.argv[4])
    print(peak() - before)
else:
    before = peak()
    total = 0
    with store.open("large.bin") as file:
        while piece := file.read(1 << 20):
            total += len(piece)
    print(peak() - before, total)
"""


def _source(folder: Path, mebibytes: int) -> Path:
    path = folder / "large.source"
    block = os.urandom(MEBIBYTE)
    with open(path, "wb") as file:
        for number in range(mebibytes):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


def _writer(server: Server, url: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, server.endpoint, *words],
        env=server.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_gigabyte_goes_and_comes_with_little_memory(seaweed: Server, tmp_path: Path) -> None:
    url = seaweed.new_url()
    source = _source(tmp_path, 1024)
    wrote, _ = _writer(seaweed, url, "write", str(source)).communicate(timeout=300)
    assert int(wrote) < 200
    assert not source.exists()
    read, _ = _writer(seaweed, url, "read").communicate(timeout=300)
    memory, size = map(int, read.split())
    assert size == 1024 * MEBIBYTE
    assert memory < 200


def test_a_writer_that_is_killed_leaves_nothing_that_is_seen_and_sweep_finds_the_parts(
    project: Project, seaweed: Server, proxy: Proxy, tmp_path: Path
) -> None:
    url = project.use(seaweed)
    source = _source(tmp_path, 64)
    process = _writer(Server(proxy.endpoint, "kart"), url, "write", str(source))
    _wait_for(lambda: sum(request.kind == "PART" for request in proxy.requests) >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert seaweed.keys(url) == []
    assert len(seaweed.uploads(url)) == 1

    young = project.kart("storage", "sweep", url)
    assert young.code == 0
    assert "1 younger than 1d left alone" in young.out
    dry = project.kart("storage", "sweep", url, "--older-than", "0s")
    assert dry.code == 0
    assert "found large.bin" in dry.out
    assert "--remove" in dry.out
    assert len(seaweed.uploads(url)) == 1, "looking removes nothing"
    assert project.kart("storage", "sweep", seaweed.new_url(), "--older-than", "0s").out.startswith(
        "found the parts of 0"
    )
    removed = project.kart("storage", "sweep", url, "--older-than", "0s", "--remove")
    assert removed.code == 0
    assert "removed large.bin" in removed.out
    assert seaweed.uploads(url) == []
    assert source.exists(), "what was not stored is not taken away"


def _wait_for(holds) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.usefixtures("credentials")
def test_an_upload_that_fails_is_aborted_and_leaves_what_was_there(
    seaweed: Server, proxy: Proxy, tmp_path: Path
) -> None:
    url = seaweed.new_url()
    store = open_store(Server(proxy.endpoint, "kart"), url, retry_seconds=0.2)
    store.put("large", b"as it was")
    proxy.breaks = lambda request: "before" if request.kind == "PART" and "3" in request.query["partNumber"] else None
    source = _source(tmp_path, 40)
    with pytest.raises(kart.errors.StorageError):
        store.put_file("large", str(source))
    assert seaweed.uploads(url) == []
    assert seaweed.get(url, "large") == b"as it was"
    assert source.exists()


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("kind", ["BEGIN", "PART", "FINISH", "GET", "PUT", "HEAD", "LIST"])
@pytest.mark.parametrize("fate", ["before", "answer", "half"])
def test_connections_that_break_twice_do_no_harm(
    seaweed: Server, proxy: Proxy, tmp_path: Path, kind: str, fate: str
) -> None:
    if fate == "half" and kind not in ("GET", "LIST", "BEGIN", "FINISH"):
        pytest.skip("its answer has no content")
    url = seaweed.new_url()
    store = open_store(Server(proxy.endpoint, "kart"), url)
    store.put("warm", b"")
    left = [fate, fate]
    proxy.breaks = lambda request: left.pop() if request.kind == kind and left else None
    source = _source(tmp_path, 20)
    content = source.read_bytes()
    store.put("small", b"small")
    store.put_file("large", str(source))
    assert store.stat("large").size == len(content)
    assert [path for path, _ in store.list("")] == ["large", "small", "warm"]
    with store.open("large") as file:
        assert file.read() == content
    assert store.read("small") == b"small"
    assert not left
    if (kind, fate) not in _ORPHANS:
        assert seaweed.uploads(url) == []


_ORPHANS = {("BEGIN", "answer"), ("BEGIN", "half")}
"""Where an upload was begun and its name got lost: sweep finds it."""


@pytest.mark.usefixtures("credentials")
def test_a_connection_that_always_breaks_ends_in_bounded_time(seaweed: Server, proxy: Proxy) -> None:
    url = seaweed.new_url()
    store = open_store(Server(proxy.endpoint, "kart"), url, retry_seconds=3)
    store.put("a", b"there")
    proxy.breaks = lambda request: "before"
    begun = time.monotonic()
    with pytest.raises(kart.errors.StorageError, match=r"cannot be reached|broke"):
        store.read("a")
    assert time.monotonic() - begun < 5
    assert 4 < len(proxy.requests) < 20, "with growing waits"


def test_a_run_goes_on_over_a_connection_that_breaks_and_draws_the_same_numbers(
    project: Project, seaweed: Server, proxy: Proxy
) -> None:
    from many import Root

    project.use(seaweed)
    calm = kart.build(Root(leaves=5), Drawn())
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    project.monkeypatch.setenv("KART_WORKSPACE_DIRECTORY", seaweed.new_url())
    count = [0]

    def every_fourth(request: object) -> str | None:
        count[0] += 1
        return "answer" if count[0] % 4 == 0 else None

    proxy.breaks = every_fourth
    assert kart.build(Root(leaves=5), Drawn()) == calm


class Drawn(kart.TaskOnKart[list[int]]):
    """Loads in the midst of drawing."""

    def requires(self) -> list[kart.TaskOnKart[int]]:
        from many import Leaf

        return [Leaf(number=number) for number in range(5)]

    def run(self) -> list[int]:
        import random

        drawn = [random.randrange(10**9)]
        for leaf in self.requires():
            self.load(leaf)
            drawn.append(random.randrange(10**9))
        return drawn


@pytest.mark.usefixtures("credentials")
def test_content_that_is_replaced_while_it_is_read_is_the_old_or_the_new(seaweed: Server, proxy: Proxy) -> None:
    url = seaweed.new_url()
    store = open_store(Server(proxy.endpoint, "kart"), url)
    old, new = b"old" * 3_000_000, b"new!" * 3_000_000
    store.put("a", old)
    store.stat("a")

    def once(request) -> str | None:
        if request.kind == "GET" and "range" not in request.headers and seaweed.get(url, "a") == old:
            seaweed.put(url, "a", old)
            proxy.breaks = replaced
            return "half"
        return None

    def replaced(request) -> str | None:
        if request.kind == "GET" and "range" in request.headers:
            seaweed.put(url, "a", new)
            proxy.breaks = lambda request: None
        return None

    proxy.breaks = once
    with store.open("a") as file:
        assert file.read() == new
