"""The end of a run in a few lines: what ran, what was reused, what failed, how long, and where the result is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from kart_core.errors import MissingDataError
from kart_core.naming import qualified_name
from kart_core.report.failures import reason
from kart_core.report.say import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kart_core.building import RunReport
    from kart_core.task import TaskOnKart

_MOST = 10  # lines of one kind; the journal has them all


def summary(report: RunReport) -> Iterator[str]:
    """The lines of a run's summary."""
    missing = {task: error for task, error in report.failures.items() if isinstance(error, MissingDataError)}
    failed = {task: error for task, error in report.failures.items() if task not in missing}
    parts = ((failed, "failed"), (missing, "missing"), (report.blocked, "blocked"), (report.unfinished, "unfinished"))
    counts = [f"{len(tasks)} {word}" for tasks, word in parts if tasks]
    counts += [f"{len(report.ran)} ran", f"{len(report.reused)} reused"]
    verdict = "interrupted" if report.interrupted else "failed" if report.failures else "done"
    yield f"{verdict} in {duration(report.seconds)}: {', '.join(counts)}"
    if report.about:
        yield f"  {'on':8} {report.about}"
    yield from _classes("ran", report.ran)
    yield from _classes("reused", report.reused)
    yield from _each("failed", failed)
    yield from _each("missing", missing)
    yield from _classes("blocked", report.blocked)
    yield from _classes("left", report.unfinished)
    lacking = {*report.failures, *report.blocked, *report.unfinished}
    for task, paths in report.paths.items():
        for path in paths if task not in lacking else ():
            yield f"  {'result':8} {qualified_name(type(task))}: {path}"


def _classes(word: str, tasks: Iterable[TaskOnKart[Any]]) -> Iterator[str]:
    counted = Counter(qualified_name(type(task)) for task in tasks)
    for name, count in counted.most_common(_MOST):
        yield f"  {word:8} {name}" + (f" ({count} tasks)" if count > 1 else "")
    if len(counted) > _MOST:
        yield f"  {word:8} and {len(counted) - _MOST} other classes"


def _each(word: str, failed: Mapping[TaskOnKart[Any], BaseException]) -> Iterator[str]:
    for position, (task, error) in enumerate(failed.items()):
        if position == _MOST:
            yield f"  {word:8} and {len(failed) - _MOST} more"
            return
        yield f"  {word:8} {qualified_name(type(task))} {task.unique_id}: {reason(error)}"
