"""The promises of results that are stored while the next task runs: who asks for one finds it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import kart_core as kart
from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Plugin, Storage, Store, hookimpl
from tests.traces import note, noted

pytestmark = pytest.mark.usefixtures("project")


class Far(Plugin):
    """Storage that takes its time, and loses what is called so."""

    @hookimpl
    def kart_storages(self) -> list[Storage]:
        return [Storage("far", open=self.open, shared="network", quiet=True)]

    def open(self, url: str) -> Store:
        class FarStore(LocalStore):
            def put(self, path: str, data: bytes) -> None:
                time.sleep(0.1)
                if "lost" in path:
                    raise OSError(28, "No space left on device")
                super().put(path, data)

        return FarStore(url.removeprefix("far://"))


@pytest.fixture
def far(tmp_path: Path) -> dict[str, Any]:
    return {"workspace_directory": f"far://{tmp_path / 'far'}", "plugins": [Far]}


class First(kart.TaskOnKart[str]):
    name: str = "first"

    def output(self) -> kart.Target:
        return self.make_target(f"{self.name}.txt")

    def run(self) -> str:
        note(self.name)
        return self.name


ASKS: dict[str, Any] = {
    "complete": lambda task: First().complete(),
    "load": lambda task: task.load(First()) == "first",
    "load of many": lambda task: task.load([First(), First(name="another")]) == ["first", "another"],
    "load of parts": lambda task: list(task.load_generator(First())) == ["first"],
    "load of a target": lambda task: task.load(First().output()) == "first",
    "a look at the target": lambda task: First().output().exists(),
    "the record": lambda task: kart.record(First()).unique_id == First().unique_id,
    "a build": lambda task: kart.build(First()) == "first",
}


class Asks(kart.TaskOnKart[Any], priority=-1):
    """Asks for a task that it does not require."""

    how: str

    def run(self) -> Any:
        return ASKS[self.how](self)


@pytest.mark.parametrize("how", ASKS)
def test_who_asks_for_a_result_that_is_on_its_way_waits_for_it(how: str, far: dict[str, Any]) -> None:
    assert kart.build(First(), First(name="another"), Asks(how=how), **far) == ("first", "another", True)
    assert sorted(noted()) == ["another", "first"]


class AsksForLost(kart.TaskOnKart[bool], priority=-1):
    def run(self) -> bool:
        assert not First(name="lost").complete()
        with pytest.raises(kart.MissingDataError):
            self.load(First(name="lost"))
        return True


def test_a_result_that_cannot_be_stored_is_missing_for_who_waited_for_it(far: dict[str, Any]) -> None:
    with pytest.raises(kart.BuildError) as error:
        kart.build(First(name="lost"), AsksForLost(), **far)
    assert list(error.value.failures) == [First(name="lost")]
