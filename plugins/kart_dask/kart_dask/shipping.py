"""Shipping: the modules of a project are brought to workers that do not have them."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import sys
import zipfile
from typing import TYPE_CHECKING, Any

from kart_core.errors import PluginError
from kart_dask import travelling

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["packed", "ship"]

_MOST = 32 * 2**20
_LEFT_OUT = {"__pycache__", "node_modules", "resources", "site-packages", "build", "dist"}

_log = logging.getLogger("kart_core.build")


def ship(client: Any) -> None:
    """Brings the modules beside the script, or in the working directory, to all workers, present and future.

    Raises:
        PluginError: they are too much to be code.
    """
    folder = project_folder()
    content = packed(folder)
    digest = hashlib.sha256(content).hexdigest()[:12]
    _log.info("the modules of %s go to the workers (%d KiB)", folder, len(content) >> 10)
    plugin = travelling.by_value(travelling.shipped)(f"kart-code-{digest}", content)
    client.register_plugin(plugin, name=f"kart-code-{digest}")


def project_folder() -> str:
    """The folder of the script that runs; the working directory for a command."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    first = os.path.dirname(os.path.abspath(file)) if file else ""
    is_script = first and first in map(os.path.abspath, sys.path) and getattr(main, "__spec__", None) is None
    return first if is_script and not _is_environment(first) else os.getcwd()


def packed(folder: str) -> bytes:
    """The modules and packages below a folder as a zip file, the same bytes for the same files.

    Folders that are no packages, hidden ones, and those of environments and results are left out.

    Raises:
        PluginError: they are too much to be code.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_files(folder)):
            with open(path, "rb") as file:
                archive.writestr(zipfile.ZipInfo(os.path.relpath(path, folder)), file.read())
            if buffer.tell() > _MOST:
                raise PluginError(
                    f"what is to be shipped from {folder} is more than {_MOST >> 20} MiB (up to {path}); put the code "
                    "into a folder of its own, or install it on the workers and leave ship out"
                )
    return buffer.getvalue()


def _files(folder: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or entry.name in _LEFT_OUT:
            continue
        if entry.is_dir():
            # A folder without modules of its own may be a namespace package; one with an environment is none.
            if not _is_environment(entry.path):
                yield from _files(entry.path)
        elif entry.name.endswith(".py"):
            yield entry.path


def _is_environment(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "pyvenv.cfg")) or os.path.basename(folder) in ("bin", "Scripts")
