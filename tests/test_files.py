"""`kart.File`: a file as a parameter, whose content counts and not its name or its date."""

from __future__ import annotations

import copy
import os
import pickle
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kart_core as kart


class Read(kart.TaskOnKart[bytes]):
    file: kart.File

    def run(self) -> bytes:
        return self.file.read_bytes()


class Merge(kart.TaskOnKart[bytes]):
    files: tuple[kart.File, ...] = ()
    named: dict[str, kart.File] = kart.parameter(factory=dict)
    perhaps: kart.File | None = None
    log: kart.File | None = kart.parameter(default=None, significant=False)


@pytest.fixture(autouse=True)
def folder(project: Any) -> Path:
    return project.folder


def file(name: str, content: str) -> kart.File:
    Path(name).write_text(content)
    return kart.File(name)


def test_the_content_is_in_the_id_and_nothing_else() -> None:
    one = Read(file=file("a.csv", "1,2")).unique_id
    assert Read(file=file("b.csv", "1,2")).unique_id == one
    assert Read(file=kart.File(Path("a.csv"))).unique_id == one
    assert Read(file=kart.File(Path("a.csv").absolute())).unique_id == one
    assert Read(file=file("a.csv", "1,3")).unique_id != one
    assert Read(file=file("a.csv", "1,2")).unique_id == one


def test_a_file_is_told_from_its_digest_and_its_path_given_as_text() -> None:
    class Any_(kart.TaskOnKart[int]):
        value: Any

    given_file = file("a.csv", "1")
    values: list[Any] = [given_file, given_file.digest, "a.csv", b"1", bytes.fromhex(given_file.digest)]
    assert len({Any_(value=value).unique_id for value in values}) == len(values)


def test_touching_or_renaming_changes_no_id() -> None:
    before = Read(file=file("a.csv", "1,2")).unique_id
    os.utime("a.csv", (5, 5))
    assert Read(file=kart.File("a.csv")).unique_id == before
    os.rename("a.csv", "b.csv")
    assert Read(file=kart.File("b.csv")).unique_id == before


def test_a_task_keeps_the_id_of_the_content_with_which_it_was_made() -> None:
    given_file = file("a.csv", "1")
    task = Read(file=given_file)
    before = task.unique_id
    file("a.csv", "22")
    assert task.unique_id == before
    assert Read(file=given_file).unique_id != before


def test_files_in_tuples_and_mappings_and_optional_ones_count_alike() -> None:
    def ids(content: str) -> list[str]:
        changed = file("changed.csv", content)
        return [
            Merge(files=(file("a.csv", "1"), changed)).unique_id,
            Merge(named={"x": changed}).unique_id,
            Merge(perhaps=changed).unique_id,
        ]

    assert all(one != other for one, other in zip(ids("1"), ids("2"), strict=True))
    assert ids("1") == ids("1")
    assert Merge(files=(file("a.csv", "1"), file("b.csv", "2"))) != Merge(
        files=(kart.File("b.csv"), kart.File("a.csv"))
    )


def test_an_insignificant_file_is_in_no_id() -> None:
    assert Merge(log=file("a.log", "1")).unique_id == Merge(log=file("b.log", "2")).unique_id == Merge().unique_id


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_ids_are_the_same_exactly_when_contents_are(one: bytes, other: bytes) -> None:
    ids: list[str] = []
    for content in (one, other):
        Path("any.bin").write_bytes(content)
        ids.append(Read(file=kart.File("any.bin")).unique_id)
    assert (ids[0] == ids[1]) == (one == other)


def test_a_change_within_the_same_tick_of_a_coarse_clock_is_seen() -> None:
    def at_whole_seconds(content: str) -> str:
        path = Path("a.csv")
        path.write_text(content)
        os.utime(path, (int(time.time()),) * 2)
        return kart.File(path).digest

    assert len({at_whole_seconds(f"{i:02}") for i in range(50)}) == 50


def test_the_digest_is_remembered_by_size_and_modification_time() -> None:
    long_ago = (time.time() - 1000,) * 2
    digest = file("a.csv", "1").digest
    os.utime("a.csv", long_ago)
    assert kart.File("a.csv").digest == digest
    Path("a.csv").write_text("2")
    os.utime("a.csv", long_ago)
    assert kart.File("a.csv").digest == digest, "nothing that is remembered tells that the content is another"
    os.utime("a.csv", (long_ago[0] + 1,) * 2)
    assert kart.File("a.csv").digest != digest


def test_a_large_file_counts_to_its_last_byte() -> None:
    Path("large.bin").write_bytes(bytes(5_000_000) + b"1")
    one = Read(file=kart.File("large.bin")).unique_id
    Path("large.bin").write_bytes(bytes(5_000_000) + b"2")
    assert Read(file=kart.File("large.bin")).unique_id != one


def test_a_file_that_is_not_there_is_missing_data_that_names_it() -> None:
    absent = kart.File("nowhere/a.csv")
    with pytest.raises(kart.MissingDataError, match=r"nowhere/a\.csv"):
        Read(file=absent)
    os.mkdir("folder")
    with pytest.raises(kart.MissingDataError, match="folder"):
        Read(file=kart.File("folder"))


def test_text_is_no_file() -> None:
    file("a.csv", "1")
    with pytest.raises(kart.ParameterError, match=r"'file' of .*Read takes .*File.*'a\.csv'"):
        Read(file="a.csv")  # type: ignore[arg-type]


def test_a_file_is_opened_as_any_path_is() -> None:
    given_file = file("a.csv", "kärt")
    with open(given_file, encoding="utf-8") as opened:
        assert opened.read() == given_file.read_text() == "kärt"
    assert kart.build(Read(file=given_file)) == given_file.read_bytes() == "kärt".encode()
    assert os.fspath(given_file) == given_file.path == "a.csv"


def test_files_are_equal_by_content_and_do_not_change() -> None:
    one, other = file("a.csv", "1"), file("b.csv", "1")
    assert one == other
    assert hash(one) == hash(other)
    assert one != file("c.csv", "2")
    with pytest.raises(AttributeError, match="does not change"):
        one.path = "c.csv"
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one


def test_a_file_is_given_by_its_path_in_configuration_and_on_the_command_line(project: Any) -> None:
    project.write(
        "pipeline.py",
        "import kart_core as kart\n\n\nclass Read(kart.TaskOnKart[str]):\n    file: kart.File\n\n"
        "    def run(self):\n        return self.file.read_text()\n\n    def output(self):\n"
        "        return self.make_target('out.txt', use_unique_id=False)\n",
    )
    file("a.csv", "one")
    file("b.csv", "two")
    assert project.kart("run", "pipeline:Read", "--file", "a.csv").code == 0
    assert Path("resources/out.txt").read_text() == "one"
    project.write("kart.toml", '[Read]\nfile = "b.csv"\n')
    assert project.kart("run", "pipeline:Read").code == 0
    assert Path("resources/out.txt").read_text() == "two"
    assert project.kart("run", "pipeline:Read", "--file", "nowhere.csv").code == 20


def test_the_record_names_the_file() -> None:
    task = Read(file=file("a.csv", "1"))
    kart.build(task)
    assert kart.record(task).parameters == {"file": {"file": "a.csv"}}


# --- files that others wrote


class Given(kart.ExternalTask[Any]):
    name: str

    def output(self) -> Any:
        return self.make_target(self.name, use_unique_id=False)


class Use(kart.TaskOnKart[Any]):
    given: Given
    lazily: bool = False

    def run(self) -> Any:
        return list(self.load_generator(self.given)) if self.lazily else self.load(self.given)


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize(("name", "content"), [("a.json", b"{"), ("a.pkl", b"nothing"), ("a.txt", b"\xff\n")])
def test_a_file_that_its_format_cannot_read_is_no_fault_of_the_storage(name: str, content: bytes, lazily: bool) -> None:
    Path(name).write_bytes(content)
    task = Use(given=Given(name=name), lazily=lazily)
    with pytest.raises(kart.BuildError) as failed:
        kart.build(task, workspace_directory=".")
    failure = failed.value.failures[task]
    assert isinstance(failure, kart.SerializationError), failure
    assert name in str(failure)


def test_a_file_that_changes_between_making_a_task_and_the_end_of_its_run_stores_nothing() -> None:
    Path("a.txt").write_text("one")
    task = Read(file=kart.File("a.txt"))
    Path("a.txt").write_text("another")
    with pytest.raises(kart.BuildError, match="was changed since the task was made"):
        kart.build(task)
    assert not task.complete()
    Path("a.txt").write_text("one")
    assert kart.build(task) == b"one"


@attrs.frozen
class Source:
    file: kart.File
    skip: int = 0


class ReadsAndWrites(kart.TaskOnKart[str]):
    source: Any

    def run(self) -> str:
        Path("table.csv").write_text("another content")
        return Path("table.csv").read_text()


@pytest.mark.parametrize("wrap", [Source, lambda file: {"a": (Source(file),)}, lambda file: {file: 1}])
def test_a_file_within_a_structure_that_changes_stores_nothing(wrap: Any) -> None:
    task = ReadsAndWrites(source=wrap(file("table.csv", "1,2")))
    with pytest.raises(kart.BuildError, match="was changed since"):
        kart.build(task)
    assert not task.complete()
