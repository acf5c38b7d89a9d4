"""What a pipeline does in a bucket is what it does in a folder: values, ids, files, records, failures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import Project
from servers import Server

import kart_core as kart
from kart_core import records

CHANGES = ("attempt", "started", "seconds", "host", "versions", "plugins")


class Text(kart.TaskOnKart[str]):
    text: str = "ünï 😀"

    def output(self) -> kart.Target:
        return self.make_target("texts/text.txt")

    def run(self) -> str:
        return self.text


class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 5

    def run(self) -> list[int]:
        import random

        self.task_log["n"] = self.n
        return [random.randrange(1000) for _ in range(self.n)]


class Large(kart.TaskOnKart[bytes]):
    size: int = 20_000_000

    def output(self) -> kart.Target:
        return self.make_target("large.bin")

    def run(self) -> bytes:
        return b"0123456789" * (self.size // 10)


class Parts(kart.TaskOnKart[dict[str, Any]]):
    numbers: Numbers

    def output(self) -> dict[str, kart.Target]:
        return {"json": self.make_target("parts/a.json"), "text": self.make_target("parts/b.txt")}

    def run(self) -> None:
        self.dump({"json": {"sum": sum(self.load(self.numbers))}, "text": ""})


class Latest(kart.TaskOnKart[str]):
    label: str

    def output(self) -> kart.Target:
        return self.make_target("latest.txt", use_unique_id=False)

    def run(self) -> str:
        return self.label


class Stream(kart.TaskOnKart[list[int]]):
    def run(self) -> None:
        self.dump(number for number in range(3000))


class Model(kart.TaskOnKart[str]):
    def output(self) -> kart.Target:
        def save(value: str, path: str) -> None:
            Path(path).mkdir()
            (Path(path) / "weights").write_text(value)

        return self.make_model_target("model.zip", save, lambda path: (Path(path) / "weights").read_text())

    def run(self) -> str:
        return "weights" * 1000


class Empty(kart.TaskOnKart[bytes]):
    def output(self) -> kart.Target:
        return self.make_target("empty.bin")

    def run(self) -> bytes:
        return b""


class Fails(kart.TaskOnKart[int]):
    numbers: Numbers

    def run(self) -> int:
        raise ValueError("on purpose")


class Forgets(kart.TaskOnKart[int]):
    def run(self) -> None:
        pass


class Gathers(kart.TaskOnKart[int]):
    """Asks for tasks while it runs, and loads many."""

    def run(self) -> Any:
        found = yield [Numbers(n=number) for number in range(4)]
        return sum(map(sum, found)) + sum(map(sum, self.load([Numbers(n=number) for number in range(4)])))


class Bucket:
    """The files of a workspace in a bucket."""

    def __init__(self, server: Server, url: str) -> None:
        self._server, self.url = server, url

    def files(self) -> dict[str, bytes]:
        return {key: self._server.get(self.url, key) or b"" for key in self._server.keys(self.url)}

    def put(self, path: str, data: bytes | None) -> None:
        if data is None:
            self._server.client().delete_object(Bucket=self._server.bucket, Key=self._server.key(self.url, path))
        else:
            self._server.put(self.url, path, data)


class Folder:
    """The files of a workspace in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.url = folder, str(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def files(self) -> dict[str, bytes]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self._folder)): path.read_bytes() for path in files}

    def put(self, path: str, data: bytes | None) -> None:
        if data is None:
            (self._folder / path).unlink()
        else:
            (self._folder / path).write_bytes(data)


Workspace = Any


def _path(workspace: Workspace, part: str) -> str:
    return next(path for path in workspace.files() if part in path)


def builds_and_reuses(workspace: Workspace) -> Any:
    tasks = [Text(), Numbers(), Large(), Parts(numbers=Numbers()), Stream(), Model(), Empty(), Gathers()]
    first = [kart.build(task) for task in tasks]
    records._remembered.clear()
    assert [kart.build(task) for task in tasks] == first
    return first, [len(kart.plan(task).reused) for task in tasks], [task.complete() for task in tasks]


def reruns(workspace: Workspace) -> Any:
    task = Parts(numbers=Numbers(n=3))
    kart.build(task)
    marks = kart.record(task).attempt, kart.record(Numbers(n=3)).attempt
    kart.build(task, rerun=True)
    assert kart.record(task).attempt != marks[0]
    assert kart.record(Numbers(n=3)).attempt == marks[1]
    kart.build(task, rerun_from=["Numbers"])
    assert kart.record(Numbers(n=3)).attempt != marks[1]
    return [str(node.reason) for node in kart.plan(Parts(numbers=Numbers(n=3, rerun=True))).nodes]


def fails(workspace: Workspace) -> Any:
    said = []
    for task in (Fails(numbers=Numbers(n=2)), Forgets()):
        with pytest.raises(kart.BuildError) as caught:
            kart.build(task)
        said.append((str(caught.value), caught.value.exit_code))
    return said


def is_damaged(workspace: Workspace) -> Any:
    task = Numbers(n=4)
    value = kart.build(task)
    path = _path(workspace, "Numbers_")
    workspace.put(path, b"damaged")
    with pytest.raises(kart.CorruptResultError):
        kart.build(task)
    workspace.put(path, None)
    assert not task.complete()
    assert kart.build(task) == value
    workspace.put(_path(workspace, "/records/"), None)
    assert [node.reason for node in kart.plan(task).nodes] == ["no result is stored"]
    assert kart.build(task) == value
    workspace.put(_path(workspace, "/records/"), b"{}")
    records._remembered.clear()
    with pytest.raises(kart.CorruptResultError):
        kart.build(task)
    workspace.put(_path(workspace, "/records/"), None)
    return value


def takes_turns(workspace: Workspace) -> Any:
    values = [kart.build(Latest(label=label)) for label in ("a", "b", "a", "a")]
    return values, [Latest(label=label).complete() for label in ("a", "b")]


def remembers(workspace: Workspace) -> Any:
    task = Parts(numbers=Numbers(n=6))
    kart.build(task)
    found = kart.record(Numbers(n=6))
    return found.log, found.parameters, found.seed, [record.unique_id for record in kart.results(Numbers)]


SCENARIOS = (builds_and_reuses, reruns, fails, is_damaged, takes_turns, remembers)


def _happened(workspace: Workspace, scenario: Callable[[Workspace], Any], project: Project) -> tuple[Any, Any, Any]:
    project.monkeypatch.setenv("KART_WORKSPACE_DIRECTORY", workspace.url)
    value = scenario(workspace)
    files = workspace.files()
    found = {path: _steady(json.loads(data)) for path, data in files.items() if path.startswith(".kart/records/")}
    results = {path: data for path, data in files.items() if not path.startswith((".kart/records/", ".kart/runs/"))}
    return value, found, results


def _steady(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs from run to run and from storage to storage."""
    kept = {key: value for key, value in record.items() if key not in CHANGES}
    kept["requirements"] = [[task, unique_id, digest] for task, unique_id, _, digest in record["requirements"]]
    for output in kept["outputs"]:
        output["mark"] = output["mark"] is not None
    return kept


@pytest.mark.parametrize("name", ["seaweed", "moto"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_bucket_is_as_good_as_a_folder(
    name: str, scenario: Callable[[Workspace], Any], project: Project, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(name)
    here = _happened(Folder(project.folder / "local"), scenario, project)
    records._remembered.clear()
    there = _happened(Bucket(server, project.use(server)), scenario, project)
    assert there == here
