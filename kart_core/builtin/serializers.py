"""The formats of Python's own values: ``.pkl``, ``.json``, ``.txt`` and ``.bin``.

A format takes what it gives back equal and refuses everything else, with a `TypeError` or
`ValueError`, so that nothing is stored as another thing than it was.
"""

from __future__ import annotations

import io
import pickle
from types import NoneType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from kart_core.frozen import FrozenDict, FrozenList
from kart_core.nested import class_name, is_lazy
from kart_core.plugin import Serializer

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        raise TypeError(f"{where} is a {class_name(value)}, which JSON does not give back: {_way_out(value)}")


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
        raise ValueError(f"only a JSON list is read in parts, and this is {class_name(value)}: load it whole")
    yield from cast("list[Any]", value)


# --- .txt and .bin


def _dump_txt(value: object, file: BinaryIO) -> None:
    if type(value) is not str:
        raise TypeError(f".txt holds a str, not {class_name(value)}: give a str, or use .json or .pkl")
    file.write(value.encode())


def _load_txt(file: BinaryIO) -> str:
    return file.read().decode()


def _stream_txt(file: BinaryIO) -> Iterator[str]:
    for line in file:
        yield line.decode()


def _dump_bin(value: object, file: BinaryIO) -> None:
    if type(value) is not bytes:
        raise TypeError(f".bin holds bytes, not {class_name(value)}: give bytes(value), or use .pkl")
    file.write(value)


def _load_bin(file: BinaryIO) -> bytes:
    return file.read()


RECORDS = {
    ("kart_serializers", record.suffix): record
    for record in (
        Serializer("pkl", dump=_dump_pkl, load=_load_pkl, stream=_stream_pkl),
        Serializer("json", dump=_dump_json, load=_load_json, stream=_stream_json),
        Serializer("txt", dump=_dump_txt, load=_load_txt, stream=_stream_txt, types=("builtins:str",)),
        Serializer("bin", dump=_dump_bin, load=_load_bin, types=("builtins:bytes",)),
    )
}
"""Each record under its hook and name, as the host looks it up."""
