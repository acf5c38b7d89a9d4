"""Gives another record than the one that it announces."""

from __future__ import annotations

from kart_core.plugin import Plugin, Serializer, hookimpl


class Unannounced(Plugin):
    @hookimpl
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer("given", dump=print, load=print)]
