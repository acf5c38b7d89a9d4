"""The promises of a `run` that yields tasks: they are built, their values sent back, and the record names them."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

import kart_core as kart
from kart_core import config
from kart_core.building import execute
from tests.traces import note, noted

if TYPE_CHECKING:
    from tests.conftest import Files

pytestmark = pytest.mark.usefixtures("project")


class Leaf(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        note(f"leaf {self.i}")
        return self.i


class Above(kart.TaskOnKart[int]):
    leaf: Leaf

    def run(self) -> int:
        return self.load(self.leaf) * 10


class Fails(kart.TaskOnKart[int]):
    def run(self) -> int:
        raise LookupError("inside")


class Asks(kart.TaskOnKart[Any]):
    """Yields what its kind says, and returns what is sent back."""

    kind: str

    def run(self) -> Any:
        note("asks")
        kinds: dict[str, Any] = {
            "a task": Leaf(i=1),
            "a list": [Leaf(i=1), Leaf(i=2)],
            "a tuple": (Leaf(i=1), Leaf(i=2)),
            "a mapping": {"a": Leaf(i=1), "b": [Leaf(i=2), None]},
            "with requirements": Above(leaf=Leaf(i=3)),
            "an empty list": [],
            "None": None,
            "a number": 3,
            "a failing task": [Leaf(i=1), Fails()],
        }
        return (yield kinds[self.kind])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("a task", 1),
        ("a list", [1, 2]),
        ("a tuple", [1, 2]),
        ("a mapping", {"a": 1, "b": [2, None]}),
        ("with requirements", 30),
        ("an empty list", []),
    ],
)
def test_the_values_of_the_tasks_that_are_yielded_are_sent_back(kind: str, value: Any) -> None:
    assert kart.build(Asks(kind=kind)) == value


def test_what_is_yielded_is_stored_like_any_result_and_reused() -> None:
    kart.build(Leaf(i=1))
    assert noted() == ["leaf 1"]
    kart.build(Asks(kind="a list"))
    assert noted() == ["asks", "leaf 2"]
    assert Leaf(i=2).complete()
    assert execute(Asks(kind="a list")).ran == []


class Steps(kart.TaskOnKart[int]):
    """Asks for the next task by the value of the one before."""

    def run(self) -> Any:
        i = 1
        while i < 50:
            i = 2 * (yield Leaf(i=i))
        self.dump(i)


def test_a_run_may_ask_for_the_next_task_by_the_value_of_the_last() -> None:
    assert kart.build(Steps()) == 64
    assert noted() == [f"leaf {i}" for i in (1, 2, 4, 8, 16, 32)]


def test_the_record_names_what_was_asked_for_and_read() -> None:
    kart.build(Steps())
    requirements = kart.record(Steps()).requirements
    assert [required.unique_id for required in requirements] == [Leaf(i=i).unique_id for i in (1, 2, 4, 8, 16, 32)]
    assert [required.attempt for required in requirements] == [
        kart.record(Leaf(i=i)).attempt for i in (1, 2, 4, 8, 16, 32)
    ]


class Outer(kart.TaskOnKart[list[int]]):
    depth: int

    def run(self) -> Any:
        below = (yield Outer(depth=self.depth - 1)) if self.depth else []
        return [*below, random.randint(0, 10**9)]


def test_tasks_that_are_yielded_may_yield_tasks() -> None:
    numbers = kart.build(Outer(depth=10))
    assert len(set(numbers)) == 11


class Draws(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        return random.randint(0, 10**9) + self.i


class DrawsBetween(kart.TaskOnKart[list[int]]):
    ask: int = kart.parameter(default=0, significant=False)

    def run(self) -> Any:
        first = random.random()
        if self.ask:
            yield [Draws(i=i) for i in range(self.ask)]
        return [first, random.random()]


def test_a_task_draws_the_same_numbers_whether_or_not_it_asks_for_others_in_between() -> None:
    alone = kart.build(DrawsBetween())
    assert kart.build(DrawsBetween(ask=3), rerun=True) == alone
    assert kart.build(DrawsBetween(ask=3), rerun=True) == alone, "nor whether they are stored already"


def test_a_task_that_is_yielded_draws_the_same_numbers_as_when_it_is_built_alone() -> None:
    kart.build(DrawsBetween(ask=3))
    asked = [kart.build(Draws(i=i)) for i in range(3)]
    assert asked == [kart.build(Draws(i=i), rerun=True) for i in range(3)]


def test_the_callers_generator_goes_on_undisturbed() -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    kart.build(DrawsBetween(ask=3))
    assert random.random() == expected


class DumpsFirst(kart.TaskOnKart[int]):
    def run(self) -> Any:
        self.dump(5)
        self.task_log["before"] = 1
        value = yield Leaf(i=1)
        self.task_log["after"] = value
        assert kart.rng("a").random() != kart.rng("b").random()


def test_what_was_dumped_and_noted_before_is_kept() -> None:
    assert kart.build(DumpsFirst()) == 5
    assert DumpsFirst().task_log == {"before": 1, "after": 1}


def test_settings_of_the_run_hold_for_what_is_yielded(workspace: Files) -> None:
    elsewhere = workspace.beside("elsewhere")
    kart.build(Asks(kind="a list"), workspace_directory=elsewhere.url)
    assert len(elsewhere.results()) == 3
    assert not workspace.is_there()


def test_a_rerun_of_the_root_reruns_nothing_of_what_it_yields() -> None:
    kart.build(Asks(kind="a list"))
    noted()
    kart.build(Asks(kind="a list"), rerun=True)
    assert noted() == ["asks"]


# --- failures


@pytest.mark.parametrize(("kind", "fact"), [("None", "None"), ("a number", "int")])
def test_what_is_no_task_is_refused_by_name(kind: str, fact: str) -> None:
    with pytest.raises(kart.BuildError) as error:
        kart.build(Asks(kind=kind))
    [failure] = error.value.failures.values()
    assert isinstance(failure, kart.KartError)
    assert "Asks" in str(failure)
    assert fact in str(failure)
    assert "run()" in str(failure)


def test_a_failure_of_what_is_yielded_fails_the_task_and_is_named_with_its_exception() -> None:
    with pytest.raises(kart.BuildError, match=r"Fails\(\): LookupError: inside") as error:
        kart.build(Asks(kind="a failing task"))
    inner = error.value.failures[Asks(kind="a failing task")]
    assert isinstance(inner, kart.BuildError)
    assert isinstance(inner.failures[Fails()], LookupError)
    assert inner.__cause__ is inner.failures[Fails()], "a traceback shows where it began"
    assert Leaf(i=1).complete()
    assert not Asks(kind="a failing task").complete()


def test_missing_data_of_what_is_yielded_is_exit_code_20(workspace: Files) -> None:
    class Data(kart.ExternalTask[str]):
        def output(self) -> kart.Target:
            return self.make_target("data.txt", use_unique_id=False)

    class AsksForData(kart.TaskOnKart[str]):
        def run(self) -> Any:
            return (yield Data())

    assert execute(AsksForData()).exit_code == 20
    workspace.write("data.txt", "data")
    assert kart.build(AsksForData()) == "data"


def test_a_run_is_told_of_the_failure_where_it_yielded() -> None:
    class Careful(kart.TaskOnKart[str]):
        def run(self) -> Any:
            try:
                yield Fails()
            except kart.BuildError as error:
                return f"went on after {len(error.failures)}"

    assert kart.build(Careful()) == "went on after 1"


def test_what_a_run_opened_is_closed_when_what_it_yielded_fails() -> None:
    class Opens(kart.TaskOnKart[str]):
        def run(self) -> Any:
            try:
                yield Fails()
            finally:
                note("closed")

    held = execute(Opens())
    assert noted() == ["closed"]
    assert held.failures


class Itself(kart.TaskOnKart[int]):
    def run(self) -> Any:
        return (yield Itself())


def test_a_task_that_yields_itself_is_an_error() -> None:
    with pytest.raises(kart.BuildError, match=r"Itself\(\) → Itself\(\)"):
        kart.build(Itself())


class Ping(kart.TaskOnKart[int]):
    def run(self) -> Any:
        return (yield Pong())


class Pong(kart.TaskOnKart[int]):
    def run(self) -> Any:
        return (yield Ping())


def test_tasks_that_yield_each_other_are_an_error_that_prints_the_circle() -> None:
    with pytest.raises(kart.BuildError, match=r"Ping\(\) → Pong\(\) → Ping\(\)"):
        kart.build(Ping())


class Builds(kart.TaskOnKart[list[Any]]):
    """Builds another task in its `run`, without yielding it."""

    def run(self) -> list[Any]:
        first = random.random()
        value = kart.build(DrawsBetween(ask=2))
        self.task_log["first"] = first
        return [value, first, random.random()]


def test_a_build_inside_of_a_run_is_a_build_like_any_other() -> None:
    value, first, second = kart.build(Builds())
    assert value == kart.build(DrawsBetween())
    assert Builds().task_log == {"first": first}
    assert kart.build(Builds(), rerun=True) == [value, first, second]


def test_a_failure_after_a_yield_leaves_nothing_of_the_task(workspace: Files) -> None:
    class Late(kart.TaskOnKart[int]):
        def run(self) -> Any:
            self.dump(b"a" * (3 << 20))  # type: ignore[arg-type]
            yield Leaf(i=1)
            raise ValueError("late")

    with pytest.raises(kart.BuildError, match="late"):
        kart.build(Late())
    assert not Late().complete()
    assert [path.rpartition("/")[2].split("_")[0] for path in workspace.results()] == ["Leaf"]


def test_a_set_of_tasks_that_is_yielded_comes_back_as_a_list_of_values() -> None:
    class AsksASet(kart.TaskOnKart[int]):
        def run(self) -> Any:
            values = yield {Leaf(i=1), Leaf(i=2)}
            return sum(values)

    assert kart.build(AsksASet()) == kart.build(Leaf(i=1)) + kart.build(Leaf(i=2))


def test_items_that_are_no_tasks_are_told_the_ways_to_store_them() -> None:
    class Returns(kart.TaskOnKart[Any]):
        def run(self) -> Any:
            return (i for i in range(3))

    class Yields(kart.TaskOnKart[Any]):
        def run(self) -> Any:
            yield 1

    for task in (Returns(), Yields()):
        with pytest.raises(kart.BuildError) as failed:
            kart.build(task)
        error = failed.value.failures[task]
        assert isinstance(error, kart.GraphError)
        for fact in ("the generator from run()", "gave a int", "self.dump(", "list"):
            assert fact in str(error)


class Anew(kart.TaskOnKart[int]):
    """Another value each time."""

    def run(self) -> int:
        note("anew")
        return int.from_bytes(os.urandom(6), "big")


class AsksForAnew(kart.TaskOnKart[int]):
    def run(self) -> Any:
        return (yield Anew())


class BuildsAnew(kart.TaskOnKart[int]):
    def run(self) -> int:
        return kart.build(Anew())


@pytest.mark.parametrize("asker", [AsksForAnew(), BuildsAnew()])
def test_what_a_task_asks_for_and_the_run_needs_too_runs_once(asker: kart.TaskOnKart[int]) -> None:
    asked, drawn = kart.build(asker, Anew())
    assert asked == drawn
    assert noted() == ["anew"]


def test_a_task_that_asks_for_what_is_to_run_anew_gets_the_new_result() -> None:
    kart.build(AsksForAnew(), Anew())
    before = kart.build(Anew())
    asked, drawn = kart.build(AsksForAnew(), Anew(), rerun_from=["Anew", "AsksForAnew"])
    assert asked == drawn != before


class Later(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        note(f"later {self.i}")
        return self.i


class AsksForLater(kart.TaskOnKart[int]):
    i: int

    def run(self) -> Any:
        return (yield Later(i=self.i))


@pytest.mark.inline(reason="in several processes, some run at the same time")
def test_what_was_asked_for_comes_before_what_would_begin_anew() -> None:
    ran: list[str] = []
    asks = [AsksForLater(i=i) for i in range(8)]
    roots = [*asks, *(Later(i=i) for i in range(8))]
    execute(*roots, listen=[lambda e: ran.append(e.kind + (e.task or "")) if e.kind == "task_started" else None])
    half_done = most = 0
    for line in ran:
        half_done += 1 if line.endswith("AsksForLater") else -1
        most = max(most, half_done)
    assert most == 1


class Keyed(kart.TaskOnKart[int]):
    i: int
    key: kart.Secret = kart.parameter(significant=False)

    def run(self) -> int:
        return self.i + len(self.key.reveal())


class AsksForKeyed(kart.TaskOnKart[Any]):
    given: bool = False

    def run(self) -> Any:
        if not self.given:
            return (yield [Keyed(i=1), Keyed(i=2)])
        try:
            return (yield Keyed(i=1, key=kart.Secret("given in Python")))
        except kart.ParameterError as error:
            return str(error)


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_what_is_yielded_may_hold_a_configured_secret(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_KEYED__KEY", "swordfish")
    config.refresh()
    assert kart.build(AsksForKeyed(), executor=executor, workers=1 if executor == "inline" else 2) == [10, 11]


def test_a_secret_given_in_python_is_refused_where_it_is_yielded_to_other_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KART_KEYED__KEY", "swordfish")
    config.refresh()
    told = kart.build(AsksForKeyed(given=True), executor="processes", workers=2)
    assert "the secret 'key' of " in told
    assert "secrets do not travel" in told
