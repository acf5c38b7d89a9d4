"""Tables as CSV files: lists of rows of texts."""

from __future__ import annotations

import csv
import io
from typing import BinaryIO

from kart_core.plugin import Plugin, Serializer, hookimpl


class Csv(Plugin):
    @hookimpl
    def kart_serializers(self) -> list[Serializer]:
        return [Serializer("csv", dump=self.dump, load=self.load, types=("builtins:list",))]

    def dump(self, value: list[list[str]], file: BinaryIO) -> None:
        if not all(isinstance(cell, str) for row in value for cell in row):
            raise TypeError("a CSV file holds texts only")
        text = io.StringIO()
        csv.writer(text).writerows(value)
        file.write(text.getvalue().encode())

    def load(self, file: BinaryIO) -> list[list[str]]:
        return list(csv.reader(io.StringIO(file.read().decode(), newline="")))
