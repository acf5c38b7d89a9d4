"""What is seen while a run goes on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kart_core.errors import BuildError
from kart_core.report.say import complain, console, duration, is_terminal

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.progress import Progress, TaskID

    from kart_core.plugin import Event


@contextmanager
def watching() -> Generator[Lines | Bars]:
    """A listener to the events of a run, for the time of a ``with``: it shows them on the standard error output."""
    if not is_terminal(sys.stderr):
        yield Lines()
        return
    bars = Bars()
    try:
        yield bars
    finally:
        bars.close()


class Lines:
    """A line for each event of which there is something to say.

    Attributes:
        told: the unique ids of the tasks of whose failure everything was said.
    """

    def __init__(self) -> None:
        self.told: set[str | None] = set()
        self._begun: set[str | None] = set()

    def __call__(self, event: Event) -> None:
        if event.kind == "task_started":
            self._begun.add(event.unique_id)
            complain(f"start  {_named(event)}")
        elif event.kind == "task_finished":
            complain(f"done   {_named(event)}{_took(event)}")
        elif event.kind == "task_waiting":
            complain(f"wait   {_named(event)}: it is run by {event.holder}")
        elif event.kind == "task_reused" and event.unique_id in self._begun:
            complain(f"reused {_named(event)}: another process has made it")
        elif event.kind == "task_failed":
            complain(_failed(event, self.told))


class Bars:
    """A bar for the run and the name of the task that is running.

    Nothing is drawn, and Rich is not imported, before the first task starts.

    Attributes:
        told: as of `Lines`.
    """

    def __init__(self) -> None:
        self.told: set[str | None] = set()
        self._run: str | None = None  # of the outermost run: a task may build others inside
        self._total = 0
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._running: dict[str | None, str] = {}

    def __call__(self, event: Event) -> None:
        if event.kind == "run_started" and event.counts is not None:
            self._run = self._run or event.run
            self._total += event.counts.get("run", 0)
        elif event.kind == "task_started":
            self._running[event.unique_id] = event.task or ""
            self._draw(0)
        elif event.kind == "task_progress" and event.counts is not None:
            done, total = event.counts.get("done"), event.counts.get("total")
            self._running[event.unique_id] = f"{event.task} {done}" + (f" of {total}" if total is not None else "")
            self._draw(0)
        elif event.kind == "task_waiting":
            self._running[event.unique_id] = f"{event.task} waits for {event.holder}"
            self._draw(0)
        elif event.kind == "task_reused" and event.unique_id in self._running:
            del self._running[event.unique_id]
            self._draw(1)
        elif event.kind in ("task_finished", "task_failed"):
            self._running.pop(event.unique_id, None)
            if event.kind == "task_failed" and self._progress is not None:
                from rich.text import Text

                self._progress.console.print(Text(_failed(event, self.told), style="red"))
            self._draw(1)
        elif event.kind == "run_finished" and event.run == self._run:
            self.close()

    def close(self) -> None:
        """Takes the bar off the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _draw(self, advance: int) -> None:
        names = list(self._running.values())
        what = names[-1] if len(names) == 1 else f"{len(names)} tasks" if names else ""
        if self._progress is None:
            self._progress = _progress()
            self._bar = self._progress.add_task(what, total=self._total)
            self._progress.start()
        assert self._bar is not None
        self._progress.update(self._bar, advance=advance, description=what, total=self._total)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    # What a task prints goes above the bar, but only where it would be seen there: never from a file to the screen.
    return Progress(
        *columns,
        console=console(error=True),
        transient=True,
        redirect_stdout=is_terminal(sys.stdout),
    )


def _failed(event: Event, told: set[str | None]) -> str:
    """The line of a failure: of a message of several lines, which is shown in full at the end, the first alone."""
    text = event.error or ""
    first, _, rest = text.partition("\n")
    if not rest:
        told.add(event.unique_id)
    elif text.startswith(f"{BuildError.__name__}: "):
        first = first.removesuffix(":")  # what was built inside is named by lines of its own
    return f"failed {_named(event)}{_took(event)}: {first}"


def _named(event: Event) -> str:
    return f"{event.task} {event.unique_id}" if event.unique_id else str(event.task)


def _took(event: Event) -> str:
    return f" ({duration(event.seconds)})" if event.seconds is not None else ""
