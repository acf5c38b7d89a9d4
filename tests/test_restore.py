"""The promises of `restore`: a task is made anew from the record of its result, or what lacks is named."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

import kart_core as kart
from tests.conftest import Files, Project
from tests.traces import STORE_AT

pytestmark = pytest.mark.usefixtures("project")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@attrs.frozen
class Range:
    low: float
    high: float = 1.0


class Leaf(kart.TaskOnKart[int]):
    i: int = 1

    def run(self) -> int:
        return self.i


class Scalars(kart.TaskOnKart[str]):
    flag: bool = False
    count: int = 0
    rate: float = 0.0
    bound: float = 0.0
    name: str = ""
    data: bytes = b""
    path: Path = Path()
    day: date = date(2024, 1, 1)
    moment: datetime = datetime(2024, 1, 1, tzinfo=timezone.utc)
    wait: timedelta = timedelta()
    colour: Colour = Colour.RED
    mode: Literal["fast", "good"] = "fast"
    limit: int | None = None
    either: int | str = 0
    pair: tuple[int, str] = (0, "")
    many: tuple[float, ...] = ()
    items: list[int] = kart.parameter(factory=list)
    table: dict[str, list[int]] = kart.parameter(factory=dict)
    seen: frozenset[int] = frozenset()
    range: Range = Range(0.0)
    note: str | None = None
    sequence: Sequence[int] = ()
    mapping: Mapping[str, int] = kart.parameter(factory=dict)
    anything: Any = None
    numbers: dict[int, str] = kart.parameter(factory=dict)

    def run(self) -> str:
        return self.name


FULL = Scalars(
    flag=True,
    count=10**30,
    rate=0.1,
    bound=-math.inf,
    name="ø\n🎉",
    data=b"\x00\xff",
    path=Path("a/b.csv"),
    day=date(2025, 2, 3),
    moment=datetime(2025, 2, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2))),
    wait=timedelta(days=1, seconds=2, microseconds=3),
    colour=Colour.BLUE,
    mode="good",
    limit=3,
    either="3",
    pair=(1, "a"),
    many=(0.5, 1.0),
    items=[1, 2],
    table={"a": [1], "b": []},
    seen=frozenset({1, 2}),
    range=Range(0.25, high=0.75),
    note="none",
    sequence=[1, 2],
    mapping={"a": 1},
    anything=(1, "a"),
    numbers={1: "a"},
)


class Holder(kart.TaskOnKart[int]):
    one: Leaf
    many: list[Leaf] = kart.parameter(factory=list)
    rest: tuple[Leaf, ...] = ()
    named: Mapping[str, Leaf] = kart.parameter(factory=dict)
    sequence: Sequence[Leaf] = ()
    absent: Leaf | None = None
    base: kart.TaskOnKart[int] | None = None
    nested: dict[str, tuple[Leaf, ...]] = kart.parameter(factory=dict)
    unordered: frozenset[Leaf] = frozenset()
    loose: Sequence[Leaf] = ()

    def run(self) -> int:
        return self.load(self.one)


class Quiet(kart.TaskOnKart[int]):
    """Has parameters that take no part in its id."""

    n: int
    verbose: bool = kart.parameter(default=False, significant=False)
    label: str = kart.parameter(significant=False)
    beside: Leaf | None = kart.parameter(default=None, significant=False)

    def run(self) -> int:
        return self.n


class Private(kart.TaskOnKart[int]):
    n: int
    hidden: str = kart.parameter(default="", private=True)
    token: kart.Secret = kart.parameter(default=kart.Secret(""), significant=False, private=True)

    def run(self) -> int:
        return self.n


class Chain(kart.TaskOnKart[int]):
    i: int
    before: Chain | None = None

    def run(self) -> int:
        return self.i


class Data(kart.ExternalTask[str]):
    name: str

    def output(self) -> kart.Target:
        return self.make_target(self.name, use_unique_id=False)


class OfFile(kart.TaskOnKart[str]):
    file: kart.File
    data: Data

    def run(self) -> str:
        return self.file.read_text() + self.load(self.data)


def restored(task: kart.TaskOnKart[Any], **where: Any) -> kart.TaskOnKart[Any]:
    kart.build(task, return_value=False)
    return type(task).restore(task.unique_id, **where)


def held(task: kart.TaskOnKart[Any]) -> dict[str, Any]:
    return {info.name: getattr(task, info.name) for info in attrs.fields(type(task))}


# --- what comes back


@pytest.mark.parametrize("task", [FULL, Scalars()], ids=["full", "defaults"])
def test_a_task_comes_back_with_every_type_of_parameter(task: Scalars) -> None:
    again = restored(task)
    assert again == task
    assert held(again) == held(task)
    assert {name: type(value) for name, value in held(again).items()} == {n: type(v) for n, v in held(task).items()}


class Loose(kart.TaskOnKart[int]):
    value: Any = None
    items: list[Any] = kart.parameter(factory=list)
    table: dict[str, object] = kart.parameter(factory=dict)
    pairs: list[tuple[int, Any]] = kart.parameter(factory=list)

    def run(self) -> int:
        return 1


@pytest.mark.parametrize(
    "fields",
    [
        {"value": [1, (2, 3)]},
        {"value": {"a": (1, [2, (3,)])}},
        {"value": (1, (2, 3))},
        {"value": [frozenset({1, 2}), {"b": frozenset()}]},
        {"value": {"a": {1: "x", (2, 3): None}}},
        {"value": [{"tuple": [1]}, (1,), {"exactly": [2]}]},
        {"value": {"exactly": [1]}},
        {"items": [(1, 2), [3], {"a": ()}]},
        {"table": {"a": (1, 2), "b": [1.5, None]}},
        {"pairs": [(1, [2]), (3, "a")]},
    ],
)
def test_a_container_within_a_container_comes_back_as_what_it_was(fields: dict[str, Any]) -> None:
    task = Loose(**fields)
    again = restored(task)
    assert again == task
    assert repr(held(again)) == repr(held(task))


def test_a_task_comes_back_with_the_tasks_that_it_holds() -> None:
    task = Holder(
        one=Leaf(i=1),
        many=[Leaf(i=2), Leaf(i=3)],
        rest=(Leaf(i=4),),
        named={"a": Leaf(i=5)},
        sequence=[Leaf(i=6), Leaf(i=7)],
        absent=Leaf(i=8),
        base=Chain(i=9),
        nested={"b": (Leaf(i=10), Leaf(i=11))},
        unordered=frozenset({Leaf(i=12), Leaf(i=13)}),
        loose=(Leaf(i=14),),
    )
    again = restored(task)
    assert again == task
    assert {name: type(value) for name, value in held(again).items()} == {n: type(v) for n, v in held(task).items()}


def test_a_restored_task_loads_and_is_complete() -> None:
    again = restored(Holder(one=Leaf(i=3)))
    assert isinstance(again, Holder)
    assert again.complete()
    assert kart.build(again) == 3
    assert again.load(again.one) == 3


def test_a_deep_graph_comes_back() -> None:
    task = Chain(i=1)
    for i in range(2, 100 if STORE_AT else 1500):
        task = Chain(i=i, before=task)
    assert restored(task) == task


def test_insignificant_values_come_back_as_the_record_has_them() -> None:
    task = Quiet(n=1, verbose=True, label="first", beside=Leaf(i=5))
    again = restored(task, workspace_directory=None)
    assert isinstance(again, Quiet)
    assert (again.verbose, again.label, again.beside) == (True, "first", Leaf(i=5))
    assert again == task


def test_of_two_tasks_of_one_id_the_one_that_ran_comes_back() -> None:
    kart.build(Quiet(n=1, label="first"))
    kart.build(Quiet(n=1, label="second"))
    assert Quiet.restore(Quiet(n=1, label="").unique_id).label == "first"
    kart.build(Quiet(n=1, label="third"), rerun=True)
    assert Quiet.restore(Quiet(n=1, label="").unique_id).label == "third"


def test_settings_of_the_task_come_back() -> None:
    again = restored(Leaf(i=1, fix_random_seed_value=3, fail_on_empty_dump=True))
    assert (again.fix_random_seed_value, again.fail_on_empty_dump) == (3, True)
    assert again.fix_random_seed_methods == ("random.seed", "numpy.random.seed")


def test_external_data_and_files_come_back(workspace: Files) -> None:
    workspace.write("data.txt", "data")
    Path("file.txt").write_text("file")
    task = OfFile(file=kart.File("file.txt"), data=Data(name="data.txt"))
    again = restored(task)
    assert again == task
    assert kart.build(again) == "filedata"


# --- from another workspace, in another process


def test_a_task_comes_back_from_a_custom_workspace(workspace: Files) -> None:
    custom = workspace.beside("custom").url
    kart.build(Holder(one=Leaf(i=3)), workspace_directory=custom)
    unique_id = Holder(one=Leaf(i=3)).unique_id
    with pytest.raises(kart.MissingDataError, match="resources"):
        Holder.restore(unique_id)
    again = Holder.restore(unique_id, workspace_directory=custom)
    assert again.workspace_directory == custom
    assert again.one.workspace_directory == custom
    assert again.complete()
    assert again.load(again.one) == 3


def test_a_task_comes_back_from_the_workspace_of_its_class(workspace: Files) -> None:
    class Elsewhere(kart.TaskOnKart[int]):
        workspace_directory: str = workspace.beside("elsewhere").url

        def run(self) -> int:
            return 1

    assert restored(Elsewhere()).complete()


def test_a_task_comes_back_from_memory() -> None:
    kart.build(FULL, workspace_directory="memory://restore")
    again = Scalars.restore(FULL.unique_id, workspace_directory="memory://restore")
    assert again.unique_id == FULL.unique_id
    assert held(again) == held(FULL)


def test_a_task_comes_back_in_another_process(pipeline: Project) -> None:
    assert pipeline.python("pipeline.py", "Total", "--Numbers-n", "5").code == 0
    [record] = kart.results("pipeline.Total")
    code = f"import pipeline; t = pipeline.Total.restore({record.unique_id!r}); print(t.numbers.n, t.complete())"
    assert pipeline.python("-c", code).out.split() == ["5", "True"]


# --- what does not come back is named


def test_an_unknown_id_is_named_with_its_class_and_workspace() -> None:
    with pytest.raises(kart.MissingDataError, match=r"Leaf.*0123.*resources"):
        Leaf.restore("0123" * 8)


def test_an_id_of_another_class_is_not_found() -> None:
    kart.build(Leaf(i=1))
    with pytest.raises(kart.MissingDataError, match="Chain"):
        Chain.restore(Leaf(i=1).unique_id)


def test_a_private_parameter_is_in_no_record_and_is_named(workspace: Files) -> None:
    kart.build(Private(n=1, hidden="open sesame"))
    assert b"open sesame" not in b"".join(map(workspace.read, workspace.files(".kart")))
    with pytest.raises(kart.MissingDataError, match=r"Private\.hidden"):
        Private.restore(Private(n=1, hidden="open sesame").unique_id)


class Strange:
    """A type that no record can hold."""


class Strangers(kart.TaskOnKart[int]):
    n: int
    strange: Any = kart.parameter(default=None, significant=False)

    def run(self) -> int:
        return self.n


def test_an_insignificant_value_that_no_record_can_hold_comes_back_as_its_default_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Loose(kart.TaskOnKart[int]):
        n: int
        callback: Any = kart.parameter(default=None, significant=False, private=True)

        def run(self) -> int:
            return self.n

    assert restored(Loose(n=1, callback=print)) == Loose(n=1)
    assert "Loose.callback" in caplog.text


def test_a_required_task_that_is_not_stored_any_more_is_named(workspace: Files) -> None:
    kart.build(Holder(one=Leaf(i=3)))
    workspace.remove(workspace.record_of(Leaf(i=3)))
    with pytest.raises(kart.MissingDataError, match=Leaf(i=3).unique_id):
        Holder.restore(Holder(one=Leaf(i=3)).unique_id)


def test_a_task_whose_class_has_changed_is_named(project: Project) -> None:
    source = "import kart_core as kart\nclass Changes(kart.TaskOnKart[int], version={}):\n    def run(self): return 1\n"
    project.write("changes.py", source.format(1))
    done = project.python(
        "-c", "import changes, kart_core; t = changes.Changes(); kart_core.build(t); print(t.unique_id)"
    )
    project.write("changes.py", source.format(22))
    code = f"import changes; changes.Changes.restore({done.out.strip()!r})"
    again = project.python("-c", code)
    assert again.code == 1
    assert "MissingDataError" in again.err
    assert done.out.strip() in again.err


def test_a_required_class_that_is_gone_is_named(project: Project) -> None:
    source = (
        "import kart_core as kart\n"
        "class Gone(kart.TaskOnKart[int]):\n    def run(self): return 1\n"
        "class Stays(kart.TaskOnKart[int]):\n    task: kart.TaskOnKart[int]\n    def run(self): return 1\n"
    )
    project.write("gone.py", source)
    make = "import gone, kart_core; t = gone.Stays(task=gone.Gone()); kart_core.build(t); print(t.unique_id)"
    unique_id = project.python("-c", make).out.strip()
    project.write("gone.py", source.replace("class Gone", "class Other"))
    again = project.python("-c", f"import gone; gone.Stays.restore({unique_id!r})")
    assert "MissingDataError" in again.err
    assert "Gone" in again.err


def test_a_damaged_record_is_an_error_that_names_it(workspace: Files) -> None:
    kart.build(Leaf(i=3))
    path = workspace.record_of(Leaf(i=3))
    found = json.loads(workspace.read(path))
    for damaged in ("{", "[]", "", json.dumps({**found, "parameters": [1]})):
        workspace.write(path, damaged)
        with pytest.raises(kart.CorruptResultError, match=path):
            Leaf.restore(Leaf(i=3).unique_id)


def test_a_parameter_that_does_not_fit_its_type_any_more_is_named(workspace: Files) -> None:
    kart.build(Leaf(i=3))
    path = workspace.record_of(Leaf(i=3))
    found = json.loads(workspace.read(path))
    workspace.write(path, json.dumps({**found, "parameters": {"i": "three"}}))
    with pytest.raises(kart.MissingDataError, match=r"Leaf\.i"):
        Leaf.restore(Leaf(i=3).unique_id)


class Keyed(kart.TaskOnKart[int]):
    by: dict[Any, Leaf]

    def run(self) -> int:
        return sum(self.load(self.by).values())


@pytest.mark.parametrize("keys", [(1, 2), (("a", "b"), ("a", "c")), ("1", 1), ("tuple",), ("task", "unique_id")])
def test_tasks_under_keys_of_any_type_come_back(keys: tuple[Any, ...]) -> None:
    task = Keyed(by={key: Leaf(i=i) for i, key in enumerate(keys)})
    assert restored(task) == task


class Plain(kart.TaskOnKart[int]):
    data: dict[str, Any]

    def run(self) -> int:
        return 1


@pytest.mark.parametrize(
    "data",
    [
        {"tuple": [1, 2]},
        {"frozenset": [1]},
        {"dict": [["a", 1]]},
        {"not kept": "int"},
        {"task": "clean", "unique_id": "7"},
        {"a": {"task": 1, "unique_id": 2}},
    ],
    ids=str,
)
def test_data_that_looks_like_what_records_write_comes_back(data: dict[str, Any]) -> None:
    assert restored(Plain(data=data)) == Plain(data=data)


# --- tasks without a record of their own


class Part(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        return self.i


class Bundle(kart.WrapperTask):
    below: tuple[kart.TaskOnKart[Any], ...]
    level: int


class Above(kart.TaskOnKart[int]):
    bundle: Bundle

    def run(self) -> int:
        return self.bundle.level


def test_the_record_of_a_task_above_a_diamond_of_bundles_grows_with_their_number_and_restores_it(
    workspace: Files,
) -> None:
    def above(depth: int) -> Above:
        tasks: tuple[kart.TaskOnKart[Any], ...] = (Part(i=1), Part(i=2))
        for level in range(depth):
            tasks = (Bundle(below=tasks, level=2 * level), Bundle(below=tasks, level=2 * level + 1))
        return Above(bundle=Bundle(below=tasks, level=2 * depth))

    sizes: list[int] = []
    for depth in (10, 20):
        task = above(depth)
        kart.build(task)
        assert Above.restore(task.unique_id) == task
        sizes.append(workspace.size(workspace.record_of(task)))
    assert sizes[1] < 3 * sizes[0]


def test_a_task_above_a_chain_of_2000_bundles_is_stored_and_restored() -> None:
    bundle = Bundle(below=(Part(i=1),), level=0)
    for level in range(2000):
        bundle = Bundle(below=(bundle,), level=level)
    task = Above(bundle=bundle)
    kart.build(task)
    assert Above.restore(task.unique_id) == task
