"""What can go wrong, as one tree of exceptions.

Every message says what happened, where, and what to do next. Each class carries the
exit code with which a command of kart ends when the error reaches it.

Example:
    >>> issubclass(ParameterError, KartError), ParameterError.exit_code
    (True, 2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kart_core.task import TaskOnKart


class KartError(Exception):
    """The root of every error that kart raises on purpose."""

    exit_code: ClassVar[int] = 40
    """The exit status of a command that ends with this error."""

    of_leases: ClassVar[bool] = False
    """Whether it is no failure: the task is run by another process, or was."""


class ConfigError(KartError):
    """A configuration file, an environment variable or a command line that cannot be taken as it is."""

    exit_code = 2


class ParameterError(KartError):
    """A task class that declares its parameters wrongly, or a task that is given wrong ones."""

    exit_code = 2


class PluginError(KartError):
    """A plugin that is missing, broken, disabled or in conflict with another."""

    exit_code = 70


class IdentityError(KartError):
    """A value of which no unique id can be made."""

    exit_code = 50


class GraphError(KartError):
    """Tasks that do not make a graph that can run: a cycle, or two tasks with one path."""

    exit_code = 50


class StorageError(KartError):
    """A workspace that cannot be read or written."""

    exit_code = 70


class SerializationError(KartError):
    """A value that the format of its target cannot represent, or content that the format cannot read."""

    exit_code = 40


class CorruptResultError(KartError):
    """A stored result or record whose content is not what was written."""

    exit_code = 70


class MissingDataError(KartError):
    """External data, which no task of the pipeline makes, is not there; or a result was never built."""

    exit_code = 20


class BuildError(KartError):
    """One or more tasks of a build failed.

    Attributes:
        failures: each task that failed, with the exception that its ``run`` raised
            (its traceback stands in ``__traceback__``).
    """

    exit_code = 40

    def __init__(self, message: str, failures: Mapping[TaskOnKart[Any], BaseException] | None = None) -> None:
        super().__init__(message)
        self.failures: dict[TaskOnKart[Any], BaseException] = dict(failures or {})
        if self.failures and all(map(_is_missing_data, self.failures.values())):
            self.exit_code = MissingDataError.exit_code  # pyright: ignore[reportAttributeAccessIssue]
        elif self.failures and all(isinstance(error, StorageError) for error in self.failures.values()):
            self.exit_code = StorageError.exit_code  # pyright: ignore[reportAttributeAccessIssue]


def _is_missing_data(error: BaseException) -> bool:
    """Whether it says that data is not there: of the task itself, or of all that it asked for while it ran."""
    return isinstance(error, (MissingDataError, BuildError)) and error.exit_code == MissingDataError.exit_code


def said(error: BaseException) -> str:
    """What an exception says; a user's one whose message cannot be had must not end the run of other tasks.

    Example:
        >>> said(ValueError(" too long "))
        'too long'
    """
    try:
        return str(error).strip()
    except Exception as fault:
        return f"(its message cannot be had: {type(fault).__name__})"
