"""The commands about storage itself: ``kart-core storage sweep``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["storage_commands"]


@click.group("storage", short_help="Clean up behind killed uploads.")
def storage_commands() -> None:
    """Looks after a workspace's storage."""


@storage_commands.command("sweep", short_help="Find, and remove, the parts of killed uploads.")
@click.argument("url")
@click.option("--remove", is_flag=True, help="Remove them; without it they are only shown.")
@click.option(
    "--older-than",
    default="1d",
    show_default=True,
    metavar="DURATION",
    help="Only uploads that began longer ago than this (90s, 12h, 1d): a younger one may be under way.",
)
@click.option("--config", "files", multiple=True, metavar="FILE", help="Read this .toml or .ini file too.")
@click.option(
    "--set", "plugin_settings", multiple=True, metavar="plugins.NAME.KEY=VALUE", help="Set a plugin's setting."
)
def sweep_command(
    url: str, *, remove: bool, older_than: str, files: Sequence[str], plugin_settings: Sequence[str]
) -> int:
    """Shows the parts that killed uploads left below URL, and with --remove removes them.

    A large result goes to a bucket in parts that nobody sees before the last has come. When the process that sends them
    is killed, they stay, and are paid for.

    \b
    Examples:
      kart-core storage sweep s3://bucket/results
      kart-core storage sweep s3://bucket/results --older-than 12h --remove
    """  # noqa: D301 - click reads the backspace
    from datetime import timedelta

    from kart_core.builtin.object_store import ObjectStore
    from kart_core.cli.roots import configured
    from kart_core.parameters import ParameterFault, parse_text
    from kart_core.report.say import duration, say
    from kart_core.workspace import open_workspace

    try:
        age = parse_text(older_than, timedelta)
    except ParameterFault as fault:
        raise click.UsageError(f"--older-than: {fault}") from None
    assert isinstance(age, timedelta)
    with configured((), files, plugin_settings):
        store = open_workspace(url).store
        if not isinstance(store, ObjectStore):
            say(f"{url}: nothing to sweep, since uploads to this storage leave no parts")
            return 0
        now = time.time()
        count = young = 0
        for leftover in store.leftovers():
            since = None if leftover.started is None else now - leftover.started
            if since is not None and since < age.total_seconds():
                young += 1
                continue
            if remove:
                store.sweep(leftover)
            count += 1
            began = "" if since is None else f", begun {duration(max(since, 0.0))} ago"
            say(f"{'removed' if remove else 'found'} {leftover.path}{began}")
    uploads = f"{count} upload{'' if count == 1 else 's'}"
    kept = f"; {young} younger than {older_than} left alone" if young else ""
    if remove:
        say(f"removed the parts of {uploads}{kept}")
    else:
        say(f"found the parts of {uploads}{kept}" + ("; add --remove to remove them" if count else ""))
    return 0
