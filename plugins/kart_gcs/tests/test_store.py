"""The store keeps what every store promises, and what Google's library would break."""

from __future__ import annotations

import asyncio
import random
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kart_gcs import Gcs, GcsSettings

from kart_core.plugin import Store
from kart_core.testing.stores import StoreContract


@pytest.fixture
def store(bucket: Any) -> Store:
    return Gcs().open(f"gs://{bucket.name}/a/space")


class TestStore(StoreContract):
    @pytest.fixture
    def store(self, bucket: Any) -> Store:
        self.bucket = bucket
        return Gcs().open(f"gs://{bucket.name}/a/space")

    def plant(self, path: str, data: bytes) -> None:
        self.bucket.put(f"a/space/{path}", data)

    def found(self, path: str) -> bytes | None:
        return self.bucket.get(f"a/space/{path}")


CUT = b"before\n--==0==--\nafter"
"""gcsfs takes this for the end of the content."""


@pytest.mark.parametrize("content", [CUT, CUT + b"x" * (1 << 20), b"", b"\n--==0==\n", b"\r\n--", b"\x00" * 700_000])
def test_every_content_comes_back_whole(store: Store, bucket: Any, content: bytes, tmp_path: Path) -> None:
    store.put("put", content)
    assert store.create("created", content) is True
    (tmp_path / "source").write_bytes(content)
    store.put_file("file", str(tmp_path / "source"))
    for path in ("put", "created", "file"):
        assert bucket.get(f"a/space/{path}") == content
        assert store.read(path) == content
        with store.open(path) as file:
            assert file.read() == content
        stat = store.stat(path)
        assert stat is not None
        assert stat.size == len(content)


@pytest.mark.parametrize(
    "path",
    ["a+b/c%2Fd#e;f&g.txt", "back\\slash", "double//slash", "tab\tand\x7f", "*?[x]", "%", "a%00", "'\"`$", "ß/İ/é"],
)
def test_odd_names_work(store: Store, bucket: Any, path: str) -> None:
    store.put(path, b"odd")
    assert bucket.get(f"a/space/{path}") == b"odd"
    assert store.read(path) == b"odd"
    assert [name for name, _ in store.list("")] == [path]
    assert store.stat_many([path]) == [store.stat(path)]
    assert store.create(path, b"") is False
    assert store.remove(path) is True
    assert bucket.get(f"a/space/{path}") is None


def test_the_whole_bucket_may_be_the_workspace(bucket: Any) -> None:
    for url in (f"gs://{bucket.name}", f"gcs://{bucket.name}/"):
        store = Gcs().open(url)
        store.put("a", b"1")
        assert bucket.names() == ["a"]
        assert [path for path, _ in store.list("")] == ["a"]
        store.remove("a")


def test_more_than_a_page_is_listed(store: Store, bucket: Any, guard: Any) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: bucket.put(f"a/space/f/{i:05}", b"%d" % i), range(2100)))
    guard.requests.clear()
    listed = dict(store.list("f"))
    assert guard.kinds() == {"LIST": 3}
    assert sorted(listed) == [f"f/{i:05}" for i in range(2100)]
    assert [listed[f"f/{i:05}"].size for i in range(2100)] == [len(str(i)) for i in range(2100)]
    guard.requests.clear()
    stats = store.stat_many([f"f/{i:05}" for i in range(2100)] + ["f/none"])
    assert [stats[i] == listed[f"f/{i:05}"] for i in range(2100)] == [True] * 2100
    assert stats[-1] is None
    assert sum(guard.kinds().values()) <= 10


def test_requests_are_few(store: Store, guard: Any, tmp_path: Path) -> None:
    def counted(work: Any) -> dict[str, int]:
        guard.requests.clear()
        work()
        return guard.kinds()

    assert counted(lambda: store.put("a", b"1")) == {"PUT": 1}
    assert counted(lambda: store.create("b", b"1")) == {"PUT": 1}
    assert counted(lambda: store.create("b", b"1")) == {"PUT": 1, "HEAD": 1}  # is it one's own, after all?
    assert counted(lambda: store.read("a")) == {"GET": 1}
    assert counted(lambda: store.open("a").close()) == {"GET": 1}
    assert counted(lambda: store.stat("a")) == {"HEAD": 1}
    assert counted(lambda: store.stat("none")) == {"HEAD": 1}
    assert counted(lambda: list(store.list(""))) == {"LIST": 1}
    assert counted(lambda: store.stat_many(["a", "b", "c"])) == {"HEAD": 3}
    assert counted(lambda: store.remove("a")) == {"HEAD": 1, "DELETE": 1}
    (tmp_path / "large").write_bytes(b"x" * (40 << 20))
    assert counted(lambda: store.put_file("large", str(tmp_path / "large"))) == {"START": 1, "PART": 3}
    assert counted(lambda: store.open("large").close()) == {"GET": 1}


def test_heads_are_asked_together(store: Store, guard: Any) -> None:
    import time

    store.stat("a")
    guard.delay = 0.1
    began = time.monotonic()
    assert store.stat_many([f"{i}/x" for i in range(64)]) == [None] * 64
    assert time.monotonic() - began < 1.5


# -- conditions


def test_replace_if_unchanged_has_one_winner(bucket: Any) -> None:
    store: Any = Gcs().open(f"gs://{bucket.name}")
    for race in range(10):
        store.put("lease", b"0")
        mark = store.stat("lease").mark
        together = threading.Barrier(8)

        def attempt(number: int, mark: str = mark, together: threading.Barrier = together) -> str | None:
            together.wait()
            return store.replace("lease", b"%d" % number, mark)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(attempt, range(8)))
        assert sum(new is not None for new in won) == 1, race
        winner = next(number for number, new in enumerate(won) if new is not None)
        assert bucket.get("lease") == b"%d" % winner
        assert store.stat("lease").mark == won[winner]


def test_remove_if_unchanged(bucket: Any) -> None:
    store: Any = Gcs().open(f"gs://{bucket.name}")
    store.put("lease", b"same")
    before = store.stat("lease").mark
    store.put("lease", b"same")  # equal content, and yet another write
    assert store.remove_unchanged("lease", before) is False
    assert bucket.get("lease") == b"same"
    assert store.remove_unchanged("lease", store.stat("lease").mark) is True
    assert bucket.get("lease") is None
    assert store.remove_unchanged("lease", before) is False


def test_what_replaces_nothing_writes_nothing(bucket: Any) -> None:
    store: Any = Gcs().open(f"gs://{bucket.name}")
    assert store.replace("none", b"1", "12345") is None
    assert bucket.names() == []


def test_one_winner_among_processes(bucket: Any, project: Any) -> None:
    """8 processes, 50 rounds each of creating and replacing."""
    project.write(
        "race.py",
        f"""
import multiprocessing, os, sys
from kart_gcs import Gcs

def race(together, number, results):
    store = Gcs().open("gs://{bucket.name}")
    won = []
    for round in range(50):
        together.wait()
        won.append(store.create(f"{{round}}", b"%d" % number * 100))
    for round in range(50):
        mark = store.stat(f"{{round}}").mark
        together.wait()
        won.append(store.replace(f"{{round}}", b"%d" % (number + 10) * 100, mark) is not None)
    results.put((number, won))

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    together, results = spawn.Barrier(8), spawn.Queue()
    processes = [spawn.Process(target=race, args=(together, n, results)) for n in range(8)]
    for process in processes: process.start()
    won = dict(results.get(timeout=100) for _ in processes)
    for process in processes: process.join()
    for round in range(100):
        print([number for number in range(8) if won[number][round]])
""",
    )
    outcome = project.python("race.py", timeout=120)
    assert outcome.code == 0, outcome.err
    winners = [eval(line) for line in outcome.out.splitlines()]
    assert [len(won) for won in winners] == [1] * 100
    assert bucket.get("7") == b"%d" % (winners[57][0] + 10) * 100


# -- when the network fails


def once(*kinds: str, what: Any, times: int = 1) -> Any:
    """A rule that lets the first requests of some kinds fail."""
    left = dict.fromkeys(kinds, times)
    lock = threading.Lock()

    def rule(request: Any) -> Any:
        with lock:
            if left.get(request.kind, 0):
                left[request.kind] -= 1
                return what
        return None

    return rule


BUSY = (503, {"error": {"code": 503, "message": "Backend Error", "errors": [{"reason": "backendError"}]}})


@pytest.mark.parametrize("what", ["reset", "lose", BUSY, (429, {}), (502, b"<html>"), (408, {})])
def test_what_passes_is_tried_again(store: Any, bucket: Any, guard: Any, what: Any) -> None:
    store.put("before", b"1")
    guard.rule = once("PUT", "GET", "HEAD", "DELETE", "LIST", what=what, times=2)
    store.put("a", b"whole")
    assert store.read("a") == b"whole"
    assert store.stat("a").size == 5
    assert sorted(path for path, _ in store.list("")) == ["a", "before"]
    assert store.remove("a") is True
    assert bucket.get("a/space/a") is None


def test_a_lost_answer_of_a_creation_is_still_a_creation(store: Any, bucket: Any, guard: Any) -> None:
    guard.rule = once("PUT", what="lose", times=2)
    assert store.create("a", b"mine") is True
    assert bucket.get("a/space/a") == b"mine"
    guard.rule = once("PUT", what="lose")
    assert store.create("a", b"yours") is False
    assert bucket.get("a/space/a") == b"mine"


def test_a_lost_answer_of_a_replacement_is_still_a_replacement(store: Any, bucket: Any, guard: Any) -> None:
    store.put("a", b"1")
    guard.rule = once("PUT", what="lose")
    new = store.replace("a", b"2", store.stat("a").mark)
    assert new == store.stat("a").mark
    assert bucket.get("a/space/a") == b"2"


@pytest.mark.parametrize("what", ["reset", "lose", "half", BUSY])
def test_a_large_upload_goes_on_where_it_broke(store: Any, bucket: Any, guard: Any, tmp_path: Path, what: Any) -> None:
    content = random.Random(1).randbytes(1 << 20) * 41
    (tmp_path / "large").write_bytes(content)
    guard.rule = once("PART", what=what, times=2)
    store.put_file("large", str(tmp_path / "large"))
    assert zlib.crc32(bucket.get("a/space/large")) == zlib.crc32(content)
    sent = sum(request.size for request in guard.requests if request.kind == "PART")
    assert sent <= len(content) + (48 << 20)
    with store.open("large") as file:
        assert file.read() == content


def test_a_large_upload_that_fails_is_aborted_and_leaves_what_was_there(
    store: Any, bucket: Any, guard: Any, tmp_path: Path
) -> None:
    store.put("large", b"before")
    (tmp_path / "large").write_bytes(b"x" * (40 << 20))

    def rule(request: Any) -> Any:
        return (400, {"error": {"message": "no more"}}) if "bytes 16777216" in str(request.headers) else None

    guard.rule = rule
    with pytest.raises(OSError, match="no more"):
        store.put_file("large", str(tmp_path / "large"))
    assert guard.kinds()["ABORT"] == 1
    assert bucket.get("a/space/large") == b"before"
    assert (tmp_path / "large").exists()


def test_the_rest_of_a_content_that_was_replaced_is_not_read(store: Any, bucket: Any, guard: Any) -> None:
    store.put("a", b"a" * (3 << 20))
    mark = store.stat("a").mark
    store.put("a", b"b" * (3 << 20))
    asked = asyncio.run_coroutine_threadsafe(store.get("a/space/a", 1 << 20, mark), store._here().loop)
    assert store.fault(asked.exception(10)).kind == "unmet"


# -- what must not happen


def test_the_global_random_generator_is_left_alone(store: Any, guard: Any) -> None:
    random.seed(1)
    before = random.getstate()
    guard.rule = once("PUT", "GET", "LIST", what=BUSY, times=2)
    store.put("a", b"1")
    store.read("a")
    list(store.list(""))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.put(f"{i}", b"1"), range(40)))
    assert random.getstate() == before


def test_a_store_is_pickled_without_what_is_open_or_secret(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64
    import pickle

    key = base64.b64encode(b"k" * 32).decode()
    monkeypatch.setenv("OUR_KEY", key)
    store = Gcs(GcsSettings(encryption_key_variable="OUR_KEY")).open(f"gs://{bucket.name}")
    store.put("a", b"1")
    pickled = pickle.dumps(store)
    assert key.encode() not in pickled
    assert pickle.loads(pickled).read("a") == b"1"
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(store._client.access)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(store._client._filesystem)  # type: ignore[attr-defined]


def test_customer_keys_go_with_the_requests_that_need_them(
    bucket: Any, guard: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    import base64

    key = base64.b64encode(bytes(range(32))).decode()
    monkeypatch.setenv("OUR_KEY", key)
    caplog.set_level(1)
    store = Gcs(GcsSettings(encryption_key_variable="OUR_KEY")).open(f"gs://{bucket.name}")
    (tmp_path / "large").write_bytes(b"x" * (33 << 20))
    store.put("a", b"1")
    store.read("a")
    store.put_file("large", str(tmp_path / "large"))
    needed = {"PUT", "GET", "START", "PART"}
    bearing = {request.kind for request in guard.requests if request.headers.get("x-goog-encryption-key") == key}
    assert bearing == needed
    assert key not in caplog.text


def test_other_settings_go_with_the_requests(bucket: Any, guard: Any) -> None:
    settings = GcsSettings(requester_pays=True, project="payer", kms_key_name="projects/p/k")
    store = Gcs(settings).open(f"gs://{bucket.name}")
    store.put("a", b"1")
    store.read("a")
    list(store.list(""))
    assert [request.query.get("userProject") for request in guard.requests] == ["payer"] * 3
    assert guard.requests[0].query["kmsKeyName"] == "projects/p/k"


# -- threads, processes, loops


def test_threads_share_a_store(store: Any, bucket: Any) -> None:
    def work(number: int) -> bool:
        content = b"%d" % number * 1000
        store.put(f"t/{number}", content)
        return store.read(f"t/{number}") == content and store.stat(f"t/{number}").size == len(content)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(160)))
    assert len(bucket.names("a/space/t/")) == 160


def test_a_store_works_inside_a_running_event_loop(store: Any) -> None:
    async def notebook() -> bytes:
        store.put("a", b"in a loop")
        return store.read("a")

    assert asyncio.run(notebook()) == b"in a loop"
