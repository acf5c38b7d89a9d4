"""In each process that a test of the core's starts: local workspaces are kept in a bucket, see `mirrored`."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from typing import Any

_PATCHED = "kart_core.builtin.storages"


class _Finder(importlib.abc.MetaPathFinder):
    """Lets `mirrored` change one module as soon as it is imported, and no other import be for that."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != _PATCHED:
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(fullname)
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            import mirrored

            mirrored.install(module)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("CORE_TEST_BUCKET"):
    sys.meta_path.insert(0, _Finder())
