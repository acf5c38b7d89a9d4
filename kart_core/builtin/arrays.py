"""The formats of numpy's arrays: ``.npy`` and ``.npz``.

They refuse what they would not give back equal. numpy is imported when an array is first written or read.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from kart_core.frozen import FrozenDict
from kart_core.nested import class_name
from kart_core.plugin import Serializer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RECORDS"]

_Array = Any  # numpy.ndarray, whose module this one does without until there is one

_LONGEST_HEADER = 1 << 24
"""Bytes of the longest description of a dtype that is read; numpy's own limit is too low for tables of many columns."""


def _dump_npy(value: object, file: BinaryIO) -> None:
    from numpy.lib import format as npy

    array = _plain_array(value, ".npy")
    header = npy.header_data_from_array_1_0(array)
    try:
        npy.write_array_header_1_0(file, header)
    except ValueError:  # field names that are not Latin, or very many
        file.write(_utf8_header(header))
    for part in _memory(array):
        file.write(part)


def _utf8_header(header: dict[str, Any]) -> bytes:
    """A header of the format's version 3, which numpy writes and reads but offers no function for."""
    from numpy.lib import format as npy

    text = repr(header).encode()
    text += b" " * (-(len(text) + 13) % npy.ARRAY_ALIGN) + b"\n"
    return npy.magic(3, 0) + len(text).to_bytes(4, "little") + text


def _plain_array(value: object, suffix: str) -> _Array:
    import numpy
    from numpy.lib import format as npy

    if type(value) not in (numpy.ndarray, numpy.memmap):
        raise TypeError(
            f"{suffix} holds numpy.ndarray, not {class_name(value)}: give numpy.asarray(value), or use .pkl"
        )
    array = cast("_Array", value)
    dtype = array.dtype
    if dtype.hasobject or npy.descr_to_dtype(npy.dtype_to_descr(dtype)) != dtype:
        raise TypeError(f"{suffix} cannot hold an array of dtype {dtype}: give a plain dtype, or use .pkl")
    return array


def _memory(array: _Array) -> Iterator[memoryview]:
    """The array's memory in the order that its header says: as it lies there, or copied in small parts."""
    import numpy

    if array.nbytes == 0:
        return
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        array = array.T
    if array.flags.c_contiguous:
        yield _bytes_of(array)
        return
    flags: Any = ["external_loop", "buffered", "zerosize_ok"]
    rows = max(1, (1 << 24) // array.itemsize)
    for part in numpy.nditer(array, flags=flags, buffersize=rows, order="C"):
        yield _bytes_of(numpy.ascontiguousarray(part))


def _bytes_of(array: _Array) -> memoryview:
    import numpy

    return memoryview(array.reshape(-1).view(numpy.ndarray).view(numpy.uint8))


def _load_npy(file: BinaryIO) -> Any:
    import numpy
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version == (1, 0):
        header = npy.read_array_header_1_0(file, max_header_size=_LONGEST_HEADER)
    elif version == (2, 0):
        header = npy.read_array_header_2_0(file, max_header_size=_LONGEST_HEADER)
    else:
        rest = io.BytesIO(npy.magic(*version) + file.read())
        return npy.read_array(rest, allow_pickle=False, max_header_size=_LONGEST_HEADER)
    shape, fortran_order, dtype = header
    if dtype.hasobject:
        raise ValueError("the array holds Python objects, which .npy keeps as pickle: kart reads none from it")
    array: _Array = numpy.empty(shape[::-1] if fortran_order else shape, dtype)
    if array.nbytes:
        _fill(_bytes_of(array), file)
    return array.T if fortran_order else array


def _fill(memory: memoryview, file: BinaryIO) -> None:
    read_into = cast("Any", file).readinto
    while memory:
        count = read_into(memory)
        if not count:
            raise ValueError(f"the file ends {len(memory)} bytes before the array does")
        memory = memory[count:]


def _dump_npz(value: object, file: BinaryIO) -> None:
    import zipfile

    if type(value) not in (dict, FrozenDict):
        raise TypeError(f".npz holds a dict of arrays, not {class_name(value)}: give {{name: array}}, or use .pkl")
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in cast("Mapping[object, object]", value).items():
            if type(name) is not str:
                raise TypeError(f".npz has str names alone, not {name!r}: use str keys, or .pkl")
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is a fixed one: equal values are equal files
            if member.filename != f"{name}.npy":
                raise ValueError(f"a zip file cannot hold the name {name!r}: give another")
            array = _plain_array(array, ".npz")
            with archive.open(member, "w", force_zip64=True) as part:
                _dump_npy(array, cast("BinaryIO", part))


def _load_npz(file: BinaryIO) -> dict[str, Any]:
    import zipfile

    arrays: dict[str, Any] = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                raise ValueError(f"the member {name!r} is no array")
            with archive.open(name) as part:
                arrays[name.removesuffix(".npy")] = _load_npy(cast("BinaryIO", part))
    return arrays


RECORDS = {
    ("kart_serializers", record.suffix): record
    for record in (
        Serializer("npy", dump=_dump_npy, load=_load_npy, types=("numpy:ndarray",)),
        Serializer("npz", dump=_dump_npz, load=_load_npz, seekable=True),
    )
}
"""Each record under its hook and name, as the host looks it up."""
