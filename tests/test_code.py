"""The digest of a task class's code: what counts, what does not, and that no program run differs from another."""

from __future__ import annotations

import importlib
import itertools
import linecache
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kart_core import code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PIPELINE = """
    import math
    import helpers
    import kart_core as kart
    from helpers import clean as tidy

    LIMIT = 3
    TABLE = {"a": 1}
    UNUSED = 1

    def inner(x):
        return x * LIMIT

    def outer(x, y=2):
        return inner(x) + y

    class Base:
        def shared(self):
            return 1

    class Train(Base):
        n: int = 10

        def run(self):
            # adds up
            values = [outer(i) for i in range(self.n)]
            return tidy(values), helpers.scale(math.pi), TABLE["a"]
"""
HELPERS = """
    FACTOR = 2

    def scale(x):
        return x * FACTOR

    def clean(values):
        return sorted(values)

    def unused():
        return 1
"""
FILES = {"pipeline.py": PIPELINE, "helpers.py": HELPERS}

Load = "Callable[[Mapping[str, str], str], Any]"


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[Mapping[str, str], str], Any]]:
    """Writes a project into a folder of its own, imports a module of it anew, and gives what is asked for."""
    count = itertools.count()
    before, path = set(sys.modules), list(sys.path)

    def forget() -> None:
        for name in set(sys.modules) - before:
            if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")) or hasattr(
                sys.modules[name], "__path__"
            ):
                del sys.modules[name]

    def load(files: Mapping[str, str], what: str) -> Any:
        forget()
        folder = tmp_path / str(next(count))
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
        sys.path[:] = [str(folder), *path]
        importlib.invalidate_caches()
        module, _, name = what.partition(":")
        found: Any = importlib.import_module(module)
        code.remember(module)
        for part in name.split(".") if name else ():
            found = getattr(found, part)
        return found

    yield load
    forget()
    sys.path[:] = path


def digest_of(load: Any, files: Mapping[str, str], what: str = "pipeline:Train") -> str:
    digest = code.digest(load(files, what))
    assert digest is not None
    return digest


def edited(file: str, old: str, new: str, files: Mapping[str, str] = FILES) -> dict[str, str]:
    assert old in files[file]
    return {**files, file: files[file].replace(old, new, 1)}


def test_a_digest_is_32_hexadecimal_digits_and_always_the_same(load: Any) -> None:
    first = digest_of(load, FILES)
    assert len(first) == 32
    assert int(first, 16) >= 0
    assert digest_of(load, FILES) == first


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("pipeline.py", "# adds up", "# sums the values up\n", id="comment"),
        pytest.param("pipeline.py", "return x * LIMIT", "return (\n            x *\n            LIMIT)", id="layout"),
        pytest.param("pipeline.py", "def run(self):", "def run(self) -> object:", id="return annotation"),
        pytest.param("pipeline.py", "def outer(x, y=2)", "def outer(x: int, y: int = 2)", id="argument annotation"),
        pytest.param("pipeline.py", "values = [", "values: list[int] = [", id="annotation of a local"),
        pytest.param("pipeline.py", "n: int = 10", "n: 'int | None' = 10", id="annotation of a field"),
        pytest.param("pipeline.py", "LIMIT = 3", "LIMIT: int = 3", id="annotation of a constant"),
        pytest.param("pipeline.py", "class Train(Base):", "class Train(Base):\n        'Trains.'\n", id="docstring"),
        pytest.param("helpers.py", "def scale(x):", "def scale(x):\n        'Scales.'", id="docstring of a helper"),
        pytest.param("pipeline.py", '{"a": 1}', "{'a': 0x1}", id="spelling of a constant"),
        pytest.param("pipeline.py", "UNUSED = 1", "UNUSED = 2", id="constant that is not used"),
        pytest.param("helpers.py", "def unused():", "def unused(x=3):", id="helper that is not used"),
        pytest.param("pipeline.py", "class Train(Base):", "class Train(Base, retries=3):", id="policy"),
    ],
)
def test_what_says_nothing_of_the_result_does_not_count(load: Any, file: str, old: str, new: str) -> None:
    files = edited("pipeline.py", "class Base:", "class Base:\n        def __init_subclass__(cls, **_): pass")
    assert digest_of(load, edited(file, old, new, files)) == digest_of(load, files)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("pipeline.py", "range(self.n)", "range(self.n + 1)", id="the class"),
        pytest.param("pipeline.py", "n: int = 10", "n: int = 11", id="a default"),
        pytest.param("pipeline.py", "LIMIT = 3", "LIMIT = 3.0", id="a constant, of another type"),
        pytest.param("pipeline.py", '{"a": 1}', '{"a": 1}\n    TABLE["a"] = 2', id="a constant that is changed later"),
        pytest.param("pipeline.py", '{"a": 1}', '{"a": 1}\n    TABLE.update(a=2)', id="a constant that is updated"),
        pytest.param("pipeline.py", "LIMIT = 3", "if UNUSED_AS_YET:\n        LIMIT = 3", id="a condition"),
        pytest.param("pipeline.py", "y=2", "y=3", id="a default of a helper"),
        pytest.param("pipeline.py", "x * LIMIT", "x + LIMIT", id="a helper of a helper"),
        pytest.param("pipeline.py", "return 1", "return 2", id="a base class"),
        pytest.param("helpers.py", "sorted(values)", "list(values)", id="a helper of another module"),
        pytest.param("helpers.py", "FACTOR = 2", "FACTOR = 4", id="a constant of another module"),
        pytest.param("pipeline.py", "math.pi", "math.e", id="what is taken from a library"),
        pytest.param("pipeline.py", "import math", "import cmath as math", id="the library"),
        pytest.param("pipeline.py", "clean as tidy", "unused as tidy", id="what is imported"),
    ],
)
def test_a_change_of_code_counts(load: Any, file: str, old: str, new: str) -> None:
    files = edited("pipeline.py", "import math", "UNUSED_AS_YET = True\n    import math")
    assert digest_of(load, edited(file, old, new, files)) != digest_of(load, files)


PACKAGE = {
    "shop/__init__.py": "from .steps.clean import tidy",
    "shop/steps/__init__.py": "",
    "shop/steps/clean.py": "from ..settings import *\ndef tidy(x):\n    return x + OFFSET",
    "shop/settings.py": "OFFSET = 1",
    "shop/late.py": "def late():\n    return 1",
    "shop/tasks.py": """
        import shop
        import shop.steps.clean
        from shop import tidy
        class Train:
            def run(self):
                from . import late
                return tidy(1), shop.tidy, shop.steps.clean.tidy(1), late.late(), other.thing()
        import other
    """,
    "other.py": "def thing():\n    return 1",
}


def test_helpers_are_followed_through_the_whole_package_and_no_further(load: Any) -> None:
    base = digest_of(load, PACKAGE, "shop.tasks:Train")
    through_a_star = edited("shop/settings.py", "1", "2", PACKAGE)
    assert digest_of(load, through_a_star, "shop.tasks:Train") != base
    imported_in_a_function = edited("shop/late.py", "1", "2", PACKAGE)
    assert digest_of(load, imported_in_a_function, "shop.tasks:Train") != base
    of_another_package = edited("other.py", "1", "2", PACKAGE)
    assert digest_of(load, of_another_package, "shop.tasks:Train") == base


def test_finding_the_digest_imports_nothing(load: Any) -> None:
    cls = load(PACKAGE, "shop.tasks:Train")
    assert "shop.late" not in sys.modules
    code.digest(cls)
    assert "shop.late" not in sys.modules


def test_what_uses_names_counts_whatever_its_package(load: Any) -> None:
    def with_uses(files: Mapping[str, str], *names: str) -> str | None:
        cls = load(files, "shop.tasks:Train")
        found: list[object] = []
        for name in names:
            module, _, attribute = name.partition(":")
            value: Any = sys.modules[module]
            found.append(getattr(value, attribute) if attribute else value)
        return code.digest(cls, found)

    changed = edited("other.py", "return 1", "return 2", PACKAGE)
    beside = edited("other.py", "return 1", "return 1\ndef beside():\n    return 1", PACKAGE)
    function, module = with_uses(PACKAGE, "other:thing"), with_uses(PACKAGE, "other")
    assert len({function, module, with_uses(PACKAGE)}) == 3
    assert with_uses(changed, "other:thing") != function
    assert with_uses(beside, "other:thing") == function
    assert with_uses(changed, "other") != module
    assert with_uses(beside, "other") != module
    assert with_uses(PACKAGE, "other", "other:thing") == with_uses(PACKAGE, "other:thing", "other")


def test_what_has_no_source_may_stand_in_uses(load: Any) -> None:
    cls = load(FILES, "pipeline:Train")
    assert code.digest(cls, [len]) != code.digest(cls, [max]) != code.digest(cls)
    assert code.digest(cls, [sys]) != code.digest(cls)


def test_another_task_counts_by_its_name_alone(load: Any) -> None:
    files = {
        "pipeline.py": """
            from kart_core import TaskOnKart
            class Plain:
                def run(self): return 1
            class Numbers(TaskOnKart[int]):
                def run(self): return 1
            class More(Numbers):
                def run(self): return 1
            class Train:
                def requires(self): return More()
                def run(self): return Plain()
        """
    }
    base = digest_of(load, files)
    for name in ("Numbers(TaskOnKart[int])", "More(Numbers)"):
        upstream = edited("pipeline.py", name + ":", name + ":\n                x: int = 1", files)
        assert digest_of(load, upstream) == base
    assert digest_of(load, edited("pipeline.py", "class Plain:", "class Plain:\n                x = 1", files)) != base
    # What a task inherits is its own code.
    inherited = edited("pipeline.py", "(TaskOnKart[int]):", "(TaskOnKart[int]):\n                x: int = 1", files)
    assert digest_of(load, inherited, "pipeline:More") != digest_of(load, files, "pipeline:More")


def test_a_local_name_is_not_taken_for_a_helper(load: Any) -> None:
    files = {
        "pipeline.py": """
            def clean(): return 1
            def used(): return 1
            class Train:
                def run(self, x, clean=2):
                    return [used for used in x] + [clean] + (lambda used: used)(1)
        """
    }
    base = digest_of(load, files)
    assert digest_of(load, edited("pipeline.py", "clean(): return 1", "clean(): return 2", files)) == base
    assert digest_of(load, edited("pipeline.py", "used(): return 1", "used(): return 2", files)) == base


def test_a_class_in_a_function_is_found_with_what_stands_around_it(load: Any) -> None:
    files = {
        "pipeline.py": """
            def make():
                factor = 1
                def helper(): return factor
                class Train:
                    def run(self): return helper()
                return Train
            def make_other():
                class Train:
                    def run(self): return 5
                return Train
            Train = make()
        """
    }
    base = digest_of(load, files)
    assert digest_of(load, edited("pipeline.py", "factor = 1", "factor = 2", files)) != base
    assert digest_of(load, edited("pipeline.py", "return 5", "return 6", files)) == base


def test_of_two_classes_with_one_name_the_one_that_is_meant_counts(load: Any) -> None:
    files = {
        "pipeline.py": """
            FAST = True
            if FAST:
                class Train:
                    def run(self): return 1
            else:
                class Train:
                    def run(self): return 2
        """
    }
    base = digest_of(load, files)
    assert digest_of(load, edited("pipeline.py", "return 2", "return 3", files)) == base
    assert digest_of(load, edited("pipeline.py", "return 1", "return 3", files)) != base


def test_modules_that_import_from_each_other_are_no_trap(load: Any) -> None:
    files = {
        "ring/__init__.py": "",
        "ring/a.py": "from ring.b import g, nowhere\ndef f(): return g()\nclass Train:\n    def run(self): return f()",
        "ring/b.py": "import ring.a\nfrom ring.c import nowhere\ndef g(): return ring.a.f()",
        "ring/c.py": "import sys\nnowhere = sys.modules",
    }
    base = digest_of(load, files, "ring.a:Train")
    assert digest_of(load, edited("ring/b.py", "ring.a.f()", "ring.a.f(), 1", files), "ring.a:Train") != base


def test_deep_code_does_not_exhaust_the_stack(load: Any) -> None:
    deep = "x = " + " + ".join(["1"] * 900)
    with_tuple = {"pipeline.py": f"{deep}\nclass Train:\n    def run(self): return x"}
    chain = "\n".join(f"def f{i}(): return f{i + 1}()" for i in range(3000))
    with_chain = {"pipeline.py": f"{chain}\ndef f3000(): return 1\nclass Train:\n    def run(self): return f0()"}
    assert digest_of(load, with_tuple)
    base = digest_of(load, with_chain)
    assert digest_of(load, edited("pipeline.py", "return 1\n", "return 2\n", with_chain)) != base


def test_an_edit_while_the_program_runs_is_not_taken_for_its_code(load: Any) -> None:
    expected = digest_of(load, FILES)
    cls = load(FILES, "pipeline:Train")
    file = Path(sys.modules["pipeline"].__file__ or "")
    file.write_text(file.read_text().replace("LIMIT = 3", "LIMIT = 4"))
    code.remember("pipeline")
    assert code.digest(cls) == expected
    importlib.reload(sys.modules["pipeline"])
    code.remember("pipeline")
    assert code.digest(sys.modules["pipeline"].Train) != expected


def test_a_helper_that_is_reloaded_counts_as_it_is_now(load: Any) -> None:
    cls = load(FILES, "pipeline:Train")
    before = code.digest(cls)
    file = Path(sys.modules["helpers"].__file__ or "")
    file.write_text(file.read_text().replace("FACTOR = 2", "FACTOR = 4"))
    assert code.digest(cls) == before
    importlib.reload(sys.modules["helpers"])
    assert code.digest(cls) != before


def test_modified_is_the_time_of_the_newest_file_that_takes_part(load: Any) -> None:
    cls = load({**FILES, "apart.py": "x = 1"}, "pipeline:Train")
    folder = Path(sys.modules["pipeline"].__file__ or "").parent
    for name, time in (("pipeline.py", 1000), ("helpers.py", 2000), ("apart.py", 3000)):
        os.utime(folder / name, (time, time))
    assert code.modified(cls) == 2000.0
    (folder / "helpers.py").unlink()
    assert code.modified(cls) == 1000.0


def test_a_class_without_source_has_no_digest() -> None:
    made = type("Made", (), {"__module__": __name__})
    assert code.digest(made) is None
    assert code.modified(made) == 0.0
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec("class Typed:\n    def run(self): return 1", namespace)
    assert code.digest(namespace["Typed"]) is None
    assert code.digest(int) is None


def test_a_module_without_source_is_passed_over() -> None:
    for module in ("sys", "no.such.module", "__main__", "builtins"):
        code.remember(module)


def test_a_file_that_is_no_python_any_more_is_no_error(load: Any) -> None:
    pipeline = "import helpers\nclass Train:\n    run = helpers.clean"
    cls = load({**FILES, "pipeline.py": pipeline}, "pipeline:Train")
    (Path(sys.modules["pipeline"].__file__ or "").parent / "helpers.py").write_text("def (:")
    assert code.digest(cls) is not None


def run_python(python: str, *arguments: str, folder: Path, path: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")


ROOT = str(Path(code.__file__).parent.parent)
REPORT = 'if __name__ == "__main__":\n    from kart_core import code\n    print(code.digest(Train))'


def test_a_script_and_the_module_that_it_is_when_imported_have_one_digest(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "pipeline.py": textwrap.dedent(PIPELINE) + REPORT})
    ask = "import pipeline; from kart_core import code; print(code.digest(pipeline.Train))"
    as_script = run_python(sys.executable, "pipeline.py", folder=tmp_path, path=ROOT)
    assert len(as_script) == 32
    assert run_python(sys.executable, "-c", ask, folder=tmp_path, path=ROOT) == as_script
    assert run_python(sys.executable, "-m", "pipeline", folder=tmp_path, path=ROOT) == as_script


SYNTAX = '''
    import asyncio
    from functools import partial, reduce

    GREETING = "h\\u00e9llo" "é\\U0001fae8"
    NUMBERS = (1, 0x10, 1_000, 1.5, 1e300, 2j, True, None, ..., 123456789012345678901234567890)

    def show(x, /, y: int = 2, *rest, key, other=None, **more):
        """Shows."""
        text = f"a{x!r:>{y}}b" "c" f"{x=}" f"{x:}" rf"\\d{y:.2f}" f"{'in' 'ner'}"
        return text, u"text", b"bytes", NUMBERS[1:2, ::3], GREETING

    def choose(value):
        match value:
            case {"a": 1, **rest} if rest: return rest
            case [first, *others] | (first, others): return first, others
            case complex(real=0) | None | True: return 0
            case str() as text: return text
        return (lambda *a, k=1: a)(*[i for i in value]) if (n := len(value)) > 1 else n

    async def gather(*tasks):
        async with asyncio.Lock() as lock, lock:
            return [await task async for task in asyncio.as_completed(tasks)]

    class Train:
        """Trains."""
        n: int
        m: int = 3
        pair: "tuple[int, str]" = (1, "a")

        @property
        def size(self) -> int:
            global NUMBERS
            try:
                with open(self.n) as file, open(self.m):
                    for line in file:
                        if not line: continue
                        elif line < "a" <= "b" != "c": break
                    else:
                        del file
            except (OSError, ValueError) as error:
                raise RuntimeError("no") from error
            finally:
                pass
            while True:
                yield from show(1, key=2, **{"a": 1, **{}})
            return {**{}, "x": {1, 2}, "y": {k: v for k, v in [] if k}}

        def run(self):
            assert choose, "message"
            nonlocal_ = partial(reduce, gather)
            x = y = -1 if ~0 else +1
            x += 1 @ 2 ** 3 // 4 << 5 >> 6 & 7 ^ 8
            return x, y, not x, x is not None and y not in (1, 2) or nonlocal_
'''
GOLDEN = "d9a0763646657fb7e6a24a7bef9111cf"
"""The digest of SYNTAX. If it changes, every digest that users have changes."""


def test_the_digest_is_the_golden_one(load: Any) -> None:
    assert digest_of(load, {"pipeline.py": SYNTAX}) == GOLDEN


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("seed", ["0", "1", "77"])
def test_the_digest_is_the_same_on_every_python_and_for_every_hash_seed(
    tmp_path: Path, version: str, seed: str, monkeypatch: pytest.MonkeyPatch, python_of: Callable[[str], str]
) -> None:
    python = python_of(version)
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    write(tmp_path, {"pipeline.py": textwrap.dedent(SYNTAX) + REPORT})
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for package in (attrs, importlib.import_module("attr")):
        shutil.copytree(Path(package.__file__).parent, libraries / package.__name__)
    path = os.pathsep.join([ROOT, str(libraries)])
    assert run_python(python, "pipeline.py", folder=tmp_path, path=path) == GOLDEN


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Runs cells as a notebook does: one namespace, each cell's text kept in linecache."""
    module = ModuleType("notebook_for_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    count = itertools.count()

    def run(text: str) -> dict[str, Any]:
        text = textwrap.dedent(text)
        name = f"<ipython-input-{next(count)}-{abs(hash(text))}>"
        monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
        exec(compile(text, name, "exec"), vars(module))
        return vars(module)

    return run


def test_a_class_of_a_notebook_is_found_with_helpers_of_other_cells(notebook: Any) -> None:
    train = """
        class Train:
            @staticmethod
            def run(): return helper()
    """
    digests: list[str | None] = []
    for cells in (["LIMIT = 1"], ["LIMIT = 2"], [], ["def helper(): return 2 * LIMIT"], ["import math as helper"]):
        notebook("LIMIT = 1\ndef helper(): return LIMIT")
        notebook("LIMIT = 1")
        for cell in cells:
            notebook(cell)
        digests.append(code.digest(notebook(train)["Train"]))
    same = notebook("LIMIT = 1\ndef helper(): return LIMIT") and code.digest(notebook(train)["Train"])
    assert None not in digests
    assert len(set(digests[2:])) == 3
    assert same is not None


constants = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=5), st.none())


@given(constants, constants)
def test_two_constants_have_one_form_only_if_they_are_one(one: object, other: object) -> None:
    import ast

    from kart_core.syntax import canonical

    def form(value: object) -> str:
        return canonical(ast.parse(f"x = {value!r}"))

    same = type(one) is type(other) and repr(one) == repr(other)
    assert (form(one) == form(other)) == same
