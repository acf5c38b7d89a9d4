"""How modules and classes are named where names outlive the process: in ids, records and pickles.

A script runs as ``__main__``, yet what it stores must be found and read by whoever imports
it. So ``__main__`` is named here as its module would be when imported, and while the script
runs the two names are one module.
"""

from __future__ import annotations

import os
import sys
from types import FunctionType, ModuleType


def module_name(name: str) -> str:
    """The importable name of the module `name`.

    Args:
        name: a module's ``__name__``.

    Returns:
        `name` itself, except for ``__main__``: the name under which the running script would be
        imported from its own folder, or ``__main__`` where it has no file (a notebook, a prompt).

    Example:
        >>> module_name("collections.abc")
        'collections.abc'
    """
    if name not in ("__main__", "__mp_main__"):
        return name
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        return name
    return os.path.splitext(os.path.basename(str(file)))[0]


def qualified_name(cls: type) -> str:
    """``module.Qual.Name`` of a class, as ids and records name it."""
    return f"{module_name(cls.__module__)}.{cls.__qualname__}"


def adopt_main() -> None:
    """Makes ``__main__`` and its importable name one module, so that what a script pickles can be read elsewhere.

    Classes and functions that the script defines name their module by its importable name
    afterwards. Nothing is done where another module already has that name.
    """
    main = sys.modules.get("__main__")
    name = module_name("__main__")
    if main is None or name == "__main__":
        return
    if sys.modules.setdefault(name, main) is main:
        _rename(main, name)


def _rename(holder: ModuleType | type, name: str) -> None:
    for value in list(vars(holder).values()):
        if isinstance(value, (type, FunctionType)) and value.__module__ == "__main__":
            value.__module__ = name
            if isinstance(value, type):
                _rename(value, name)
