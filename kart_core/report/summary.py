"""The end of a run in a few lines: what ran, what was reused, what failed, how long, and where the result is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from kart_core.naming import qualified_name
from kart_core.report.failures import one_line
from kart_core.report.say import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kart_core.building import RunReport
    from kart_core.task import TaskOnKart

_MOST = 10  # lines of one kind; the journal has them all


def summary(report: RunReport) -> Iterator[str]:
    """The lines of a run's summary."""
    parts = [(len(report.failed), "failed"), (len(report.blocked), "blocked"), (len(report.missing), "missing")]
    counts = [f"{count} {word}" for count, word in parts if count]
    counts += [f"{len(report.ran)} ran", f"{len(report.reused)} reused"]
    yield f"{_verdict(report)} in {duration(report.seconds)}: {', '.join(counts)}"
    yield from _classes("ran", report.ran)
    yield from _classes("reused", report.reused)
    yield from _each("failed", ((task, report.failures.get(task)) for task in report.failed), len(report.failed))
    yield from _each("missing", ((task, report.failures.get(task)) for task in report.missing), len(report.missing))
    yield from _classes("blocked", report.blocked)
    for task, paths in report.results.items():
        for path in paths:
            yield f"  {'result':8} {qualified_name(type(task))}: {path}"


def _verdict(report: RunReport) -> str:
    if report.interrupted:
        return "interrupted"
    return "failed" if report.failed or report.missing or report.exit_code else "done"


def _classes(word: str, tasks: Iterable[TaskOnKart[Any]]) -> Iterator[str]:
    counted = Counter(qualified_name(type(task)) for task in tasks)
    for name, count in counted.most_common(_MOST):
        yield f"  {word:8} {name}" + (f" ({count} tasks)" if count > 1 else "")
    if len(counted) > _MOST:
        yield f"  {word:8} and {len(counted) - _MOST} other classes"


def _each(word: str, failed: Iterable[tuple[TaskOnKart[Any], BaseException | None]], count: int) -> Iterator[str]:
    for position, (task, error) in enumerate(failed):
        if position == _MOST:
            yield f"  {word:8} and {count - _MOST} more"
            return
        why = f": {one_line(error)}" if error is not None else ""
        yield f"  {word:8} {qualified_name(type(task))} {task.unique_id}{why}"
