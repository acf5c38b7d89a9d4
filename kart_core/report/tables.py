"""Facts as aligned lines: a table that a person reads and that a program can cut at two spaces."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from kart_core.report.say import console, duration, say, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from kart_core.records import Record


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, styles: Sequence[str | None] = ()) -> None:
    """Draws a table.

    Args:
        headings: one for each column.
        rows: the cells of each row.
        styles: of each column, as Rich names them.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    last = len(headings) - 1
    for position, heading in enumerate(headings):
        style = styles[position] if position < len(styles) else None
        # On a terminal the last column, the longest, is folded; elsewhere nothing is.
        table.add_column(Text(heading), style=style, no_wrap=position != last, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _draw(table)


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Draws pairs of a name and what is to be said of it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts:
        table.add_row(Text(name), Text(fact))
    _draw(table)


def _draw(table: Table) -> None:
    out = console()
    if out.is_terminal:
        out.print(table, soft_wrap=False)
        return
    with out.capture() as drawn:
        out.print(table, soft_wrap=False)
    for line in drawn.get().splitlines():
        say(line.rstrip())


def show_record(found: Record, gone: Iterable[str] = ()) -> None:
    """Draws how a result came to be.

    Args:
        found: the record.
        gone: which of its files are not there any more.
    """
    started = datetime.fromtimestamp(found.started).astimezone()
    facts = [
        ("task", found.task),
        ("unique id", found.unique_id),
        ("attempt", found.attempt),
        ("started", f"{started:%Y-%m-%d %H:%M:%S %z} on {found.host}"),
        ("took", duration(found.seconds)),
    ]
    facts += [("parameter", f"{name} = {_written(value)}") for name, value in found.parameters.items()]
    facts += [("setting", f"{name} = {_written(value)}") for name, value in found.settings.items()]
    facts += (
        [("seed", ", ".join(f"{name} = {_written(value)}" for name, value in found.seed.items()))] if found.seed else []
    )
    facts += [
        ("requires", f"{required.task} {required.unique_id} (attempt {required.attempt or 'not read'})")
        for required in found.requirements
    ]
    facts += [
        ("output", f"{output.path} ({size(output.size)}, {output.serializer}, digest {output.digest})")
        for output in found.outputs
    ]
    facts += [("gone", f"{url} is not there any more; the task runs again when it is asked for") for url in gone]
    facts += [("log", f"{name} = {_written(value)}") for name, value in found.log.items()]
    facts += [("code", found.code)] if found.code else []
    facts += [("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items()))]
    facts += [("plugin", f"{name} {version}") for name, version in found.plugins.items()]
    show_facts(facts)


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
