"""Where a lease stands in storage, and why it has one owner at a time.

A slot is the place of one task's lease, ``.kart/leases/<id>``. There are two kinds.

**Where a file can be written and removed on condition** (`kart_core.plugin.ConditionalStore`: S3, GCS)
the slot is one object, and each step is one request that storage decides: it is created if there is none,
renewed, taken over and removed only if it is the very one that was seen. So the owner is whoever wrote what
stands there. A late renewal or removal fails, and whoever made it learns that its lease is lost.

**Where there is only exclusive creation** (a local disk) a slot is a row of files, ``<id>``, ``successors/<id>.2``,
``successors/<id>.3``. Each number belongs to who created it. Successors have a folder of their own, which as a rule is
not there: to look for one does not wait for those who are about to write leases.

1. Who finds nothing creates ``<id>``; of many, one does.
2. Who has seen the whole row unchanged for the expiry creates the next number; of many, one does. It then
   looks again: unless every file is the very one that it saw, it was late, and takes its own file away again.
   (Between its look and its creation others may have taken over, ended, and begun anew. Without the second
   look it would be a second owner; deleting what is stale before creating anew has the same fault.)
3. It writes into all lower files that the lease is over. From then on their owners know, for an owner has its
   lease as long as its own file holds what it wrote. It reads that before it stores anything.
4. A renewal sets the file's time of modification. It writes nothing and creates nothing, so it can neither
   bring a lost lease back nor overwrite another's.
5. Who ends removes its own file first, then the lower ones, ``<id>`` last. While anybody owns the slot, some
   file of it is there: in the row ``<id>`` cannot be created, and who created it while number 2 was there
   steps back.

A file is removed only if it was read just before and holds what it should. These two steps are not one, and
neither are an owner's last look and what it stores: who is stopped exactly between them, for longer than
the expiry, and then goes on, does what it was about to. The first takes a moment of some microseconds, and
can cost that a task runs twice; the second lasts as long as the write itself. That is what remains.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from kart_core.execution.leases.facts import FOLDER, Entry, Seen, over, token_of
from kart_core.plugin import ConditionalStore

if TYPE_CHECKING:
    from kart_core.plugin import Store

SUCCESSORS: Final = f"{FOLDER}/successors"
"""Where those files of leases are that somebody wrote who took over."""


class Claim(NamedTuple):
    """What an owner knows of the file that it wrote."""

    number: int
    data: bytes
    mark: str | None = None
    """Where writes have conditions."""


class Slot(Protocol):
    """The place of one task's lease. Everything may raise `OSError`."""

    blind: bool
    """Whether a renewal that comes too late could overwrite the lease of another."""

    def claim(self, data: bytes) -> Claim | None:
        """Takes the slot if nobody has it."""
        ...

    def look(self, before: Seen = ()) -> Seen:
        """What stands there; nothing where the slot is free.

        Args:
            before: what the look before gave; where nothing changed it is given back, perhaps with less reading.
        """
        ...

    def succeed(self, seen: Seen, data: bytes) -> Claim | None:
        """Takes the slot from who has it, if what was seen is still all that stands there."""
        ...

    def renew(self, claim: Claim, data: bytes) -> Claim | None:
        """Shows that the owner lives; None if it is the owner no more."""
        ...

    def held(self, claim: Claim) -> Claim | None:
        """The claim, as storage knows it; None if it is lost."""
        ...

    def vacate(self, claim: Claim, sure: bool) -> None:
        """Gives the slot back; does nothing to what belongs to another.

        Args:
            claim: the owner's.
            sure: whether it was known a moment ago that the claim is held.
        """
        ...


def slot_of(store: Store, unique_id: str) -> Slot:
    """The slot of a task."""
    if _has_conditions(type(store)):
        return ConditionalSlot(cast("Any", store), f"{FOLDER}/{unique_id}")
    return NumberedSlot(store, unique_id)


@lru_cache
def _has_conditions(kind: type[Store]) -> bool:
    return issubclass(kind, ConditionalStore)


class ConditionalSlot(Slot):
    """A slot that is one file, written and removed on condition."""

    blind = False

    def __init__(self, store: ConditionalStore, path: str) -> None:
        self._store = store
        self._path = path

    def claim(self, data: bytes) -> Claim | None:
        return self._written(data, None)

    def look(self, before: Seen = ()) -> Seen:
        # First the mark: if the content changes before it is read, what is made of the two fits nothing, and no harm
        # is done.
        stat = self._store.stat(self._path)
        if stat is None:
            return ()
        if before and before[0].mark == stat.mark:
            return before
        data = _read(self._store, self._path)
        return () if data is None else (Entry(1, data, stat.mark),)

    def succeed(self, seen: Seen, data: bytes) -> Claim | None:
        return self._written(data, seen[0].mark)

    def renew(self, claim: Claim, data: bytes) -> Claim | None:
        # Where it fails, an earlier renewal may have been done though its answer never came; or, of a lease that was
        # lent, the other process has renewed it. That may be long ago, so it is renewed again.
        for _ in range(2):
            written = self._written(data, claim.mark)
            found = written or self.held(claim)
            if written is not None or found is None or found.data == data:
                return found
            claim = found
        return claim

    def held(self, claim: Claim) -> Claim | None:
        found = self.look((Entry(1, claim.data, claim.mark or ""),))
        if not found:
            return None
        _, data, mark = found[0]
        mine = mark == claim.mark or token_of(data) == token_of(claim.data)
        return Claim(1, data, mark) if mine else None

    def vacate(self, claim: Claim, sure: bool) -> None:  # noqa: ARG002 - it costs no look either way
        for _ in range(3):  # a lease that was lent may be renewed by the other process meanwhile
            if claim.mark is None or self._store.remove_unchanged(self._path, claim.mark):
                return
            present = self.held(claim)
            if present is None:
                return
            claim = present

    def _written(self, data: bytes, mark: str | None) -> Claim | None:
        new = self._store.replace(self._path, data, mark)
        return None if new is None else Claim(1, data, new)


class NumberedSlot(Slot):
    """A slot that is a row of files, each created exclusively."""

    def __init__(self, store: Store, unique_id: str) -> None:
        self._store = store
        self._unique_id = unique_id
        self._first = path = f"{FOLDER}/{unique_id}"
        self.blind = store.local_path(path) is None

    def claim(self, data: bytes) -> Claim | None:
        if not self._store.create(self._first, data):
            return None
        try:
            is_free = self._store.stat(self._path(2)) is None
        except BaseException:
            self._remove(1, data)
            raise
        if not is_free:
            self._remove(1, data)
            return None
        return Claim(1, data)

    def look(self, before: Seen = ()) -> Seen:  # noqa: ARG002 - the content must be read: it makes NFS ask its server
        first = self._entry(1)
        entries = [] if first is None else [first]
        number = 2
        while (entry := self._entry(number)) is not None:
            entries.append(entry)
            number += 1
        return tuple(entries)

    def succeed(self, seen: Seen, data: bytes) -> Claim | None:
        claim = Claim(seen[-1].number + 1, data)
        self._make_folder()
        if not self._store.create(self._path(claim.number), data):
            return None
        now = self.look()
        if now[:-1] != seen or now[-1].data != data:
            self._remove(claim.number, data)
            return None
        for entry in seen:
            self._store.put(self._path(entry.number), over(data))
        return self.held(claim)

    def renew(self, claim: Claim, data: bytes) -> Claim | None:
        path = self._path(claim.number)
        local = self._store.local_path(path)
        if local is None:
            if self.held(claim) is None:
                return None
            self._store.put(path, data)
            return claim._replace(data=data)
        try:
            os.utime(local)
        except FileNotFoundError:
            return None
        return self.held(claim)

    def held(self, claim: Claim) -> Claim | None:
        return claim if _read(self._store, self._path(claim.number)) == claim.data else None

    def vacate(self, claim: Claim, sure: bool) -> None:
        number, data, _ = claim
        if number == 1 and sure:
            self._store.remove(self._first)
            return
        gone = self._remove(number, data)
        while gone and number > 1:
            number -= 1
            gone = self._remove(number, over(data))

    def _make_folder(self) -> None:
        """Makes the folder of successors for all who may write leases, whatever the umask of this process."""
        folder, leases = self._store.local_path(SUCCESSORS), self._store.local_path(FOLDER)
        if folder is None or leases is None or os.path.isdir(folder) or not os.path.isdir(leases):
            return
        with suppress(FileExistsError):
            os.mkdir(folder)
            os.chmod(folder, stat.S_IMODE(os.stat(leases).st_mode))

    def _path(self, number: int) -> str:
        return self._first if number == 1 else f"{SUCCESSORS}/{self._unique_id}.{number}"

    def _entry(self, number: int) -> Entry | None:
        path = self._path(number)
        data = _read(self._store, path)
        stat = None if data is None else self._store.stat(path)
        return None if data is None or stat is None else Entry(number, data, stat.mark)

    def _remove(self, number: int, data: bytes) -> bool:
        """Removes a file that holds what it should; whether it is gone."""
        path = self._path(number)
        found = _read(self._store, path)
        if found == data:
            self._store.remove(path)
        return found is None or found == data


def _read(store: Any, path: str) -> bytes | None:
    try:
        return store.read(path)
    except FileNotFoundError:
        return None


def number_of(path: str) -> tuple[str, int]:
    """The unique id and the number in the path of a lease's file.

    Example:
        >>> number_of(".kart/leases/ab"), number_of(".kart/leases/successors/ab.12")
        (('ab', 1), ('ab', 12))
    """
    unique_id, _, number = path.rpartition("/")[2].partition(".")
    return unique_id, int(number) if number.isdigit() else 1
