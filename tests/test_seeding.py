"""Seeding.

Each task draws the same numbers every time, wherever it runs, and the caller's generators stay the caller's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kart_core as kart
from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Plugin, Storage, Store, hookimpl
from tests.conftest import Project
from tests.traces import IN_PROCESSES, note, noted, notes

METHODS = ["random.seed", "numpy.random.seed"]
FIXED: dict[str, Any] = {"fix_random_seed_methods": METHODS, "fix_random_seed_value": 57}
NUMPY_57 = [79, 86, 5, 22, 79, 98, 56, 40, 81, 37]


def bare(seed: int, count: int = 10) -> list[int]:
    """What Python alone draws after a bare ``random.seed``."""
    generator = random.Random(seed)
    return [generator.randint(0, 100) for _ in range(count)]


def draw(count: int = 10) -> list[int]:
    return [random.randint(0, 100) for _ in range(count)]


class Draw(kart.TaskOnKart[list[int]]):
    name: str = ""

    def run(self) -> list[int]:
        return draw()


class DrawNumpy(kart.TaskOnKart[list[int]]):
    name: str = ""

    def run(self) -> list[int]:
        import numpy as np

        return [int(np.random.randint(0, 100)) for _ in range(10)]


class Call(kart.TaskOnKart[Any]):
    """Runs what a test says."""

    name: str = ""
    function: Any = kart.parameter(significant=False, private=True)
    upstream: tuple[Any, ...] = ()

    def run(self) -> Any:
        return self.function(self)


@pytest.fixture(autouse=True)
def stored_nowhere(project: Any) -> Iterator[None]:
    """Each test in a workspace of its own; the state of the process's generators is none of it."""
    before = random.getstate()
    yield
    random.setstate(before)


def anew(*tasks: Any, **given: Any) -> Any:
    """The values of tasks that all run now."""
    return kart.build(*tasks, workspace_directory=f"anew/{os.urandom(8).hex()}", **given)


# --- exactly these numbers


def test_random_gives_what_a_bare_random_seed_gives() -> None:
    assert anew(Draw(**FIXED)) == bare(57)


def test_numpy_gives_what_a_bare_numpy_seed_gives() -> None:
    assert anew(DrawNumpy(**FIXED)) == NUMPY_57


def test_the_numbers_are_the_same_on_every_run() -> None:
    assert [anew(Draw(**FIXED)) for _ in range(3)] == [bare(57)] * 3
    assert kart.build(Draw(**FIXED)) == kart.build(Draw(rerun=True, **FIXED)) == bare(57)


def test_the_numbers_are_the_same_for_the_task_that_runs_first_and_the_one_that_runs_last() -> None:
    tasks = [Draw(name=f"{i}", **FIXED) for i in range(5)] + [DrawNumpy(name=f"{i}", **FIXED) for i in range(5)]
    for order in (tasks, tasks[::-1]):
        values = anew(*order)
        assert list(values) == [bare(57) if isinstance(task, Draw) else NUMPY_57 for task in order]


def test_a_task_may_draw_after_it_loaded_inputs_and_wrote_a_log() -> None:
    def draw_late(task: Call) -> list[int]:
        assert task.load() == {"upstream": [bare(57), NUMPY_57]}
        task.task_log["note"] = 1
        logging.getLogger("user").warning("a line")
        return draw()

    assert anew(Call(function=draw_late, upstream=(Draw(**FIXED), DrawNumpy(**FIXED)), **FIXED)) == bare(57)


def busy(task: Call) -> None:
    """Everything that kart does for a running task."""
    task.load()
    list(task.load_generator())
    task.load(task.upstream[0])
    task.dump([1])
    task.dump(bytes(3_000_000))
    task.task_log["x"] = 1
    list(kart.progress(range(3)))
    kart.rng("other").random()
    logging.getLogger("user").error("a line")
    _ = kart.plan(Draw()), task.complete(), task.output(), repr(task), Draw(name="made inside").unique_id


def test_nothing_that_kart_does_inside_run_moves_the_generators() -> None:
    def interrupted(task: Call) -> None:
        import numpy as np

        drawn: list[int] = []
        for _ in range(3):
            busy(task)
            drawn.append(random.randint(0, 100))
            busy(task)
            drawn.append(int(np.random.randint(0, 100)))
        task.dump(drawn)

    drawn = anew(Call(function=interrupted, upstream=(Draw(**FIXED),), **FIXED))
    assert (drawn[::2], drawn[1::2]) == (bare(57, 3), NUMPY_57[:3])


@pytest.mark.parametrize("how", ["build", "yield"])
def test_a_task_that_builds_others_inside_its_run_draws_on_where_it_was(how: str) -> None:
    def nesting(task: Call) -> Any:
        import numpy as np

        first = draw(5), [int(np.random.randint(0, 100)) for _ in range(5)]
        others = [Draw(name="inside"), DrawNumpy(name="inside")]
        if how == "yield":
            yield others
        else:
            kart.build(*others)
        return [*first[0], *draw(5)], [*first[1], *(int(np.random.randint(0, 100)) for _ in range(5))]

    function: Callable[[Call], Any] = nesting
    if how == "build":

        def function(task: Call) -> Any:
            try:
                next(nesting(task))
            except StopIteration as end:
                return end.value

    class Nest(Call):
        if how == "yield":

            def run(self) -> Any:
                return (yield from nesting(self))

    assert anew(Nest(function=function, **FIXED)) == (bare(57), NUMPY_57)


def test_a_task_draws_the_same_when_it_is_built_inside_another() -> None:
    def build(task: Call) -> Any:
        return kart.build(Draw(), DrawNumpy())

    assert anew(Call(function=build)) == anew(Draw(), DrawNumpy())


def test_an_attempt_that_is_tried_again_draws_the_same() -> None:
    class Retried(kart.TaskOnKart[int], retries=2):
        def run(self) -> int:
            note(draw())
            if len(notes()) < 3:
                raise ValueError("not yet")
            return 1

    anew(Retried(**FIXED))
    assert noted() == [str(bare(57))] * 3


def test_zero_is_a_seed() -> None:
    zero = {**FIXED, "fix_random_seed_value": 0}
    assert anew(Draw(**zero)) == bare(0)
    assert anew(Draw()) != bare(0)
    assert Draw(**zero).unique_id != Draw().unique_id


@pytest.mark.parametrize("value", [-1, 2**32, True, 1.5, "57"])
def test_a_seed_that_generators_do_not_take_is_refused_at_once(value: Any) -> None:
    with pytest.raises(kart.ParameterError, match="fix_random_seed_value"):
        Draw(fix_random_seed_value=value)


def test_the_seed_and_the_methods_may_come_from_the_configuration(project: Any) -> None:
    project.write(
        "kart.toml",
        '[Draw]\nfix_random_seed_value = 57\nfix_random_seed_methods = ["random.seed", "numpy.random.seed"]\n',
    )
    assert anew(Draw()) == bare(57)


def state(task: Call) -> Any:
    return random.getstate()


def test_only_the_named_methods_are_called() -> None:
    seeded = random.Random(57).getstate()
    assert anew(Call(function=state, **FIXED)) == seeded
    assert anew(Call(function=state, fix_random_seed_methods=[], fix_random_seed_value=57)) != seeded


@pytest.mark.inline(reason="the caller's generators are those of the process that builds")
def test_a_task_that_names_no_method_draws_from_the_callers_generator() -> None:
    random.seed(1)
    before = random.getstate()
    assert anew(Call(function=state, fix_random_seed_methods=[])) == before


RECORDED = """
import sys
import kart_core as kart

class Plain(kart.TaskOnKart[int]):
    def run(self) -> int:
        return 1

if __name__ == "__main__":
    kart.build(Plain())
    print("numpy" in sys.modules, kart.record(Plain()).seed)
"""


def test_the_record_tells_the_same_methods_whatever_the_process_had_imported(project: Project) -> None:
    project.write("without.py", RECORDED)
    project.write("with_numpy.py", "import numpy\n" + RECORDED)
    without, with_numpy = (project.python(name).out.split(None, 1) for name in ("without.py", "with_numpy.py"))
    assert (without[0], with_numpy[0]) == ("False", "True")
    assert "numpy.random.seed" in without[1]
    assert without[1].partition("'methods'")[2] == with_numpy[1].partition("'methods'")[2]


def test_the_record_tells_the_seed_and_the_methods() -> None:
    task = DrawNumpy(**FIXED)
    kart.build(task)
    assert kart.record(task).seed == {"value": 57, "methods": METHODS}
    plain = Draw(name="plain")
    kart.build(plain)
    assert kart.record(plain).seed["value"] == int(plain.unique_id[:8], 16)


# --- with no value given


@settings(deadline=None, max_examples=5 if IN_PROCESSES else 10)
@given(st.lists(st.text(max_size=5), min_size=2, max_size=4, unique=True), st.randoms())
def test_with_no_value_given_each_task_has_a_stream_of_its_own_every_time(
    names: list[str], order: random.Random
) -> None:
    tasks: list[Any] = [kind(name=name) for name in names for kind in (Draw, DrawNumpy)]
    first = dict(zip(tasks, anew(*tasks), strict=True))
    order.shuffle(tasks)
    second = dict(zip(tasks, anew(*tasks), strict=True))
    assert first == second
    assert len({tuple(value) for value in first.values()}) == len(tasks)


# --- the caller's generators


def caller_draws() -> tuple[list[int], list[int]]:
    np = pytest.importorskip("numpy")
    return draw(), np.random.randint(0, 100, 10).tolist()


@pytest.fixture
def undisturbed() -> tuple[list[int], list[int]]:
    """What the caller draws next; the generators stand before it."""
    np = pytest.importorskip("numpy")
    states = random.getstate(), np.random.get_state()
    expected = caller_draws()
    random.setstate(states[0])
    np.random.set_state(states[1])
    return expected


def fail(task: Call) -> None:
    draw()
    raise ValueError("no")


def interrupt(task: Call) -> None:
    draw()
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda task: draw(), id="that succeeds"),
        pytest.param(fail, id="that fails"),
        pytest.param(
            interrupt,
            id="that is interrupted",
            marks=pytest.mark.inline(reason="the interruption comes while a task runs in the process that builds"),
        ),
    ],
)
def test_the_callers_generators_continue_undisturbed_after_a_build(undisturbed: Any, function: Any) -> None:
    tasks = [Draw(), DrawNumpy(), Draw(name="x", **FIXED), Call(function=function)]
    with contextlib.suppress(kart.BuildError, KeyboardInterrupt):
        anew(*tasks)
    assert caller_draws() == undisturbed


def test_looking_and_making_tasks_does_not_move_the_callers_generators(undisturbed: Any) -> None:
    task = Draw(**FIXED)
    _ = task.unique_id, task.complete(), kart.plan(task), repr(task), task.output().exists()
    assert caller_draws() == undisturbed


def test_builds_in_several_threads_each_get_their_numbers_and_leave_the_callers_alone(undisturbed: Any) -> None:
    found: dict[str, Any] = {}

    def slowly(task: Call) -> list[int]:
        drawn: list[int] = []
        for _ in range(10):
            drawn += draw(1)
            time.sleep(0.002)
        return drawn

    def build(i: int) -> None:
        tasks = [Call(name=f"{i} {j}", function=slowly, fix_random_seed_value=i) for j in range(3)]
        found[f"{i}"] = kart.build(*tasks, workspace_directory=f"thread{i}")

    threads = [threading.Thread(target=build, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"{i}": (bare(i),) * 3 for i in range(4)}
    assert caller_draws() == undisturbed


# --- numpy that is imported late


LATE = """\
import random, sys
import kart_core as kart


class Late(kart.TaskOnKart[list[int]]):
    fix_random_seed_value: int | None = 57
    way: str

    def run(self):
        names = {}
        exec(self.way, names)
        return [int(names["randint"](0, 100)) for _ in range(10)]


class Early(kart.TaskOnKart[list[int]]):
    def run(self):
        return [random.randint(0, 100) for _ in range(10)]


class Around(kart.TaskOnKart[list[int]]):
    fix_random_seed_value: int | None = 57
    late: bool = True

    def run(self):
        if self.late:
            yield Late(way=WAYS[0], fix_random_seed_value=5)
        else:
            kart.build(Late(way=WAYS[0], fix_random_seed_value=5))
        from numpy.random import randint
        return [int(randint(0, 100)) for _ in range(10)]


class Leaves(kart.TaskOnKart[bool]):
    early: Early

    def run(self):
        self.load(self.early)
        return "numpy" in sys.modules


def loaders():
    import numpy.random
    return [type(sys.modules[name].__spec__.loader).__module__ for name in ("numpy", "numpy.random")]


class Loaders(kart.TaskOnKart[list[str]]):
    def run(self):
        return loaders()


WAYS = [
    "import numpy; randint = numpy.random.randint",
    "import numpy as np; randint = lambda *words: np.random.randint(*words)",
    "from numpy.random import randint",
    "from numpy import random; randint = random.randint",
    "import numpy.random as generator; randint = generator.randint",
    "import importlib; randint = importlib.import_module('numpy.random').randint",
    "import uses_numpy; randint = uses_numpy.randint",
]
"""


@pytest.fixture
def late(project: Any) -> Callable[..., Any]:
    """The answer of a new process, which has not imported numpy, to an expression."""
    project.write("late.py", LATE)
    project.write("uses_numpy.py", "import numpy\nrandint = numpy.random.randint\n")

    def late(expression: str, *before: str) -> Any:
        ask = [
            "import json, random, sys, kart_core as kart",
            "from late import *",
            "assert 'numpy' not in sys.modules",
            *before,
            f"print(json.dumps({expression}))",
        ]
        done = project.python("-c", "\n".join(ask))
        assert done.code == 0, done.err
        return json.loads(done.out)

    return late


@pytest.mark.parametrize("way", range(7))
def test_a_task_that_imports_numpy_inside_run_is_not_too_late(late: Any, way: int) -> None:
    assert late(f"kart.build(Late(way=WAYS[{way}]))") == NUMPY_57


def test_tasks_that_import_numpy_inside_run_draw_the_same_first_and_last(late: Any) -> None:
    tasks = "[Late(way=WAYS[0]), Early(), Late(way=WAYS[2]), Early(fix_random_seed_value=1)]"
    one = late(f"list(kart.build(*{tasks}))")
    other = late(f"list(kart.build(*{tasks}[::-1]))[::-1]")
    assert one == other
    assert one[::2] == [NUMPY_57, NUMPY_57]


@pytest.mark.parametrize("yields", [True, False])
def test_a_task_is_not_too_late_where_one_that_it_builds_imported_numpy_first(late: Any, yields: bool) -> None:
    assert late(f"kart.build(Around(late={yields}))") == NUMPY_57


def test_numpy_that_is_imported_inside_run_is_the_callers_own_afterwards(late: Any) -> None:
    draws = "__import__('numpy').random.randint(0, 10**9, 5).tolist()"
    found = [late(draws, "kart.build(Late(way=WAYS[0]))") for _ in range(2)]
    assert found[0] != found[1], "not the stream of the task, which is the same every time"


def test_who_does_not_use_numpy_does_not_pay_for_it(late: Any) -> None:
    assert late("[kart.build(Leaves(early=Early())), 'numpy' in sys.modules]") == [False, False]


def test_the_import_hook_is_gone_after_the_run(late: Any) -> None:
    hooks = "[type(finder).__name__ for finder in sys.meta_path]"
    assert late(f"{hooks} == before", f"before = {hooks}", "kart.build(Early(), Late(way=WAYS[0]))")


def test_a_module_that_is_imported_inside_run_keeps_its_own_loader(late: Any) -> None:
    assert late("[kart.build(Loaders()), loaders()]") == [["_frozen_importlib_external"] * 2] * 2


def test_of_the_default_list_what_is_not_installed_is_passed_over(project: Any) -> None:
    project.write("late.py", LATE)
    project.write("numpy.py", "raise ImportError('not installed here')\n")
    done = project.python("-c", "import kart_core as kart, late; print(len(kart.build(late.Early())))")
    assert (done.out, done.code) == ("10\n", 0), done.err


# --- methods that the user names


NOISE = """\
from tests.traces import note

STATE = 0


def reset(value):
    global STATE
    STATE = value
    note(value)


def next_number():
    global STATE
    STATE += 1
    return STATE


def getstate():
    return STATE


def setstate(state):
    global STATE
    STATE = state


class Noise:
    seed = None
"""


@pytest.fixture
def noise(project: Any) -> None:
    project.write("noise.py", NOISE)
    import sys

    sys.path.insert(0, str(project.folder))


def test_any_dotted_name_that_can_be_called_is_called_with_the_seed_before_each_run(noise: None) -> None:
    def numbers(task: Call) -> list[int]:
        import noise  # type: ignore[import-not-found]

        return [noise.next_number() for _ in range(3)]

    given: dict[str, Any] = {"fix_random_seed_methods": ["noise.reset"], "function": numbers}
    assert anew(Call(fix_random_seed_value=7, **given), Call(fix_random_seed_value=0, **given)) == (
        [8, 9, 10],
        [1, 2, 3],
    )
    assert sorted(noted()) == ["0", "7"], "once for each"


def test_the_state_of_a_library_that_tells_it_is_given_back(noise: None) -> None:
    import noise  # type: ignore[import-not-found]

    noise.setstate(1000)
    anew(Draw(fix_random_seed_methods=["noise.reset"], fix_random_seed_value=7))
    assert noise.next_number() == 1001


@pytest.mark.parametrize(
    "method",
    ["random.sede", "nowhere.seed", "noise.nothing", "noise.STATE", "noise.Noise.seed", "seed", "", "random.", ".seed"],
)
@pytest.mark.parametrize("where", ["constructor", "configuration", "class"])
def test_a_method_that_the_user_named_and_that_cannot_be_called_is_an_error_that_names_it(
    project: Any, noise: None, method: str, where: str
) -> None:
    class Named(kart.TaskOnKart[int]):
        if where == "class":
            fix_random_seed_methods: Sequence[str] = ("random.seed", method)

        def run(self) -> int:
            note("ran")
            return 1

    given: dict[str, Any] = {}
    if where == "constructor":
        given = {"fix_random_seed_methods": ["random.seed", method]}
    if where == "configuration":
        project.write("kart.toml", f'[Named]\nfix_random_seed_methods = ["random.seed", "{method}"]\n')
    with pytest.raises(kart.ConfigError) as failed:
        anew(Named(**given))
    assert all(fact in str(failed.value) for fact in (repr(method), "fix_random_seed_methods")), str(failed.value)
    assert not noted(), "it is found out before anything runs"


def test_a_named_method_whose_library_is_not_installed_is_an_error_though_it_is_in_the_default_list(
    project: Any,
) -> None:
    ask = """\
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Gone())
import kart_core as kart, late
try:
    kart.build(late.Early(fix_random_seed_methods=["numpy.random.seed"]))
except kart.ConfigError as error:
    print(error)
"""
    project.write("late.py", LATE)
    done = project.python("-c", ask)
    assert "'numpy.random.seed'" in done.out, done.err


def test_methods_given_as_one_text_are_refused() -> None:
    with pytest.raises(kart.ParameterError, match="fix_random_seed_methods"):
        Draw(fix_random_seed_methods="random.seed")


def number(task: Call) -> int:
    import noise  # type: ignore[import-not-found]

    return noise.next_number()


def test_a_task_does_not_find_what_a_method_seeded_for_another(noise: None) -> None:
    given: dict[str, Any] = {"fix_random_seed_methods": ["noise.reset"], "fix_random_seed_value": 700}
    seeded, free = ([Call(name=f"{i}", function=number, **some) for i in range(5)] for some in (given, {}))
    found = anew(*(task for pair in zip(seeded, free, strict=True) for task in pair))
    assert found[::2] == (701,) * 5
    assert max(found[1::2]) < 10


@pytest.mark.inline(reason="the caller's state is that of the process that builds")
def test_a_task_finds_what_a_method_seeds_as_the_caller_left_it_if_it_does_not_name_it(noise: None) -> None:
    import noise  # type: ignore[import-not-found]

    seeded = Call(function=number, fix_random_seed_methods=["random.seed", "noise.reset"], fix_random_seed_value=7)
    free = Call(function=number, name="free")
    for tasks in ([seeded, free, seeded.clone(name="again")], [free, seeded]):
        noise.setstate(1000)
        assert dict(zip(tasks, anew(*tasks), strict=True))[free] == 1001
        assert dict(zip(tasks, anew(*tasks), strict=True))[seeded] == 8


def test_a_build_inside_a_task_finds_what_it_would_find_outside(noise: None) -> None:
    import noise  # type: ignore[import-not-found]

    noise.setstate(1000)

    def nest(task: Call) -> list[int]:
        first = noise.next_number()
        inside = anew(Call(function=lambda task: noise.next_number(), fix_random_seed_methods=[]))
        return [first, inside, noise.next_number()]

    given: dict[str, Any] = {"fix_random_seed_methods": ["noise.reset"], "fix_random_seed_value": 7}
    outside = 0 if IN_PROCESSES else 1000  # a worker has imported it anew
    assert anew(Call(function=nest, **given)) == [8, outside + 1, 9]


# --- kart.rng


def split(task: Call) -> list[int]:
    return [int(i) for i in kart.rng("split").permutation(20)]


def test_rng_gives_a_numpy_generator_that_is_the_tasks_own() -> None:
    def kind(task: Call) -> str:
        generator = kart.rng("split")
        return f"{type(generator).__module__.partition('.')[0]}.{type(generator).__name__}"

    assert anew(Call(function=kind)) == "numpy.Generator"
    one, other = Call(name="one", function=split), Call(name="other", function=split)
    first, second = anew(one, other)
    assert first != second
    assert anew(other, one) == (second, first), "the same every time"


def test_rng_of_another_name_is_another_stream() -> None:
    def both(task: Call) -> list[list[int]]:
        return [[int(i) for i in kart.rng(name).permutation(20)] for name in ("split", "shuffle", "")]

    found = anew(Call(function=both))
    assert len({tuple(stream) for stream in found}) == 3
    assert found[0] == anew(Call(function=split))


def test_rng_of_one_name_goes_on_where_it_was() -> None:
    def pieces(task: Call) -> list[int]:
        return [int(kart.rng("split").integers(0, 1000)) for _ in range(5)]

    def whole(task: Call) -> list[int]:
        generator = kart.rng("split")
        return [int(generator.integers(0, 1000)) for _ in range(5)]

    assert anew(Call(function=pieces)) == anew(Call(function=whole))


def test_no_other_draw_moves_rng_and_rng_moves_no_other() -> None:
    def disturbed(task: Call) -> tuple[list[int], list[int]]:
        import numpy as np

        draw(3)
        np.random.random(3)
        kart.rng("other").random(3)
        return split(task), draw()

    def plain(task: Call) -> tuple[list[int], list[int]]:
        draw(3)
        drawn = draw()
        return split(task), drawn

    assert anew(Call(function=disturbed)) == anew(Call(function=plain))


def test_rng_is_there_whatever_the_named_methods_are() -> None:
    one = anew(Call(function=split, fix_random_seed_methods=[]))
    assert one == anew(Call(function=split, fix_random_seed_methods=[]))


def test_rng_gives_the_generator_of_the_kind_that_is_asked_for_each_with_a_stream_of_its_own() -> None:
    def kinds(task: Call) -> list[Any]:
        own = kart.rng("split", kind="random")
        assert type(own) is random.Random
        assert own is kart.rng("split", kind="random")
        streams = [own.random() for _ in range(3)], list(kart.rng("split", kind="numpy").random(3))
        return [*streams, [kart.rng("shuffle", kind="random").random() for _ in range(3)], draw()]

    found = anew(Call(function=kinds, **FIXED))
    assert anew(Call(function=kinds, **FIXED)) == found
    assert len({tuple(stream) for stream in found}) == 4
    assert found[3] == bare(57), "it moves nothing"


def test_rng_of_a_kind_that_there_is_not_is_an_error_that_names_the_kinds() -> None:
    kinds: Any = kart.rng
    with pytest.raises(kart.BuildError) as failed:
        anew(Call(function=lambda task: kinds("split", kind="jax")))
    assert all(kind in str(failed.value) for kind in ("'jax'", "'numpy'", "'random'", "'torch'"))


def test_rng_of_a_library_that_is_not_installed_is_an_error_that_names_it(project: Any) -> None:
    project.write("torch.py", "raise ModuleNotFoundError('not installed here', name='torch')\n")
    ask = """\
import kart_core as kart
class Draw(kart.TaskOnKart[int]):
    def run(self):
        return kart.rng("x", kind="torch").initial_seed()
try:
    kart.build(Draw())
except kart.BuildError as error:
    print(error)
"""
    done = project.python("-c", ask)
    assert "pip install torch" in done.out, done.err


def test_rng_outside_a_run_is_an_error_that_says_so() -> None:
    with pytest.raises(kart.KartError, match="no task is running"):
        kart.rng("split")


# --- a storage that draws


class Retrying(LocalStore):
    """A store as those of clouds are: it draws from `random` whenever it is asked for something."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            random.random()
        return super().__getattribute__(name)


class Clouds(Plugin):
    @hookimpl
    def kart_storages(self) -> list[Storage]:
        return [Storage("cloud", open=lambda url: Retrying(str(Path(url.removeprefix("cloud://")).absolute())))]


def test_a_storage_library_that_draws_its_retry_waits_does_not_move_the_tasks_stream() -> None:
    def interrupted(task: Call) -> None:
        drawn: list[int] = []
        for _ in range(5):
            task.load()
            list(task.load_generator())
            task.dump(drawn)
            task.complete()
            drawn += draw(2)
        task.dump(drawn)

    task = Call(function=interrupted, upstream=(Draw(),), **FIXED)
    assert kart.build(task, workspace_directory="cloud://bucket", plugins=[Clouds]) == bare(57)


def test_a_task_may_clear_the_finders_that_it_does_not_know(project: Any) -> None:
    project.write(
        "clears.py",
        "import sys\nimport kart_core as kart\nbefore = list(sys.meta_path)\n"
        "class Clears(kart.TaskOnKart[int]):\n"
        "    def run(self):\n        sys.meta_path[:] = before\n        return 1\n"
        "if __name__ == '__main__':\n"
        "    print(kart.build(Clears()), 'numpy' in sys.modules, sys.meta_path == before)\n",
    )
    done = project.python("clears.py")
    assert done.out.split() == ["1", "False", "True"], done.err


class Slow(Plugin):
    """Storage that is far, and slow, and stores results while the next task runs."""

    @hookimpl
    def kart_storages(self) -> list[Storage]:
        return [Storage("slow", open=self.open, shared="network", quiet=True)]

    def open(self, url: str) -> Store:
        class SlowStore(LocalStore):
            def put(self, path: str, data: bytes) -> None:
                time.sleep(0.02)
                super().put(path, data)

        return SlowStore(url.removeprefix("slow://"))


class Draws(kart.TaskOnKart[list[float]]):
    i: int

    def run(self) -> list[float]:
        drawn = [random.random()]
        time.sleep(0.03)  # the result of the task before is put in its place meanwhile
        return [*drawn, random.random()]


class AllDraws(kart.TaskOnKart[list[list[float]]]):
    draws: tuple[Draws, ...]

    def run(self) -> list[list[float]]:
        return self.load(self.draws)


def test_a_result_that_is_stored_while_the_next_task_runs_does_not_move_its_stream(tmp_path: Path) -> None:
    task = AllDraws(draws=tuple(Draws(i=i) for i in range(6)))
    near = kart.build(task, workspace_directory=tmp_path / "near")
    state = random.getstate()
    far = kart.build(task, workspace_directory=f"slow://{tmp_path / 'far'}", plugins=[Slow])
    assert far == near
    assert random.getstate() == state
