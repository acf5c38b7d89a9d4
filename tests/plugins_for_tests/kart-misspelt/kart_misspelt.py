"""Writes the name of a hook wrongly."""

from __future__ import annotations

from kart_core.plugin import Plugin, Serializer, hookimpl


class Misspelt(Plugin):
    @hookimpl
    def kart_serialisers(self) -> list[Serializer]:
        return [Serializer("misspelt", dump=print, load=print)]
