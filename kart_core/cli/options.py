"""What an option of a task means: which class, which parameter or setting, and whether it is a flag."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Any, NamedTuple, Union, get_args, get_origin

import click

from kart_core.cli import classes
from kart_core.config import nearest
from kart_core.naming import qualified_name
from kart_core.parameters import ParameterFault
from kart_core.settings import SETTINGS
from kart_core.task import ParameterInfo, TaskOnKart, fields_of, is_task_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kart_core.cli.classes import TaskClass

BOOLEANS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})
"""The words, in any case, that a flag takes for its value."""


class Meaning(NamedTuple):
    """What one option sets."""

    cls: TaskClass
    """The class whose parameter or setting it is."""
    name: str
    annotation: Any
    root: bool
    """Whether it is the parameter of the named task alone; otherwise it holds for every task of `cls`."""
    private: bool = False
    """Whether its value is not to be shown."""

    @property
    def flag(self) -> bool:
        """Whether the option may stand without a value."""
        return is_flag(self.annotation)


class Unknown(click.UsageError):
    """An option that no task of the command line has."""


class Options:
    """The options that the named tasks have.

    Args:
        roots: the classes of the named tasks.
        own: the command's own options, as they are written; they are only suggested.
    """

    def __init__(self, roots: Sequence[TaskClass], own: Sequence[str] = ()) -> None:
        self.roots = roots
        self._own = own
        self._reachable = classes.reachable(roots)

    def meanings(self, option: str) -> list[Meaning]:
        """What the option sets: one thing, or the same parameter of several named tasks.

        Args:
            option: as written, without ``=VALUE``: ``--n``, ``--Numbers-n``, ``--workspace-directory``.

        Raises:
            Unknown: no such parameter, setting or class.
            click.UsageError: the class is ambiguous.
        """
        word = option.lstrip("-")
        name = word.replace("-", "_")
        of_roots = [
            Meaning(cls, name, fields[name].annotation, True, fields[name].private)
            for cls in self.roots
            if option.startswith("--") and name in (fields := parameters(cls))
        ]
        if of_roots:
            return of_roots
        if option.startswith("--") and name in SETTINGS:
            return [Meaning(TaskOnKart, name, SETTINGS[name].annotation, False)]
        return [self._of_class(option, word)]

    def _of_class(self, option: str, word: str) -> Meaning:
        if not option.startswith("--"):
            raise Unknown(f"no such option: {option}{self._hint(option)}")
        for position in [index for index, letter in enumerate(word) if letter in "-_" and index]:
            cls = classes.named(word[:position], self._reachable)
            if cls is None:
                continue
            name = word[position + 1 :].replace("-", "_")
            fields = parameters(cls)
            if name in fields:
                return Meaning(cls, name, fields[name].annotation, False, fields[name].private)
            if name in SETTINGS:
                return Meaning(cls, name, SETTINGS[name].annotation, False)
            close = nearest(name, [*fields, *SETTINGS])
            hint = f"; did you mean --{word[:position]}-{close.replace('_', '-')}?" if close else ""
            raise Unknown(f"{qualified_name(cls)} has no parameter {name}, so there is no {option}{hint}")
        raise Unknown(f"no such option: {option}{self._hint(option)}")

    def _hint(self, option: str) -> str:
        name = option.lstrip("-").replace("-", "_")
        upstream = [f"--{cls.__name__}{option[1:]}" for cls in self._reachable if name in parameters(cls)]
        if upstream and option.startswith("--"):
            return f"; did you mean {' or '.join(dict.fromkeys(upstream))}?"
        known = [*self._own]
        known += ["--" + name.replace("_", "-") for cls in self.roots for name in parameters(cls)]
        known += ["--" + name.replace("_", "-") for name in SETTINGS]
        for cls in self._reachable:
            known += [f"--{cls.__name__}-{name.replace('_', '-')}" for name in parameters(cls)]
        close = nearest(option, known)
        if close is not None:
            return f"; did you mean {close}?"
        return " (--help shows the options of a task)" if self.roots else "; name a task before its options"


def parameters(cls: TaskClass) -> dict[str, ParameterInfo]:
    """The parameters of a task class that an option can set, by name."""
    return {field.name: field for field in fields_of(cls) if field.name not in SETTINGS}


def is_flag(annotation: Any) -> bool:
    """Whether a value of that type is a truth value, perhaps missing."""
    if annotation is bool:
        return True
    if get_origin(annotation) in (Union, types.UnionType):
        return set(get_args(annotation)) == {bool, type(None)}
    return False


def written(value: object) -> str:
    """A value in the form in which it would be given on the command line, where it has one."""
    from kart_core.parameters import unstructure

    try:
        plain = repr(value) if is_task_class(type(value)) else unstructure(value)
    except ParameterFault:
        plain = repr(value)
    if plain is None:
        return "none"
    return plain if isinstance(plain, str) and plain else json.dumps(plain, ensure_ascii=False, default=str)
