"""What a session on Dask promises to who waits for its futures: each comes to an end."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kart_dask.session
import pytest
from kart_dask.session import DaskSession
from kart_dask.settings import DaskSettings

from kart_core.errors import PluginError
from kart_core.plugin import Demand

ANSWERS = """\
import asyncio
import os
import time

LARGE = 100_000  # it does not go ahead as a message, and is fetched


def large(*, tell):
    return bytes(LARGE)


def silent(*, tell):
    "Has its worker give nothing of what it has."
    from distributed import get_worker

    async def never(*args, **kwargs):
        await asyncio.sleep(3600)

    get_worker().handlers["get_data"] = never
    return bytes(LARGE)


def waits(*, tell):
    while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
        time.sleep(0.02)
    return bytes(LARGE)


def waits_for_ever(*, tell):
    time.sleep(3600)
"""


@pytest.fixture
def answers(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of functions that workers can import; two workers."""
    (tmp_path / "answers.py").write_text(ANSWERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    for _ in range(2):
        cluster.worker()
    yield importlib.import_module("answers")
    del sys.modules["answers"]


@pytest.fixture
def session(cluster: Any, answers: Any) -> Iterator[DaskSession]:
    session = DaskSession(DaskSettings(scheduler_file=cluster.file), 2)
    yield session
    session.shutdown()


def submit(session: DaskSession, function: Any) -> Any:
    return session.submit(function, demand=Demand("test")).promise  # type: ignore[attr-defined]


def test_a_result_that_a_worker_does_not_give_is_not_waited_for_for_ever(
    answers: Any, session: DaskSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kart_dask.session, "PATIENCE", 1.0)
    silent = submit(session, answers.silent)
    with pytest.raises(ConnectionError, match="not told its result within 1 s"):
        silent.result(60)
    large = [submit(session, answers.large) for _ in range(8)]
    came = [promise.exception(60) is None for promise in large]
    assert any(came), "nothing comes from the other worker"


def test_a_worker_that_is_stopped_does_not_hold_up_the_end(
    cluster: Any, answers: Any, session: DaskSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kart_dask.session, "PATIENCE", 1.0)
    third = cluster.worker()
    submit(session, answers.large).result(60)
    os.kill(third.pid, signal.SIGSTOP)
    session.everywhere(answers.large)
    session.shutdown()
    assert "has not answered" in caplog.text


def test_where_results_cannot_be_taken_any_more_all_that_is_open_fails(
    answers: Any, session: DaskSession, tmp_path: Path
) -> None:
    class Fault(BaseException):
        pass

    def fails(_: object) -> None:
        raise Fault("out of order")

    waits, open_ = submit(session, answers.waits), submit(session, answers.waits_for_ever)
    waits.add_done_callback(fails)
    (tmp_path / "go").touch()
    with pytest.raises(PluginError, match="the results of Dask cannot be taken any more: Fault: out of order"):
        open_.result(60)
    with pytest.raises(PluginError, match="cannot be taken"):
        session.submit(answers.large, demand=Demand("test"))
