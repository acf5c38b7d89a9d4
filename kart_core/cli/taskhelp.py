"""Help for a task: its parameters with type, default and description, and the settings in a group of their own."""

from __future__ import annotations

import enum
import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from kart_core.cli import classes
from kart_core.cli.options import is_flag, parameters, written
from kart_core.cli.roots import required_class
from kart_core.declaration import MISSING, shape_of
from kart_core.naming import qualified_name
from kart_core.parameters import describe
from kart_core.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import click

    from kart_core.cli.classes import TaskClass
    from kart_core.declaration import ParameterInfo


def write_tasks(formatter: click.HelpFormatter, roots: Sequence[TaskClass]) -> None:
    """Writes the parameters of each named task, of the tasks that it requires, and the settings."""
    for cls in roots:
        with formatter.section(f"Parameters of {qualified_name(cls)}"):
            records = list(_parameters(cls, prefix=""))
            formatter.write_dl(records) if records else formatter.write_text("It has none.")
    others = [cls for cls in classes.reachable(roots) if cls not in roots and not is_base(cls, roots)]
    called = Counter(cls.__name__ for cls in others)
    for cls in others:
        name = cls.__name__ if called[cls.__name__] == 1 else qualified_name(cls)
        if records := list(_parameters(cls, prefix=name + "-")):
            with formatter.section(f"Parameters of {qualified_name(cls)}, wherever it is required"):
                formatter.write_dl(records)
    with formatter.section("Settings (of every task; --CLASS-SETTING for the tasks of one class)"):
        formatter.write_dl(list(_settings()))


def summary(cls: type) -> str:
    """The first sentence of a class's own documentation."""
    text = inspect.cleandoc(cls.__doc__) if "__doc__" in vars(cls) and cls.__doc__ else ""
    return text.partition("\n\n")[0].replace("\n", " ")


def is_base(cls: type, roots: Sequence[type]) -> bool:
    """Whether it is only there because a named task derives from it."""
    return any(issubclass(root, cls) for root in roots)


def _parameters(cls: TaskClass, prefix: str) -> Iterable[tuple[str, str]]:
    for field in parameters(cls).values():
        yield _option(prefix + field.name, field.annotation), _about(cls, field)


def _settings() -> Iterable[tuple[str, str]]:
    for info in SETTINGS.values():
        yield _option(info.name, info.annotation), f"{info.description} [default: {_shown(info.default)}]"


def _option(name: str, annotation: Any) -> str:
    option = "--" + name.replace("_", "-")
    return f"{option} [true|false]" if is_flag(annotation) else f"{option} {_type(annotation)}"


def _type(annotation: Any) -> str:
    required = required_class(annotation)
    if required is not None:
        return f"JSON of {required.__name__}"
    choices = [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        choices = list(annotation.__members__)
    text = "|".join(choices)
    return text if choices and len(text) <= 40 else describe(annotation)


def _about(cls: TaskClass, field: ParameterInfo) -> str:
    parts = [field.description] if field.description else []
    required = required_class(field.annotation)
    if field.default is not MISSING:
        parts.append(f"[default: {'***' if field.private else _shown(field.default)}]")
    elif required is not None:
        parts.append(f"[made from --{required.__name__}-... and its defaults]")
    elif _is_configured(cls, field.name):
        parts.append("[set by the configuration]")
    else:
        parts.append("[required]")
    return " ".join(parts)


def _is_configured(cls: TaskClass, name: str) -> bool:
    from kart_core import config

    return config.current().find(shape_of(cls).sections, name) is not None


def _shown(value: object) -> str:
    text = written(value)
    return text if len(text) <= 60 else text[:57] + "..."
