"""The promises of numpy's values in an id: dtype, shape and content count, the way they lie in memory does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from kart_core.builtin.hashers import RECORDS
from kart_core.encoding import EncodingError

ARRAY = RECORDS["kart_hashers", "numpy.ndarray"].encode
DTYPE = RECORDS["kart_hashers", "numpy.dtype"].encode
GENERIC = RECORDS["kart_hashers", "numpy.generic"].encode

DTYPES = st.sampled_from(
    ["?", "u1", "i1", "<i4", ">i4", "<f4", "<f8", "<c8", "S2", "<U1", "<M8[s]", "<M8[D]", "<m8[s]"]
)
SMALL = npst.arrays(DTYPES, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), fill=st.nothing())


@given(SMALL, SMALL)
def test_arrays_share_bytes_exactly_when_dtype_shape_and_content_are_the_same(a: Any, b: Any) -> None:
    same = (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    assert (ARRAY(a) == ARRAY(b)) == same


@given(SMALL)
def test_the_way_an_array_lies_in_memory_does_not_count(array: Any) -> None:
    assert ARRAY(array.copy()) == ARRAY(array)
    if array.ndim:
        assert ARRAY(np.asfortranarray(array)) == ARRAY(array)
        assert ARRAY(np.repeat(array, 2, axis=0)[::2]) == ARRAY(array)
        assert ARRAY(array[::-1].copy()[::-1]) == ARRAY(array)


def test_arrays_that_look_alike_differ() -> None:
    square = np.arange(4).reshape(2, 2)
    values = [
        square,
        square.T,
        square.reshape(4),
        square.reshape(1, 4),
        square.astype("i4"),
        square.astype("u8"),
        square.astype("f8"),
        square.astype(">i8"),
        np.array([0.0]),
        np.array([-0.0]),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.zeros(0),
        np.array(0.0),
        np.zeros(2, [("a", "i4"), ("b", "i4")]),
        np.zeros(2, [("b", "i4"), ("a", "i4")]),
        np.zeros(2, "i8"),
        np.array([b"a"]),
        np.array(["a"]),
        np.array(["2024-01-01"], "M8[D]"),
        np.array(["2024-01-01"], "M8[s]"),
    ]
    assert len({ARRAY(value) for value in values}) == len(values)


def test_gaps_between_aligned_fields_do_not_count() -> None:
    dtype = np.dtype([("a", "u1"), ("b", "f8")], align=True)
    clean, dirty = np.zeros(4, dtype), np.frombuffer(b"\xff" * 4 * dtype.itemsize, dtype).copy()
    dirty["a"], dirty["b"] = 0, 0
    assert clean.tobytes() != dirty.tobytes()
    assert ARRAY(clean) == ARRAY(dirty)


def test_what_is_not_the_same_everywhere_is_refused() -> None:
    for array in (
        np.array([object()]),
        np.zeros(2, [("a", object)]),
        np.zeros(2, "longdouble"),
        np.zeros(2, [("a", "clongdouble")]),
        np.ma.array([1, 2], mask=[True, False]),
    ):
        with pytest.raises(EncodingError):
            ARRAY(array)
    with pytest.raises(EncodingError):
        DTYPE(np.dtype(object))


def test_dtypes_differ_by_all_that_they_say() -> None:
    names: list[Any] = ["i4", ">i4", "i8", "f8", "S1", "S2", "U1", "M8[s]", "M8[D]", [("a", "i4")], [("b", "i4")], "V8"]
    assert len({DTYPE(np.dtype(name)) for name in names}) == len(names)
    assert DTYPE(np.dtype("f8")) == DTYPE(np.dtype(float)) == DTYPE(np.zeros(1).dtype)


def test_scalars_differ_by_type_and_value_and_from_arrays_without_dimensions() -> None:
    values = [
        np.int64(1),
        np.int32(1),
        np.float64(1),
        np.float64(2),
        np.bool_(True),
        np.str_("1"),
        np.datetime64(1, "s"),
    ]
    assert len({GENERIC(value) for value in values}) == len(values)
    assert GENERIC(np.float64("nan")) == GENERIC(np.float64("nan"))
    assert GENERIC(np.float64(1)) != ARRAY(np.array(1.0))


def test_bytes_are_golden() -> None:
    assert ARRAY(np.arange(2, dtype="<i2")) == b"str3:<i2tuple6:int:2;bytes4:\x00\x00\x01\x00"
