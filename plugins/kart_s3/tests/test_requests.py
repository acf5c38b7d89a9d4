"""How many requests each thing costs, counted at the server. The table in ``docs/s3.md`` says the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import many
import pytest
from projects import Project
from proxy import Proxy
from servers import Server

import kart_core as kart
from kart_core import records

PAGE = Path(__file__).parents[3] / "docs" / "s3.md"

_WITHOUT = ", without leases"


@pytest.fixture
def counting(project: Project, seaweed: Server, proxy: Proxy) -> str:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    return url


def _forget() -> None:
    """As another process, which remembers nothing of what was written."""
    records._remembered.clear()


def _ran(leaves: int, proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    kart.build(many.Leaf(number=-1))
    proxy.counted()
    kart.build(*(many.Leaf(number=number) for number in range(leaves)), return_value=False)
    return proxy.counted()


def _with_outputs(proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    kart.build(many.Leaf(number=-1))
    proxy.counted()
    kart.build(many.Pair(), return_value=False)
    return proxy.counted()


def _first(proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    kart.build(many.Leaf(number=1), return_value=False)
    return proxy.counted()


def _rerun(proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    kart.build(many.Leaf(number=1), return_value=False)
    proxy.counted()
    kart.build(many.Leaf(number=1), rerun=True, return_value=False)
    return proxy.counted()


def _stored(proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    kart.build(many.Root(leaves=30))
    _forget()
    proxy.counted()
    kart.build(many.Root(leaves=30))
    return proxy.counted()


def _loaded(proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    kart.build(many.Leaf(number=1))
    _forget()
    proxy.counted()
    assert many.Leaf(number=1).load(many.Leaf(number=1)) == 1
    return proxy.counted()


def _planned(proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    tasks = [cls(number=number) for cls in (many.Leaf, many.Other) for number in range(5_000)]
    _plant(seaweed, counting, tasks)
    plan = kart.plan(*tasks)
    assert len(plan.reused) == 10_000
    return proxy.counted()


def _few_among_many(proxy: Proxy, seaweed: Server, counting: str) -> dict[str, int]:
    _plant(seaweed, counting, [many.Leaf(number=number) for number in range(2_500)])
    tasks = [many.Leaf(number=number) for number in range(20)]
    assert len(kart.plan(*tasks).reused) == 20
    return proxy.counted()


def _plant(server: Server, url: str, tasks: list[kart.TaskOnKart[int]]) -> None:
    """The files that tasks leave, by another way, and faster."""
    names = [(type(task).__name__, task.unique_id) for task in tasks]
    paths = [f".kart/records/many.{name}/{unique_id}.json" for name, unique_id in names]
    paths += [f"many/{name}_{unique_id}.pkl" for name, unique_id in names]
    with ThreadPoolExecutor(10) as threads:  # as many as the client keeps connections
        list(threads.map(lambda path: server.put(url, path, b"{}"), paths))


def _at_most(**limits: int) -> Callable[[dict[str, int]], bool]:
    return lambda counts: all(counts.get(kind, 0) <= limits.get(kind, 0) for kind in {*counts, *limits})


CASES = {
    "a task is executed, in a workspace that was used before": (
        _with_outputs,
        _at_most(HEAD=2, LIST=1, PUT=5, DELETE=1),
    ),
    f"a task is executed, in a workspace that was used before{_WITHOUT}": (
        _with_outputs,
        _at_most(HEAD=1, LIST=1, PUT=4),
    ),
    "the first task of a workspace is executed": (_first, _at_most(HEAD=2, LIST=1, GET=1, PUT=5, DELETE=1)),
    f"the first task of a workspace is executed{_WITHOUT}": (_first, _at_most(HEAD=1, LIST=1, GET=1, PUT=4)),
    "a stored task is executed again": (_rerun, _at_most(HEAD=3, DELETE=2, PUT=4)),
    f"a stored task is executed again{_WITHOUT}": (_rerun, _at_most(HEAD=1, DELETE=1, PUT=3)),
    "a build whose root is stored": (_stored, lambda counts: sum(counts.values()) <= 4),
    "a result is loaded": (_loaded, lambda counts: sum(counts.values()) <= 2),
    "10,000 stored tasks of two classes are planned": (_planned, _at_most(LIST=24)),
    "20 tasks are planned, among 2,500 results": (_few_among_many, lambda counts: sum(counts.values()) <= 40),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith("10,000") else name for name in CASES]
)
def test_a_thing_costs_what_the_page_says(
    name: str, project: Project, proxy: Proxy, seaweed: Server, counting: str
) -> None:
    do, holds = CASES[name]
    if name.endswith(_WITHOUT):
        project.monkeypatch.setenv("KART_SHOULD_LOCK_RUN", "false")
    counts = do(proxy, seaweed, counting)
    assert holds(counts), counts
    if PAGE.exists():  # the tests go with the plugin, the page with the project
        shown = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
        assert rows.get(name) == shown, f"| {name} | {shown} |"


def test_each_task_costs_one_put_for_its_output_and_one_for_its_record(
    project: Project, proxy: Proxy, seaweed: Server, counting: str
) -> None:
    project.monkeypatch.setenv("KART_SHOULD_LOCK_RUN", "false")
    counts = _ran(40, proxy, seaweed, counting)
    assert counts == {"LIST": 1, "PUT": 81}  # and one for the journal


def test_a_lease_costs_each_task_its_creation_a_look_and_its_removal(
    project: Project, proxy: Proxy, seaweed: Server, counting: str
) -> None:
    counts = _ran(40, proxy, seaweed, counting)
    assert counts == {"LIST": 1, "PUT": 81 + 40, "HEAD": 40, "DELETE": 40}


def test_tasks_that_are_not_there_are_looked_for_once(project: Project, proxy: Proxy, counting: str) -> None:
    kart.build(many.Leaf(number=-1))
    proxy.counted()
    assert not kart.plan(*(many.Leaf(number=number) for number in range(5))).reused
    assert proxy.counted() == {"HEAD": 5}
