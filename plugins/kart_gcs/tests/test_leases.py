"""Leases in a bucket: one owner at a time, and few requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from kart_core.execution import leases
from kart_core.execution.leases import Lease, LostLease, Taken, Terms, Watch, take
from kart_core.execution.leases.slots import slot_of
from kart_core.workspace import Workspace, open_workspace

ID = "0123456789abcdef0123456789abcdef"
LONG = Terms(renew_every=1000.0, expiry=10_000.0)


@pytest.fixture
def workspace(bucket: Any) -> Workspace:
    return open_workspace(f"gs://{bucket.name}/a/space")


@pytest.fixture
def found(bucket: Any) -> Callable[[], list[str]]:
    return lambda: [name for name in bucket.names() if "/.kart/leases/" in name]


def taken(workspace: Workspace, terms: Terms = LONG, expired: leases.Seen | None = None) -> Lease:
    lease = take(workspace, ID, "pipeline.Train", terms, expired)
    assert isinstance(lease, Lease)
    return lease


def test_a_lease_is_taken_watched_and_given_back(workspace: Workspace, found: Callable[[], list[str]]) -> None:
    lease = taken(workspace)
    other = take(workspace, ID, "pipeline.Train", LONG)
    assert isinstance(other, Taken)
    watch = Watch(workspace, ID, other)
    assert watch.look() is False
    lease.check()
    lease.release()
    assert watch.look() is True
    assert found() == []


def test_a_lease_is_renewed_and_stays_its_owners(workspace: Workspace, found: Callable[[], list[str]]) -> None:
    slot = slot_of(workspace.store, ID)
    lease = taken(workspace, Terms(renew_every=0.1, expiry=0.2))
    first = slot.look()
    while slot.look() == first:
        time.sleep(0.02)
    lease.check()
    lease.release()
    assert found() == []


def test_an_owner_that_was_taken_over_neither_stores_nor_disturbs(
    workspace: Workspace, found: Callable[[], list[str]]
) -> None:
    late = taken(workspace, Terms(renew_every=1000.0, expiry=0.001))
    new = taken(workspace, expired=slot_of(workspace.store, ID).look())
    with pytest.raises(LostLease, match="has it now"):
        late.check()
    late.release()
    assert len(found()) == 1
    new.check()
    new.release()
    assert found() == []


def test_who_saw_a_lease_before_its_renewal_does_not_take_it_over(workspace: Workspace) -> None:
    slot = slot_of(workspace.store, ID)
    lease = taken(workspace, Terms(renew_every=0.1, expiry=60))
    before = slot.look()
    while slot.look() == before:
        time.sleep(0.02)
    assert isinstance(take(workspace, ID, "pipeline.Train", LONG, before), Taken)
    lease.check()
    lease.release()


def test_a_takeover_by_many_has_one_winner(workspace: Workspace) -> None:
    for _ in range(10):
        old = taken(workspace)
        seen = slot_of(workspace.store, ID).look()
        together = Barrier(8)

        def attempt(_: int, seen: leases.Seen = seen, together: Barrier = together) -> Lease | Taken:
            together.wait()
            return take(workspace, ID, "pipeline.Train", LONG, seen)

        with ThreadPoolExecutor(8) as pool:
            won = [lease for lease in pool.map(attempt, range(8)) if isinstance(lease, Lease)]
        assert len(won) == 1
        old.release()
        won[0].release()


def test_a_lease_costs_its_creation_and_its_removal(workspace: Workspace, guard: Any) -> None:
    workspace.ensure_format()

    def counted(work: Any) -> dict[str, int]:
        guard.requests.clear()
        work()
        return guard.kinds()

    held: list[Lease] = []
    assert counted(lambda: held.append(taken(workspace))) == {"PUT": 1}
    assert counted(held[0].check) == {}
    assert counted(held[0].release) == {"DELETE": 1}
