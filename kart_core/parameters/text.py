"""Parameters given as text: on the command line, in INI files, in the environment.

The forms are strict: text is taken for what it literally says, or refused with the form that
would be taken. Scalars have the forms of `kart_core.parameters.scalars`; lists, tuples, sets,
mappings, attrs classes and tasks are written as JSON.
"""

from __future__ import annotations

import json
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_origin

from kart_core.parameters.annotation import describe, is_union, members, plain
from kart_core.parameters.fault import ParameterFault, show_text, text_fault
from kart_core.parameters.kinds import kind_of
from kart_core.parameters.scalars import by_specificity, is_none_word, parse_literal, reader, unquoted


def parse_text(text: str, annotation: Any) -> object:
    """Reads a parameter's value from text.

    Args:
        text: as it stands on the command line, in an INI file, or in the environment.
        annotation: a resolved annotation.

    Returns:
        the value; `checker` of the same annotation then gives what a task holds.

    Raises:
        ParameterFault: the text is not of a form that the annotation takes.

    Example:
        >>> parse_text("true", bool), parse_text("[1, 2]", tuple[int, ...]), parse_text("none", int | None)
        (True, (1, 2), None)
        >>> parse_text("3.7", int)
        Traceback (most recent call last):
        kart_core.parameters.fault.ParameterFault: expected int, given '3.7'
    """
    annotation = plain(annotation)
    kind = kind_of(annotation)
    if kind is not None:
        if kind.from_text is None:
            return _from_json(text, annotation)
        return _guarded(text, annotation, lambda: cast("Any", kind.from_text)(text, annotation))
    if is_union(annotation):
        return _parse_union(text, annotation)
    if get_origin(annotation) is Literal:
        return parse_literal(text, annotation)
    if annotation is NoneType:
        if is_none_word(text) or text == "":
            return None
        raise text_fault("none", text)
    if annotation in (Any, object) or isinstance(annotation, (TypeVar, str)):
        return _parse_anything(text)
    read = reader(annotation)
    return _from_json(text, annotation) if read is None else read(text)


def _guarded(text: str, annotation: Any, read: Any) -> object:
    try:
        return read()
    except ParameterFault:
        raise
    except ValueError as error:
        raise ParameterFault(describe(annotation), f"{show_text(text)}: {error}", kind="str") from None


def _parse_union(text: str, annotation: Any) -> object:
    alternatives = by_specificity(members(annotation))
    if NoneType in alternatives and (is_none_word(text) or (text == "" and str not in alternatives)):
        return None
    if str in alternatives:
        quoted = unquoted(text)
        if quoted is not None:
            return quoted
    reasons: list[ParameterFault] = []
    for member in alternatives:
        if member is not NoneType:
            try:
                return parse_text(text, member)
            except ParameterFault as error:
                reasons.append(error)
    # With one member beside None its own words tell more.
    if len(reasons) == 1:
        raise ParameterFault(
            f"{reasons[0].expected}, or none" if NoneType in alternatives else reasons[0].expected,
            reasons[0].given,
            kind="str",
            faults=reasons[0].faults,
        )
    raise text_fault(describe(annotation), text)


def _parse_anything(text: str) -> object:
    """JSON where the text is JSON, and otherwise the text: nothing says what else it could be."""
    try:
        return read_json(text)
    except ValueError:
        return parse_text(text, str)


def _from_json(text: str, annotation: Any) -> object:
    from kart_core.parameters.data import form_of, structure

    form = form_of(annotation)
    if form is None:
        raise text_fault(f"{describe(annotation)}, which cannot be given as text; give it in Python", text)
    try:
        data = read_json(text)
    except ValueError as error:
        meant = _as_list(text, annotation)
        why = f"which is no JSON: {error}" if meant is None else f"which is no JSON; write '{meant}'"
        raise ParameterFault(
            f"{describe(annotation)} as JSON, like {form}", f"{show_text(text)}, {why}", kind="str"
        ) from None
    return structure(data, annotation)


def _as_list(text: str, annotation: Any) -> str | None:
    """The JSON that was probably meant by ``64,32`` or ``random.seed`` where a list is taken; None where none is."""
    from kart_core.parameters.data import structure

    if not text.strip() or text.lstrip()[0] in "[{" or len(text) > 60 or "'" in text:
        return None
    for meant in (f"[{text.strip()}]", json.dumps([part.strip() for part in text.split(",")], ensure_ascii=False)):
        try:
            structure(read_json(meant), annotation)
        except ValueError:
            continue
        return meant
    return None


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or an object has one key twice, of which
            other readers would silently drop the first.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands there twice")
    return table


__all__ = ["parse_text", "read_json"]
