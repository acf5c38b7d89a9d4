"""The plugins that come with kart: local and memory storage, serializers, hashers, a seeder, executors.

They are made like any other plugin. The host looks their records up by name, so that only
the module of a name in use is imported; `Builtin` gives them all at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kart_core.plugin import Plugin, hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.plugin import Executor, Hasher, Seeder, Serializer, Storage

__all__ = ["Builtin"]


class Builtin(Plugin):
    """Every built-in record.

    Example:
        >>> [record.suffix for record in Builtin().kart_serializers()]
        ['pkl', 'json', 'txt', 'bin', 'npy', 'npz']
    """

    @hookimpl
    def kart_storages(self) -> Sequence[Storage]:
        return _records("local_store", "memory_store")

    @hookimpl
    def kart_serializers(self) -> Sequence[Serializer]:
        return _records("serializers", "arrays")

    @hookimpl
    def kart_hashers(self) -> Sequence[Hasher]:
        return _records("hashers")

    @hookimpl
    def kart_seeders(self) -> Sequence[Seeder]:
        return _records("seeders")

    @hookimpl
    def kart_executors(self) -> Sequence[Executor]:
        return [*_records("executors"), *_records("processes")]


def _records(*modules: str) -> Sequence[Any]:
    found = (import_module(f"kart_core.builtin.{module}").RECORDS for module in modules)
    return [record for records in found for record in records.values()]
