"""What the commands about tasks do: run them, plan them, show how a result came to be."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from kart_core.cli.roots import configured, make
from kart_core.construction import check_setting
from kart_core.errors import BuildError
from kart_core.parameters import parse_text
from kart_core.report.say import complain, say
from kart_core.settings import SETTINGS
from kart_core.task import TaskOnKart

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from kart_core.building import RunReport
    from kart_core.cli.arguments import Arguments, Given
    from kart_core.cli.options import Meaning
    from kart_core.records import Record

_MOST = 5  # tracebacks that are shown of one run


def run(
    arguments: Arguments,
    *,
    files: Sequence[str],
    rerun_from: Sequence[str],
    plugin_settings: Sequence[str],
    disabled: Sequence[str],
    workers: int | None,
    executor: str | None,
    log_level: str | None,
    local_scheduler: bool,
    printing: bool,
) -> int:
    """Runs the named tasks and shows what came of it; gives the exit code."""
    del local_scheduler  # there is no other: accepted so that commands written for luigi's keep working
    if log_level is not None:
        _show_log(log_level)
    rerun, given = _rerun(arguments.given)
    with configured(given, files, plugin_settings, disabled):
        from kart_core.building import execute
        from kart_core.report.progress import watching
        from kart_core.report.summary import summary

        roots = make(arguments)
        check_effect(given, roots)
        with watching() as listener:
            report = execute(
                *roots, rerun=rerun, rerun_from=rerun_from, workers=workers, executor=executor, listen=[listener]
            )
        _show_failures(report, listener.told)
        first, *rest = summary(report)
        say(first, colour="yellow" if report.interrupted else "red" if report.failures else "green")
        for line in rest:
            say(line)
        if printing:
            _print_values(roots, {*report.failures, *report.blocked, *report.unfinished})
    return report.exit_code


def plan(
    arguments: Arguments,
    *,
    files: Sequence[str],
    rerun_from: Sequence[str],
    plugin_settings: Sequence[str],
    disabled: Sequence[str],
    workers: int | None,
    executor: str | None,
    as_json: bool,
) -> int:
    """Shows what a run would do; gives the exit code."""
    rerun, given = _rerun(arguments.given)
    with configured(given, files, plugin_settings, disabled):
        from kart_core.building import plan as make_plan
        from kart_core.report import tree

        roots = make(arguments)
        check_effect(given, roots)
        made = make_plan(*roots, rerun=rerun, rerun_from=rerun_from, workers=workers, executor=executor)
        if as_json:
            say(json.dumps(tree.as_data(made), indent=2))
        else:
            tree.show_plan(made)
    return 0


def show(
    arguments: Arguments,
    *,
    files: Sequence[str],
    plugin_settings: Sequence[str],
    disabled: Sequence[str],
    as_json: bool,
    printing: bool,
) -> int:
    """Shows the record of a result, or its value; gives the exit code."""
    if printing and as_json:
        raise click.UsageError("--print shows the value and --json the record; give one of the two")
    with configured(arguments.given, files, plugin_settings, disabled):
        from kart_core.records import record, workspace_at, workspace_of
        from kart_core.report.tables import show_record
        from kart_core.target import Target

        if len(arguments.tasks) != 1:
            raise click.UsageError("name one result: its unique id, or MODULE:TASK")
        if printing and arguments.roots:
            _print_values(make(arguments), ())
            return 0
        task = make(arguments)[0] if arguments.roots else None
        found: Record = record(arguments.tasks[0] if task is None else task)
        if printing:
            from kart_core.loading import values_of

            _print_named(values_of(found))
        elif as_json:
            import attrs

            say(json.dumps(attrs.asdict(found), indent=2, ensure_ascii=False))
        else:
            workspace = workspace_at(None) if task is None else workspace_of(task)
            targets = [Target(workspace, output.path) for output in found.outputs]
            show_record(found, [target.url for target in targets if not target.exists()])
    return 0


def _print_values(tasks: Sequence[TaskOnKart[Any]], lacking: Collection[TaskOnKart[Any]]) -> None:
    """Prints what is stored of the tasks, each in a line, with names where there are several."""
    from kart_core.loading import value_of
    from kart_core.naming import qualified_name

    stored = [task for task in tasks if task not in lacking]
    if len(tasks) == 1:
        for task in stored:
            say(repr(value_of(task)))
        return
    alike = Counter(map(type, tasks))
    for task in stored:
        name = repr(task) if alike[type(task)] > 1 else qualified_name(type(task))
        say(f"{name}: {value_of(task)!r}")


def _print_named(values: Mapping[str, object]) -> None:
    for name, value in values.items():
        say(repr(value) if len(values) == 1 else f"{name}: {value!r}")


def check_effect(given: Sequence[Given], roots: Sequence[TaskOnKart[Any]]) -> None:
    """Refuses an option of a class that changes no task of the run.

    Raises:
        click.UsageError: there is such an option.
    """
    shared = [(option, meaning) for option in given for meaning in option.meanings if not meaning.root]
    idle = [(option, meaning, _held(option, meaning)) for option, meaning in shared]
    if not idle:
        return
    present: set[type] = set()
    for task in _walk(roots):
        present.update(type(task).__mro__)
        idle = [one for one in idle if not (isinstance(task, one[1].cls) and getattr(task, one[1].name) == one[2])]
        if not idle:
            return
    option, meaning, _ = idle[0]
    if meaning.cls not in present:
        raise click.UsageError(f"{option.option} has no effect: no task of this run is a {meaning.cls.__name__}")
    raise click.UsageError(
        f"{option.option} has no effect: the code that makes each {meaning.cls.__name__} gives it its {meaning.name}"
    )


def _held(option: Given, meaning: Meaning) -> object:
    """What a task holds that takes its value from the option."""
    value = parse_text(option.text, meaning.annotation)
    return check_setting(meaning.cls.__name__, meaning.name, value) if meaning.name in SETTINGS else value


def _walk(roots: Sequence[TaskOnKart[Any]]) -> Iterator[TaskOnKart[Any]]:
    """Every task below the roots, each once."""
    from kart_core.identity import required_tasks

    waiting, seen = list(roots), set(roots)
    while waiting:
        task = waiting.pop()
        yield task
        new = [required for required in required_tasks(task) if required not in seen]
        waiting += new
        seen.update(new)


def _rerun(given: Sequence[Given]) -> tuple[bool | None, list[Given]]:
    """Takes ``--rerun`` out of the options: to a run it means the named tasks, not every task."""
    rest = [option for option in given if not _is_rerun(option)]
    mine = [option for option in given if _is_rerun(option)]
    return (bool(parse_text(mine[0].text, bool)) if mine else None), rest


def _is_rerun(option: Given) -> bool:
    return any(meaning.cls is TaskOnKart and meaning.name == "rerun" for meaning in option.meanings)


def _single(failures: Mapping[TaskOnKart[Any], BaseException]) -> Iterator[tuple[TaskOnKart[Any], BaseException]]:
    """The failures, and those of the builds inside failed tasks instead of these."""
    for task, error in failures.items():
        if isinstance(error, BuildError) and error.failures:
            yield from _single(error.failures)
        else:
            yield task, error


def _show_failures(report: RunReport, told: Collection[str | None]) -> None:
    """Shows what the listener has not: tracebacks of the user's own code, and sentences that nobody said yet."""
    from kart_core.errors import said
    from kart_core.naming import qualified_name
    from kart_core.report.failures import has_own_frames, is_ours, trimmed

    shown: set[str] = set()
    for task, error in _single(report.failures):
        is_plain = is_ours(error) or not has_own_frames(error)
        if is_plain and task.unique_id in told:
            continue
        text = f" {type(error).__name__}: {said(error)}" if is_plain else f"\n{trimmed(error)}\n"
        if text in shown:
            continue
        if len(shown) == _MOST:
            complain(f"... and other failures; the summary names them (the first {_MOST} are shown)")
            return
        shown.add(text)
        complain(f"{qualified_name(type(task))} {task.unique_id} failed:{text}")


def _show_log(level: str) -> None:
    import logging

    if level.lower() not in ("debug", "info", "warning", "error", "critical"):
        raise click.UsageError(f"--log-level is debug, info, warning or error, not {level!r}")

    class Stderr(logging.Handler):
        """Writes where sys.stderr leads now: above the bar, while there is one."""

        def emit(self, record: logging.LogRecord) -> None:
            complain(self.format(record))

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=[Stderr()])
    logging.getLogger().setLevel(level.upper())
