"""``torch.manual_seed`` and its kin: torch's generators on the CPU and on every device.

A device is not touched for seeding's sake: where CUDA is not in use yet, torch keeps the seed and
applies it when it comes into use. What it kept before is given back too.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from kart_core.plugin import Seeder
from kart_torch_seed import library

_LAZY: Final = ("cuda", "xpu")
"""The modules of torch whose devices come into use late, and that give the states of all of them."""


@attrs.frozen
class _Device:
    """One kind of device as the caller had it."""

    module: Any
    states: Any
    """The generators' states; None where the devices were not in use."""
    waiting: dict[str, Any]
    """The seeds that torch was to apply when they come into use."""

    def give_back(self) -> None:
        if self.states is not None:
            self.module.set_rng_state_all(self.states)
            return
        tracker = _tracker(self.module)
        if not self.module.is_initialized():
            tracker.__dict__.update(self.waiting)
            return
        # A task brought the devices into use: they get what they would have got from the caller.
        calls = [call for call in self.waiting.get("call_order", ()) if call]
        if not calls:
            self.module.seed_all()  # nobody seeded them: torch begins with numbers of the system
        for call, _ in calls:
            call()


@attrs.frozen
class _Callers:
    """Torch's generators as the caller had them."""

    cpu: Any
    mps: Any
    devices: tuple[_Device, ...]


def _seed(value: int) -> None:
    library.torch().manual_seed(value)


def _seed_cuda(value: int) -> None:
    library.torch().cuda.manual_seed_all(value)


def _save() -> _Callers:
    torch = library.torch()
    modules = [module for name in _LAZY if (module := getattr(torch, name, None)) is not None]
    return _Callers(
        torch.get_rng_state(),
        torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        tuple(_Device(module, _states(module), {**_tracker(module).__dict__}) for module in modules),
    )


def _states(module: Any) -> Any:
    return module.get_rng_state_all() if module.is_initialized() else None


class _NoTracker:
    """For a release of torch that keeps the waiting seeds elsewhere: they are not given back."""


def _tracker(module: Any) -> Any:
    return getattr(module, "_lazy_seed_tracker", None) or _NoTracker()


def _restore(callers: _Callers) -> None:
    torch = library.torch()
    torch.set_rng_state(callers.cpu)
    if callers.mps is not None:
        torch.mps.set_rng_state(callers.mps)
    for device in callers.devices:
        device.give_back()


def records() -> list[Seeder]:
    """The seeders of torch, all of which give back every generator."""
    methods = {
        "torch.manual_seed": _seed,
        "torch.random.manual_seed": _seed,
        "torch.cuda.manual_seed_all": _seed_cuda,
    }
    return [Seeder(method, module="torch", seed=seed, save=_save, restore=_restore) for method, seed in methods.items()]
