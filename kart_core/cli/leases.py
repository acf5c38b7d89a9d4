"""The command that lists the leases of a workspace, and releases one: ``kart-core leases``."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from kart_core.cli.roots import configured
from kart_core.errors import MissingDataError, ParameterError
from kart_core.execution.leases import leases, release, release_expired
from kart_core.records import workspace_at
from kart_core.report.say import complain, duration, say
from kart_core.report.tables import show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.execution.leases import Held
    from kart_core.workspace import Workspace


def show_leases(
    workspace_directory: str | None,
    *,
    unique_id: str | None,
    expired: bool,
    yes: bool,
    files: Sequence[str],
    plugin_settings: Sequence[str],
    disabled: Sequence[str],
    as_json: bool,
) -> int:
    """Lists the leases, or releases one or those that have expired; gives the exit code."""
    if expired and unique_id is not None:
        raise ParameterError("give --release ID or --release-expired, not both")
    with configured((), files, plugin_settings, disabled):
        workspace = workspace_at(workspace_directory)
        if workspace_directory is not None and "://" not in workspace.url and not os.path.isdir(workspace.url):
            raise click.UsageError(f"there is no folder {workspace.url}; name a workspace, as a folder or a URL")
        held = release_expired(workspace) if expired else leases(workspace)
        if unique_id is not None:
            return _release(workspace, _one(unique_id, held, workspace), yes=yes)
        elif expired and not as_json:
            for lease in held:
                say(f"{_what(lease)}: {lease.holder}, has not renewed it for {duration(lease.holder.expiry)}; released")
            if not held:
                say(f"{workspace.url} has no lease that has expired")
        elif as_json:
            say(json.dumps([_data(lease) for lease in held], indent=2, ensure_ascii=False))
        elif held:
            rows = ((lease.holder.task, lease.unique_id, str(lease.holder), _renewed(lease)) for lease in held)
            show_table(("task", "unique id", "held by", "renewed"), rows, styles=("bold",))
        else:
            say(f"{workspace.url} has no leases: nobody works there under one")
    return 0


def _one(digits: str, held: Sequence[Held], workspace: Workspace) -> Held:
    if not digits:
        raise ParameterError("--release takes a unique id, or its first digits")
    found = [lease for lease in held if lease.unique_id.startswith(digits.lower())]
    if not found:
        raise MissingDataError(f"{workspace.url} has no lease of {digits}; kart-core leases lists those that there are")
    if len(found) > 1:
        raise ParameterError(f"{digits} fits {len(found)} leases; give more digits")
    return found[0]


def _release(workspace: Workspace, lease: Held, *, yes: bool) -> int:
    """Releases a lease if nobody objects; gives the exit code."""
    what = _what(lease)
    say(f"{what}: {lease.holder}, renewed {_renewed(lease)}")
    if not yes and not _is_confirmed():
        say(f"{what}: not released")
        return 130
    gone = not release(workspace, lease.unique_id)
    say(f"{what}: {'it had been given back meanwhile' if gone else 'released'}")
    return 0


def _is_confirmed() -> bool:
    try:
        return click.confirm("Release it? If that process still works, its result will not be stored", err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        complain("")  # the question has no answer on its line
        raise click.UsageError(
            "nobody answers here whether to release it; give --yes to release without asking"
        ) from None


def _what(lease: Held) -> str:
    return f"{lease.holder.task or 'the task'} {lease.unique_id}"


def _renewed(lease: Held) -> str:
    if lease.renewed is None:
        return "at a time that the storage does not tell"
    return f"{duration(max(0.0, time.time() - lease.renewed))} ago by the storage's clock"


def _data(lease: Held) -> dict[str, Any]:
    holder = lease.holder
    return {
        "task": holder.task,
        "unique_id": lease.unique_id,
        "host": holder.host,
        "process": holder.process,
        "since": holder.since,
        "renewed": lease.renewed,
        "expiry": holder.expiry,
    }
