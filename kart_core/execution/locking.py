"""Which tasks run under a lease, and what a worker looks at once it has one."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from kart_core.errors import KartError
from kart_core.execution.leases import Lease, Links, TakenElsewhere, Terms, has_links, release, take
from kart_core.records import forget
from kart_core.workspace import guarded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kart_core.execution.leases import Seen
    from kart_core.graph import Node
    from kart_core.plugin import Stat
    from kart_core.resolved import Resolved
    from kart_core.workspace import Workspace

_log = logging.getLogger("kart_core.leases")

_told: set[str] = set()


def far_and_quiet(workspace: Workspace) -> bool:
    """Whether it pays that a workspace is asked in threads, and moves no generator from which a task draws."""
    return workspace.storage.shared == "network" and workspace.storage.quiet


class MadeElsewhere(KartError):
    """The result is there already: another process has made it since it was planned."""

    of_leases = True


class Locking:
    """The leases of one run, in one process.

    Args:
        processes: how many processes the run works with, the one that coordinates left out where it runs no task.
        terms: how long a lease lives; by default as configured.
    """

    def __init__(self, processes: int = 1, terms: Terms | None = None) -> None:
        self._several = processes > 1
        self._terms = terms or Terms.configured()
        self._links: dict[Resolved, Links] = {}

    def applies(self, here: Resolved) -> bool:
        """Whether a task of these settings runs under a lease.

        With ``should_lock_run`` left at ``auto`` it does where that is cheap beside what it saves: where several
        processes work, or the workspace is reached over a network, so that others may work there too. Where storage
        cannot create exclusively that is said, once, and the task runs without.
        """
        storage = here.workspace.storage
        if here.lock is False:
            return False
        if here.lock == "auto" and not (storage.shared == "network" or (self._several and storage.shared == "machine")):
            return False
        if storage.exclusive:
            return True
        if (here.lock is True or self._several) and here.workspace.url not in _told:
            _told.add(here.workspace.url)
            _log.warning(
                "%s cannot create a file exclusively, so no lease can be taken there: that a task runs once, however "
                "many processes ask for it, is not promised",
                here.workspace.url,
            )
        return False

    def take(self, here: Resolved, unique_id: str, expired: Seen | None = None) -> Lease | None:
        """The lease of a task; None where it runs without.

        Args:
            here: what holds for the task.
            unique_id: the task's.
            expired: of a `kart_core.execution.leases.Watch`.

        Raises:
            TakenElsewhere: another works on the task.
            StorageError: the workspace cannot be read or written.
        """
        if expired is None and (links := self._links.get(here)) is not None:
            lease = self._quick(links, here, unique_id)
            if lease is not None:
                return lease
        if not self.applies(here):
            return None
        lease = take(here.workspace, unique_id, here.name, self._terms, expired)
        if isinstance(lease, Lease):
            # A task that was given settings of its own shares them with no other.
            if not here.given and here not in self._links and has_links(here.workspace.store):
                self._links[here] = Links(here.workspace, here.name, self._terms)
            return lease
        raise TakenElsewhere(f"{here.name} {unique_id} is run by {lease}", lease)

    @staticmethod
    def _quick(links: Links, here: Resolved, unique_id: str) -> Lease | None:
        try:
            return links.take(unique_id)
        except KeyboardInterrupt:
            # It may have come when the lease was there already: then nobody is to wait for its expiry.
            release(here.workspace, unique_id, os.getpid())
            raise

    def begin(
        self, here: Resolved, unique_id: str, planned: Stat | None, expired: Seen | None = None
    ) -> tuple[Lease, bool] | None:
        """Takes a task's lease and looks at its record once more, under it.

        Args:
            here: what holds for the task.
            unique_id: the task's.
            planned: what was known of its record when it was planned (`Node.record`).
            expired: of a `kart_core.execution.leases.Watch`.

        Returns:
            The lease, and whether there is a record, which this run replaces; None where the task runs without.

        Raises:
            TakenElsewhere: another works on the task.
            MadeElsewhere: the record is another; the lease is given back.
            StorageError: the workspace cannot be read or written.
        """
        lease = self.take(here, unique_id, expired)
        if lease is None:
            return None
        try:
            return lease, self.look_again(here, unique_id, planned)
        except BaseException:
            lease.release()
            raise

    def look_first(self, nodes: Iterable[Node]) -> None:
        """Looks at the records of tasks that will run though they are stored, when a run is planned.

        A plan need not: what is to run again runs. Under leases it must be known which record was there, so that what
        somebody else has run meanwhile is not run once more.

        Args:
            nodes: those that will run.
        """
        asked = [node for node in nodes if node.replaces and node.record is None and self.applies(node.resolved)]
        for workspace in dict.fromkeys(node.resolved.workspace for node in asked):
            mine = [node for node in asked if node.resolved.workspace is workspace]
            paths = [node.resolved.record_path(node.unique_id) for node in mine]
            with guarded(workspace, ""):
                stats = workspace.store.stat_many(paths)
            for node, stat in zip(mine, stats, strict=True):
                node.record = stat
                node.replaces = stat is not None

    def look_again(self, here: Resolved, unique_id: str, planned: Stat | None) -> bool:
        """Looks at a task's record once more, under its lease.

        Args:
            here: what holds for the task.
            unique_id: the task's.
            planned: what was known of its record when it was planned (`Node.record`).

        Returns:
            Whether there is a record, which this run replaces.

        Raises:
            MadeElsewhere: the record is another.
        """
        path = here.record_path(unique_id)
        with guarded(here.workspace, path):
            found = here.workspace.store.stat(path)
        if found is None:
            return False
        if planned is None or found.mark != planned.mark:
            forget(here.workspace, path)
            raise MadeElsewhere(f"{here.name} {unique_id} was run by another process meanwhile")
        return True
