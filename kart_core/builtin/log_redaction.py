"""Secrets in what client libraries log: stars in their place.

Storage libraries log whole requests at the level ``debug``, session tokens and keys among them.
Somebody who looks for a fault switches that on and sends the log around.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LogRedaction"]


class LogRedaction(logging.Filter):
    """Replaces secrets in the log records of some libraries, however these are handled.

    Args:
        patterns: regular expressions of what is secret by its form; a group ``keep`` at the
            beginning stays.

    Example:
        >>> redaction = LogRedaction(r"(?P<keep>token=)[^ ]+")
        >>> redaction.hide_values("S3CR3T")
        >>> redaction.hidden("key S3CR3T token=abc end")
        'key *** token=*** end'
    """

    def __init__(self, *patterns: str) -> None:
        super().__init__()
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]
        self._values: frozenset[str] = frozenset()

    def hide_values(self, *values: str | None) -> None:
        """Hides these texts from now on; nothing is forgotten."""
        self._values |= {value for value in values if value}

    def watch(self, libraries: Iterable[str]) -> None:
        """Looks at what the loggers of these packages log; to be called again when they may have made more."""
        heads = tuple(libraries)
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in heads:
                logging.getLogger(name).addFilter(self)  # no second time: a logger looks for it

    def hidden(self, text: str) -> str:
        """The text with stars in place of secrets."""
        for value in self._values:
            text = text.replace(value, "***")
        for pattern in self._patterns:
            text = pattern.sub(_stars, text)
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass, without its secrets."""
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
