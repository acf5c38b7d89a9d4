"""The name by which another process finds a class or function, where there is one."""

from __future__ import annotations

import ast
import os
import sys
import weakref
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

from kart_core.naming import module_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_NAMELESS = (type(None), type(...), type(NotImplemented))  # pickle knows these three by heart


def by_reference(named: object) -> bool:
    """Whether another process with the same ``sys.path`` can import a class or function.

    Example:
        >>> by_reference(dict), by_reference(lambda: 1)
        (True, False)
    """
    return reference_to(named) is not None


def reference_to(named: Any) -> tuple[str, str] | None:
    """The module and the qualified name by which another process finds a class or function, or None."""
    module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if any(named is one for one in _NAMELESS):
        return module, name
    importable = module_name(module)
    holder = sys.modules.get(importable) or sys.modules.get(module)
    if holder is None or "<" in name:
        return None
    try:
        found = reduce(getattr, name.split("."), cast("Any", holder))
    except AttributeError:
        return None
    if found is not named or not can_import(importable, holder):
        return None
    if holder is sys.modules.get("__main__") and name.partition(".")[0] not in _bound_by_import(holder):
        return None
    return importable, name


def look_up(module: str, name: str) -> Any:
    """What a name means in a module, which is imported for it."""
    __import__(module)
    return reduce(getattr, name.split("."), cast("Any", sys.modules[module]))


def reduced(named: Any, reference: tuple[str, str]) -> Any:
    """What a pickler is told of something that can be imported: a script's own things by the script's name."""
    return NotImplemented if reference[0] == named.__module__ else (look_up, reference)


# --- which modules can be imported

_known: dict[str, tuple[weakref.ref[ModuleType], bool]] = {}


def can_import(name: str, module: ModuleType) -> bool:
    """Whether importing `name` elsewhere gives what is loaded here as `module`; asked of the finders once."""
    known = _known.get(name)
    if known is None or known[0]() is not module:
        known = _known[name] = weakref.ref(module), _find(name, module)
    return known[1]


def _find(name: str, module: ModuleType) -> bool:
    if name == "__main__":
        return False
    if name.partition(".")[0] in sys.stdlib_module_names and module is not sys.modules.get("__main__"):
        return True
    above, _, last = name.rpartition(".")
    path: Any = None
    if above:
        parent = sys.modules.get(above)
        if parent is None or not can_import(above, parent):
            return False
        path = getattr(parent, "__path__", None)
    spec = _spec(name, path) if path is not None or not above else None
    file = getattr(module, "__file__", None)
    if spec is None:
        # What is no file below an importable package was put there by the package itself.
        return bool(above) and file is None and getattr(sys.modules[above], last, None) is module
    if not isinstance(file, str):
        return not isinstance(spec.origin, str) or not os.path.exists(spec.origin)
    return isinstance(spec.origin, str) and os.path.realpath(spec.origin) == os.path.realpath(file)


def _spec(name: str, path: Any) -> ModuleSpec | None:
    # Not importlib.util.find_spec, which answers from sys.modules.
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except (ImportError, AttributeError):
            continue
        if spec is not None:
            return spec
    return None


# --- what an import of the script binds

_names: dict[str, frozenset[str]] = {}


def _bound_by_import(main: ModuleType) -> frozenset[str]:
    """The names that a script binds when it is imported: not what a guarded part or a prompt after it adds."""
    file = str(getattr(main, "__file__", ""))
    if file not in _names:
        try:
            with open(file, "rb") as source:
                tree = ast.parse(source.read())
        except (OSError, SyntaxError, ValueError):
            return frozenset()
        _names[file] = frozenset(_bound(tree.body))
    return _names[file]


def _bound(statements: list[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement.name
        elif isinstance(statement, ast.If) and "__name__" in ast.dump(statement.test):
            yield from _bound(statement.orelse)
        else:
            for node in ast.walk(statement) if not hasattr(statement, "body") else ():
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
                elif isinstance(node, ast.alias):
                    yield (node.asname or node.name).partition(".")[0]
            for part in ("body", "orelse", "finalbody"):
                yield from _bound(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _bound(handler.body)
