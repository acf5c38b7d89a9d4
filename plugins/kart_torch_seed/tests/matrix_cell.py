"""One cell of the reproducibility matrix: the pipeline, and the circumstances under which it runs.

Imported by a process of each column's Python; it writes what it found as JSON.
"""

from __future__ import annotations

import json
import logging
import platform
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kart_core as kart
from kart_core.builtin.local_store import LocalStore
from kart_core.plugin import Plugin, Storage, hookimpl

# --- what the tasks draw; each source is drawn from twice, with everything that kart does for a task in between


def from_random() -> list[Any]:
    deck = list(range(10))
    random.shuffle(deck)
    return [random.random(), random.randint(0, 10**12), random.gauss(0, 1), random.choices("abc", k=3), deck]


def from_numpy() -> list[Any]:
    import numpy as np

    draws = np.random.random(2), np.random.randint(0, 10**6, 3), np.random.randn(3), np.random.permutation(5)
    return [drawn.tolist() for drawn in draws]


def from_numpy_rng() -> list[Any]:
    generator = kart.rng("numbers")
    draws = generator.random(2), generator.integers(0, 10**12, 3), generator.normal(size=3), generator.permutation(5)
    return [drawn.tolist() for drawn in draws]


def from_random_rng() -> list[Any]:
    generator = kart.rng("numbers", kind="random")
    return [generator.random(), generator.randint(0, 10**12), generator.sample(range(100), 3)]


def from_torch() -> list[Any]:
    import torch

    draws = torch.randn(40), torch.rand(2, 2), torch.randperm(9), torch.nn.Linear(3, 2).weight.detach()
    return [drawn.tolist() for drawn in draws]


def from_torch_rng() -> list[Any]:
    import torch

    return torch.randn(5, generator=kart.rng("numbers", kind="torch")).tolist()


def from_cuda() -> list[Any]:
    import torch

    draws = torch.randn(40, device="cuda"), torch.rand(2, 2, device="cuda")
    return [drawn.tolist() for drawn in draws]


def from_loader() -> list[Any]:
    import kart_torch_seed
    import torch

    loader = torch.utils.data.DataLoader(
        Samples(),
        batch_size=None,
        shuffle=True,
        num_workers=2,
        generator=kart.rng("loader", kind="torch"),
        worker_init_fn=kart_torch_seed.worker_init,
    )
    return list(loader)


class Samples:
    """Numbers that the worker of a data loader draws."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> list[float]:
        import numpy as np
        import torch

        return [float(index), random.random(), float(np.random.random()), float(torch.rand(1).item())]


SOURCES: Mapping[str, Callable[[], list[Any]]] = {
    "random": from_random,
    "numpy, old style": from_numpy,
    'numpy, new style: kart.rng("…")': from_numpy_rng,
    'kart.rng("…", kind="random")': from_random_rng,
}
TORCH_SOURCES: Mapping[str, Callable[[], list[Any]]] = {
    "torch, CPU": from_torch,
    'kart.rng("…", kind="torch")': from_torch_rng,
    "torch, data loader with two workers": from_loader,
    "torch, CUDA": from_cuda,
}


# --- the pipeline


class Begin(kart.TaskOnKart[list[float]]):
    """What the others load while they draw."""

    def run(self) -> list[float]:
        return [random.random() for _ in range(3)]


class Draws(kart.TaskOnKart[list[Any]]):
    """What one source gives before and after everything else that a task does."""

    source: str
    begin: Begin

    def output(self) -> kart.Target:
        return self.make_target("draws.json")

    def run(self) -> None:
        draw = {**SOURCES, **TORCH_SOURCES}[self.source]
        first = draw()
        self.dump([first, self.load(self.begin)])
        self.task_log["drawn"] = len(first)
        logging.getLogger("user").debug("drawn from %s", self.source)
        self.dump([first, draw()])


class TorchDraws(Draws):
    """The same, with torch seeded."""

    fix_random_seed_methods: Sequence[str] = ("random.seed", "numpy.random.seed", "torch.manual_seed")


class Around(kart.TaskOnKart[int]):
    """Builds the others inside its own run, after it has drawn."""

    names: Sequence[str]

    def run(self) -> int:
        random.random()
        kart.build(*tasks(self.names))
        return 1


def names() -> list[str]:
    """The sources that can be had here."""
    if find_spec("torch") is None:
        return list(SOURCES)
    import torch

    return [*SOURCES, *(name for name in TORCH_SOURCES if name != "torch, CUDA" or torch.cuda.is_available())]


def tasks(sources: Sequence[str]) -> list[Draws]:
    begin = Begin()
    return [(Draws if name in SOURCES else TorchDraws)(source=name, begin=begin) for name in sources]


# --- the circumstances


class Retrying(LocalStore):
    """A store like those of cloud libraries: it draws the waits between its retries from `random`."""

    def stat(self, path: str) -> Any:
        random.random()
        return super().stat(path)

    def read(self, path: str) -> bytes:
        random.random()
        return super().read(path)

    def open(self, path: str) -> Any:
        random.random()
        return super().open(path)

    def put(self, path: str, data: bytes) -> None:
        random.random()
        super().put(path, data)


class Cloud(Plugin):
    @hookimpl
    def kart_storages(self) -> Sequence[Storage]:
        return [Storage("retrying", open=lambda url: Retrying(str(Path(url.removeprefix("retrying://")).absolute())))]


Build = Callable[..., object]


def first(build: Build, todo: Sequence[Draws]) -> None:
    for task in todo:
        build(task)


def last(build: Build, todo: Sequence[Draws]) -> None:
    build(*todo[::-1])


def partly_stored(build: Build, todo: Sequence[Draws]) -> None:
    build(*todo[::2])
    build(*todo)


def logging_at_debug(build: Build, todo: Sequence[Draws]) -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    build(*todo)


def after_draws(build: Build, todo: Sequence[Draws]) -> None:
    import numpy as np

    random.seed(3)
    np.random.seed(4)
    random.random(), np.random.randn(5)
    if find_spec("torch") is not None:
        import torch

        torch.manual_seed(5)
        torch.randn(7)
    build(*todo)


def on_a_retrying_storage(build: Build, todo: Sequence[Draws]) -> None:
    build(*todo)


def inside_another_task(build: Build, todo: Sequence[Draws]) -> None:
    build(Around(names=[task.source for task in todo]))


CIRCUMSTANCES: Mapping[str, Callable[[Build, Sequence[Draws]], None]] = {
    "from scratch, each first in a build": first,
    "from scratch, in one build, in the opposite order": last,
    "in part from stored results": partly_stored,
    "with logging at debug": logging_at_debug,
    "in a session that has drawn numbers, libraries imported": after_draws,
    "on a storage that retries inside `run()`": on_a_retrying_storage,
    "built inside another task": inside_another_task,
}


def main(circumstance: str, executor: Mapping[str, Any]) -> None:
    """Builds the pipeline as `executor` tells a build, and prints each source's id and digest, and the versions."""
    todo = tasks(names())

    def build(*some: kart.TaskOnKart[Any]) -> object:
        return kart.build(*some, **executor)

    CIRCUMSTANCES[circumstance](build, todo)
    import numpy

    found = {task.source: f"{task.unique_id}/{kart.record(task).outputs[0].digest}" for task in todo}
    versions = {"python": platform.python_version(), "numpy": numpy.__version__}
    if "torch" in sys.modules:
        versions["torch"] = sys.modules["torch"].__version__
    print(json.dumps({"found": found, "versions": versions}))
