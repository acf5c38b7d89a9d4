"""A traceback as the places that it names, and made of them again.

The places say what the interpreter prints: file, function, line and, from Python 3.11 on, the
part of the line. The variables of the functions stay where they are.
"""

from __future__ import annotations

import ast
import os
import sys
from itertools import islice
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_PLACES: Final = 4000
"""How many places of a traceback are kept; of a longer one, the middle is left out."""

_NOWHERE = -1  # what a compiler takes for a column that is not known

_HOMES: Final = {
    "<kart_core>": os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    "<python>": os.path.dirname(os.path.abspath(os.__file__)) + os.sep,
}
"""Where kart and Python themselves are, which on another machine may be elsewhere."""


@attrs.frozen
class Place:
    """A line of a traceback."""

    file: str
    function: str
    qualified: str
    module: str
    line: int
    end_line: int
    column: int = _NOWHERE
    end_column: int = _NOWHERE


def places_of(trace: TracebackType | None) -> list[Place]:
    """The places of a traceback, the outermost first."""
    places: list[Place] = []
    while trace is not None:
        places.append(_place(trace))
        trace = trace.tb_next
        if len(places) > 2 * MOST_PLACES:
            del places[MOST_PLACES // 2 : -MOST_PLACES // 2]
    if len(places) > MOST_PLACES:
        del places[MOST_PLACES // 2 : -MOST_PLACES // 2]
    return places


def traceback_of(places: Sequence[Place], variables: Mapping[str, Any] | None = None) -> TracebackType | None:
    """A traceback that names these places.

    Args:
        places: the places, the outermost first.
        variables: what the function of the last place has for its variables.

    Example:
        >>> import traceback
        >>> place = Place("pipeline.py", "run", "Train.run", "pipeline", 7, 7)
        >>> print("".join(traceback.format_tb(traceback_of([place]))).rstrip())
          File "pipeline.py", line 7, in run
    """
    made: dict[Place, TracebackType] = {}
    trace: TracebackType | None = None
    for number, place in enumerate(reversed(places)):
        last = number == 0
        one = made.get(place)
        if one is None or last:
            one = _raised_at(place, variables or {} if last else {})
            if not last:
                made[place] = one
        trace = TracebackType(trace, one.tb_frame, one.tb_lasti, place.line)
    return trace


def _place(trace: TracebackType) -> Place:
    code, frame = trace.tb_frame.f_code, trace.tb_frame
    line: int = trace.tb_lineno or code.co_firstlineno or 1
    first, last, column, end_column = next(_positions(code, trace.tb_lasti), (None, None, None, None))
    place = (_away(code.co_filename), code.co_name, getattr(code, "co_qualname", code.co_name))
    module = frame.f_globals.get("__name__")
    if first != line or last is None or column is None or end_column is None:
        return Place(*place, str(module), line, line)
    return Place(*place, str(module), line, last, column, end_column)


def _away(file: str) -> str:
    """The name of a file as it travels."""
    for name, home in _HOMES.items():
        if file.startswith(home) and "site-packages" not in file[len(home) :]:
            return name + file[len(home) :]
    return file


def _home(file: str) -> str:
    """The name of a file that has travelled, here."""
    for name, home in _HOMES.items():
        if file.startswith(name):
            return home + file[len(name) :]
    return file


def _positions(code: CodeType, at: int) -> Iterator[tuple[int | None, int | None, int | None, int | None]]:
    if sys.version_info >= (3, 11):
        return islice(code.co_positions(), at // 2, None)
    return iter(())


def _raised_at(place: Place, variables: Mapping[str, Any]) -> TracebackType:
    name = ast.Name("_no_such_name", ast.Load())
    statement = ast.Expr(name)
    for node in (name, statement):
        node.lineno, node.end_lineno = place.line, place.end_line
        node.col_offset, node.end_col_offset = place.column, place.end_column
    code = compile(ast.Module([statement], []), "<place>", "exec")
    told: dict[str, Any] = {"co_filename": _home(place.file), "co_name": place.function}
    if sys.version_info >= (3, 11):
        told["co_qualname"] = place.qualified
    try:
        exec(code.replace(**told), _globals_of(place.module), dict(variables))
    except NameError as error:
        trace = error.__traceback__
        assert trace is not None
        assert trace.tb_next is not None
        return trace.tb_next
    raise AssertionError("a name that nothing binds has a value")


def _globals_of(module: str) -> dict[str, Any]:
    # By these, lines are read that are in no plain file.
    names: dict[str, Any] = {"__name__": module}
    loaded = sys.modules.get(module)
    for name in ("__spec__", "__loader__"):
        if hasattr(loaded, name):
            names[name] = getattr(loaded, name)
    return names
