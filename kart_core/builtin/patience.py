"""How long a request to a storage is tried again: exponential waits with jitter, bounded in time."""

from __future__ import annotations

import random
import time

__all__ = ["Patience"]

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 10.0


class Patience:
    """The waits between the tries of one request.

    A storage that has never answered is given up soon: the address, the network or the
    credentials are wrong, and somebody is waiting to be told. One that has answered before is
    expected to come back.

    Args:
        seconds: how long in all, from the first try on, waits may last.

    Example:
        >>> patience = Patience(seconds=60)
        >>> 0.05 <= patience.wait() <= 0.1, 0.1 <= patience.wait() <= 0.2
        (True, True)
        >>> Patience(seconds=0).wait() is None
        True
    """

    # Waits are not drawn from the global generator: that stream belongs to the user's task.
    _random = random.Random()

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._tries = 0

    def wait(self) -> float | None:
        """The seconds to wait before the next try; None when there is to be none."""
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2**self._tries)
        wait = longest * (0.5 + self._random.random() / 2)
        if time.monotonic() - self._began + wait > self._seconds:
            return None
        self._tries += 1
        return wait

    @property
    def tried(self) -> bool:
        """Whether a try failed before the present one."""
        return self._tries > 0

    def renew(self, seconds: float) -> None:
        """Begins anew: the present try has come a good way."""
        self._seconds = seconds
        self._began = time.monotonic()
        self._tries = 1
