"""What a worker of a cluster on this machine does first: it leaves the terminal of the run."""

from __future__ import annotations

import os

__all__ = ["dask_setup"]


def dask_setup(worker: object) -> None:
    """Called by Dask in a worker that starts.

    Ctrl-C goes to all that a terminal has in its foreground. It is for the run to decide what ends; a worker that
    ended by itself could not tell any more what it has stored.

    Args:
        worker: Dask's.
    """
    del worker
    os.setsid()
