"""The promises of graphs: as deep and as wide as you like, each `requires()` asked once, and errors that say where.

That the work grows with the edges is counted, in calls of Python functions; no clock is read.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import kart_core as kart
from kart_core.building import execute
from kart_core.plugin import Event
from tests.traces import IN_PROCESSES, note, noted

pytestmark = pytest.mark.usefixtures("project")

DEEP = 20_000


def asked() -> set[int]:
    """How often `requires()` of a task was called, in any process; each of the numbers once."""
    return set(Counter(noted()).values())


@pytest.fixture
def memory(tmp_path: Path) -> str:
    """A new workspace in memory, which is quicker than a disk where there are many tasks; other processes see none."""
    return str(tmp_path / "workspace") if IN_PROCESSES else f"memory://{tmp_path.name}"


def calls(work: Callable[[], object]) -> int:
    """How many Python functions are called while `work` runs."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


# --- the graphs


class Link(kart.TaskOnKart[int]):
    i: int
    before: Link | None = None

    def run(self) -> int:
        return 1 if self.before is None else self.load(self.before) + 1


class AskedLink(kart.TaskOnKart[int]):
    i: int

    def requires(self) -> AskedLink | None:
        note(self)
        return AskedLink(i=self.i - 1) if self.i > 1 else None

    def run(self) -> int:
        return self.load(AskedLink(i=self.i - 1)) + 1 if self.i > 1 else 1


class Fibonacci(kart.TaskOnKart[int]):
    i: int
    one: Fibonacci | None = None
    two: Fibonacci | None = None

    def run(self) -> int:
        return self.i if self.one is None or self.two is None else self.load(self.one) + self.load(self.two)


class AskedFibonacci(kart.TaskOnKart[int]):
    i: int

    def requires(self) -> list[AskedFibonacci]:
        note(self)
        return [AskedFibonacci(i=self.i - 1), AskedFibonacci(i=self.i - 2)] if self.i > 1 else []

    def run(self) -> int:
        return sum(self.load()) if self.i > 1 else self.i


class Cell(kart.TaskOnKart[int]):
    layer: int
    i: int
    below: tuple[Cell, ...] = ()

    def run(self) -> int:
        return self.i + max(map(self.load, self.below), default=0)


class AskedCell(kart.TaskOnKart[int]):
    layer: int
    i: int

    def requires(self) -> tuple[AskedCell, ...]:
        note(self)
        return tuple(AskedCell(layer=self.layer - 1, i=i) for i in range(20)) if self.layer else ()

    def run(self) -> int:
        return self.i + max(self.load(), default=0)


class Leaf(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        return self.i


class Root(kart.TaskOnKart[int]):
    leaves: tuple[Leaf, ...]

    def run(self) -> int:
        return sum(self.load(self.leaves))


class AskedRoot(kart.TaskOnKart[int]):
    n: int

    def requires(self) -> list[Leaf]:
        note(self)
        return [Leaf(i=i) for i in range(self.n)]

    def run(self) -> int:
        return sum(self.load())


def chain(depth: int) -> Link:
    task = Link(i=1)
    for i in range(2, depth + 1):
        task = Link(i=i, before=task)
    return task


def fibonacci(depth: int) -> Fibonacci:
    two, one = Fibonacci(i=0), Fibonacci(i=1)
    for i in range(2, depth + 1):
        two, one = one, Fibonacci(i=i, one=one, two=two)
    return one


def lattice(layers: int) -> Cell:
    row: tuple[Cell, ...] = ()
    for layer in range(layers):
        row = tuple(Cell(layer=layer, i=i, below=row) for i in range(20))
    return Cell(layer=layers, i=0, below=row)


def root(leaves: int) -> Root:
    return Root(leaves=tuple(Leaf(i=i) for i in range(leaves)))


GRAPHS: dict[str, tuple[Callable[[int], kart.TaskOnKart[Any]], int, int]] = {
    "a chain by fields": (chain, DEEP, DEEP),
    "a chain by requires()": (lambda n: AskedLink(i=n), DEEP, DEEP),
    "i-1 and i-2 by fields": (fibonacci, 500, 501),
    "i-1 and i-2 by requires()": (lambda n: AskedFibonacci(i=n), 500, 501),
    "a lattice by fields": (lattice, 50, 1001),
    "a lattice by requires()": (lambda n: AskedCell(layer=n, i=0), 50, 1001),
    "a fan by fields": (root, 10_000, 10_001),
    "a fan by requires()": (lambda n: AskedRoot(n=n), 10_000, 10_001),
}
"""What makes a graph of a size, the size, and how many tasks it then has."""

each_graph = pytest.mark.parametrize(("make", "size", "tasks"), GRAPHS.values(), ids=GRAPHS)


# --- depth and width


@each_graph
def test_a_graph_of_any_depth_and_width_is_planned(
    make: Callable[[int], kart.TaskOnKart[Any]], size: int, tasks: int, memory: str
) -> None:
    plan = kart.plan(make(size), workspace_directory=memory)
    assert len(plan.nodes) == tasks == len(plan.to_run)


@each_graph
def test_planning_takes_time_linear_in_the_edges(
    make: Callable[[int], kart.TaskOnKart[Any]], size: int, tasks: int, memory: str
) -> None:
    size = min(size, 2000)
    kart.plan(make(2), workspace_directory=memory)  # what is done once for a class

    def plan(size: int) -> int:
        return calls(lambda: kart.plan(make(size), workspace_directory=memory))

    half = plan(size // 2)
    assert plan(size) < 2.2 * half


@each_graph
def test_what_runs_before_what_is_found_in_time_linear_in_the_edges(
    make: Callable[[int], kart.TaskOnKart[Any]], size: int, tasks: int, memory: str
) -> None:
    size = min(size, 1000)
    execute(make(2), workspace_directory=memory)

    def run(size: int, where: str) -> int:
        return calls(lambda: execute(make(size), workspace_directory=f"{memory}/{where}"))

    half = run(size // 2, "half")
    # How often results of other processes come in together depends on the moment; quadratic would be four times.
    assert run(size, "whole") < (3 if IN_PROCESSES else 2.2) * half


@each_graph
def test_requires_is_called_once_for_each_task(
    make: Callable[[int], kart.TaskOnKart[Any]], size: int, tasks: int, memory: str
) -> None:
    top = make(size)
    kart.plan(top, workspace_directory=memory)
    kart.plan(top, workspace_directory=memory)
    assert asked() <= {1}


@pytest.mark.parametrize(
    "make",
    [lambda: AskedFibonacci(i=60), lambda: AskedCell(layer=4, i=0), lambda: AskedRoot(n=50)],
    ids=["i-1 and i-2", "a lattice", "a fan"],
)
def test_requires_is_called_once_in_the_life_of_a_task(make: Callable[[], kart.TaskOnKart[Any]]) -> None:
    top = make()
    assert not asked(), "making a task asks nothing"
    kart.plan(top)
    first = kart.build(top)
    assert kart.build(top, rerun=True) == first
    assert top.complete()
    top.load()
    assert asked() == {1}


def test_a_chain_of_20000_runs_and_is_reused(memory: str) -> None:
    top = chain(DEEP)
    assert kart.build(top, workspace_directory=memory) == DEEP
    report = execute(top, workspace_directory=memory)
    assert (len(report.ran), report.reused) == (0, [top])


def test_a_chain_of_20000_by_requires_runs(memory: str) -> None:
    assert kart.build(AskedLink(i=DEEP), workspace_directory=memory) == DEEP
    assert asked() == {1}


def test_a_graph_with_more_paths_than_atoms_runs_each_task_once() -> None:
    report = execute(fibonacci(500))
    assert len(report.ran) == len(set(report.ran)) == 501
    assert kart.build(fibonacci(500)) == kart.build(AskedFibonacci(i=500)) > 10**100


@pytest.mark.parametrize("make", [lattice, lambda layers: AskedCell(layer=layers, i=0)], ids=["fields", "requires"])
def test_a_lattice_runs_each_task_once(make: Callable[[int], kart.TaskOnKart[int]]) -> None:
    top = make(50)
    report = execute(top)
    assert len(report.ran) == len(set(report.ran)) == 1001
    assert kart.build(top) == 19 * 50


def test_10000_leaves_run_under_one_root(memory: str) -> None:
    assert kart.build(root(10_000), workspace_directory=memory) == sum(range(10_000))


@pytest.mark.parametrize("setting", ["strict_check", "modification_time_check", "rerun"])
def test_a_setting_that_looks_upstream_works_on_a_chain_of_20000(setting: str, memory: str) -> None:
    top = chain(DEEP)
    plan = kart.plan(top, workspace_directory=memory, **{setting: True})
    assert len(plan.to_run) == DEEP


def test_a_deep_graph_is_looked_at_from_the_top_with_strict_check(memory: str) -> None:
    top = chain(3000)
    kart.build(top, workspace_directory=memory)
    strict = top.clone(strict_check=True, workspace_directory=memory)
    for i in (top, strict):
        assert execute(i, workspace_directory=memory, strict_check=True).ran == []


def test_rerun_from_the_bottom_of_a_deep_graph_reruns_all_of_it(memory: str) -> None:
    top = fibonacci(500)
    kart.build(top, workspace_directory=memory)
    assert len(execute(top, workspace_directory=memory, rerun_from=["Fibonacci"]).ran) == 501


# --- a task of a deep graph is an object like any other


def test_equal_tasks_of_a_graph_with_many_paths_are_compared_without_walking_it() -> None:
    one, other = fibonacci(500), fibonacci(500)
    assert calls(lambda: one == other) < 10
    assert calls(lambda: hash(one)) < 10
    assert one == other
    assert hash(one) == hash(other)


def test_a_task_of_a_deep_graph_prints_as_one_short_line() -> None:
    assert repr(chain(DEEP)) == "Link(i=20000, before=Link(…))"


@pytest.mark.parametrize(
    ("make", "size"), [(chain, DEEP), (fibonacci, 500), (lattice, 50)], ids=["chain", "fibonacci", "lattice"]
)
def test_a_task_of_a_deep_graph_is_pickled_and_copied(make: Callable[[int], kart.TaskOnKart[int]], size: int) -> None:
    top = make(size)
    data = pickle.dumps(top)
    again = pickle.loads(data)
    assert again == top == copy.deepcopy(top)
    assert again.unique_id == top.unique_id


def test_a_pickled_graph_holds_each_task_once() -> None:
    assert len(pickle.dumps(fibonacci(400))) < 2.2 * len(pickle.dumps(fibonacci(200)))


def test_a_deep_graph_is_dropped_without_recursion() -> None:
    top = chain(DEEP)
    assert top.unique_id
    del top


# --- circles


class Circle(kart.TaskOnKart[int]):
    i: int

    def requires(self) -> Circle:
        return Circle(i=(self.i + 1) % 3)


class Above(kart.TaskOnKart[int]):
    circle: Circle


class Itself(kart.TaskOnKart[int]):
    def requires(self) -> Itself:
        return self


@pytest.mark.parametrize("look", [kart.plan, kart.build, lambda task: task.unique_id])
def test_a_cycle_is_an_error_that_prints_the_cycle(look: Callable[[Any], object]) -> None:
    with pytest.raises(kart.GraphError, match=r"Circle\(i=0\) → Circle\(i=1\) → Circle\(i=2\) → Circle\(i=0\)"):
        look(Circle(i=0))


def test_of_a_cycle_below_the_root_the_cycle_alone_is_printed() -> None:
    with pytest.raises(kart.GraphError) as error:
        kart.build(Above(circle=Circle(i=1)))
    assert "Circle(i=1) → Circle(i=2) → Circle(i=0) → Circle(i=1)" in str(error.value)
    assert "Above" not in str(error.value)


def test_a_task_that_requires_itself_is_a_cycle() -> None:
    with pytest.raises(kart.GraphError, match=r"Itself\(\) → Itself\(\)"):
        kart.build(Itself())


def test_a_graph_that_cannot_be_made_ends_with_50() -> None:
    with pytest.raises(kart.GraphError) as error:
        kart.plan(Circle(i=0))
    assert error.value.exit_code == 50


# --- the forms of requirements


class Bag(kart.TaskOnKart[list[str]]):
    """A task with requirements in every form that a field takes."""

    nothing: tuple[Leaf, ...] = ()
    absent: Leaf | None = None
    one: Leaf | None = None
    many: list[Leaf] = kart.parameter(factory=list)
    named: dict[str, Leaf] = kart.parameter(factory=dict)
    nested: dict[str, tuple[Leaf, ...]] = kart.parameter(factory=dict)

    def run(self) -> list[str]:
        return sorted(self.load())


def test_fields_without_tasks_are_no_requirements() -> None:
    plan = kart.plan(Bag())
    assert [node.task for node in plan.nodes] == [Bag()]
    assert Bag().requires() == {}


def test_tasks_in_any_form_of_field_are_requirements() -> None:
    leaves = [Leaf(i=i) for i in range(7)]
    bag = Bag(
        one=leaves[0], many=leaves[1:3], named={"a": leaves[3], "b": leaves[4]}, nested={"c": (leaves[5], leaves[6])}
    )
    assert {node.task for node in kart.plan(bag).nodes} == {bag, *leaves}
    assert kart.build(bag) == ["many", "named", "nested", "one"]


class Given(kart.TaskOnKart[Any]):
    """A task whose `requires()` gives one of the forms that it may."""

    form: str
    forms: ClassVar[dict[str, Any]] = {
        "none": None,
        "empty tuple": (),
        "empty mapping": {},
        "a task": Leaf(i=1),
        "a list": [Leaf(i=1), Leaf(i=2)],
        "a mapping": {"a": Leaf(i=1), "b": Leaf(i=2)},
        "nested": {"a": [Leaf(i=1), None], "b": {"c": (Leaf(i=2), Leaf(i=3))}},
    }

    def requires(self) -> Any:
        return self.forms[self.form]

    def run(self) -> Any:
        if not self.forms[self.form]:
            return "nothing"
        return self.load()


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("none", "nothing"),
        ("empty tuple", "nothing"),
        ("empty mapping", "nothing"),
        ("a task", 1),
        ("a list", [1, 2]),
        ("a mapping", {"a": 1, "b": 2}),
        ("nested", {"a": [1, None], "b": {"c": [2, 3]}}),
    ],
)
def test_requires_may_give_nothing_a_task_or_several_in_any_nest(form: str, value: Any) -> None:
    assert kart.build(Given(form=form)) == value


class Wrong(kart.TaskOnKart[int]):
    def requires(self) -> Any:
        return [Leaf(i=1), "Leaf"]


def test_a_requirement_that_is_no_task_is_an_error_that_names_it() -> None:
    with pytest.raises(kart.GraphError, match=r"Wrong\(\).*str"):
        kart.build(Wrong())


class Replaced(kart.TaskOnKart[int]):
    leaf: Leaf

    def requires(self) -> None:
        return None

    def run(self) -> int:
        return 1


def test_requires_replaces_the_fields_as_requirements() -> None:
    report = execute(Replaced(leaf=Leaf(i=1)))
    assert report.ran == [Replaced(leaf=Leaf(i=1))]


# --- one id, several instances; one path, several tasks


class Pair(kart.TaskOnKart[int]):
    one: Leaf
    other: Leaf

    def run(self) -> int:
        return self.load(self.one) + self.load(self.other)


def test_one_id_with_two_workspaces_is_an_error_that_names_both() -> None:
    pair = Pair(one=Leaf(i=1, workspace_directory="here"), other=Leaf(i=1, workspace_directory="there"))
    with pytest.raises(kart.GraphError, match=r"Leaf\(i=1\).*here.*there"):
        kart.plan(pair)


def test_one_workspace_by_two_spellings_is_one(tmp_path: Path) -> None:
    pair = Pair(one=Leaf(i=1, workspace_directory="here"), other=Leaf(i=1, workspace_directory=f"{tmp_path}/here/"))
    assert kart.build(pair) == 2


@pytest.mark.parametrize("which", ["one", "other"])
def test_of_several_instances_of_one_id_any_may_ask_for_rerun(which: str) -> None:
    kart.build(Pair(one=Leaf(i=1), other=Leaf(i=1)))
    leaves = {"one": Leaf(i=1), "other": Leaf(i=1)} | {which: Leaf(i=1, rerun=True)}
    assert len(execute(Pair(**leaves)).ran) == 2


class OnePath(kart.TaskOnKart[int]):
    i: int

    def output(self) -> kart.Target:
        return self.make_target("result.pkl", use_unique_id=False)

    def run(self) -> int:
        return self.i


class Paths(kart.TaskOnKart[int]):
    tasks: tuple[OnePath, ...]

    def run(self) -> int:
        return sum(self.load(self.tasks))


def test_two_tasks_with_one_path_are_an_error_that_names_both_and_the_path() -> None:
    with pytest.raises(kart.GraphError) as error:
        kart.plan(Paths(tasks=(OnePath(i=1), OnePath(i=2))))
    for fact in ("OnePath(i=1)", "OnePath(i=2)", "result.pkl"):
        assert fact in str(error.value)


def test_two_tasks_with_one_path_in_two_workspaces_are_no_error() -> None:
    paths = Paths(tasks=(OnePath(i=1), OnePath(i=2, workspace_directory="elsewhere")))
    assert kart.build(paths) == 3


class TwoOutputs(kart.TaskOnKart[Any]):
    def output(self) -> Any:
        return {"a": self.make_target("same.pkl"), "b": self.make_target("same.pkl")}

    def run(self) -> None:
        self.dump(1, "a")
        self.dump(2, "b")


def test_two_outputs_of_one_task_with_one_path_are_an_error() -> None:
    with pytest.raises(kart.KartError, match=r"same"):
        kart.build(TwoOutputs())


def test_two_classes_with_one_id_are_an_error() -> None:
    def make() -> type[kart.TaskOnKart[Any]]:
        class Twin(kart.TaskOnKart[int]):
            def run(self) -> int:
                return 1

        return Twin

    class Both(kart.TaskOnKart[int]):
        one: kart.TaskOnKart[Any]
        other: kart.TaskOnKart[Any]

    with pytest.raises(kart.GraphError, match="Twin"):
        kart.plan(Both(one=make()(), other=make()()))


# --- order


class Urgent(kart.TaskOnKart[int], priority=1):
    i: int

    def run(self) -> int:
        return self.i


class Mixed(kart.WrapperTask):
    tasks: tuple[kart.TaskOnKart[int], ...]


def test_each_task_runs_after_those_that_it_requires() -> None:
    report = execute(lattice(5))
    place = {task: i for i, task in enumerate(report.ran)}
    for task in report.ran:
        assert isinstance(task, Cell)
        assert all(place[below] < place[task] for below in task.below)


def test_of_two_tasks_that_could_run_the_one_of_higher_priority_runs_first() -> None:
    started: list[str | None] = []

    def listen(event: Event) -> None:
        if event.kind == "task_started":
            started.append(event.unique_id)

    execute(Mixed(tasks=(Leaf(i=1), Urgent(i=2), Leaf(i=3))), listen=[listen], workers=1)
    assert started == [task.unique_id for task in (Urgent(i=2), Leaf(i=1), Leaf(i=3))]


def test_several_roots_share_what_they_require() -> None:
    one, other = Root(leaves=(Leaf(i=1), Leaf(i=2))), Root(leaves=(Leaf(i=2), Leaf(i=3)))
    report = execute(one, other)
    assert sorted(task.i for task in report.ran if isinstance(task, Leaf)) == [1, 2, 3]
    assert kart.build(one, other) == (3, 5)
