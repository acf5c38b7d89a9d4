"""Medians of what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from benchmarks.contenders import MEGABYTES, PLANNED
from benchmarks.measure import Cost


@dataclass
class Figures:
    """What was measured, by case and name, once a round. A figure is the median over the rounds, or None."""

    costs: dict[tuple[str, str], list[Cost]] = field(default_factory=dict[tuple[str, str], list[Cost]])

    def add(self, case: str, name: str, cost: Cost) -> None:
        """Takes one measurement."""
        self.costs.setdefault((case, name), []).append(cost)

    def names(self, case: str) -> list[str]:
        """Who was measured doing `case`, in the order in which they were."""
        return [name for kind, name in self.costs if kind == case]

    def of(self, case: str, name: str, value: Callable[[Cost], float]) -> float | None:
        """The median of any value of the measurements."""
        found = self.costs.get((case, name))
        return median(value(cost) for cost in found) if found else None

    def process_cpu(self, case: str, name: str) -> float | None:
        """CPU seconds of the whole process."""
        return self.of(case, name, lambda cost: cost.cpu)

    def process_wall(self, case: str, name: str) -> float | None:
        """Seconds from the process's start to its end."""
        return self.of(case, name, lambda cost: cost.wall)

    def import_cpu(self, case: str, name: str) -> float | None:
        """CPU seconds until the imports were done, the interpreter's start included."""
        return self.of(case, name, lambda cost: float(cost.facts["import_cpu"]))

    def cpu(self, case: str, name: str) -> float | None:
        """CPU seconds of the work: from the end of the imports until the result is there."""
        return self.of(case, name, lambda cost: float(cost.facts["work_cpu"]))

    def wall(self, case: str, name: str) -> float | None:
        """Seconds of the work."""
        return self.of(case, name, lambda cost: float(cost.facts["work_wall"]))

    def array_peak(self, case: str, name: str) -> float | None:
        """The most memory that the work on the large array held, the array included, as a multiple of the array."""
        array = MEGABYTES * 1e6
        made_before = array if "dump" in case else 0.0
        peak = self.of(case, name, lambda cost: cost.memory - float(cost.facts["import_memory"]) + made_before)
        return divided(peak, array)

    def planning_each(self, count: int) -> float | None:
        """CPU seconds per task of making and planning a graph of `count` tasks."""
        return divided(self.cpu("planning", f"{count:,} tasks"), count)

    def planning_memory(self) -> float | None:
        """Bytes per planned task: how much more the largest graph needs than one of 100 tasks."""
        smallest, largest = (
            self.of("planning", f"{count:,} tasks", lambda cost: cost.memory) for count in (100, PLANNED[-1])
        )
        if smallest is None or largest is None:
            return None
        return (largest - smallest) / (PLANNED[-1] - 100)


def divided(one: float | None, other: float | None) -> float | None:
    """One figure as a multiple of another; None where either is not known."""
    return one / other if one is not None and other else None
