"""``python -m benchmarks.dask``: kart on Dask beside Dask's own futures, the same graphs on the same cluster.

Needs ``kart-dask``. Four graphs of 2,000 tasks: a wide one, layers of which each task needs two of the layer before, a
ladder, which is layers of two, and a chain, of which no two run at once. The bare futures keep their results in the
workers' memory; kart writes each to the disk, with its record, and looks whether it is there. Rounds are interleaved.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from distributed import Client, LocalCluster

import kart_core as kart

GROUPS, LEAVES, CHAIN = 20, 99, 2000
LAYERS, WIDTH = 20, 100
STEPS, SIDES = 1000, 2
ROUNDS = int(os.environ.get("ROUNDS", "3"))


class Leaf(kart.TaskOnKart[int]):
    """One of many."""

    i: int

    def run(self) -> int:
        return self.i


class Group(kart.TaskOnKart[int]):
    """The sum of some."""

    leaves: tuple[Leaf, ...]

    def run(self) -> int:
        return sum(self.load(self.leaves))


class Cell(kart.TaskOnKart[int]):
    """One of a layer."""

    i: int
    layer: int
    left: Cell | None = None
    right: Cell | None = None

    def run(self) -> int:
        if self.left is None or self.right is None:
            return self.i
        return (self.load(self.left) + self.load(self.right)) % 1000


class Link(kart.TaskOnKart[int]):
    """One after the other."""

    i: int
    before: Link | None = None

    def run(self) -> int:
        return 0 if self.before is None else self.load(self.before) + 1


def leaf(i: int) -> int:
    return i


def group(*leaves: int) -> int:
    return sum(leaves)


def cell(left: int, right: int) -> int:
    return (left + right) % 1000


def link(before: int) -> int:
    return before + 1


def wide_bare(client: Client) -> int:
    groups = [
        client.submit(group, *(client.submit(leaf, g * LEAVES + i, pure=False) for i in range(LEAVES)), pure=False)
        for g in range(GROUPS)
    ]
    return sum(client.gather(groups))


def wide_kart(folder: str) -> int:
    groups = [Group(leaves=tuple(Leaf(i=g * LEAVES + i) for i in range(LEAVES))) for g in range(GROUPS)]
    return sum(kart.build(*groups, executor="dask", workspace_directory=folder))


def layers_bare(client: Client, layers: int = LAYERS, width: int = WIDTH) -> int:
    row = [client.submit(leaf, i, pure=False) for i in range(width)]
    for _ in range(layers - 1):
        row = [client.submit(cell, row[i], row[(i + 1) % width], pure=False) for i in range(width)]
    return sum(client.gather(row))


def layers_kart(folder: str, layers: int = LAYERS, width: int = WIDTH) -> int:
    row = [Cell(i=i, layer=0) for i in range(width)]
    for layer in range(1, layers):
        row = [Cell(i=i, layer=layer, left=row[i], right=row[(i + 1) % width]) for i in range(width)]
    return sum(kart.build(*row, executor="dask", workspace_directory=folder))


def chain_bare(client: Client) -> int:
    last = client.submit(leaf, 0, pure=False)
    for _ in range(CHAIN - 1):
        last = client.submit(link, last, pure=False)
    return int(last.result())


def chain_kart(folder: str) -> int:
    last = Link(i=0)
    for i in range(1, CHAIN):
        last = Link(i=i, before=last)
    return kart.build(last, executor="dask", workspace_directory=folder)


def main() -> None:
    """Measures and prints."""
    # Workers import these tasks by the module's name.
    from benchmarks import dask as here

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        os.environ["KART_DASK__ADDRESS"] = cluster.scheduler_address
        times: dict[str, list[float]] = {}
        size = GROUPS * (LEAVES + 1)
        assert size == CHAIN == LAYERS * WIDTH == STEPS * SIDES
        for number in range(ROUNDS + 1):
            cases: dict[str, tuple[Callable[[], int], Callable[[], int]]] = {
                "wide": (lambda: here.wide_bare(client), lambda n=number: here.wide_kart(f"{folder}/wide{n}")),
                "layers": (lambda: here.layers_bare(client), lambda n=number: here.layers_kart(f"{folder}/layers{n}")),
                "ladder": (
                    lambda: here.layers_bare(client, STEPS, SIDES),
                    lambda n=number: here.layers_kart(f"{folder}/ladder{n}", STEPS, SIDES),
                ),
                "chain": (lambda: here.chain_bare(client), lambda n=number: here.chain_kart(f"{folder}/chain{n}")),
            }
            for graph, runs in cases.items():
                found: list[int] = []
                for who, run in zip(("bare futures", "kart"), runs, strict=True):
                    clock = time.perf_counter()
                    found.append(run())
                    if number:  # the first round warms the cluster up
                        took = (time.perf_counter() - clock) / size * 1000
                        times.setdefault(f"{graph}, {who}", []).append(took)
                assert found[0] == found[1], found
    print("| ms per task | median | all rounds |\n| --- | ---: | --- |")
    for name, took_each in times.items():
        print(f"| {name} | {statistics.median(took_each):.2f} | {', '.join(f'{one:.2f}' for one in took_each)} |")
    for graph in ("wide", "layers", "ladder", "chain"):
        ratio = statistics.median(times[f"{graph}, kart"]) / statistics.median(times[f"{graph}, bare futures"])
        print(f"{graph}: kart takes {ratio:.2f} times what bare futures take")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
