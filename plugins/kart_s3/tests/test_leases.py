"""Leases in a bucket: one owner at a time, whatever becomes of requests, and few of these."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator

import pytest
from proxy import Proxy
from racers import PROCESSES, Meet, Racers
from servers import Server
from test_exclusive import _once

from kart_core.execution import leases
from kart_core.execution.leases import Lease, LostLease, Taken, Terms, Watch, take
from kart_core.execution.leases.slots import slot_of
from kart_core.workspace import Workspace, open_workspace

pytestmark = pytest.mark.usefixtures("credentials")

ID = "0123456789abcdef0123456789abcdef"
LONG = Terms(renew_every=1000.0, expiry=10_000.0)
ROUNDS = 20


@pytest.fixture(params=["seaweed", "moto"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


@pytest.fixture
def url(server: Server) -> str:
    return server.new_url()


@pytest.fixture
def workspace(server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    return open_workspace(url)


_mine: list[Lease] = []


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    _mine.clear()


def taken(workspace: Workspace, terms: Terms = LONG, expired: leases.Seen | None = None) -> Lease:
    lease = take(workspace, ID, "pipeline.Train", terms, expired)
    assert isinstance(lease, Lease)
    _mine.append(lease)
    return lease


def leases_in(server: Server, url: str) -> list[str]:
    return [key for key in server.keys(url) if key.startswith(".kart/leases/")]


def test_a_lease_is_taken_watched_and_given_back(workspace: Workspace, server: Server, url: str) -> None:
    lease = taken(workspace)
    found = take(workspace, ID, "pipeline.Train", LONG)
    assert isinstance(found, Taken)
    assert found.holder.task == "pipeline.Train"
    watch = Watch(workspace, ID, found)
    assert watch.look() is False
    lease.check()
    lease.release()
    assert watch.look() is True
    assert leases_in(server, url) == []


def test_a_lease_is_renewed_and_stays_its_owners(workspace: Workspace, server: Server, url: str) -> None:
    slot = slot_of(workspace.store, ID)
    lease = taken(workspace, Terms(renew_every=0.1, expiry=0.2))  # no check without a look
    first = slot.look()
    while slot.look() == first:
        time.sleep(0.02)
    lease.check()
    lease.release()
    assert leases_in(server, url) == []


def test_an_owner_that_was_taken_over_neither_stores_nor_disturbs(
    workspace: Workspace, server: Server, url: str
) -> None:
    late = taken(workspace, Terms(renew_every=1000.0, expiry=0.001))
    new = taken(workspace, expired=slot_of(workspace.store, ID).look())
    stands = server.get(url, f".kart/leases/{ID}")
    with pytest.raises(LostLease, match="has it now"):
        late.check()
    late.release()
    assert server.get(url, f".kart/leases/{ID}") == stands
    new.check()
    new.release()
    assert leases_in(server, url) == []


def test_a_late_renewal_does_not_bring_a_lease_back(workspace: Workspace, server: Server, url: str) -> None:
    late = taken(workspace, Terms(renew_every=0.1, expiry=60))
    assert leases.release(workspace, ID) is True
    seen: list[str] = []
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        seen += leases_in(server, url)
    assert seen == []
    with pytest.raises(LostLease):
        late.check()


def test_who_saw_a_lease_before_its_renewal_does_not_take_it_over(workspace: Workspace) -> None:
    slot = slot_of(workspace.store, ID)
    lease = taken(workspace, Terms(renew_every=0.1, expiry=60))
    before = slot.look()
    while slot.look() == before:
        time.sleep(0.02)
    assert isinstance(take(workspace, ID, "pipeline.Train", LONG, before), Taken)
    lease.check()
    lease.release()


def _take_over(url: str, endpoint: str, number: int, meet: Meet) -> list[bool]:
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    workspace = open_workspace(url)
    seen = pickle.loads(workspace.store.read("seen"))
    meet()
    return [isinstance(take(workspace, f"{race}", "race", LONG, seen[race]), Lease) for race in range(ROUNDS)]


def test_a_takeover_by_eight_processes_has_one_winner(
    workspace: Workspace, server: Server, url: str, racers: Racers
) -> None:
    workspace.ensure_format()
    for race in range(ROUNDS):
        server.put(url, f".kart/leases/{race}", b"nobody renews this one")
    seen = [slot_of(workspace.store, f"{race}").look() for race in range(ROUNDS)]
    server.put(url, "seen", pickle.dumps(seen))
    won = racers.race(_take_over, url, server.endpoint)
    assert [sum(won[number][race] for number in range(PROCESSES)) for race in range(ROUNDS)] == [1] * ROUNDS


def test_a_lease_costs_its_creation_and_its_removal(
    seaweed: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    workspace = open_workspace(seaweed.new_url())
    workspace.ensure_format()
    proxy.counted()
    lease = taken(workspace)
    assert proxy.counted() == {"PUT": 1}
    lease.check()
    lease.check()
    assert proxy.counted() == {}
    lease.release()
    assert proxy.counted() == {"DELETE": 1}


@pytest.mark.parametrize("fate", ["before", "answer"])
@pytest.mark.parametrize("kind", ["PUT", "DELETE"])
def test_a_lost_answer_loses_no_lease(
    seaweed: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fate: str, kind: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    workspace = open_workspace(url := seaweed.new_url())
    workspace.ensure_format()
    _once(proxy, kind, fate)
    lease = taken(workspace, Terms(renew_every=0.1, expiry=0.2))
    first = slot_of(workspace.store, ID).look()
    _once(proxy, kind, fate)
    while slot_of(workspace.store, ID).look() == first:
        time.sleep(0.02)
    lease.check()
    _once(proxy, kind, fate)
    lease.release()
    assert leases_in(seaweed, url) == []
