"""Python syntax in one form: what a piece of code says, and which names from outside it uses.

`canonical` writes a syntax tree down so that only what can change a result counts, and the same
on every Python that kart supports (`ast.dump` differs between them). `Scope` and `references`
find what gives a name its meaning. Both walk with a list of their own, so that deep code, such as
a sum of thousands of terms, does not exhaust the stack.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_UNCOUNTED = frozenset({"annotation", "returns", "type_comment", "type_ignores", "type_params", "kind", "ctx"})
"""Fields of nodes that say nothing about what the code does, or that only some Pythons have."""

_POLICY = frozenset({"version", "uses", "namespace", "retries", "timeout", "priority", "resources"})
"""Class keywords of tasks that are no code: they count elsewhere, or say only where and how a task runs."""

_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def canonical(tree: ast.AST) -> str:
    r"""The tree as text, without comments, layout, docstrings and annotations.

    Example:
        >>> one = ast.parse("def f(x: int) -> int:\n    'Doubles.'\n    return x * 2  # twice")
        >>> two = ast.parse("def f(x):\n    return (x * 2)")
        >>> canonical(one) == canonical(two)
        True
    """
    words: list[str] = []
    # A word stands as it is; everything else is written when it comes up. A node is pushed
    # with whether it stands in the body of a class, where an annotation makes a field.
    stack: list[Any] = [(tree, False)]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            words.append(item)
            continue
        value, in_class = item
        if isinstance(value, ast.AnnAssign):
            value = _assignment(value, in_class)
        if isinstance(value, ast.Constant):
            words.append(_constant(value.value))
        elif isinstance(value, ast.AST):
            words.append("(" + type(value).__name__)
            stack.append(")")
            inside = isinstance(value, ast.ClassDef) or (in_class and not isinstance(value, _Function))
            parts = reversed(_parts(value, inside))
            stack.extend(part if isinstance(part, str) else (part, inside) for part in parts)
        elif isinstance(value, list):
            words.append("[")
            stack.append("]")
            stack.extend((part, in_class) for part in reversed(_listed(value)))
        else:
            words.append(ascii(value))
    return "\n".join(words)


def _listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _parts(node: ast.AST, in_class: bool) -> list[Any]:
    """The fields that count, each after its name."""
    parts: list[Any] = []
    for name in node._fields:
        value: Any = getattr(node, name, None)
        if name in _UNCOUNTED or value is None or value == []:
            continue
        if name in ("body", "orelse", "finalbody") and isinstance(value, list):
            value = [one for one in _listed(value) if not _says_nothing(one, in_class)]
        elif name == "keywords" and isinstance(node, ast.ClassDef):
            value = [one for one in node.keywords if one.arg not in _POLICY]
        elif name == "values" and isinstance(node, ast.JoinedStr):
            value = _joined(node.values)
        elif name == "format_spec" and not _joined(value.values):
            continue
        if value == []:
            continue
        parts += [name, value]
    return parts


def _says_nothing(statement: ast.AST, in_class: bool) -> bool:
    """Whether a statement is a docstring, `pass`, `...`, or an annotation that makes no field."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None and not in_class
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _assignment(node: ast.AnnAssign, in_class: bool) -> Any:
    # In a class the annotation makes a field (of a task, a dataclass), so there it counts
    # that there is one. Elsewhere `x: int = 1` is `x = 1`.
    if in_class or node.value is None:
        return ["field", node.target, node.value]
    return ast.Assign(targets=[node.target], value=node.value)


def _constant(value: object) -> str:
    # Not `repr`: which characters it escapes follows the Unicode tables of the Python that runs.
    if type(value) is int:
        return f"int {value:x}"  # a decimal number has a limit of 4,300 digits
    return f"{type(value).__name__} {value!a}"


def _joined(values: Iterable[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring texts as one: Pythons differ in how they cut them."""
    joined: list[ast.expr] = []
    for value in values:
        last = joined[-1] if joined else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            if isinstance(last, ast.Constant) and isinstance(last.value, str):
                joined[-1] = ast.Constant(last.value + value.value)
            elif value.value:
                joined.append(value)
        else:
            joined.append(value)
    return joined


# ---- names


class Binding(NamedTuple):
    """A statement that gives a name a meaning."""

    pieces: tuple[ast.AST, ...] = ()
    """What counts of it; empty for an import."""
    imports: tuple[str, tuple[str, ...]] | None = None
    """For an import: the module, and the name that is taken from it."""
    level: int = 0
    """For an import: how many dots it begins with."""


class Scope:
    """The names that the statements of a module or a function bind, and the scope around it.

    Attributes:
        node: the module or function.
        outer: the scope in which it stands.
        bindings: each name with the statements that give it a meaning.
        stars: the modules whose names are all imported, with the dots of the import.
    """

    def __init__(self, node: ast.AST, outer: Scope | None = None) -> None:
        self.node = node
        self.outer = outer
        self.bindings: dict[str, list[Binding]] = {}
        self.stars: list[tuple[str, int]] = []
        for statement, context in _flat(getattr(node, "body", [])):
            self._bind(statement, context)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for name in _arguments(node.args):
                self.bindings.setdefault(name, [])

    def named(self, node: ast.AST, name: str) -> list[tuple[Scope, ast.AST]]:
        """The functions and classes of a name directly in `node`, which stands here, each with its own scope."""
        scope = Scope(node, self) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else self
        statements = (statement for statement, _ in _flat(getattr(node, "body", [])))
        return [(scope, one) for one in statements if isinstance(one, _Named) and one.name == name]

    def _bind(self, statement: ast.stmt, context: tuple[ast.AST, ...]) -> None:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                target = (alias.name if alias.asname else top, ())
                self._add(alias.asname or top, Binding(imports=target))
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if alias.name == "*":
                    self.stars.append((statement.module or "", statement.level))
                else:
                    target = (statement.module or "", (alias.name,))
                    self._add(alias.asname or alias.name, Binding(imports=target, level=statement.level))
        elif isinstance(statement, _Named):
            self._add(statement.name, Binding((*context, statement)))
        elif not isinstance(statement, ast.AnnAssign) or statement.value is not None:
            pieces = _header(statement)
            for name in _bound_by(statement, pieces):
                self._add(name, Binding((*context, *pieces)))

    def _add(self, name: str, binding: Binding) -> None:
        self.bindings.setdefault(name, []).append(binding)


_Named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MayBind = (ast.MatchAs, ast.MatchStar, ast.MatchMapping, ast.Subscript, ast.Attribute)
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


def _flat(statements: Sequence[Any]) -> Iterator[tuple[Any, tuple[ast.AST, ...]]]:
    """The statements and, in place, those inside their blocks, with the conditions under which they stand."""
    stack: list[tuple[Any, tuple[ast.AST, ...]]] = [(one, ()) for one in reversed(statements)]
    while stack:
        statement, context = stack.pop()
        yield statement, context
        if isinstance(statement, _Named):
            continue
        if isinstance(statement, (ast.If, ast.While)):
            context = (*context, statement.test)
        for block in reversed(_BLOCKS):
            if block in statement._fields:
                stack.extend([(one, context) for one in reversed(getattr(statement, block))])


def _header(statement: ast.AST) -> tuple[ast.AST, ...]:
    """What a statement itself says, without the blocks below it."""
    if isinstance(statement, (ast.For, ast.AsyncFor)):
        return statement.target, statement.iter
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        return tuple(statement.items)
    if isinstance(statement, ast.Match):
        return (statement.subject,)
    if isinstance(statement, ast.match_case):
        return (statement.pattern, *([statement.guard] if statement.guard else []))
    if isinstance(statement, (ast.If, ast.While)):
        return (statement.test,)
    return () if any(block in statement._fields for block in _BLOCKS) else (statement,)


def _bound_by(statement: ast.AST, pieces: Iterable[ast.AST]) -> set[str]:
    names: set[str] = set()
    for piece in pieces:
        for node in _within(piece):
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Store):
                    names.add(node.id)
            elif not isinstance(node, _MayBind):
                continue
            elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
                names.add(node.name)
            elif isinstance(node, ast.MatchMapping) and node.rest:
                names.add(node.rest)
            elif isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                names |= _root(node)  # `TABLE["a"] = 1` is part of what TABLE means
    if isinstance(statement, ast.ExceptHandler) and statement.name:
        names.add(statement.name)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        names |= _root(statement.value.func) if isinstance(statement.value.func, ast.Attribute) else set()
    return names


def _within(tree: ast.AST) -> list[ast.AST]:
    """The tree and every node in it, as `ast.walk` gives them, in a third of its time."""
    nodes = [tree]
    for node in nodes:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                nodes.append(value)
            elif isinstance(value, list):
                nodes.extend([one for one in _listed(value) if isinstance(one, ast.AST)])
    return nodes


def _root(node: ast.AST) -> set[str]:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _arguments(arguments: ast.arguments) -> list[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [one.arg for one in every if one is not None]


class Reference(NamedTuple):
    """A dotted name that a piece of code uses and does not bind itself."""

    text: str
    """As it is written: what the digest of the code calls it."""
    path: tuple[str, ...]
    base: bool = False
    """Whether it stands among the bases of a class."""
    imports: tuple[()] | tuple[str, int] = ()
    """For a name imported inside a function: the module and the dots; `path` then is inside that module."""


def references(pieces: Iterable[ast.AST]) -> set[Reference]:
    """The names from outside that pieces of code use, annotations apart.

    Example:
        >>> sorted(one.text for one in references([ast.parse("def f(x: T): y = g(x); return m.h(y)")]))
        ['g', 'm.h']
    """
    found: set[Reference] = set()
    # A name that a function binds maps to its imports there, or to nothing: a local variable.
    stack: list[tuple[Any, dict[str, list[Binding]], bool]] = [(piece, {}, False) for piece in pieces]
    while stack:
        node, local, base = stack.pop()
        path: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            path.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            if path or isinstance(inner.ctx, ast.Load):
                found.update(_reference((inner.id, *reversed(path)), local, base))
        elif isinstance(node, ast.ClassDef):
            stack.extend((one, local, True) for one in node.bases)
            others = [one for one in node.keywords if one.arg not in _POLICY]
            stack.extend((one, local, False) for one in (*others, *node.decorator_list, *node.body))
        elif isinstance(node, _Function):
            outside = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
            outside += getattr(node, "decorator_list", [])
            stack.extend((one, local, False) for one in outside)
            within = {**local, **_locals(node)}
            stack.extend((one, within, False) for one in _listed(node.body))
        elif isinstance(node, _Comprehension):
            targets: dict[str, list[Binding]] = {}
            for part in node.generators:
                targets.update((name, []) for name in _bound_by(part, [part.target]))
            stack.extend((one, {**local, **targets}, False) for one in ast.iter_child_nodes(node))
        else:
            for name in node._fields:
                if name not in _UNCOUNTED:
                    values = _listed(getattr(node, name, None))
                    stack.extend((one, local, base) for one in values if isinstance(one, ast.AST))
    return found


def _reference(path: tuple[str, ...], local: dict[str, list[Binding]], base: bool) -> Iterator[Reference]:
    text = ".".join(path)
    if path[0] not in local:
        yield Reference(text, path, base)
        return
    for binding in local[path[0]]:
        if binding.imports is not None:
            module, member = binding.imports
            yield Reference(text, (*member, *path[1:]), base, (module, binding.level))


def _locals(function: Any) -> dict[str, list[Binding]]:
    if isinstance(function, ast.Lambda):
        return {name: [] for name in _arguments(function.args)}
    bound = Scope(function).bindings
    local = {name: [one for one in bindings if one.imports is not None] for name, bindings in bound.items()}
    for statement, _ in _flat(function.body):
        if isinstance(statement, (ast.Global, ast.Nonlocal)):
            for name in statement.names:
                local.pop(name, None)
    for name in _arguments(function.args):
        local[name] = []
    return local
