"""Threads, processes and running event loops: a workspace takes them all."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import random
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import many
import pytest
from projects import Project
from servers import Server
from test_store import open_store

import kart_core as kart


def test_sixteen_threads_share_a_store(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    store = open_store(seaweed, url)
    together = threading.Barrier(16)

    def work(number: int) -> bytes:
        together.wait()
        for turn in range(10):
            store.put(f"{number}/{turn}", b"%d" % number)
            assert store.stat_many([f"{number}/{turn}", "no"])[1] is None
            assert store.read(f"{number}/{turn}") == b"%d" % number
        return store.read(f"{number}/9")

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(16))) == [b"%d" % number for number in range(16)]
    assert len(seaweed.keys(url)) == 160


def test_sixteen_threads_build_in_one_workspace(project: Project, seaweed: Server) -> None:
    project.use(seaweed)

    def work(number: int) -> int:
        return kart.build(many.Root(leaves=3, salt=number))

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(work, range(16))) == [3 + number for number in range(16)]


def _build(number: int) -> int:
    return kart.build(many.Root(leaves=3, salt=number))


def test_four_processes_build_in_one_workspace(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    kart.build(many.Leaf(number=0))  # what this process has open must not get in the way of others
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_build, range(8))) == [3 + number for number in range(8)]


def _read(store: object, path: str) -> bytes:
    return store.read(path)


def test_a_store_is_sent_to_another_process_without_its_keys(project: Project, seaweed: Server) -> None:
    from servers import ACCESS_KEY, SECRET_KEY

    url = project.use(seaweed)
    store = open_store(seaweed, url)
    store.put("a", b"here")
    sent = pickle.dumps(store)
    assert SECRET_KEY.encode() not in sent
    assert ACCESS_KEY.encode() not in sent
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_read, store, "a").result() == b"here"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_forks_nevertheless_opens_its_own(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    store = open_store(seaweed, url)
    store.put("a", b"here")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert pool.submit(_read, store, "a").result(timeout=30) == b"here"


def test_a_build_inside_a_running_event_loop(project: Project, seaweed: Server) -> None:
    project.use(seaweed)

    async def notebook() -> int:
        return kart.build(many.Root(leaves=3))

    assert asyncio.run(notebook()) == 3


def test_errors_cross_processes(project: Project, seaweed: Server) -> None:
    from kart_core.builtin.object_store import ObjectStoreDenied

    error = pickle.loads(pickle.dumps(ObjectStoreDenied("s3://kart: no; ask")))
    assert (str(error), type(error)) == ("s3://kart: no; ask", ObjectStoreDenied)
    assert isinstance(error, PermissionError)
    assert isinstance(error, kart.errors.StorageError)


def test_storage_draws_nothing_from_the_global_generator(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    store = open_store(seaweed, url, concurrency=2)
    random.seed(5)
    state = random.getstate()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: store.put(str(number), b""), range(64)))
    store.stat_many([str(number) for number in range(0, 128, 17)])
    assert random.getstate() == state
