"""Waiting for a task on which another works."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from kart_core.execution.leases.facts import Holder, Seen, Taken
from kart_core.execution.leases.slots import slot_of
from kart_core.workspace import guarded

if TYPE_CHECKING:
    from kart_core.workspace import Workspace

_FIRST: Final = {"network": 0.25}
_LAST: Final = {"network": 5.0}


class Watch:
    """Looks at another's lease from time to time, and says when it is worth trying to take it.

    What it waits for is that the lease goes, or that nothing in it changes for its expiry. That is measured by this
    process's own clock, from one look to the next; times that others wrote are never compared with it. However long
    ago the look before was, it counts for half of the expiry at most: who was stopped together with the owner leaves
    it time to renew the lease.

    Args:
        workspace: where.
        unique_id: the task's.
        taken: what `take` gave.
    """

    def __init__(self, workspace: Workspace, unique_id: str, taken: Taken) -> None:
        shared = workspace.storage.shared
        self._workspace = workspace
        self._unique_id = unique_id
        self._slot = slot_of(workspace.store, unique_id)
        self._seen: Seen = taken.seen
        self._first: Seen = taken.seen
        self._holder = taken.holder
        self._unchanged = 0.0
        self._looked = time.monotonic()
        self._pause = _FIRST.get(shared, 0.05)
        self._longest = _LAST.get(shared, 1.0)

    @property
    def holder(self) -> Holder:
        """Who works on the task, as was last seen."""
        return self._holder

    @property
    def again_in(self) -> float:
        """Seconds until it is time to look again; 0 where it is time."""
        return max(0.0, self._looked + min(self._pause, self._holder.expiry / 8) - time.monotonic())

    @property
    def renewed(self) -> bool:
        """Whether anything in the lease has changed since the watch began, so that somebody lives."""
        return self._seen != self._first

    @property
    def expired(self) -> Seen | None:
        """What `take` is to take over; None where there is nothing, or nothing yet."""
        return self._seen if self._seen and self._unchanged >= self._holder.expiry else None

    def look(self) -> bool:
        """Looks; whether it is worth trying to take the lease, since it is gone or has expired.

        Raises:
            StorageError: the workspace cannot be read.
        """
        began = time.monotonic()
        with guarded(self._workspace, f".kart/leases/{self._unique_id}"):
            seen = self._slot.look(self._seen)
        if seen == self._seen:
            self._unchanged += min(began - self._looked, self._holder.expiry / 2)
        else:
            self._unchanged = 0.0
            self._seen = seen
            if seen:
                self._holder = Taken(seen).holder
        self._looked = time.monotonic()
        self._pause = min(self._pause * 1.5, self._longest)
        return not seen or self.expired is not None
