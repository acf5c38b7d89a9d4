"""What goes to another process arrives as what it was: by its name, or with its definition where no import finds it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kart_core as kart
from kart_core import code
from kart_core.declaration import shape_of
from kart_core.execution.by_value import by_reference, dumps
from kart_core.planning import code_of
from kart_core.specification import flatten, rebuild
from tests.conftest import Project
from tests.elsewhere import Elsewhere, elsewhere, notebook

T = TypeVar("T")


class Known(kart.TaskOnKart[int]):
    """A task of a module."""

    n: int = 1

    class Part:
        """Nested."""

    def run(self) -> int:
        return self.n


def known_function() -> int:
    return 1


@dataclass
class Point:
    x: int


# What is called over there.


def run_of(flat: Any) -> Any:
    return rebuild(flat).run()


def facts(flat: Any) -> Any:
    task = rebuild(flat)
    shape = shape_of(type(task))
    return {
        "id": task.unique_id,
        "code": code_of(task),
        "name": shape.name,
        "policy": (shape.policy.version, shape.policy.retries, shape.policy.priority, shape.policy.namespace),
        "fields": {name: repr(value) for name, value in task.__dict__.items() if not name.startswith("_kart_")},
        "infos": [(info.name, str(info.annotation), info.options) for info in shape.infos],
        "rerun": task.rerun,
        "bases": [base.__qualname__ for base in type(task).__mro__],
        "generic": str(type(task).__dict__.get("__orig_bases__")),
        "doc": type(task).__doc__,
    }


def same(*classes: Any) -> bool:
    return len(set(classes)) == 1


def loaded(name: str) -> bool:
    return name in sys.modules


def assert_same_facts(task: kart.TaskOnKart[Any]) -> None:
    assert elsewhere(facts, flatten(task)) == facts(flatten(task))


# --- what can be imported goes by its name


def test_what_stands_in_a_module_goes_by_its_name() -> None:
    assert by_reference(Known)
    assert by_reference(Known.Part)
    assert by_reference(known_function)
    assert by_reference(Path)
    assert by_reference(type(None))
    assert by_reference(kart.TaskOnKart)


def test_what_no_import_finds_does_not() -> None:
    class Local:
        pass

    assert not by_reference(Local)
    assert not by_reference(lambda: 1)


def test_a_name_that_leads_to_something_else_is_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Point
    monkeypatch.setitem(globals(), "Point", dataclass(type("Point", (), {"__module__": __name__})))
    assert not by_reference(old)


def test_a_module_that_was_made_by_hand_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("made_by_hand")
    monkeypatch.setitem(sys.modules, "made_by_hand", module)
    exec("class Thing: pass", module.__dict__)
    assert not by_reference(module.Thing)
    assert elsewhere(name_of_class, module.Thing()) == "made_by_hand.Thing"


def name_of_class(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def test_cloudpickle_is_not_imported_while_names_do() -> None:
    text = (
        "import sys, pickle, decimal, kart_core\nfrom kart_core.execution.by_value import dumps\n"
        "assert pickle.loads(dumps([decimal.Decimal(1), decimal.Decimal])) == [1, decimal.Decimal]\n"
        "print('cloudpickle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda of: st.lists(of) | st.tuples(of, of)))
def test_plain_values_come_back_as_they_were(value: object) -> None:
    assert pickle.loads(dumps(value)) == value


# --- task classes with their definition


def test_a_local_task_runs_elsewhere_with_what_it_uses() -> None:
    factor = 3

    class Local(kart.TaskOnKart[int]):
        n: int

        def run(self) -> int:
            return self.n * factor

    assert elsewhere(run_of, flatten(Local(n=2))) == 6


def test_a_local_task_has_the_same_id_and_code_elsewhere() -> None:
    class Local(kart.TaskOnKart[int]):
        """Said."""

        n: int
        factor: float = 2

        def run(self) -> int:
            return self.n

    assert_same_facts(Local(n=1))
    assert code_of(Local(n=1)) is not None
    assert code.digest(Local) == code_of(Local(n=1))


def test_parameters_keep_what_was_said_of_them() -> None:
    class Local(kart.TaskOnKart[int]):
        a: int = kart.parameter(default=1, significant=False, description="the first")
        b: list[int] = kart.parameter(factory=lambda: [1, 2])
        c: str = kart.parameter(default="x", omit_default=True)
        d: str = kart.parameter(default="secret", private=True)
        _e: int = 5
        known: Known = Known(n=3)
        constant: ClassVar[dict[str, int]] = {"a": 1}
        rerun: bool = True
        fix_random_seed_value: int | None = 7

    assert_same_facts(Local())
    assert_same_facts(Local(a=2, b=[3], c="y", known=Known(n=4)))


def test_class_keywords_arrive() -> None:
    def helper() -> int:
        return 1

    class Local(kart.TaskOnKart[int], version=3, uses=(helper,), namespace="mine", retries=2, priority=4):
        pass

    assert_same_facts(Local())


def test_inheritance_between_classes_without_a_module_arrives() -> None:
    class Base(kart.TaskOnKart[T], Generic[T], version=1):
        n: int = 1
        rerun: bool = True

        def run(self) -> Any:
            return ["base", self.n]

    class Middle(Base[int], retries=2):
        m: str = "m"

        def run(self) -> Any:
            return ["middle", *super().run()]

    class Last(Middle):
        n: int = 5

        def run(self) -> Any:
            return ["last", *super().run()]

    assert_same_facts(Last())
    assert_same_facts(Middle(n=3))
    assert elsewhere(run_of, flatten(Last())) == ["last", "middle", "base", 5]
    assert elsewhere(run_of, flatten(Base[int]())) == ["base", 1]


def test_an_abstract_base_stays_abstract() -> None:
    class Base(kart.TaskOnKart[int], ABC):
        @abstractmethod
        def value(self) -> int: ...

        def run(self) -> int:
            return self.value()

    class Last(Base):
        def value(self) -> int:
            return 4

    def abstract(cls: type) -> bool:
        return bool(cls.__abstractmethods__)

    assert elsewhere(run_of, flatten(Last())) == 4
    assert elsewhere(abstract, Base)
    assert not elsewhere(abstract, Last)


def test_a_mixin_that_looks_at_its_subclasses_is_not_asked_of_half_a_class() -> None:
    class Named:
        def __init_subclass__(cls, *, flavour: str, **keywords: Any) -> None:
            super().__init_subclass__(**keywords)
            cls.flavour = flavour

        flavour: ClassVar[str]

    class Local(Named, kart.TaskOnKart[str], flavour="sweet", retries=1):  # type: ignore[call-arg]
        def run(self) -> str:
            return self.flavour

    assert elsewhere(run_of, flatten(Local())) == "sweet"
    assert_same_facts(Local())


def test_members_of_all_kinds_arrive() -> None:
    class Local(kart.TaskOnKart[Any]):
        n: int = 2

        class Inner:
            value = 5

        class Other(kart.TaskOnKart[int]):
            k: int = 1

        @property
        def doubled(self) -> int:
            return self.n * 2

        @cached_property
        def tripled(self) -> int:
            return self.n * 3

        @staticmethod
        def four() -> int:
            return 4

        @classmethod
        def name(cls) -> str:
            return cls.__name__

        def run(self) -> Any:
            return [self.doubled, self.tripled, self.four(), self.name(), self.Inner.value, self.Other(k=3).unique_id]

    assert elsewhere(run_of, flatten(Local())) == Local().run()


def test_a_class_that_uses_itself_and_tasks_of_itself_arrives() -> None:
    class Chain(kart.TaskOnKart[int]):
        n: int = 0
        before: kart.TaskOnKart[Any] | None = None

        def run(self) -> Any:
            return [Chain(n=9).n, first.n, last.before == first, {last: 1}[last], Below(n=4).run()]

    class Below(Chain):
        extra: int = 3

        def run(self) -> Any:
            return [self.extra, below.extra, isinstance(self, Chain)]

    first = Chain(n=1)
    last = Chain(n=2, before=first)
    below = Below(n=1, extra=8)
    for task in (last, below):
        assert elsewhere(run_of, flatten(task)) == task.run()
        assert_same_facts(task)


def test_a_task_may_be_a_key_in_what_its_own_class_uses() -> None:
    class Base(kart.TaskOnKart[int]):
        n: int = 0

        def run(self) -> Any:
            return sorted(names.values()), names[Below(n=1)], Below(n=2) in chosen

    class Below(Base):
        pass

    names = {Below(n=1): "one", Base(n=1): "base"}
    chosen = frozenset({Below(n=2)})
    for task in (Base(), Below()):
        assert elsewhere(run_of, flatten(task)) == (["base", "one"], "one", True)


def test_what_was_put_on_a_class_later_arrives() -> None:
    class Local(kart.TaskOnKart[int]):
        def run(self) -> int:
            return 1

    def other(self: Any) -> int:
        return 2

    Local.run = other  # type: ignore[method-assign]
    assert elsewhere(run_of, flatten(Local())) == 2


def test_a_class_that_is_sent_twice_is_one_class() -> None:
    class Local(kart.TaskOnKart[int]):
        n: int = 1

    class Plain:
        pass

    def keep(*classes: Any) -> int:
        import tests.elsewhere as place

        kept = place.__dict__.setdefault("kept", set())
        kept.update(classes)
        return len(kept)

    with Elsewhere() as call:
        assert call(same, Local, Local)
        assert call(keep, Local, Plain) == 2
        assert call(keep, Local, Plain) == 2
        Again = type("Local", (kart.TaskOnKart,), {"__qualname__": Local.__qualname__, "__module__": __name__})
        assert call(keep, Again) == 3


def test_a_class_that_is_sent_again_sees_what_changed_outside_of_it() -> None:
    limit = 1

    class Local(kart.TaskOnKart[int]):
        def run(self) -> int:
            return limit

    with Elsewhere() as call:
        assert call(run_of, flatten(Local())) == 1
        limit = 2
        assert call(run_of, flatten(Local())) == 2


def test_a_class_that_comes_back_is_the_one_that_went() -> None:
    class Local(kart.TaskOnKart[int]):
        def run(self) -> int:
            return 1

    run = Local.run
    assert pickle.loads(dumps(Local)) is Local
    assert Local.run is run
    assert pickle.loads(dumps(Local())) == Local()


# --- scripts and notebooks

COORDINATOR = """\
from tests.elsewhere import Elsewhere
from tests.test_by_value import code_of, facts, flatten, run_of
import kart_core as kart
"""


def test_tasks_of_a_notebook_have_their_ids_and_their_code_elsewhere() -> None:
    shown = notebook(
        "from __future__ import annotations\n" + COORDINATOR + "LIMIT = 3\ndef helper(n: int) -> int:\n"
        "    return min(n, LIMIT)",
        "class Numbers(kart.TaskOnKart[list[int]]):\n    n: int = 10\n    def run(self):\n"
        "        return helper(self.n), default",
        "class Total(kart.TaskOnKart[int]):\n    numbers: Numbers\n    names: list[Numbers] | None = None",
        "default = Numbers().unique_id\ntask = Total(numbers=Numbers(n=4))\nflat = flatten(task)",
        "with Elsewhere() as call:\n    print(call(facts, flat) == facts(flat), facts(flat)['name'], "
        "code_of(task.numbers) is not None)\n    print(call(run_of, flatten(Numbers())) == Numbers().run())\n"
        "    LIMIT = 2\n    print(call(run_of, flatten(Numbers()))[0])",
    )
    assert shown == "True __main__.Total True\nTrue\n2\n"


def test_values_of_a_notebooks_classes_make_the_same_ids_elsewhere() -> None:
    shown = notebook(
        COORDINATOR + "import enum\nfrom dataclasses import dataclass",
        "@dataclass(frozen=True)\nclass Options:\n    depth: int",
        "class Colour(enum.Enum):\n    RED = 1",
        "class A(kart.TaskOnKart[int]):\n    options: Options\n    colour: Colour = Colour.RED\n"
        "    def run(self):\n        return self.options.depth, self.colour is Colour.RED",
        "flat = flatten(A(options=Options(3)))\nwith Elsewhere() as call:\n"
        "    print(call(facts, flat) == facts(flat), call(run_of, flat))",
    )
    assert shown == "True (3, True)\n"


def test_a_class_that_a_notebook_defines_anew_is_another_class() -> None:
    shown = notebook(
        COORDINATOR,
        "class A(kart.TaskOnKart[int]):\n    def run(self):\n        return 1",
        "call = Elsewhere().__enter__()\nprint(call(run_of, flatten(A())))",
        "class A(kart.TaskOnKart[int]):\n    n: int = 5\n    def run(self):\n        return self.n",
        "print(call(run_of, flatten(A(n=6))))\ncall.__exit__()",
    )
    assert shown == "1\n6\n"


def test_a_value_of_a_notebooks_class_is_pickled_by_its_name_as_it_is_there() -> None:
    shown = notebook(
        COORDINATOR + "from dataclasses import dataclass\nimport pickle",
        "@dataclass\nclass Point:\n    x: int\ndef double(x): return 2 * x",
        "class A(kart.TaskOnKart[object]):\n    def run(self):\n        return pickle.dumps([Point(1), double])",
        "with Elsewhere() as call:\n    data = call(run_of, flatten(A()))\n"
        "print(data == A().run(), pickle.loads(data)[0], pickle.loads(data)[1] is double)",
    )
    assert shown == "True Point(x=1) True\n"


def test_an_error_of_a_notebooks_class_arrives_as_that_class() -> None:
    shown = notebook(
        COORDINATOR + "import traceback",
        "class Bad(Exception):\n    def __init__(self, a, b):\n        super().__init__(f'{a} and {b}')\n"
        "        self.a = a",
        "class A(kart.TaskOnKart[object]):\n    def run(self):\n        raise Bad(1, 2)",
        "with Elsewhere() as call:\n    try:\n        call(run_of, flatten(A()))\n    except Bad as error:\n"
        "        print(error, error.a, 'raise Bad(1, 2)' in traceback.format_exc())",
    )
    assert shown == "1 and 2 1 True\n"


SCRIPT = """\
from tests.elsewhere import elsewhere
from tests.test_by_value import facts, run_of
from kart_core.execution.by_value import by_reference
from kart_core.specification import flatten
import kart_core as kart
import pickle

class Top(kart.TaskOnKart[int]):
    n: int = 2
    def run(self):
        return self.n

class Plain:
    pass

def make():
    class Local(Top):
        def run(self):
            return pickle.dumps(Plain()), super().run()
    return Local

if __name__ == "__main__":
    class Guarded(Top):
        pass
    Local = make()
    print([by_reference(one) for one in (Top, Plain, make, Guarded, Local)])
    for cls in (Top, Guarded, Local):
        print(elsewhere(facts, flatten(cls())) == facts(flatten(cls())), facts(flatten(cls()))["name"])
    print(elsewhere(run_of, flatten(Local()))[0] == pickle.dumps(Plain()))
"""


@pytest.mark.parametrize("words", [("train.py",), ("-m", "train")])
def test_a_scripts_own_classes_go_by_the_scripts_name(words: tuple[str, ...], project: Project) -> None:
    project.write("train.py", SCRIPT)
    done = project.python(*words, environment={"PYTHONPATH": str(Path(__file__).parents[1])})
    assert done.code == 0, done.err
    first, top, guarded, local, value = done.out.splitlines()
    assert first == "[True, True, True, False, False]"
    assert (top, guarded, local) == (
        "True train.Top",
        "True train.Guarded",
        "True train.make.<locals>.Local",
    )
    assert value == "True"


# --- what no other process can have


def refused(value: object) -> str:
    with pytest.raises(kart.KartError) as refusal:
        dumps(value)
    return str(refusal.value)


def test_a_field_that_cannot_be_sent_is_named() -> None:
    class Local(kart.TaskOnKart[int]):
        lock: Any = kart.parameter(default=None, significant=False)

    for cls in (Local, Locked):
        for value in (cls(lock=threading.Lock()), flatten(cls(lock=threading.Lock())), [1, cls(lock=threading.Lock())]):
            said = refused(value)
            assert cls.__qualname__ in said
            assert "field 'lock'" in said
            assert "executor='inline'" in said


class Locked(kart.TaskOnKart[int]):
    lock: Any = kart.parameter(default=None, significant=False)
    word: Any = kart.parameter(default=None, significant=False, private=True)


class Hidden:
    def __reduce__(self) -> Any:
        raise ValueError("the secret is 1234")


def test_of_a_private_field_nothing_but_its_type_is_told() -> None:
    said = refused(Locked(word=Hidden()))
    assert "field 'word' holds a Hidden" in said
    assert "1234" not in said


def test_what_a_method_uses_and_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()

    class Local(kart.TaskOnKart[int]):
        def run(self) -> int:
            with lock:
                return 1

    said = refused(flatten(Local()))
    assert "Local" in said
    assert "run(), variable 'lock' holds a lock" in said
    assert "module" in said


def test_what_a_notebooks_method_uses_and_cannot_be_sent_is_named() -> None:
    shown = notebook(
        COORDINATOR + "import threading\nfrom kart_core.execution.by_value import dumps\nLOCK = threading.Lock()",
        "def helper():\n    return LOCK\nclass A(kart.TaskOnKart[int]):\n    def run(self):\n        return helper()",
        "try:\n    dumps(flatten(A()))\nexcept kart.KartError as error:\n    print(error)",
    )
    assert "A cannot be sent to a worker process: its run(), global 'helper', global 'LOCK' holds a lock" in shown
