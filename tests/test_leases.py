"""The promises of leases: one owner at a time, whoever is late, stopped, killed, or has a wrong clock."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest

import kart_core as kart
from kart_core import config
from kart_core.builtin.fsspec_store import FsspecStore
from kart_core.builtin.local_store import LocalStore
from kart_core.execution import leases
from kart_core.execution.leases import Lease, Links, LostLease, Taken, TakenElsewhere, Terms, Watch, take
from kart_core.execution.leases.slots import NumberedSlot, slot_of
from kart_core.execution.locking import Locking, MadeElsewhere
from kart_core.execution.worker import Worker
from kart_core.planning import make_plan
from kart_core.plugin import ConditionalStore, Plugin, Stat, Storage, hookimpl
from kart_core.resolved import resolved
from kart_core.seeding import Generators
from kart_core.workspace import Workspace, open_workspace
from tests.conftest import Project
from tests.interleaving import SteppedStore, Turns

pytestmark = pytest.mark.usefixtures("project")

ROOT = Path(__file__).resolve().parent.parent
ID = "0123456789abcdef0123456789abcdef"
SHORT = Terms(renew_every=0.1, expiry=1.5)
LONG = Terms(renew_every=1000.0, expiry=10_000.0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(str(tmp_path / "shared"))


def files(workspace: Workspace) -> list[str]:
    folder = Path(workspace.url, ".kart", "leases")
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp")


_mine: list[Lease] = []


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    while _mine:
        _mine.pop().release()


def taken(workspace: Workspace, terms: Terms = SHORT, unique_id: str = ID, expired: leases.Seen | None = None) -> Lease:
    """A lease of this process, which is given back after the test at the latest."""
    lease = take(workspace, unique_id, "pipeline.Train", terms, expired)
    assert isinstance(lease, Lease)
    _mine.append(lease)
    return lease


def later() -> None:
    """Longer than a worker takes what it just saw for granted."""
    time.sleep(0.02)


def waited(watch: Watch) -> None:
    """Looks until the lease can be had."""
    while not watch.look():
        time.sleep(watch.again_in)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Other]]:
    """Starts processes that talk with the test line by line; ends those that are left."""
    started: list[Other] = []

    def start(body: str, *words: str) -> Other:
        started.append(Other(tmp_path, body, words))
        return started[-1]

    yield start
    for one in started:
        one.end()


PROLOGUE = f"""
import sys, os, time, logging
sys.path.insert(0, {str(ROOT)!r})
logging.basicConfig(level=logging.WARNING, format="%(message)s")
"""

HOLDER = """
from kart_core.execution.leases import LostLease, Links, Terms, take
from kart_core.workspace import open_workspace
lease = take(open_workspace(sys.argv[1]), sys.argv[2], "pipeline.Train", Terms(renew_every=0.1, expiry=1.5))
print("taken", flush=True)
for line in sys.stdin:
    try:
        lease.check()
        print("held", flush=True)
    except LostLease as error:
        print("lost", error, flush=True)
"""

LINKER = """
from kart_core.execution.leases import Links, Terms
from kart_core.workspace import open_workspace
lease = Links(open_workspace(sys.argv[1]), "pipeline.Train", Terms(renew_every=0.1, expiry=1.5)).take(sys.argv[2])
print("taken" if lease else "not taken", flush=True)
sys.stdin.read()
"""


class Other:
    """Another process."""

    def __init__(self, folder: Path, body: str, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + body, *words],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(told := tempfile.TemporaryFile(dir=folder)),  # noqa: SIM115 - a pipe that nobody reads fills up
            text=True,
        )
        self._told = told
        self.pid = self._process.pid

    def hear(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            self._process.wait(60)
            self._told.seek(0)
            raise AssertionError(self._told.read().decode())
        return line

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str = "") -> str:
        self.tell(line)
        return self.hear()

    def close(self) -> None:
        """Tells it that there is nothing more to hear."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(60)

    def signal(self, which: int) -> None:
        self._process.send_signal(which)

    def end(self) -> None:
        """Kills it if it still runs."""
        self._process.kill()
        self._process.wait(60)
        for stream in (self._process.stdin, self._process.stdout, self._told):
            assert stream is not None
            stream.close()


# --- one process


def test_a_lease_that_is_taken_is_taken_by_nobody_else(workspace: Workspace) -> None:
    lease = taken(workspace)
    again = take(workspace, ID, "pipeline.Train", SHORT)
    assert isinstance(again, Taken)
    assert (again.holder.process, again.holder.task) == (os.getpid(), "pipeline.Train")
    lease.check()
    lease.release()
    assert files(workspace) == []
    taken(workspace).release()


def test_leases_of_two_tasks_know_nothing_of_one_another(workspace: Workspace) -> None:
    first, second = taken(workspace), taken(workspace, unique_id=ID[::-1])
    first.release()
    second.check()
    second.release()


def linked(workspace: Workspace) -> Callable[[str], Lease | None]:
    """Takes leases as a worker does, which on a local disk are links to one file."""
    links = Links(workspace, "pipeline.Train", SHORT)

    def take_(unique_id: str) -> Lease | None:
        lease = links.take(unique_id)
        if lease is not None:
            _mine.append(lease)
        return lease

    return take_


def test_leases_that_are_links_to_one_file_are_lost_each_for_itself(workspace: Workspace) -> None:
    take_ = linked(workspace)
    first, second = take_(ID), take_(ID[::-1])
    assert first is not None
    assert second is not None
    assert len({os.stat(Path(workspace.url, ".kart", "leases", name)).st_ino for name in (ID, ID[::-1])}) == 1
    assert leases.release(workspace, ID)
    second.check()
    later()
    with pytest.raises(LostLease):
        first.check()
    second.check()
    other = taken(workspace)
    later()
    with pytest.raises(LostLease):
        first.check()
    first.release()
    other.check()
    second.release()
    assert files(workspace) == [ID]


def test_a_lease_that_is_a_link_is_renewed_lost_and_taken_over_like_any(workspace: Workspace) -> None:
    take_ = linked(workspace)
    lease = take_(ID)
    assert lease is not None
    slot = slot_of(workspace.store, ID)
    assert take_(ID) is None
    assert isinstance(take(workspace, ID, "pipeline.Train", SHORT), Taken)
    seen = slot.look()
    while slot.look() == seen:
        time.sleep(0.01)
    next_ = taken(workspace, expired=slot.look())
    later()
    with pytest.raises(LostLease):
        lease.check()
    assert files(workspace) == [ID, f"{ID}.2"]
    lease.release()
    next_.check()
    next_.release()
    assert files(workspace) == []


def test_no_link_is_taken_for_a_lease_beside_a_successor(workspace: Workspace) -> None:
    """Somebody has taken over, and who was late has removed the first file."""
    take_ = linked(workspace)
    workspace.store.put(f".kart/leases/successors/{ID}.2", b"taken over")
    assert take_(ID) is None
    assert files(workspace) == [f"{ID}.2"]


def test_a_task_whose_lease_is_taken_twice_in_a_moment_has_two_contents(workspace: Workspace) -> None:
    take_ = linked(workspace)
    contents: set[bytes] = set()
    for _ in range(10):
        lease = take_(ID) or taken(workspace)
        contents.add(slot_of(workspace.store, ID).look()[0].data)
        lease.release()
    assert len(contents) == 10


def test_what_is_taken_after_a_lease_was_lent_is_not_renewed_with_it(workspace: Workspace) -> None:
    take_ = linked(workspace)
    lent = take_(ID)
    assert lent is not None
    lent.lend()
    assert take_(ID[::-1]) is not None
    assert len({os.stat(Path(workspace.url, ".kart", "leases", name)).st_ino for name in (ID, ID[::-1])}) == 2


def test_no_link_is_taken_where_there_are_none(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert linked(workspace)(ID) is None
    lease = taken(workspace)
    assert isinstance(take(workspace, ID, "pipeline.Train", SHORT), Taken)
    lease.release()
    assert files(workspace) == []


def test_links_are_taken_again_after_somebody_has_deleted_their_folder(workspace: Workspace) -> None:
    take_ = linked(workspace)
    assert take_(ID) is not None
    shutil.rmtree(Path(workspace.url, ".kart"))
    assert take_(ID[::-1]) is None
    time.sleep(1.1)  # as long as a file is linked
    lease = take_(ID[::-1])
    assert lease is not None
    assert files(workspace) == [ID[::-1]]


def test_a_process_that_ends_leaves_no_file_beside_its_leases(
    workspace: Workspace, process: Callable[..., Other]
) -> None:
    folder = Path(workspace.url, ".kart", "leases")
    ends, is_killed = process(LINKER, workspace.url, ID), process(LINKER, workspace.url, ID[::-1])
    assert (ends.hear(), is_killed.hear()) == ("taken", "taken")
    ends.close()
    assert ends.wait() == 0
    assert len([path.name for path in folder.iterdir() if path.suffix == ".tmp"]) == 1
    left = next(path for path in folder.iterdir() if path.suffix == ".tmp")
    is_killed.end()
    assert left.exists()
    os.utime(left, (0, 0))  # a day later
    third = process(LINKER, workspace.url, "c" * 32)
    assert third.hear() == "taken"
    (found,) = [path.name for path in folder.iterdir() if path.suffix == ".tmp"]
    assert f"-{third.pid}-" in found


@pytest.mark.skipif(not hasattr(os, "umask") or os.name != "posix", reason="permissions")
def test_whoever_may_write_leases_may_take_over_whatever_another_s_umask(workspace: Workspace) -> None:
    folder = Path(workspace.url, ".kart", "leases")
    taken(workspace).release()
    folder.chmod(0o2777)
    before = os.umask(0o077)
    try:
        taken(workspace)
        taken(workspace, expired=slot_of(workspace.store, ID).look()).release()
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "successors").stat().st_mode) == 0o2777


def test_who_holds_a_lease_is_said_for_people(workspace: Workspace) -> None:
    before = time.time()
    taken(workspace, LONG)
    (held,) = leases.leases(workspace)
    assert held.unique_id == ID
    assert held.holder.task == "pipeline.Train"
    assert held.holder.host == os.uname().nodename
    assert held.holder.process == os.getpid()
    assert before - 1 < held.holder.since < time.time() + 1
    assert held.renewed is not None
    assert str(held.holder).startswith(f"process {os.getpid()} on {os.uname().nodename}, since ")


def test_a_lease_is_given_back_once(workspace: Workspace) -> None:
    lease = taken(workspace)
    lease.release()
    other = taken(workspace)
    lease.release()
    other.check()
    with pytest.raises(LostLease):
        lease.check()


def test_a_lease_is_renewed_while_it_is_held_and_no_longer(workspace: Workspace) -> None:
    slot = slot_of(workspace.store, ID)
    lease = taken(workspace, Terms(renew_every=0.02, expiry=60))
    marks: set[str] = set()
    while len(marks) < 4:
        marks.add(slot.look()[0].mark)
    lease.release()
    assert files(workspace) == []


def test_a_lease_that_is_gone_is_not_brought_back_by_its_renewal(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    lease = taken(workspace, Terms(renew_every=0.02, expiry=60))
    workspace.store.remove(f".kart/leases/{ID}")
    while not caplog.records:
        time.sleep(0.01)
    assert files(workspace) == []
    assert "lost while it ran" in caplog.text
    with pytest.raises(LostLease, match="is not stored"):
        lease.check()


def test_the_threads_that_renew_leases_end_with_them(workspace: Workspace) -> None:
    import threading

    lease = taken(workspace, Terms(renew_every=0.02, expiry=60))
    assert any(thread.name == "kart-leases" for thread in threading.enumerate())
    lease.release()
    while any(thread.name == "kart-leases" for thread in threading.enumerate()):
        time.sleep(0.01)


def test_what_is_said_of_a_taken_lease_travels_between_processes(workspace: Workspace) -> None:
    taken(workspace, LONG)
    found = take(workspace, ID, "pipeline.Train", LONG)
    assert isinstance(found, Taken)
    for error in (TakenElsewhere("here", found), LostLease("there", None)):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.taken) == (type(error), str(error), error.taken)


def test_a_lease_whose_content_nobody_understands_is_waited_for_all_the_same(workspace: Workspace) -> None:
    for unique_id, content in enumerate((b"", b"half a cont", b"[]", b'{"token": 1}', b"\xff\x00", b"null")):
        workspace.store.put(f".kart/leases/{unique_id}", content)
        found = take(workspace, str(unique_id), "pipeline.Train", SHORT)
        assert isinstance(found, Taken)
        assert str(found.holder) == "somebody"
        assert Watch(workspace, str(unique_id), found).look() is False
    assert len(leases.leases(workspace)) == 6


# --- waiting


def test_a_watch_sees_that_a_lease_was_given_back(workspace: Workspace) -> None:
    lease = taken(workspace, LONG)
    found = take(workspace, ID, "pipeline.Train", LONG)
    assert isinstance(found, Taken)
    watch = Watch(workspace, ID, found)
    assert watch.holder == found.holder
    assert watch.look() is False
    lease.release()
    assert watch.look() is True
    assert watch.expired is None


def test_a_lease_that_is_renewed_never_expires(workspace: Workspace) -> None:
    terms = Terms(renew_every=0.02, expiry=1.5)
    lease = taken(workspace, terms)
    found = take(workspace, ID, "pipeline.Train", terms)
    assert isinstance(found, Taken)
    watch = Watch(workspace, ID, found)
    until = time.monotonic() + 1.5 * terms.expiry
    while time.monotonic() < until:
        assert watch.look() is False
        time.sleep(watch.again_in)
    lease.check()


def test_who_looks_rarely_gives_the_owner_time_to_renew(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where both were stopped together: however long that was, it is half of the expiry at most."""
    taken(workspace, LONG)
    found = take(workspace, ID, "pipeline.Train", LONG)
    assert isinstance(found, Taken)
    watch = Watch(workspace, ID, found)
    real, hours = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: real() + hours * 3600)
    hours = 100
    assert watch.look() is False
    hours = 200
    assert watch.look() is True


def test_a_watch_follows_the_lease_from_one_owner_to_the_next(workspace: Workspace) -> None:
    first = taken(workspace, LONG)
    found = take(workspace, ID, "pipeline.Train", LONG)
    assert isinstance(found, Taken)
    watch = Watch(workspace, ID, found)
    assert watch.look() is False
    first.release()
    taken(workspace, SHORT)
    assert watch.look() is False
    assert watch.holder.expiry == SHORT.expiry


# --- late, stopped and killed owners


def test_the_lease_of_a_process_that_was_killed_is_taken_over(
    workspace: Workspace, process: Callable[..., Other], caplog: pytest.LogCaptureFixture
) -> None:
    other = process(HOLDER, workspace.url, ID)
    assert other.hear() == "taken"
    other.signal(signal.SIGKILL)
    found = take(workspace, ID, "pipeline.Train", SHORT)
    assert isinstance(found, Taken)
    assert found.holder.process == other.pid
    watch = Watch(workspace, ID, found)
    waited(watch)
    lease = taken(workspace, SHORT, expired=watch.expired)
    assert f"taken over from process {other.pid}" in caplog.text
    assert files(workspace) == [ID, f"{ID}.2"]
    (held,) = leases.leases(workspace)
    assert held.holder.process == os.getpid()
    lease.check()
    lease.release()
    assert files(workspace) == []


@pytest.mark.parametrize("ended", [False, True], ids=["while the other works", "when the other has ended"])
def test_a_process_that_was_stopped_past_the_expiry_does_not_store_its_result(
    workspace: Workspace, process: Callable[..., Other], ended: bool
) -> None:
    other = process(HOLDER, workspace.url, ID)
    assert other.hear() == "taken"
    assert other.ask() == "held"
    other.signal(signal.SIGSTOP)
    found = take(workspace, ID, "pipeline.Train", SHORT)
    assert isinstance(found, Taken)
    watch = Watch(workspace, ID, found)
    waited(watch)
    lease = taken(workspace, SHORT, expired=watch.expired)
    if ended:
        lease.release()
    other.signal(signal.SIGCONT)
    assert other.ask().startswith(f"lost the lease of pipeline.Train {ID} was lost while it ran")
    if not ended:
        lease.check()
        lease.release()
    assert files(workspace) == []
    assert other.ask().startswith("lost")
    assert files(workspace) == []


def test_a_process_that_was_stopped_past_the_expiry_goes_on_where_nobody_waited(
    workspace: Workspace, process: Callable[..., Other]
) -> None:
    other = process(HOLDER, workspace.url, ID)
    assert other.hear() == "taken"
    other.signal(signal.SIGSTOP)
    time.sleep(1.2 * SHORT.expiry)
    other.signal(signal.SIGCONT)
    assert other.ask() == "held"


def test_leases_are_taken_over_again_and_again(workspace: Workspace) -> None:
    slot = slot_of(workspace.store, ID)
    owners = [taken(workspace, LONG)]
    for _ in range(4):
        lease = taken(workspace, LONG, expired=slot.look())
        owners.append(lease)
    assert len(files(workspace)) == 5
    later()
    for lost in owners[:-1]:
        with pytest.raises(LostLease):
            lost.check()
        lost.release()
    owners[-1].check()
    assert len(leases.leases(workspace)) == 1
    owners[-1].release()
    assert files(workspace) == []


def test_a_lease_that_was_renewed_since_it_was_looked_at_is_not_taken_over(workspace: Workspace) -> None:
    slot = slot_of(workspace.store, ID)
    lease = taken(workspace, Terms(renew_every=0.05, expiry=60))
    seen = slot.look()
    while slot.look() == seen:
        time.sleep(0.01)
    assert isinstance(take(workspace, ID, "pipeline.Train", SHORT, seen), Taken)
    lease.check()
    lease.release()
    assert files(workspace) == []


def test_who_comes_too_late_for_a_takeover_takes_nothing_from_who_came_after(workspace: Workspace) -> None:
    """Between its look and its takeover the lease was given back, and taken anew: its number is free again."""
    slot = slot_of(workspace.store, ID)
    first = taken(workspace, LONG)
    seen = slot.look()
    first.release()
    second = taken(workspace, LONG)
    assert isinstance(take(workspace, ID, "pipeline.Train", SHORT, seen), Taken)
    second.check()
    second.release()
    taken(workspace, SHORT, expired=seen)
    assert files(workspace) == [ID]


def test_what_a_kill_in_the_middle_of_a_takeover_left_is_taken_over_in_its_turn(workspace: Workspace) -> None:
    """A second file and no first, or a second that nobody made good: no more than a lease that expires."""
    for unique_id, left in (("a", ["a.2"]), ("b", ["b", "b.2"]), ("c", ["c", "c.2", "c.3"])):
        for name in left:
            folder = ".kart/leases/successors" if "." in name else ".kart/leases"
            workspace.store.put(f"{folder}/{name}", name.encode())
        found = take(workspace, unique_id, "pipeline.Train", SHORT)
        assert isinstance(found, Taken)
        assert [entry.data.decode() for entry in found.seen] == left
        lease = taken(workspace, SHORT, unique_id, found.seen)
        lease.check()
        lease.release()
    assert files(workspace) == []


def test_an_owner_that_lives_on_below_a_takeover_that_was_killed_stays_the_owner(workspace: Workspace) -> None:
    lease = taken(workspace, Terms(renew_every=0.02, expiry=60))
    workspace.store.put(f".kart/leases/successors/{ID}.2", b"killed before it looked again")
    seen = slot_of(workspace.store, ID).look()
    while slot_of(workspace.store, ID).look() == seen:
        time.sleep(0.01)
    found = take(workspace, ID, "pipeline.Train", SHORT, seen)
    assert isinstance(found, Taken)
    lease.check()
    lease.release()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_changes_nothing(
    workspace: Workspace, process: Callable[..., Other], hours: int
) -> None:
    """Of a process elsewhere: its clock, and the times that its machine gives to files."""
    off = f"""
real_time, real_utime = time.time, os.utime
time.time = lambda: real_time() + {hours} * 3600
os.utime = lambda path: real_utime(path, ns=(int(time.time() * 1e9),) * 2)
"""
    other = process(off + HOLDER, workspace.url, ID)
    assert other.hear() == "taken"
    found = take(workspace, ID, "pipeline.Train", SHORT)
    assert isinstance(found, Taken)
    assert (found.holder.since > time.time()) is (hours > 0)
    watch = Watch(workspace, ID, found)
    until = time.monotonic() + 1.5 * SHORT.expiry
    while time.monotonic() < until:
        assert watch.look() is False
        time.sleep(watch.again_in)
    assert other.ask() == "held"
    other.signal(signal.SIGKILL)
    waited(watch)
    taken(workspace, SHORT, expired=watch.expired)


def test_an_observer_whose_clock_is_an_hour_off_waits_as_long_as_any(
    workspace: Workspace, process: Callable[..., Other]
) -> None:
    lease = taken(workspace, SHORT)
    observer = """
real_time = time.time
time.time = lambda: real_time() + 3600
from kart_core.execution.leases import Taken, Terms, Watch, take
from kart_core.workspace import open_workspace
workspace, terms = open_workspace(sys.argv[1]), Terms(renew_every=0.1, expiry=1.5)
found = take(workspace, sys.argv[2], "pipeline.Train", terms)
watch = Watch(workspace, sys.argv[2], found)
until = time.monotonic() + 2.5
while time.monotonic() < until and not watch.look():
    time.sleep(watch.again_in)
print(type(found).__name__, watch.expired is not None, flush=True)
"""
    assert process(observer, workspace.url, ID).hear() == "Taken False"
    lease.check()


# --- races

RACER = """
import json
from kart_core.builtin.local_store import LocalStore
from kart_core.execution.leases import Lease, Terms, take
from kart_core.execution.leases.slots import slot_of
from kart_core.workspace import open_workspace
folder, races = sys.argv[1], int(sys.argv[2])
workspace, terms = open_workspace(folder), Terms(renew_every=1000, expiry=10000)
seen = [slot_of(workspace.store, f"{race:032x}").look() for race in range(races)]
print("ready", flush=True)
ran, failed = [], []
for line in sys.stdin:
    race = int(line)
    unique_id = f"{race:032x}"
    lease = take(workspace, unique_id, "pipeline.Train", terms, seen[race] or None)
    if isinstance(lease, Lease):
        inside, record = f"{folder}/inside-{race}", f"{folder}/record-{race}"
        try:
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            failed.append(race)
        else:
            if not os.path.exists(record):
                ran.append(race)
                lease.check()
                open(record, "x").close()
            os.unlink(inside)
        lease.release()
    print(race, flush=True)
print(json.dumps([ran, failed]), flush=True)
"""


def raced(process: Callable[..., Other], workspace: Workspace, races: int) -> list[list[list[int]]]:
    """Of each of eight processes the races that it won, and those in which it met another owner."""
    racers = [process(RACER, workspace.url, str(races)) for _ in range(8)]
    for racer in racers:
        assert racer.hear() == "ready"
    for race in range(races):
        for racer in racers:
            racer.tell(str(race))
        for racer in racers:
            assert racer.hear() == str(race)
    told: list[list[list[int]]] = []
    for racer in racers:
        racer.close()
        told.append(json.loads(racer.hear()))
    return told


SLOW = bool(os.environ.get("SLOW_TESTS"))
RACES = 10_000 if SLOW else 200


def test_a_takeover_by_eight_processes_has_one_winner(workspace: Workspace, process: Callable[..., Other]) -> None:
    workspace.ensure_format()
    for race in range(RACES):
        workspace.store.create(f".kart/leases/{race:032x}", b"nobody renews this one")
    told = raced(process, workspace, RACES)
    assert [met for _, met in told] == [[]] * 8
    assert sorted(race for won, _ in told for race in won) == list(range(RACES))
    assert files(workspace) == []


def test_what_eight_processes_want_at_once_runs_once(workspace: Workspace, process: Callable[..., Other]) -> None:
    workspace.ensure_format()
    told = raced(process, workspace, RACES)
    assert [met for _, met in told] == [[]] * 8
    assert sorted(race for won, _ in told for race in won) == list(range(RACES))
    assert files(workspace) == []


class Orders:
    """Takers who have all seen a dead owner's lease expire, and others who come by, in one order of their steps."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._turns = Turns(seed)
        self._stepped = SteppedStore(str(folder), self._turns)
        self._plain = LocalStore(str(folder))
        self._inside: list[str] = []
        self.stored: list[str] = []
        self.lost: list[str] = []
        self._dead = self.slot(self._plain).claim(self.content("dead"))
        self._seen = self.slot(self._plain).look()

    @staticmethod
    def slot(store: LocalStore) -> NumberedSlot:
        return NumberedSlot(store, ID)

    @staticmethod
    def content(token: str) -> bytes:
        return b'{"token":"%s"}' % token.encode()

    def taker(self, name: str) -> None:
        slot = self.slot(self._stepped)
        claim = slot.succeed(self._seen, self.content(name)) or slot.claim(self.content(f"{name} anew"))
        if claim is not None:
            self._work(slot, claim, name)

    def passer(self, name: str) -> None:
        slot = self.slot(self._stepped)
        for number in range(4):
            claim = slot.claim(self.content(f"{name} {number}"))
            if claim is not None:
                self._work(slot, claim, name)
                return

    def late(self, steps: int) -> None:
        """The owner that all took for dead goes on."""
        for _ in range(steps):
            self._turns.wait()
        assert self._dead is not None
        slot = self.slot(self._stepped)
        claim = slot.renew(self._dead, b"")
        if claim is None or slot.held(claim) is None:
            self.lost.append("late")
            return
        self.stored.append("late")  # at the moment of the look: what remains is said where the protocol is
        slot.vacate(claim, sure=False)

    def _work(self, slot: NumberedSlot, claim: Any, name: str) -> None:
        self._turns.wait()
        if slot.held(claim) is None:
            self.lost.append(name)
            return
        assert self._inside == []
        self._inside.append(name)
        if not self.stored:
            self.stored.append(name)
        self._turns.wait()
        self._inside.remove(name)
        slot.vacate(claim, sure=True)

    def run(self, *, late: int | None) -> None:
        actors = [*(lambda name=name: self.taker(name) for name in "abc"), *(lambda n=n: self.passer(n) for n in "de")]
        self._turns.run(actors if late is None else [*actors, lambda: self.late(late)])


ORDERS = 5_000 if SLOW else 100


def test_a_takeover_has_one_winner_in_whatever_order_its_steps_come(tmp_path: Path) -> None:
    for seed in range(ORDERS):
        orders = Orders(tmp_path / str(seed), seed)
        orders.run(late=None)
        assert len(orders.stored) == 1, seed
        assert orders.lost == [], seed
        assert list(orders._plain.list("")) == [], seed


def test_of_a_late_owner_and_those_who_take_over_one_stores_its_result(tmp_path: Path) -> None:
    for seed in range(ORDERS):
        orders = Orders(tmp_path / str(seed), seed)
        orders.run(late=seed % 25)
        assert len(orders.stored) == 1, seed
        assert list(orders._plain.list("")) == [], seed


# --- which tasks run under a lease, and what the worker does


class Train(kart.TaskOnKart[int]):
    n: int = 1
    ran: ClassVar[list[int]] = []

    def run(self) -> int:
        Train.ran.append(self.n)
        return 2 * self.n


class Fails(kart.TaskOnKart[int]):
    def run(self) -> int:
        raise RuntimeError("in the middle")


class Asks(kart.TaskOnKart[bool]):
    def run(self) -> bool:
        return bool(leases.leases(open_workspace("resources")))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """What one worker does with one task, under leases."""
    monkeypatch.setattr(Train, "ran", [])
    number = count(1)
    with Generators(needed=True) as generators:
        worker = Worker("run", generators, lambda tasks: None, locking=Locking(processes=2, terms=SHORT))

        def work(task: kart.TaskOnKart[Any], planned: Any = None, expired: Any = None) -> Any:
            return worker.execute(task, planned is not None, next(number), planned, expired)

        yield work


def test_a_task_runs_under_its_lease_which_is_gone_afterwards(work: Callable[..., Any]) -> None:
    work(Asks())
    assert kart.build(Asks()) is True
    assert files(open_workspace("resources")) == []


def test_a_task_that_fails_gives_its_lease_back(work: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="in the middle"):
        work(Fails())
    assert files(open_workspace("resources")) == []


def test_what_another_works_on_is_not_run_and_it_is_said_who_does(work: Callable[..., Any]) -> None:
    lease = taken(open_workspace("resources"), unique_id=Train().unique_id)
    with pytest.raises(TakenElsewhere, match=rf"Train {Train().unique_id} is run by process {os.getpid()}") as raised:
        work(Train())
    assert raised.value.taken is not None
    assert Train.ran == []
    lease.release()
    work(Train())
    assert Train.ran == [1]


def test_what_another_has_made_since_it_was_planned_is_not_made_again(work: Callable[..., Any]) -> None:
    work(Train())
    with pytest.raises(MadeElsewhere):
        work(Train())
    assert Train.ran == [1]
    assert files(open_workspace("resources")) == []
    assert kart.build(Train()) == 2


def test_a_rerun_runs_once_for_all_who_saw_the_same_record(work: Callable[..., Any]) -> None:
    work(Train())
    planned = resolved(Train()).workspace.store.stat(resolved(Train()).record_path(Train().unique_id))
    time.sleep(0.02)  # longer than the step of a file system's clock
    work(Train(), planned)
    assert Train.ran == [1, 1]
    with pytest.raises(MadeElsewhere):
        work(Train(), planned)
    assert Train.ran == [1, 1]


def test_a_plan_under_leases_knows_the_records_that_it_replaces(work: Callable[..., Any]) -> None:
    work(Train())
    plan = make_plan([Train(), Train(n=2)], rerun_roots=True)
    Locking(processes=2).look_first(plan.to_run)
    stored, absent = plan.to_run if plan.to_run[0].task == Train() else plan.to_run[::-1]
    assert stored.record is not None
    assert (stored.replaces, absent.record, absent.replaces) == (True, None, False)


class Stops(kart.TaskOnKart[str]):
    def run(self) -> str:
        slot = slot_of(open_workspace("resources").store, self.unique_id)
        (held,) = slot.look()
        taken(open_workspace("resources"), LONG, self.unique_id, (held,))
        later()
        return "too late"


def test_a_task_that_lost_its_lease_stores_nothing(work: Callable[..., Any]) -> None:
    with pytest.raises(LostLease, match="not stored"):
        work(Stops())
    assert not Stops().complete()
    assert [path for path, _ in open_workspace("resources").store.list("") if not path.startswith(".kart")] == []
    assert len(leases.leases(open_workspace("resources"))) == 1


def test_a_takeover_runs_the_task(work: Callable[..., Any]) -> None:
    dead = taken(open_workspace("resources"), LONG, Train().unique_id)
    seen = slot_of(open_workspace("resources").store, Train().unique_id).look()
    work(Train(), None, seen)
    later()
    assert Train.ran == [1]
    with pytest.raises(LostLease):
        dead.check()
    dead.release()
    assert files(open_workspace("resources")) == []


@pytest.mark.parametrize(
    ("given", "workspace_directory", "processes", "locks"),
    [
        ("auto", "here", 1, False),
        ("auto", "here", 2, True),
        ("auto", "far://here", 1, True),
        ("auto", "memory://here", 2, False),
        (True, "here", 1, True),
        (True, "memory://here", 1, True),
        (False, "here", 2, False),
        (False, "far://here", 2, False),
        ("auto", "lax://here", 2, False),
        (True, "lax://here", 1, False),
    ],
)
def test_auto_means_where_several_work_or_the_workspace_is_far(
    given: Any, workspace_directory: str, processes: int, locks: bool
) -> None:
    from kart_core import host

    with host.using(host.Host(config.current(), plugins=[Far])):
        task = Train(should_lock_run=given, workspace_directory=workspace_directory)
        assert Locking(processes=processes).applies(resolved(task)) is locks


class Far(Plugin):
    @hookimpl
    def kart_storages(self) -> list[Storage]:
        return [
            Storage("far", open=self.open, shared="network"),
            Storage("lax", open=self.open, shared="network", exclusive=False),
        ]

    def open(self, url: str) -> FsspecStore:
        return FsspecStore("memory://" + url.partition("://")[2])


def test_a_storage_without_exclusive_creation_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    from kart_core import host

    with host.using(host.Host(config.current(), plugins=[Far])):
        for n in range(3):
            task = Train(n=n, should_lock_run=True, workspace_directory="lax://once")
            assert Locking().take(resolved(task), task.unique_id) is None
    (told,) = [record.getMessage() for record in caplog.records if "lax://once" in record.getMessage()]
    assert "cannot create a file exclusively" in told
    assert "is not promised" in told


@pytest.mark.parametrize("word", ["auto", "on", "off"])
def test_should_lock_run_is_taken_from_the_environment(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_SHOULD_LOCK_RUN", word)
    config.refresh()
    assert resolved(Train()).lock == {"auto": "auto", "on": True, "off": False}[word]


def test_should_lock_run_is_taken_from_files_and_the_command_line(project: Project) -> None:
    project.write(
        "kart.toml", '[TaskOnKart]\nshould_lock_run = true\n["tests.test_leases.Fails"]\nshould_lock_run = "auto"'
    )
    config.refresh()
    assert (resolved(Train()).lock, resolved(Fails()).lock) == (True, "auto")
    project.write(
        "pipeline.py", "import kart_core as kart\nclass One(kart.TaskOnKart[int]):\n    def run(self): return 1\n"
    )
    shown = project.kart("config", "pipeline:One", "--should-lock-run", "off", "--json")
    rows = {(row["section"], row["key"]): row["value"] for row in shown.data}
    assert rows["TaskOnKart", "should_lock_run"] == "off"
    wrong = project.kart("plan", "pipeline:One", "--should-lock-run", "perhaps")
    assert wrong.code == 2
    assert "should-lock-run" in wrong.err


def test_should_lock_run_takes_nothing_else() -> None:
    with pytest.raises(kart.ParameterError, match="should_lock_run"):
        Train(should_lock_run="maybe")  # type: ignore[arg-type]


# --- terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", Terms(10, 60)),
        ("expiry = 30", Terms(10, 30)),
        ('renew_every = "2s"\nexpiry = "2m"', Terms(2, 120)),
        ("renew_every = 0.5\nexpiry = 1.5", Terms(0.5, 1.5)),
    ],
)
def test_terms_are_seconds_or_durations(project: Project, text: str, terms: Terms) -> None:
    project.write("kart.toml", f"[leases]\n{text}")
    config.refresh()
    assert Terms.configured() == terms


def test_terms_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KART_LEASES__EXPIRY", "90s")
    config.refresh()
    assert Terms.configured() == Terms(10, 90)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("expires = 60", "did you mean expiry"),
        ("expiry = 0", "seconds"),
        ("expiry = true", "seconds"),
        ('expiry = "soon"', "seconds"),
        ("expiry = inf", "seconds"),
        ("expiry = nan", "seconds"),
        ("expiry = [60]", "seconds"),
        ("expiry = 15", "twice"),
        ("renew_every = 40", "twice"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused(project: Project, text: str, told: str) -> None:
    project.write("kart.toml", f"[leases]\n{text}")
    config.refresh()
    with pytest.raises(kart.ConfigError, match=told):
        Locking()


# --- kart-core leases


def test_leases_are_listed(project: Project, process: Callable[..., Other]) -> None:
    assert "no leases" in project.kart("leases").out
    other = process(HOLDER, "resources", ID)
    assert other.hear() == "taken"
    shown = project.kart("leases")
    assert shown.code == 0
    assert "pipeline.Train" in shown.out
    assert ID in shown.out
    assert f"process {other.pid} on {os.uname().nodename}, since" in shown.out
    assert "by the storage's clock" in shown.out
    (told,) = project.kart("leases", str(project.folder / "resources"), "--json").data
    assert (told["task"], told["unique_id"], told["process"], told["expiry"]) == ("pipeline.Train", ID, other.pid, 1.5)
    (project.folder / "elsewhere").mkdir()
    assert project.kart("leases", "elsewhere", "--json").data == []
    nowhere = project.kart("leases", "nowhere")
    assert nowhere.code == 2
    assert f"no folder {project.folder / 'nowhere'}" in nowhere.err


def test_a_lease_is_released_by_hand_and_its_owner_stores_nothing(
    project: Project, process: Callable[..., Other]
) -> None:
    other = process(HOLDER, "resources", ID)
    assert other.hear() == "taken"
    done = project.kart("leases", "--release", ID[:6].upper(), "--yes")
    assert done.code == 0
    assert f"process {other.pid}" in done.out
    assert "released" in done.out
    assert files(open_workspace("resources")) == []
    time.sleep(0.05)  # a look of a few milliseconds ago is proof enough to an owner
    assert other.ask().startswith("lost")


@pytest.mark.parametrize(
    ("answer", "code", "left", "says"),
    [("y\n", 0, [], "released"), ("n\n", 130, [ID], "not released"), ("", 2, [ID], "--yes")],
)
def test_a_release_by_hand_asks_first(
    project: Project, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: list[str], says: str
) -> None:
    import io

    taken(open_workspace("resources"), LONG)
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    done = project.kart("leases", "--release", ID)
    assert done.code == code
    assert "Release it?" in done.out + done.err
    assert says in done.out + done.err
    assert "interrupted" not in done.out + done.err
    assert files(open_workspace("resources")) == left


def test_leases_that_nobody_renews_are_cleared_and_others_kept(project: Project, process: Callable[..., Other]) -> None:
    workspace = open_workspace("resources")
    killed, lives = process(HOLDER, "resources", ID), process(HOLDER, "resources", ID[::-1])
    assert (killed.hear(), lives.hear()) == ("taken", "taken")
    assert project.kart("leases", "--release-expired").out == f"{workspace.url} has no lease that has expired\n"
    killed.signal(signal.SIGKILL)
    done = project.kart("leases", "--release-expired")
    assert f"process {killed.pid}" in done.out
    assert f"process {lives.pid}" not in done.out
    assert files(workspace) == [ID[::-1]]
    assert lives.ask() == "held"
    assert project.kart("leases", "--release-expired", "--release", ID).code == 2


def test_a_release_names_a_lease_that_there_is(project: Project) -> None:
    for unique_id in ("ab1", "ab2"):
        taken(open_workspace("resources"), LONG, unique_id)
    assert project.kart("leases", "--release", "cd", "--yes").code == 20
    assert project.kart("leases", "--release", "ab", "--yes").code == 2
    assert project.kart("leases", "--release", "", "--yes").code == 2
    assert files(open_workspace("resources")) == ["ab1", "ab2"]
    assert project.kart("leases", "--release", "ab1", "--yes").code == 0
    assert files(open_workspace("resources")) == ["ab2"]


class Bucket(ConditionalStore):
    """A storage over a network, in memory, that can be made to take nothing."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.full = False
        self._marks = count()

    def stat(self, path: str) -> Stat | None:
        held = self.files.get(path)
        return held and Stat(len(held[0]), held[1], 0.0)

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][0]

    def put(self, path: str, data: bytes) -> None:
        self.files[path] = (data, str(next(self._marks)))

    def replace(self, path: str, data: bytes, mark: str | None) -> str | None:
        if self.full:
            raise OSError("slow down")
        if (self.files[path][1] if path in self.files else None) != mark:
            return None
        self.put(path, data)
        return self.files[path][1]

    def remove_unchanged(self, path: str, mark: str) -> bool:
        return path in self.files and self.files[path][1] == mark and bool(self.files.pop(path))


@pytest.fixture(params=["a disk", "a bucket"])
def either(request: pytest.FixtureRequest, workspace: Workspace) -> Workspace:
    """A workspace of either kind of slots."""
    if request.param == "a disk":
        return workspace
    bucket: Any = Bucket()
    return Workspace("far://", bucket, Storage("far", open=lambda _: bucket, shared="network", exclusive=True))


def seen_of(workspace: Workspace) -> leases.Seen:
    return slot_of(workspace.store, ID).look()


def renewals(workspace: Workspace, times: int = 3) -> None:
    """Waits until a lease was renewed so often."""
    for _ in range(times):
        before, end = seen_of(workspace), time.monotonic() + 20
        while seen_of(workspace) == before:
            assert time.monotonic() < end, "nobody renews the lease"
            time.sleep(0.02)


def test_a_lease_that_is_lent_is_renewed_until_who_adopts_it_does(
    either: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    mine = taken(either)
    handed = pickle.loads(pickle.dumps(mine.lend()))
    renewals(either)  # nobody has adopted it yet
    other = leases.adopt(either, handed)
    renewals(either)  # and both renew it
    other.check()
    mine.rest()
    renewals(either)
    other.check()
    other.release()
    assert not seen_of(either)
    assert not caplog.text


def test_a_lease_that_is_adopted_is_renewed_at_once(either: Workspace) -> None:
    mine = taken(either)
    handed = mine.lend()
    renewals(either, 1)
    mine.rest()
    before = seen_of(either)
    other = leases.adopt(either, handed._replace(terms=LONG))
    assert seen_of(either) != before
    other.check()
    other.release()


def test_who_lent_a_lease_neither_warns_nor_brings_it_back_when_it_is_given_back(
    either: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    mine = taken(either)
    other = leases.adopt(either, mine.lend())
    other.release()
    mine.renew_if_due()
    time.sleep(0.3)
    mine.renew_if_due()
    assert not seen_of(either)
    assert not caplog.text
    after = taken(either)
    mine.release()
    after.check()
    assert seen_of(either)


def test_a_lease_that_is_lent_can_be_lost(either: Workspace) -> None:
    mine = taken(either)
    handed = mine.lend()
    assert leases.release(either, ID)
    other = leases.adopt(either, handed)
    with pytest.raises(LostLease):
        other.check()


def test_that_a_far_lease_was_seen_is_no_proof_that_it_is_still_held() -> None:
    bucket: Any = Bucket()
    far = Workspace("far://", bucket, Storage("far", open=lambda _: bucket, shared="network", exclusive=True))
    terms = Terms(renew_every=0.5, expiry=1.0)
    mine = leases.take(far, ID, "Task", terms)
    assert isinstance(mine, Lease)
    bucket.full = True  # what is written does not arrive; what is read does
    watch = Watch(far, ID, Taken(mine._slot.look()))
    looked = time.monotonic() + 0.7  # beyond half the expiry, and before its end
    checked = False
    while not watch.look():
        time.sleep(0.02)
        if not checked and time.monotonic() > looked:
            mine.check()
            checked = True
    assert checked
    bucket.full = False
    other = leases.take(far, ID, "Task", terms, watch.expired)
    assert isinstance(other, Lease)
    with pytest.raises(leases.LostLease):
        mine.check()
    other.release()
