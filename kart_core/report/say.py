"""Lines for people, on whatever the output can show."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 10_000
"""Columns for an output that is no terminal: a program that reads it wants whole lines."""


def say(text: str, *, colour: str | None = None) -> None:
    """Prints a line on the standard output, on a terminal in a colour that click knows."""
    if colour is not None and is_terminal(sys.stdout) and "NO_COLOR" not in os.environ:
        import click

        text = click.style(text, fg=colour)
    _write(text, sys.stdout)


def complain(text: str) -> None:
    """Prints a line on the standard error output."""
    _write(text, sys.stderr)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person sees the stream as it is written."""
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def console(*, error: bool = False) -> Console:
    """A console of Rich, which takes whole lines where the output is no terminal."""
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds for people.

    Example:
        >>> duration(0.012), duration(3.25), duration(75), duration(7384)
        ('0.01 s', '3.2 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """A number of bytes for people.

    Example:
        >>> size(12), size(4096), size(419430528)
        ('12 B', '4.0 KiB', '400.0 MiB')
    """
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _write(text: str, stream: TextIO) -> None:
    stream.write(text + "\n")
    stream.flush()
