"""The promises of task classes and tasks: mistakes are caught when the class is made, and a task does not change."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import json
import pickle
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import attrs
import numpy as np
import pytest

import kart_core as kart
from kart_core import config

pytestmark = pytest.mark.usefixtures("project")

T = TypeVar("T")


class Leaf(kart.TaskOnKart[int]):
    i: int = 1

    def run(self) -> int:
        return self.i


class Train(kart.TaskOnKart[float]):
    leaf: Leaf
    rate: float = 0.1
    mode: Literal["fast", "good"] = "fast"
    sizes: list[int] = kart.parameter(default=[1, 2])
    table: dict[str, list[int]] = kart.parameter(factory=dict)
    path: Path | None = None

    scale: ClassVar[float] = 2.0

    @functools.cached_property
    def scaled(self) -> float:
        return self.rate * self.scale

    def run(self) -> float:
        return self.scaled


# --- what is caught when a class is made


def mistake(make: Callable[[], object], *facts: str) -> None:
    with pytest.raises(kart.ParameterError) as error:
        make()
    for fact in facts:
        assert fact in str(error.value), str(error.value)
    assert error.value.exit_code == 2


def test_an_attribute_without_annotation_is_caught_with_both_ways_out() -> None:
    def make() -> None:
        class Bad(kart.TaskOnKart[int]):
            n = 10

    mistake(make, "Bad", "`n: int = 10`", "ClassVar[int]")


@pytest.mark.parametrize("value", [None, 1.5, "a", (1,), True, Path("a"), Leaf()], ids=repr)
def test_a_value_of_any_type_without_annotation_is_caught(value: object) -> None:
    mistake(
        lambda: type("Bad", (kart.TaskOnKart,), {"n": value}),
        "'n'",
        "Bad",
        f"n: {None if value is None else type(value).__name__} = ",
    )


def test_a_version_without_annotation_is_caught() -> None:
    def make() -> None:
        class Bad(kart.TaskOnKart[int]):
            __version = 1

    mistake(make, "Bad", "__version: int = 1")


def test_a_constant_of_the_class_is_no_parameter() -> None:
    class Fine(kart.TaskOnKart[int]):
        limit: ClassVar[int] = 3
        names: ClassVar[list[str]] = ["a"]

    assert Fine.limit == 3
    assert repr(Fine()).endswith("Fine()")
    with pytest.raises(kart.ParameterError, match="limit"):
        Fine(limit=4)  # type: ignore[call-arg]


@pytest.mark.parametrize("default", [[], [1], {}, {"a": 1}, set(), bytearray()], ids=repr)
def test_a_mutable_default_is_caught_with_the_way_out(default: object) -> None:
    body = {"n": default, "__annotations__": {"n": "Any"}}
    mistake(lambda: type("Bad", (kart.TaskOnKart,), body), "'n'", "Bad", f"parameter(default={default!r})")


def test_an_override_without_annotation_is_caught_with_the_way_out() -> None:
    def make() -> None:
        class Bad(Leaf):
            i = 3

    mistake(make, "Bad", "`i: int = 3`")


def test_an_override_with_annotation_is_a_new_default() -> None:
    class Fine(Leaf):
        i: int = 3

    assert Fine().i == 3
    assert Leaf().i == 1


@pytest.mark.parametrize(
    "name",
    [
        *("unique_id", "requires", "run", "output", "complete", "load", "load_generator", "dump", "make_target"),
        *("make_model_target", "make_large_data_target", "clone", "restore", "task_log"),
    ],
)
def test_a_field_that_hides_a_public_name_is_caught(name: str) -> None:
    mistake(lambda: type("Bad", (kart.TaskOnKart,), {"__annotations__": {name: "int"}}), f"'{name}'", "Bad")


def test_nothing_else_is_reserved() -> None:
    taken = [
        "name",
        "path",
        "version",
        "seed",
        "task",
        "target",
        "input",
        "results",
        "config",
        "parameters",
        "id",
        "build",
    ]
    cls: Any = type("Free", (kart.TaskOnKart,), {"__annotations__": dict.fromkeys(taken, int)})
    task = cls(**{name: i for i, name in enumerate(taken)})
    assert [getattr(task, name) for name in taken] == list(range(len(taken)))


def test_every_public_name_of_a_task_is_a_name_that_the_design_reserves() -> None:
    from kart_core.task import settings

    reserved = {
        *("unique_id", "requires", "run", "output", "complete", "load", "load_generator", "dump", "make_target"),
        *("make_model_target", "make_large_data_target", "clone", "restore", "task_log"),
    }
    assert {name for name in dir(kart.TaskOnKart) if not name.startswith("_")} == {
        *reserved,
        *(info.name for info in settings()),
    }


@pytest.mark.parametrize("name", ["__init__", "__setattr__", "__delattr__", "__new__", "__eq__", "__hash__"])
def test_a_method_that_is_karts_own_is_caught_with_the_way_out(name: str) -> None:
    body = {name: lambda self, *arguments: None}
    mistake(lambda: type("Bad", (kart.TaskOnKart,), body), name, "Bad", "cached_property")


@pytest.mark.parametrize("library", ["luigi.parameter", "gokart.parameter"])
@pytest.mark.parametrize(
    ("kind", "form"), [("IntParameter", "n: int"), ("Parameter", "n: str"), ("BoolParameter", "n: bool")]
)
def test_a_parameter_object_of_luigis_is_caught_with_karts_form(library: str, kind: str, form: str) -> None:
    parameter = type(kind, (), {"__module__": library})()
    mistake(lambda: type("Bad", (kart.TaskOnKart,), {"n": parameter}), "'n'", "Bad", kind, library.split(".")[0], form)
    body = {"n": parameter, "__annotations__": {"n": "int"}}
    mistake(lambda: type("Bad", (kart.TaskOnKart,), body), kind, form)


def test_a_parameter_without_a_type_is_caught() -> None:
    def make() -> None:
        class Bad(kart.TaskOnKart[int]):
            n = kart.parameter(default=1)

    mistake(make, "'n'", "Bad", "parameter(")


def test_a_setting_that_is_redeclared_without_a_default_is_caught() -> None:
    def make() -> None:
        class Bad(kart.TaskOnKart[int]):
            rerun: bool

    mistake(make, "'rerun'", "Bad")


@pytest.mark.parametrize(
    ("keywords", "facts"),
    [
        ({"verison": 1}, ["'verison'", "'version'"]),
        ({"nonsense": 1}, ["'nonsense'"]),
        ({"version": 1.5}, ["version=1.5"]),
        ({"version": True}, ["version=True"]),
        ({"namespace": 1}, ["namespace=1"]),
        ({"retries": -1}, ["retries=-1"]),
        ({"retries": "2"}, ["retries='2'"]),
        ({"priority": "high"}, ["priority='high'"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_class_keyword_is_caught_by_name(keywords: dict[str, Any], facts: list[str]) -> None:
    mistake(lambda: type("Bad", (kart.TaskOnKart,), {}, **keywords), "Bad", *facts)  # type: ignore[call-overload]


def test_parameter_takes_a_default_or_a_factory() -> None:
    mistake(lambda: kart.parameter(default=1, factory=int), "default", "factory")  # type: ignore[call-overload]
    mistake(lambda: kart.parameter(omit_default=True), "omit_default")  # type: ignore[call-overload]


def test_what_is_no_parameter_needs_no_annotation() -> None:
    class Base(kart.TaskOnKart[T], ABC, Generic[T]):
        @property
        def doubled(self) -> int:
            return 2

        @staticmethod
        def static() -> int:
            return 3

        @classmethod
        def of(cls) -> Any:
            return cls()

        @functools.cached_property
        def cached(self) -> int:
            return 4

        @functools.lru_cache  # noqa: B019
        def remembered(self) -> int:
            return 5

        @abstractmethod
        def must(self) -> int: ...

        class Inner:
            n = 1

    class Fine(Base[int]):
        helper = staticmethod(len)
        other = len

        def must(self) -> int:
            return 6

    task = Fine.of()
    values = [
        task.doubled,
        task.static(),
        task.cached,
        task.remembered(),
        task.must(),
        task.Inner.n,
        task.helper("1234567"),
    ]
    assert values == [2, 3, 4, 5, 6, 1, 7]


def test_an_abstract_task_cannot_be_made() -> None:
    class Base(kart.TaskOnKart[int], ABC):
        @abstractmethod
        def must(self) -> int: ...

    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]


def test_a_class_is_its_own_documentation() -> None:
    class Fine(kart.TaskOnKart[int]):
        """What it does."""

        n: int = 1

    assert Fine.__doc__ == "What it does."


# --- fields


def test_fields_are_inherited_from_every_base() -> None:
    class A(kart.TaskOnKart[int]):
        a: int = 1

    class B(kart.TaskOnKart[int]):
        b: int = 2

    class C(A, B):
        c: int = 3

    task = C(a=4, c=5)
    assert (task.a, task.b, task.c) == (4, 2, 5)


def test_a_default_from_a_factory_is_made_and_a_default_list_is_shared_safely() -> None:
    one, other = Train(leaf=Leaf()), Train(leaf=Leaf())
    assert one.sizes == [1, 2]
    assert one.table == {}
    for change in (lambda: one.sizes.append(3), lambda: one.table.update(a=[1])):
        with pytest.raises(TypeError):
            change()
    assert other.sizes == [1, 2]


def test_a_factory_may_make_a_task() -> None:
    class Fine(kart.TaskOnKart[int]):
        leaf: Leaf = kart.parameter(factory=lambda: Leaf(i=7))

    assert Fine().leaf == Leaf(i=7)


def test_a_factory_is_called_for_each_task_that_is_given_no_value() -> None:
    numbers = itertools.count()

    class Numbered(kart.TaskOnKart[int]):
        n: int = kart.parameter(factory=lambda: next(numbers))
        m: int = 0

        def run(self) -> int:
            return self.n

    tasks = [Numbered(), Numbered(n=7), Numbered(m=1)]
    assert [task.n for task in tasks] == [0, 7, 1]
    assert kart.build(*tasks) == (0, 7, 1)
    assert tasks[0].clone(m=2).n == 0


def test_a_factory_of_another_type_is_refused_by_each_task_that_asks_it() -> None:
    class Wrong(kart.TaskOnKart[int]):
        n: int = kart.parameter(factory=lambda: "text")

        def run(self) -> int:
            return self.n

    assert Wrong(n=1).n == 1
    with pytest.raises(kart.ParameterError, match="the default of 'n'"):
        Wrong()


def test_a_default_from_a_factory_is_left_out_of_the_id_where_that_is_asked_for() -> None:
    def made(**fields: Any) -> Any:
        body = {"__module__": "one", "__qualname__": "T", "__annotations__": dict.fromkeys(fields, list[int]), **fields}
        cls: Any = type(kart.TaskOnKart)("T", (kart.TaskOnKart,), body)
        return cls

    with_one = made(more=kart.parameter(factory=list, omit_default=True))
    assert with_one().unique_id == with_one(more=[]).unique_id == made()().unique_id
    assert with_one(more=[1]).unique_id != made()().unique_id


def test_a_name_with_underscores_is_a_parameter_by_that_name() -> None:
    class Fine(kart.TaskOnKart[int]):
        _n: int = 1
        n: int = 5

    assert (Fine(_n=2)._n, Fine(_n=2).n) == (2, 5)
    assert Fine(_n=2) != Fine()


def test_the_old_trick_of_a_version_is_a_significant_parameter() -> None:
    def make(version: int) -> kart.TaskOnKart[int]:
        class Old(kart.TaskOnKart[int]):
            __version: int = version

            def run(self) -> int:
                return 1

        return Old()

    assert make(1).unique_id == make(1).unique_id != make(2).unique_id


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({}, ["Train", "leaf", "Leaf"]),
        ({"leaf": 3}, ["Train", "'leaf'", "Leaf", "3"]),
        ({"leaf": Leaf}, ["Train", "'leaf'"]),
        ({"leaf": Leaf(), "rate": "0.1"}, ["Train", "'rate'", "float", "'0.1'"]),
        ({"leaf": Leaf(), "rate": True}, ["'rate'", "float", "True"]),
        ({"leaf": Leaf(), "mode": "slow"}, ["'mode'", "fast", "slow"]),
        ({"leaf": Leaf(), "sizes": (1, 2)}, ["'sizes'", "list[int]"]),
        ({"leaf": Leaf(), "sizes": [1, "2"]}, ["'sizes'", "'2'"]),
        ({"leaf": Leaf(), "table": {"a": 1}}, ["'table'"]),
        ({"leaf": Leaf(), "path": "a"}, ["'path'", "Path", "'a'"]),
        ({"leaf": Leaf(), "raet": 0.1}, ["Train", "'raet'", "'rate'"]),
        ({"leaf": Leaf(), "workspace": "a"}, ["'workspace'", "'workspace_directory'"]),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_is_refused_by_task_field_expected_and_given(
    arguments: dict[str, Any], facts: list[str]
) -> None:
    mistake(lambda: Train(**arguments), *facts)


def test_positional_arguments_are_refused_with_the_names() -> None:
    mistake(lambda: Train(Leaf(), 0.1), "Train", "leaf=…", "rate=…")  # type: ignore[misc]


@pytest.mark.parametrize("value", [np.float64(0.5), np.float32(0.5), np.int64(1), 1], ids=lambda v: type(v).__name__)
def test_numpy_numbers_are_taken_as_their_python_values(value: Any) -> None:
    task = Train(leaf=Leaf(i=np.int64(3)), rate=value)  # type: ignore[arg-type]
    assert type(task.rate) is float
    assert type(task.leaf.i) is int
    assert task == Train(leaf=Leaf(i=3), rate=float(value))
    assert task.unique_id == Train(leaf=Leaf(i=3), rate=float(value)).unique_id


# --- frozen


def test_an_attribute_cannot_be_set_and_the_message_has_the_way_out() -> None:
    task = Train(leaf=Leaf())
    for name in ("rate", "new", "rerun", "workspace_directory", "unique_id", "_kart_digest"):
        with pytest.raises(kart.ParameterError, match=rf"Train\.{name}.*cached_property"):
            setattr(task, name, 1)
        with pytest.raises(AttributeError):
            setattr(task, name, 1)


def test_an_attribute_cannot_be_deleted() -> None:
    with pytest.raises(AttributeError, match=r"Train\.rate"):
        del Train(leaf=Leaf()).rate


def test_a_cached_property_is_the_way_out() -> None:
    task = Train(leaf=Leaf(), rate=0.5)
    assert task.scaled == 1.0
    assert "scaled" in vars(task)
    assert task == Train(leaf=Leaf(), rate=0.5)
    assert pickle.loads(pickle.dumps(task)) == task


def test_lists_and_dicts_given_are_held_read_only_all_the_way_down() -> None:
    table = {"a": [1]}
    task = Train(leaf=Leaf(), sizes=[3], table=table)
    changes: list[Callable[[], object]] = [
        lambda: task.sizes.append(1),
        lambda: task.sizes.__setitem__(0, 1),
        lambda: task.table.pop("a"),
        lambda: task.table.setdefault("b", []),
        lambda: task.table["a"].extend([2]),
        lambda: task.table.__ior__({"b": []}),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="read-only"):
            change()
    table["a"].append(2)
    assert task.table == {"a": [1]}


def test_read_only_lists_and_dicts_copy_pickle_and_turn_to_json_as_plain_ones() -> None:
    task = Train(leaf=Leaf(), sizes=[3], table={"a": [1]})
    assert json.dumps([task.sizes, task.table]) == '[[3], {"a": [1]}]'
    assert isinstance(task.sizes, list)
    assert isinstance(task.table, dict)
    for again in (copy.deepcopy(task.table), pickle.loads(pickle.dumps(task.table))):
        assert type(again) is dict
        assert type(again["a"]) is list
        again["a"].append(2)
    for plain in (copy.copy(task.sizes), pickle.loads(pickle.dumps(task.sizes)), list(task.sizes)):
        assert type(plain) is list
        plain.append(4)
    assert task.sizes == [3]


def test_a_requirement_in_a_read_only_list_is_still_a_requirement() -> None:
    class Many(kart.TaskOnKart[int]):
        leaves: list[Leaf]

        def run(self) -> int:
            return sum(self.load(self.leaves))

    assert kart.build(Many(leaves=[Leaf(i=2), Leaf(i=3)])) == 5


# --- equality, hash, repr, pickle


@attrs.frozen
class Boxed:
    task: Any
    others: Any = ()


@dataclasses.dataclass(frozen=True)
class Kept:
    task: Any


class Named(NamedTuple):
    task: Any
    n: int = 0


class Holds(kart.TaskOnKart[int]):
    value: Any
    hidden: Any = kart.parameter(default=None, significant=False)

    def run(self) -> int:
        return 1


@pytest.mark.parametrize(
    "value",
    [
        Boxed(Leaf(i=1)),
        Kept(Leaf(i=1)),
        [Boxed(1), Boxed(Leaf(i=1))],
        (Leaf(i=1), {"a": Kept((Leaf(i=2),))}),
        Boxed(Boxed(None, [Leaf(i=1)])),
        functools.partial(print, Leaf(i=1)),
        Leaf(i=1).complete,
    ],
)
def test_a_task_inside_of_an_object_is_refused_with_the_way_out(value: Any) -> None:
    for field in ("value", "hidden"):
        with pytest.raises(kart.ParameterError) as refused:
            Holds(**{"value": 1, field: value})
        for fact in (repr(field), "Holds", "tuple, list or mapping"):
            assert fact in str(refused.value)


def test_an_object_inside_of_which_no_task_is_held_may_stand_beside_tasks() -> None:
    task = Holds(value=(Leaf(i=1), Boxed(1), {Leaf(i=2)}, Named(Leaf(i=3)), {"a": [Leaf(i=4)]}))
    assert len(kart.plan(task).nodes) == 5


def test_an_object_that_no_id_can_be_made_of_hides_no_task_either() -> None:
    with pytest.raises(kart.ParameterError, match="inside of an object"):
        Holds(value=1, hidden=Boxed(Leaf(i=1), lambda: 1))


def test_tasks_are_equal_by_class_and_all_fields() -> None:
    task = Train(leaf=Leaf(), rate=0.5)
    assert task == Train(leaf=Leaf(), rate=0.5)
    assert hash(task) == hash(Train(leaf=Leaf(), rate=0.5))
    assert task != Train(leaf=Leaf(), rate=0.25)
    assert task != Train(leaf=Leaf(i=2), rate=0.5)
    assert len({task, Train(leaf=Leaf(), rate=0.5), Leaf(), Leaf(i=1)}) == 2

    class Other(Leaf):
        pass

    assert Leaf() != Other()
    assert task != "task"


def test_what_is_not_in_the_id_counts_for_equality() -> None:
    class Quiet(kart.TaskOnKart[int]):
        n: int = 1
        verbose: bool = kart.parameter(default=False, significant=False)

    assert Quiet(verbose=True).unique_id == Quiet().unique_id
    assert Quiet(verbose=True) != Quiet()
    assert Leaf(rerun=True).unique_id == Leaf().unique_id
    assert Leaf(rerun=True) != Leaf()
    assert Leaf(workspace_directory="a") != Leaf(workspace_directory="b")


def test_a_value_given_as_its_default_is_the_default() -> None:
    assert Leaf(i=1) == Leaf()
    assert Train(leaf=Leaf(), sizes=[1, 2]) == Train(leaf=Leaf())


def test_repr_is_one_line_and_shows_no_inside_of_tasks() -> None:
    task = Train(leaf=Leaf(i=9), sizes=list(range(1000)), table={str(i): [i] for i in range(1000)})
    assert "leaf=Leaf(…)" in repr(task)
    assert "i=9" not in repr(task)
    assert len(repr(task)) < 400
    assert "\n" not in repr(task)
    assert repr(Leaf(i=9)) == "Leaf(i=9)"


def test_repr_shows_nothing_private() -> None:
    class Private(kart.TaskOnKart[int]):
        token: str = kart.parameter(private=True)
        secret: kart.Secret = kart.parameter(default=kart.Secret("open sesame"), significant=False)

    assert "abc" not in repr(Private(token="abc"))
    assert "open sesame" not in repr(Private(token="abc"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_task_is_pickled_with_all_that_it_is(protocol: int) -> None:
    task = Train(leaf=Leaf(i=2, rerun=True), sizes=[3], table={"a": [1]}, path=Path("a"), workspace_directory="here")
    again = pickle.loads(pickle.dumps(task, protocol))
    assert again == task
    assert again.unique_id == task.unique_id
    assert again.workspace_directory == "here"
    assert again.leaf.rerun is True
    with pytest.raises(TypeError):
        again.sizes.append(1)


def test_a_task_is_copied_as_itself() -> None:
    task = Train(leaf=Leaf())
    assert copy.copy(task) is task
    assert copy.deepcopy(task) is task
    assert copy.deepcopy([task])[0] is task


def test_making_a_task_touches_no_disk_and_runs_nothing() -> None:
    Train(leaf=Leaf(i=1000))
    assert list(Path.cwd().iterdir()) == []


def test_tasks_are_made_in_threads() -> None:
    class Many(kart.TaskOnKart[int]):
        n: int
        values: Sequence[int] = ()
        names: Mapping[str, int] = kart.parameter(factory=dict)

    ids: list[str] = []

    def make() -> None:
        ids.extend(Many(n=i, values=[i], names={"a": i}).unique_id for i in range(50))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 400
    assert len(set(ids)) == 50


# --- clone


def test_a_clone_differs_in_what_is_named() -> None:
    task = Train(leaf=Leaf(), rate=0.5, sizes=[7], workspace_directory="here")
    clone = task.clone(rate=0.25)
    assert (clone.rate, clone.sizes, clone.leaf) == (0.25, [7], Leaf())
    assert clone.workspace_directory == "here"
    assert type(clone) is Train
    assert task.clone() == task
    assert task.rate == 0.5


def test_a_clone_of_another_class_takes_over_what_both_have() -> None:
    class Evaluate(kart.TaskOnKart[float]):
        leaf: Leaf
        rate: float = 1.0
        metric: str = "f1"

    task = Train(leaf=Leaf(i=3), rate=0.5).clone(Evaluate, metric="auc")
    assert task == Evaluate(leaf=Leaf(i=3), rate=0.5, metric="auc")


def test_a_clone_with_an_unknown_change_is_refused() -> None:
    mistake(lambda: Train(leaf=Leaf()).clone(raet=1), "'raet'", "'rate'")


def test_a_clone_takes_a_parameter_by_the_name_cls() -> None:
    class Odd(kart.TaskOnKart[int]):
        cls: int = 1

    assert Odd(cls=3).clone(cls=5).cls == 5  # type: ignore[call-overload]


class Login(kart.TaskOnKart[int]):
    pin: int = kart.parameter(default=0, private=True)
    codes: list[int] = kart.parameter(factory=list, private=True)
    token: kart.Secret = kart.parameter(default=kart.Secret(""), significant=False)


class Uses(kart.TaskOnKart[int]):
    login: Login


@pytest.mark.parametrize(
    ("wrong", "configured"),
    [
        ({"pin": "hush"}, '[Login]\npin = "hush"'),
        ({"codes": ["hush"]}, '[Login]\ncodes = ["hush"]'),
        ({"token": ["hush"]}, '[Login]\ntoken = ["hush"]'),
        ({"token": "hush"}, '[Uses]\nlogin = { pin = "hush" }'),
    ],
)
def test_no_message_shows_a_private_value_or_a_secret_that_is_wrong(
    wrong: dict[str, Any], configured: str, project: Any
) -> None:
    with pytest.raises(kart.ParameterError) as given:
        Login(**wrong)
    project.write("kart.toml", configured)
    config.refresh()
    with pytest.raises(kart.ConfigError) as read:
        Uses() if "[Uses]" in configured else Login()
    assert "hush" not in f"{given.value} {read.value}"


def test_repr_of_tasks_in_sets_is_shallow_too() -> None:
    class Sets(kart.TaskOnKart[int]):
        below: frozenset[kart.TaskOnKart[Any]] = frozenset()

    task = Sets()
    for _ in range(5_000):
        task = Sets(below=frozenset({task}))
    assert len(repr(task)) < 200


def test_a_misspelt_parameter_is_named_though_it_leaves_another_missing() -> None:
    class Needs(kart.TaskOnKart[int]):
        count: int

    with pytest.raises(kart.ParameterError, match=r"'cuont'.*'count'"):
        Needs(cuont=1)  # type: ignore[call-arg]
