"""The formats that kart writes by itself: ``.pkl``, ``.json``, ``.txt``, ``.bin``, ``.npy`` and ``.npz``.

A format takes what it gives back equal and refuses everything else, with a `TypeError` or
`ValueError`, so that nothing is stored as another thing than it was. numpy is imported when an
array is first written or read.
"""

from __future__ import annotations

import io
import pickle
from types import NoneType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from kart_core.frozen import FrozenDict, FrozenList
from kart_core.nested import is_lazy
from kart_core.plugin import Serializer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RECORDS", "Parts"]


# --- .pkl


class Parts:
    """Stands, as a pickled reference, at the head of a file that holds one pickle after another.

    The name is part of the format: whoever moves it raises the version of ``.pkl``.
    """


_ATOMS = frozenset({NoneType, bool, int, float})


def _dump_pkl(value: Any, file: BinaryIO) -> None:
    if type(value) in _ATOMS:
        file.write(pickle.dumps(value, 5))  # the same bytes without the making of a pickler
    elif is_lazy(value):
        _dump_parts(value, file)
    else:
        _pickle(pickle.Pickler(file, protocol=5), value)


def _pickle(pickler: pickle.Pickler, value: object) -> None:
    try:
        pickler.dump(value)
    except (pickle.PicklingError, AttributeError) as error:  # AttributeError: a local function or class
        raise TypeError(str(error)) from error
    except RecursionError as error:
        raise ValueError("the value is nested too deep for pickle: give it a flatter form") from error


def _dump_parts(values: Iterator[object], file: BinaryIO) -> None:
    pickler = pickle.Pickler(file, protocol=5)
    pickler.dump(Parts)
    for value in values:
        pickler.clear_memo()
        _pickle(pickler, value)


def _load_pkl(file: BinaryIO) -> Any:
    value = pickle.loads(file.getbuffer()) if isinstance(file, io.BytesIO) else pickle.load(file)
    if value is not Parts:
        return value
    if isinstance(file, io.BytesIO):
        pickle.load(file)
    return list(_parts(file))


def _stream_pkl(file: BinaryIO) -> Iterator[Any]:
    value = pickle.load(file)
    if value is Parts:
        yield from _parts(file)
    elif type(value) is list:
        yield from cast("list[Any]", value)
    else:
        yield value


def _parts(file: BinaryIO) -> Iterator[Any]:
    try:
        while True:
            yield pickle.load(file)
    except EOFError:
        return


# --- .json


_JSON_SCALARS = frozenset({type(None), bool, int, float, str})


def _dump_json(value: object, file: BinaryIO) -> None:
    import json

    try:
        if type(value) not in _JSON_SCALARS:
            _check_json(value, "the value")
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError as error:
        raise ValueError("the value is nested too deep for JSON, or holds itself") from error
    try:
        data = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold if it is escaped
        data = json.dumps(value).encode()
        if json.loads(data) != value:
            raise ValueError(
                "JSON joins the two halves of a surrogate pair in the text: give whole characters"
            ) from None
    file.write(data)


def _check_json(value: Any, where: str) -> None:
    kind = cast("type[Any]", type(value))
    if kind is list or kind is FrozenList:
        for number, item in enumerate(value):
            if type(item) not in _JSON_SCALARS:
                _check_json(item, f"{where}[{number}]")
    elif kind is dict or kind is FrozenDict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}, and JSON has none but str: use str keys, or .pkl")
            if type(item) not in _JSON_SCALARS:
                _check_json(item, f"{where}[{key!r}]")
    elif kind.__module__ == "numpy" and isinstance(value, (float, str)):
        return  # numpy.float64 and numpy.str_ are Python's own, and come back equal
    else:
        raise TypeError(f"{where} is a {_name_of(kind)}, which JSON does not give back: {_way_out(value)}")


def _way_out(value: object) -> str:
    if isinstance(value, (tuple, set, frozenset)):
        return "give a list, or use .pkl"
    if hasattr(value, "tolist"):
        return "give value.tolist(), or use .npy or .pkl"
    return "give plain lists, dicts, texts and numbers, or use .pkl"


def _load_json(file: BinaryIO) -> Any:
    import json

    return json.loads(file.read())


def _stream_json(file: BinaryIO) -> Iterator[Any]:
    value = _load_json(file)
    if not isinstance(value, list):
        raise ValueError(f"only a JSON list is read in parts, and this is {_name_of(_type(value))}: load it whole")
    yield from cast("list[Any]", value)


# --- .txt and .bin


def _dump_txt(value: object, file: BinaryIO) -> None:
    if type(value) is not str:
        raise TypeError(f".txt holds a str, not {_name_of(type(value))}: give a str, or use .json or .pkl")
    file.write(value.encode())


def _load_txt(file: BinaryIO) -> str:
    return file.read().decode()


def _stream_txt(file: BinaryIO) -> Iterator[str]:
    for line in file:
        yield line.decode()


def _dump_bin(value: object, file: BinaryIO) -> None:
    if type(value) is not bytes:
        raise TypeError(f".bin holds bytes, not {_name_of(type(value))}: give bytes(value), or use .pkl")
    file.write(value)


def _load_bin(file: BinaryIO) -> bytes:
    return file.read()


# --- .npy and .npz


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
            f"{suffix} holds numpy.ndarray, not {_name_of(type(value))}: give numpy.asarray(value), or use .pkl"
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
        raise TypeError(f".npz holds a dict of arrays, not {_name_of(type(value))}: give {{name: array}}, or use .pkl")
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


def _type(value: object) -> type:
    return type(value)


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


RECORDS = {
    ("kart_serializers", record.suffix): record
    for record in (
        Serializer("pkl", dump=_dump_pkl, load=_load_pkl, stream=_stream_pkl),
        Serializer("json", dump=_dump_json, load=_load_json, stream=_stream_json),
        Serializer("txt", dump=_dump_txt, load=_load_txt, stream=_stream_txt, types=("builtins:str",)),
        Serializer("bin", dump=_dump_bin, load=_load_bin, types=("builtins:bytes",)),
        Serializer("npy", dump=_dump_npy, load=_load_npy, types=("numpy:ndarray",)),
        Serializer("npz", dump=_dump_npz, load=_load_npz, seekable=True),
    )
}
"""Each record under its hook and name, as the host looks it up."""
