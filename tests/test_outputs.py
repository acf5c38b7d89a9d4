"""The promises of outputs: one or several, in any nest, where a path may lead, and data that others make."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import kart_core as kart
from kart_core.building import execute

if TYPE_CHECKING:
    from tests.conftest import Files

pytestmark = pytest.mark.usefixtures("project")


class Nest(kart.TaskOnKart[Any]):
    """Writes a value in a nest of outputs that is given on the class."""

    kind: str
    values: ClassVar[dict[str, Any]] = {
        "list": ["a", "b"],
        "tuple": ("a", "b"),
        "mapping": {"x": "a", "y": "b"},
        "nested": {"x": ["a", {"deep": "b"}], "y": ("c", ["d"])},
        "one in a list": ["a"],
    }

    def output(self) -> Any:
        def targets(value: Any, name: str) -> Any:
            if isinstance(value, str):
                return self.make_target(f"nest/{name}{value}.txt")
            if isinstance(value, dict):
                return {key: targets(item, f"{name}{key}") for key, item in value.items()}
            return type(value)(targets(item, f"{name}{i}") for i, item in enumerate(value))

        return targets(self.values[self.kind], "")

    def run(self) -> Any:
        return self.values[self.kind]


@pytest.mark.parametrize("kind", Nest.values)
def test_outputs_in_a_nest_come_back_from_build_in_that_nest(kind: str) -> None:
    value = kart.build(Nest(kind=kind))
    assert value == Nest.values[kind]
    assert kart.build(Nest(kind=kind)) == value


@pytest.mark.parametrize("kind", Nest.values)
def test_outputs_in_a_nest_are_each_a_file(kind: str, workspace: Files) -> None:
    report = execute(Nest(kind=kind))
    [urls] = report.paths.values()
    assert sorted(urls) == [f"{workspace.url}/{path}" for path in workspace.results()]
    assert sorted(workspace.read(path).decode() for path in workspace.results()) == list("abcd"[: len(urls)])


class Named(kart.TaskOnKart[Any]):
    """Dumps its outputs one by one."""

    how: str

    def output(self) -> dict[str, Any]:
        return {
            "model": self.make_target("model.pkl"),
            "parts": [self.make_target("0.json"), self.make_target("1.txt")],
        }

    def run(self) -> None:
        outputs = self.output()
        if self.how == "by name":
            self.dump({"w": 1}, "model")
            self.dump([1], "parts.0")
            self.dump("one", "parts.1")
        elif self.how == "by target":
            self.dump({"w": 1}, outputs["model"])
            self.dump([1], outputs["parts"][0])
            self.dump("one", outputs["parts"][1])
        elif self.how == "at once":
            self.dump({"model": {"w": 1}, "parts": [[1], "one"]})
        elif self.how == "unknown name":
            self.dump(1, "modle")
        elif self.how == "foreign target":
            self.dump(1, self.make_target("other.pkl"))
        elif self.how == "lacking key":
            self.dump({"model": 1})
        elif self.how == "too few":
            self.dump({"model": 1, "parts": [[1]]})
        elif self.how == "no mapping":
            self.dump(7)


@pytest.mark.parametrize("how", ["by name", "by target", "at once"])
def test_several_outputs_are_dumped_one_by_one_or_at_once(how: str) -> None:
    assert kart.build(Named(how=how)) == {"model": {"w": 1}, "parts": [[1], "one"]}


@pytest.mark.parametrize(
    ("how", "facts"),
    [
        ("unknown name", ["'modle'", "'model'", "'parts.0'"]),
        ("foreign target", ["other", "'model'"]),
        ("lacking key", ["model", "parts", "dict"]),
        ("too few", ["2 values", "parts"]),
        ("no mapping", ["int", "model"]),
    ],
)
def test_a_value_that_does_not_fit_the_outputs_is_refused(how: str, facts: list[str]) -> None:
    with pytest.raises(kart.BuildError) as error:
        kart.build(Named(how=how))
    assert isinstance(error.value.failures[Named(how=how)], kart.ParameterError)
    for fact in facts:
        assert fact in str(error.value)


def test_a_task_with_several_outputs_is_complete_when_all_are_there(workspace: Files) -> None:
    task = Named(how="by name")
    kart.build(task)
    target = task.output()["parts"][1]
    assert target.exists()
    workspace.remove(target.path)
    assert not task.complete()
    [node] = kart.plan(task).nodes
    assert target.path in node.reason
    assert kart.build(task)["parts"][1] == "one"


def test_several_outputs_are_loaded_by_a_task_that_requires_them() -> None:
    class Reader(kart.TaskOnKart[Any]):
        nest: Nest

        def run(self) -> Any:
            return self.load(self.nest)

    assert kart.build(Reader(nest=Nest(kind="nested"))) == Nest.values["nested"] | {"y": ("c", ["d"])}


class Sealed(kart.TaskOnKart[None]):
    """Declares no output: its record alone says that it ran."""

    def output(self) -> tuple[()]:
        return ()

    def run(self) -> None:
        Path("ran").touch()


def test_a_task_that_declares_no_output_runs_once() -> None:
    assert not Sealed().complete()
    execute(Sealed())
    assert Sealed().complete()
    assert execute(Sealed()).ran == []


class BadOutput(kart.TaskOnKart[int]):
    def output(self) -> Any:
        return {"a": "a.pkl"}


def test_an_output_that_is_no_target_is_refused_with_what_to_write() -> None:
    with pytest.raises(kart.ParameterError, match=r"BadOutput\(\).*str.*make_target"):
        kart.build(BadOutput())


# --- paths


class At(kart.TaskOnKart[str]):
    path: str
    use_unique_id: bool = True

    def output(self) -> kart.Target:
        return self.make_target(self.path, use_unique_id=self.use_unique_id)

    def run(self) -> str:
        return self.path


@pytest.mark.parametrize(
    "path", ["a.txt", "folder/a.txt", "a.b.txt", "deep/er/and/deeper/a.txt", "ø 漢.txt", "./a/../b.txt"]
)
@pytest.mark.parametrize("use_unique_id", [True, False])
def test_a_target_may_be_anywhere_in_the_workspace(path: str, use_unique_id: bool, workspace: Files) -> None:
    task = At(path=path, use_unique_id=use_unique_id)
    assert kart.build(task) == path
    [stored] = workspace.results()
    assert task.output().url == f"{workspace.url}/{stored}"
    assert (task.unique_id in stored) is use_unique_id
    assert stored.endswith(".txt")


@pytest.mark.parametrize(
    "path", ["", "..", "../a.txt", "a/../../b.txt", "/etc/a.txt", ".kart/a.txt", "s3://b/a.txt", "a\0.txt"]
)
def test_a_target_that_leads_out_of_the_workspace_is_refused(path: str, workspace: Files) -> None:
    with pytest.raises(kart.ParameterError, match="At"):
        kart.build(At(path=path))
    assert not workspace.is_there()


def test_a_target_without_a_suffix_is_refused_with_one() -> None:
    with pytest.raises(kart.BuildError, match=r"no suffix.*\.pkl"):
        kart.build(At(path="result"))


def test_a_target_of_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(kart.BuildError, match=r"\.?unheard"):
        kart.build(At(path="a.unheard"))


class Fixed(kart.TaskOnKart[str]):
    """Writes a file whose name does not say which of its tasks wrote it."""

    word: str

    def output(self) -> kart.Target:
        return self.make_target("latest.txt", use_unique_id=False)

    def run(self) -> str:
        return self.word


def test_a_file_without_the_id_is_complete_for_the_task_that_wrote_it_last_alone(workspace: Files) -> None:
    kart.build(Fixed(word="one"))
    assert Fixed(word="one").complete()
    kart.build(Fixed(word="two"))
    assert Fixed(word="two").complete()
    assert not Fixed(word="one").complete()
    assert kart.build(Fixed(word="one")) == "one"
    assert workspace.read("latest.txt") == b"one"


def test_a_file_without_the_id_that_was_written_by_hand_is_not_the_result(workspace: Files) -> None:
    kart.build(Fixed(word="one"))
    workspace.write("latest.txt", "by hand")
    assert not Fixed(word="one").complete()
    assert kart.build(Fixed(word="one")) == "one"


def test_targets_of_one_place_are_equal_and_say_where() -> None:
    assert At(path="a.txt").output() == At(path="a.txt").output()
    assert At(path="a.txt").output() != At(path="b.txt").output()
    assert len({At(path="a.txt").output(), At(path="a.txt").output()}) == 1
    assert "a_" in repr(At(path="a.txt").output())


# --- models and large data


class Model(kart.TaskOnKart[dict[str, int]]):
    folder: bool

    def output(self) -> kart.Target:
        return self.make_model_target("model/best.zip", self.save, self.read)

    def save(self, value: dict[str, int], path: str) -> None:
        if self.folder:
            os.makedirs(f"{path}/sub")
            Path(path, "sub", "weights.json").write_text(json.dumps(value))
        else:
            Path(path).write_text(json.dumps(value))

    def read(self, path: str) -> Any:
        return json.loads((Path(path, "sub", "weights.json") if self.folder else Path(path)).read_text())

    def run(self) -> dict[str, int]:
        return {"weight": 1}


@pytest.mark.parametrize("folder", [True, False])
def test_a_model_is_kept_as_one_file_by_two_functions(folder: bool) -> None:
    task = Model(folder=folder)
    assert kart.build(task) == {"weight": 1}
    assert kart.build(task) == {"weight": 1}
    assert task.output().url.endswith(f"best_{task.unique_id}.zip")


def test_equal_models_are_equal_files(workspace: Files) -> None:
    task = Model(folder=True)
    kart.build(task)
    first = workspace.read(task.output().path)
    kart.build(task, rerun=True)
    assert workspace.read(task.output().path) == first


def test_a_save_function_that_writes_nothing_fails_the_task() -> None:
    class Unsaved(kart.TaskOnKart[int]):
        def output(self) -> kart.Target:
            return self.make_model_target("m.zip", lambda value, path: None, lambda path: 1)

        def run(self) -> int:
            return 1

    with pytest.raises(kart.BuildError, match="wrote no file"):
        kart.build(Unsaved())


def test_a_large_data_target_is_a_target() -> None:
    class Large(kart.TaskOnKart[bytes]):
        def output(self) -> kart.Target:
            return self.make_large_data_target("large.pkl")

        def run(self) -> bytes:
            return b"a" * (3 << 20)

    assert kart.build(Large()) == b"a" * (3 << 20)


# --- external data


class Raw(kart.ExternalTask[str]):
    name: str = "raw.txt"

    def output(self) -> kart.Target:
        return self.make_target(self.name, use_unique_id=False)


class Upper(kart.TaskOnKart[str]):
    raw: Raw

    def run(self) -> str:
        return self.load(self.raw).upper()


def test_external_data_is_read_like_a_result(workspace: Files) -> None:
    workspace.write("raw.txt", "text")
    assert Raw().complete()
    assert kart.build(Upper(raw=Raw())) == "TEXT"
    assert kart.build(Raw()) == "text"


def test_external_data_is_never_run_nor_written(workspace: Files) -> None:
    workspace.write("raw.txt", "text")
    report = execute(Upper(raw=Raw()), rerun=True)
    assert report.ran == [Upper(raw=Raw())]
    assert workspace.read("raw.txt") == b"text"
    assert execute(Raw(), rerun=True).ran == []


def test_external_data_is_not_looked_at_where_nothing_needs_it(workspace: Files) -> None:
    workspace.write("raw.txt", "text")
    kart.build(Upper(raw=Raw()))
    workspace.remove("raw.txt")
    assert kart.build(Upper(raw=Raw())) == "TEXT"


class Upload(kart.ExternalTask[str]):
    """External data whose content enters the ids of what depends on it."""

    file: kart.File

    def output(self) -> kart.Target:
        return self.make_target(os.path.basename(self.file), use_unique_id=False)


class Shout(kart.TaskOnKart[str]):
    upload: Upload

    def run(self) -> str:
        return self.load(self.upload) + "!"


def test_external_data_may_declare_its_content(workspace: Files) -> None:
    def upload(text: str) -> Shout:
        Path("raw.txt").write_text(text)
        workspace.write("raw.txt", text)
        return Shout(upload=Upload(file=kart.File("raw.txt")))

    first = upload("one")
    assert kart.build(first) == "one!"
    second = upload("other")
    assert second.unique_id != first.unique_id
    assert kart.build(second) == "other!"


# --- bundles


class Part(kart.TaskOnKart[int]):
    i: int

    def run(self) -> int:
        return self.i


class Bundle(kart.WrapperTask):
    parts: tuple[Part, ...]


class AskedBundle(kart.WrapperTask):
    def requires(self) -> list[Part]:
        return [Part(i=1), Part(i=2)]


@pytest.mark.parametrize("bundle", [Bundle(parts=(Part(i=1), Part(i=2))), AskedBundle()], ids=["fields", "requires"])
def test_a_bundle_runs_its_parts_and_stores_nothing(bundle: kart.WrapperTask, workspace: Files) -> None:
    assert not bundle.complete()
    report = execute(bundle)
    assert set(report.ran) == {Part(i=1), Part(i=2)}
    assert report.paths == {bundle: []}
    assert bundle.complete()
    assert len(workspace.records()) == 2


def test_a_bundle_is_complete_when_its_parts_are(workspace: Files) -> None:
    bundle = Bundle(parts=(Part(i=1), Part(i=2)))
    kart.build(bundle)
    workspace.remove(Part(i=1).output().path)  # type: ignore[union-attr]
    assert not bundle.complete()
    assert execute(bundle).ran == [Part(i=1)]


def test_the_value_of_a_bundle_is_none() -> None:
    assert kart.build(Bundle(parts=(Part(i=1),))) is None


def test_a_bundle_of_bundles_runs_all() -> None:
    class Outer(kart.WrapperTask):
        bundles: tuple[Bundle, ...]

    outer = Outer(bundles=(Bundle(parts=(Part(i=1),)), Bundle(parts=(Part(i=2),))))
    assert set(execute(outer).ran) == {Part(i=1), Part(i=2)}
    assert outer.complete()


def test_a_task_may_require_a_bundle() -> None:
    class After(kart.TaskOnKart[int]):
        bundle: Bundle

        def run(self) -> int:
            return sum(self.load(self.bundle.parts))

    assert kart.build(After(bundle=Bundle(parts=(Part(i=3), Part(i=4))))) == 7


def test_a_bundle_asks_nothing_of_what_stands_above_its_parts_unless_they_are_strict(
    workspace: Files,
) -> None:
    class Above(kart.TaskOnKart[int]):
        part: Part

        def run(self) -> int:
            return self.load(self.part)

    class Bundled(kart.WrapperTask):
        above: Above

    kart.build(Bundled(above=Above(part=Part(i=1))))
    workspace.remove(Part(i=1).output().path)  # type: ignore[union-attr]
    assert Bundled(above=Above(part=Part(i=1))).complete()
    assert kart.plan(Bundled(above=Above(part=Part(i=1)))).to_run == []
    for strict in (
        Bundled(above=Above(part=Part(i=1), strict_check=True)),
        Bundled(above=Above(part=Part(i=1)), strict_check=True),
    ):
        assert not strict.complete()
        assert Part(i=1) in [node.task for node in kart.plan(strict).to_run]


def test_the_output_of_a_base_class_that_users_call_as_kart_calls_its_own_counts() -> None:
    class TaskOnKart(kart.TaskOnKart[int]):
        def output(self) -> kart.Target:
            return self.make_target("company/result.json")

    class Ours(TaskOnKart):
        def run(self) -> int:
            return 1

    kart.build(Ours())
    assert kart.record(Ours()).outputs[0].path.startswith("company/")


@pytest.mark.local(reason="a folder has many spellings")
@pytest.mark.parametrize("other", ["resources/", "file://{}/resources", "./x/../resources"])
def test_one_workspace_may_be_spelt_in_several_ways(other: str) -> None:
    class Both(kart.TaskOnKart[int]):
        parts: tuple[Part, Part]

        def run(self) -> int:
            return sum(self.load(self.parts))

    one = Part(i=1, workspace_directory="./resources")
    assert kart.build(Both(parts=(one, Part(i=1, workspace_directory=other.format(os.getcwd()))))) == 2


# --- many outputs


class Counted(dict[str, Any]):
    """Outputs that count how often they are gone through."""

    times = 0

    def items(self) -> Any:
        Counted.times += 1
        return super().items()


class Many(kart.TaskOnKart[Any]):
    asked: ClassVar[int] = 0
    n: int = 60

    def output(self) -> Any:
        Many.asked += 1
        return Counted({str(i): self.make_target(f"many/{i}.txt") for i in range(self.n)})

    def run(self) -> None:
        for i in range(0, self.n, 2):
            self.dump(str(i), str(i))
        for target in list(self.output().values())[1::2]:
            self.dump("odd", target)


class ReadsMany(kart.TaskOnKart[list[str]]):
    many: Many
    single: bool = False

    def run(self) -> list[str]:
        targets = list(self.many.output().values())
        return [self.load(target) for target in targets] if self.single else self.load(targets)


@pytest.mark.parametrize("single", [False, True])
def test_many_outputs_are_gone_through_once_and_not_for_each(single: bool) -> None:
    Counted.times = Many.asked = 0
    assert kart.build(ReadsMany(many=Many(), single=single)) == [f"{i}" if i % 2 == 0 else "odd" for i in range(60)]
    assert Many.asked < 15
    assert Counted.times < 15
