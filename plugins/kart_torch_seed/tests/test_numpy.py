"""numpy: a task's old-style functions draw from a bit generator of its own, and the caller's is not touched."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import kart_core as kart

NUMPY_57 = [79, 86, 5, 22, 79, 98, 56, 40, 81, 37]


class Call(kart.TaskOnKart[Any]):
    """Runs what a test says."""

    name: str = ""
    function: Any = kart.parameter(significant=False, private=True)
    fix_random_seed_value: int | None = 57

    def run(self) -> Any:
        return self.function()


def draw() -> list[int]:
    return [int(np.random.randint(0, 100)) for _ in range(10)]


def everything() -> list[Any]:
    """What old-style functions give, also those that keep half of what they drew for the next call."""
    return [draw(), np.random.randn(3).tolist(), np.random.permutation(5).tolist(), np.random.standard_normal()]


def test_the_stream_is_that_of_a_bare_numpy_seed(anew: Any) -> None:
    drawn = anew(Call(function=everything))
    np.random.seed(57)
    assert drawn == everything()
    assert drawn[0] == NUMPY_57


@pytest.mark.parametrize("drawn_before", [0, 1, 2], ids=["fresh", "in the middle of a pair", "after a pair"])
def test_the_callers_stream_goes_on_as_if_no_task_had_run(anew: Any, drawn_before: int) -> None:
    def caller(between: Any) -> list[Any]:
        np.random.seed(1)
        np.random.randn(drawn_before)
        between()
        return everything()

    assert caller(lambda: anew(Call(function=everything), Call(name="other", function=draw))) == caller(lambda: None)


def fail() -> None:
    np.random.randn()
    raise ValueError("no")


def test_the_callers_stream_goes_on_where_a_task_failed(anew: Any) -> None:
    np.random.seed(1)
    expected = everything()
    np.random.seed(1)
    with pytest.raises(kart.BuildError):
        anew(Call(function=fail))
    assert everything() == expected


def test_the_callers_bit_generator_is_not_touched_while_a_task_draws(anew: Any) -> None:
    callers = np.random.get_bit_generator()
    before = pickle.dumps(callers)

    def look() -> bool:
        np.random.randn(3)
        return np.random.get_bit_generator() is not callers and pickle.dumps(callers) == before

    assert anew(Call(function=look))
    assert np.random.get_bit_generator() is callers


def test_a_bit_generator_of_the_callers_choice_is_given_back(anew: Any) -> None:
    original = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        np.random.randn()
        expected = np.random.RandomState(np.random.PCG64(3))
        expected.randn()
        assert anew(Call(function=draw)) == NUMPY_57
        assert np.random.randn(4).tolist() == expected.randn(4).tolist()
    finally:
        np.random.set_bit_generator(original)


def test_a_task_that_puts_in_a_bit_generator_does_not_change_what_others_draw(anew: Any) -> None:
    callers = np.random.get_bit_generator()

    def meddle() -> int:
        np.random.set_bit_generator(np.random.PCG64(3))
        return 1

    assert anew(Call(function=meddle), Call(name="next", function=draw))[1] == NUMPY_57
    assert np.random.get_bit_generator() is callers


@pytest.mark.parametrize("methods", [("numpy.random.seed",), ()], ids=["seeded", "not seeded"])
def test_a_task_goes_on_where_it_was_after_it_built_another(anew: Any, methods: Sequence[str]) -> None:
    def nested() -> list[Any]:
        first = np.random.randn(3).tolist()
        kart.build(Call(name="inside", function=everything, fix_random_seed_methods=methods))
        return [first, *everything()]

    def plain() -> list[Any]:
        return [np.random.randn(3).tolist(), *everything()]

    assert anew(Call(function=nested)) == anew(Call(function=plain))


def test_a_task_that_names_no_method_finds_the_callers_stream_whatever_ran_before(anew: Any) -> None:
    seeded, free = Call(function=draw), Call(name="free", function=draw, fix_random_seed_methods=[])
    np.random.seed(1)
    expected = draw()
    for tasks in ([seeded, free], [free, seeded]):
        np.random.seed(1)
        assert dict(zip(tasks, anew(*tasks), strict=True)) == {seeded: NUMPY_57, free: expected}


def test_new_style_generators_of_the_user_are_the_users(anew: Any) -> None:
    def new_style() -> list[int]:
        return np.random.default_rng(5).integers(0, 100, 5).tolist()

    assert anew(Call(function=new_style)) == new_style()


@pytest.mark.parametrize(
    "dtype", ["<f8", "<M8[ns]", "<U3", [("x", "<f4"), ("y", "i1", (2, 2))]], ids=["float", "time", "text", "fields"]
)
def test_dtypes_may_be_parameters(dtype: Any) -> None:
    class Cast(kart.TaskOnKart[int]):
        dtype: Any

        def run(self) -> int:
            return np.dtype(self.dtype).itemsize

    task = Cast(dtype=np.dtype(dtype))
    assert task.unique_id == Cast(dtype=np.dtype(dtype)).unique_id != Cast(dtype=np.dtype("<i2")).unique_id
    assert kart.build(task) == np.dtype(dtype).itemsize
