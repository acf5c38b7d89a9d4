"""The promises of failure: what failed is named at once, the rest goes on, and the process is as it was before."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import kart_core as kart
from kart_core.building import execute
from kart_core.plugin import Event
from tests.traces import IN_PROCESSES, note, noted, notes

if TYPE_CHECKING:
    from tests.conftest import Files, Project  # a worker that imports this module has no use for it

pytestmark = pytest.mark.usefixtures("project")

MANY = 10 if IN_PROCESSES else 100
"""How often something is built that must leave nothing behind; where processes are started each time, fewer."""


class Fine(kart.TaskOnKart[str]):
    name: str = "fine"
    after: kart.TaskOnKart[Any] | None = None

    def run(self) -> str:
        note(self.name)
        return self.name


class Broken(kart.TaskOnKart[int]):
    kind: str = "ValueError"

    def run(self) -> int:
        note("broken")
        raise {"ValueError": ValueError, "KeyError": KeyError, "SystemExit": SystemExit}[self.kind]("the reason")


class Silent(kart.TaskOnKart[int]):
    """A task that forgets to return or dump."""

    def run(self) -> None:
        note("silent")


class Half(kart.TaskOnKart[Any]):
    """A task that writes one of its three outputs."""

    def output(self) -> dict[str, Any]:
        return {"a": self.make_target("a.pkl"), "parts": [self.make_target("b.pkl"), self.make_target("c.pkl")]}

    def run(self) -> None:
        self.dump(1, "parts.0")


class Absent(kart.ExternalTask[str]):
    def output(self) -> kart.Target:
        return self.make_target("absent.txt", use_unique_id=False)


class Bundle(kart.WrapperTask):
    tasks: tuple[kart.TaskOnKart[Any], ...]


def failures(*tasks: kart.TaskOnKart[Any], **settings: Any) -> kart.BuildError:
    with pytest.raises(kart.BuildError) as error:
        kart.build(*tasks, **settings)
    return error.value


def stored(workspace: Files) -> dict[str, bytes]:
    """Every file of the workspace but the journals, those that are being written included."""
    kept = (path for path in workspace.files() if not path.startswith((".kart/runs/", ".kart/format")))
    return {path: workspace.read(path) for path in kept}


# --- what failed is named, there and then


def test_a_task_that_writes_nothing_fails_itself_by_name() -> None:
    error = failures(Silent())
    assert list(error.failures) == [Silent()]
    assert "Silent()" in str(error)
    assert "return" in str(error)


def test_a_task_that_writes_nothing_fails_before_what_requires_it_runs() -> None:
    failures(Fine(after=Silent()))
    assert noted() == ["silent"]


def test_a_task_that_writes_nothing_is_not_complete_and_fails_again() -> None:
    failures(Silent())
    assert not Silent().complete()
    failures(Silent())
    assert noted() == ["silent", "silent"]


def test_a_task_that_writes_not_all_its_outputs_fails_and_names_those_that_lack(workspace: Files) -> None:
    error = failures(Half())
    assert "Half()" in str(error)
    assert "'a'" in str(error)
    assert "'parts.1'" in str(error)
    assert "'parts.0'" not in str(error)
    assert stored(workspace) == {}


def test_a_task_that_dumps_and_returns_fails(workspace: Files) -> None:
    class Twice(kart.TaskOnKart[int]):
        def run(self) -> int:
            self.dump(1)
            return 1

    assert "Twice()" in str(failures(Twice()))
    assert stored(workspace) == {}


def test_a_task_without_run_fails_with_what_to_write() -> None:
    class Bare(kart.TaskOnKart[int]):
        pass

    assert "run()" in str(failures(Bare()))


def test_none_that_is_dumped_is_a_result() -> None:
    class Nothing(kart.TaskOnKart[None]):
        def run(self) -> None:
            self.dump(None)

    assert kart.build(Nothing()) is None
    assert Nothing().complete()


# --- the other branches


def test_other_branches_go_on() -> None:
    report = execute(Bundle(tasks=(Fine(name="a"), Broken(), Fine(name="b", after=Broken()), Fine(name="c"))))
    assert sorted(noted()) == ["a", "broken", "c"]
    assert list(report.failures) == [Broken()]
    assert report.blocked == [Fine(name="b", after=Broken())]
    assert report.exit_code == 40


def test_what_went_well_beside_a_failure_is_reused() -> None:
    bundle = Bundle(tasks=(Fine(name="a"), Broken(), Fine(name="c")))
    failures(bundle)
    assert sorted(noted()) == ["a", "broken", "c"]
    failures(bundle)
    assert noted() == ["broken"]


def test_what_depends_on_a_failure_is_blocked_all_the_way_up() -> None:
    top: kart.TaskOnKart[Any] = Broken()
    for i in range(5):
        top = Fine(name=str(i), after=top)
    report = execute(top)
    assert len(report.blocked) == 5
    assert noted() == ["broken"]
    assert "5 more" in str(report.error())


def test_two_failures_are_both_reported() -> None:
    error = failures(Bundle(tasks=(Broken(), Broken(kind="KeyError"), Silent())))
    assert set(error.failures) == {Broken(), Broken(kind="KeyError"), Silent()}
    assert str(error).startswith("3 tasks failed")


# --- the original exception


def test_a_build_error_holds_each_original_exception_with_its_traceback() -> None:
    error = failures(Bundle(tasks=(Broken(), Broken(kind="KeyError"))))
    original = error.failures[Broken()]
    assert type(original) is ValueError
    assert original.args == ("the reason",)
    assert type(error.failures[Broken(kind="KeyError")]) is KeyError
    frames = traceback.extract_tb(original.__traceback__)
    assert frames[-1].name == "run"
    assert frames[-1].filename == __file__


def test_the_traceback_that_users_see_shows_the_line_that_failed() -> None:
    error = failures(Broken())
    assert '"the reason"' in "".join(traceback.format_exception(error))
    assert error.__cause__ is error.failures[Broken()]


def test_the_message_holds_the_task_and_its_exception() -> None:
    assert "Broken(kind='ValueError'): ValueError: the reason" in str(failures(Broken()))


def test_a_task_that_exits_the_process_has_failed() -> None:
    error = failures(Bundle(tasks=(Broken(kind="SystemExit"), Fine())))
    assert isinstance(error.failures[Broken(kind="SystemExit")], SystemExit)
    assert sorted(noted()) == ["broken", "fine"]


def test_a_failure_is_in_the_journal_of_the_run(workspace: Files) -> None:
    report = execute(Broken())
    text = workspace.read(f".kart/runs/{report.run}.jsonl").decode()
    assert "task_failed" in text
    assert "the reason" in text
    assert Broken().unique_id in text


def test_a_failure_whose_message_is_no_text_is_reported_like_any_other(workspace: Files) -> None:
    class Undecodable(kart.TaskOnKart[int]):
        def run(self) -> int:
            raise ValueError(os.fsdecode(b"caf\xe9.csv"))

    report = execute(Undecodable())
    assert isinstance(report.failures[Undecodable()], ValueError)
    lines = workspace.read(f".kart/runs/{report.run}.jsonl").splitlines()
    assert "caf\udce9.csv" in [json.loads(line) for line in lines][1]["error"]


# --- what was stored


WORD = Path("word.txt")


class Unsure(kart.TaskOnKart[str]):
    """Fails after it has dumped, when a file of the working directory tells it to."""

    def output(self) -> list[Any]:
        return [self.make_target("small.txt"), self.make_target("large.txt")]

    def run(self) -> None:
        word = WORD.read_text() if WORD.exists() else "old"
        self.dump(word, "0")
        self.dump(word * (1 << 20), "1")
        if word == "fail":
            raise RuntimeError(word)
        if word == "interrupt":
            raise KeyboardInterrupt
        if word == "log":
            self.task_log["what"] = object()


@pytest.mark.parametrize("word", ["fail", "log"])
def test_a_rerun_that_fails_leaves_the_old_result_as_it_was(word: str, workspace: Files) -> None:
    kart.build(Unsure())
    before = stored(workspace)
    WORD.write_text(word)
    failures(Unsure(), rerun=True)
    assert stored(workspace) == before
    assert Unsure().complete()
    assert kart.build(Unsure())[0] == "old"


@pytest.mark.parametrize("word", ["fail", "log"])
def test_a_failed_task_leaves_no_file(word: str, workspace: Files) -> None:
    WORD.write_text(word)
    failures(Unsure())
    assert stored(workspace) == {}


@pytest.mark.inline(reason="the interruption comes while a task runs in the process that builds")
def test_an_interrupted_build_says_so_and_keeps_the_old_result(workspace: Files) -> None:
    kart.build(Unsure())
    before = stored(workspace)
    WORD.write_text("interrupt")
    with pytest.raises(KeyboardInterrupt):
        kart.build(Unsure(), rerun=True)
    assert stored(workspace) == before
    report = execute(Fine(after=Unsure(rerun=True)))
    assert report.exit_code == 130
    assert report.unfinished == [Unsure(rerun=True), Fine(after=Unsure(rerun=True))]
    assert kart.build(Unsure())[0] == "old"


# --- retries


class Flaky(kart.TaskOnKart[int], retries=2):
    fails: int

    def run(self) -> int:
        note("try")
        if len(notes()) <= self.fails:
            raise OSError("not yet")
        return random.randint(0, 10**9)


def test_a_failed_run_is_tried_again_as_often_as_retries_says() -> None:
    kart.build(Flaky(fails=2))
    assert len(noted()) == 3
    assert isinstance(failures(Flaky(fails=3)).failures[Flaky(fails=3)], OSError)
    assert len(noted()) == 3


def test_a_retry_draws_the_same_numbers() -> None:
    task = Flaky(fails=1)
    again = kart.build(task)
    assert kart.build(task, rerun=True) == again


# --- external data


def test_missing_external_data_is_exit_code_20() -> None:
    assert execute(Fine(after=Absent())).exit_code == 20
    error = failures(Absent())
    assert error.exit_code == 20
    assert isinstance(error.failures[Absent()], kart.MissingDataError)
    assert "absent.txt" in str(error)


@pytest.mark.parametrize("task", [Absent(), Fine(after=Absent()), Bundle(tasks=(Absent(),))], ids=["it", "below", "in"])
def test_missing_external_data_is_an_error_also_where_no_value_is_asked_for(task: kart.TaskOnKart[Any]) -> None:
    error = failures(task, return_value=False)
    assert list(error.failures) == [Absent()]
    assert noted() == []


def test_missing_data_beside_a_failure_is_exit_code_40() -> None:
    assert failures(Bundle(tasks=(Absent(), Broken()))).exit_code == 40


def test_other_branches_go_on_beside_missing_data() -> None:
    failures(Bundle(tasks=(Absent(), Fine())))
    assert noted() == ["fine"]


def test_external_data_is_found_when_it_is_put_there(workspace: Files) -> None:
    failures(Absent())
    workspace.write("absent.txt", "here")
    assert kart.build(Absent()) == "here"


# --- what is not a failure of a task


def test_what_is_no_task_is_refused_with_a_way_out() -> None:
    with pytest.raises(kart.ParameterError, match=r"Fine\(…\)"):
        kart.build(Fine)  # type: ignore[call-overload]


def test_an_exception_of_requires_is_a_graph_error_that_carries_it() -> None:
    class Bad(kart.TaskOnKart[int]):
        def requires(self) -> Any:
            raise LookupError("requires")

    with pytest.raises(kart.GraphError, match="requires") as caught:
        kart.build(Bad())
    assert isinstance(caught.value.__cause__, LookupError)


# --- the process is as it was before


class Noisy(kart.TaskOnKart[float]):
    i: int

    def run(self) -> float:
        logging.getLogger("noisy").info("info of %d", self.i)
        warnings.warn("a warning", UserWarning, stacklevel=1)
        if self.i % 3 == 0:
            raise ValueError(self.i)
        return random.random()


def surroundings() -> dict[str, object]:
    """What a build could leave behind in its process."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("noisy", "py.warnings", "kart_core"))]
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
    return {
        "handlers": [list(logger.handlers) for logger in loggers],
        "filters": [list(logger.filters) for logger in loggers],
        "levels": [logger.level for logger in loggers],
        "propagate": [logger.propagate for logger in loggers],
        "disabled": [logger.disabled for logger in loggers],
        "logging disabled": logging.root.manager.disable,
        "logger class": logging.getLoggerClass(),
        "record factory": logging.getLogRecordFactory(),
        "warnings": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "signals": [signal.getsignal(number) for number in watched],
        "excepthook": sys.excepthook,
        "thread excepthook": threading.excepthook,
        "unraisablehook": sys.unraisablehook,
        "meta_path": list(sys.meta_path),
        "path": list(sys.path),
        "path hooks": list(sys.path_hooks),
        "standard files": (sys.stdin, sys.stdout, sys.stderr),
        "recursion limit": sys.getrecursionlimit(),
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "umask": umask(),
        "threads": set(threading.enumerate()),
        "random": random.getstate(),
        "numpy": numpy_state(),
        "gc": gc.get_threshold(),
        "gc is on": gc.isenabled(),
    }


def umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def numpy_state() -> object:
    kind, keys, *rest = np.random.get_state()
    return kind, list(keys), rest


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"))


@pytest.mark.filterwarnings("ignore:a warning")
def test_logging_warnings_handlers_and_generators_are_as_they_were_after_a_build() -> None:
    before = surroundings()
    kart.build(Noisy(i=1))
    assert surroundings() == before
    failures(Noisy(i=3))
    assert surroundings() == before


@pytest.mark.filterwarnings("ignore:a warning")
def test_logging_warnings_handlers_and_generators_are_as_they_were_after_many_builds() -> None:
    kart.build(Noisy(i=1))
    before, files = surroundings(), open_files()
    for i in range(MANY):
        execute(Noisy(i=i), Fine(after=Absent()), rerun=True)
    assert surroundings() == before
    assert open_files() <= files


def test_event_handlers_hear_their_own_build_alone() -> None:
    heard: list[Event] = []
    execute(Fine(name="heard"), listen=[heard.append])
    before = len(heard)
    assert before > 0
    for i in range(MANY):
        execute(Fine(name=f"unheard {i}"))
    assert len(heard) == before


class Listening(kart.Plugin):
    heard: list[str] = []  # noqa: RUF012

    @kart.hookimpl
    def kart_event(self, event: Event) -> None:
        self.heard.append(event.kind)


def test_the_event_handlers_of_a_build_are_told_once_of_each_step_and_gone_afterwards() -> None:
    Listening.heard.clear()
    for i in range(3):
        kart.build(Fine(name=f"told {i}"), plugins=[Listening])
    kart.build(Fine(name="untold"))
    assert Listening.heard == ["run_started", "task_started", "task_finished", "run_finished"] * 3


class Failing(kart.Plugin):
    @kart.hookimpl
    def kart_event(self, event: Event) -> None:
        raise RuntimeError("listener")


def test_a_listener_that_fails_does_not_fail_the_build() -> None:
    assert kart.build(Fine(), plugins=[Failing]) == "fine"


# --- the user's own log lines

MAIN = """\
import logging
import kart_core as kart

{configuration}

class Talks(kart.TaskOnKart[int]):
    def run(self) -> int:
        logging.getLogger(__name__).info("a line at info level")
        return 1

if __name__ == "__main__":
    assert kart.build(Talks()) == 1
    logging.getLogger(__name__).info("a line after the build")
"""


def test_a_log_line_of_a_task_is_visible_where_the_users_configuration_says_so(project: Project) -> None:
    project.write("main.py", MAIN.format(configuration="logging.basicConfig(level=logging.INFO)"))
    done = project.python("main.py")
    assert done.code == 0, done.err
    assert done.err.count("a line at info level") == 1
    assert done.err.count("a line after the build") == 1


def test_a_log_line_of_a_task_is_not_visible_where_nobody_configured_it(project: Project) -> None:
    project.write("main.py", MAIN.format(configuration=""))
    done = project.python("main.py")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.filterwarnings("ignore:a warning")
def test_a_log_line_of_a_task_goes_where_the_users_handlers_send_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="noisy"):
        kart.build(Noisy(i=1))
    told = f"{__name__}.Noisy: info of 1" if IN_PROCESSES else "info of 1"  # of several at a time it is said which
    assert [record.message for record in caplog.records if record.name == "noisy"] == [told]


@pytest.mark.inline(reason="a warning goes where the filters of the process in which it is raised send it")
def test_a_warning_of_a_task_goes_where_the_users_filters_send_it() -> None:
    with pytest.warns(UserWarning, match="a warning"):
        kart.build(Noisy(i=1))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_failure_whose_message_cannot_be_had_stops_no_other_branch() -> None:
    class Raises(kart.TaskOnKart[int]):
        def run(self) -> int:
            raise Unspeakable

    report = execute(Raises(), Fine())
    assert isinstance(report.failures[Raises()], Unspeakable)
    assert report.ran == [Fine()]
    assert "Unspeakable" in str(report.error())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rerunn": True}, "rerun"),
        ({"rerun": "no"}, "bool"),
        ({"strict_check": 1}, "bool"),
        ({"rerun_from": "Fine"}, r"\['Fine'\]"),
        ({"rerun_from": [Fine]}, "'Fine'"),
        ({"workspace_directory": 3}, "str"),
        ({"plugins": Fine}, "list"),
        ({"executor": 3}, "inline"),
    ],
    ids=str,
)
def test_a_setting_of_a_run_that_is_wrong_is_refused_before_anything_runs(wrong: dict[str, Any], says: str) -> None:
    for run in (kart.build, kart.plan, execute):
        with pytest.raises(kart.ParameterError, match=says):
            run(Fine(), **wrong)  # type: ignore[operator]
    assert noted() == []


class Cancelled(kart.TaskOnKart[int]):
    def run(self) -> int:
        async def cancelled() -> None:
            waits = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            waits.cancel()
            await waits

        asyncio.run(cancelled())
        return 1


def test_a_cancelled_coroutine_is_the_failure_of_its_task_alone() -> None:
    fine = [Fine(name=str(i)) for i in range(3)]
    with pytest.raises(kart.BuildError) as failed:
        kart.build(Cancelled(), *fine)
    assert type(failed.value.failures[Cancelled()]) is asyncio.CancelledError
    assert all(task.complete() for task in fine)
