"""Storing behind: a result goes to far storage while the next task runs.

A request to a bucket takes tens of milliseconds in which nothing is done here. What waits for a
result still waits until it is stored; only tasks that do not depend on it go on. One that asks for it
nevertheless waits when it asks: see `kart_core.underway`.
"""

from __future__ import annotations

import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from kart_core import underway
from kart_core.declaration import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

    from kart_core.running import Attempt

AT_ONCE: Final = 16
"""Results that are on their way together; what they hold in memory is a mebibyte each at most."""


class Behind:
    """Stores results in threads of its own. Use it as a context manager: at the end all are stored."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def takes(self, attempt: Attempt) -> bool:
        """Whether a result is stored behind.

        It is where storage is far, where that does not move the generators from which the next task draws, and where
        a failure to store it is the last word.
        """
        storage = attempt.resolved.workspace.storage
        return storage.shared == "network" and storage.quiet and shape_of(type(attempt.task)).policy.retries == 0

    def submit(self, attempt: Attempt, commit: Callable[[], None], clock: float) -> Future[float]:
        """Stores a result.

        Args:
            attempt: whose result it is; it is discarded if that fails.
            commit: stores it.
            clock: when the attempt began.

        Returns:
            A future of the seconds that the attempt took.
        """

        def store() -> float:
            try:
                commit()
            except BaseException:
                attempt.discard()
                raise
            return time.perf_counter() - clock

        paths = list(attempt.staged)
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor  # a run on a local disk does without

            self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kart-store")
        future = self._threads.submit(copy_context().run, store)
        record = attempt.resolved.record_path(attempt.unique_id)
        underway.announce(attempt.resolved.workspace, [record, *paths], future)
        return future
