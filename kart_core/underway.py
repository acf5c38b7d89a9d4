"""What is on its way: files that are being stored while the next task runs.

Who asks this process for one of them waits until it is stored; by the order in which tasks run it
is there. What a task requires is never on its way when it runs, so this is for what it reads, looks
at or builds besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from kart_core.workspace import Workspace

_files: dict[tuple[str, str], Future[Any]] = {}


def announce(workspace: Workspace, paths: Sequence[str], stored: Future[Any]) -> None:
    """Says that files are on their way.

    Args:
        workspace: where they will be.
        paths: their paths in it.
        stored: done when they are stored, or cannot be.
    """
    keys = [(workspace.url, path) for path in paths]
    for key in keys:
        _files[key] = stored

    def arrived(_: Future[Any]) -> None:
        for key in keys:
            if _files.get(key) is stored:
                del _files[key]

    stored.add_done_callback(arrived)


def anything() -> bool:
    """Whether anything is on its way."""
    return bool(_files)


def wait_for(workspace: Workspace, path: str) -> None:
    """Waits until a file that is on its way is stored, or cannot be: that is told where its task is."""
    if _files:
        stored = _files.get((workspace.url, path))
        if stored is not None:
            stored.exception()
