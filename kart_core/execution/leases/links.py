"""Leases that are links: how those of short tasks are taken on a local disk, thousands a second."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kart_core.execution.leases.facts import FOLDER
from kart_core.execution.leases.lease import Lease, clock, heart, stamp
from kart_core.execution.leases.ready import Ready
from kart_core.execution.leases.slots import SUCCESSORS, Claim, slot_of
from kart_core.plugin import ConditionalStore

if TYPE_CHECKING:
    from kart_core.execution.leases.terms import Terms
    from kart_core.plugin import Store
    from kart_core.workspace import Workspace

__all__ = ["Links", "has_links"]


def has_links(store: Store) -> bool:
    """Whether a store's leases are files of this machine, which others may link there."""
    return store.local_path(FOLDER) is not None and not isinstance(store, ConditionalStore)


class Links:
    """Takes the leases of one class of tasks by linking a file that stands ready.

    It does so where nothing is in its way; whatever is, `kart_core.execution.leases.take` finds out and says.

    Args:
        workspace: where; its store must have local paths, and no conditions.
        task: ``module.Class``.
        terms: how long the leases live.
    """

    def __init__(self, workspace: Workspace, task: str, terms: Terms) -> None:
        self._workspace = workspace
        self._task = task
        self._terms = terms
        self._folder = f"{workspace.store.local_path(FOLDER)}/"
        self._successors = f"{workspace.store.local_path(SUCCESSORS)}/"
        self._file: Ready | None = None

    def take(self, unique_id: str) -> Lease | None:
        """The lease of a task; None where that is to be asked for in the general way.

        Raises:
            StorageError: the workspace is of a later version, or cannot be written.
        """
        began = clock()
        file = self._file
        if file is None or file.until <= began:
            self._workspace.ensure_format(again=False)
            try:
                file = self._file = Ready(self._folder, *stamp(self._task, self._terms), began)
            except OSError:
                return None
        name = self._folder + unique_id
        if not file.link(unique_id, name):
            return None
        claim = Claim(1, file.data)
        if os.access(f"{self._successors}{unique_id}.2", os.F_OK):
            slot_of(self._workspace.store, unique_id).vacate(claim, sure=False)
            return None
        lease = Lease(self._workspace, claim, file.token, unique_id, self._task, self._terms, file.since, began)
        lease.link = name
        heart.add(lease)
        return lease
