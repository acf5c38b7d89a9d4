"""What only a command line can do wrong."""

from __future__ import annotations

import click


class BrokenModule(click.ClickException):
    """A module of the user's that cannot be imported; what it raised is the cause."""

    exit_code = 50
