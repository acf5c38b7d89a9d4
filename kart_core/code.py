"""The code of a task class as a digest: what the class says, and what the helpers say that it names.

The digest is over the syntax tree. Comments, layout, docstrings and annotations do not count; a
changed constant or helper does, as far as it stands in the same module, in a module of the same
top-level package (of the same folder, for a script), or is named in ``uses``. Nothing is imported
or run to find it out, and it is the same on every Python that kart supports.

A name that is not followed (of another library, or built in) counts by its dotted name. Another
task class counts by its name too: it has a digest of its own.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs

from kart_core import sources
from kart_core.syntax import references

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.sources import Home, Source
    from kart_core.syntax import Reference, Scope

_TASKS = ("TaskOnKart", "ExternalTask", "WrapperTask")


def remember(module: str) -> None:
    """Keeps the text of a module as it is now, so that an edit while the program runs is not taken for its code.

    Called when a task class is made. It reads the module's own file, once, and parses nothing;
    a module without source (built in, typed at a prompt) is passed over.

    Args:
        module: the name under which the module stands in `sys.modules`.
    """
    loaded = sys.modules.get(module)
    if loaded is not None:
        sources.of_module(loaded)


_told: weakref.WeakKeyDictionary[type, str | None] = weakref.WeakKeyDictionary()


def tell(cls: type, told: str | None) -> None:
    """Gives a class that was made in another process the digest that it has there, where its source is.

    Args:
        cls: the class as it is here.
        told: what `digest` gave there.
    """
    _told[cls] = told


def digest(cls: type, uses: Sequence[object] = ()) -> str | None:
    """The digest of a class and of what it uses.

    Args:
        cls: the class, a task class as a rule.
        uses: functions, classes and modules of any package that count too, with what they
            themselves name in their own package. Their order does not matter.

    Returns:
        32 hexadecimal digits, or None where the class has no source (typed at a plain prompt,
        made by a function, shipped without it).
    """
    if cls in _told:
        return _told[cls]
    found = _found(cls, uses)
    return found.digest if found else None


def modified(cls: type, uses: Sequence[object] = ()) -> float:
    """When the newest of the source files that take part in `digest` was modified.

    Returns:
        Seconds since the epoch; 0.0 where there is no file.
    """
    if cls in _told:
        return 0.0
    found = _found(cls, uses)
    return max((source.modified for source in found.sources), default=0.0) if found else 0.0


@attrs.frozen
class _Found:
    digest: str
    sources: tuple[Source, ...]
    uses: tuple[object, ...]

    def answers(self, uses: Sequence[object]) -> bool:
        """Whether the same was asked, and no module that took part was imported anew since."""
        same = len(uses) == len(self.uses) and all(one is other for one, other in zip(uses, self.uses, strict=True))
        return same and all(source.current for source in self.sources)


_cache: weakref.WeakKeyDictionary[type, _Found] = weakref.WeakKeyDictionary()


def _found(cls: type, uses: Sequence[object]) -> _Found | None:
    known = _cache.get(cls)
    if known is not None and known.answers(uses):
        return known
    start = _definition_of(cls)
    if start is None:
        return None
    used = sorted(uses, key=lambda use: str(getattr(use, "__qualname__", getattr(use, "__name__", ""))))
    _cache[cls] = found = _collect(start, [_used(use) for use in used], tuple(uses))
    return found


# ---- what a name can lead to


@attrs.frozen
class Definition:
    """The statements that give a name its meaning."""

    source: Source = attrs.field(eq=id)
    scope: Scope = attrs.field(eq=id)
    """Where they stand."""
    name: str
    pieces: tuple[ast.AST, ...] = attrs.field(eq=False)


@attrs.frozen
class Module:
    """A whole module that is at home."""

    home: Home
    name: str


@attrs.frozen
class Outside:
    """What is not followed: it counts by this name."""

    name: str


Target = Definition | Module | Outside
Busy = frozenset[tuple[str, int, str]]


def _definition_of(value: Any) -> Definition | None:
    """The statement of a class or function: of those with its qualified name, the one that holds its code."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    qualname = getattr(value, "__qualname__", None)
    if module is None or not isinstance(qualname, str):
        return None
    source = sources.of_module(module) or sources.of_cell(value, vars(module))
    if source is None or source.scope is None:
        return None
    found: list[tuple[Scope, ast.AST]] = [(source.scope, source.scope.node)]
    for name in qualname.split("."):
        if name != "<locals>":
            found = [inner for scope, node in found for inner in scope.named(node, name)]
    if not found:
        return None
    code = [one for one in sources.codes(value) if _is_file(one.co_filename, source.path)]
    lines = [one.co_firstlineno for one in code]
    scope, node = next((one for one in reversed(found) if _holds(one[1], lines)), found[-1])
    return Definition(source, scope, qualname.rpartition("<locals>.")[2], (node,))


def _is_file(name: str, path: str) -> bool:
    """Whether code names a file; what is no file, such as code that attrs makes, begins with ``<``."""
    if name == path or name.startswith("<"):
        return name == path
    try:
        return os.path.abspath(name) == path
    except FileNotFoundError:  # the task has deleted the working directory
        return False


def _holds(node: Any, lines: Sequence[int]) -> bool:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return any(first <= line <= node.end_lineno for line in lines)


def _used(use: object) -> Target:
    while isinstance(use, functools.partial):
        use = use.func
    if isinstance(use, ModuleType):
        source = sources.of_module(use)
        return Module(source.home, source.name) if source else Outside(use.__name__)
    value: Any = inspect.unwrap(use) if callable(use) and not isinstance(use, type) else use
    return _definition_of(value) or Outside(_name(value))


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"


# ---- what a name means where it stands


def _look_up(source: Source, scope: Scope, path: Sequence[str], busy: Busy = frozenset()) -> list[Target]:
    """What a dotted name means; an empty list where the module does not bind it."""
    name, *rest = path
    here: Scope | None = scope
    while here is not None:
        if name in here.bindings:
            break
        here = here.outer
    key = (source.path, id(here), name)
    if key in busy:  # two modules that import a name from each other
        return []
    busy |= {key}
    if here is not None:
        targets: list[Target] = []
        pieces: list[ast.AST] = []
        for binding in here.bindings[name]:
            pieces.extend(binding.pieces)
            if binding.imports is not None:
                module, member = binding.imports
                targets.extend(_import(source, module, binding.level, (*member, *rest), busy))
        return [*targets, Definition(source, here, name, tuple(pieces))] if pieces else targets
    for module, level in source.scope.stars if source.scope else ():
        found = _import(source, module, level, path, busy)
        if not any(isinstance(target, Outside) for target in found):
            return found
    return _look_up_live(source, name) if source.live is not None else []


def _import(source: Source, module: str, level: int, members: Sequence[str], busy: Busy) -> list[Target]:
    """What an import statement in `source` gives."""
    if level:
        package = source.package.split(".")
        module = ".".join([*package[: len(package) - level + 1], *([module] if module else [])])
    home = source.home
    if not home.holds(module):
        return [Outside(".".join([module, *members]))]
    while members:
        inside = sources.at_home(home, module)
        if inside is not None and inside.scope is not None:
            found = _look_up(inside, inside.scope, members, busy)
            if found:
                return found
        submodule = f"{module}.{members[0]}"
        if home.file(submodule) is None and (inside is not None or not home.holds(submodule)):
            # At home, yet bound by no statement. The module's name is left out: a script's
            # is another when it is imported.
            return [Outside("." + ".".join(members))]
        module, members = submodule, members[1:]
    return [Module(home, module)]


def _look_up_live(source: Source, name: str) -> list[Target]:
    """What a name of another notebook cell means: it can only be asked of the notebook itself."""
    namespace = source.live or {}
    if name not in namespace:
        return []
    value = namespace[name]
    if isinstance(value, ModuleType):
        return [Outside(value.__name__)]
    if callable(value):
        if getattr(value, "__module__", None) != namespace.get("__name__"):
            return [Outside(_name(value))]
        cell = sources.of_cell(value, namespace)
        if cell is None or cell is source or cell.scope is None:
            return []
        return _look_up(cell, cell.scope, [name])
    try:
        ast.literal_eval(ascii(value))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    return [Outside(ascii(value))]


# ---- from a class to everything that takes part


def _collect(start: Definition, uses: Sequence[Target], given: tuple[object, ...]) -> _Found:
    """Numbers the definitions in the order in which they are met, and digests each with what its names lead to.

    The numbers stand for the modules' names, so that a script and the module that it is when
    imported have one digest.
    """
    from kart_core.digest import blake2b

    numbers: dict[Target, int] = {start: 0}
    queue: list[Target] = [start]
    taking_part: dict[str, Source] = {}

    def number(target: Target) -> str:
        if isinstance(target, Outside):
            return target.name
        if target not in numbers:
            numbers[target] = len(queue)
            queue.append(target)
        return f"#{numbers[target]}"

    hasher = blake2b(b"kart code 1\n", digest_size=16)
    hasher.update(f"uses {[number(use) for use in uses]}\n".encode())
    for target in queue:
        definition = _whole(target) if isinstance(target, Module) else target
        if not isinstance(definition, Definition):
            continue
        taking_part[definition.source.path] = definition.source
        text, names = definition.source.read(definition.pieces)
        links: set[str] = set()
        for reference in names:
            for meant in _resolve(definition, reference):
                is_other_task = not reference.base and isinstance(meant, Definition) and _is_task(meant)
                links.add(f"{reference.text} is {'a task' if is_other_task else number(meant)}")
        hasher.update("\n".join([text, *sorted(links), "\0"]).encode())
    return _Found(hasher.hexdigest(), tuple(taking_part.values()), given)


def _resolve(definition: Definition, reference: Reference) -> list[Target]:
    if reference.imports:
        module, level = reference.imports
        return _import(definition.source, module, level, reference.path, frozenset())
    return _look_up(definition.source, definition.scope, reference.path)


def _whole(module: Module) -> Definition | None:
    source = sources.at_home(module.home, module.name)
    if source is None and module.name in sys.modules:
        source = sources.of_module(sys.modules[module.name])
    if source is None or source.scope is None:
        return None
    return Definition(source, source.scope, "", (source.scope.node,))


def _is_task(definition: Definition) -> bool:
    """Whether a definition is that of a task class, as far as its bases tell."""
    queue = [definition]
    for one in queue:
        bases = [base for piece in one.pieces if isinstance(piece, ast.ClassDef) for base in piece.bases]
        for base in references(bases) if bases else ():
            for target in _resolve(one, base):
                if isinstance(target, Outside) and _is_task_class(target.name):
                    return True
                if isinstance(target, Definition) and target not in queue:
                    queue.append(target)
    return False


def _is_task_class(dotted: str) -> bool:
    package, _, name = dotted.rpartition(".")
    if package.partition(".")[0] == "kart_core":
        return name in _TASKS
    value = getattr(sys.modules.get(package), name, None)
    return isinstance(value, type) and any(
        base.__name__ in _TASKS and base.__module__.startswith("kart_core.") for base in value.__mro__
    )
