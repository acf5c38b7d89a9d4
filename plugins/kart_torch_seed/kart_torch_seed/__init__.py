"""Seeds numpy and PyTorch for kart, and gives the caller's generators back as they were.

Installed is enabled: ``numpy.random.seed`` is in kart's default list, and a task whose
``fix_random_seed_methods`` names ``torch.manual_seed`` has torch seeded, on the CPU and on every
CUDA device. Neither library is imported before a task needs it.

In the code of a task only `worker_init` is ever called by name, by data loaders with workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kart_core.plugin import Hasher, Plugin, Seeder, hookimpl
from kart_torch_seed import determinism, hashers, numpy_seeder, torch_seeders
from kart_torch_seed.workers import worker_init

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TorchSeed", "worker_init"]


class TorchSeed(Plugin):
    """The generators of numpy and torch, torch's deterministic algorithms, and ids of torch's values."""

    @hookimpl
    def kart_seeders(self) -> Sequence[Seeder]:
        return [numpy_seeder.record(), *torch_seeders.records(), determinism.record()]

    @hookimpl
    def kart_hashers(self) -> Sequence[Hasher]:
        return hashers.records()
