"""The promises of canonical bytes: equal for equal values, different for different ones, everywhere."""

from __future__ import annotations

import enum
import functools
import math
import operator
import os
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kart_core.encoding import SCALARS, EncodingError, encode, encode_named
from kart_core.frozen import DEEPEST, freeze, thaw
from kart_core.plugin import Secret


class Colour(enum.Enum):
    RED = 1
    BLUE = 2
    CRIMSON = 1  # noqa: PIE796


class Shade(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Spot(NamedTuple):
    x: Any
    y: Any = 0


@attrs.frozen
class Model:
    depth: Any
    rate: Any = attrs.field(default=0.1, eq=False)


@attrs.frozen
class Other:
    depth: Any
    rate: Any = 0.1


@attrs.define
class Unset:
    late: int = attrs.field(init=False)


class Undecorated(Model):
    pass


@dataclass(frozen=True)
class Split:
    share: Any
    weights: Any = field(default=(), compare=False)


class Table(Mapping[str, int]):
    def __init__(self, content: dict[str, int]) -> None:
        self._content = content

    def __getitem__(self, key: str) -> int:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


class Text(str):
    pass


class Scaler:
    @classmethod
    def make(cls) -> None: ...

    @staticmethod
    def apply() -> None: ...


class Robust(Scaler):
    pass


def twice(value: int) -> int:
    return value * 2


# A small world, in which hypothesis often draws two values that are almost the same.
NEAR = st.sampled_from(
    [
        None,
        False,
        True,
        0,
        1,
        -1,
        0.0,
        -0.0,
        1.0,
        math.nan,
        "",
        "1",
        "int:1;",
        "str1:1",
        b"",
        b"1",
        b"str1:1",
        1 + 0j,
        "ü",
    ]
)
SCALAR = (
    NEAR
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.complex_numbers()
)
HASHABLE = st.recursive(
    SCALAR, lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
VALUE = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(HASHABLE, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Model, inner, inner)
        | st.builds(Split, inner, inner)
    ),
    max_leaves=8,
)


def alike(a: Any, b: Any) -> bool:
    """Of one type and content all the way down: the rule, said in another way than the encoding."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return alike(a.real, b.real) and alike(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return matched(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return matched(list(a), list(b))
    if isinstance(a, Model):
        return alike((a.depth, a.rate), (b.depth, b.rate))
    if isinstance(a, Split):
        return alike((a.share, a.weights), (b.share, b.weights))
    return a == b


def matched(a: list[Any], b: list[Any]) -> bool:
    """Whether each of one side has its own like on the other side."""
    for item in a:
        like = next((number for number, other in enumerate(b) if alike(item, other)), None)
        if like is None:
            return False
        del b[like]
    return not b


@given(VALUE, VALUE)
@example([(1,), 2], [(1, 2)])
@example(("a", "b"), ("ab", ""))
@example({1: "a"}, {True: "a"})
@example({1}, frozenset({1}))
def test_values_share_an_encoding_exactly_when_they_are_alike(a: Any, b: Any) -> None:
    assert (encode(a) == encode(b)) == alike(a, b)


@given(VALUE)
def test_no_encoding_is_the_beginning_of_another(value: Any) -> None:
    data = encode(value)
    for other in (None, 1, "1", (), [value], (value,), (value, value)):
        assert alike(value, other) or not encode(other).startswith(data)


@given(VALUE)
def test_a_frozen_list_or_dict_is_encoded_as_the_plain_one(value: Any) -> None:
    frozen = freeze(value)
    assert encode(thaw(frozen)) == encode(frozen)


@given(st.lists(st.tuples(HASHABLE, SCALAR), max_size=5), st.randoms())
def test_order_in_mappings_and_sets_does_not_count(items: list[Any], random: Any) -> None:
    mixed = list(dict(items).items())
    random.shuffle(mixed)
    assert encode(dict(mixed)) == encode(dict(items))
    assert encode({key for key, _ in mixed}) == encode({key for key, _ in items})


@given(st.dictionaries(st.text(), VALUE, max_size=4), st.dictionaries(st.text(), VALUE, max_size=4), st.randoms())
def test_named_encodings_go_by_name_and_content(a: dict[str, Any], b: dict[str, Any], random: Any) -> None:
    def named(values: dict[str, Any]) -> bytes:
        items = [(name, encode(value)) for name, value in values.items()]
        random.shuffle(items)
        return encode_named(items)

    assert named(a) == named(dict(a))
    assert (named(a) == named(b)) == alike(a, b)


DIFFERENT: list[Any] = [
    1,
    1.0,
    True,
    "1",
    b"1",
    bytearray(b"1"),
    1 + 0j,
    (1,),
    [1],
    {1},
    frozenset({1}),
    {1: 1},
    ((1,),),
    {1: {}},
    [],
    (),
    {},
    set(),
    frozenset(),
    None,
    0.0,
    -0.0,
    math.nan,
    math.inf,
    "",
    b"",
    range(1),
    range(1, 2),
    range(0, 4, 2),
    Colour.RED,
    Colour.BLUE,
    Shade.RED,
    Number.ONE,
    Access.READ,
    Access.WRITE,
    Access.READ | Access.WRITE,
    Point(1),
    Spot(1),
    Model(1),
    Model(1, 0.2),
    Other(1),
    Split(1),
    Split(1, (1,)),
    MappingProxyType({1: 1}),
    OrderedDict({1: 1}),
    defaultdict(int, {1: 1}),
    Counter({1: 1}),
    Table({"a": 1}),
    {"a": 1},
    date(2024, 1, 1),
    datetime(2024, 1, 1),
    datetime(2024, 1, 1, fold=1),
    datetime(2024, 1, 1, tzinfo=timezone.utc),
    datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Paris")),
    datetime(2024, 1, 1, 0, 0, 0, 1),
    "2024-01-01",
    time(1, 2),
    time(1, 2, tzinfo=timezone.utc),
    timedelta(1),
    timedelta(0, 1),
    timezone.utc,
    timezone(timedelta(hours=1)),
    ZoneInfo("Europe/Paris"),
    ZoneInfo("Europe/Berlin"),
    Decimal("1"),
    Decimal("1.0"),
    Decimal("NaN"),
    Fraction(1),
    Fraction(1, 2),
    UUID(int=1),
    Path("a/b"),
    Path("a"),
    PureWindowsPath("a"),
    "a",
    int,
    float,
    Colour,
    Model,
    Point,
    twice,
    len,
    operator.add,
    os.path.join,
    [].append,
    Scaler.make,
    Robust.make,
    Scaler.apply,
    functools.partial(twice, 1),
    functools.partial(twice, value=1),
    functools.partial(len, 1),
    2**20000,
    2**20000 + 1,
    -(2**20000),
    "\ud800",
    "ü",
    "u\u0308",
    "😀",
    "\ud83d\ude00",
]


def test_values_of_different_type_or_content_have_different_encodings() -> None:
    encodings: dict[bytes, Any] = {}
    for value in DIFFERENT:
        other = encodings.setdefault(encode(value), value)
        assert other is value, f"{other!r} and {value!r}"


ALIKE: list[tuple[Any, Any]] = [
    (math.nan, -float("nan")),
    (float("nan"), math.inf - math.inf),
    (range(0), range(5, 5)),
    (range(0, 3, 2), range(0, 4, 2)),
    (Fraction(1, 2), Fraction(2, 4)),
    (Colour.RED, Colour.CRIMSON),
    (timezone.utc, timezone(timedelta(0))),
    (timedelta(days=1), timedelta(hours=24)),
    (UUID(int=1), UUID("00000000-0000-0000-0000-000000000001")),
    (Path("a/b"), Path("a//b/")),
    (Path("a"), PurePosixPath("a")),
    (Point(1), Point(x=1, y=0)),
    (Model(1), Model(depth=1, rate=0.1)),
    ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    (Table({"a": 1, "b": 2}), Table({"b": 2, "a": 1})),
    (functools.partial(twice, 1), functools.partial(twice, 1)),
    (int("1" + "0" * 30), 10**30),
    ("kart", "".join(["k", "art"])),
]


@pytest.mark.parametrize(("a", "b"), ALIKE, ids=lambda value: type(value).__name__)
def test_equal_values_have_equal_encodings(a: Any, b: Any) -> None:
    assert encode(a) == encode(b)


@pytest.mark.parametrize(
    ("value", "type_name", "fact"),
    [
        (lambda: 1, "function", "move it to module level"),
        (object(), "object", "attrs class"),
        (ModuleType("m"), "module", "function or class"),
        (Secret("hunter2"), "kart_core.plugin.Secret", "secret"),
        (Text("a"), "test_encoding.Text", "plain str"),
        (Undecorated(1), "test_encoding.Undecorated", "decorate"),
        (Unset(), "test_encoding.Unset", "'late' has no value"),
        (iter([]), "list_iterator", "plain values"),
        (memoryview(b""), "memoryview", "plain values"),
        (list[int], "types.GenericAlias", ""),
        ([{"a": (object(),)}], "object", ""),
        ({1: {2: {Text("a")}}}, "test_encoding.Text", ""),
    ],
    ids=lambda value: "",
)
def test_a_value_without_canonical_bytes_is_an_error_that_names_its_type(value: Any, type_name: str, fact: str) -> None:
    with pytest.raises(EncodingError) as caught:
        encode(value)
    assert caught.value.type_name.removeprefix("tests.") == type_name
    assert fact in caught.value.reason
    assert "hunter2" not in str(caught.value)


def test_what_has_no_import_path_is_refused() -> None:
    class Local:
        pass

    @attrs.frozen
    class LocalModel:
        depth: int

    def local() -> None: ...

    for value in (Local, LocalModel(1), local, functools.partial(local), LocalModel.mro):
        with pytest.raises(EncodingError, match="move it to module level"):
            encode(value)


def test_a_function_whose_name_now_means_another_is_refused() -> None:
    @functools.wraps(twice)
    def wrapper(value: int) -> int:
        return value

    with pytest.raises(EncodingError, match="another object"):
        encode(wrapper)


def test_nesting_has_a_limit_and_a_circle_is_no_endless_loop() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = ()
    for _ in range(DEEPEST):
        deep = (deep,)
    encode(deep)
    for value in (circle, (deep,), Model(deep)):
        with pytest.raises(EncodingError, match="nested deeper than 100"):
            encode(value)


def test_special_is_asked_for_what_is_not_known_at_every_depth() -> None:
    asked: list[object] = []

    def special(value: object) -> bytes | None:
        asked.append(value)
        return b"text:" + value.encode() if type(value) is Text else None

    assert encode([{"a": (Text("x"),)}], special) != encode([{"a": (Text("y"),)}], special)
    assert encode(Text("x"), special) not in (encode("x"), encode(b"text:x"))
    assert all(type(value) is Text for value in asked)
    with pytest.raises(EncodingError):
        encode([object()], special)


def test_special_goes_before_what_is_done_for_attrs_classes() -> None:
    assert encode(Model(1), lambda _: b"1") == encode(Model(2), lambda _: b"1") != encode(Model(1))


def test_the_scalars_alone_encode_as_encode_does() -> None:
    for value in (None, True, 5, 2.5, "a", b"a"):
        assert SCALARS[type(value)](value) == encode(value)


GOLDEN = {
    "None": b"none;",
    "True": b"true;",
    "255": b"int:ff;",
    "-255": b"int:-ff;",
    "0.5": b"float:?\xe0\x00\x00\x00\x00\x00\x00",
    "'ü'": b"str2:\xc3\xbc",
    "b'a'": b"bytes1:a",
    "[1, (2,)]": b"list19:int:1;tuple6:int:2;",
    "{'b': 2, 'a': {1, 0}}": b"dict36:str1:aset12:int:0;int:1;str1:bint:2;",
    "math.sin": b"named_object13:str8:math:sin",
    "pathlib.Path('a/b')": b"path8:str3:a/b",
    "datetime.date(2024, 1, 2)": b"date16:str10:2024-01-02",
    "decimal.Decimal('1.5')": b"decimal41:tuple33:int:0;tuple12:int:1;int:5;int:-1;",
    "re.RegexFlag.A | re.RegexFlag.I": b"enum26:str12:re:RegexFlagint:102;",
    "collections.OrderedDict(b={'x', 'y', 'z'}, a=frozenset('xyz'))": (
        b"mapping95:str23:collections:OrderedDictstr1:afrozenset18:str1:xstr1:ystr1:zstr1:bset18:str1:xstr1:ystr1:z"
    ),
    "datetime.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo('Asia/Tokyo'), fold=1)": (
        b"datetime66:tuple58:str19:2024-01-02T00:00:00int:1;zoneinfo16:str10:Asia/Tokyo"
    ),
}
_SCRIPT = """
import collections, datetime, decimal, math, pathlib, re, sys, zoneinfo
from kart_core.encoding import encode
for text in sys.stdin.read().splitlines():
    print(encode(eval(text)).hex())
"""


@pytest.mark.parametrize("seed", ["0", "1", "77"])
def test_encodings_are_the_same_in_every_process(seed: str) -> None:
    root = Path(__file__).parent.parent
    answer = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input="\n".join(GOLDEN),
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    found = dict(zip(GOLDEN, map(bytes.fromhex, answer.stdout.split()), strict=True))
    assert found == GOLDEN
