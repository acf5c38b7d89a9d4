"""What the installed distributions announce that they provide, read without importing any of them.

A distribution announces each name in its ``entry_points.txt``. Only these small files are read,
and only those that speak of kart: `importlib.metadata` would parse all of them and takes thirty
times as long to import alone. It is asked where `sys.path` holds something other than a folder.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.metadata import Distribution

__all__ = ["Announcement", "canonical", "scan"]

_PREFIX = "kart_core."


@attrs.frozen
class Announcement:
    """One entry point of one distribution: a name that it provides."""

    group: str
    """The entry-point group: ``kart_core.storages``."""
    name: str
    """What is provided: ``s3``."""
    target: str
    """The plugin class that provides it: ``kart_s3:S3``."""
    distribution: str
    version: str


@attrs.frozen
class _Folder:
    """What was read in one folder of `sys.path`, for as long as the folder is unchanged."""

    changed: int
    found: Sequence[tuple[str, Sequence[Announcement]]]


_read: dict[str, _Folder] = {}


def canonical(name: str) -> str:
    """The form in which the names of distributions and plugins are compared.

    Example:
        >>> canonical("Kart.Torch-Seed")
        'kart_torch_seed'
    """
    return re.sub(r"[-_.]+", "_", name).strip("_").lower()


def scan(path: Sequence[str] | None = None) -> list[Announcement]:
    """Everything that is announced to kart on the path.

    Args:
        path: folders to look into, as in `sys.path`, which is taken when it is None.

    Returns:
        The announcements of every distribution, in the order of the path. Where a distribution
        is found twice, the first hides the other, as it does for Python's import.
    """
    found: list[tuple[str, Sequence[Announcement]]] = []
    for folder in dict.fromkeys(sys.path if path is None else path):
        found.extend(_announced_in(folder or os.curdir))
    if path is None:
        found.extend(_announced_by_finders())
    if not any(announced for _, announced in found):
        return []
    first: dict[str, Sequence[Announcement]] = {}
    for distribution, announced in found:
        first.setdefault(canonical(distribution), announced)
    return [announcement for announced in first.values() for announcement in announced]


def _announced_in(folder: str) -> Sequence[tuple[str, Sequence[Announcement]]]:
    try:
        changed = os.stat(folder).st_mtime_ns
    except OSError:
        return ()  # sys.path often names what is not there
    folder = os.path.abspath(folder)
    known = _read.get(folder)
    if known is None or known.changed != changed:
        if os.path.isdir(folder) and not folder.endswith(".egg"):
            found = list(_of_folder(folder))
        else:
            found = list(_of_metadata(_distributions(folder)))
        known = _read[folder] = _Folder(changed, found)
    return known.found


def _of_folder(folder: str) -> Iterator[tuple[str, Sequence[Announcement]]]:
    try:
        names = os.listdir(folder)
    except PermissionError:
        return  # what Python cannot list it cannot import from
    for name in sorted([name for name in names if name.endswith((".dist-info", ".egg-info"))]):
        text = _text(f"{folder}/{name}/entry_points.txt")
        if _PREFIX in text:
            headers = _text(f"{folder}/{name}/METADATA") or _text(f"{folder}/{name}/PKG-INFO")
            distribution = _header(headers, "Name") or name.split("-")[0]
            yield distribution, list(_parsed(text, distribution, _header(headers, "Version")))
        else:
            yield name.removesuffix(".dist-info").removesuffix(".egg-info").split("-")[0], ()


def _announced_by_finders() -> Iterator[tuple[str, Sequence[Announcement]]]:
    """What finders other than Python's own announce, such as those of frozen applications."""
    for finder in sys.meta_path:
        name: str = getattr(finder, "__name__", type(finder).__name__)
        if name != "PathFinder" and hasattr(finder, "find_distributions"):
            found: Iterable[Distribution] = finder.find_distributions()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
            yield from _of_metadata(found)  # pyright: ignore[reportUnknownArgumentType]


def _distributions(folder: str) -> Iterable[Distribution]:
    from importlib.metadata import distributions

    return distributions(path=[folder])


def _of_metadata(distributions: Iterable[Distribution]) -> Iterator[tuple[str, Sequence[Announcement]]]:
    for distribution in distributions:
        headers: Any = distribution.metadata
        name = str(headers["Name"])
        text = distribution.read_text("entry_points.txt") or ""
        yield name, list(_parsed(text, name, distribution.version))


def _text(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:  # a text file is longer in the making, and there may be hundreds
            return file.readall().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""


def _header(headers: str, name: str) -> str:
    for line in headers.splitlines():
        if not line:
            break  # the description follows
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def _parsed(text: str, distribution: str, version: str) -> Iterator[Announcement]:
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group.startswith(_PREFIX) and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            target = value.partition("[")[0].replace(" ", "")  # what stands in brackets are extras
            yield Announcement(group, name.strip(), target, distribution, version)
