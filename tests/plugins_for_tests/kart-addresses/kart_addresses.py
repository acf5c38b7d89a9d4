"""Ids of tasks that take internet addresses."""

from __future__ import annotations

from ipaddress import IPv4Address

from kart_core.plugin import Hasher, Plugin, hookimpl


class Addresses(Plugin):
    @hookimpl
    def kart_hashers(self) -> list[Hasher]:
        return [Hasher("ipaddress.IPv4Address", encode=self.encode)]

    def encode(self, value: IPv4Address) -> bytes:
        return str(value).encode()
