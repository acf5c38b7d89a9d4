"""What every store promises, as a suite of tests to inherit."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kart_core.plugin import ConditionalStore

if TYPE_CHECKING:
    from kart_core.plugin import Store

__all__ = ["StoreContract"]

_ODD_PATHS = (
    "a.txt",
    "deep/er/and/deeper/a.tar.gz",
    "with space/and + & = ? # %20.txt",
    "ünï/码/😀.txt",
    "dots..inside/..a/b...txt",
    ".hidden/.file",
    "~/-x.txt",
    "n" * 200 + ".txt",
)


class StoreContract:
    """Inherit it as ``class TestMyStore(StoreContract)`` and give the fixture and the two methods.

    What a store writes is looked at, and what it reads is written, by another way than the
    store itself: the operating system, another client library. A store that merely agrees with
    itself would pass otherwise.

    Example:
        For a store of local files::

            class TestMyStore(StoreContract):
                @pytest.fixture
                def store(self, tmp_path):
                    self.root = tmp_path
                    return MyStore(str(tmp_path))

                def plant(self, path, data):
                    (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                    (self.root / path).write_bytes(data)

                def found(self, path):
                    file = self.root / path
                    return file.read_bytes() if file.is_file() else None
    """

    exclusive: ClassVar[bool] = True
    """Whether `Store.create` has one winner; set it as the storage's record says."""

    odd_paths: ClassVar[tuple[str, ...]] = _ODD_PATHS
    """Paths that must work; leave out what the storage itself cannot hold."""

    @pytest.fixture
    def store(self) -> Store:
        """A store with nothing in it."""
        raise NotImplementedError("override the fixture `store` with an empty store")

    def plant(self, path: str, data: bytes) -> None:
        """Writes a file below the store's root, by another way than the store."""
        raise NotImplementedError("override `plant`: write a file by another way than the store")

    def found(self, path: str) -> bytes | None:
        """The content of a file below the store's root, by another way than the store; None if there is none."""
        raise NotImplementedError("override `found`: read a file by another way than the store")

    def test_what_is_put_is_there(self, store: Store) -> None:
        store.put("folder/a.bin", b"\x00\xff\r\n")
        assert self.found("folder/a.bin") == b"\x00\xff\r\n"

    def test_what_others_put_is_read(self, store: Store) -> None:
        self.plant("folder/a.bin", b"theirs")
        assert store.read("folder/a.bin") == b"theirs"
        with store.open("folder/a.bin") as file:
            assert file.read() == b"theirs"
        found = store.stat("folder/a.bin")
        assert found is not None
        assert found.size == 6

    def test_an_empty_file_is_a_file(self, store: Store) -> None:
        store.put("empty", b"")
        assert self.found("empty") == b""
        assert store.read("empty") == b""
        found = store.stat("empty")
        assert found is not None
        assert found.size == 0

    def test_a_file_that_is_not_there_is_said_to_be_missing(self, store: Store) -> None:
        self.plant("there/a", b"")
        for path in ("a", "there/b", "there", "not/there/at/all"):
            assert store.stat(path) is None
        for path in ("a", "there/b", "not/there/at/all"):
            assert store.remove(path) is False
            with pytest.raises(FileNotFoundError):
                store.open(path)
            with pytest.raises(FileNotFoundError):
                store.read(path)

    def test_a_second_put_replaces_the_first_and_its_mark(self, store: Store) -> None:
        store.put("a", b"first, and longer")
        first = store.stat("a")
        _pause()
        store.put("a", b"second")
        second = store.stat("a")
        assert self.found("a") == b"second"
        assert first is not None
        assert second is not None
        assert (second.size, second.mark == first.mark) == (6, False)

    def test_a_mark_stays_while_nothing_changes(self, store: Store) -> None:
        store.put("a", b"1")
        before = store.stat("a")
        _pause()
        store.put("b", b"3")
        assert store.read("a") == b"1"
        assert store.stat("a") == before

    @pytest.mark.parametrize("number", range(len(_ODD_PATHS)))
    def test_odd_paths_work(self, store: Store, number: int) -> None:
        if number >= len(self.odd_paths):
            pytest.skip("the storage cannot hold it")
        path = self.odd_paths[number]
        store.put(path, b"odd")
        assert self.found(path) == b"odd"
        assert store.read(path) == b"odd"
        assert [name for name, _ in store.list("")] == [path]
        assert store.create(path, b"") is False
        assert store.remove(path) is True
        assert self.found(path) is None

    @pytest.mark.parametrize("path", ["../a", "a/../../b", "/etc/passwd", "..", "", "a/.."])
    def test_a_path_that_leads_out_is_refused(self, store: Store, path: str, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(b"")
        attempts: list[Any] = [
            lambda: store.stat(path),
            lambda: store.read(path),
            lambda: store.open(path),
            lambda: store.put(path, b""),
            lambda: store.put_file(path, str(tmp_path / "source")),
            lambda: store.create(path, b""),
            lambda: store.remove(path),
        ]
        for attempt in attempts:
            with pytest.raises(ValueError, match="path"):
                attempt()

    def test_an_open_file_can_seek_and_keeps_its_content(self, store: Store) -> None:
        store.put("a", b"0123456789")
        with store.open("a") as file:
            assert file.seek(7) == 7
            assert file.read() == b"789"
            store.put("a", b"another content")
            file.seek(0)
            assert file.read(3) == b"012"

    def test_a_local_file_is_put_and_is_gone_afterwards(self, store: Store, tmp_path: Path) -> None:
        for content in (b"small", b"large" * 2_000_000):
            source = Path(store.staging_directory("deep/folder/a") or tmp_path) / ".source.tmp"
            source.write_bytes(content)
            store.put_file("deep/folder/a", str(source))
            assert self.found("deep/folder/a") == content
            assert not source.exists()
            with store.open("deep/folder/a") as file:
                assert file.read() == content

    def test_what_is_staged_is_not_listed(self, store: Store) -> None:
        store.put("folder/a", b"")
        directory = store.staging_directory("folder/b")
        if directory is None:
            pytest.skip("nothing is staged in this storage")
        Path(directory, ".b.123.tmp").write_bytes(b"half")
        assert [path for path, _ in store.list("")] == ["folder/a"]

    def test_create_leaves_a_file_that_is_there(self, store: Store) -> None:
        assert store.create("folder/lease", b"mine") is True
        assert store.create("folder/lease", b"yours") is False
        assert self.found("folder/lease") == b"mine"
        assert store.remove("folder/lease") is True
        assert store.create("folder/lease", b"yours") is True
        assert self.found("folder/lease") == b"yours"

    def test_create_has_one_winner_whose_content_stands(self, store: Store) -> None:
        if not self.exclusive:
            pytest.skip("the record says exclusive=False")
        threads = 8
        with ThreadPoolExecutor(threads) as pool:
            for race in range(10):
                together = threading.Barrier(threads)

                def attempt(number: int, race: int = race, together: threading.Barrier = together) -> bool:
                    together.wait()
                    return store.create(f"race/{race}", b"%d" % number * 1000)

                won = list(pool.map(attempt, range(threads)))
                assert won.count(True) == 1
                assert self.found(f"race/{race}") == b"%d" % won.index(True) * 1000

    def test_what_is_another_by_now_is_neither_replaced_nor_removed(self, store: Store) -> None:
        conditional = _conditional(store)
        first = conditional.replace("folder/lease", b"first", None)
        assert first is not None
        assert conditional.replace("folder/lease", b"new?", None) is None
        _pause()
        second = conditional.replace("folder/lease", b"second", first)
        assert second is not None
        assert second != first
        assert conditional.replace("folder/lease", b"late", first) is None
        assert conditional.remove_unchanged("folder/lease", first) is False
        assert self.found("folder/lease") == b"second"
        found = store.stat("folder/lease")
        assert found is not None
        assert found.mark == second
        assert conditional.remove_unchanged("folder/lease", second) is True
        assert conditional.replace("folder/lease", b"gone", second) is None
        assert self.found("folder/lease") is None

    def test_of_many_who_replace_what_they_saw_one_does(self, store: Store) -> None:
        conditional = _conditional(store)
        threads = 8
        with ThreadPoolExecutor(threads) as pool:
            for race in range(10):
                before = conditional.replace(f"race/{race}", b"before", None)
                together = threading.Barrier(threads)

                def attempt(number: int, race: int = race, before: str | None = before) -> str | None:
                    together.wait()  # noqa: B023 - all have ended before the next race begins
                    return conditional.replace(f"race/{race}", b"%d" % number * 1000, before)

                marks = list(pool.map(attempt, range(threads)))
                (winner,) = [number for number, mark in enumerate(marks) if mark is not None]
                assert self.found(f"race/{race}") == b"%d" % winner * 1000

    def test_a_reader_never_sees_a_part(self, store: Store) -> None:
        contents = [bytes([number]) * (300_000 + number) for number in range(4)]
        store.put("a", contents[0])
        stop = threading.Event()

        def overwrite() -> None:
            while not stop.is_set():
                for content in contents:
                    store.put("a", content)

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(overwrite)
            try:
                for _ in range(50):
                    assert store.read("a") in contents
                    assert self.found("a") in contents
            finally:
                stop.set()
            writer.result()

    def test_remove_says_whether_there_was_one(self, store: Store) -> None:
        self.plant("folder/a", b"")
        assert store.remove("folder/a") is True
        assert self.found("folder/a") is None
        assert store.remove("folder/a") is False

    def test_a_list_holds_what_stands_in_the_folder_and_nothing_else(self, store: Store) -> None:
        for path in ("a", "f/a", "f/g/b", "f.txt", "ff/c"):
            self.plant(path, path.encode())
        assert sorted(path for path, _ in store.list("")) == ["a", "f.txt", "f/a", "f/g/b", "ff/c"]
        assert sorted(path for path, _ in store.list("f")) == ["f/a", "f/g/b"]
        assert list(store.list("a")) == []
        assert list(store.list("not/there")) == []
        assert dict(store.list("f")) == {path: store.stat(path) for path in ("f/a", "f/g/b")}

    def test_many_are_looked_at_in_their_order(self, store: Store) -> None:
        paths = [f"f/{number}" for number in range(50)]
        for path in paths[::2]:
            self.plant(path, path.encode())
        asked = [*paths, paths[0]]
        sizes = [stat and stat.size for stat in store.stat_many(asked)]
        assert sizes == [None if number % 2 else len(path) for number, path in enumerate(asked)]
        assert store.stat_many([]) == []

    def test_the_local_path_is_the_file(self, store: Store) -> None:
        store.put("folder/a", b"local")
        path = store.local_path("folder/a")
        if path is None:
            pytest.skip("the storage has no local paths")
        assert Path(path).read_bytes() == b"local"


def _conditional(store: Store) -> ConditionalStore:
    if not isinstance(store, ConditionalStore):
        pytest.skip("the store writes and removes without condition")
    return store


def _pause() -> None:
    """Longer than the step of a file system's clock."""
    threading.Event().wait(0.02)
