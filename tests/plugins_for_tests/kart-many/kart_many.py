"""Two plugins in one distribution: one with two suffixes, and a listener."""

from __future__ import annotations

from typing import ClassVar

from kart_core.plugin import Event, Plugin, Serializer, hookimpl


class FirstOfMany(Plugin):
    @hookimpl
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer(suffix, dump=print, load=print) for suffix in ("many1", "many2")]


class SecondOfMany(Plugin):
    kinds: ClassVar[list[str]] = []

    @hookimpl
    def kart_event(self, event: Event) -> None:
        self.kinds.append(event.kind)
