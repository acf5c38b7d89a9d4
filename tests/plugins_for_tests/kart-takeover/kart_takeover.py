"""Announces a name that is built in."""

from __future__ import annotations

from kart_core.plugin import Plugin, Serializer, hookimpl


class Takeover(Plugin):
    @hookimpl
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer("json", dump=print, load=print)]
