"""How numpy's values become part of a unique id: dtype, shape and the bytes in C order."""

from __future__ import annotations

from typing import Any

from kart_core.encoding import EncodingError, encode
from kart_core.plugin import Hasher

__all__ = ["RECORDS"]


def _encode_array(array: Any) -> bytes:
    if type(array).__name__ == "MaskedArray":
        raise EncodingError("numpy.ma.MaskedArray", "what it masks is not defined: give the data and the mask")
    return _encode_dtype(array.dtype) + encode(tuple(array.shape)) + _content(array)


def _content(array: Any) -> bytes:
    names = array.dtype.names
    if names is None:
        return encode(array.tobytes())
    # Field by field: the gaps between aligned fields hold whatever was in memory.
    return b"".join([_content(array[name]) for name in names])


def _encode_scalar(value: Any) -> bytes:
    import numpy

    return encode("scalar") + _encode_array(numpy.asarray(value))


def _encode_dtype(dtype: Any) -> bytes:
    from numpy.lib import format as npy

    if dtype.hasobject or _has_long_double(dtype):
        raise EncodingError("numpy.dtype", f"{dtype} is not the same everywhere: give a dtype of fixed size")
    description = npy.dtype_to_descr(dtype)
    if npy.descr_to_dtype(description) != dtype:
        raise EncodingError("numpy.dtype", f"{dtype} has no canonical form: give one of numpy's plain dtypes")
    return encode(description)


def _has_long_double(dtype: Any) -> bool:
    """Whether numbers in it have a size, and idle bytes, that depend on the platform."""
    if dtype.names is not None:
        return any(_has_long_double(dtype[name]) for name in dtype.names)
    return dtype.base.char in "gG"


RECORDS = {
    ("kart_hashers", record.type): record
    for record in (
        Hasher("numpy.ndarray", encode=_encode_array),
        Hasher("numpy.dtype", encode=_encode_dtype),
        Hasher("numpy.generic", encode=_encode_scalar),
    )
}
"""Each record under its hook and name, as the host looks it up."""
