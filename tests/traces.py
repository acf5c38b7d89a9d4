"""What tasks leave for a test to find, whichever process ran them.

The files of tests whose tasks run in several processes too (`test_parallel_as_inline` lists them) note here what a list
or a global of the test would miss: its copy in another process is another one.
"""

from __future__ import annotations

import os
from typing import Final

IN_PROCESSES: Final = os.environ.get("KART_EXECUTOR", "inline") != "inline"
"""Whether tasks run in other processes than that of the tests."""

STORE_AT: Final = os.environ.get("CORE_TESTS_STORE_AT")
"""A URL below which the tests store, where that is not on this machine: the tests of plugins give a bucket's."""

_NOTES: Final = "notes.txt"


def note(what: object) -> None:
    """Adds a line to the notes, which lie in the working directory; several processes may do so at a time."""
    file = os.open(_NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{what}\n".encode())
    finally:
        os.close(file)


def notes() -> list[str]:
    """What was noted, in its order."""
    try:
        with open(_NOTES, encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def noted() -> list[str]:
    """What was noted since this was last asked, in its order."""
    found = notes()
    if found:
        os.unlink(_NOTES)
    return found
