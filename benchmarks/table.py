"""The page of figures as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.contenders import LEAVES, MEGABYTES, PLANNED
from benchmarks.figures import Figures, divided
from benchmarks.promises import promises


def page(figures: Figures, *, rounds: int, versions: Mapping[str, str]) -> str:
    """The whole page; sections of which nothing was measured are left out."""
    sections = [
        _introduction(rounds, versions),
        _promises(figures),
        _fan_out(figures, "fan-out, cold", COLD),
        _fan_out(figures, "fan-out, leaves stored", STORED),
        _starting(figures),
        _planning(figures),
        _arrays(figures),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


INTRODUCTION = """\
# Benchmarks

Written by `make bench`. Each figure is the median of {rounds} interleaved rounds; each measurement is a process of
its own, in new folders. *Work* is CPU time (user and system) from the end of the imports until the result is there.
The tasks do next to nothing on purpose: what is measured is what each tool adds.

Machine: {processor}, {cores} cores, {system}. Python {python}; {versions}."""

COLD = "Nothing is stored. Each leaf gives an int; the root loads all of them and gives their sum."

STORED = (
    "A new process after the cold one. The root's parameter has changed; all leaves are stored and looked at. The root "
    "loads them all, except in the row where it only requires them."
)


def _introduction(rounds: int, versions: Mapping[str, str]) -> str:
    return INTRODUCTION.format(
        rounds=rounds,
        processor=processor(),
        cores=os.cpu_count(),
        system=platform.system(),
        python=platform.python_version(),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
    )


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _promises(figures: Figures) -> str:
    rows = [
        [one.what, f"{one.limit:g} {one.unit}", f"{one.value:.3g} {one.unit}", "yes" if one.kept else "**no**"]
        for one in promises(figures)
        if one.value is not None
    ]
    return _section("What is promised", "", ["", "at most", "measured", "kept"], rows)


def _fan_out(figures: Figures, case: str, text: str) -> str:
    plain = figures.cpu(case, "plain loop")
    rows = [
        [
            name,
            number(figures.cpu(case, name), 1e-3, 1),
            number(figures.cpu(case, name), LEAVES * 1e-6, 1),
            number(divided(figures.cpu(case, name), plain), 1, 1),
            number(figures.import_cpu(case, name), 1e-3, 0),
            number(figures.process_cpu(case, name), 1e-3, 0),
            number(figures.process_wall(case, name), 1e-3, 0),
        ]
        for name in figures.names(case)
    ]
    head = ["", "work, ms", "per task, µs", "plain loops", "imports, ms", "process, CPU ms", "process, wall ms"]
    return _section(f"{case.capitalize()}: {LEAVES:,} tasks and a root", text, head, rows)


def _starting(figures: Figures) -> str:
    rows = [
        [
            f"{_import_statement(name)}, above the bare interpreter",
            number(figures.cpu("import", name), 1e-3, 1),
            number(figures.wall("import", name), 1e-3, 1),
        ]
        for name in figures.names("import")
    ] + [
        [
            name,
            number(figures.process_cpu("command line", name), 1e-3, 1),
            number(figures.process_wall("command line", name), 1e-3, 1),
        ]
        for name in figures.names("command line")
    ]
    return _section("Starting", "", ["", "CPU ms", "wall ms"], rows)


def _import_statement(name: str) -> str:
    module, _, names = name.partition(":")
    return f"`from {module} import {names.replace(',', ', ')}`" if names else f"`import {module}`"


def _planning(figures: Figures) -> str:
    text = "Chains beside each other under one root, nothing stored. The construction of the tasks is included."
    rows = [
        [
            name,
            number(figures.cpu("planning", name), 1, 2),
            number(figures.planning_each(count), 1e-6, 1),
            number(figures.of("planning", name, lambda cost: cost.memory), 2**20, 0),
        ]
        for count in PLANNED
        if (name := f"{count:,} tasks") in figures.names("planning")
    ]
    return _section("Planning", text, ["", "CPU s", "per task, µs", "peak MiB of the process"], rows)


def _arrays(figures: Figures) -> str:
    text = (
        "kart takes a digest of what it stores and checks it when it loads. Peak memory is that of the work, the array "
        "included."
    )
    rows = [
        [
            f"{case}, {name}",
            number(figures.cpu(case, name), 1, 3),
            number(figures.wall(case, name), 1, 3),
            number(figures.array_peak(case, name), 1, 2),
        ]
        for case, name in figures.costs
        if case.startswith(".")
    ]
    return _section(f"An array of {MEGABYTES} MB", text, ["", "CPU s", "wall s", "peak, arrays"], rows)


def number(value: float | None, unit: float, digits: int) -> str:
    """A figure in a unit; nothing where it is not known."""
    return "" if value is None else f"{value / unit:.{digits}f}"


def _section(title: str, text: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [f"## {title}", "", *([text, ""] if text else []), *table_lines(head, rows)]
    return "\n".join(lines)


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table, line by line."""
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' --: |' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
