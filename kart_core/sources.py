"""The source text of modules, read once for each import of them, and parsed when it is asked for.

A process runs the code that it imported, whatever has become of the file since: so the text is
kept from the time when the first task class of the module was made, and read anew only after a
reload.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import os
import sys
import weakref
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import attrs

from kart_core.syntax import Scope, canonical, references

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from kart_core.syntax import Reference

    Pieces: TypeAlias = tuple[int, ...]
    Reading: TypeAlias = tuple[str, list[Reference]]


@attrs.frozen
class Home:
    """The files among which helpers are followed: those of a top-level package, or of a script's folder."""

    package: str | None
    """The top-level package, or None for a folder."""
    folders: tuple[str, ...]

    def file(self, module: str) -> str | None:
        """The file of a module that is at home here, found without importing it."""
        parts = module.split(".")
        if not self._may_hold(parts[0]):
            return None
        for folder in self.folders:
            path = os.path.join(folder, *parts[1 if self.package else 0 :])
            for candidate in (path + ".py", os.path.join(path, "__init__.py")):
                if os.path.isfile(candidate):
                    return candidate
        return None

    def holds(self, module: str) -> bool:
        """Whether the module is at home here; it may be a package without a file of its own."""
        parts = module.split(".")
        if self.package is not None:
            return parts[0] == self.package
        return self._may_hold(parts[0]) and (
            self.file(module) is not None or any(os.path.isdir(os.path.join(one, *parts)) for one in self.folders)
        )

    def _may_hold(self, package: str) -> bool:
        # A script beside a checkout of kart does not have kart for its code.
        return package == self.package if self.package is not None else package not in ("", "kart_core")


@attrs.define(eq=False)
class Source:
    """The text of one module, or of one notebook cell."""

    path: str
    name: str
    """The module's name; that of the script's own import is ``__main__``."""
    package: str
    """What a relative import is relative to."""
    home: Home
    text: str | bytes = attrs.field(repr=False)
    load: weakref.ref[Any] | None = None
    """The import of which this is the text; None while the module is not imported."""
    live: dict[str, Any] | None = attrs.field(default=None, repr=False)
    """For a cell: the notebook's namespace, where names of other cells are found."""
    _scope: Scope | None = attrs.field(default=None, init=False, repr=False)
    _readings: dict[Pieces, Reading] = attrs.field(factory=dict["Pieces", "Reading"], init=False, repr=False)

    @property
    def scope(self) -> Scope | None:
        """The module's names, or None where the text is no Python."""
        if self._scope is None:
            try:
                self._scope = Scope(ast.parse(self.text))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return None
        return self._scope

    def read(self, pieces: Sequence[ast.AST]) -> Reading:
        """What pieces of this source say, and the names that they use, in order; found once for all who ask."""
        key = tuple(map(id, pieces))
        if key not in self._readings:
            self._readings[key] = "\n".join(map(canonical, pieces)), sorted(references(pieces))
        return self._readings[key]

    @property
    def current(self) -> bool:
        """Whether this is still the text of the import that is in use."""
        if _sources.get(self.path) is not self:
            return False
        module = sys.modules.get(self.name)
        return module is None or self.live is not None or (self.load is not None and self.load() is _load(module))

    @property
    def modified(self) -> float:
        """When the file was modified, in seconds since the epoch; 0.0 where there is no file."""
        try:
            return os.stat(self.path).st_mtime
        except OSError:
            return 0.0


_sources: dict[str, Source] = {}
"""By path, or by the name that a notebook gives a cell."""


def of_module(module: ModuleType) -> Source | None:
    """The text of an imported module, or None where it has no file with source."""
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or path.endswith((".pyc", ".so", ".pyd")):
        return None
    path = os.path.abspath(path)
    load = _load(module)
    known = _sources.get(path)
    if known is not None and known.load is not None and known.load() is load:
        return known
    spec = module.__spec__
    name = spec.name if spec is not None else module.__name__
    text = _read(path)
    if text is None and spec is not None and spec.loader is not None:
        text = _text_of_loader(spec.loader, name)
    if text is None:
        return None
    package = getattr(module, "__package__", None) or ""
    return _keep(Source(path, name, package, _home(name, path), text, load=weakref.ref(load)))


def at_home(home: Home, module: str) -> Source | None:
    """The text of a module that is at home there, imported or not; nothing is imported for it."""
    path = home.file(module)
    if path is None:
        return None
    loaded = sys.modules.get(module)
    if loaded is not None and os.path.abspath(getattr(loaded, "__file__", None) or "") == path:
        return of_module(loaded)
    known = _sources.get(path)
    if known is not None:  # read for its text alone; or the script itself, imported under another name
        return known
    text = _read(path)
    if text is None:
        return None
    package = module if os.path.basename(path) == "__init__.py" else module.rpartition(".")[0]
    return _keep(Source(path, module, package, home, text))


def of_cell(value: object, namespace: dict[str, Any]) -> Source | None:
    """The notebook cell in which a function or class was typed, if the notebook keeps it."""
    for code in codes(value):
        cell = code.co_filename
        known = _sources.get(cell)
        if known is not None and known.live is namespace:
            return known
        lines = linecache.getlines(cell) if not cell.startswith("<attrs generated") else []
        if lines:
            home = Home(None, (os.getcwd(),))
            return _keep(Source(cell, "__main__", "", home, "".join(lines), live=namespace))
    return None


_WRAPPERS: dict[type, str] = {
    staticmethod: "__func__",
    classmethod: "__func__",
    property: "fget",
    functools.cached_property: "func",
}


def codes(value: object) -> Iterator[CodeType]:
    """The code of a function, or of the methods of a class."""
    members: Iterable[Any] = vars(value).values() if isinstance(value, type) else (value,)
    for member in members:
        function: Any = member
        for wrapper, inner in _WRAPPERS.items():
            if isinstance(member, wrapper):
                function = getattr(member, inner)
        code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _keep(source: Source) -> Source:
    _sources[source.path] = source
    return source


def _load(module: ModuleType) -> object:
    # A reload gives the module a new specification. A script has none.
    return module.__spec__ if module.__spec__ is not None else module


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _text_of_loader(loader: Any, name: str) -> str | None:
    """The text of a module in a zip file."""
    try:
        return loader.get_source(name)
    except (AttributeError, ImportError, OSError):
        return None


def _home(name: str, path: str) -> Home:
    top = sys.modules.get(name.partition(".")[0])
    folders = getattr(top, "__path__", None)
    if top is not None and folders is not None:
        return Home(top.__name__, tuple(map(os.path.abspath, folders)))
    folder = os.path.dirname(path)
    # The neighbours of an installed module are other distributions.
    installed = os.path.basename(folder) in ("site-packages", "dist-packages")
    return Home(None, () if installed else (folder,))
