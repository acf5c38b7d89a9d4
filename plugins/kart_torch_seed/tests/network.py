"""A small network that learns to read the digits of the demo, from a data loader whose workers draw too."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import kart_torch_seed
import numpy as np

import kart_core as kart

METHODS = ("random.seed", "numpy.random.seed", "torch.manual_seed", "torch.use_deterministic_algorithms")


class Noisy:
    """Pictures that are moved and blurred at random when a worker reads them."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        self.pixels = (pixels[:512] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        self.digits = digits[:512]

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch

        picture = np.roll(self.pixels[index], random.choice([-1, 0, 1]), axis=2)
        picture = picture + np.random.normal(0, 0.05, picture.shape).astype(np.float32)
        return torch.from_numpy(picture) + 0.05 * torch.randn(1, 8, 8), int(self.digits[index])


class Numbers:
    """What a worker draws for each of eight samples, with its number."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> list[float]:
        import torch

        worker = torch.utils.data.get_worker_info()
        return [float(worker.id), random.random(), float(np.random.random()), float(torch.rand(1).item())]


def loader(samples: Any, **options: Any) -> Any:
    """A data loader of two workers that gives the same every time."""
    import torch

    return torch.utils.data.DataLoader(
        samples,
        num_workers=2,
        shuffle=True,
        generator=kart.rng("loader", kind="torch"),
        worker_init_fn=kart_torch_seed.worker_init,
        **options,
    )


class Drawn(kart.TaskOnKart[list[list[float]]]):
    """What the workers draw in two epochs."""

    def run(self) -> list[list[float]]:
        batches = loader(Numbers(), batch_size=None)
        return [numbers for _ in range(2) for numbers in batches]


class Train(kart.TaskOnKart[str]):
    """The digest of the weights after two epochs."""

    device: str = "cpu"
    fix_random_seed_methods: Sequence[str] = METHODS

    def run(self) -> str:
        import torch

        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Flatten(),
            torch.nn.Linear(288, 10),
        ).to(self.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        batches = loader(Noisy(), batch_size=64)
        first = loss = float("inf")
        for epoch in range(2):
            for pictures, digits in batches:
                optimizer.zero_grad()
                error = torch.nn.functional.cross_entropy(network(pictures.to(self.device)), digits.to(self.device))
                error.backward()
                optimizer.step()
                loss = float(error)
            first = loss if epoch == 0 else first
        self.task_log["losses"] = [first, loss]
        weights = b"".join(weight.detach().cpu().numpy().tobytes() for weight in network.parameters())
        return hashlib.sha256(weights).hexdigest()
