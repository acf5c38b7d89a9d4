"""What a change of a version, of a file or of the code makes run, and what it leaves alone."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

import kart_core as kart

PIPELINE = """\
import kart_core as kart


class Raw(kart.TaskOnKart[int]):
    def run(self):
        print("runs Raw")
        return 1


class Clean(kart.TaskOnKart[int]KEYWORDS):
    raw: Raw
    FIELD

    def run(self):
        print("runs Clean")
        return self.load(self.raw) + 1


class Report(kart.TaskOnKart[int]):
    clean: Clean

    def run(self):
        print("runs Report")
        return self.load(self.clean) + 1


class Apart(kart.TaskOnKart[int]):
    raw: Raw

    def run(self):
        print("runs Apart")
        return 1


def tasks():
    clean = Clean(raw=Raw())
    return [clean.raw, clean, Report(clean=clean), Apart(raw=clean.raw)]


if __name__ == "__main__":
    kart.build(*tasks())
    print("ids", *[task.unique_id for task in tasks()])
"""


class Seen:
    """What one run of the pipeline did."""

    def __init__(self, done: Any) -> None:
        assert done.code == 0, done.err
        self.ran = re.findall("runs (.*)", done.out)
        self.ids = re.findall("[0-9a-f]{32}", done.out)
        self.warnings = done.err


@pytest.fixture
def run(project: Any) -> Any:
    def run(*, keywords: str = "", field: str = "pass", edit: tuple[str, str] = ("", "")) -> Seen:
        text = PIPELINE.replace("KEYWORDS", keywords).replace("FIELD", field)
        assert edit[0] in text
        project.write("pipeline.py", text.replace(*edit, 1))
        return Seen(project.python("pipeline.py"))

    return run


# --- version


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"field": "__version: int = 1"}, {"field": "__version: int = 2"}),
        ({"keywords": ", version=1"}, {"keywords": ", version=2"}),
        ({}, {"keywords": ", version=2"}),
        ({}, {"field": "__version: int = 1"}),
        ({"keywords": ', version="2024-05"'}, {"keywords": ', version="2024-06"'}),
    ],
    ids=["field", "keyword", "keyword that is new", "field that is new", "keyword of text"],
)
def test_another_version_gives_the_task_and_all_downstream_new_ids_and_runs(run: Any, before: Any, after: Any) -> None:
    first = run(**before)
    assert first.ran == ["Raw", "Clean", "Report", "Apart"]
    second = run(**after)
    assert second.ran == ["Clean", "Report"]
    changed = [old != new for old, new in zip(first.ids, second.ids, strict=True)]
    assert changed == [False, True, True, False], "unrelated tasks keep theirs"
    assert not run(**after).ran
    again = run(**before)
    assert (again.ran, again.ids) == ([], first.ids), "the old version's results are still there"


def test_the_version_in_a_class_body_is_a_parameter_that_nobody_has_to_give() -> None:
    class Train(kart.TaskOnKart[int]):
        __version: int = 1
        n: int = 1

        def run(self) -> int:
            return self.__version

    assert kart.build(Train(), workspace_directory="memory://version") == 1


@pytest.mark.parametrize("value", [1, "1", None, 1.5])
def test_a_version_without_annotation_is_refused_with_a_sentence(value: object) -> None:
    with pytest.raises(kart.ParameterError) as failed:
        exec(f"class Train(kart.TaskOnKart[int]):\n    __version = {value!r}", {"kart": kart, "__name__": __name__})
    message = str(failed.value)
    kind = "None" if value is None else type(value).__name__
    assert f"`__version: {kind} = {value!r}`" in message
    assert all(fact in message for fact in ("Train", "ClassVar", "annotation")), message


# --- the content of a file

FILES = """\
import sys
import kart_core as kart


class Raw(kart.ExternalTask[str]):
    source: kart.File

    def output(self):
        return self.make_target(self.source.path, use_unique_id=False)


class Read(kart.TaskOnKart[str]):
    file: kart.File

    def run(self):
        print("runs Read")
        return self.file.read_text()


class Shout(kart.TaskOnKart[str]):
    read: Read

    def run(self):
        print("runs Shout")
        return self.load(self.read).upper()


class Copy(kart.TaskOnKart[str]):
    raw: Raw

    def run(self):
        print("runs Copy")
        return self.load(self.raw)


class Apart(kart.TaskOnKart[int]):
    def run(self):
        print("runs Apart")
        return 1


if __name__ == "__main__":
    name = sys.argv[1]
    print("values", *kart.build(Shout(read=Read(file=kart.File(name))), Copy(raw=Raw(source=kart.File(name))), Apart()))
"""


class TestFile:
    @pytest.fixture
    def run(self, project: Any) -> Any:
        project.write("pipeline.py", FILES)
        project.write("kart.toml", '[TaskOnKart]\nworkspace_directory = "."\n')
        project.write("data.txt", "one")

        def run(name: str = "data.txt") -> Seen:
            return Seen(project.python("pipeline.py", name))

        assert run().ran == ["Read", "Shout", "Copy", "Apart"]
        assert not run().ran
        return run

    def test_a_changed_content_runs_what_depends_on_it(self, run: Any, project: Any) -> None:
        project.write("data.txt", "two")
        assert run().ran == ["Read", "Shout", "Copy"]
        project.write("data.txt", "one")
        assert not run().ran, "the first content's results are still there"

    def test_a_touched_file_runs_nothing(self, run: Any, project: Any) -> None:
        os.utime("data.txt", (1, 1))
        assert not run().ran
        project.write("data.txt", "one")
        assert not run().ran

    def test_a_file_of_the_same_content_under_another_name_runs_nothing(self, run: Any) -> None:
        os.rename("data.txt", "renamed.txt")
        assert not run("renamed.txt").ran

    def test_a_change_that_keeps_size_and_time_is_seen_by_the_next_process(self, run: Any, project: Any) -> None:
        stat = os.stat("data.txt")
        project.write("data.txt", "two")
        os.utime("data.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert run().ran == ["Read", "Shout", "Copy"]


# --- the code


RESULT = "return self.load(self.raw) + 1"


def test_an_edited_run_with_the_check_off_runs_nothing_and_warns_once(run: Any) -> None:
    before = run()
    after = run(edit=(RESULT, "return self.load(self.raw) + 2"))
    assert (after.ran, after.ids) == ([], before.ids)
    (warning,) = [line for line in after.warnings.splitlines() if "other code" in line]
    assert all(fact in warning for fact in ("pipeline.Clean", "version", "--rerun-from Clean")), warning


def test_the_warning_comes_once_for_many_tasks_of_a_class_and_for_many_builds(project: Any) -> None:
    text = """\
import kart_core as kart


class Many(kart.TaskOnKart[int]):
    i: int

    def run(self):
        return self.i + 1


if __name__ == "__main__":
    for _ in range(3):
        kart.build(*[Many(i=i) for i in range(5)])
        kart.plan(Many(i=1))
"""
    project.write("pipeline.py", text)
    assert project.python("pipeline.py").err == ""
    project.write("pipeline.py", text.replace("self.i + 1", "self.i + 2"))
    assert project.python("pipeline.py").err.count("other code") == 1


@pytest.mark.parametrize(
    "edit",
    [
        (RESULT, f"# a comment\n        {RESULT}"),
        (RESULT, f'"""A docstring."""\n        {RESULT}'),
        ("class Apart", "\n\nclass Apart"),
    ],
    ids=["comment", "docstring", "layout"],
)
def test_an_edit_that_says_nothing_of_the_result_does_not_warn(run: Any, edit: tuple[str, str]) -> None:
    run()
    after = run(edit=edit)
    assert (after.ran, after.warnings) == ([], "")


def test_code_that_is_as_it_was_does_not_warn_again(run: Any) -> None:
    run()
    assert "other code" in run(edit=(RESULT, "return 5")).warnings
    assert run().warnings == ""


def test_a_rerun_by_the_new_code_ends_the_warning(run: Any, project: Any) -> None:
    run()
    edit = (RESULT, "return 5")
    assert "other code" in run(edit=edit).warnings
    assert project.shell("run", "pipeline:Report", "--rerun-from", "Clean").code == 0
    assert run(edit=edit).warnings == ""


def test_an_edited_run_with_the_check_on_runs_it_and_all_downstream(run: Any, project: Any) -> None:
    project.write("kart.toml", "[Clean]\nserialized_task_definition_check = true\n")
    run()
    assert not run(edit=(RESULT, f"# a comment\n        {RESULT}")).ran
    after = run(edit=(RESULT, "return self.load(self.raw) + 2"))
    assert (after.ran, after.warnings) == (["Clean", "Report"], "")
