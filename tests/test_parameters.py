# ruff: noqa: UP007, UP045 - Union and Optional are what many users write
"""What parameters take, from Python, text and data: strictly, and the same value from each."""

from __future__ import annotations

import collections
import enum
import json
import subprocess
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union
from zoneinfo import ZoneInfo

import attrs
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kart_core.parameters import (
    ParameterFault,
    checker,
    describe,
    parse_text,
    scalar_type,
    structure,
    unstructure,
)
from kart_core.plugin import Secret

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BERLIN = ZoneInfo("Europe/Berlin")
T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.frozen
class Layer:
    size: int
    name: str = "dense"


@attrs.frozen
class Model:
    layers: list[Layer]
    rate: float = 0.1


@dataclass(frozen=True)
class Source:
    path: Path
    since: Optional[date] = None


@attrs.frozen
class Box(Generic[T]):
    content: T


class Options(TypedDict, total=False):
    depth: int
    name: str


class Point(NamedTuple):
    x: int
    y: float


# annotation, value, text, TOML
SAME_EVERYWHERE: list[tuple[Any, object, str, str]] = [
    (bool, False, "false", "false"),
    (bool, True, "Yes", "true"),
    (int, -3, "-3", "-3"),
    (int, 1000, "1_000", "1_000"),
    (float, 0.5, "0.5", "0.5"),
    (float, 1.0, "1", "1"),
    (float, float("inf"), "inf", "inf"),
    (str, "3", "3", '"3"'),
    (str, '"quoted"', '"quoted"', "'\"quoted\"'"),
    (bytes, b"abc", "abc", '"abc"'),
    (bytes, b"\x00\xff", "base64:AP8=", '"base64:AP8="'),
    (Path, Path("a/b.csv"), "a/b.csv", '"a/b.csv"'),
    (date, date(2024, 2, 29), "2024-02-29", "2024-02-29"),
    (time, time(23, 59, 30), "23:59:30", "23:59:30"),
    (datetime, datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
    (
        datetime,
        datetime(2024, 1, 2, 3, 4, 5, 600_000, timezone(timedelta(hours=5, minutes=30))),
        "2024-01-02 03:04:05.6+05:30",
        "2024-01-02T03:04:05.600+05:30",
    ),
    (datetime, datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04", "2024-01-02T03:04:00"),
    (
        datetime,
        datetime(2024, 1, 2, 3, 4, tzinfo=BERLIN),
        "2024-01-02T03:04[Europe/Berlin]",
        '"2024-01-02T03:04[Europe/Berlin]"',
    ),
    (timedelta, timedelta(minutes=90), "1h30m", "5400"),
    (timedelta, timedelta(seconds=1.5), "1.5", "1.5"),
    (timedelta, timedelta(days=1, hours=2), "1 day, 2:00:00", '"P1DT2H"'),
    (Colour, Colour.RED, "RED", '"RED"'),
    (Level, Level.LOW, "LOW", '"LOW"'),
    (Access, Access.READ | Access.WRITE, "READ|WRITE", '"READ|WRITE"'),
    (Literal["a", 1], 1, "1", "1"),
    (Literal["a", 1], "a", "a", '"a"'),
    (Literal[Colour.RED], Colour.RED, "RED", '"RED"'),
    (Optional[int], None, "none", '"none"'),
    (Optional[int], None, "", '""'),
    (Optional[int], 3, "3", "3"),
    (Optional[str], None, "null", '"null"'),
    (Optional[str], "", "", '""'),
    (Optional[str], "none", '"none"', "'\"none\"'"),
    (Union[str, float, int], 3, "3", "3"),
    (Union[str, float, int], 3.5, "3.5", "3.5"),
    (Union[str, float, int], "three", "three", '"three"'),
    (Union[date, str], date(2024, 1, 2), "2024-01-02", "2024-01-02"),
    (Union[date, str], "2024-01-02", '"2024-01-02"', "'\"2024-01-02\"'"),
    (tuple[int, ...], (1, 2), "[1, 2]", "[1, 2]"),
    (tuple[()], (), "[]", "[]"),
    (typing.Tuple[()], (), "[]", "[]"),  # noqa: UP006
    (tuple[int, str], (1, "a"), '[1, "a"]', "[1, 'a']"),
    (list[Path], [Path("a")], '["a"]', '["a"]'),
    (Sequence[float], [1.0], "[1]", "[1]"),
    (frozenset[str], frozenset({"a"}), '["a"]', '["a"]'),
    (dict[str, list[int]], {"a": [1]}, '{"a": [1]}', "{a = [1]}"),
    (Mapping[int, str], {1: "a"}, '{"1": "a"}', '{1 = "a"}'),
    (dict[Colour, int], {Colour.RED: 1}, '{"RED": 1}', "{RED = 1}"),
    (dict[tuple[int, int], int], {(1, 2): 3}, "[[[1, 2], 3]]", "[[[1, 2], 3]]"),
    (Layer, Layer(3), '{"size": 3}', "{size = 3}"),
    (
        Model,
        Model([Layer(3, "out")], 1.0),
        '{"layers": [{"size": 3, "name": "out"}], "rate": 1}',
        '{layers = [{size = 3, name = "out"}], rate = 1}',
    ),
    (Optional[Layer], Layer(3), '{"size": 3}', "{size = 3}"),
    (Union[Layer, Model], Model([]), '{"layers": []}', "{layers = []}"),
    (
        Source,
        Source(Path("a"), date(2024, 1, 2)),
        '{"path": "a", "since": "2024-01-02"}',
        '{path = "a", since = 2024-01-02}',
    ),
    (Box[int], Box(3), '{"content": 3}', "{content = 3}"),
    (Options, {"depth": 3}, '{"depth": 3}', "{depth = 3}"),
    (Point, Point(1, 2.0), "[1, 2]", "[1, 2]"),
    (Decimal, Decimal("1.10"), "1.10", '"1.10"'),
    (complex, 1 + 2j, "1+2j", '"1+2j"'),
    (Annotated[int, "metres"], 3, "3", "3"),
    (UserId, 3, "3", "3"),
]


@pytest.mark.parametrize(("annotation", "value", "text", "toml"), SAME_EVERYWHERE, ids=lambda each: str(each)[:40])
def test_text_and_toml_and_json_and_python_give_one_value(annotation: Any, value: object, text: str, toml: str) -> None:
    held = checker(annotation)(value)
    assert held == value
    from_toml = structure(tomllib.loads(f"x = {toml}")["x"], annotation)
    from_json = structure(json.loads(json.dumps(unstructure(value, annotation), allow_nan=False)), annotation)
    for other in (parse_text(text, annotation), from_toml, from_json):
        other = checker(annotation)(other)
        assert other == held
        assert type(other) is type(held)
        assert repr(other) == repr(held)  # the zone of a moment, the members of an enum: == says too little


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [
        ("3.7", int, "int"),
        ("0x10", int, "int"),
        (" 3", int, "int"),
        ("٣", int, "int"),  # a digit for int(), not for a reader
        ("9" * 5000, int, "int"),
        ("1e999", float, "float"),
        ("1,5", float, "float"),
        ("2", bool, "true or false"),
        ("", bool, "true or false"),
        ("base64:!", bytes, "base64"),
        ("2024-02-30", date, "2024-12-31"),
        ("2024-02-28", datetime, "datetime"),
        ("2024-02-28T25:00", datetime, "datetime"),
        ("2024-02-28T10:00[Nowhere/City]", datetime, "Nowhere/City"),
        ("2024-02-28T10:00[../../etc]", datetime, "datetime"),
        ("2024-02-28T10:00+09:00[Europe/Berlin]", datetime, "Europe/Berlin"),
        ("1y", timedelta, "90s"),
        ("PT", timedelta, "90s"),
        ("0.0000001s", timedelta, "microseconds"),
        ("99999999999d", timedelta, "timedelta"),
        ("red", Colour, "RED, BLUE"),
        ("b", Literal["a", 1], "'a', 1"),
        ("x", Optional[int], "int, or none"),
        ("x", Union[int, date], "int | date"),
        ("1,2", list[int], "JSON"),
        ("3", list[int], "list[int]"),
        ('{"a": 1, "a": 2}', dict[str, int], "dict[str, int]"),
        ("[" * 100_000, list[int], "JSON"),
        ("len", Callable[[str], int], "give it in Python"),
        ("[1]", numpy.ndarray, "give it in Python"),
        ("\udc80", str, "UTF-8"),
    ],
)
def test_text_of_another_form_is_refused_with_the_form(text: str, annotation: Any, expected: str) -> None:
    with pytest.raises(ParameterFault) as caught:
        parse_text(text, annotation)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("data", "annotation"),
    [
        ("3", int),
        (3.0, int),
        (True, int),
        (1, bool),
        ("true", bool),
        ("3", float),
        (True, float),
        (2**53 + 1, float),
        (3, str),
        (datetime(2024, 1, 2), date),
        (date(2024, 1, 2), datetime),
        (0.1, Decimal),
        ("abc", list[str]),
        ({"a": 1}, list[str]),
        ([["a", 1, 2]], dict[str, int]),
        ("a", dict[str, int]),
        (1, Literal["1"]),
        (True, Literal[1]),
        ("nan", int),
        (1e300, timedelta),
        ([1, 2, 3], Point),
        ([[{}, 1]], dict[Any, int]),
    ],
)
def test_data_of_another_type_is_refused(data: object, annotation: Any) -> None:
    with pytest.raises(ParameterFault):
        structure(data, annotation)


def test_all_faults_of_a_value_are_told_at_once_each_with_its_place() -> None:
    data = {"layers": [{"size": "3"}, {"siz": 3}, {"size": 3, "name": 4}], "rate": "fast"}
    with pytest.raises(ParameterFault) as caught:
        structure(data, Model)
    assert caught.value.faults == (
        "field 'layers', item 0, field 'size': expected int, given '3' (str)",
        "field 'layers', item 1, field 'size' is missing",
        "field 'layers', item 1, there is no field 'siz'; did you mean 'size'?",
        "field 'layers', item 2, field 'name': expected str, given 4 (int)",
        "field 'rate': expected float, given 'fast' (str)",
    )


def test_every_scalar_in_a_class_is_as_strict_as_alone() -> None:
    @attrs.frozen
    class Scalars:
        i: int
        f: float
        b: bool
        s: str
        y: bytes
        p: Path
        e: Level

    with pytest.raises(ParameterFault) as caught:
        structure({"i": "1", "f": "1", "b": "true", "s": 1, "y": 1, "p": 1, "e": 1}, Scalars)
    assert len(caught.value.faults) == 7


def test_data_that_two_classes_of_a_union_take_is_refused() -> None:
    @attrs.frozen
    class Other:
        size: int

    with pytest.raises(ParameterFault, match=r"data of .*Layer and of .*Other"):
        structure({"size": 3}, Union[Layer, Other])


def test_an_error_of_the_class_itself_is_a_fault_of_the_value() -> None:
    @attrs.frozen
    class Positive:
        n: int = attrs.field(validator=attrs.validators.gt(0))

    with pytest.raises(ParameterFault, match="must be > 0"):
        structure({"n": -1}, Positive)


# --- values given in Python ------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (int, 1.0),
        (int, "1"),
        (int, numpy.float64(1)),
        (int, numpy.array(1)),
        (float, True),
        (float, 2**53 + 1),
        (float, 10**400),
        (bool, 1),
        (str, b"a"),
        (str, Path("a")),
        (str, Secret("a")),
        (bytes, bytearray(b"a")),
        (Path, "a"),
        (date, datetime(2024, 1, 2)),
        (datetime, date(2024, 1, 2)),
        (Colour, 1),
        (Level, 1),
        (list[int], (1,)),
        (list[int], [True]),
        (tuple[int, ...], [1]),
        (tuple[int, str], (1,)),
        (tuple[()], (1,)),
        (frozenset[int], {1}),
        (Sequence[str], "abc"),
        (Iterable[int], iter([1])),
        (dict[str, int], {1: 1}),
        (dict[str, int], {"a": "b"}),
        (Literal[1], True),
        (Optional[int], "1"),
        (Union[int, date], "1"),
        (type[int], str),
        (type[int], 3),
        (Callable[[], int], 3),
        (Layer, {"size": 1}),
        (Box[int], 3),
        (Options, {"depth": "3"}),
        (Options, {"deep": 3}),
        (None, 0),
        (complex, "1"),
    ],
)
def test_a_value_of_another_type_is_refused(annotation: Any, value: object) -> None:
    with pytest.raises(ParameterFault) as caught:
        checker(annotation)(value)
    assert caught.value.expected.startswith(describe(annotation).split("[")[0])
    assert caught.value.kind == type(value).__qualname__


@pytest.mark.parametrize(
    ("annotation", "value", "held"),
    [
        (int, numpy.int64(3), 3),
        (bool, numpy.bool_(True), True),
        (str, numpy.str_("a"), "a"),
        (float, numpy.float32(0.5), 0.5),
        (float, 3, 3.0),
        (complex, 3, 3 + 0j),
        (int, Level.LOW, 1),
        (Level, Level.LOW, Level.LOW),
        (Optional[float], 3, 3.0),
        (Union[float, int], 3, 3),
        (Union[list[float], list[int]], [3], [3]),
        (Any, numpy.int64(3), 3),
        (list[float], [1, numpy.float64(2)], [1.0, 2.0]),
        (tuple[float, ...], (1,), (1.0,)),
        (Point, Point(1, 2.0), Point(1, 2.0)),
        (set[int], {1}, frozenset({1})),
        (set[int], frozenset({1}), frozenset({1})),
        (Mapping[str, int], collections.OrderedDict(a=1), {"a": 1}),
        (Sequence[int], range(3), range(3)),
        (type[int], bool, bool),
        (Any, {1}, frozenset({1})),
    ],
)
def test_a_value_is_held_as_its_plain_read_only_self(annotation: Any, value: object, held: object) -> None:
    result = checker(annotation)(value)
    assert result == held
    assert repr(result) == repr(held)
    assert checker(annotation)(result) == held  # what a task holds may be given again


def test_lists_and_dictionaries_are_held_read_only_all_the_way_down() -> None:
    held: Any = checker(dict[str, list[Any]])({"a": [[1]]})
    for change in (lambda: held.update(b=1), lambda: held["a"].append(1), lambda: held["a"][0].append(1)):
        with pytest.raises(TypeError):
            change()


@pytest.mark.parametrize("annotation", [Any, object, T, "Unresolved", typing.SupportsInt, Callable])
def test_what_cannot_be_checked_is_taken(annotation: Any) -> None:
    assert checker(annotation)(len if annotation is Callable else 3) is not None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is of Python 3.12")
def test_an_alias_stands_for_what_it_names() -> None:
    names: dict[str, Any] = {}
    exec("type Sizes = list[int]\ntype Pair[A] = tuple[A, A]\ntype Tree = int | list[Tree]", names)
    assert parse_text("[1]", names["Sizes"]) == [1]
    assert checker(names["Pair"][int])((1, 2)) == (1, 2)
    assert checker(names["Tree"])([1, [2]]) == parse_text("[1, [2]]", names["Tree"]) == [1, [2]]
    assert unstructure([1, [2]], names["Tree"]) == [1, [2]]
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ParameterFault):
        checker(names["Tree"])(endless)
    for annotation, value in [(names["Sizes"], ["a"]), (names["Pair"][int], (1, "a")), (names["Tree"], [1, ["a"]])]:
        with pytest.raises(ParameterFault):
            checker(annotation)(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ParameterFault):
        checker(Any)(endless)


def test_a_fault_in_a_collection_tells_its_place() -> None:
    with pytest.raises(
        ParameterFault, match=r"expected dict\[str, list\[int\]\], .* whose item 'a' is .* whose item 1 is 'x'"
    ):
        checker(dict[str, list[int]])({"a": [1, "x"]})


def test_a_fault_can_be_told_without_the_value() -> None:
    with pytest.raises(ParameterFault) as caught:
        checker(int)("swordfish")
    assert "swordfish" in str(caught.value)
    assert "swordfish" not in str(caught.value.hidden())


def test_a_secret_is_read_from_text_and_never_written() -> None:
    secret = parse_text("swordfish", Secret)
    assert isinstance(secret, Secret)
    assert secret.reveal() == "swordfish"
    for write in (lambda: unstructure(secret), lambda: unstructure({"a": [secret]})):
        with pytest.raises(ParameterFault) as caught:
            write()
        assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("value", [len, numpy.zeros(3), object(), Box(numpy.zeros(3))])
def test_what_has_no_form_as_data_is_refused(value: object) -> None:
    with pytest.raises(ParameterFault):
        unstructure(value)


def test_the_second_of_two_equal_hours_comes_back_as_the_second() -> None:
    moment = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)
    assert unstructure(moment) == "2024-10-27T02:30:00+01:00[Europe/Berlin]"
    back = structure(unstructure(moment), datetime)
    assert isinstance(back, datetime)
    assert (back, back.fold, back.tzinfo) == (moment, 1, BERLIN)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (typing.List[int], "list[int]"),  # noqa: UP006
        (Optional[list[int]], "list[int] | None"),
        (Literal["a", 1, Colour.RED], "Literal['a', 1, Colour.RED]"),
        (Annotated[int, 3], "int"),
        (Path, "Path"),
        (tuple[()], "tuple[()]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Sequence[str], "Sequence[str]"),
        (Callable[[int], str], "Callable[[int], str]"),
        (Any, "Any"),
        (None, "None"),
        (collections.OrderedDict, "OrderedDict"),
        (numpy.ndarray, "numpy.ndarray"),
    ],
)
def test_an_annotation_is_described_as_it_would_be_written(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_the_exact_type_of_a_scalar_annotation_is_known() -> None:
    assert [scalar_type(each) for each in (int, UserId, Annotated[str, 1])] == [int, int, str]
    assert [scalar_type(each) for each in (Optional[int], Any, Path, list[int])] == [None] * 4


def test_scalars_need_neither_cattrs_nor_numpy() -> None:
    program = (
        "import sys; from kart_core.parameters import checker, parse_text, structure, unstructure\n"
        "checker(float)(1); parse_text('3', int); parse_text('[1]', list[int]); structure(3, float | None)\n"
        "unstructure((1, 'a'))\n"
        "assert not {'cattrs', 'numpy', 'fsspec'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- general rules ---------------------------------------------------------------------

_ANNOTATIONS = [int, float, bool, bytes, Path, date, datetime, time, timedelta, Colour, Access, Decimal, complex]
_ANNOTATIONS += [Literal["a", 1], Optional[int], Optional[str], Union[int, str], Union[date, str], list[int]]
_ANNOTATIONS += [dict[int, str], tuple[int, str], Model, Union[Layer, Model], Point, Options, Any, type(None)]


@given(st.text(), st.sampled_from(_ANNOTATIONS))
def test_any_text_is_read_or_refused(text: str, annotation: Any) -> None:
    try:
        value = parse_text(text, annotation)
    except ParameterFault as fault:
        assert str(fault)  # noqa: PT017 - it may be read, too
    else:
        checker(annotation)(value)


_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(_DATA, st.sampled_from(_ANNOTATIONS))
def test_any_data_is_read_or_refused(data: Any, annotation: Any) -> None:
    try:
        value = structure(data, annotation)
    except ParameterFault as fault:
        assert str(fault)  # noqa: PT017 - it may be read, too
    else:
        checker(annotation)(value)


_VALUES = [
    (float, st.floats(allow_nan=False)),
    (bytes, st.binary()),
    (date, st.dates()),
    (time, st.times()),
    (datetime, st.datetimes(timezones=st.none() | st.timezones() | st.just(timezone(timedelta(seconds=-3723))))),
    (timedelta, st.timedeltas()),
    (complex, st.complex_numbers(allow_nan=False)),
    (Decimal, st.decimals(allow_nan=False)),
    (Path, st.text(alphabet="ab/. ", max_size=8).map(Path)),
    (Access, st.sampled_from([Access(0), Access.READ, Access.READ | Access.WRITE])),
    (Optional[str], st.none() | st.text() | st.sampled_from(["none", "NULL", "", '"', '""', '"none"'])),
    (Union[str, int, date, None], st.none() | st.text() | st.integers().map(str) | st.integers() | st.dates()),
    (dict[int, str], st.dictionaries(st.integers(), st.text())),
    (dict[tuple[int, ...], bytes], st.dictionaries(st.tuples(st.integers()), st.binary())),
    (set[Colour], st.sets(st.sampled_from(Colour))),
    (list[Optional[str]], st.lists(st.none() | st.sampled_from(["none", "", '"', "a"]))),
    (
        Optional[dict[Union[int, str], Union[date, str]]],
        st.dictionaries(st.sampled_from(["1", 1]), st.sampled_from(["2024-01-02", "a"])),
    ),
    (Box[Union[date, str]], st.sampled_from(["2024-01-02", "a"]).map(Box)),
    (list[Optional[float]], st.lists(st.none() | st.floats(allow_nan=False))),
]


@given(st.sampled_from(_VALUES).flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1])))
def test_what_is_written_as_data_comes_back(pair: tuple[Any, object]) -> None:
    annotation, value = pair
    written = json.dumps(unstructure(value, annotation), allow_nan=False)
    back = structure(json.loads(written), annotation)
    assert (type(back), repr(back)) == (type(value), repr(value)) or back == value
    assert back == value
