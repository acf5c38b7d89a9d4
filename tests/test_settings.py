"""The promises of the settings: each one's meaning, whether it enters the id, and who has the last word on it."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kart_core as kart
from kart_core import config
from kart_core.building import execute
from kart_core.task import settings
from tests.conftest import Project

pytestmark = pytest.mark.usefixtures("project")

SOURCE = Path("source")
"""What the bottom task reads: its content decides its result, unseen by its id."""


class Source(kart.TaskOnKart[str]):
    def run(self) -> str:
        return SOURCE.read_text() if SOURCE.exists() else "first"


class Middle(kart.TaskOnKart[str]):
    source: Source = Source()

    def run(self) -> str:
        return self.load(self.source) + "."


class Top(kart.TaskOnKart[str]):
    middle: Middle = Middle()

    def run(self) -> str:
        return self.load(self.middle) + "!"


class Empty(kart.TaskOnKart[Any]):
    kind: str

    def run(self) -> None:
        import pandas_of_tests as pandas

        values = {"None": None, "list": [], "dict": {}, "text": "", "array": np.zeros((0, 3)), "frame": pandas.Frame()}
        self.dump(values.get(self.kind, self.kind))


class Draws(kart.TaskOnKart[list[int]]):
    name: str = "one"

    def run(self) -> list[int]:
        return [random.randint(0, 100) for _ in range(10)]


class DrawsArray(kart.TaskOnKart[list[int]]):
    def run(self) -> list[int]:
        return [int(i) for i in np.random.randint(0, 100, 10)]


def ran(*tasks: kart.TaskOnKart[Any], **given: Any) -> list[str]:
    """The names of what runs in a build."""
    return [type(task).__name__ for task in execute(*tasks, **given).ran]


def remove(task: kart.TaskOnKart[Any]) -> None:
    target = task.output()
    assert isinstance(target, kart.Target)
    os.unlink(target.url)


def configure(project: Project, text: str) -> None:
    project.write("kart.toml", text)
    config.load_default()


# --- which enter the id

WHERE_AND_HOW: dict[str, Any] = {
    "workspace_directory": "elsewhere",
    "local_temporary_directory": "temporary",
    "rerun": True,
    "strict_check": True,
    "modification_time_check": True,
    "fail_on_empty_dump": True,
    "should_lock_run": True,
    "significant": False,
}
ID_FORMING: dict[str, Any] = {
    "fix_random_seed_value": 7,
    "fix_random_seed_methods": ["random.seed"],
    "serialized_task_definition_check": True,
}


def test_every_setting_has_a_test_of_its_place_in_the_id() -> None:
    assert {info.name for info in settings()} == {*WHERE_AND_HOW, *ID_FORMING}


@pytest.mark.parametrize(("name", "value"), WHERE_AND_HOW.items())
def test_a_setting_of_where_and_how_is_never_in_the_id(name: str, value: Any) -> None:
    assert Source(**{name: value}).unique_id == Source().unique_id


@pytest.mark.parametrize(("name", "value"), ID_FORMING.items())
def test_an_id_forming_setting_is_in_the_id_and_in_those_downstream(name: str, value: Any) -> None:
    source = Source(**{name: value})
    assert source.unique_id != Source().unique_id
    assert Middle(source=source).unique_id != Middle().unique_id


@pytest.mark.parametrize(
    "name", ["fix_random_seed_value", "fix_random_seed_methods", "serialized_task_definition_check"]
)
def test_an_id_forming_setting_given_as_its_default_changes_no_id(name: str) -> None:
    default = {info.name: info.default for info in settings()}[name]
    assert Source(**{name: default}).unique_id == Source().unique_id


@pytest.mark.parametrize(("name", "value"), [*WHERE_AND_HOW.items(), *ID_FORMING.items()])
def test_a_setting_given_to_a_task_is_its_attribute(name: str, value: Any) -> None:
    held = getattr(Source(**{name: value}), name)
    assert (list(held) if isinstance(held, tuple) else held) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workspace_directory", 3),
        ("rerun", "yes"),
        ("rerun", 1),
        ("strict_check", None),
        ("fix_random_seed_value", -1),
        ("fix_random_seed_value", 2**32),
        ("fix_random_seed_value", 1.5),
        ("fix_random_seed_value", True),
        ("fix_random_seed_methods", "random.seed"),
        ("fix_random_seed_methods", [1]),
        ("significant", "no"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(kart.ParameterError, match=name):
        Source(**{name: value})


# --- the order of authority


class Own(kart.TaskOnKart[str]):
    workspace_directory: str = "by class"

    def run(self) -> str:
        return "own"


class Derived(Own):
    pass


def where(task: kart.TaskOnKart[Any]) -> str:
    return os.path.basename(task.workspace_directory)


def test_the_default_of_the_class_and_its_bases_counts_where_nothing_else_speaks() -> None:
    assert where(Source()) == ""
    assert Source().workspace_directory == "./resources/"
    assert where(Own()) == where(Derived()) == "by class"


def test_a_file_has_the_word_over_the_class_and_the_specific_over_the_general(project: Project) -> None:
    configure(project, '[TaskOnKart]\nworkspace_directory = "general"\n')
    assert where(Source()) == where(Own()) == where(Derived()) == "general"
    configure(project, '[TaskOnKart]\nworkspace_directory = "general"\n[Own]\nworkspace_directory = "own"\n')
    assert (where(Source()), where(Own()), where(Derived())) == ("general", "own", "own")
    configure(project, '[Own]\nworkspace_directory = "own"\n[Derived]\nworkspace_directory = "derived"\n')
    assert (where(Own()), where(Derived())) == ("own", "derived")


def test_the_environment_has_the_word_over_files(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_WORKSPACE_DIRECTORY", "environment")
    configure(project, '[Own]\nworkspace_directory = "own"\n')
    assert where(Source()) == where(Own()) == "environment"
    monkeypatch.setenv("KART_OWN__WORKSPACE_DIRECTORY", "environment of own")
    config.load_default()
    assert (where(Source()), where(Own())) == ("environment", "environment of own")


def test_an_argument_of_build_has_the_word_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_OWN__WORKSPACE_DIRECTORY", "environment")
    config.load_default()
    kart.build(Own(), workspace_directory="argument")
    assert os.listdir("argument")
    assert not os.path.exists("environment")


def test_the_constructor_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_WORKSPACE_DIRECTORY", "environment")
    config.load_default()
    kart.build(Own(workspace_directory="constructor"), workspace_directory="argument")
    assert os.listdir("constructor")
    assert not os.path.exists("argument")


def test_a_setting_given_to_the_run_holds_for_every_task_of_it() -> None:
    kart.build(Top(), workspace_directory="argument")
    assert len(list(Path("argument").rglob("*.pkl"))) == 3
    assert not Path("resources").exists()


def test_a_setting_given_to_the_run_is_gone_afterwards() -> None:
    kart.build(Top(), workspace_directory="argument")
    assert Top().workspace_directory == "./resources/"
    assert not Top().complete()


def test_a_setting_given_to_a_task_holds_for_that_task() -> None:
    kart.build(Top(workspace_directory="elsewhere"))
    assert [path.name.split("_")[0] for path in Path("elsewhere").rglob("*.pkl")] == ["Top"]
    assert len(list(Path("resources").rglob("*.pkl"))) == 2


# --- workspace_directory


def test_a_relative_workspace_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Source(workspace_directory="here")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert not task.complete()
        kart.build(task)
        assert (tmp_path / name / "here").exists()


def test_a_workspace_may_be_a_path_object_or_a_url(tmp_path: Path) -> None:
    kart.build(Source(), workspace_directory=tmp_path / "here")
    assert Source(workspace_directory=f"file://{tmp_path}/here").complete()
    assert Source(workspace_directory=tmp_path / "here").complete()  # type: ignore[arg-type]


def test_a_workspace_in_memory_is_a_workspace() -> None:
    assert kart.build(Top(), workspace_directory="memory://settings") == "first.!"
    assert ran(Top(), workspace_directory="memory://settings") == []
    assert not Path("resources").exists()


def test_a_workspace_that_nobody_provides_is_refused_with_what_to_install() -> None:
    with pytest.raises(kart.PluginError, match=r"nowhere://"):
        kart.build(Source(), workspace_directory="nowhere://bucket")


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_workspace_is_refused(given: str) -> None:
    with pytest.raises(kart.ConfigError, match="workspace_directory"):
        kart.build(Source(workspace_directory=given))


def test_a_workspace_that_is_a_file_is_refused() -> None:
    Path("file").write_text("")
    with pytest.raises(kart.StorageError, match="file"):
        kart.build(Source(), workspace_directory="file")


# --- local_temporary_directory


class Large(kart.TaskOnKart[bytes]):
    def run(self) -> bytes:
        held = b"a" * (3 << 20)
        self.dump(held)
        Path("seen").write_text("\n".join(os.listdir("temporary") if os.path.isdir("temporary") else []))
        return None  # type: ignore[return-value]


def test_files_on_their_way_to_a_remote_workspace_wait_in_the_local_temporary_directory() -> None:
    build = kart.build(Large(), workspace_directory="memory://temporary", local_temporary_directory="temporary")
    assert len(build) == 3 << 20
    assert Path("seen").read_text().count("\n") == 0
    assert Path("seen").read_text() != ""
    assert os.listdir("temporary") == [], "nothing is left there"


def test_files_on_their_way_to_a_local_workspace_wait_beside_their_place() -> None:
    kart.build(Large(), local_temporary_directory="temporary")
    assert not Path("temporary").exists()


# --- rerun


def test_rerun_runs_though_a_result_is_stored() -> None:
    kart.build(Top())
    assert ran(Top()) == []
    assert ran(Top(rerun=True)) == ["Top"]
    assert ran(Top(), rerun=True) == ["Top"]


def test_rerun_given_to_the_run_means_the_roots() -> None:
    kart.build(Top(), Source())
    assert ran(Top(), rerun=True) == ["Top"]
    assert sorted(ran(Top(), Source(), rerun=True)) == ["Source", "Top"]
    assert ran(Middle(), Source(), rerun=True) == ["Source", "Middle"]


def test_rerun_of_a_class_holds_for_its_tasks(project: Project) -> None:
    kart.build(Top())
    configure(project, "[Top]\nrerun = true\n")
    assert ran(Top()) == ["Top"]


def test_rerun_of_what_a_task_requires_runs_both() -> None:
    top = Top(middle=Middle(rerun=True))
    kart.build(top)
    assert ran(top) == ["Middle", "Top"]


def test_a_task_that_is_set_to_rerun_further_up_is_not_looked_at() -> None:
    top = Top(middle=Middle(source=Source(rerun=True)))
    kart.build(top)
    assert ran(top) == []


def test_complete_says_whether_a_result_is_stored_whatever_rerun_says() -> None:
    assert not Source(rerun=True).complete()
    kart.build(Source())
    assert Source(rerun=True).complete()


def test_rerun_given_twice_runs_twice() -> None:
    assert [ran(Source(rerun=True)) for _ in range(3)] == [["Source"]] * 3


def test_rerun_from_a_name_runs_it_and_all_that_depends_on_it() -> None:
    kart.build(Top())
    assert ran(Top(), rerun_from=["Middle"]) == ["Middle", "Top"]
    assert ran(Top(), rerun_from=["Source"]) == ["Source", "Middle", "Top"]
    assert ran(Top(), rerun_from=[f"{Source.__module__}.Source"]) == ["Source", "Middle", "Top"]


def test_rerun_from_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(kart.ParameterError, match=r"Midle.*Middle"):
        kart.build(Top(), rerun_from=["Midle"])
    with pytest.raises(kart.ParameterError, match=r"\['Middle'\]"):
        kart.build(Top(), rerun_from="Middle")


# --- strict_check


def test_with_strict_check_a_task_is_complete_only_if_everything_upstream_is() -> None:
    kart.build(Top())
    remove(Source())
    assert Top().complete()
    assert not Top(strict_check=True).complete()
    assert ran(Top()) == []
    assert ran(Top(), strict_check=True) == ["Source", "Middle", "Top"]
    assert Top(strict_check=True).complete()


def test_strict_check_of_one_task_holds_for_what_is_above_it_alone() -> None:
    top = Top(middle=Middle(strict_check=True))
    kart.build(top)
    remove(Source())
    assert ran(top) == []
    assert ran(Middle(strict_check=True)) == ["Source", "Middle"]


def test_strict_check_passes_over_external_data_that_is_there() -> None:
    class Data(kart.ExternalTask[str]):
        def output(self) -> kart.Target:
            return self.make_target("data.txt", use_unique_id=False)

    class Reads(kart.TaskOnKart[str]):
        data: Data = Data()

        def run(self) -> str:
            return self.load(self.data)

    Path("resources").mkdir()
    Path("resources/data.txt").write_text("data")
    assert ran(Reads(), strict_check=True) == ["Reads"]
    assert ran(Reads(), strict_check=True) == []
    os.unlink("resources/data.txt")
    assert not Reads(strict_check=True).complete()
    assert execute(Reads(), strict_check=True).exit_code == 20


# --- modification_time_check


def test_with_modification_time_check_a_task_whose_input_is_another_is_not_complete() -> None:
    kart.build(Top())
    SOURCE.write_text("second")
    kart.build(Source(), rerun=True)
    assert Middle().complete()
    assert not Middle(modification_time_check=True).complete()
    assert ran(Middle(), modification_time_check=True) == ["Middle"]
    assert kart.build(Middle()) == "second."
    assert ran(Middle(), modification_time_check=True) == []


def test_with_modification_time_check_an_input_that_was_made_again_alike_is_the_same() -> None:
    kart.build(Top())
    kart.build(Source(), rerun=True)
    assert Middle(modification_time_check=True).complete()
    os.utime(Source().output().url, (1, 1))  # type: ignore[union-attr]
    assert Middle(modification_time_check=True).complete()


def test_with_modification_time_check_external_data_that_was_changed_runs_what_reads_it() -> None:
    class Data(kart.ExternalTask[str]):
        def output(self) -> kart.Target:
            return self.make_target("data.txt", use_unique_id=False)

    class Reads(kart.TaskOnKart[str]):
        data: Data = Data()

        def run(self) -> str:
            return self.load(self.data)

    Path("resources").mkdir()
    Path("resources/data.txt").write_text("one")
    kart.build(Reads())
    assert ran(Reads(), modification_time_check=True) == []
    Path("resources/data.txt").write_text("another")
    assert ran(Reads()) == []
    assert kart.build(Reads(), modification_time_check=True) == "another"
    assert ran(Reads(), modification_time_check=True) == []


# --- fail_on_empty_dump


@pytest.fixture
def frames(project: Project) -> None:
    """A stand-in for a library of data frames, of which some have no rows."""
    project.write("pandas_of_tests.py", "class Frame:\n    empty = True\n    def __len__(self): return 3\n")


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize("kind", ["None", "list", "dict", "text", "array", "frame"])
def test_with_fail_on_empty_dump_a_task_that_dumps_nothing_fails(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(kart.BuildError, match=r"empty.*fail_on_empty_dump"):
        kart.build(Empty(kind=kind), fail_on_empty_dump=True)
    assert not Empty(kind=kind).complete()
    kart.build(Empty(kind=kind), return_value=False)
    assert Empty(kind=kind).complete()


@pytest.mark.usefixtures("frames")
def test_with_fail_on_empty_dump_what_is_not_empty_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert kart.build(Empty(kind="full", fail_on_empty_dump=True)) == "full"
    for value in (0, False, 0.0, np.zeros(3), np.float64(0)):

        class Falsy(kart.TaskOnKart[Any]):
            def run(self, value: Any = value) -> None:
                self.dump(value)

        kart.build(Falsy(), fail_on_empty_dump=True, rerun=True)


# --- significant


class Takes(kart.TaskOnKart[str]):
    source: kart.TaskOnKart[str]

    def run(self) -> str:
        return self.load(self.source)


def test_a_task_that_is_not_significant_takes_no_part_in_the_ids_of_what_requires_it() -> None:
    assert Middle(source=Source(significant=False)).unique_id != Middle().unique_id
    one = Takes(source=Source(significant=False))
    other = Takes(source=Middle(significant=False))
    assert one.unique_id == other.unique_id
    assert one != other
    assert Top(middle=Middle(significant=False)).unique_id != Top().unique_id


def test_a_task_that_is_not_significant_is_required_all_the_same() -> None:
    assert ran(Middle(source=Source(significant=False))) == ["Source", "Middle"]


# --- seeds


def test_a_seed_that_is_given_is_the_one_that_the_methods_are_called_with() -> None:
    random.seed(57)
    expected = [random.randint(0, 100) for _ in range(10)]
    assert kart.build(Draws(fix_random_seed_value=57)) == expected
    assert kart.build(DrawsArray(fix_random_seed_value=57)) == [79, 86, 5, 22, 79, 98, 56, 40, 81, 37]


def test_0_is_a_seed() -> None:
    random.seed(0)
    assert kart.build(Draws(fix_random_seed_value=0)) == [random.randint(0, 100) for _ in range(10)]
    assert Draws(fix_random_seed_value=0).unique_id != Draws().unique_id


def test_without_a_seed_each_task_has_a_stream_of_its_own_the_same_every_time() -> None:
    one, two = kart.build(Draws(), Draws(name="two"))
    assert one != two
    assert kart.build(Draws(name="two"), Draws(), rerun=True) == (two, one)


def test_a_method_that_is_not_named_is_not_called() -> None:
    np.random.seed(1)
    first = kart.build(DrawsArray(fix_random_seed_methods=["random.seed"]))
    np.random.seed(2)
    assert kart.build(DrawsArray(fix_random_seed_methods=["random.seed"]), rerun=True) != first


def test_a_method_that_cannot_be_called_is_an_error_before_anything_runs() -> None:
    task = Middle(fix_random_seed_methods=["random.sed"])
    with pytest.raises(kart.ConfigError, match=r"random\.sed"):
        kart.build(task)
    assert not Source().complete()


# --- serialized_task_definition_check

MODULE = """\
import kart_core as kart

CONSTANT = {constant}

class Checked(kart.TaskOnKart[int]):
    def run(self) -> int:
        {comment}
        return CONSTANT
"""


def checked_id(project: Project, constant: int, comment: str, on: bool) -> str:
    project.write("checked.py", MODULE.format(constant=constant, comment=comment))
    code = f"import checked; print(checked.Checked(serialized_task_definition_check={on}).unique_id)"
    done = project.python("-c", code)
    assert done.code == 0, done.err
    return done.out


def test_with_serialized_task_definition_check_the_code_takes_part_in_the_id(project: Project) -> None:
    first = checked_id(project, 1, "pass", on=True)
    assert checked_id(project, 1, "pass  # a comment", on=True) == first
    assert checked_id(project, 2, "pass", on=True) != first
    assert checked_id(project, 1, "print()", on=True) != first


def test_without_serialized_task_definition_check_the_code_takes_no_part(project: Project) -> None:
    assert checked_id(project, 1, "pass", on=False) == checked_id(project, 2, "print()", on=False)
