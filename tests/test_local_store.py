"""The promises of results on this machine's file system."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kart_core.builtin.local_store import RECORDS, LocalStore
from kart_core.testing.stores import StoreContract


class TestLocalStore(StoreContract):
    root: Path

    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        self.root = tmp_path / "not made yet"
        return LocalStore(str(self.root))

    def plant(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def found(self, path: str) -> bytes | None:
        file = self.root / path
        return file.read_bytes() if file.is_file() else None


class TestLocalStoreWithoutNamelessFiles(TestLocalStore):
    @pytest.fixture(autouse=True)
    def _named(self, named_files: None) -> None:
        """The whole contract holds there too."""


class TestLocalStoreWithoutProc(TestLocalStore):
    @pytest.fixture(autouse=True)
    def _no_proc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        link: Callable[..., None] = os.link

        def without_proc(source: str, target: str, **more: Any) -> None:
            link(source.replace("/proc/", "/not mounted/"), target, **more)

        monkeypatch.setattr(os, "link", without_proc)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


@pytest.fixture
def named_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has no files without names, such as NFS."""
    open_: Callable[..., int] = os.open
    nameless: int = getattr(os, "O_TMPFILE", 0)

    def named_only(path: str, flags: int, *more: Any) -> int:
        if nameless and flags & nameless == nameless:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return open_(path, flags, *more)

    monkeypatch.setattr(os, "open", named_only)


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "w"))
    assert store.stat("a/b") is None
    assert store.remove("a/b") is False
    assert list(store.list("a")) == []
    assert not (tmp_path / "w").exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_permissions_follow_the_umask(store: LocalStore, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store.put("put", b"")
        store.create("created", b"")
    finally:
        os.umask(before)
    for name in ("put", "created"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


def test_a_put_that_fails_leaves_the_old_content_and_no_other_file(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    store.put("a", b"old")
    with pytest.raises(OSError, match="folder"):
        store.put("folder", b"a folder is in the way")
    with pytest.raises(OSError, match="a"):
        store.put("a/b", b"a file is in the way")
    with pytest.raises(TypeError):
        store.put("a", "no bytes")  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]
    assert store.read("a") == b"old"


def test_a_kill_while_a_file_is_written_leaves_the_old_one(store: LocalStore, tmp_path: Path) -> None:
    store.put("a", b"old")
    script = f"""
import os
from kart_core.builtin.local_store import LocalStore
os.replace = lambda *_: os._exit(9)
LocalStore({str(tmp_path)!r}).put("a", b"new" * 1000)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert store.read("a") == b"old"
    assert [path for path, _ in store.list("")] == ["a"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without names are Linux's")
def test_a_kill_while_a_new_file_is_written_leaves_none(tmp_path: Path) -> None:
    script = f"""
import os
from kart_core.builtin.local_store import LocalStore
os.link = lambda *_, **__: os._exit(9)
LocalStore({str(tmp_path)!r}).put("a", b"new" * 1000)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_of_the_file_system_can_be_put(store: LocalStore) -> None:
    for name in ("n" * 255, "ü" * 127):
        store.put(name, b"long")
        assert store.read(name) == b"long"


def test_many_files_are_known_as_each_alone(store: LocalStore) -> None:
    for path in ("some", "top", "a/b/one", "a/two"):
        store.put(path, path.encode())
    asked = ["somx", "some", "none/x", "none/y", "a/none", "a/b/none", "a/b/one", "a/b", "a/two", "a/c/x", "top/x"]
    asked.append("top")
    known = store.stat_many(asked)
    assert known == [store.stat(path) for path in asked]
    assert [path for path, stat in zip(asked, known, strict=True) if stat] == ["some", "a/b/one", "a/two", "top"]


@pytest.mark.parametrize("size", [0, 1, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, 100_000])
def test_a_file_of_any_size_is_read_whole(store: LocalStore, size: int) -> None:
    content = os.urandom(size)
    store.put("a", content)
    assert store.read("a") == content


@pytest.mark.usefixtures("named_files")
def test_a_file_of_any_name_is_written_under_a_short_one(store: LocalStore, tmp_path: Path) -> None:
    names: list[str] = []
    replace = os.replace

    def noted(source: str, target: str) -> None:
        names.append(os.path.relpath(source, tmp_path))
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", noted)
        store.put("folder/" + "n" * 255, b"1")
        store.put("folder/a", b"2")
    assert all(name.startswith("folder/.kart-") and name.endswith(".tmp") for name in names)
    assert len(set(names)) == 2
    assert max(map(len, names)) < 100


def test_a_file_of_another_file_system_is_copied(store: LocalStore, tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not os.access(shared_memory, os.W_OK) or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    source = shared_memory / f"kart-test-{os.getpid()}"
    source.write_bytes(b"far" * 1_000_000)
    store.put_file("folder/a", str(source))
    assert store.read("folder/a") == b"far" * 1_000_000
    assert not source.exists()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_a_source_that_is_not_there_is_missing(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put_file("a", str(tmp_path / "nothing"))


def test_create_has_one_winner_among_processes(tmp_path: Path) -> None:
    script = f"""
import sys
from kart_core.builtin.local_store import LocalStore
store = LocalStore({str(tmp_path)!r})
sys.stdin.readline()
print(sum(store.create(f"lease/{{i}}", b"mine") for i in range(300)))
"""
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sum(int(process.communicate()[0]) for process in processes) == 300


def test_create_is_exclusive_where_there_are_no_hard_links(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert store.create("folder/a", b"mine") is True
    assert store.create("folder/a", b"yours") is False
    assert store.read("folder/a") == b"mine"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


def test_a_folder_that_is_linked_to_is_listed_once_and_a_circle_ends(store: LocalStore, tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a").write_bytes(b"")
    (tmp_path / "linked").symlink_to(elsewhere)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "back").symlink_to(tmp_path)
    assert [path for path, _ in store.list("")] == ["linked/a"]


def test_the_mark_is_the_modification_time(store: LocalStore, tmp_path: Path) -> None:
    store.put("a", b"")
    os.utime(tmp_path / "a", ns=(1, 1_700_000_000_123_456_789))
    found = store.stat("a")
    assert found is not None
    assert found.mark == "1700000000123456789"
    assert found.modified == pytest.approx(1_700_000_000.123456)


def test_a_relative_root_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute"):
        LocalStore("resources")


def test_the_record_opens_folders_and_file_urls(tmp_path: Path) -> None:
    record = RECORDS["kart_storages", "file"]
    (tmp_path / "a").write_bytes(b"kart")
    for url in (str(tmp_path), f"{tmp_path}/", f"file://{tmp_path}"):
        assert record.open(url).read("a") == b"kart"


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without names are Linux's")
def test_a_kernel_that_forgets_the_umask_of_nameless_files_is_not_asked_for_them(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_: Callable[..., int] = os.open

    def forgetful(path: str, flags: int, *more: Any) -> int:
        descriptor = open_(path, flags, *more)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            os.fchmod(descriptor, 0o666)
        return descriptor

    monkeypatch.setattr(os, "open", forgetful)
    before = os.umask(0o027)
    try:
        store.put("put", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "put").stat().st_mode) == 0o640
