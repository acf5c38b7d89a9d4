"""Leases: one task runs once, however many processes and machines ask for it.

Before a task runs, its worker takes its lease, a file of the workspace that storage creates for one of all who try.
While the task runs a thread renews the lease; afterwards it is removed. Who finds it taken goes on with other tasks,
and watches it (`Watch`). A lease that is not renewed for its expiry is taken over; an owner that has lost its lease
stores nothing. `kart_core.execution.leases.slots` says why there is one owner at a time, and what remains.
"""

from __future__ import annotations

from kart_core.execution.leases.facts import Holder, LostLease, Seen, Taken, TakenElsewhere
from kart_core.execution.leases.lease import Handed, Lease, adopt, take
from kart_core.execution.leases.links import Links, has_links
from kart_core.execution.leases.listing import Held, leases, release, release_expired
from kart_core.execution.leases.ready import clear_after
from kart_core.execution.leases.terms import Terms
from kart_core.execution.leases.watch import Watch

__all__ = [
    "Handed",
    "Held",
    "Holder",
    "Lease",
    "Links",
    "LostLease",
    "Seen",
    "Taken",
    "TakenElsewhere",
    "Terms",
    "Watch",
    "adopt",
    "clear_after",
    "has_links",
    "leases",
    "release",
    "release_expired",
    "take",
]
