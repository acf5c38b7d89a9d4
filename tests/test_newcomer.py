"""The newcomer's first pipeline.

As a script, by the command and from Python it is one pipeline with one set of results.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

SCRIPT = ("pipeline.py", "Total", "--Numbers-n", "5")
BUILD = """\
import kart_core as kart
from pipeline import Numbers, Total

total = Total(numbers=Numbers(n=5))
print(kart.build(total), total.unique_id, total.numbers.unique_id)
"""
WAYS: Mapping[str, Callable[[Any], Any]] = {
    "script": lambda project: project.python(*SCRIPT),
    "command": lambda project: project.shell("run", "pipeline:Total", "--Numbers-n", "5"),
    "build": lambda project: project.python("-c", BUILD),
}


def stored(project: Any) -> dict[str, tuple[bytes, int]]:
    """Every file of the workspace with its content and its time."""
    files = [path for path in (project.folder / "resources").rglob("*") if path.is_file()]
    return {str(path.relative_to(project.folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(WAYS, 2)))
def test_whoever_comes_second_runs_nothing(pipeline: Any, first: str, second: str) -> None:
    done = WAYS[first](pipeline)
    assert done.code == 0, done.err
    files = stored(pipeline)
    assert len(pipeline.files()) == 2
    done = WAYS[second](pipeline)
    assert done.code == 0, done.err
    assert stored(pipeline) == files


def test_every_way_gives_the_same_ids_and_paths(pipeline: Any) -> None:
    files: set[tuple[str, ...]] = set()
    for i, way in enumerate(WAYS.values()):
        pipeline.write("kart.toml", f'[TaskOnKart]\nworkspace_directory = "way{i}"\n')
        assert way(pipeline).code == 0
        files.add(tuple(name.partition("/")[2] for name in pipeline.files(f"way{i}")))
    assert len(files) == 1
    _, total, numbers = pipeline.python("-c", BUILD).out.split()
    assert files == {(f"pipeline/Numbers_{numbers}.pkl", f"pipeline/Total_{total}.pkl")}


def test_build_gives_the_value_which_is_the_same_every_time(pipeline: Any) -> None:
    values: set[int] = set()
    for i in range(3):
        code = BUILD.replace("build(total)", f"build(total, workspace_directory='{i}')")
        values.add(int(pipeline.python("-c", code).out.split()[0]))
    assert len(values) == 1
    assert 0 <= values.pop() <= 500


def test_the_seed_is_made_from_the_id_of_the_task_that_draws(pipeline: Any) -> None:
    value, _, numbers = pipeline.python("-c", BUILD).out.split()
    seed = pipeline.python("-c", f"import kart_core as kart; print(kart.record('{numbers}').seed['value'])").out
    drawn = random.Random(int(seed))
    assert int(value) == sum(drawn.randint(0, 100) for _ in range(5))


def test_a_module_that_is_run_with_m_is_named_as_it_is_imported(pipeline: Any) -> None:
    pipeline.write("package/__init__.py", "")
    pipeline.write("package/pipeline.py", (pipeline.folder / "pipeline.py").read_text())
    assert pipeline.python("-m", "package.pipeline", *SCRIPT[1:]).code == 0
    files = stored(pipeline)
    assert all(name.startswith("resources/package/pipeline/") for name in pipeline.files())
    assert pipeline.shell("run", "package.pipeline:Total", "--Numbers-n", "5").code == 0
    assert stored(pipeline) == files


def test_a_script_is_named_from_its_own_folder_wherever_it_is_run_from(pipeline: Any) -> None:
    below = pipeline.folder / "below"
    below.mkdir()
    (below / "inner.py").write_text((pipeline.folder / "pipeline.py").read_text())
    assert pipeline.python("below/inner.py", *SCRIPT[1:]).code == 0
    files = stored(pipeline)
    assert all(name.startswith("resources/inner/") for name in pipeline.files())
    done = pipeline.python("-c", BUILD.replace("pipeline", "inner"), environment={"PYTHONPATH": str(below)})
    assert done.code == 0, done.err
    assert stored(pipeline) == files


POINTS = """\
import enum
from dataclasses import dataclass
from typing import NamedTuple

import kart_core as kart


class Kind(enum.Enum):
    ROUND = 1


@dataclass(frozen=True)
class Point:
    x: int
    kind: Kind

    class Mark(NamedTuple):
        name: str


class Points(kart.TaskOnKart[list[Point]]):
    n: int = 2

    def run(self):
        return [Point(x, Kind.ROUND) for x in range(self.n)] + [Point.Mark("end"), measure]


class Sum(kart.TaskOnKart[int]):
    points: Points

    def run(self):
        *points, mark, function = self.load(self.points)
        assert all(type(point) is Point for point in points), "one class, not two of one name"
        assert function is measure
        return sum(point.x for point in points)


def measure(point):
    return point.x


if __name__ == "__main__":
    kart.run()
"""


def test_a_dataclass_of_a_script_loads_in_another_process_that_imports_it(project: Any) -> None:
    project.write("points.py", POINTS)
    done = project.python("points.py", "Sum", "--Points-n", "3")
    assert done.code == 0, done.err
    ask = """\
import kart_core as kart
import points
found = kart.build(points.Points(n=3))
assert found[:3] == [points.Point(x, points.Kind.ROUND) for x in range(3)], found
assert found[3:] == [points.Point.Mark("end"), points.measure], found
assert type(found[0]) is points.Point
"""
    files = stored(project)
    done = project.python("-c", ask)
    assert done.code == 0, done.err
    assert stored(project) == files, "it was reused"


def test_a_dataclass_of_an_imported_module_loads_in_the_script(project: Any) -> None:
    project.write("points.py", POINTS)
    assert project.python("-c", "import kart_core as kart, points; kart.build(points.Points())").code == 0
    done = project.python("points.py", "Sum")
    assert done.code == 0, done.err


def test_a_script_that_calls_build_itself_stores_what_others_can_read(project: Any) -> None:
    project.write("points.py", POINTS.replace("kart.run()", "print(kart.build(Sum(points=Points())))"))
    done = project.python("points.py")
    assert (done.out, done.code) == ("1\n", 0), done.err
    done = project.python("-c", "import kart_core as kart, points; print(kart.build(points.Points())[0])")
    assert done.out.startswith("Point("), done.err


def test_a_script_and_the_module_of_its_name_are_one_while_it_runs(project: Any) -> None:
    project.write("helper.py", "def same(cls):\n    import main\n    return main.Task is cls\n")
    project.write(
        "main.py",
        "import kart_core as kart\n\n\nclass Task(kart.TaskOnKart[int]):\n    pass\n\n\n"
        "import helper\nprint(helper.same(Task))\n",
    )
    done = project.python("main.py")
    assert (done.out, done.code) == ("True\n", 0), done.err


TASK = """\
import kart_core as kart


class Task(kart.TaskOnKart[str]{keywords}):
    n: int = 1

    def run(self):
        print("runs")
        return "{value}"


if __name__ == "__main__":
    print(kart.build(Task()))
"""


@pytest.mark.parametrize("modules", [("one", "two"), ("package.one", "package.two"), ("one", "package.one")])
def test_two_tasks_of_one_name_in_two_modules_share_neither_id_nor_file(project: Any, modules: tuple[str, str]) -> None:
    for module in modules:
        project.write(module.replace(".", "/") + ".py", TASK.format(value=module, keywords=""))
    ask = f"""\
import kart_core as kart
import {modules[0]}, {modules[1]}
tasks = [{modules[0]}.Task(), {modules[1]}.Task()]
assert tasks[0] != tasks[1]
assert tasks[0].unique_id != tasks[1].unique_id
assert tasks[0].output() != tasks[1].output()
print(*kart.build(*tasks))
"""
    done = project.python("-c", ask)
    assert done.code == 0, done.err
    assert done.out.split() == ["runs", "runs", *modules]
    assert len(project.files()) == 2


def scripts_of_one_name(project: Any, **keywords: str) -> None:
    for folder in ("left", "right"):
        project.write(f"{folder}/main.py", TASK.format(value=folder, keywords=keywords.get(folder, "")))


def run_main(project: Any, folder: str) -> list[str]:
    done = project.python(f"{folder}/main.py")
    assert done.code == 0, done.err
    return done.out.split()


def test_two_scripts_of_one_file_name_are_told_apart_by_the_class_keyword_namespace(project: Any) -> None:
    scripts_of_one_name(project, left=', namespace="left"', right=', namespace="right"')
    assert [run_main(project, folder) for folder in ("left", "right")] == [["runs", "left"], ["runs", "right"]]
    assert [re.sub("_[0-9a-f]{32}", "", name) for name in project.files()] == [
        "resources/left/Task.pkl",
        "resources/right/Task.pkl",
    ]
    assert [run_main(project, folder) for folder in ("left", "right")] == [["left"], ["right"]]


def test_two_scripts_of_one_file_name_are_told_apart_by_the_namespace_of_their_configuration(project: Any) -> None:
    scripts_of_one_name(project)
    for folder in ("left", "right"):
        project.write("kart.toml", f'[TaskOnKart]\nnamespace = "{folder}"\n')
        assert run_main(project, folder) == ["runs", folder]
    assert len(project.files()) == 2
    assert run_main(project, "right") == ["right"]


def test_a_class_with_a_namespace_can_move_to_another_module(project: Any) -> None:
    keywords = ', namespace="fraud"'
    project.write("one.py", TASK.format(value="x", keywords=keywords))
    project.write("two.py", TASK.format(value="x", keywords=keywords))
    assert project.python("one.py").out.split() == ["runs", "x"]
    assert project.python("two.py").out.split() == ["x"]


def test_the_output_of_a_task_names_the_file_that_is_written(project: Any) -> None:
    project.write(
        "pipeline.py",
        """\
import os
import kart_core as kart


class Outer:
    class Inner(kart.TaskOnKart[int]):
        def run(self):
            return 1


for task in (Outer.Inner(),):
    kart.build(task)
    assert task.output().exists()
    assert os.path.isfile(task.output().url)
    assert kart.record(task).outputs[0].path == task.output().path
    print(task.output().path.replace(task.unique_id, "ID"))
""",
    )
    done = project.python("pipeline.py")
    assert (done.out, done.code) == ("pipeline/Outer.Inner_ID.pkl\n", 0), done.err
