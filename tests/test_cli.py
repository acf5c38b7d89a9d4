"""The command line: what it takes, what it shows, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ID = re.compile(r"[0-9a-f]{32}")

TYPES = """\
import enum
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

import attrs
import kart_core as kart


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@attrs.frozen
class Point:
    x: int
    y: int = 0


class Child(kart.TaskOnKart[int]):
    n: int = 1

    def run(self) -> int:
        return self.n


class Everything(kart.TaskOnKart[str]):
    flag: bool = False
    count: int = 0
    rate: float = 0.5
    name: str = "none given"
    data: bytes = b""
    path: Path = Path(".")
    day: date = date(2020, 1, 1)
    when: datetime | None = None
    wait: timedelta = timedelta(0)
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    either: int | str = 0
    pair: tuple[int, str] = (0, "")
    layers: list[int] = kart.parameter(default=[])
    weights: dict[str, float] = kart.parameter(default={}, description="what each class weighs")
    point: Point = Point(x=0)
    child: Child = Child()

    def run(self) -> str:
        fields = "flag count rate name data path day when wait colour kind limit either pair layers weights point child"
        return "\\n".join(f"{name}={getattr(self, name)!r}" for name in fields.split())

    def output(self):
        return self.make_target("everything.txt", use_unique_id=False)


class Flags(kart.TaskOnKart[bool]):
    flag: bool = False

    def run(self) -> bool:
        return self.flag


class Other(kart.TaskOnKart[int]):
    def run(self) -> int:
        return 1
"""


class TestRunning:
    def test_a_run_ends_with_what_ran_how_long_and_where_the_result_is(self, pipeline):
        done = pipeline.kart("run", "pipeline:Total", "--Numbers-n", "5")
        assert done.code == 0
        assert re.search(r"done in [\d.]+ s: 2 ran, 0 reused", done.out)
        assert "pipeline.Numbers" in done.out
        path = re.search(r"result +pipeline\.Total: (.+)", done.out)[1]
        assert os.path.exists(path)
        assert "Total_" in path

    def test_the_second_run_reuses(self, pipeline):
        pipeline.kart("run", "pipeline:Total")
        again = pipeline.kart("run", "pipeline:Total")
        assert again.code == 0
        assert "0 ran" in again.out

    def test_plain_lines_tell_the_progress_where_nobody_watches(self, pipeline):
        done = pipeline.kart("run", "pipeline:Total")
        assert re.search(r"^start +pipeline\.Numbers [0-9a-f]{32}$", done.err, re.MULTILINE)
        assert re.search(r"^done +pipeline\.Total [0-9a-f]{32} \([\d.]+ s\)$", done.err, re.MULTILINE)

    def test_script_command_and_build_find_the_same_results(self, pipeline):
        by_script = pipeline.python("pipeline.py", "Total", "--Numbers-n", "5")
        assert by_script.code == 0, by_script.err
        assert "2 ran" in by_script.out
        files = pipeline.files()
        by_command = pipeline.shell("run", "pipeline:Total", "--Numbers-n", "5")
        assert "0 ran" in by_command.out
        by_file = pipeline.shell("run", "pipeline.py:Total", "--Numbers-n", "5")
        assert "0 ran" in by_file.out
        build = "import kart_core, pipeline; kart_core.build(pipeline.Total(numbers=pipeline.Numbers(n=5)))"
        assert pipeline.python("-c", build).code == 0
        assert pipeline.files() == files
        assert len(files) == 2

    def test_several_tasks_are_one_run(self, pipeline):
        done = pipeline.kart("run", "pipeline:Total", "pipeline:Numbers")
        assert done.code == 0
        assert "2 ran" in done.out
        assert len(re.findall(r"^  result", done.out, re.MULTILINE)) == 2

    def test_a_file_in_a_folder_is_run_as_python_names_it(self, project, pipeline):
        project.write("inside/other.py", pipeline.folder.joinpath("pipeline.py").read_text())
        first = project.shell("run", "inside/other.py:Numbers")
        assert first.code == 0, first.err
        assert "0 ran" in project.python("inside/other.py", "Numbers").out

    def test_local_scheduler_is_taken_and_does_nothing(self, pipeline):
        assert pipeline.kart("run", "pipeline:Total", "--local-scheduler").code == 0
        assert pipeline.kart("run", "--local_scheduler", "pipeline:Total").code == 0

    def test_rerun_means_the_named_tasks(self, pipeline):
        pipeline.kart("run", "pipeline:Total")
        again = pipeline.kart("run", "pipeline:Total", "--rerun")
        assert "1 ran, 0 reused" in again.out or "1 ran, 1 reused" in again.out
        assert re.search(r"ran +pipeline\.Total$", again.out, re.MULTILINE)

    def test_rerun_from_means_the_task_and_all_that_depends_on_it(self, pipeline):
        pipeline.kart("run", "pipeline:Total")
        assert "2 ran" in pipeline.kart("run", "pipeline:Total", "--rerun-from", "Numbers").out

    def test_the_workspace_can_be_given_to_all_or_to_one_class(self, pipeline):
        done = pipeline.kart(
            "run", "pipeline:Total", "--workspace-directory", "all", "--Numbers-workspace-directory=numbers"
        )
        assert done.code == 0
        assert [name for name in pipeline.files("all") if "Total" in name]
        assert [name for name in pipeline.files("numbers") if "Numbers" in name]

    def test_a_config_file_of_the_command_line_wins_over_those_found(self, pipeline):
        pipeline.write("kart.toml", '[TaskOnKart]\nworkspace_directory = "found"\n[Numbers]\nn = 3\n')
        pipeline.write("mine.ini", "[TaskOnKart]\nworkspace_directory = given\n")
        done = pipeline.kart("run", "pipeline:Total", "--config", "mine.ini")
        assert done.code == 0
        assert pipeline.files("given")
        assert not os.path.exists("found")

    def test_a_required_task_is_made_from_its_defaults_and_its_own_options(self, project):
        project.write(
            "deep.py",
            "import kart_core as kart\n"
            "class A(kart.TaskOnKart[int]):\n    n: int\n    def run(self): return self.n\n"
            "class B(kart.TaskOnKart[int]):\n    a: A\n    def run(self): return self.load(self.a)\n"
            "class C(kart.TaskOnKart[int]):\n    b: B\n    def run(self): return self.load(self.b)\n"
            "    def output(self): return self.make_target('c.json', use_unique_id=False)\n",
        )
        assert project.kart("run", "deep:C", "--A-n", "7").code == 0
        assert project.folder.joinpath("resources/c.json").read_text() == "7"
        refused = project.kart("run", "deep:C")
        assert refused.code == 2
        assert "deep.A" in refused.err
        assert "--A-n" in refused.err

    def test_an_option_with_the_class_holds_for_every_task_of_it_and_one_without_for_the_named_task(self, project):
        project.write(
            "chain.py",
            "import kart_core as kart\n"
            "class Link(kart.TaskOnKart[str]):\n"
            "    i: int = 0\n    word: str = 'x'\n"
            "    def requires(self): return Link(i=self.i - 1) if self.i else ()\n"
            "    def run(self): return self.word + (self.load()[0] if False else '')\n"
            "    def output(self): return self.make_target(f'link{self.i}.txt', use_unique_id=False)\n",
        )
        project.kart("run", "chain:Link", "--i", "1", "--word", "root")
        assert project.folder.joinpath("resources/link0.txt").read_text() == "x"
        assert project.folder.joinpath("resources/link1.txt").read_text() == "root"
        project.kart("run", "chain:Link", "--i", "1", "--Link-word", "all")
        assert project.folder.joinpath("resources/link0.txt").read_text() == "all"


class TestPrinting:
    def test_run_prints_the_result_on_the_last_line_where_it_is_asked_to(self, pipeline):
        silent = pipeline.kart("run", "pipeline:Numbers", "--n", "3")
        values = eval(pipeline.kart("run", "pipeline:Numbers", "--n", "3", "--print").out.splitlines()[-1])
        assert len(values) == 3
        assert str(values) not in silent.out
        total = pipeline.kart("run", "pipeline:Total", "--Numbers-n", "3", "--print")
        assert total.out.splitlines()[-1] == str(sum(values))
        assert "1 ran" in total.out

    def test_several_results_are_printed_with_their_names(self, pipeline):
        done = pipeline.kart("run", "pipeline:Total", "pipeline:Numbers", "--print", "--Numbers-n", "0")
        assert done.out.splitlines()[-2:] == ["pipeline.Total: 0", "pipeline.Numbers: []"]

    def test_two_results_of_one_class_are_told_apart(self, project):
        project.write(
            "texts.py",
            "import kart_core as kart\n"
            "class Text(kart.TaskOnKart[str]):\n    def run(self): return 'a\\nb'\n"
            "class Fails(kart.TaskOnKart[str]):\n    def run(self): raise ValueError\n",
        )
        done = project.kart("run", "texts:Text", "texts:Fails", "--print")
        assert done.code == 40
        assert done.out.splitlines()[-1] == "texts.Text: 'a\\nb'"

    def test_a_script_prints_too(self, pipeline):
        done = pipeline.python("pipeline.py", "Total", "--Numbers-n", "0", "--print")
        assert done.out.splitlines()[-1] == "0"

    def test_show_prints_a_stored_result_alone(self, pipeline):
        ran = pipeline.kart("run", "pipeline:Total", "--print")
        value = ran.out.splitlines()[-1]
        assert pipeline.kart("show", "pipeline:Total", "--print").out == f"{value}\n"
        unique_id = ID.search(ran.err.splitlines()[-1])[0]
        assert pipeline.kart("show", unique_id, "--print").out == f"{value}\n"
        assert pipeline.shell("show", unique_id[:8], "--print").out == f"{value}\n"
        assert pipeline.kart("show", "pipeline:Total", "--Numbers-n", "3", "--print").code == 20

    def test_show_by_an_id_names_each_of_several_outputs(self, project):
        project.write(
            "two.py",
            "import kart_core as kart\n"
            "class Two(kart.TaskOnKart[object]):\n"
            "    def output(self): return [self.make_target('a.txt'), self.make_target('b.json')]\n"
            "    def run(self): return ['text', {'x': 1}]\n",
        )
        ran = project.kart("run", "two:Two")
        unique_id = ID.search(ran.out)[0]
        assert project.kart("show", "two:Two", "--print").out == "['text', {'x': 1}]\n"
        by_id = project.kart("show", unique_id, "--print")
        assert by_id.out == f"a_{unique_id}.txt: 'text'\nb_{unique_id}.json: {{'x': 1}}\n"

    def test_damage_is_found_before_anything_is_printed(self, pipeline):
        ran = pipeline.kart("run", "pipeline:Numbers")
        (file,) = pipeline.files()
        (pipeline.folder / file).write_bytes(b"damage")
        for name in ("pipeline:Numbers", ID.search(ran.out)[0]):
            done = pipeline.kart("show", name, "--print")
            assert done.code == 70
            assert "is not what was written" in done.err
            assert done.out == ""

    def test_a_record_and_a_value_are_not_shown_together(self, pipeline):
        pipeline.kart("run", "pipeline:Numbers")
        done = pipeline.kart("show", "pipeline:Numbers", "--print", "--json")
        assert done.code == 2
        assert "--json" in done.err


class TestHints:
    def test_a_task_where_a_command_belongs_is_told_the_command(self, pipeline):
        for word in ("pipeline:Total", "pipeline.py:Total"):
            done = pipeline.kart(word)
            assert done.code == 2
            assert f"kart-core run {word}" in done.err

    def test_a_dotted_task_is_told_its_form(self, pipeline):
        done = pipeline.kart("run", "pipeline.Total")
        assert done.code == 2
        assert "did you mean pipeline:Total?" in done.err
        assert "kart-core run pipeline:Total" in pipeline.kart("pipeline.Total").err
        assert "did you mean pkg.mod:Outer.Inner?" in pipeline.kart("run", "pkg.mod.Outer.Inner").err
        assert "did you mean pipeline.py:Total?" in pipeline.kart("run", "pipeline.py.Total").err

    def test_a_script_is_told_the_form_too(self, pipeline):
        done = pipeline.python("pipeline.py", "pipeline.Total")
        assert done.code == 2
        assert "did you mean Total?" in done.err

    def test_a_file_alone_is_told_to_name_a_task(self, pipeline):
        done = pipeline.kart("run", "pipeline.py")
        assert done.code == 2
        assert "pipeline.py:TASK" in done.err

    def test_a_misspelt_command_is_told_the_nearest(self, project):
        done = project.kart("rnu", "pipeline:Total")
        assert done.code == 2
        assert "did you mean run?" in done.err

    def test_a_working_directory_that_is_gone_is_one_sentence(self, project):
        folder = project.folder / "gone"
        folder.mkdir()
        code = "import os, kart_core.cli; os.rmdir(os.getcwd()); kart_core.cli.main()"
        for words in (["config"], ["run", "pipeline:Total"], ["plugins"], ["show", "0123456789"]):
            folder.mkdir(exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 2, done.stderr
            assert done.stderr.startswith("error: ")
            assert "working directory" in done.stderr
            assert len(done.stderr.splitlines()) == 1


class TestValues:
    @pytest.mark.parametrize(
        ("words", "shown"),
        [
            (["--flag"], "flag=True"),
            (["--flag", "false"], "flag=False"),
            (["--flag=yes"], "flag=True"),
            (["--flag", "ON"], "flag=True"),
            (["--count", "-5"], "count=-5"),
            (["--rate", "1"], "rate=1.0"),
            (["--name", "a b=c"], "name='a b=c'"),
            (["--name=--odd"], "name='--odd'"),
            (["--name="], "name=''"),
            (["--path", "data/x.csv"], "path=PosixPath('data/x.csv')"),
            (["--day", "2024-02-29"], "day=datetime.date(2024, 2, 29)"),
            (["--when", "2024-02-29T12:00:00+00:00"], "when=datetime.datetime(2024, 2, 29, 12, 0, tzinfo="),
            (["--wait", "1h30m"], "wait=datetime.timedelta(seconds=5400)"),
            (["--colour", "BLUE"], "colour=<Colour.BLUE: 2>"),
            (["--kind", "b"], "kind='b'"),
            (["--limit", "3"], "limit=3"),
            (["--either", "word"], "either='word'"),
            (["--either", "12"], "either=12"),
            (["--pair", '[3, "x"]'], "pair=(3, 'x')"),
            (["--layers", "[64, 32]"], "layers=[64, 32]"),
            (["--weights", '{"a": 0.5}'], "weights={'a': 0.5}"),
            (["--point", '{"x": 1, "y": 2}'], "point=Point(x=1, y=2)"),
            (["--child", '{"n": 3}'], "child=Child(n=3)"),
            (["--Child-n", "4"], "child=Child(n=4)"),
            (["--data", "abc"], "data=b'abc'"),
        ],
    )
    def test_a_parameter_of_each_type_is_an_option(self, project, words, shown):
        project.write("types_of.py", TYPES)
        done = project.kart("run", "types_of:Everything", *words)
        assert done.code == 0, done.err
        assert shown in project.folder.joinpath("resources/everything.txt").read_text()

    def test_dashes_and_underscores_are_both_taken(self, pipeline):
        assert pipeline.kart("run", "pipeline:Total", "--workspace_directory", "a").code == 0
        assert pipeline.kart("run", "pipeline:Total", "--Numbers_n=3", "--rerun_from=Total").code == 0

    def test_a_flag_leaves_the_next_task_alone(self, project):
        project.write("types_of.py", TYPES)
        for words in (["types_of:Flags", "--flag", "types_of:Other"], ["--flag", "types_of:Flags", "types_of:Other"]):
            done = project.kart("plan", "--json", *words)
            assert done.code == 0, done.err
            assert [node["task"] for node in done.data if node["root"]] == ["types_of.Flags", "types_of.Other"]

    def test_an_option_may_come_before_its_task(self, pipeline):
        before = pipeline.kart("plan", "--Numbers-n", "4", "pipeline:Total", "--json")
        after = pipeline.kart("plan", "pipeline:Total", "--json", "--Numbers-n", "4")
        assert before.code == 0
        assert before.data == after.data

    def test_the_class_may_be_named_with_its_module(self, pipeline):
        long = pipeline.kart("plan", "pipeline:Total", "--pipeline.Numbers-n", "4", "--json")
        short = pipeline.kart("plan", "pipeline:Total", "--Numbers-n", "4", "--json")
        assert long.data == short.data

    def test_the_named_task_takes_its_options_with_its_class_too(self, pipeline):
        long = pipeline.kart("plan", "pipeline:Numbers", "--Numbers-n", "4", "--json")
        short = pipeline.kart("plan", "pipeline:Numbers", "--n", "4", "--json")
        assert long.data == short.data

    def test_two_classes_of_one_name_are_told_apart_by_their_modules(self, project):
        child = "class Child(kart.TaskOnKart[int]):\n    n: int = 1\n    def run(self): return 1\n"
        child = "import kart_core as kart\n" + child
        project.write("one.py", child)
        project.write("two.py", child)
        project.write(
            "both.py",
            "import kart_core as kart\nimport one, two\n"
            "class Both(kart.TaskOnKart[int]):\n    a: one.Child\n    b: two.Child\n    def run(self): return 1\n",
        )
        vague = project.kart("plan", "both:Both", "--Child-n", "2")
        assert vague.code == 2
        for fact in ("one.Child", "two.Child", "module"):
            assert fact in vague.err
        exact = project.kart("plan", "both:Both", "--two.Child-n", "2", "--json")
        assert exact.code == 0
        default = project.kart("plan", "both:Both", "--json").data
        ids = {(node["task"], node["unique_id"]) for node in exact.data}
        same = {(node["task"], node["unique_id"]) for node in default} & ids
        assert {name for name, _ in same} == {"one.Child"}
        shown = project.kart("plan", "both:Both", "--help")
        assert "--one.Child-n" in shown.out
        assert "--two.Child-n" in shown.out


class TestLooking:
    def test_plan_shows_what_would_run_and_why_and_changes_nothing(self, pipeline):
        plan = pipeline.kart("plan", "pipeline:Total")
        assert plan.code == 0
        assert re.search(r"run +pipeline\.Total", plan.out)
        assert re.search(r"run +pipeline\.Numbers", plan.out)
        assert "2 to run" in plan.out
        assert not os.path.exists("resources")
        pipeline.kart("run", "pipeline:Total")
        assert re.search(r"reuse +pipeline\.Total", pipeline.kart("plan", "pipeline:Total").out)

    def test_plan_counts_many_alike_and_stays_short(self, project):
        project.write(
            "wide.py",
            "import kart_core as kart\n"
            "class Leaf(kart.TaskOnKart[int]):\n    i: int\n    def run(self): return 1\n"
            "class Root(kart.TaskOnKart[int]):\n"
            "    def requires(self): return [Leaf(i=i) for i in range(500)]\n    def run(self): return 1\n",
        )
        plan = project.kart("plan", "wide:Root")
        assert "499 more wide.Leaf" in plan.out
        assert len(plan.out.splitlines()) < 10
        assert len(project.kart("plan", "wide:Root", "--json").data) == 501

    def test_plan_of_a_deep_chain_stays_short(self, project):
        project.write(
            "deep.py",
            "import kart_core as kart\n"
            "class Link(kart.TaskOnKart[int]):\n    i: int\n"
            "    def requires(self): return Link(i=self.i - 1) if self.i else ()\n    def run(self): return 1\n",
        )
        plan = project.kart("plan", "deep:Link", "--i", "3000")
        assert plan.code == 0
        assert "3001 to run" in plan.out
        assert len(plan.out.splitlines()) < 50

    def test_show_tells_how_a_result_came_to_be(self, pipeline):
        pipeline.kart("run", "pipeline:Total", "--Numbers-n", "5")
        shown = pipeline.kart("show", "pipeline:Total", "--Numbers-n", "5")
        assert shown.code == 0
        unique_id = ID.search(shown.out)[0]
        for fact in ("pipeline.Total", "pipeline.Numbers", "output", "digest", "attempt", "kart_core"):
            assert fact in shown.out
        by_id = pipeline.kart("show", unique_id, "--json")
        assert by_id.code == 0
        assert by_id.data["task"] == "pipeline.Total"
        assert by_id.data == pipeline.kart("show", unique_id[:12], "--json").data

    def test_show_finds_an_id_in_the_given_workspace(self, pipeline):
        pipeline.kart("run", "pipeline:Numbers", "--workspace-directory", "elsewhere")
        (file,) = pipeline.files("elsewhere")
        unique_id = ID.search(file)[0]
        assert pipeline.kart("show", unique_id, "--workspace-directory", "elsewhere").code == 0
        assert pipeline.kart("show", unique_id).code == 20

    def test_config_shows_each_effective_value_and_where_it_comes_from(self, pipeline, monkeypatch):
        general = '[TaskOnKart]\nworkspace_directory = "${PLACE}"\n'
        pipeline.write("kart.toml", general + "[Numbers]\nn = 3\n[Elsewhere]\nx = 1\n")
        monkeypatch.setenv("PLACE", "here")
        monkeypatch.setenv("KART_RERUN", "true")
        rows = pipeline.kart("config", "pipeline:Total", "--Numbers-strict-check", "--json").data
        found = {(row["section"], row["key"]): row for row in rows}
        assert found["TaskOnKart", "workspace_directory"]["value"] == "here"
        assert "kart.toml" in found["TaskOnKart", "workspace_directory"]["source"]
        assert found["TaskOnKart", "rerun"]["source"] == "environment KART_RERUN"
        assert found["TaskOnKart", "significant"]["source"] == "default"
        assert found["pipeline.Numbers", "n"]["value"] == "3"
        assert "--pipeline.Numbers-strict-check" in found["pipeline.Numbers", "strict_check"]["source"]
        assert "not checked" in found["Elsewhere", "x"]["note"]
        assert pipeline.kart("config").code == 0

    def test_show_says_that_a_result_is_gone(self, pipeline, workspace):
        pipeline.kart("run", "pipeline:Numbers")
        assert "not there any more" not in pipeline.kart("show", "pipeline:Numbers").out
        (path,) = workspace.results()
        workspace.remove(path)
        by_task = pipeline.kart("show", "pipeline:Numbers")
        assert by_task.code == 0
        assert re.search(rf"gone +\S+{re.escape(path)} is not there any more; the task runs again", by_task.out)
        unique_id = path.rpartition("_")[2].partition(".")[0]
        assert pipeline.kart("show", unique_id).out == by_task.out

    def test_a_plan_for_workers_is_the_plan(self, pipeline):
        plain = pipeline.kart("plan", "pipeline:Total")
        assert pipeline.kart("plan", "pipeline:Total", "--workers", "2", "--executor", "processes") == plain
        assert plain.code == 0

    def test_config_knows_the_sections_that_are_about_runs(self, project, monkeypatch):
        project.write("kart.toml", "[run]\nworkers = 4\nexecuter = 'dask'\n[resources]\napi_key = 2\ngpu = 'two'\n")
        monkeypatch.setenv("KART_WORKERS", "3")
        found = {(row["section"], row["key"]): row for row in project.kart("config", "--json").data}
        assert (found["run", "workers"]["value"], found["run", "workers"]["note"]) == ("3", "")
        assert found["run", "workers"]["source"] == "environment KART_WORKERS"
        assert "did you mean 'executor'?" in found["run", "executer"]["note"]
        assert (found["resources", "api_key"]["value"], found["resources", "api_key"]["note"]) == ("2", "")
        assert "it takes how much there is of 'gpu'" in found["resources", "gpu"]["note"]

    def test_config_shows_no_secret(self, project):
        project.write(
            "secretive.py",
            "import kart_core as kart\n"
            "class Fetch(kart.TaskOnKart[int]):\n"
            "    word: str = kart.parameter(default='x', private=True)\n"
            "    def run(self): return 1\n",
        )
        hidden = '[Fetch]\nword = "hush"\n[Other]\npassword = "hush"\n[plugins.nobody]\nx = "hush"\n'
        project.write("kart.toml", hidden)
        for words in (["secretive:Fetch"], ["secretive:Fetch", "--word", "hush"], ["secretive:Fetch", "--json"]):
            shown = project.kart("config", *words)
            assert shown.code == 0
            assert "***" in shown.out
            assert "hush" not in shown.out

    def test_config_names_the_nearest_key(self, pipeline):
        pipeline.write("kart.toml", "[Numbers]\nnn = 3\n")
        shown = pipeline.kart("config", "pipeline:Numbers")
        assert shown.code == 0
        assert "did you mean n?" in shown.out

    def test_plugins_lists_without_arguments(self, project):
        listed = project.kart("plugins")
        assert listed.code == 0
        assert "builtin" in listed.out
        assert "pkl" in listed.out
        assert project.kart("plugins", "--json").data[0]["state"] == "ready"

    def test_a_plugin_of_the_project_is_shown_with_its_settings(self, project):
        project.write(
            "mine.py",
            "import attrs\nimport kart_core as kart\nfrom kart_core.plugin import Seeder\n"
            "@attrs.frozen\nclass Settings:\n"
            "    volume: int = attrs.field(default=1, metadata={'help': 'how loud'})\n"
            "    word: kart.Secret = kart.Secret('hush')\n"
            "class Mine(kart.Plugin, settings=Settings):\n    pass\n",
        )
        project.write("kart.toml", '[plugins]\nload = ["mine:Mine"]\n[plugins.mine]\nvolume = 3\n')
        script = str(Path(sys.executable).with_name("kart-core"))
        shown = project.python(script, "plugins", "mine", "--json")
        assert shown.code == 0, shown.err
        checked = project.python(script, "plugins", "mine", "--check")
        assert checked.code == 0, checked.out + checked.err
        settings = {setting["name"]: setting for setting in shown.data["settings"]}
        assert settings["volume"]["value"] == "3"
        assert settings["volume"]["help"] == "how loud"
        assert "kart.toml" in settings["volume"]["source"]
        assert "hush" not in shown.out
        assert "how loud" in project.kart("plugins", "mine", "--set", "plugins.mine.volume=4").out

    def test_check_says_which_plugin_is_broken_and_why(self, project):
        project.write("kart.toml", '[plugins]\nload = ["no_such_module:Mine"]\n')
        assert project.kart("plugins").code == 0
        checked = project.kart("plugins", "--check")
        assert checked.code == 70
        assert "broken" in checked.out
        assert "no_such_module" in checked.out

    def test_a_plugin_can_be_set_and_left_out_for_one_run(self, pipeline):
        pipeline.write(
            "mine.py",
            "import attrs\nimport kart_core as kart\n"
            "from kart_core.builtin.local_store import LocalStore\nfrom kart_core.plugin import Storage\n"
            "@attrs.frozen\nclass Settings:\n    folder: str = 'a'\n"
            "class Mine(kart.Plugin, settings=Settings):\n"
            "    @kart.hookimpl\n    def kart_storages(self):\n"
            "        return [Storage('mine', open=lambda url: LocalStore(os.path.abspath(self.settings.folder)))]\n"
            "import os\n",
        )
        pipeline.write("kart.toml", '[plugins]\nload = ["mine:Mine"]\n')
        words = ["run", "pipeline:Numbers", "--workspace-directory", "mine://x"]
        done = pipeline.shell(*words, "--set", "plugins.mine.folder=elsewhere")
        assert done.code == 0, done.err
        assert len(pipeline.files("elsewhere")) == 1
        refused = pipeline.shell(*words, "--no-plugin", "mine")
        assert refused.code == 70
        assert "mine://" in refused.err
        wrong = pipeline.shell(*words, "--set", "plugins.mine.foldr=x")
        assert wrong.code == 2
        assert "did you mean folder?" in wrong.err

    def test_each_setting_of_a_plugin_is_an_option(self, pipeline):
        pipeline.write(
            "mine.py",
            "import os\nimport attrs\nimport kart_core as kart\n"
            "from kart_core.builtin.local_store import LocalStore\nfrom kart_core.plugin import Storage\n"
            "@attrs.frozen\nclass Settings:\n"
            "    top_folder: str = attrs.field(default='a', metadata={'help': 'where all is'})\n"
            "    upper: bool = False\n"
            "class Mine(kart.Plugin, settings=Settings):\n"
            "    @kart.hookimpl\n    def kart_storages(self):\n"
            "        return [Storage('mine', open=self.open)]\n"
            "    def open(self, url):\n"
            "        folder = self.settings.top_folder\n"
            "        return LocalStore(os.path.abspath(folder.upper() if self.settings.upper else folder))\n",
        )
        pipeline.write("kart.toml", '[plugins]\nload = ["mine:Mine"]\n')
        words = ["--workspace-directory", "mine://x"]
        for given in (
            ["pipeline:Numbers", "--mine-top-folder", "b"],
            ["--mine-top_folder=c", "pipeline:Numbers"],
            ["--mine-top-folder", "d", "--mine-upper", "pipeline:Numbers"],
            ["--mine-upper", "no", "--mine-top-folder", "e", "pipeline:Numbers"],
        ):
            done = pipeline.shell("run", *given, *words)
            assert done.code == 0, done.err
        assert [len(pipeline.files(folder)) for folder in "bcDe"] == [1, 1, 1, 1]
        shown = pipeline.shell("config", "pipeline:Numbers", "--mine-top-folder", "b")
        assert "--set plugins.mine.top_folder" in shown.out
        shown = pipeline.shell("run", "pipeline:Numbers", "--help")
        assert "--mine-top-folder str" in shown.out
        assert "where all is [default: 'a']" in " ".join(shown.out.split())
        assert "--mine-upper [true|false]" in shown.out
        wrong = pipeline.shell("run", "pipeline:Numbers", "--mine-top-foldr", "x")
        assert (wrong.code, "did you mean --mine-top-folder?" in wrong.err) == (2, True)
        wrong = pipeline.shell("run", "pipeline:Numbers", "--mine-top-folder")
        assert (wrong.code, "--mine-top-folder needs a value" in wrong.err) == (2, True)
        pipeline.write(
            "rows.py",
            "import kart_core as kart\n"
            "class A(kart.TaskOnKart[int]):\n    mine_rows: int = 1\n    fast: bool = False\n"
            "    def run(self): return self.mine_rows\n"
            "class B(kart.TaskOnKart[int]):\n    n: int = 1\n    def run(self): return self.n\n",
        )
        done = pipeline.shell("plan", "--fast", "rows:A", "rows:B", "--mine-rows", "3", *words)  # the task's own
        assert (done.code, "2 to run" in done.out) == (0, True), done.err


class TestHelp:
    def test_help_lists_the_commands_with_examples(self, project):
        for words in (["--help"], ["-h"]):
            shown = project.kart(*words)
            assert shown.code == 0
            assert "kart-core run pipeline:Total" in shown.out
        for command in ("run", "plan", "show", "plugins", "config"):
            assert command in shown.out
            assert "Examples:" in project.kart(command, "--help").out

    def test_help_of_a_task_shows_its_options_with_type_default_and_description(self, project):
        project.write("types_of.py", TYPES)
        shown = project.kart("run", "types_of:Everything", "--help")
        assert shown.code == 0
        assert "--weights dict[str, float]" in shown.out
        assert "what each class weighs" in shown.out
        assert "[default: none given]" in shown.out
        assert "--flag [true|false]" in shown.out
        assert "--Child-n int" in shown.out
        assert "Settings" in shown.out
        assert "--workspace-directory str" in shown.out
        assert not os.path.exists("resources")

    def test_help_marks_what_must_be_given(self, pipeline):
        shown = pipeline.kart("run", "pipeline:Total", "--help")
        assert "--numbers JSON of Numbers" in shown.out
        assert "--Numbers-n" in shown.out

    def test_version(self, project):
        import kart_core

        assert project.kart("--version").out == f"kart-core {kart_core.__version__}\n"

    def test_without_a_command_it_shows_help_and_fails(self, project):
        done = project.kart()
        assert done.code == 2
        assert "Commands:" in done.err


class TestScripts:
    def test_a_script_alone_lists_its_tasks(self, pipeline):
        for words, code in ([], 2), (["--help"], 0):
            shown = pipeline.python("pipeline.py", *words)
            assert shown.code == code
            assert "Numbers" in shown.out + shown.err
            assert "Total" in shown.out + shown.err
            assert "python pipeline.py" in shown.out + shown.err
        assert not os.path.exists("resources")

    def test_a_script_explains_a_task(self, pipeline):
        assert "--Numbers-n int" in pipeline.python("pipeline.py", "Total", "--help").out

    def test_what_documents_of_such_systems_show_works(self, project):
        project.write("base.ini", "[TaskOnKart]\nworkspace_directory=${TASK_WORKSPACE_DIRECTORY}\n")
        project.write(
            "main.py",
            "import kart_core\n\n"
            "class Task(kart_core.TaskOnKart[dict[str, int]]):\n"
            "    def run(self) -> None:\n        self.dump({'answer': 42})\n\n"
            "if __name__ == '__main__':\n    kart_core.add_config('base.ini')\n    kart_core.run()\n",
        )
        where = {"TASK_WORKSPACE_DIRECTORY": "./out"}
        for _ in range(2):
            done = project.python("main.py", "Task", "--local-scheduler", "--rerun", environment=where)
            assert done.code == 0, done.err
            assert "1 ran" in done.out
        assert len(project.files("out")) == 1
        missing = project.python("main.py", "Task")
        assert missing.code == 2
        assert "Traceback" not in missing.err
        for fact in ("base.ini", "TaskOnKart", "workspace_directory", "TASK_WORKSPACE_DIRECTORY"):
            assert fact in missing.err

    def test_a_script_names_tasks_of_other_modules_too(self, pipeline):
        pipeline.write("main.py", "import kart_core, pipeline\nkart_core.run()\n")
        assert pipeline.python("main.py", "Numbers").code == 0
        assert "0 ran" in pipeline.python("main.py", "pipeline:Numbers").out

    def test_a_command_that_imports_an_unguarded_script_says_so(self, pipeline):
        pipeline.write("main.py", "import kart_core, pipeline\nkart_core.run()\n")
        done = pipeline.kart("run", "main:Numbers")
        assert done.code == 2
        assert 'if __name__ == "__main__":' in done.err

    def test_run_leaves_logging_alone_unless_a_level_is_given(self, project):
        project.write(
            "main.py",
            "import logging, kart_core\n\n"
            "class Task(kart_core.TaskOnKart[int]):\n"
            "    def run(self) -> int:\n"
            "        logging.getLogger('mine').info('handlers %d', len(logging.getLogger().handlers))\n"
            "        print('root has', len(logging.getLogger().handlers))\n        return 1\n\n"
            "if __name__ == '__main__':\n    kart_core.run()\n",
        )
        silent = project.python("main.py", "Task")
        assert "root has 0" in silent.out
        assert "handlers" not in silent.err
        loud = project.python("main.py", "Task", "--rerun", "--log-level", "info")
        assert "INFO mine: handlers 1" in loud.err

    def test_a_log_line_is_seen_where_the_users_configuration_says_so(self, project):
        project.write(
            "main.py",
            "import logging, kart_core\n"
            "logging.basicConfig(filename='log.txt', level=logging.INFO)\n\n"
            "class Task(kart_core.TaskOnKart[int]):\n"
            "    def run(self) -> int:\n        logging.info('seen')\n        return 1\n",
        )
        assert project.shell("run", "main:Task").code == 0
        assert "seen" in project.folder.joinpath("log.txt").read_text()


FAILING = """\
import kart_core as kart


class Good(kart.TaskOnKart[int]):
    def run(self) -> int:
        return 1


class Bad(kart.TaskOnKart[int]):
    good: Good

    def run(self) -> int:
        return helper({})


class Above(kart.TaskOnKart[int]):
    bad: Bad
    good: Good

    def run(self) -> int:
        return 1


class Raw(kart.ExternalTask[str]):
    def output(self):
        return self.make_target("raw.txt", use_unique_id=False)


class Reader(kart.TaskOnKart[str]):
    raw: Raw

    def run(self) -> str:
        return self.load(self.raw)


class Patient(kart.TaskOnKart[int]):
    def run(self) -> int:
        import time

        print("running", flush=True)
        time.sleep(60)
        return 1


def helper(values):
    return values["missing"]
"""


OWN = """\
import kart_core as kart


class Forgets(kart.TaskOnKart[int]):
    def run(self):
        pass


class Unfit(kart.TaskOnKart[object]):
    def output(self):
        return self.make_target("unfit.json")

    def run(self):
        self.dump({1, 2})


class Number(kart.TaskOnKart[int]):
    n: int = 1

    def run(self):
        return self.n


class Misspells(kart.TaskOnKart[int]):
    def run(self):
        return Number(nn=2).n


class Builds(kart.TaskOnKart[int]):
    def run(self):
        return kart.build(Forgets())


class Yields(kart.TaskOnKart[int]):
    def run(self):
        return (yield Forgets())


class Raw(kart.ExternalTask[str]):
    def output(self):
        return self.make_target("raw.txt", use_unique_id=False)


class Needs(kart.TaskOnKart[str]):
    raw: Raw

    def run(self):
        return self.load(self.raw)


class Raises(kart.TaskOnKart[int]):
    def run(self):
        raise kart.MissingDataError("no rows today")


class Talks(kart.TaskOnKart[int]):
    def run(self):
        raise ValueError("word " * 50 + "\\nthe second line")
"""


class TestFailing:
    def test_a_failed_task_shows_the_users_own_frames_and_the_summary(self, project):
        project.write("failing.py", FAILING)
        done = project.kart("run", "failing:Above")
        assert done.code == 40
        assert "KeyError: 'missing'" in done.err
        assert 'return values["missing"]' in done.err
        assert os.sep + "kart_core" + os.sep not in done.err
        assert "1 failed" in done.out
        assert "1 blocked" in done.out
        assert "1 ran" in done.out
        assert re.search(r"failed +failing\.Bad [0-9a-f]{32}: KeyError", done.out)
        assert re.search(r"blocked +failing\.Above", done.out)

    def test_missing_external_data_is_20(self, project):
        project.write("failing.py", FAILING)
        done = project.kart("run", "failing:Reader")
        assert done.code == 20
        assert "raw.txt" in done.out + done.err
        assert "Traceback" not in done.err

    def test_a_module_that_raises_shows_where(self, project):
        project.write("broken.py", "def f():\n    return 1 / 0\n\nf()\n")
        done = project.kart("run", "broken:Task")
        assert done.code == 50
        assert "broken.py" in done.err
        assert "ZeroDivisionError" in done.err
        assert "importlib" not in done.err
        assert os.sep + "kart_core" + os.sep not in done.err

    @pytest.mark.parametrize(("name", "said"), [("requires", "bad req"), ("output", "bad out")])
    def test_what_else_of_a_task_raises_is_shown_as_the_users_own(self, project, name, said):
        project.write(
            "odd.py",
            "import kart_core as kart\n"
            "class T(kart.TaskOnKart[int]):\n"
            f"    def {name}(self): raise ValueError('{said}')\n    def run(self): return 1\n",
        )
        done = project.shell("run", "odd:T")
        assert done.code == 50
        assert f"ValueError: {said}" in done.err
        assert 'odd.py", line 3' in done.err
        assert os.sep + "kart_core" + os.sep not in done.err

    def test_a_failure_in_a_build_inside_a_task_shows_where_it_was(self, project):
        project.write(
            "inside.py",
            "import kart_core as kart\n"
            "class Kid(kart.TaskOnKart[int]):\n    def run(self): raise OSError('kid')\n"
            "class Outer(kart.TaskOnKart[int]):\n    def run(self):\n        yield Kid()\n        self.dump(1)\n",
        )
        done = project.kart("run", "inside:Outer")
        assert done.code == 40
        assert 'inside.py", line 3, in run' in done.err
        assert re.search(r"failed +inside\.Outer [0-9a-f]{32}: .*OSError: kid", done.out)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("Forgets", "returned None and dumped nothing"),
            ("Unfit", "json cannot represent the set"),
            ("Misspells", "has no parameter 'nn'"),
            ("Builds", "returned None and dumped nothing"),
            ("Yields", "returned None and dumped nothing"),
            ("Needs", "is external data, and"),
        ],
    )
    def test_what_kart_itself_says_of_a_failure_is_one_sentence_said_once_in_full(self, project, name, said):
        project.write("own.py", OWN)
        done = project.kart("run", f"own:{name}")
        assert done.code in (20, 40)
        assert done.err.count(said) == 1
        assert done.out.count(said) <= 1  # the summary has a line for it, shortened
        assert "Traceback" not in done.err
        assert re.search(rf"(failed|missing) +own\.{'Raw' if name == 'Needs' else name} [0-9a-f]{{32}}", done.out)

    def test_the_summary_says_where_a_task_met_karts_refusal(self, project):
        project.write("own.py", OWN)
        done = project.kart("run", "own:Unfit")
        assert re.search(r"failed +own\.Unfit [0-9a-f]{32}: SerializationError: .*… \(own\.py, line 14\)", done.out)

    def test_damage_is_told_in_one_sentence(self, pipeline):
        pipeline.kart("run", "pipeline:Total")
        for file in pipeline.files():
            path = pipeline.folder / file
            path.unlink() if "Total" in file else path.write_bytes(b"damage")
        done = pipeline.kart("run", "pipeline:Total")
        assert (done.out + done.err).count("is not what was written") == 1
        assert "Traceback" not in done.err

    def test_a_task_that_raises_an_error_of_karts_by_itself_shows_its_line(self, project):
        project.write("own.py", OWN)
        done = project.kart("run", "own:Raises")
        assert 'raise kart.MissingDataError("no rows today")' in done.err

    def test_a_long_message_stands_in_full_in_the_traceback_and_not_in_the_summary(self, project):
        project.write("own.py", OWN)
        done = project.kart("run", "own:Talks")
        assert "the second line" in done.err
        assert "the second line" not in done.out
        assert "word " * 50 not in done.out
        assert re.search(r"failed +own\.Talks [0-9a-f]{32}: ValueError: word word .*…", done.out)

    def test_the_summary_gives_the_sentence_also_where_kart_itself_refused(self, project):
        project.write(
            "silent.py",
            "import kart_core as kart\n\n\n"
            "class Silent(kart.TaskOnKart[int]):\n    def run(self) -> None:\n        pass\n",
        )
        done = project.kart("run", "silent:Silent")
        assert done.code == 40
        assert re.search(r"failed +silent\.Silent [0-9a-f]{32}: KartError: .*Silent\(\)", done.out), done.out

    def test_control_c_ends_with_130_and_the_summary(self, project):
        project.write("failing.py", FAILING)
        process = subprocess.Popen(
            [sys.executable, "-c", "from kart_core.cli import main; main()", "run", "failing:Patient"],
            cwd=project.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "interrupted" in out
        assert "Traceback" not in err

    def test_output_that_nobody_reads_is_no_error(self, pipeline):
        command = f"{sys.executable} -c 'from kart_core.cli import main; main()' run --help | head -n 1"
        done = subprocess.run(command, shell=True, cwd=pipeline.folder, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""

    def test_an_output_that_cannot_show_a_letter_is_no_error(self, pipeline):
        done = pipeline.shell(
            "run", "pipeline:Numbers", "--workspace-directory", "größe", environment={"PYTHONIOENCODING": "ascii"}
        )
        assert done.code == 0, done.err
        assert "gr\\xf6\\xdfe" in done.out


class TestTerminals:
    def test_on_a_terminal_a_bar_is_drawn_and_taken_away(self, pipeline):
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", "from kart_core.cli import main; main()", "run", "pipeline:Total"],
            cwd=pipeline.folder,
            stdout=subprocess.PIPE,
            stderr=follower,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(follower)
        drawn = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                part = os.read(leader, 65536)
            except OSError:
                break
            if not part:
                break
            drawn += part
        os.close(leader)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert b"pipeline.Numbers" in drawn
        assert b"2/2" in drawn
        assert b"\x1b[" in drawn
        assert b"start  pipeline" not in drawn
        assert b"2 ran" in out
        assert b"\x1b[" not in out


class TestSpeed:
    HEAVY = ("numpy", "fsspec", "cattrs", "rich", "asyncio", "importlib.metadata")

    def _imported(self, project, *words):
        code = (
            "import sys\n"
            "from kart_core.cli import main\n"
            "try:\n    main()\n"
            "finally:\n    print('modules:', *sorted(sys.modules), file=sys.stderr)\n"
        )
        done = project.python("-c", code, *words)
        assert done.code == 0, done.err
        return done.err.rpartition("modules: ")[2].split()

    def test_help_imports_nothing_that_it_does_not_need(self, project):
        modules = self._imported(project, "--help")
        assert "click" in modules
        assert not {"attrs", "attr", "pluggy", "kart_core.task", *self.HEAVY} & set(modules)

    def test_a_run_of_a_stored_result_imports_neither_numpy_nor_fsspec_nor_cattrs_nor_rich(self, pipeline):
        assert pipeline.shell("run", "pipeline:Total", "--Numbers-n", "5").code == 0
        modules = self._imported(pipeline, "run", "pipeline:Total", "--Numbers-n", "5")
        assert not set(self.HEAVY) & set(modules)


def test_config_shows_a_plugins_value_that_cannot_be_had_and_goes_on(project):
    project.write(
        "kart.toml", '[plugins.s3]\nendpoint_url = "${NOT_SET_ANYWHERE}"\nregion = "eu"\n[TaskOnKart]\nrerun = true\n'
    )
    done = project.kart("config")
    assert done.code == 0, done.err
    assert "NOT_SET_ANYWHERE" in done.out
    assert "region" in done.out
    assert "rerun" in done.out
