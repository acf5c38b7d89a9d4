"""Takes three seconds to import."""

from __future__ import annotations

import time

from kart_core.plugin import Plugin, Serializer, hookimpl

time.sleep(3)


class Slow(Plugin):
    @hookimpl
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer("slow", dump=print, load=print)]
