"""``torch.use_deterministic_algorithms`` as a method of a task's list: same seed, same bits, also on a GPU.

Named in ``fix_random_seed_methods``, it is in the task's id and record as every method is, for one
class or, by configuration, for many. Without a number to take, it ignores the seed.
"""

from __future__ import annotations

import os
from typing import Final

import attrs

from kart_core.plugin import Seeder
from kart_torch_seed import library

_WORKSPACE: Final = "CUBLAS_WORKSPACE_CONFIG"
_FIXED: Final = ":4096:8"
"""https://docs.nvidia.com/cuda/cublas/#results-reproducibility names it and ``:16:8``, which is slower."""


@attrs.frozen
class _Callers:
    """What the caller had set."""

    algorithms: bool
    warn_only: bool
    benchmark: bool
    cudnn: bool
    workspace: str | None


def _seed(_value: int) -> None:
    torch = library.torch()
    # Read when cuBLAS is first used in the process, so it is left as it is where somebody set it.
    os.environ.setdefault(_WORKSPACE, _FIXED)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _save() -> _Callers:
    torch = library.torch()
    return _Callers(
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        os.environ.get(_WORKSPACE),
    )


def _restore(callers: _Callers) -> None:
    torch = library.torch()
    torch.use_deterministic_algorithms(callers.algorithms, warn_only=callers.warn_only)
    torch.backends.cudnn.benchmark = callers.benchmark
    torch.backends.cudnn.deterministic = callers.cudnn
    if callers.workspace is None:
        os.environ.pop(_WORKSPACE, None)
    else:
        os.environ[_WORKSPACE] = callers.workspace


def record() -> Seeder:
    """The record of the method; what it sets is given back when a task runs that does not name it."""
    return Seeder("torch.use_deterministic_algorithms", module="torch", seed=_seed, save=_save, restore=_restore)
