"""Unique ids: what takes part, what does not, and that they are the same everywhere."""

from __future__ import annotations

import enum
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kart_core as kart
from kart_core import config

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden_ids.json").read_text())


class Holder(kart.TaskOnKart[int]):
    value: Any = None


class Other(kart.TaskOnKart[int]):
    value: Any = None


class Train(kart.TaskOnKart[int]):
    data: Holder
    n: int = 1
    rate: float = 0.5
    verbose: bool = kart.parameter(default=False, significant=False)


class Join(kart.TaskOnKart[int]):
    left: Holder
    right: Holder


class Gather(kart.TaskOnKart[int]):
    parts: tuple[Holder, ...] = ()
    named: dict[str, Holder] = kart.parameter(factory=dict)
    one: Holder | None = None


class Colour(enum.Enum):
    RED = 1
    CRIMSON_BY_ANOTHER_NAME = 1  # noqa: PIE796
    GREEN = 2


class Shade(enum.Enum):
    RED = 1


@attrs.frozen
class Point:
    x: int
    y: int = 0


@attrs.frozen
class Place:
    x: int
    y: int = 0


class Sides(NamedTuple):
    left: Any
    right: Any


def function() -> None:
    pass


def another_function() -> None:
    pass


def id_of(value: object) -> str:
    """The id of a task that holds the value and nothing else."""
    return Holder(value=value).unique_id


# --- what takes part


def test_a_unique_id_is_32_hex_digits() -> None:
    found = Holder(value=1).unique_id
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")


def test_equal_tasks_have_equal_ids() -> None:
    assert Train(data=Holder(value=1), n=2) == Train(n=2, data=Holder(value=1))
    assert Train(data=Holder(value=1), n=2).unique_id == Train(n=2, data=Holder(value=1)).unique_id


def test_a_default_and_the_same_value_given_are_one() -> None:
    assert Train(data=Holder()).unique_id == Train(data=Holder(value=None), n=1, rate=0.5).unique_id


def test_the_class_takes_part() -> None:
    assert Holder(value=1).unique_id != Other(value=1).unique_id


def test_the_module_and_the_qualified_name_take_part() -> None:
    def made(module: str, qualname: str) -> str:
        body = {"__module__": module, "__qualname__": qualname, "__annotations__": {"n": int}}
        cls: Any = type(kart.TaskOnKart)("Task", (kart.TaskOnKart,), body)
        return cls(n=1).unique_id

    ids = [made("one", "Task"), made("two", "Task"), made("one", "Outer.Task"), made("one.Outer", "Task")]
    assert len(set(ids)) == 4
    assert made("one", "Task") == ids[0]


def test_a_namespace_stands_in_place_of_the_module() -> None:
    def made(module: str, **keywords: Any) -> str:
        class Task(kart.TaskOnKart[int], **keywords):
            __module__ = module
            __qualname__ = "Task"
            n: int = 1

        return Task().unique_id

    assert made("one", namespace="fraud") == made("two", namespace="fraud")
    assert len({made("one"), made("one", namespace="fraud"), made("one", namespace="churn")}) == 3


@pytest.mark.parametrize("versions", [(None, 1, 2), (1, "1"), ("2024-01", "2024-02")])
def test_each_version_has_an_id_of_its_own(versions: Sequence[Any]) -> None:
    def made(version: Any) -> str:
        class Task(kart.TaskOnKart[int], version=version):
            n: int = 1

        return Task().unique_id

    assert len({made(version) for version in versions}) == len(versions)
    assert made(versions[0]) == made(versions[0])


def test_each_significant_parameter_takes_part() -> None:
    data = Holder(value=1)
    tasks = [Train(data=data), Train(data=data, n=2), Train(data=data, rate=1.5), Train(data=Holder(value=2))]
    assert len({task.unique_id for task in tasks}) == 4


def test_parameters_take_part_by_name() -> None:
    def made(**annotations: Any) -> str:
        class Task(kart.TaskOnKart[int]):
            __annotations__ = annotations

        return Task(**dict.fromkeys(annotations, 1)).unique_id

    assert made(a=int) != made(b=int)
    assert made(a=int, b=int) == made(b=int, a=int), "the order in which fields stand does not count"


def test_an_insignificant_parameter_does_not_take_part() -> None:
    quiet, loud = Train(data=Holder()), Train(data=Holder(), verbose=True)
    assert quiet.unique_id == loud.unique_id
    assert quiet != loud


def test_an_insignificant_parameter_of_a_requirement_does_not_take_part() -> None:
    class Report(kart.TaskOnKart[int]):
        train: Train

    quiet, loud = Report(train=Train(data=Holder())), Report(train=Train(data=Holder(), verbose=True))
    assert quiet.unique_id == loud.unique_id
    assert quiet != loud


def test_a_parameter_that_is_omitted_at_its_default_can_be_added_to_a_class() -> None:
    def made(*, later: bool, **given: Any) -> str:
        class Task(kart.TaskOnKart[int]):
            n: int = 1
            if later:
                depth: int = kart.parameter(default=3, omit_default=True)
                layers: list[int] = kart.parameter(default=[1, 2], omit_default=True)
                name: str | None = kart.parameter(default=None, omit_default=True)

        return Task(**given).unique_id

    before = made(later=False)
    assert made(later=True) == before
    assert made(later=True, depth=3, layers=[1, 2], name=None) == before
    assert len({before, made(later=True, depth=4), made(later=True, layers=[1]), made(later=True, name="x")}) == 4


def test_an_omitted_default_is_told_from_an_equal_value_of_another_type() -> None:
    class Task(kart.TaskOnKart[int]):
        value: Any = kart.parameter(default=1, omit_default=True)

    ids = {Task(value=value).unique_id for value in (1, 1.0, True)}
    assert len(ids) == 3


# --- settings


@pytest.mark.parametrize(
    "setting",
    [
        {"workspace_directory": "elsewhere"},
        {"local_temporary_directory": "/tmp"},
        {"rerun": True},
        {"strict_check": True},
        {"modification_time_check": True},
        {"fail_on_empty_dump": True},
        {"should_lock_run": True},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_says_where_or_how_is_in_no_id(setting: Mapping[str, Any]) -> None:
    assert Holder(value=1, **setting).unique_id == Holder(value=1).unique_id
    below = Holder(value=1, **setting)
    assert Join(left=below, right=Holder()).unique_id == Join(left=Holder(value=1), right=Holder()).unique_id
    assert Holder(value=1, **setting) != Holder(value=1), "yet the tasks are two"


def test_what_decides_the_seed_takes_part_where_it_differs_from_the_default() -> None:
    plain = Holder(value=1).unique_id
    ids = {
        plain,
        Holder(value=1, fix_random_seed_value=0).unique_id,
        Holder(value=1, fix_random_seed_value=57).unique_id,
        Holder(value=1, fix_random_seed_methods=["random.seed"]).unique_id,
        Holder(value=1, fix_random_seed_methods=[]).unique_id,
    }
    assert len(ids) == 5
    assert Holder(value=1, fix_random_seed_value=None).unique_id == plain
    assert Holder(value=1, fix_random_seed_methods=["random.seed", "numpy.random.seed"]).unique_id == plain
    assert (
        Join(left=Holder(fix_random_seed_value=1), right=Holder()).unique_id
        != Join(left=Holder(), right=Holder()).unique_id
    )


def test_an_id_forming_setting_counts_alike_wherever_it_is_given(project: Any) -> None:
    class Seeded(kart.TaskOnKart[int]):
        fix_random_seed_value: int | None = 57

    class Plain(kart.TaskOnKart[int]):
        pass

    given = Plain(fix_random_seed_value=57).unique_id
    plain = Plain().unique_id
    project.write("kart.toml", "[Plain]\nfix_random_seed_value = 57\n")
    kart.add_config("kart.toml")
    assert Plain().unique_id == given != plain
    assert Seeded().unique_id == Seeded(fix_random_seed_value=57).unique_id


def test_an_insignificant_task_is_in_no_id_of_those_that_require_it() -> None:
    def ids(insignificant: Holder) -> list[str]:
        return [
            Gather(one=insignificant).unique_id,
            Gather(parts=(Holder(value=1), insignificant)).unique_id,
            Gather(named={"a": Holder(value=1), "b": insignificant}).unique_id,
            Holder(value=[insignificant, {"deep": (insignificant,)}]).unique_id,
            Holder(value=Sides(left=insignificant, right=1)).unique_id,
        ]

    assert ids(Holder(value=2, significant=False)) == ids(Holder(value=3, significant=False))
    significant = zip(ids(Holder(value=2)), ids(Holder(value=3)), strict=True)
    assert all(one != other for one, other in significant)


def test_an_insignificant_task_stays_insignificant_when_it_is_a_parameter_further_down() -> None:
    class Log(kart.TaskOnKart[int]):
        significant: bool = False
        level: int = 0

    class Report(kart.TaskOnKart[int]):
        log: Log
        n: int = 1

    class Final(kart.TaskOnKart[int]):
        report: Report

    class Book(kart.TaskOnKart[int]):
        n: int = 1

        def requires(self) -> Any:
            return {"report": Report(log=Log(level=self.n))}

    assert Log(level=1).unique_id != Log(level=2).unique_id
    one, two = Report(log=Log(level=1)), Report(log=Log(level=2))
    assert one.unique_id == two.unique_id
    assert one != two
    assert Final(report=one).unique_id == Final(report=two).unique_id
    assert Final(report=one).unique_id != Final(report=Report(log=Log(level=1), n=2)).unique_id


def test_a_parameter_from_the_configuration_counts_as_if_it_were_given(project: Any) -> None:
    class Deep(kart.TaskOnKart[int]):
        depth: int = kart.parameter(default=3, omit_default=True)
        n: int = 1

    given, plain, omitted = Deep(depth=4, n=2).unique_id, Deep(depth=3, n=2).unique_id, Deep(n=2).unique_id
    assert omitted == plain != given
    project.write("kart.toml", "[Deep]\ndepth = 4\nn = 2\n")
    config.load_default()
    assert (Deep().unique_id, Deep(depth=3).unique_id) == (given, plain)


def test_a_setting_that_a_class_redeclares_counts_as_if_it_were_given() -> None:
    def made(**settings: Any) -> Any:
        body = {
            "__module__": __name__,
            "__qualname__": "Task",
            "__annotations__": dict.fromkeys(settings, Any),
            **settings,
        }
        return type(kart.TaskOnKart)("Task", (kart.TaskOnKart,), body)

    plain = made()().unique_id
    assert made(workspace_directory="elsewhere", rerun=True)().unique_id == plain
    assert made(fix_random_seed_value=57)().unique_id == made()(fix_random_seed_value=57).unique_id != plain
    assert made(fix_random_seed_value=57)(fix_random_seed_value=None).unique_id == plain


# --- requirements


def test_swapping_two_requirements_of_one_type_changes_the_id() -> None:
    one, two = Holder(value=1), Holder(value=2)
    assert Join(left=one, right=two).unique_id != Join(left=two, right=one).unique_id
    assert Gather(parts=(one, two)).unique_id != Gather(parts=(two, one)).unique_id
    assert Gather(named={"a": one, "b": two}).unique_id != Gather(named={"a": two, "b": one}).unique_id


def test_a_change_far_upstream_changes_every_id_downstream_of_it() -> None:
    class Link(kart.TaskOnKart[int]):
        below: Any

    def chain(start: Any) -> list[str]:
        links: list[Any] = [start]
        for _ in range(50):
            links.append(Link(below=links[-1]))
        return [link.unique_id for link in links]

    assert not set(chain(Holder(value=1))) & set(chain(Holder(value=2)))


@pytest.mark.parametrize("form", ["mapping", "list", "tuple", "fields"])
def test_requires_that_returns_what_the_fields_hold_changes_no_id(form: str) -> None:
    left, right = Holder(value=1), Holder(value=2)

    def made(override: bool) -> str:
        class Task(kart.TaskOnKart[int]):
            left: Holder
            right: Holder
            n: int = 1

            if override:

                def requires(self) -> Any:
                    if form == "mapping":
                        return {"left": self.left, "right": self.right}
                    if form == "fields":
                        return super().requires()
                    return [self.left, self.right] if form == "list" else (self.left, self.right)

        return Task(left=left, right=right).unique_id

    assert made(override=True) == made(override=False)


def test_requires_that_returns_the_one_task_or_the_one_tuple_of_the_fields_changes_no_id() -> None:
    held: dict[str, Any] = {"one": Holder(value=1), "parts": (Holder(value=1), Holder(value=2))}

    def made(name: str, *, override: bool) -> str:
        class Task(kart.TaskOnKart[int]):
            value: Any

            if override:

                def requires(self) -> Any:
                    return self.value

        return Task(value=held[name]).unique_id

    for name in held:
        assert made(name, override=True) == made(name, override=False)


def test_requires_that_returns_nothing_where_the_fields_hold_no_task_changes_no_id() -> None:
    def made(*, override: bool) -> str:
        class Task(kart.TaskOnKart[int]):
            n: int = 1

            if override:

                def requires(self) -> None:
                    return None

        return Task().unique_id

    assert made(override=True) == made(override=False)


def test_what_requires_returns_takes_part_by_name_and_content() -> None:
    class Task(kart.TaskOnKart[int]):
        which: Any = kart.parameter(significant=False)

        def requires(self) -> Any:
            made = {key: Holder(value=value) for key, value in dict(self.which).items()}
            return made if isinstance(self.which, Mapping) else list(made.values())

    choices: list[Any] = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {}]
    choices += [[("a", 1), ("b", 2)], [("a", 2), ("b", 1)]]
    ids = [Task(which=choice).unique_id for choice in choices]
    assert len(set(ids)) == len(choices)
    assert ids == [Task(which=choice).unique_id for choice in choices]


def test_requires_is_called_once_for_equal_tasks_and_never_while_a_task_is_made() -> None:
    config.refresh()  # ids are found anew under another configuration, and pytest changes the environment
    called: list[int] = []

    class Chain(kart.TaskOnKart[int]):
        i: int

        def requires(self) -> Any:
            called.append(self.i)
            return [Chain(i=i) for i in (self.i - 1, self.i - 2) if i >= 0]

    roots = [Chain(i=30), Chain(i=30)]
    assert not called
    assert roots[0].unique_id == roots[1].unique_id
    kart.plan(*roots)
    assert sorted(called) == list(range(31))


def test_the_id_of_a_task_without_requires_is_there_when_it_is_made() -> None:
    # It is not found out later: what a requirement says afterwards could change it.
    task = Join(left=Holder(value=[1]), right=Holder())
    assert task.__dict__["_kart_identity"].hex() == task.unique_id


# --- values

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3)
)
KEYS = st.recursive(SCALARS, lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=2), max_leaves=3)
VALUES = st.recursive(
    KEYS
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.sampled_from([*Colour, *Shade, Point(1), Place(1), Point(1, 1), function, another_function, Point, int])
    | st.builds(PurePosixPath, st.sampled_from(["a", "b", "a/b"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(KEYS, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(Sides, inner, inner)
        | st.builds(lambda value: Holder(value=value), inner)
    ),
    max_leaves=6,
)


def alike(a: Any, b: Any) -> bool:
    """Of one type and content all the way down: the rule, said in another way than by bytes."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, Mapping):
        return _matched(list(a.items()), list(b.items()))
    if isinstance(a, frozenset):
        return _matched(list(a), list(b))
    if isinstance(a, Holder):
        return alike(a.value, b.value)
    return bool(a == b)


def _matched(a: list[Any], b: list[Any]) -> bool:
    for item in a:
        like = next((i for i, other in enumerate(b) if alike(item, other)), None)
        if like is None:
            return False
        del b[like]
    return not b


@given(VALUES, VALUES)
@example(1, 1.0)
@example(1, True)
@example(1, "1")
@example((1,), [1])
@example((1,), frozenset({1}))
@example("", None)
@example([["a"], "b"], [["a", "b"]])
@example({1: "a"}, {True: "a"})
@example({"a": {"b": 1}}, {"a": {}, "b": 1})
@example(Colour.RED, Shade.RED)
@example(Colour.RED, 1)
@example(Point(1), Place(1))
@example(Sides(1, 2), (1, 2))
@example(Holder(value=1), Holder(value=1.0))
@example(-0.0, 0.0)
@example("a", b"a")
def test_values_share_an_id_exactly_when_type_and_content_are_the_same(a: Any, b: Any) -> None:
    assert (id_of(a) == id_of(b)) == alike(Holder(value=a).value, Holder(value=b).value)


@given(VALUES)
def test_a_value_has_the_same_id_every_time(value: Any) -> None:
    assert id_of(value) == id_of(value)
    assert Holder(value=value) == Holder(value=value)


@given(st.dictionaries(KEYS, SCALARS, max_size=5), st.randoms())
def test_the_order_of_mappings_and_sets_does_not_count(mapping: dict[Any, Any], random: Any) -> None:
    mixed = list(mapping.items())
    random.shuffle(mixed)
    assert id_of(dict(mixed)) == id_of(mapping)
    assert id_of({key for key, _ in mixed}) == id_of(set(mapping))


@given(st.integers(-(2**53), 2**53))
def test_a_float_field_given_a_whole_number_holds_a_float(n: int) -> None:
    task = Train(data=Holder(), rate=n)
    assert type(task.rate) is float
    assert task.unique_id == Train(data=Holder(), rate=float(n)).unique_id


def test_minus_zero_differs_and_all_nan_are_one() -> None:
    import struct

    other_nan = struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0]
    assert id_of(-0.0) != id_of(0.0)
    assert id_of(float("nan")) == id_of(-float("nan")) == id_of(other_nan)


def test_an_enum_member_is_its_class_and_name() -> None:
    assert id_of(Colour.RED) == id_of(Colour.CRIMSON_BY_ANOTHER_NAME)  # Python's own alias: one member
    assert len({id_of(Colour.RED), id_of(Colour.GREEN), id_of(Shade.RED), id_of(1), id_of("RED")}) == 5


def test_functions_and_classes_go_by_their_qualified_names() -> None:
    assert len({id_of(function), id_of(another_function), id_of(Point), id_of(Place), id_of(len)}) == 5
    assert id_of(function) == id_of(globals()["function"])


def test_a_list_keeps_the_id_that_it_had_when_the_task_was_made() -> None:
    given_list = [1]
    task = Holder(value=given_list)
    before = task.unique_id
    given_list.append(2)
    assert (task.value, task.unique_id) == ([1], before)


class Odd:
    """Of no type that kart knows; its pickle and its repr are traps."""

    def __repr__(self) -> str:
        raise AssertionError("repr was asked")

    def __reduce_ex__(self, _: Any) -> Any:
        raise AssertionError("pickle was asked")


class LongInt(int):
    pass


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        (Odd(), "Odd"),
        ([{"deep": Odd()}], "Odd"),
        (LongInt(1), "LongInt"),
        (object(), "object"),
        (lambda: 1, "function"),
        (math, "module"),
        (iter([1]), "list_iterator"),
    ],
    ids=["object", "deep inside", "subclass of int", "bare object", "lambda", "module", "iterator"],
)
def test_an_unknown_type_is_an_error_that_names_task_field_and_type(value: Any, type_name: str) -> None:
    with pytest.raises(kart.IdentityError) as failed:
        _ = Holder(value=value).unique_id
    message = str(failed.value)
    assert all(fact in message for fact in ("Holder", "'value'", type_name)), message
    assert "significant=False" in message


def test_what_enters_no_id_may_be_anything() -> None:
    class Task(kart.TaskOnKart[int]):
        n: int = 1
        tool: Any = kart.parameter(default=None, significant=False)

    tools: list[Any] = [Odd(), lambda: 1, iter([1]), object(), math]
    tasks = [Task(tool=tool) for tool in tools]
    assert {task.unique_id for task in tasks} == {Task().unique_id}
    assert len({*tasks, *(Task(tool=tool) for tool in tools)}) == len(tools), "equal where they hold the same object"


def test_a_lambda_or_local_function_is_refused_with_the_way_out() -> None:
    def local() -> None:
        pass

    for value in (lambda: 1, local):
        with pytest.raises(kart.IdentityError, match="move it to module level"):
            _ = id_of(value)


def test_a_secret_enters_no_id() -> None:
    class Fetch(kart.TaskOnKart[int]):
        token: Any

    with pytest.raises(kart.IdentityError) as failed:
        Fetch(token=kart.Secret("hunter2"))
    assert "hunter2" not in str(failed.value)


class TestArrays:
    """Arrays are dtype, shape and the bytes in C order; numpy scalars are taken as Python's values."""

    def test_each_of_dtype_shape_and_content_counts(self) -> None:
        np = pytest.importorskip("numpy")
        square = np.arange(4).reshape(2, 2)
        different = [
            square,
            square.T,
            square.ravel(),
            square.astype("f8"),
            square.astype("i4"),
            square + 1,
            square.tolist(),
        ]
        assert len({id_of(value) for value in different}) == len(different)

    def test_how_an_array_lies_in_memory_does_not_count(self) -> None:
        np = pytest.importorskip("numpy")
        square = np.arange(6).reshape(2, 3)
        every_second = np.arange(12).reshape(2, 6)[:, ::2] // 2
        assert id_of(square) == id_of(np.asfortranarray(square)) == id_of(every_second.copy() * 0 + square)
        assert id_of(every_second) == id_of(np.ascontiguousarray(every_second))

    def test_a_numpy_scalar_is_taken_as_its_python_value(self) -> None:
        np = pytest.importorskip("numpy")
        assert Train(data=Holder(), n=np.int64(3)).unique_id == Train(data=Holder(), n=3).unique_id
        assert Train(data=Holder(), rate=np.float64(0.25)).unique_id == Train(data=Holder(), rate=0.25).unique_id

    def test_an_array_of_objects_is_refused(self) -> None:
        np = pytest.importorskip("numpy")
        with pytest.raises(kart.IdentityError, match=r"Holder.*'value'.*numpy"):
            id_of(np.array([object()]))


# --- the code digest

CODE = """\
import kart_core as kart
import library

LIMIT = 3


def near(value: int) -> int:
    return value * LIMIT


class Train(kart.TaskOnKart[int], uses=(library.far,)):
    n: int = 1

    def run(self) -> int:
        return near(library.far(self.n))


class Plain(kart.TaskOnKart[int]):
    n: int = 1


class Report(kart.TaskOnKart[int]):
    train: Train

    def run(self) -> int:
        return 1
"""
LIBRARY = """\
FACTOR = 5


def far(value):
    return value + FACTOR
"""
ASK = """\
import json, sys
sys.path.insert(0, "elsewhere")
import pipeline
on = dict(serialized_task_definition_check=True)
train = pipeline.Train(**on)
print(json.dumps([train.unique_id, pipeline.Report(train=train).unique_id, pipeline.Train().unique_id]))
"""


class TestCode:
    """With `serialized_task_definition_check` the code takes part in the id; without, it does not."""

    @pytest.fixture
    def ids(self, project: Any) -> Any:
        def ids(pipeline: str = CODE, library: str = LIBRARY) -> list[str]:
            project.write("pipeline.py", pipeline)
            project.write("elsewhere/library.py", library)
            done = project.python("-c", ASK)
            assert done.code == 0, done.err
            return done.data

        return ids

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("        return near(", "        # a comment\n        return near("),
            ("        return near(", '        """A docstring."""\n        return near('),
            ("        return near(", "\n\n        return  near("),
            ("near(value: int) -> int", "near(value)"),
        ],
        ids=["comment", "docstring", "layout", "annotations"],
    )
    def test_what_says_nothing_of_the_result_keeps_the_id(self, ids: Any, old: str, new: str) -> None:
        assert old in CODE
        assert ids() == ids(CODE.replace(old, new, 1))

    @pytest.mark.parametrize(
        ("pipeline", "library"),
        [
            (CODE.replace("near(library", "1 + near(library"), LIBRARY),
            (CODE.replace("LIMIT = 3", "LIMIT = 4"), LIBRARY),
            (CODE.replace("value * LIMIT", "value - LIMIT"), LIBRARY),
            (CODE, LIBRARY.replace("FACTOR = 5", "FACTOR = 6")),
            (CODE, LIBRARY.replace("value + FACTOR", "value - FACTOR")),
        ],
        ids=["run", "constant", "helper of the module", "constant of a helper in uses", "helper in uses"],
    )
    def test_what_says_something_of_the_result_changes_it_and_all_downstream(
        self, ids: Any, pipeline: str, library: str
    ) -> None:
        checked, downstream, unchecked = ids()
        checked_now, downstream_now, unchecked_now = ids(pipeline, library)
        assert checked_now != checked
        assert downstream_now != downstream
        assert unchecked_now == unchecked, "the check is off there"

    def test_without_source_the_check_is_an_error_that_says_so(self) -> None:
        names: dict[str, Any] = {"kart": kart, "__name__": "typed_at_a_prompt"}
        exec("class Train(kart.TaskOnKart[int]):\n    pass", names)
        with pytest.raises(kart.IdentityError, match=r"Train.*version"):
            _ = names["Train"](serialized_task_definition_check=True).unique_id


# --- everywhere the same


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that an id needs besides kart: attrs, which is of Python alone and so runs in each of them."""
    folder = tmp_path_factory.mktemp("libraries")
    for package in (attrs, importlib.import_module("attr"), kart):
        shutil.copytree(Path(str(package.__file__)).parent, folder / package.__name__)
    return folder


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_ids_are_the_golden_ones_on_every_python_and_for_every_hash_seed(
    tmp_path: Path, libraries: Path, version: str, seed: str, python_of: Callable[[str], str]
) -> None:
    python = python_of(version)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KART_", "PYTHON"))}
    done = subprocess.run(
        [python, str(HERE / "golden.py")],
        cwd=tmp_path,
        env={**environment, "PYTHONHASHSEED": seed, "PYTHONPATH": str(libraries)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    left_out = set(GOLDEN) - set(found)
    assert found == {name: id_ for name, id_ in GOLDEN.items() if name not in left_out}
    assert all("array" in name or name in ("value dtype", "value scalar", "file") for name in left_out), left_out
    assert not left_out or python != sys.executable, "here numpy is installed"


def test_golden_ids_differ_from_each_other_but_where_the_rules_make_them_one() -> None:
    alike = [{"defaults", "where and how"}, {"omitted default", "insignificant parameter"}]
    by_id: dict[str, set[str]] = {}
    for name, id_ in GOLDEN.items():
        by_id.setdefault(id_, set()).add(name)
    assert all(len(names) == 1 or names in alike for names in by_id.values())
    assert len(GOLDEN) > 70


def test_the_id_is_the_same_wherever_the_process_stands(project: Any) -> None:
    project.write("pipeline.py", "import kart_core as kart\nclass Task(kart.TaskOnKart[int]):\n    n: int = 1\n")
    ask = "import sys; sys.path.insert(0, {!r}); import pipeline; print(pipeline.Task().unique_id)"
    folder = str(project.folder)
    found = {project.python("-c", ask.format(folder)).out}
    project.write("below/kart.toml", '[TaskOnKart]\nworkspace_directory = "elsewhere"\n')
    command = f"import os; os.chdir('below'); {ask.format(folder)}"
    found |= {project.python("-c", command, environment={"PYTHONHASHSEED": "5"}).out}
    assert len(found) == 1


class Table(Mapping[str, int]):
    """A mapping that is no dict."""

    def __init__(self, **items: int) -> None:
        self.items_ = items

    def __getitem__(self, key: str) -> int:
        return self.items_[key]

    def __iter__(self) -> Any:
        return iter(self.items_)

    def __len__(self) -> int:
        return len(self.items_)


@pytest.mark.parametrize("value", [Table(a=1), (Table(a=1),), {"a": [Table(a=1)]}])
def test_a_setting_that_enters_no_id_changes_none_whatever_the_class_of_a_value(value: Any) -> None:
    assert Holder(value=value).unique_id == Holder(value=value, rerun=True).unique_id


class Whole(kart.TaskOnKart[int]):
    rate: float = kart.parameter(default=1, omit_default=True)
    other: float = kart.parameter(default=math.nan, omit_default=True)


def test_a_default_is_left_out_in_the_form_in_which_it_is_held() -> None:
    class Bare(kart.TaskOnKart[int]):
        pass

    Bare.__qualname__ = Whole.__qualname__
    assert Whole() == Whole(rate=1) == Whole(rate=1.0, other=math.nan)
    assert Whole().unique_id == Whole(rate=1, other=math.nan).unique_id == Bare().unique_id
    assert Whole(rate=2).unique_id != Whole().unique_id


def test_a_users_own_class_called_secret_is_none_of_karts() -> None:
    class Secret:
        pass

    class Keeps(kart.TaskOnKart[int]):
        value: Any = kart.parameter(significant=False)

    assert Keeps(value=Secret()).unique_id == Keeps(value=None).unique_id
