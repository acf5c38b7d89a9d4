"""The promises of loading and dumping: what goes in comes back, or is refused; nothing becomes another thing."""

from __future__ import annotations

import math
import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import kart_core as kart
from tests.conftest import Files

pytestmark = pytest.mark.usefixtures("project")

MEBIBYTE = 1 << 20

unpickled: list[int] = []


@pytest.fixture(autouse=True)
def nothing_unpickled() -> None:
    unpickled.clear()


class Number(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        return self.i


class Text(kart.TaskOnKart[str]):
    def run(self) -> str:
        return "text"


class Seen:
    """Tells when it is read from a file."""

    def __init__(self, i: int) -> None:
        self.i = i

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(state)
        unpickled.append(self.i)


class Stream(kart.TaskOnKart[list[Seen]]):
    n: int = 5

    def run(self) -> None:
        self.dump(Seen(i) for i in range(self.n))  # type: ignore[arg-type]


class Asks(kart.TaskOnKart[Any]):
    """Holds requirements in several forms, and loads them as it is told."""

    number: Number = Number(i=1)
    text: Text = Text()
    many: tuple[Number, ...] = (Number(i=2), Number(i=3))
    named: dict[str, Number] = kart.parameter(factory=lambda: {"a": Number(i=4)})
    absent: Number | None = None

    loads: ClassVar[Any] = lambda task: task.load()

    def run(self) -> None:
        self.dump(type(self).loads(self))


class Values(kart.TaskOnKart[Any]):
    """Dumps a value that is given on the class, to a file of a format."""

    suffix: str
    value: ClassVar[Any] = None

    def output(self) -> kart.Target:
        return self.make_target(f"value.{self.suffix}")

    def run(self) -> None:
        self.dump(type(self).value)


def asked(monkeypatch: pytest.MonkeyPatch, loads: Any, task: Asks | None = None) -> Any:
    """What a task gets that loads in its `run` in a certain way."""
    monkeypatch.setattr(Asks, "loads", staticmethod(loads))
    return kart.build(task or Asks(), rerun=True)


def stored(suffix: str, value: Any) -> Any:
    """What comes back of a value that is dumped to a format."""
    Values.value = value
    try:
        return kart.build(Values(suffix=suffix), rerun=True)
    finally:
        Values.value = None


def refused(suffix: str, value: Any) -> kart.SerializationError:
    with pytest.raises(kart.BuildError) as error:
        stored(suffix, value)
    [failure] = error.value.failures.values()
    assert isinstance(failure, kart.SerializationError), failure
    assert not Values(suffix=suffix).complete()
    return failure


# --- load


def test_load_with_nothing_gives_all_requirements_by_their_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, lambda task: task.load()) == {
        "number": 1,
        "text": "text",
        "many": [2, 3],
        "named": {"a": 4},
    }


def test_load_with_a_name_gives_that_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, lambda task: [task.load(n) for n in ("number", "many", "named")]) == [1, [2, 3], {"a": 4}]


def test_load_with_a_task_gives_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, lambda task: task.load(task.number)) == 1


def test_load_with_a_list_or_tuple_of_tasks_gives_their_values_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, lambda task: task.load([task.text, task.number])) == ["text", 1]
    assert asked(monkeypatch, lambda task: task.load(task.many)) == [2, 3]


def test_load_with_a_mapping_of_tasks_gives_their_values_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, lambda task: task.load({"b": task.number, "c": list(task.many)})) == {"b": 1, "c": [2, 3]}


def test_load_with_a_target_gives_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, lambda task: task.load(task.text.output())) == "text"


def test_load_with_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(kart.ParameterError, match=r"'numbr'.*'number'"):
        Asks().load("numbr")


def test_load_of_what_is_no_task_is_refused() -> None:
    with pytest.raises(kart.ParameterError, match="int"):
        Asks().load(3)  # type: ignore[call-overload]


def test_load_with_nothing_where_nothing_is_required_is_refused() -> None:
    with pytest.raises(kart.ParameterError, match="requires nothing"):
        Number(i=1).load()


def test_load_of_what_was_never_built_is_an_error_that_names_it_and_the_workspace() -> None:
    with pytest.raises(kart.MissingDataError, match=r"Number\(i=99\).*resources") as error:
        Asks().load(Number(i=99))
    assert error.value.exit_code == 20


def test_load_works_outside_of_a_run_too() -> None:
    kart.build(Asks(), return_value=False)
    assert Asks().load("many") == [2, 3]
    assert Text().load(Number(i=3)) == 3


def test_load_gives_a_new_object_each_time() -> None:
    class Listed(kart.TaskOnKart[list[int]]):
        def run(self) -> list[int]:
            return [1]

    kart.build(Listed()).append(2)
    assert kart.build(Listed()) == [1]


class ByRequires(kart.TaskOnKart[Any]):
    def requires(self) -> dict[str, Any]:
        return {"one": Number(i=1), "more": [Number(i=2), None, (Number(i=3),)]}

    def run(self) -> None:
        self.dump([self.load(), self.load("more")])


def test_load_gives_what_requires_gave_in_its_structure() -> None:
    assert kart.build(ByRequires()) == [{"one": 1, "more": [2, None, [3]]}, [2, None, [3]]]


# --- load_generator


def test_load_generator_yields_the_parts_of_one_value_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    kart.build(Stream(), return_value=False)
    parts = Text().load_generator(Stream())
    assert unpickled == []
    assert next(parts).i == 0
    assert unpickled == [0]
    assert [part.i for part in parts] == [1, 2, 3, 4]
    assert unpickled == [0, 1, 2, 3, 4]


def test_load_generator_yields_the_values_of_several_tasks_lazily() -> None:
    kart.build(*(Stream(n=n) for n in (1, 2, 3)), return_value=False)
    values = Text().load_generator([Stream(n=n) for n in (1, 2, 3)])
    assert [seen.i for seen in next(values)] == [0]
    assert unpickled == [0]
    assert [len(value) for value in values] == [2, 3]


def test_load_generator_with_nothing_yields_each_requirement() -> None:
    kart.build(Asks(), return_value=False)
    assert list(Asks().load_generator()) == [1, "text", [2, 3], {"a": 4}]


def test_load_generator_with_a_name_yields_the_values_of_that_requirement() -> None:
    kart.build(Asks(), return_value=False)
    assert list(Asks().load_generator("many")) == [2, 3]


def test_load_generator_yields_the_lines_of_a_text_and_the_items_of_a_list() -> None:
    stored("txt", "one\ntwo\r\nthree")
    assert list(Text().load_generator(Values(suffix="txt"))) == ["one\n", "two\r\n", "three"]
    stored("json", [1, {"a": 2}])
    assert list(Text().load_generator(Values(suffix="json"))) == [1, {"a": 2}]


def test_load_generator_of_what_was_never_built_is_an_error() -> None:
    with pytest.raises(kart.MissingDataError, match="Stream"):
        next(Text().load_generator(Stream(n=77)))


def test_a_generator_that_is_dumped_comes_back_as_a_list() -> None:
    assert [seen.i for seen in kart.build(Stream())] == [0, 1, 2, 3, 4]


def test_what_a_dumped_generator_raises_is_the_failure_of_the_task() -> None:
    class Breaks(kart.TaskOnKart[list[int]]):
        def run(self) -> None:
            def items() -> Iterator[int]:
                yield 1
                raise LookupError("in the generator")

            self.dump(items())  # type: ignore[arg-type]

    with pytest.raises(kart.BuildError) as error:
        kart.build(Breaks())
    assert isinstance(error.value.failures[Breaks()], LookupError)


# --- dump


def test_of_two_dumps_to_one_output_the_last_counts(workspace: Files) -> None:
    class Again(kart.TaskOnKart[bytes]):
        def run(self) -> None:
            self.dump(b"a" * (2 * MEBIBYTE))
            self.dump(b"b" * (2 * MEBIBYTE))

    assert kart.build(Again()) == b"b" * (2 * MEBIBYTE)
    assert [workspace.size(path) > MEBIBYTE for path in workspace.results()] == [True]


def test_dump_is_for_the_task_that_runs() -> None:
    with pytest.raises(kart.KartError, match=r"Number\(i=1\)"):
        Number(i=1).dump(1)

    class Foreign(kart.TaskOnKart[int]):
        def run(self) -> None:
            Number(i=1).dump(2)

    with pytest.raises(kart.BuildError, match=r"Number\(i=1\)"):
        kart.build(Foreign())
    assert not Number(i=1).complete()


def test_dump_stages_and_the_result_is_in_its_place_when_run_has_returned() -> None:
    class Looks(kart.TaskOnKart[bool]):
        def run(self) -> None:
            self.dump(True)
            assert not self.complete()

    assert kart.build(Looks()) is True
    assert Looks().complete()


UNREPRESENTABLE: dict[str, tuple[str, Any]] = {
    "a tuple in .json": ("json", (1, 2)),
    "a tuple inside .json": ("json", {"a": [(1,)]}),
    "a whole number as a key of .json": ("json", {1: "a"}),
    "true as a key of .json": ("json", {True: "a"}),
    "a set in .json": ("json", {1, 2}),
    "not a number in .json": ("json", math.nan),
    "infinity inside .json": ("json", [math.inf]),
    "bytes in .json": ("json", b"a"),
    "a date in .json": ("json", date(2024, 1, 1)),
    "an object in .json": ("json", {"a": object()}),
    "an array in .json": ("json", np.zeros(2)),
    "a numpy number in .json": ("json", np.int64(1)),
    "a subclass of dict in .json": ("json", Counter("ab")),
    "a number in .txt": ("txt", 1),
    "bytes in .txt": ("txt", b"a"),
    "a list in .txt": ("txt", ["a"]),
    "None in .txt": ("txt", None),
    "half a surrogate pair in .txt": ("txt", "\ud800"),
    "a text in .bin": ("bin", "a"),
    "a bytearray in .bin": ("bin", bytearray(b"a")),
    "a list in .npy": ("npy", [1, 2]),
    "objects in .npy": ("npy", np.array([{}, None], dtype=object)),
    "a number in .npy": ("npy", 1.0),
    "an array in .npz": ("npz", np.zeros(2)),
    "whole numbers as names in .npz": ("npz", {1: np.zeros(2)}),
    "lists in .npz": ("npz", {"a": [1]}),
    "a lambda in .pkl": ("pkl", lambda: None),
    "an open file in .pkl": ("pkl", open(os.devnull)),  # noqa: SIM115
}


@pytest.mark.parametrize(("suffix", "value"), UNREPRESENTABLE.values(), ids=UNREPRESENTABLE)
def test_what_a_format_cannot_represent_is_refused_with_the_type_the_file_and_a_way_out(
    suffix: str, value: Any
) -> None:
    error = refused(suffix, value)
    for fact in (f"value_{Values(suffix=suffix).unique_id}.{suffix}", type(value).__name__, "make_target"):
        assert fact in str(error)


@pytest.mark.parametrize(("suffix", "value"), UNREPRESENTABLE.values(), ids=UNREPRESENTABLE)
def test_what_a_format_cannot_represent_leaves_the_old_result(suffix: str, value: Any) -> None:
    good = {"json": 1, "txt": "a", "bin": b"a", "npy": np.zeros(1), "npz": {"a": np.zeros(1)}, "pkl": 1}[suffix]
    stored(suffix, good)
    with pytest.raises(kart.BuildError):
        stored(suffix, value)
    assert repr(kart.build(Values(suffix=suffix))) == repr(good)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a\n", "\na", "a\r\nb\rc\n", "\ufeffbom", "ø 漢字 🎉 \x00 \x1a \u2028", "a" * (3 * MEBIBYTE)],
    ids=lambda text: repr(text[:10]),
)
@pytest.mark.parametrize("suffix", ["txt", "json", "pkl"])
def test_text_comes_back_as_it_went_in(suffix: str, text: str) -> None:
    assert stored(suffix, text) == text


def test_text_is_stored_as_plain_utf_8(workspace: Files) -> None:
    stored("txt", "ø\r\n")
    assert workspace.read(Values(suffix="txt").output().path) == "ø\r\n".encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=JSON)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_comes_back_as_it_went_in(value: Any) -> None:
    again = stored("json", value)
    assert again == value
    assert repr(again) == repr(value)


@pytest.mark.parametrize("value", [-0.0, 0.1 + 0.2, 1e308, 10**400, {"b": 1, "a": 2}, "\ud800", [[], {}]], ids=repr)
def test_json_keeps_what_is_easily_lost(value: Any) -> None:
    again = stored("json", value)
    assert repr(again) == repr(value)


@pytest.mark.parametrize("size", [0, 1, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1, 5 * MEBIBYTE])
@pytest.mark.parametrize("suffix", ["bin", "pkl"])
def test_bytes_of_any_size_come_back(suffix: str, size: int) -> None:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert stored(suffix, data) == data


@pytest.mark.parametrize("shape", [(), (0,), (3,), (1000, 700)], ids=str)
def test_arrays_come_back_with_shape_and_dtype(shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape), dtype=">f4").reshape(shape)
    for again in (stored("npy", array), stored("npz", {"a": array})["a"], stored("pkl", array)):
        assert again.dtype == array.dtype
        assert again.shape == shape
        assert np.array_equal(again, array)


@dataclass
class Model:
    weights: list[float]
    cache: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"weights": self.weights, "cache": None}


def test_what_build_returns_is_what_storage_gives_back() -> None:
    model = Model([0.5], cache=object())
    again = stored("pkl", model)
    assert again is not model
    assert again == Model([0.5], cache=None)


def test_build_returns_the_same_for_a_task_that_ran_and_one_that_is_reused() -> None:
    first = stored("pkl", (i for i in range(3)))
    assert first == [0, 1, 2] == kart.build(Values(suffix="pkl"))


# --- files as others find them


@pytest.mark.local(reason="only they have permissions")
@pytest.mark.parametrize("size", [10, 3 * MEBIBYTE])
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_files_have_the_permissions_that_the_umask_says(size: int, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        stored("bin", b"a" * size)
        stored("npz", {"a": np.zeros(size, dtype="u1")})
    finally:
        os.umask(before)
    files = [path for path in Path("resources").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}


def test_a_result_is_named_for_people(workspace: Files) -> None:
    kart.build(Number(i=1), Values(suffix="pkl"))
    module = Number.__module__.replace(".", "/")
    assert set(workspace.results()) == {
        f"{module}/Number_{Number(i=1).unique_id}.pkl",
        f"value_{Values(suffix='pkl').unique_id}.pkl",
    }


# --- a generator that is dumped


class Pours(kart.TaskOnKart[Any]):
    what: str

    def run(self) -> None:
        self.dump(self._items())

    def _items(self) -> Iterator[object]:
        yield 1
        if self.what == "raises":
            raise OSError("the sensor is off")
        yield lambda: None


def test_what_a_dumped_generator_raises_is_the_failure() -> None:
    with pytest.raises(kart.BuildError) as failed:
        kart.build(Pours(what="raises"))
    failure = failed.value.failures[Pours(what="raises")]
    assert type(failure) is OSError
    assert "sensor" in str(failure)


def test_an_item_of_a_dumped_generator_that_cannot_be_pickled_is_a_serialization_error() -> None:
    with pytest.raises(kart.BuildError) as failed:
        kart.build(Pours(what="yields a lambda"))
    assert isinstance(failed.value.failures[Pours(what="yields a lambda")], kart.SerializationError)


def test_external_data_and_a_task_never_share_a_path_whichever_comes_first() -> None:
    class Data(kart.ExternalTask[int]):
        def output(self) -> kart.Target:
            return self.make_target("shared.pkl", use_unique_id=False)

    class Makes(kart.TaskOnKart[int]):
        def output(self) -> kart.Target:
            return self.make_target("shared.pkl", use_unique_id=False)

        def run(self) -> int:
            return 1

    for first, second in ((Data(), Makes()), (Makes(), Data())):
        with pytest.raises(kart.GraphError, match="shared"):
            kart.plan(first, second)


class InThreads(kart.TaskOnKart[int]):
    parts: tuple[Number, ...]

    def run(self) -> int:
        with ThreadPoolExecutor(4) as threads:
            lists = threads.map(lambda part: [*self.load_generator([part])], self.parts)
            return sum(threads.map(self.load, self.parts)) + sum(map(sum, lists))


def test_threads_of_a_run_load_from_where_the_build_stores(workspace: Files) -> None:
    task = InThreads(parts=tuple(Number(i=i) for i in range(8)))
    elsewhere = workspace.beside("elsewhere")
    assert kart.build(task, workspace_directory=elsewhere.url) == 2 * sum(range(8))
    assert not workspace.is_there()
    assert len(kart.record(task, elsewhere.url).requirements) == 8
