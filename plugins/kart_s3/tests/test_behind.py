"""Results are stored, and read, many at a time: no task waits for a bucket in vain, and none runs too early."""

from __future__ import annotations

import itertools
import threading
import time

import many
import pytest
from projects import Project
from proxy import Proxy, Request
from servers import Server

import kart_core as kart
from kart_core import records


@pytest.fixture
def far(project: Project, seaweed: Server, proxy: Proxy) -> str:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    project.monkeypatch.setenv("KART_SHOULD_LOCK_RUN", "false")  # a lease is taken before a task runs, not behind
    kart.build(many.Leaf(number=-1))
    proxy.delay = 0.05
    proxy.counted()
    return url


class Late(kart.TaskOnKart[float]):
    """Says when it ran."""

    above: many.Leaf

    def run(self) -> float:
        return time.time()


class Sizes(kart.TaskOnKart[bytes]):
    number: int

    def run(self) -> bytes:
        return bytes([self.number]) * (2_000_000 if self.number % 3 == 0 else 400_000)


class Together(kart.TaskOnKart[list[int]]):
    def requires(self) -> list[Sizes]:
        return [Sizes(number=number) for number in range(12)]

    def run(self) -> list[int]:
        return [len(content) for content in self.load()]


class AsksBesides(kart.TaskOnKart[list[int]], priority=-1):
    """Loads tasks that it does not require, but that run before it."""

    def run(self) -> list[int]:
        leaves = [many.Leaf(number=number) for number in range(5)]
        assert all(leaf.complete() for leaf in leaves)
        return self.load(leaves)


@pytest.mark.parametrize("name", ["moto", "seaweed"])
def test_what_is_on_its_way_is_waited_for_by_who_asks_for_it_without_requiring_it(
    name: str, project: Project, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(name)
    project.use(server)
    with Proxy(server.endpoint) as slow:
        project.monkeypatch.setenv("AWS_ENDPOINT_URL", slow.endpoint)
        slow.delay = 0.1
        *_, found = kart.build(*(many.Leaf(number=number) for number in range(5)), AsksBesides())
    assert found == [0, 1, 2, 3, 4]


def test_a_hundred_results_do_not_wait_for_each_other(far: str, proxy: Proxy) -> None:
    met = threading.Barrier(8)
    first = itertools.count(1)

    def meet(request: Request) -> None:
        """The first eight results are let through when all of them have come."""
        if request.method == "PUT" and next(first) <= 8:
            met.wait(30)

    proxy.answers = meet
    assert kart.build(many.Root(leaves=100)) == sum(range(100))
    assert not met.broken
    counts = proxy.counted()
    assert (counts["PUT"], counts["HEAD"]) == (2 * 101 + 1, 1)
    assert counts["GET"] <= 102
    assert counts["LIST"] <= 2


def test_what_depends_on_a_result_runs_when_it_is_stored(far: str, proxy: Proxy, seaweed: Server) -> None:
    leaf = many.Leaf(number=5)
    ran = kart.build(Late(above=leaf))
    stored = seaweed.client().head_object(
        Bucket=seaweed.bucket, Key=seaweed.key(far, f".kart/records/many.Leaf/{leaf.unique_id}.json")
    )["LastModified"]
    assert ran > stored.timestamp() - 1
    order = [request.path.rpartition("/")[2] for request in proxy.requests if request.method == "PUT"]
    assert order.index(f"{leaf.unique_id}.json") < next(i for i, name in enumerate(order) if name.startswith("Late_"))


def test_a_result_that_cannot_be_stored_fails_its_task_and_what_depends_on_it_alone(
    project: Project, far: str, proxy: Proxy
) -> None:
    bad = many.Leaf(number=7)
    refused = (
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 58\r\n\r\n"
        + b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"[:58]
    )
    proxy.answers = lambda request: refused if request.method == "PUT" and bad.unique_id in request.path else None
    with pytest.raises(kart.BuildError) as caught:
        kart.build(many.Root(leaves=10))
    assert list(caught.value.failures) == [bad]
    assert caught.value.exit_code == 70
    assert "1 more could not run" in str(caught.value)
    proxy.answers = lambda request: None
    assert len(kart.plan(many.Root(leaves=10)).to_run) == 2


def test_large_and_small_results_are_read_once_each(far: str, proxy: Proxy) -> None:
    expected = [2_000_000 if number % 3 == 0 else 400_000 for number in range(12)]
    assert kart.build(Together()) == expected
    records._remembered.clear()
    proxy.counted()
    assert kart.build(Together(), rerun=True) == expected
    counts = proxy.counted()
    assert counts["GET"] == 12 + 12 + 1  # a record and a result of each, and the root's own value
