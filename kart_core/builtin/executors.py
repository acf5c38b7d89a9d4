"""The executor that runs each piece of work where and when it is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kart_core.plugin import Executor, ExecutorSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from kart_core.plugin import Work

_Result = TypeVar("_Result")

__all__ = ["RECORDS", "InlineExecutor"]


class InlineExecutor:
    """Runs work in the caller's own thread, at once: it is done when `submit` returns.

    What the work raises is raised by ``result()``; an interrupt goes through to the caller.

    Example:
        >>> InlineExecutor().submit(divmod, 7, 2).result()
        (3, 1)
    """

    def __init__(self) -> None:
        self._closed = False

    def submit(self, fn: Callable[..., _Result], /, *args: Any) -> Work[_Result]:
        """Runs `fn` with the arguments."""
        if self._closed:
            raise RuntimeError("this executor was shut down and takes no more work")
        try:
            return _Done(fn(*args))
        except Exception as error:
            return _Done(None, error)

    def shutdown(self, wait: bool = True) -> None:  # noqa: ARG002 - nothing is under way
        """Takes no more work."""
        self._closed = True


class _Done:
    """Work that was done when it was taken. Nobody waits for it, so it needs no locks, as a future does."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: Any, error: Exception | None = None) -> None:
        self._value = value
        self._error = error

    def result(self) -> Any:
        """What the work gave; what it raised is raised."""
        if self._error is not None:
            raise self._error
        return self._value


def _open(_workers: int) -> ExecutorSession:
    return InlineExecutor()


RECORDS = {("kart_executors", "inline"): Executor("inline", open=_open, in_process=True)}
"""Each record under its hook and name, as the host looks it up."""
