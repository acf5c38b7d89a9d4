"""Forgot the marker of its hook."""

from __future__ import annotations

from kart_core.plugin import Plugin, Serializer


class Unmarked(Plugin):
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer("unmarked", dump=print, load=print)]
