"""torch: seeded where a task asks for it, on every device, and given back as the caller had it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import kart_core as kart

torch: Any = pytest.importorskip("torch")

TORCH_57 = [0.14460121095180511, -0.11649507284164429, 0.6928958296775818, -0.916053831577301, 0.7317505478858948]
METHODS = ["torch.manual_seed", "torch.random.manual_seed"]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


class Call(kart.TaskOnKart[Any]):
    """Runs what a test says, with torch seeded."""

    name: str = ""
    function: Any = kart.parameter(significant=False, private=True)
    fix_random_seed_methods: Sequence[str] = ("random.seed", "numpy.random.seed", "torch.manual_seed")
    fix_random_seed_value: int | None = 57

    def run(self) -> Any:
        return self.function()


def draw() -> list[float]:
    return [torch.randn(1).tolist()[0] for _ in range(5)]


def draw_on_cuda() -> list[list[float]]:
    return [torch.randn(5, device=f"cuda:{i}").tolist() for i in range(torch.cuda.device_count())]


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.mark.parametrize("method", METHODS)
def test_the_stream_is_that_of_a_bare_manual_seed(anew: Any, method: str) -> None:
    first, second = Call(function=draw, fix_random_seed_methods=[method]), Call(function=draw)
    assert anew(first, second) == (TORCH_57, TORCH_57) == anew(second, first)


def test_large_tensors_are_the_same_too(anew: Any) -> None:
    def large() -> Any:
        return torch.randn(1000), torch.rand(7, 5), torch.randperm(100), torch.nn.Linear(8, 4).weight.detach()

    one, other = (anew(Call(function=large)) for _ in range(2))
    torch.manual_seed(57)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(one, other, large(), strict=True))


def fail() -> None:
    draw()
    raise ValueError("no")


@pytest.mark.parametrize("function", [draw, fail], ids=["that succeeds", "that fails"])
@pytest.mark.parametrize("methods", [*([method] for method in METHODS), [*METHODS, "torch.cuda.manual_seed_all"]])
def test_the_callers_generators_go_on_as_if_no_task_had_run(anew: Any, function: Any, methods: Sequence[str]) -> None:
    def caller() -> list[Any]:
        return [draw(), random.random(), np.random.randn(3).tolist()]

    def begin() -> None:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        caller()

    begin()
    expected = caller()
    begin()
    try:
        anew(Call(function=function, fix_random_seed_methods=["random.seed", "numpy.random.seed", *methods]))
    except kart.BuildError:
        assert function is fail
    assert caller() == expected


def test_seeding_cuda_alone_leaves_the_cpu_to_the_caller(anew: Any) -> None:
    torch.manual_seed(1)
    expected = draw()
    torch.manual_seed(1)
    assert anew(Call(function=draw, fix_random_seed_methods=["torch.cuda.manual_seed_all"])) == expected


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="CUDA is in use")
def test_a_seed_that_waits_for_cuda_is_the_tasks_in_the_task_and_the_callers_afterwards(anew: Any) -> None:
    def waiting() -> list[Any]:
        return [call[0] for call in torch.cuda._lazy_seed_tracker.get_calls() if call]

    torch.cuda.manual_seed_all(1)
    callers = waiting()
    seen: list[Any] = []
    anew(Call(function=lambda: len(seen.extend(waiting()) or seen)))
    assert len(seen) == 1
    assert seen != callers
    assert waiting() == callers


def test_a_task_that_does_not_name_torch_leaves_it_alone(anew: Any) -> None:
    torch.manual_seed(1)
    expected = draw()
    tasks = [Call(function=draw), Call(name="free", function=draw, fix_random_seed_methods=[])]
    for order in (tasks, tasks[::-1]):
        torch.manual_seed(1)
        assert dict(zip(order, anew(*order), strict=True)) == {tasks[0]: TORCH_57, tasks[1]: expected}


def test_a_task_that_builds_another_draws_on_where_it_was(anew: Any) -> None:
    def nested() -> list[float]:
        first = [torch.randn(1).item() for _ in range(2)]
        kart.build(Call(name="inside", function=draw, fix_random_seed_value=5))
        return [*first, *(torch.randn(1).item() for _ in range(3))]

    assert anew(Call(function=nested)) == TORCH_57


# --- rng


def test_rng_gives_a_generator_of_torch_that_nothing_else_moves(anew: Any) -> None:
    def own(name: str, count: int) -> list[float]:
        return [torch.randn(1, generator=kart.rng(name, kind="torch")).item() for _ in range(count)]

    def disturbed() -> list[float]:
        first = own("x", 2)
        own("y", 3)
        draw()
        return [*first, *own("x", 3)]

    plain = anew(Call(function=lambda: own("x", 5)))
    assert anew(Call(function=disturbed)) == plain
    assert anew(Call(function=lambda: own("y", 5))) != plain
    assert anew(Call(name="other", function=lambda: own("x", 5))) != plain


def test_rng_leaves_the_tasks_stream_where_it_was(anew: Any) -> None:
    def drawing() -> list[float]:
        torch.randn(3, generator=kart.rng("x", kind="torch"))
        return draw()

    assert anew(Call(function=drawing)) == TORCH_57


# --- deterministic algorithms


def modes() -> list[Any]:
    return [
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    ]


ON = [True, False, False, True, ":4096:8"]


class Deterministic(Call):
    fix_random_seed_methods: Sequence[str] = ("torch.manual_seed", "torch.use_deterministic_algorithms")


def test_deterministic_algorithms_hold_for_the_tasks_that_name_them_and_no_others(anew: Any) -> None:
    off = modes()
    exact, free = Deterministic(function=modes), Call(function=modes)
    assert anew(exact, free) == (ON, off)
    assert anew(free, exact) == (off, ON)
    assert modes() == off


def test_deterministic_algorithms_are_off_in_what_a_task_builds_without_them(anew: Any) -> None:
    off = modes()

    def nested() -> Any:
        return kart.build(Call(name="inside", function=modes)), modes()

    assert anew(Deterministic(function=nested)) == (off, ON)
    assert modes() == off


def test_what_the_caller_had_set_is_given_back_also_after_a_failure(anew: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        before = modes()
        assert anew(Deterministic(function=modes)) == [*ON[:-1], ":16:8"]
        with pytest.raises(kart.BuildError):
            anew(Deterministic(function=fail))
        assert modes() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_deterministic_algorithms_by_configuration(folder: Any, anew: Any) -> None:
    (folder / "kart.toml").write_text(
        '[Call]\nfix_random_seed_methods = ["torch.manual_seed", "torch.use_deterministic_algorithms"]\n'
    )
    plain = Call(function=modes, fix_random_seed_methods=["torch.manual_seed"])
    named = Call(function=modes)
    assert anew(named) == ON
    assert named.unique_id != plain.unique_id
    kart.build(named)
    assert kart.record(named).seed["methods"] == ["torch.manual_seed", "torch.use_deterministic_algorithms"]


# --- devices that come into use late


class Late:
    """Two devices of a kind that comes into use late, as CUDA's do; a GPU is not needed to see whose seed they get.

    It has what torch has for such a kind, and torch's own generators, those of the CPU.
    """

    def __init__(self) -> None:
        self._lazy_seed_tracker = torch._utils._LazySeedTracker()
        self._generators = [torch.Generator(), torch.Generator()]
        self._used = False
        self.seed_all()

    def _is_in_bad_fork(self) -> bool:
        return False

    def is_initialized(self) -> bool:
        return self._used

    def seed_all(self) -> None:
        for generator in self._generators:
            generator.seed()

    def manual_seed_all(self, seed: int) -> None:
        def seed_now() -> None:
            for generator in self._generators:
                generator.manual_seed(seed)

        if self._used:
            seed_now()
        else:
            self._lazy_seed_tracker.queue_seed_all(seed_now, [])

    def get_rng_state_all(self) -> Any:
        return [generator.get_state() for generator in self._generators]

    def set_rng_state_all(self, states: Any) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def draw(self) -> list[float]:
        if not self._used:
            self._used = True
            for call in self._lazy_seed_tracker.get_calls():
                if call:
                    call[0]()
        return [torch.rand(1, generator=generator).item() for generator in self._generators]


@pytest.mark.parametrize("user", ["task", "a build inside the task", "caller"])
def test_a_device_is_the_tasks_in_the_task_and_the_callers_afterwards(anew: Any, monkeypatch: Any, user: str) -> None:
    def late(*, seeded: bool, used: bool) -> Any:
        device = Late()
        monkeypatch.setattr(torch, "xpu", device)
        if seeded:
            device.manual_seed_all(1)
        if used:
            device.draw()
        return device

    def drawing() -> list[list[float]]:
        if user != "a build inside the task":
            return [torch.xpu.draw(), torch.xpu.draw()]
        kart.build(Call(name="inside", function=torch.xpu.draw, fix_random_seed_value=5))
        return [torch.xpu.draw(), torch.xpu.draw()]

    used = user == "caller"
    expected = late(seeded=True, used=used).draw()
    device = late(seeded=True, used=used)
    found = anew(Call(function=drawing))
    assert device.draw() == expected, "the caller's seed, or the caller's place in its stream"
    bare = late(seeded=False, used=True)
    bare.manual_seed_all(57)
    assert found == [bare.draw(), bare.draw()]
    untouched = late(seeded=False, used=False)
    drawn = anew(Call(function=drawing))
    assert drawn == found
    assert untouched.draw() not in drawn, "nobody seeded it: it has numbers of the system"


# --- on a GPU


@CUDA
def test_every_cuda_device_is_seeded_and_given_back(anew: Any) -> None:
    torch.cuda.manual_seed_all(1)
    draw_on_cuda()
    expected = draw_on_cuda()
    torch.cuda.manual_seed_all(1)
    draw_on_cuda()
    one, other = anew(Call(function=draw_on_cuda)), anew(Call(function=draw_on_cuda))
    assert one == other
    assert draw_on_cuda() == expected


@CUDA
@pytest.mark.parametrize("seeded", [True, False])
def test_a_task_that_first_uses_cuda_is_seeded_and_leaves_the_callers_seed_to_the_caller(
    ask: Any, seeded: bool
) -> None:
    before = [
        "import torch",
        "from collections.abc import Sequence",
        "class Draw(kart.TaskOnKart[list[float]]):",
        "    fix_random_seed_value: int | None = 57",
        "    fix_random_seed_methods: Sequence[str] = ('torch.manual_seed',)",
        "    def run(self): return torch.randn(5, device='cuda').tolist()",
        "torch.cuda.manual_seed_all(1)" if seeded else "",
    ]
    callers = "torch.randn(5, device='cuda').tolist()"
    alone = ask(callers, *before)
    first, then = ask(f"[kart.build(Draw(), rerun=True), {callers}]", *before)
    assert ask("kart.build(Draw(), rerun=True)", *before) == first
    assert (then == alone) is seeded
    assert then != first
