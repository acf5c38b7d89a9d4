"""The promises of the built-in formats: what goes in comes back, or is refused."""

from __future__ import annotations

import enum
import io
import itertools
import math
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from kart_core.builtin import Builtin
from kart_core.content import read, write
from kart_core.frozen import freeze
from kart_core.plugin import Secret

RECORDS = {record.suffix: record for record in Builtin().kart_serializers()}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
ANY_TEXT = st.text(st.characters(exclude_categories=()))
DTYPES = (
    npst.boolean_dtypes()
    | npst.integer_dtypes(endianness="?")
    | npst.floating_dtypes(endianness="?")
    | npst.complex_number_dtypes(endianness="?")
    | npst.datetime64_dtypes(endianness="?")
    | npst.unicode_string_dtypes(endianness="?")
    | npst.byte_string_dtypes()
)
ARRAYS = npst.arrays(
    DTYPES | npst.array_dtypes(DTYPES, allow_subarrays=False), npst.array_shapes(min_dims=0, min_side=0)
)


class Point(NamedTuple):
    x: int


class Colour(enum.IntEnum):
    RED = 1


def dumped(suffix: str, value: Any) -> bytes:
    file = io.BytesIO()
    RECORDS[suffix].dump(value, file)
    return file.getvalue()


def loaded(suffix: str, data: bytes, *, in_memory: bool = True) -> Any:
    file: Any = io.BytesIO(data)
    return RECORDS[suffix].load(file if in_memory else io.BufferedReader(file))


def there_and_back(suffix: str, value: Any) -> Any:
    data = dumped(suffix, value)
    back = loaded(suffix, data)
    assert same(loaded(suffix, data, in_memory=False), back)
    return back


def streamed(suffix: str, data: bytes) -> Iterator[Any]:
    stream = RECORDS[suffix].stream
    assert stream is not None
    return stream(io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type]


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return a == b and not (isinstance(a, float) and math.copysign(1, a) != math.copysign(1, b))


# --- .pkl


@given(PLAIN)
def test_pkl_gives_back_what_went_in(value: Any) -> None:
    assert same(there_and_back("pkl", value), value)


def test_pkl_is_protocol_5() -> None:
    assert dumped("pkl", [1]) == pickle.dumps([1], protocol=5)


@pytest.mark.parametrize("value", [lambda: 1, (i for i in [lambda: 1]), open, type("Local", (), {}), Secret("abc")])
def test_pkl_refuses_what_cannot_be_pickled(value: Any) -> None:
    if value is open:
        value = io.StringIO  # importable: a class is pickled by name
        assert there_and_back("pkl", value) is value
        return
    with pytest.raises(TypeError):
        dumped("pkl", value)


def test_pkl_refuses_what_is_nested_too_deep() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="deep"):
        dumped("pkl", value)
    while value:  # taken apart, for its end is recursive too
        value = value.pop()


@pytest.mark.parametrize("make", [lambda: (i * i for i in range(5)), lambda: map(abs, [0, -1, 4, 9, 16])])
def test_a_generator_is_written_in_parts_and_loads_as_a_list(make: Any) -> None:
    assert [0, 1, 4, 9, 16] == there_and_back("pkl", make()) == list(streamed("pkl", dumped("pkl", make())))
    assert there_and_back("pkl", itertools.chain()) == []


def test_parts_are_written_and_read_one_at_a_time() -> None:
    alive = 0

    class Part:
        def __init__(self) -> None:
            nonlocal alive
            alive += 1
            assert alive <= 2, "an earlier part is still held"

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

        def __reduce__(self) -> Any:
            return bytes, (1000,)

    data = dumped("pkl", (Part() for _ in range(10)))
    assert next(streamed("pkl", data)) == bytes(1000)
    read = io.BytesIO(data)
    stream = RECORDS["pkl"].stream
    assert stream is not None
    next(stream(read))
    assert read.tell() < len(data) / 2


def test_what_a_generator_raises_goes_through_as_it_is() -> None:
    def values() -> Iterator[int]:
        yield 1
        raise AttributeError("the user's own")

    with pytest.raises(AttributeError, match="the user's own"):
        dumped("pkl", values())


def test_a_list_that_was_not_dumped_in_parts_streams_its_items_and_another_value_itself() -> None:
    assert list(streamed("pkl", dumped("pkl", [1, [2]]))) == [1, [2]]
    assert list(streamed("pkl", dumped("pkl", (1, 2)))) == [(1, 2)]


def test_frozen_values_come_back_plain() -> None:
    for suffix in ("pkl", "json"):
        assert same(there_and_back(suffix, freeze({"a": [1, {"b": []}]})), {"a": [1, {"b": []}]})


# --- .json


@given(PLAIN)
def test_json_gives_back_what_went_in(value: Any) -> None:
    assert same(there_and_back("json", value), value)


@given(ANY_TEXT)
def test_json_gives_back_any_text_or_refuses_it(text: str) -> None:
    try:
        data = dumped("json", [text])
    except ValueError:
        assert text != text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    else:
        assert loaded("json", data) == [text]


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ((1, 2), "the value is a tuple"),
        ({"a": [{"b": (1,)}]}, "the value['a'][0]['b'] is a tuple"),
        ({1: 2}, "key 1"),
        ({None: 2}, "key None"),
        ([{1, 2}], "set"),
        ([b"x"], "bytes"),
        ([math.nan], "Out of range"),
        (math.inf, "Out of range"),
        ([np.zeros(2)], "tolist"),
        (np.int64(1), "numpy.int64"),
        (Point(1), "Point"),
        (Colour.RED, "Colour"),
        (OrderedDict(a=1), "OrderedDict"),
        ([Secret("hunter2")], "Secret"),
        (iter([1]), "list_iterator"),
        (object(), "object"),
    ],
)
def test_json_refuses_what_it_would_not_give_back(value: Any, fact: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        dumped("json", value)
    assert fact in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_json_refuses_a_list_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="holds itself"):
        dumped("json", value)


def test_json_takes_numpys_kinds_of_python_numbers() -> None:
    assert there_and_back("json", {"accuracy": np.float64(0.97)}) == {"accuracy": 0.97}


def test_json_is_text_that_people_can_read() -> None:
    assert dumped("json", {"naïve": [1, 2.5, None]}) == '{"naïve": [1, 2.5, null]}'.encode()


def test_json_streams_the_items_of_a_list() -> None:
    assert list(streamed("json", b"[1, [2]]")) == [1, [2]]
    with pytest.raises(ValueError, match="dict"):
        list(streamed("json", b"{}"))


# --- .txt and .bin


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_text_comes_back_with_the_line_ends_that_it_had(text: str) -> None:
    assert there_and_back("txt", text) == text
    assert "".join(streamed("txt", dumped("txt", text))) == text


def test_text_streams_its_lines() -> None:
    assert list(streamed("txt", b"a\r\nb\n\nc")) == ["a\r\n", "b\n", "\n", "c"]


@pytest.mark.parametrize("value", [1, b"a", None, ["a"], Secret("a"), np.str_("a"), "\ud800"])
def test_txt_refuses_what_is_no_text(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        dumped("txt", value)


@given(st.binary())
def test_bytes_come_back(data: bytes) -> None:
    assert dumped("bin", data) == there_and_back("bin", data) == data


@pytest.mark.parametrize("value", ["a", bytearray(b"a"), memoryview(b"a"), 3, None])
def test_bin_refuses_what_is_not_bytes(value: Any) -> None:
    with pytest.raises(TypeError, match="bin"):
        dumped("bin", value)


# --- .npy and .npz


def assert_same_array(a: Any, b: Any) -> None:
    assert type(a) is np.ndarray
    assert a.flags.writeable
    assert same(a, np.asarray(b))


@given(ARRAYS, st.sampled_from(["C", "F", "reversed", "strided"]))
def test_an_array_comes_back(array: Any, order: str) -> None:
    if array.ndim:
        views = {"F": np.asfortranarray(array), "reversed": array[::-1], "strided": array[::2]}
        array = views.get(order, array)
    data = dumped("npy", array)
    assert_same_array(there_and_back("npy", array), array)
    assert_same_array(np.load(io.BytesIO(data)), array)


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
@given(ARRAYS)
def test_what_numpy_wrote_is_read(array: Any) -> None:
    file = io.BytesIO()
    np.save(file, array)
    assert_same_array(loaded("npy", file.getvalue()), array)


def test_field_names_of_any_script_come_back() -> None:
    array = np.zeros(3, [("名", "f8")])
    assert_same_array(there_and_back("npy", array), array)
    assert_same_array(np.load(io.BytesIO(dumped("npy", array))), array)


def test_a_long_description_is_read_back() -> None:
    array = np.zeros(2, [(f"field_number_{number}", "f8") for number in range(5000)])
    assert_same_array(there_and_back("npy", array), array)


@pytest.mark.parametrize(
    "value",
    [
        [1, 2],
        np.float64(1),
        np.array([1, "a", None], dtype=object),
        np.zeros(2, [("a", object)]),
        np.ma.array([1, 2], mask=[True, False]),
        np.zeros(2, "f8").view(np.recarray),
    ],
    ids=lambda value: type(value).__name__,
)
def test_npy_refuses_what_is_not_a_plain_array(value: Any) -> None:
    with pytest.raises(TypeError, match=r"\.npy"):
        dumped("npy", value)
    with pytest.raises(TypeError, match=r"\.npz"):
        dumped("npz", {"a": value})


def test_objects_in_a_file_of_others_are_never_unpickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([1, None], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="objects"):
        loaded("npy", file.getvalue())


def test_an_array_that_was_cut_is_an_error() -> None:
    with pytest.raises(ValueError, match="8 bytes before"):
        loaded("npy", dumped("npy", np.zeros(10))[:-8])


@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), ARRAYS, max_size=4))
def test_named_arrays_come_back(arrays: dict[str, Any]) -> None:
    back = there_and_back("npz", arrays)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert_same_array(back[name], array)


def test_equal_arrays_are_equal_files_that_numpy_reads() -> None:
    value = {"a": np.arange(3), "b.npy": np.eye(2)}
    data = dumped("npz", value)
    assert data == dumped("npz", value)
    with np.load(io.BytesIO(data)) as file:
        np.testing.assert_equal(file["a"], np.arange(3))


@pytest.mark.parametrize("value", [np.zeros(1), {1: np.zeros(1)}, {"a\0b": np.zeros(1)}, [("a", np.zeros(1))]])
def test_npz_refuses_what_is_no_mapping_of_names(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"npz|zip"):
        dumped("npz", value)


def test_a_zip_file_with_something_else_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(ValueError, match="readme"):
        loaded("npz", file.getvalue())


# --- all


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.suffix)
def test_large_content_passes_through_the_file_that_the_core_gives(record: Any, tmp_path: Any) -> None:
    array = np.arange(500_000, dtype="f8")
    value: Any = {"npy": array, "npz": {"a": array, "b": array[::2]}, "pkl": [array, array.T]}.get(record.suffix)
    if value is None:
        value = {"txt": "line\n" * 500_000, "bin": bytes(3_000_000), "json": list(range(500_000))}[record.suffix]
    content = write(record.dump, value, lambda: str(tmp_path), seekable=record.seekable)
    assert content.path is not None
    with open(content.path, "rb") as file:
        back = read(record.load, file, content.size, content.digest, seekable=record.seekable)
    np.testing.assert_equal(back, value)


def test_nothing_moves_the_users_random_numbers() -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    for suffix, value in {"pkl": [1], "json": [1], "npy": np.zeros(3), "npz": {"a": np.zeros(3)}}.items():
        there_and_back(suffix, value)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_the_built_in_plugin_gives_every_record() -> None:
    plugin = Builtin()
    assert [record.scheme for record in plugin.kart_storages()] == ["file", "memory"]
    assert [record.method for record in plugin.kart_seeders()] == ["random.seed"]
    assert [record.name for record in plugin.kart_executors()] == ["inline", "processes"]
    assert [record.type for record in plugin.kart_hashers()] == ["numpy.ndarray", "numpy.dtype", "numpy.generic"]


def test_the_inline_executor_runs_at_once_and_keeps_errors_for_the_result() -> None:
    session = Builtin().kart_executors()[0].open(4)
    order: list[int] = []
    work = session.submit(order.append, 1)
    assert order == [1]
    assert work.result() is None
    failed = session.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.result()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.submit(interrupt)
    session.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        session.submit(int)
