"""``python -m benchmarks.parallel``: kart on two worker processes beside its peers; writes the figures of its page.

As in `benchmarks`, each measurement is a process of its own in a new folder, and rounds follow each other. CPU time
is that of the process and of all its workers. Peers get fewer tasks where they would take minutes; the figures are
per task there.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import environments
from benchmarks.contenders import CASES, Measurement
from benchmarks.environments import python
from benchmarks.figures import Figures, divided
from benchmarks.measure import measure
from benchmarks.promises import Promise
from benchmarks.table import number, processor, table_lines

WORK = environments.HERE / ".work"
PAGE = environments.HERE.parent / "docs" / "parallel.md"
BEGIN, END = "<!-- The figures: written by `make bench-parallel` -->", "<!-- end -->"

WORKERS = 2
LONG, SECONDS = 400, 0.05
TRIVIAL, TRIVIAL_OF_PEERS = 20_000, 1_000
GROWING = (25_000, 50_000, 100_000)
MEGABYTE = 1e6

Contender = tuple[str, str, Sequence[str], int]
"""Name, environment, script with its first arguments, and how many processes."""

KART: Contender = ("kart", "kart", ("parallel_kart.py", "FOLDER"), WORKERS)
INLINE: Contender = ("kart, inline", "kart", ("parallel_kart.py", "FOLDER"), 0)
PEERS: Sequence[Contender] = (
    ("gokart, no side logs", "gokart", ("parallel_gokart.py", "FOLDER"), WORKERS),
    ("luigi", "luigi", ("parallel_luigi.py", "FOLDER"), WORKERS),
)
POOLS: Sequence[Contender] = (
    ("the pool alone: loky", "joblib", ("parallel_pool.py", "loky"), WORKERS),
    ("the pool alone: concurrent.futures", "kart", ("parallel_pool.py", "standard"), WORKERS),
)


def main() -> None:
    """Measures, prints what it finds, and writes it into the page where everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parallel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--divide", type=int, default=1, help="all counts by this, to try it out; writes no page")
    options = parser.parse_args()

    environments.make()
    shutil.rmtree(WORK, ignore_errors=True)
    figures = Figures()
    for turn in range(options.rounds):
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
        for one in _round(WORK / "parallel" / f"round_{turn + 1}", turn, options.divide):
            Path(one.cwd or "").mkdir(parents=True, exist_ok=True)
            figures.add(one.case, one.name, measure(one.command, result=one.result, cwd=one.cwd))
    text = _text(figures, options.rounds, options.divide)
    print(text)
    if options.divide == 1:
        _write(text)
        print(f"written into {PAGE}", file=sys.stderr)
    shutil.rmtree(WORK, ignore_errors=True)


def _round(folder: Path, turn: int, divide: int) -> Iterator[Measurement]:
    cases = [
        ("long", [(one, LONG) for one in (KART, *PEERS, *POOLS)], SECONDS),
        (
            "trivial",
            [(one, TRIVIAL) for one in (KART, INLINE, *POOLS)] + [(one, TRIVIAL_OF_PEERS) for one in PEERS],
            0.0,
        ),
    ]
    for case, contenders, seconds in cases:
        first = turn % len(contenders)
        for contender, count in contenders[first:] + contenders[:first]:
            yield _measurement(folder, case, contender[0], contender, count // divide, seconds)
    for count in GROWING:
        yield _measurement(folder, "growing", f"{count:,}", KART, count // divide, 0.0)


def _measurement(folder: Path, case: str, name: str, contender: Contender, count: int, seconds: float) -> Measurement:
    _, environment, (script, first), workers = contender
    place = folder / case / name.replace(" ", "_").replace(":", "")
    words = [str(place / "results") if first == "FOLDER" else first, str(count), str(seconds), str(workers)]
    return Measurement(case, name, [python(environment), str(CASES / script), *words], count, cwd=str(place))


# --- what is written ------------------------------------------------------------------------


def _text(figures: Figures, rounds: int, divide: int) -> str:
    found = environments.versions()
    versions = ", ".join(f"{name} {found[name]}" for name in ("kart-core", "gokart", "luigi", "joblib"))
    introduction = (
        f"Medians of {rounds} interleaved rounds, each a process of its own in a new folder; wall time from the end of "
        "the imports, the start of the workers included; CPU time of all processes together."
    )
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()}. Python {platform.python_version()}"
    parts = [
        introduction,
        f"{machine}; {versions}.",
        "\n".join(_promises(figures, divide)),
        f"{LONG // divide} tasks of {SECONDS * 1e3:g} ms, asleep, on {WORKERS} workers:",
        "\n".join(_long(figures, divide)),
        f"Tasks that give an int, on {WORKERS} workers; the pools store nothing:",
        "\n".join(_trivial(figures, divide)),
        f"The same, more and more of them, with kart on {WORKERS} workers:",
        "\n".join(_growing(figures, divide)),
    ]
    return "\n\n".join(parts)


def _promises(figures: Figures, divide: int) -> Iterator[str]:
    ideal = LONG // divide * SECONDS / WORKERS
    largest, smallest = f"{GROWING[-1]:,}", f"{GROWING[0]:,}"
    each = divided(figures.wall("growing", largest), GROWING[-1] // divide)
    memory = figures.of("growing", largest, lambda cost: float(cost.facts["memory"]))
    promises = [
        Promise(
            f"{LONG // divide} tasks of {SECONDS * 1e3:g} ms on {WORKERS} workers, against the ideal",
            1.1,
            "times",
            divided(figures.wall("long", "kart"), ideal),
        ),
        Promise(
            f"{TRIVIAL // divide:,} trivial tasks on {WORKERS} workers, against inline",
            1.0,
            "times",
            divided(figures.wall("trivial", "kart"), figures.wall("trivial", "kart, inline")),
        ),
        Promise(
            f"{GROWING[-1] // divide:,} tasks: peak memory of the process that builds",
            200,
            "MB",
            divided(memory, MEGABYTE),
        ),
        Promise(
            f"{GROWING[-1] // divide:,} tasks: time per task against {GROWING[0] // divide:,} tasks (linear is 1)",
            1.25,
            "times",
            divided(each, divided(figures.wall("growing", smallest), GROWING[0] // divide)),
        ),
    ]
    rows = [
        [one.what, f"{one.limit:g} {one.unit}", f"{one.value:.3g} {one.unit}", "yes" if one.kept else "**no**"]
        for one in promises
        if one.value is not None
    ]
    yield from table_lines(["promised", "at most", "measured", "kept"], rows)


def _long(figures: Figures, divide: int) -> Iterator[str]:
    ideal = LONG // divide * SECONDS / WORKERS
    rows = [["the ideal", number(ideal, 1, 2), number(1.0, 1, 2), ""]]
    rows += [
        [
            name,
            number(figures.wall("long", name), 1, 2),
            number(divided(figures.wall("long", name), ideal), 1, 2),
            number(figures.process_cpu("long", name), 1, 2),
        ]
        for name in _names("long", figures)
    ]
    yield from table_lines(["", "wall s", "of the ideal", "CPU s"], rows)


def _trivial(figures: Figures, divide: int) -> Iterator[str]:
    peers = {name for name, *_ in PEERS}
    rows: list[list[str]] = []
    for name in _names("trivial", figures):
        count = (TRIVIAL_OF_PEERS if name in peers else TRIVIAL) // divide
        wall, cpu = figures.wall("trivial", name), figures.process_cpu("trivial", name)
        per_task = (number(divided(one, count), 1e-3, 2) for one in (wall, cpu))
        rows.append([name, f"{count:,}", number(wall, 1, 2), *per_task])
    yield from table_lines(["", "tasks", "wall s", "wall per task, ms", "CPU per task, ms"], rows)


def _growing(figures: Figures, divide: int) -> Iterator[str]:
    rows: list[list[str]] = []
    for count in GROWING:
        name = f"{count:,}"
        wall = figures.wall("growing", name)
        memory = figures.of("growing", name, lambda cost: float(cost.facts["memory"]))
        per_task = number(divided(wall, count // divide), 1e-3, 3)
        rows.append([f"{count // divide:,}", number(wall, 1, 1), per_task, number(memory, MEGABYTE, 0)])
    yield from table_lines(["tasks", "wall s", "wall per task, ms", "peak MB of the process that builds"], rows)


def _names(case: str, figures: Figures) -> list[str]:
    """Who was measured, in the order of this file, whoever came first in a round."""
    measured = set(figures.names(case))
    return [name for name, *_ in (INLINE, KART, *PEERS, *POOLS) if name in measured]


def _write(text: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} has no place for the figures: {BEGIN}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
