"""A lease that this process holds, and what renews it."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from kart_core.errors import StorageError
from kart_core.execution.leases.facts import LostLease, Seen, Taken, content, holder_of
from kart_core.execution.leases.ready import remove
from kart_core.execution.leases.slots import slot_of
from kart_core.workspace import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from kart_core.execution.leases.slots import Claim, Slot
    from kart_core.execution.leases.terms import Terms
    from kart_core.workspace import Workspace

_log = logging.getLogger("kart_core.leases")

_TRIES: Final = 20

_MOMENT: Final = 0.005
"""Seconds for which what was just seen on a local disk need not be looked at again."""

# An owner counts the time for which its machine slept too: others did not sleep.
clock: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)

_process = ""
_number = count(1)


def take(workspace: Workspace, unique_id: str, task: str, terms: Terms, expired: Seen | None = None) -> Lease | Taken:
    """Takes a task's lease, if nobody has it.

    It is renewed from then on, until it is given back.

    Args:
        workspace: where; its storage must create exclusively.
        unique_id: the task's.
        task: its name, for people.
        terms: how long the lease lives.
        expired: what a `Watch` has seen unchanged for the expiry: if that is still all there is, it is taken over.

    Returns:
        The lease; where another has it, who.

    Raises:
        StorageError: the workspace cannot be read or written.
    """
    try:
        return _taken(workspace, unique_id, task, terms, expired)
    except KeyboardInterrupt:
        # It may have come when the lease was there already: then nobody is to wait for its expiry.
        from kart_core.execution.leases.listing import release

        release(workspace, unique_id, os.getpid())
        raise


def _taken(workspace: Workspace, unique_id: str, task: str, terms: Terms, expired: Seen | None) -> Lease | Taken:
    workspace.ensure_format(again=False)
    slot = slot_of(workspace.store, unique_id)
    token, since, data = stamp(task, terms)
    with guarded(workspace, f".kart/leases/{unique_id}"):
        for _ in range(_TRIES):
            began = clock()
            claim = slot.claim(data) if expired is None else slot.succeed(expired, data)
            if claim is not None:
                if expired is not None:
                    _say_taken_over(task, unique_id, expired)
                lease = Lease(workspace, claim, token, unique_id, task, terms, since, began)
                heart.add(lease)
                return lease
            expired = None
            seen = slot.look()
            if seen:
                return Taken(seen)
    raise StorageError(
        f"{workspace.where(f'.kart/leases/{unique_id}')} can neither be created nor read; check that you may write "
        "there, or set should_lock_run = false"
    )


def stamp(task: str, terms: Terms) -> tuple[str, float, bytes]:
    """The token of a new lease, when it was taken, and what is written into it."""
    token, since = f"{_process}-{next(_number)}", time.time()
    return token, since, content(token, task, since, terms, 0)


def _say_taken_over(task: str, unique_id: str, expired: Seen) -> None:
    holder = holder_of(expired[-1].data)
    _log.warning(
        "%s %s is taken over from %s, which has not renewed its lease for %g s", task, unique_id, holder, holder.expiry
    )


class Handed(NamedTuple):
    """A lease that is lent to another process: all that it needs to know. See `adopt`."""

    claim: Claim
    token: str
    unique_id: str
    task: str
    terms: Terms
    since: float
    beats: int


def adopt(workspace: Workspace, handed: Handed) -> Lease:
    """Goes on with a lease that another process has lent; it is renewed at once, and from then on.

    Args:
        workspace: where it is.
        handed: as `Lease.lend` gave it.

    Returns:
        The lease; whether it was lost meanwhile, `Lease.check` says.
    """
    claim, token, unique_id, task, terms, since, beats = handed
    # When the other saw it last, its own clock says, which is no proof here: so late that a look is due, and no later.
    began = clock() - 0.75 * terms.expiry
    lease = Lease(workspace, claim, token, unique_id, task, terms, since, began, beats)
    lease.renew_if_due()
    heart.add(lease)
    return lease


class Lease:
    """A lease that this process took.

    Attributes:
        unique_id: of the task.
        task: its name.
        link: the path of the lease on this machine, where it is a link to a file of this process.
    """

    # Most leases are short: these hold for them as they stand here.
    link: str | None = None
    _failing = _lent = _resting = False
    _known_slot: Slot | None = None

    def __init__(
        self,
        workspace: Workspace,
        claim: Claim,
        token: str,
        unique_id: str,
        task: str,
        terms: Terms,
        since: float,
        began: float,
        beats: int = 0,
    ) -> None:
        self.unique_id = unique_id
        self.task = task
        self.terms = terms
        self._workspace = workspace
        self._claim: Claim | None = claim
        self._last = claim
        self._token = token
        self._since = since
        self._renewed = self._seen = began
        self._beats = beats
        self._lock = threading.Lock()
        self._margin = terms.expiry / 2
        self._far = workspace.storage.shared == "network"

    def __repr__(self) -> str:
        return f"Lease({self.task} {self.unique_id})"

    @property
    def _slot(self) -> Slot:
        if self._known_slot is None:
            self._known_slot = slot_of(self._workspace.store, self.unique_id)
        return self._known_slot

    def check(self) -> None:
        """Makes sure that the lease is still held: right before anything is stored.

        Where a look is a request, a renewal of not long ago is proof enough.

        Raises:
            LostLease: another took it over.
            StorageError: storage does not say.
        """
        with self._lock:
            if self._claim is not None and not self._is_sure():
                began = clock()
                with guarded(self._workspace, self._path):
                    self._settle(self._slot.held(self._claim), began)
            if self._claim is not None:
                return
        raise self._lost()

    def release(self) -> None:
        """Gives the lease back, once; where that fails it says so, and the lease ends by its expiry."""
        heart.discard(self)
        with self._lock:
            claim, self._claim = self._claim, None
            if claim is None:
                return
            sure = not self._lent and clock() - self._renewed < self._margin
            try:
                if self.link is not None and sure:
                    with suppress(FileNotFoundError):
                        os.unlink(self.link)
                else:
                    self._slot.vacate(claim, sure)
            except OSError as error:
                remove()  # what is taken from now on does not renew this one, too
                _log.warning(
                    "the lease of %s %s could not be given back (%s); it ends in %g s",
                    self.task,
                    self.unique_id,
                    error,
                    self.terms.expiry,
                )

    def lend(self) -> Handed:
        """Leaves the lease to another process, which is to `adopt` it.

        Until it has, which may take as long as it will, this one renews it: until `rest`. Both may do so for a while.
        Where a late renewal could overwrite what another has written since, this one renews it no more, and the other
        must adopt it before its expiry.
        """
        with self._lock:
            self._lent = True
            handed = Handed(self._last, self._token, self.unique_id, self.task, self.terms, self._since, self._beats)
        remove()  # what is taken from now on is not renewed by who borrows this one
        if self._slot.blind:
            self.rest()
        return handed

    def rest(self) -> None:
        """Renews the lease no more, for the process that it was lent to does; it can still be released."""
        heart.discard(self)
        with self._lock:
            self._resting = True

    def renew_if_due(self) -> None:
        """Renews the lease unless that was done a moment ago; a failure is told, and tried again the next time."""
        with self._lock:
            if self._claim is None or self._resting or clock() - self._renewed < self.terms.renew_every / 2:
                return
            began = clock()
            self._beats += 1
            try:
                data = content(self._token, self.task, self._since, self.terms, self._beats)
                claim = self._slot.renew(self._claim, data)
            except Exception as error:
                if not self._failing:
                    self._failing = True
                    _log.warning("the lease of %s %s could not be renewed: %s", self.task, self.unique_id, error)
                return
            if self._slot.blind and clock() - self._renewed >= self.terms.expiry:
                claim = None
            self._settle(claim, began)
            if claim is not None:
                self._renewed, self._failing = began, False
            elif not self._lent:  # else who has adopted it may have given it back, and says itself if it is lost
                _log.warning("%s; what it makes will not be stored", self._loss())

    def _is_sure(self) -> bool:
        """Whether the lease is held for certain, without a look.

        Nobody takes over a lease before its expiry, so a renewal within half of it is proof enough where a look is a
        request; that it was seen is none, for it may be taken over the moment after. Elsewhere a look costs little,
        and finds out too that the lease was released by hand.
        """
        now = clock()
        return now - self._renewed <= self._margin if self._far else now - self._seen <= _MOMENT

    @property
    def _path(self) -> str:
        return f".kart/leases/{self.unique_id}"

    def _settle(self, claim: Claim | None, began: float) -> None:
        """Notes what storage said at a time that is no later than when it was asked."""
        self._claim = claim
        if claim is not None:
            self._last, self._seen = claim, began

    def _loss(self) -> str:
        return (
            f"the lease of {self.task} {self.unique_id} was lost while it ran: it was not renewed for "
            f"{self.terms.expiry:g} s, or was released by hand"
        )

    def _lost(self) -> LostLease:
        with guarded(self._workspace, self._path):
            seen = self._slot.look()
        by = f", and {holder_of(seen[-1].data)} has it now" if seen else ""
        return LostLease(f"{self._loss()}{by}; what it made is not stored", Taken(seen) if seen else None)


class Heart:
    """Renews every lease of this process, in one thread, which is there only while leases are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Lease, None] = {}
        self._period = float("inf")
        self._thread: threading.Thread | None = None
        self._sooner = threading.Event()

    def add(self, lease: Lease) -> None:
        """Renews a lease from now on."""
        with self._lock:
            self._held[lease] = None
            if lease.terms.renew_every < self._period:
                self._period = lease.terms.renew_every
                self._sooner.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="kart-leases", daemon=True)
                self._thread.start()

    def discard(self, lease: Lease) -> None:
        """Renews a lease no more."""
        self._held.pop(lease, None)

    def _beat(self) -> None:
        idle = False  # a task may be between its lease and the next: the thread stays for a period
        while True:
            if self._sooner.wait(self._period):
                self._sooner.clear()
                continue
            held = list(self._held)
            for lease in held:
                lease.renew_if_due()
            with self._lock:
                if idle and not self._held:
                    self._thread, self._period = None, float("inf")
                    remove()
                    return
                idle = not self._held


heart = Heart()


def _in_new_process() -> None:
    global _process, heart
    _process = os.urandom(8).hex()  # not from `random`: that stream belongs to the user
    heart = Heart()


_in_new_process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_new_process)
