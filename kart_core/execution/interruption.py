"""Ctrl-C and SIGTERM during a build."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


class Interruption:
    """Takes signals for the time of a ``with``, and gives the handlers back as they were.

    Only where nobody else has set a handler, and only in the main thread: elsewhere the program's own
    handlers hold.

    Args:
        counted: whether signals are only counted, for one who looks at `count` when `fileno` becomes readable;
            otherwise each raises `KeyboardInterrupt` where the program is.
    """

    def __init__(self, counted: bool) -> None:
        self.count = 0
        self._counted = counted
        self._before: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is not threading.main_thread():
            return self
        if self._counted:
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._take)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._pipe is not None:
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when a signal has come; None where none is taken."""
        return None if self._pipe is None else self._pipe[0]

    def heard(self) -> None:
        """Makes the descriptor wait for the next signal; what has come stays counted."""
        if self._pipe is not None:
            os.read(self._pipe[0], 4096)

    def _take(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1
        if not self._counted:
            raise KeyboardInterrupt
        if self._pipe is not None:
            os.write(self._pipe[1], b"!")
