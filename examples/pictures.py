"""A plugin of this project alone: results named `….png` hold a picture's bytes as they are.

It needs no package of its own: `kart.toml` beside this file names it under `[plugins] load`.
"""

from __future__ import annotations

from typing import BinaryIO

from kart_core.plugin import Plugin, Serializer, hookimpl


class Pictures(Plugin):
    """Writes and reads pictures that are already encoded."""

    @hookimpl
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer("png", dump=self.dump, load=self.load, types=("builtins:bytes",))]

    def dump(self, picture: bytes, file: BinaryIO) -> None:
        if not picture.startswith(b"\x89PNG"):
            raise ValueError("these bytes are no PNG picture")
        file.write(picture)

    def load(self, file: BinaryIO) -> bytes:
        return file.read()
