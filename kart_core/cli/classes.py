"""Which task classes the words of a command line name: ``MODULE:TASK``, ``FILE.py:TASK``, or a class of the script."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

import click

from kart_core.cli.errors import BrokenModule
from kart_core.config import nearest
from kart_core.config.files import working_directory
from kart_core.errors import KartError
from kart_core.naming import qualified_name
from kart_core.task import TaskOnKart, fields_of, is_task_class, task_classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

    TaskClass: TypeAlias = type[TaskOnKart[Any]]

_REFERENCE = re.compile(r"(?P<module>.+):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)\Z", re.DOTALL)


def is_reference(word: str) -> bool:
    """Whether the word has the form ``MODULE:TASK`` or ``FILE.py:TASK``."""
    found = _REFERENCE.match(word)
    if found is None:
        return False
    module = found["module"]
    return module.endswith(".py") or all(part.isidentifier() for part in module.split("."))


def with_colon(word: str) -> str | None:
    """What ``pipeline.Total`` was probably meant to be: ``pipeline:Total``; None for a word of another form.

    Example:
        >>> with_colon("pipeline.Total"), with_colon("shop.orders.Total.Part"), with_colon("jobs/pipeline.py.Total")
        ('pipeline:Total', 'shop.orders:Total.Part', 'jobs/pipeline.py:Total')
    """
    file, suffix, name = word.partition(".py.")
    if suffix:
        return f"{file}.py:{name}"
    parts = word.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts) or parts[-1] == "py":
        return None
    # A class begins with a capital letter, a module seldom.
    start = next((place for place, part in enumerate(parts) if place and part[0].isupper()), len(parts) - 1)
    return f"{'.'.join(parts[:start])}:{'.'.join(parts[start:])}"


def load(word: str) -> TaskClass:
    """The task class that ``MODULE:TASK`` or ``FILE.py:TASK`` names.

    The module is imported, from the working directory first; a file is imported by its stem, from its own
    folder, as ``python FILE.py`` names it too.

    Raises:
        click.UsageError: the word has another form, or there is no such module, class or task.
        BrokenModule: the module's own code raised while it was imported.
    """
    found = _REFERENCE.match(word)
    if found is None or not is_reference(word):
        meant = with_colon(word)
        hint = f"; did you mean {meant}?" if meant else "; expected MODULE:TASK, such as pipeline:Total"
        if word.endswith(".py"):
            hint = f"; name one in it, as {word}:TASK"
        raise click.UsageError(f"{word!r} names no task{hint}")
    module = _module(found["module"])
    return _member(module, found["name"])


def of_script(script: ModuleType, word: str) -> TaskClass:
    """The task class that `word` names for someone who runs `script`: by its name, or as ``MODULE:TASK``."""
    if is_reference(word):
        return load(word)
    value = getattr(script, word, None)
    if _is_task(value):
        return value
    elsewhere = {qualified_name(cls): cls for cls in task_classes() if cls.__name__ == word}
    if len(elsewhere) == 1:
        return next(iter(elsewhere.values()))
    if elsewhere:
        raise click.UsageError(
            f"{word} is a task of several modules: {', '.join(sorted(elsewhere))}; say which as MODULE:{word}"
        )
    names = [cls.__name__ for cls in listed(script)]
    last = word.rpartition(".")[2]
    raise click.UsageError(f"{word!r} is no task of this script{_hint(last if last in names else word, names)}")


def listed(script: ModuleType) -> list[TaskClass]:
    """The task classes in the script's namespace, in the order of their definition: its own, then imported ones."""
    found = {cls: None for cls in vars(script).values() if _is_task(cls) and not _is_abstract(cls)}
    return sorted(found, key=lambda cls: sys.modules.get(cls.__module__) is not script)


def named(name: str, preferred: Iterable[TaskClass]) -> TaskClass | None:
    """The task class of that name, or of that name with its module; None where there is none.

    Args:
        name: ``Train`` or ``module.Train``.
        preferred: the classes that the run is known to hold; another class is taken only where none of
            these has the name.

    Raises:
        click.UsageError: several classes have the name.
    """
    for classes in (preferred, list(task_classes())):
        found = {qualified_name(cls): cls for cls in classes if name in (cls.__name__, qualified_name(cls))}
        if len(found) > 1:
            raise click.UsageError(
                f"{name} is a task of several modules: {', '.join(sorted(found))}; write the module before the class"
            )
        if found:
            return next(iter(found.values()))
    return None


def reachable(roots: Sequence[TaskClass]) -> list[TaskClass]:
    """The roots, their bases, and the task classes that their fields name, and so on."""
    found: dict[TaskClass, None] = {}
    waiting = list(roots)
    while waiting:
        cls = waiting.pop(0)
        if cls in found:
            continue
        found[cls] = None
        waiting += [base for base in cls.__mro__ if _is_task(base)]
        for field in fields_of(cls):
            waiting += mentioned(field.annotation)
            if is_task_class(kind := cast("type[Any]", type(field.default))):
                waiting.append(kind)
    return list(found)


def mentioned(annotation: Any) -> list[TaskClass]:
    """The task classes that an annotation mentions."""
    from typing import get_args, get_origin

    found: list[TaskClass] = []
    waiting = [annotation]
    while waiting:
        part = waiting.pop(0)
        origin = get_origin(part)
        if _is_task(origin or part):
            found.append(origin or part)
        elif origin is not None:
            waiting += get_args(part)
    return found


def find_project(folder: str | None = None) -> None:
    """Makes the modules of a folder importable, by default those of the working directory, as `python -m` does."""
    folder = working_directory() if folder is None else folder
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _module(name: str) -> ModuleType:
    folder, path = working_directory(), None
    if name.endswith(".py"):
        path = os.path.abspath(name)
        folder, file = os.path.split(path)
        if not os.path.isfile(path):
            raise click.UsageError(f"there is no file {name} (looked in {working_directory()})")
        name = file.removesuffix(".py")
        if not name.isidentifier():
            raise click.UsageError(f"{file} cannot be imported: rename it so that {name!r} is a Python name")
    find_project(folder)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            close = nearest(name, _modules_in(folder))
            hint = f"; did you mean {close}?" if close else ""
            raise click.UsageError(
                f"no module is named {error.name} (looked in {folder} and in sys.path){hint}"
            ) from None
        raise BrokenModule(f"the module {name} cannot be imported: {error}") from error
    except KartError:
        raise
    except SystemExit as error:
        raise BrokenModule(
            f'the module {name} ends the process when it is imported; put such calls under if __name__ == "__main__":'
        ) from error
    except Exception as error:
        raise BrokenModule(f"the module {name} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, "__file__", None)
    if path is not None and not (found and os.path.exists(found) and os.path.samefile(found, path)):
        raise click.UsageError(
            f"{path} cannot be imported: {name} is another module, {found or 'built in'}; rename the file"
        )
    return module


def _modules_in(folder: str) -> list[str]:
    """The modules that are files of a folder."""
    try:
        found = os.listdir(folder)
    except OSError:  # only a hint would come of it
        return []
    return sorted(name.removesuffix(".py") for name in found if name.endswith(".py"))


def _member(module: ModuleType, name: str) -> TaskClass:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if _is_task(value):
        return value
    if value is not None:
        raise click.UsageError(f"{module.__name__}:{name} is no task: it is no subclass of kart_core.TaskOnKart")
    names = [cls.__name__ for cls in listed(module)]
    raise click.UsageError(f"the module {module.__name__} has no task {name}{_hint(name, names)}")


def _hint(word: str, names: Sequence[str]) -> str:
    close = nearest(word, names)
    if close is not None:
        return f"; did you mean {close}?"
    return f"; its tasks are {', '.join(names[:10])}" if names else ""


def _is_task(value: object) -> TypeGuard[TaskClass]:
    return isinstance(value, type) and issubclass(value, TaskOnKart) and not _is_ours(cast("type", value))


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "kart_core"


def _is_abstract(cls: type) -> bool:
    return bool(getattr(cls, "__abstractmethods__", ()))
