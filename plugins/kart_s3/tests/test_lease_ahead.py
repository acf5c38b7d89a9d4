"""Leases are taken ahead of their turn: of tasks that take a moment alone, and what is not used is given back."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ahead
import pytest
from projects import Project
from proxy import Proxy, Request
from servers import Server

import kart_core as kart


@pytest.fixture
def far(project: Project, seaweed: Server, proxy: Proxy) -> str:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    kart.build(ahead.Leaf(number=-1))
    proxy.delay = 0.02
    proxy.counted()
    return url


def _leases(server: Server, url: str) -> list[str]:
    return [key for key in server.keys(url) if key.startswith(".kart/leases/")]


def _command(name: str, *numbers: int) -> list[str]:
    return [sys.executable, "-c", "import ahead; ahead.main()", name, *map(str, numbers)]


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]), **more}


@contextmanager
def _waiting(project: Project, name: str, count: int) -> Iterator[subprocess.Popen[str]]:
    """A build of another process, of which a task waits until ``go on`` is there."""
    command = _command(name, 0, count)
    run = subprocess.Popen(
        command, cwd=project.folder, env=_environment(SLOW="waits"), stdout=subprocess.PIPE, text=True
    )
    try:
        ahead.until("third")
        yield run
    finally:
        Path("go on").touch()
        run.kill()
        run.wait(10)


def test_leases_are_taken_together_and_none_is_left(far: str, proxy: Proxy, seaweed: Server) -> None:
    met = threading.Barrier(2)
    number = itertools.count(1)

    def meet(request: Request) -> None:
        """The first lease passes, for it is then known how long a task takes; the next two wait for each other."""
        if request.method == "PUT" and "/leases/" in request.path and next(number) in (2, 3):
            met.wait(30)

    proxy.answers = meet
    assert len(kart.build(*(ahead.Leaf(number=number) for number in range(60)))) == 60
    assert not met.broken
    counts = proxy.counted()
    assert (counts["DELETE"], counts["HEAD"], counts["PUT"]) == (60, 60, 3 * 60 + 1)  # and one for the journal
    assert _leases(seaweed, far) == []


def test_a_failure_leaves_no_lease(project: Project, far: str, seaweed: Server) -> None:
    project.monkeypatch.setenv("BAD", "fails")
    with pytest.raises(kart.BuildError) as caught:
        kart.build(*(ahead.Bad(number=number) for number in range(60)))
    assert list(caught.value.failures) == [ahead.Bad(number=40)]
    assert _leases(seaweed, far) == []


def test_an_interruption_leaves_no_lease(project: Project, far: str, seaweed: Server) -> None:
    project.monkeypatch.setenv("BAD", "interrupted")
    with pytest.raises(KeyboardInterrupt):
        kart.build(*(ahead.Bad(number=number) for number in range(60)))
    assert _leases(seaweed, far) == []


def test_of_slow_tasks_none_is_leased_before_its_turn(
    project: Project, far: str, proxy: Proxy, seaweed: Server
) -> None:
    with _waiting(project, "Slow", 12) as run:
        asked = [request for request in proxy.requests if request.method == "PUT" and "/leases/" in request.path]
        assert len(asked) == 3  # the third task runs now
        _go_round(project, "Slow", 3, 12, run)
    assert _leases(seaweed, far) == []


def test_while_a_task_takes_longer_than_expected_another_process_runs_those_after_it(
    project: Project, far: str, seaweed: Server
) -> None:
    with _waiting(project, "Sometimes", 40) as run:
        _go_round(project, "Sometimes", 31, 40, run)
    assert _leases(seaweed, far) == []


def _go_round(project: Project, name: str, first: int, end: int, run: subprocess.Popen[str]) -> None:
    """Has another process run what comes after the task for which the first one waits, and then lets that go on."""
    command = _command(name, first, end)
    done = subprocess.run(command, cwd=project.folder, env=_environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(sum(range(first, end))), done.stderr
    assert run.poll() is None
    (project.folder / "go on").touch()
    assert run.communicate(timeout=60)[0].strip() == str(sum(range(end)))


def test_what_a_task_builds_inside_does_not_wait_for_the_build_around_it(far: str, seaweed: Server) -> None:
    assert kart.build(*(ahead.Inside(number=number) for number in range(40))) == tuple(range(40))
    assert _leases(seaweed, far) == []


def test_a_process_aside_does_not_wait_for_the_one_that_coordinates(far: str, seaweed: Server) -> None:
    found = kart.build(*((ahead.Timed if one in (5, 9) else ahead.Leaf)(number=one) for one in range(20)))
    assert found == tuple(range(20))
    assert _leases(seaweed, far) == []


def test_what_is_yielded_is_leased_and_given_back(far: str, seaweed: Server) -> None:
    found = kart.build(*(ahead.Yields(number=number) for number in range(5)), ahead.Leaf(number=7))
    assert found == (*(sum(range(10 * one, 10 * one + 10)) for one in range(5)), 7)
    assert _leases(seaweed, far) == []
