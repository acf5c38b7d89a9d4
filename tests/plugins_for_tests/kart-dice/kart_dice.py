"""Seeds the generator of the library ``dice``."""

from __future__ import annotations

import dice

from kart_core.plugin import Plugin, Seeder, hookimpl


class Dice(Plugin):
    @hookimpl
    def kart_seeders(self) -> list[Seeder]:
        return [Seeder("dice.seed", module="dice", seed=dice.seed, save=dice.state, restore=dice.restore)]
