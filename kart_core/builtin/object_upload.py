"""A large upload: content goes to a bucket in parts, which are removed again where it fails."""

from __future__ import annotations

import asyncio
import logging
from math import ceil
from typing import TYPE_CHECKING, Any

from kart_core.builtin.gathering import gathered
from kart_core.builtin.object_facts import Refused, new_note

if TYPE_CHECKING:
    from collections.abc import Callable

    from kart_core.builtin.object_store import ObjectStore

__all__ = ["upload_parts"]

_log = logging.getLogger("kart_core.storage")

_PARTS = 9_000
"""Parts of one upload; stores take 10,000."""

_IN_FLIGHT = 64 << 20
"""Bytes of parts that are held in memory together, more or less."""


async def upload_parts(store: ObjectStore, key: str, size: int, read: Callable[[int, int], bytes]) -> None:
    """Sends content in parts; whoever reads sees nothing of it before the end.

    Args:
        store: the store.
        key: the object's whole key.
        size: bytes.
        read: gives the content from a byte on, so many bytes of it.
    """
    granule = 1 << 18  # Google takes parts in multiples of 256 KiB
    length = max(store.part_size, ceil(size / _PARTS / granule) * granule)
    count = ceil(size / length)
    note = new_note()
    begun = await store.trying(lambda: store.begin(key, size, note))
    sent: list[Any] = [None] * count
    numbers = iter(range(count))

    async def send() -> None:
        for index in numbers:
            start = index * length
            data = await asyncio.to_thread(read, start, min(length, size - start))
            last = index == count - 1
            sent[index] = await store.trying(lambda: store.part(begun, index + 1, start, data, last))  # noqa: B023

    at_once = max(1, min(store.parts_at_once, count, _IN_FLIGHT // length))
    try:
        await gathered([send() for _ in range(at_once)])
        try:
            await store.trying(lambda: store.finish(begun, sent))
        except Refused as refused:
            # The upload is not known any more: a try of which the answer was lost has ended it.
            if refused.fault.kind != "missing" or await store.mine(key, note) is None:
                raise
    except BaseException:
        await asyncio.shield(_drop(store, key, begun))
        raise


async def _drop(store: ObjectStore, key: str, begun: Any) -> None:
    try:
        async with store.slots:
            await store.abort(begun)
    except Exception as error:
        why = store.meant(error).why
        _log.warning(
            "an upload to %s failed, and what it had sent could not be removed (%s); "
            "kart-core storage sweep %s finds it",
            key,
            why,
            store.url,
        )
