"""Secrets in what client libraries log: stars in their place.

Storage libraries log whole requests at the level ``debug``, session tokens and keys among them.
Somebody who looks for a fault switches that on and sends the log around.

The loggers belong to the whole process. So they are touched only while a request of kart's own is
under way, and only what is logged of it is looked at: who uses the same library beside kart finds
its log as ever.
"""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

__all__ = ["LogRedaction"]

_SHORTEST: Final = 4
"""Letters of the shortest text that is taken for a secret: the stars of a shorter one would show what it is."""

_own: Final = ContextVar("kart_own_request", default=False)
"""Whether what runs belongs to a request of kart's; tasks and threads that it starts inherit it."""


class LogRedaction(logging.Filter):
    """Replaces secrets in what some libraries log of kart's requests, however the records are handled.

    Args:
        patterns: regular expressions of what is secret by its form; a group ``keep`` at the
            beginning stays.
        libraries: the packages whose loggers are looked at.

    Example:
        >>> redaction = LogRedaction(r"(?P<keep>token=)[^ ]+")
        >>> redaction.hide_values("S3CR3T")
        >>> redaction.hidden("key S3CR3T token=abc end")
        'key *** token=*** end'
    """

    def __init__(self, *patterns: str, libraries: Iterable[str] = ()) -> None:
        super().__init__()
        self._libraries = frozenset(libraries)
        self._lock = threading.Lock()
        self._under_way = 0
        self._loggers: list[logging.Logger] = []
        self._known = 0  # loggers and their parents that there were when these were found
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        self._values: frozenset[str] = frozenset()

    def hide_values(self, *values: str | None) -> None:
        """Hides these texts from now on; nothing is forgotten.

        A text of one to three letters is none: it is part of many a word, and to know it is to guess it.
        """
        self._values |= {value for value in values if value and len(value) >= _SHORTEST}

    @contextmanager
    def guarding(self) -> Generator[None]:
        """What is logged of the requests that are made within holds no secret."""
        token = _own.set(True)
        with self._lock:
            self._under_way += 1
            self._attach()
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                if not self._under_way:
                    for logger in self._loggers:
                        logger.removeFilter(self)
            _own.reset(token)

    def look_again(self) -> None:
        """To be called within where the libraries may have made loggers meanwhile."""
        with self._lock:
            self._attach()

    def _attach(self) -> None:
        names = logging.root.manager.loggerDict
        if len(names) != self._known:
            self._known = len(names)
            heads = self._libraries
            self._loggers = [logging.getLogger(name) for name in list(names) if name.partition(".")[0] in heads]
        for logger in self._loggers:
            logger.addFilter(self)  # no second time: a logger looks for it

    def hidden(self, text: str) -> str:
        """The text with stars in place of secrets."""
        for value in self._values:
            text = text.replace(value, "***")
        for pattern in self._patterns:
            text = pattern.sub(_stars, text)
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass, those of kart's requests without their secrets."""
        if not _own.get():
            return True
        try:
            text = record.getMessage()
        except Exception:  # a malformed record is reported by whoever handles it
            return True
        hidden = self.hidden(text)
        if hidden != text:
            record.msg, record.args = hidden, ()
        return True


def _stars(match: re.Match[str]) -> str:
    return f"{match.groupdict().get('keep') or ''}***"
