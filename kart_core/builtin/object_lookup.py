"""Many questions to a bucket with few requests: one for each object, or the pages of a listing.

A plan asks about thousands of objects of a few folders. A page of a listing tells of a thousand
keys, so where the keys that are asked for stand close together it replaces hundreds of requests;
where they are few among many others it tells next to nothing. Nobody knows before, so a listing is
begun, in several places of the key range at once, and given up as soon as its pages cost more than
the requests that they save.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from kart_core.builtin.gathering import gathered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kart_core.builtin.object_store import ObjectStore
    from kart_core.plugin import Stat

__all__ = ["look_many"]

_PAGE_COSTS = 8
"""As how many single requests a page counts: it takes longer, its pages follow one after another, and it is dearer."""

_ROOM = 0.95
"""The share of a page that one place's keys take, so that a few others among them cost no further page."""


async def look_many(store: ObjectStore, keys: Sequence[str]) -> list[Stat | None]:
    """What is known of each object, in the order asked; None where there is none.

    Args:
        store: the store.
        keys: whole keys; one may be asked for twice.
    """
    found: dict[str, Stat | None] = {}

    async def one(key: str) -> None:
        found[key] = await store.look(key)

    async def listed(prefix: str, asked: Sequence[str]) -> None:
        await gathered([one(key) for key in await _walk(store, prefix, asked, found)])

    jobs = [
        one(group[0]) if len(group) == 1 else listed(prefix, group)
        for prefix, group in _places(keys, int(store.page_size * _ROOM))
    ]
    await gathered(jobs)
    return [found[key] for key in keys]


def _places(keys: Sequence[str], most: int) -> Iterator[tuple[str, list[str]]]:
    """The keys to be listed, by places of at most so many; those for which that is not worth it alone."""
    by_prefix: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        by_prefix.setdefault(_prefix(key), []).append(key)
    for prefix, group in by_prefix.items():
        if len(group) <= _PAGE_COSTS:
            yield from ((prefix, [key]) for key in group)
            continue
        group.sort()
        count = -(-len(group) // most)
        for i in range(count):
            yield prefix, group[i * len(group) // count : (i + 1) * len(group) // count]


def _prefix(key: str) -> str:
    """The folder of a key, and the part of its name before a unique id: other classes' results are not listed."""
    folder = key.rfind("/") + 1
    name = key.rfind("_", folder) + 1
    return key[: max(folder, name)]


async def _walk(store: ObjectStore, prefix: str, asked: Sequence[str], found: dict[str, Stat | None]) -> Sequence[str]:
    """Lists from the first of the sorted keys that are asked for to the last; gives those unknown where it gave up."""
    token: str | None = None
    pages = known = 0
    while True:
        page = await store.next_page(prefix, asked[0], token)
        pages += 1
        there = dict(page.entries)
        token = page.token
        # Some stores put what stands in deeper folders elsewhere in the order; files of one folder are sorted.
        last = next((key for key, _ in reversed(page.entries) if "/" not in key[len(prefix) :]), None)
        end = len(asked) if token is None else known if last is None else bisect_right(asked, last)
        for key in asked[known:end]:
            found[key] = there.get(key)
        known = max(known, end)
        if known == len(asked):
            return ()
        if known < pages * _PAGE_COSTS:
            return asked[known:]
