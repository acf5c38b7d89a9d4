"""The executor that runs each piece of work where and when it is submitted."""

from __future__ import annotations

from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from kart_core.plugin import Executor

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import ParamSpec

    _Arguments = ParamSpec("_Arguments")

_Result = TypeVar("_Result")

__all__ = ["RECORDS", "InlineExecutor"]


class InlineExecutor(FuturesExecutor):
    """Runs work in the caller's own thread, at once: its futures are done when they are given.

    What the work raises stands in its future; an interrupt goes through to the caller.

    Example:
        >>> InlineExecutor().submit(divmod, 7, 2).result()
        (3, 1)
    """

    def __init__(self) -> None:
        self._closed = False

    def submit(
        self, fn: Callable[_Arguments, _Result], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Future[_Result]:
        if self._closed:
            raise RuntimeError("this executor was shut down and takes no more work")
        try:
            return _Done(fn(*args, **kwargs))
        except Exception as error:
            future: Future[_Result] = Future()
            future.set_exception(error)
            return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        self._closed = True


class _Done(Future[_Result]):
    """A future that is done when it is made: without the locks of one that somebody may wait for."""

    def __init__(self, value: _Result) -> None:  # the base's own is what makes the locks
        self._value = value

    def result(self, timeout: float | None = None) -> _Result:  # noqa: ARG002
        return self._value

    def exception(self, timeout: float | None = None) -> None:  # noqa: ARG002
        return None

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, fn: Callable[[Future[_Result]], object]) -> None:
        fn(self)


def _open(_workers: int) -> FuturesExecutor:
    return InlineExecutor()


RECORDS = {("kart_executors", "inline"): Executor("inline", open=_open, in_process=True)}
"""Each record under its hook and name, as the host looks it up."""
