"""``python -m benchmarks``: measures kart beside its peers and writes docs/benchmarks.md.

Each measurement is a process of its own. A round measures every contender of a group once, in new
folders; the rounds follow each other, so that what disturbs the machine for a while disturbs all
alike. The groups follow each other too: arrays would leave the disk busy for small files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks import environments
from benchmarks.contenders import GROUPS, Measurement
from benchmarks.figures import Figures
from benchmarks.measure import Cost, measure
from benchmarks.table import page

WORK = environments.HERE / ".work"


def main() -> None:
    """Measures, prints what it finds, and writes the page where everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (7)")
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), default=[], help="these alone; writes no page")
    parser.add_argument("--output", type=Path, default=environments.HERE.parent / "docs" / "benchmarks.md")
    options = parser.parse_args()

    environments.make()
    shutil.rmtree(WORK, ignore_errors=True)
    figures = Figures()
    for name in options.only or GROUPS:
        for number in range(options.rounds):
            print(f"{name}: round {number + 1} of {options.rounds}", file=sys.stderr)
            folder = WORK / name / f"round_{number + 1}"
            for one in GROUPS[name](folder, number):
                figures.add(one.case, one.name, _measure(one))
            shutil.rmtree(folder / "arrays", ignore_errors=True)  # 2 GB; to remove few files disturbs nothing
    text = page(figures, rounds=options.rounds, versions=environments.versions())
    print(text)
    if not options.only:
        options.output.write_text(text, encoding="utf-8")
        print(f"written to {options.output}", file=sys.stderr)
    shutil.rmtree(WORK, ignore_errors=True)


def _measure(one: Measurement) -> Cost:
    for command in one.prepare:
        measure(command, cwd=one.cwd)
    return measure(one.command, result=one.result, cwd=one.cwd, environment=one.environment)


if __name__ == "__main__":
    main()
