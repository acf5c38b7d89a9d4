"""Thousands of results, and names that are odd."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import many
import pytest
from projects import Project
from servers import Server
from test_store import open_store

import kart_core as kart
from kart_core import records

NAMES = (
    "plain",
    "mit Leerzeichen",
    "a+b",
    "100%",
    "50%25",
    "#1",
    "ünï",
    "码",
    "😀",
    "a&b=c?d",
    "quote'\"",
    "semi;colon,comma",
)


class Named(kart.TaskOnKart[str]):
    name: str

    def output(self) -> kart.Target:
        return self.make_target(f"named/{self.name}/{self.name}.txt")

    def run(self) -> str:
        return self.name


@pytest.fixture(params=["seaweed", "moto"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


def test_odd_names_are_stored_listed_planned_and_loaded(project: Project, server: Server) -> None:
    url = project.use(server)
    tasks = [Named(name=name) for name in NAMES]
    assert kart.build(*tasks) == NAMES
    assert len([key for key in server.keys(url) if key.startswith("named/")]) == len(NAMES)
    records._remembered.clear()
    assert len(kart.plan(*tasks).reused) == len(NAMES)
    assert [tasks[0].load(task) for task in tasks] == list(NAMES)
    assert len(kart.results(Named)) == len(NAMES)


@pytest.mark.parametrize("prefix", ["with space", "a+b", "100%", "#1", "ünï/码", "q?x=1"])
def test_a_workspace_may_have_an_odd_name(project: Project, server: Server, prefix: str) -> None:
    url = f"{project.use(server)}/{prefix}"
    assert kart.build(many.Leaf(number=3), workspace_directory=url) == 3
    assert any(key.startswith("many/Leaf_") for key in server.keys(url))
    assert kart.plan(many.Leaf(number=3), workspace_directory=url).reused


def test_more_than_a_page_of_results_is_listed_planned_and_loaded(project: Project, seaweed: Server) -> None:
    server, url = seaweed, project.use(seaweed)
    tasks = [many.Leaf(number=number) for number in range(1_100)]
    store = open_store(server, url)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda task: store.put(f"many/Leaf_{task.unique_id}.pkl", b"x"), tasks))
        list(threads.map(lambda task: store.put(f".kart/records/many.Leaf/{task.unique_id}.json", b"{}"), tasks))
    assert len(list(store.list("many"))) == 1_100
    assert len(list(store.list(""))) == 2_200
    assert len(kart.plan(*tasks, *(many.Leaf(number=-number) for number in range(1, 50))).reused) == 1_100
