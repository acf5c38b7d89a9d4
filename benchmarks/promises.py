"""What kart promises of its speed, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.contenders import LEAVES, MEGABYTES, PLANNED
from benchmarks.figures import Figures, divided


@dataclass(frozen=True)
class Promise:
    """One promise.

    Attributes:
        what: what is measured.
        limit: the most that it may be, in `unit`.
        unit: what stands behind both figures.
        value: what was measured; None where it was not.
    """

    what: str
    limit: float
    unit: str
    value: float | None

    @property
    def kept(self) -> bool:
        """Whether the figure is within its limit."""
        return self.value is not None and self.value <= self.limit


def promises(figures: Figures) -> Iterator[Promise]:
    """Every promise, in the order in which it is shown."""
    cold, stored = "fan-out, cold", "fan-out, leaves stored"
    work = figures.cpu(cold, "kart")
    yield Promise(
        f"fan-out of {LEAVES:,} trivial tasks, cold, against the plain loop",
        3,
        "times",
        divided(work, figures.cpu(cold, "plain loop")),
    )
    yield Promise(
        "the same against the loop of two files (an aim)",
        1.6,
        "times",
        divided(work, figures.cpu(cold, "plain loop, two files")),
    )
    looked_at = figures.cpu(stored, "kart, only requires")
    one = figures.cpu("one leaf, stored", "kart")
    yield Promise(
        "the same graph, leaves stored and looked at, per task above the imports",
        15,
        "µs",
        divided(looked_at, LEAVES * 1e-6),
    )
    yield Promise(
        "the same, per task above a graph of one leaf",
        15,
        "µs",
        divided(looked_at - one, (LEAVES - 1) * 1e-6) if looked_at is not None and one is not None else None,
    )
    each = figures.of("construction", "kart", lambda cost: float(cost.facts["seconds_each"]))
    yield Promise("construction with id, four scalar parameters", 7, "µs", divided(each, 1e-6))
    attrs = figures.cpu("import", "attrs")
    for module, what in (
        ("kart_core", "`import kart_core` against `import attrs`"),
        ("kart_core:TaskOnKart,build", "the same, with `TaskOnKart` and `build` taken from it"),
    ):
        yield Promise(what, 1.4, "times", divided(figures.cpu("import", module), attrs))
    for name, limit in (("kart-core --help", 150), ("kart-core run, stored", 350)):
        program, comma, rest = name.partition(",")
        cpu = figures.process_cpu("command line", name)
        yield Promise(f"`{program}`{comma}{rest}, whole process", limit, "ms", divided(cpu, 1e-3))
    yield Promise(
        f"planning {PLANNED[-1]:,} tasks, time per task against {PLANNED[0]:,} tasks (linear is 1)",
        1.25,
        "times",
        divided(figures.planning_each(PLANNED[-1]), figures.planning_each(PLANNED[0])),
    )
    yield Promise("memory of a planned task, the task itself included", 1024, "bytes", figures.planning_memory())
    for suffix, other in (("npy", "numpy"), ("pkl", "pickle")):
        for step in ("dump", "load"):
            case = f".{suffix}, {step}"
            time = divided(figures.cpu(case, "kart"), figures.cpu(case, other))
            yield Promise(f"array of {MEGABYTES} MB, `.{suffix}`, {step}, against {other}'s own", 1.3, "times", time)
            peak = figures.array_peak(case, "kart")
            yield Promise(f"array of {MEGABYTES} MB, `.{suffix}`, {step}, peak memory", 1.15, "times the array", peak)
