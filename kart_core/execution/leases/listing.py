"""The leases of a workspace, for people, who may also release one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import attrs

from kart_core.errors import StorageError
from kart_core.execution.leases.facts import FOLDER, Holder, Taken, content, holder_of, this_host
from kart_core.execution.leases.slots import number_of, slot_of
from kart_core.execution.leases.terms import Terms
from kart_core.execution.leases.watch import Watch
from kart_core.workspace import guarded

if TYPE_CHECKING:
    from kart_core.workspace import Workspace

_TRIES = 20


@attrs.frozen
class Held:
    """A lease, as it stands in a workspace."""

    unique_id: str
    """The task's."""
    holder: Holder
    renewed: float | None
    """Seconds since the epoch by the storage's own clock, where it says when the lease was last renewed."""


def leases(workspace: Workspace) -> list[Held]:
    """Every lease of a workspace, by unique id.

    Raises:
        StorageError: the workspace cannot be read.
    """
    last: dict[str, tuple[int, str, float | None]] = {}
    with guarded(workspace, FOLDER):
        for path, stat in workspace.store.list(FOLDER):
            unique_id, number = number_of(path)
            if unique_id not in last or last[unique_id][0] < number:
                last[unique_id] = (number, path, stat.modified)
        found: list[Held] = []
        for unique_id, (_, path, renewed) in sorted(last.items()):
            try:
                data = workspace.store.read(path)
            except FileNotFoundError:
                continue  # it was given back meanwhile
            found.append(Held(unique_id, holder_of(data), renewed))
    return found


def release(workspace: Workspace, unique_id: str, process: int | None = None, host: str | None = None) -> bool:
    """Takes a lease away from who holds it, and gives it back; the holder will not store its result.

    Args:
        workspace: where.
        unique_id: the task's.
        process: only if this process holds it, which is known to have ended.
        host: the machine of the process; by default this one.

    Returns:
        Whether there was one.

    Raises:
        StorageError: the workspace cannot be written, or the lease changes all the time.
    """
    slot = slot_of(workspace.store, unique_id)
    data = content(os.urandom(12).hex(), "", time.time(), Terms.configured(), 0)
    with guarded(workspace, f"{FOLDER}/{unique_id}"):
        for _ in range(_TRIES):
            seen = slot.look()
            if not seen or (process is not None and not _is_held_by(process, host, holder_of(seen[-1].data))):
                return False
            claim = slot.succeed(seen, data)
            if claim is not None:
                slot.vacate(claim, sure=False)
                return True
    raise StorageError(f"the lease {workspace.where(f'{FOLDER}/{unique_id}')} changes all the time; try again")


def release_expired(workspace: Workspace) -> list[Held]:
    """Takes away the leases that nobody renews: what a run does that wants one of their tasks.

    It looks at each until somebody has renewed it or its expiry has passed; no clock but this process's own is asked.

    Args:
        workspace: where.

    Returns:
        Those that were released.

    Raises:
        StorageError: the workspace cannot be read or written.
    """
    watched: list[tuple[Held, Watch]] = []
    for lease in leases(workspace):
        with guarded(workspace, f"{FOLDER}/{lease.unique_id}"):
            seen = slot_of(workspace.store, lease.unique_id).look()
        if seen:
            watched.append((lease, Watch(workspace, lease.unique_id, Taken(seen))))
    released: list[Held] = []
    data = content(os.urandom(12).hex(), "", time.time(), Terms.configured(), 0)
    while watched:
        time.sleep(min(watch.again_in for _, watch in watched))
        for lease, watch in [pair for pair in watched if not pair[1].again_in]:
            if not watch.look() and not watch.renewed:
                continue
            watched.remove((lease, watch))
            if watch.expired is None:
                continue
            slot = slot_of(workspace.store, lease.unique_id)
            with guarded(workspace, f"{FOLDER}/{lease.unique_id}"):
                claim = slot.succeed(watch.expired, data)
                if claim is not None:
                    slot.vacate(claim, sure=False)
                    released.append(lease)
    return released


def _is_held_by(process: int, host: str | None, holder: Holder) -> bool:
    return (holder.host, holder.process) == (host or this_host(), process)
