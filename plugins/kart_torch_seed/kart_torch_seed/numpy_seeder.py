"""``numpy.random.seed``: the old-style functions of `numpy.random` draw from a bit generator of kart's own.

The caller's bit generator is taken out and put back: nothing that a task draws, and no seed,
ever reaches it.
"""

from __future__ import annotations

from typing import Any

import attrs

from kart_core.plugin import Seeder
from kart_torch_seed import library


@attrs.frozen
class _Callers:
    """What the functions of `numpy.random` had before."""

    bit_generator: Any
    own: Any
    """Kart's, where the caller is itself a task."""
    gauss: float | None
    """The second of a pair of normal numbers, of which the first was drawn; it is not in the bit generator."""


class _NumpySeeder:
    def __init__(self) -> None:
        self._own: Any = None
        self._spare: list[Any] = []  # to make one costs more than all else here

    def seed(self, value: int) -> None:
        random = library.numpy_random()
        if self._own is not None and random.get_bit_generator() is not self._own:
            random.set_bit_generator(self._own)  # an earlier task has put in another
        random.seed(value)

    def save(self) -> _Callers:
        random = library.numpy_random()
        state = random.get_state(legacy=False)
        gauss = state["gauss"] if state["has_gauss"] else None
        callers = _Callers(random.get_bit_generator(), self._own, gauss)
        self._own = self._spare.pop() if self._spare else random.MT19937(0)
        random.set_bit_generator(self._own)
        return callers

    def restore(self, callers: _Callers) -> None:
        random = library.numpy_random()
        random.set_bit_generator(callers.bit_generator)
        if self._own is not None:
            self._spare.append(self._own)
        self._own = callers.own
        if callers.gauss is not None:
            # Changing the bit generator drops the number that was kept.
            state = random.get_state(legacy=False)
            random.set_state({**state, "has_gauss": 1, "gauss": callers.gauss})


def record() -> Seeder:
    """The seeder of numpy's global generator, for old-style functions such as `numpy.random.randint`."""
    numpy = _NumpySeeder()
    return Seeder("numpy.random.seed", module="numpy.random", seed=numpy.seed, save=numpy.save, restore=numpy.restore)
