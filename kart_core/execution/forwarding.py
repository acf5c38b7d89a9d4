"""What a worker process logs and prints, taken to the process that builds: the user's handlers are there."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Send = Callable[[tuple[Any, ...]], None]

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SIMPLE = (str, int, float, bool, type(None))


def levels() -> dict[str, int]:
    """The levels that loggers have in this process, by name; the root's under the empty one."""
    manager = logging.Logger.manager
    named = {
        name: logger.level
        for name, logger in list(manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {**named, "": logging.getLogger().level, "disabled": manager.disable}


def forward(send: Send, levels: Mapping[str, int]) -> Callable[[], None]:
    """Sends all that this process, which is a worker, logs and prints.

    Args:
        send: takes a message.
        levels: those of the process that builds; what it would not show is not sent.

    Returns:
        What ends it, in a process that was forked: it writes where the worker's own streams lead.
    """
    given = dict(levels)
    logging.disable(given.pop("disabled", 0))
    for name, level in given.items():
        logging.getLogger(name or None).setLevel(level)
    forwarder = _Forwarder(send)
    logging.getLogger().addHandler(forwarder)
    out, errors = Printed("stdout", sys.stdout, send), Printed("stderr", sys.stderr, send)
    sys.stdout, sys.stderr = out, errors

    def end() -> None:
        out.end()
        errors.end()
        logging.getLogger().removeHandler(forwarder)
        logging.getLogger().addHandler(logging.StreamHandler(errors))

    return end


def _plain(text: str) -> str:
    return "".join([text])  # of a subclass too this makes a str


class _Forwarder(logging.Handler):
    """Sends log records as plain data."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            told: dict[str, Any] = {}
            for name, value in vars(record).items():
                if type(value) in _SIMPLE:
                    told[name] = value
                elif isinstance(value, str) or name not in _KNOWN:  # of a class of the user's, it might not travel
                    told[name] = _plain(str(value) if isinstance(value, str) else repr(value))
            told.update(msg=_plain(record.getMessage()), args=None, exc_info=None)
            if record.exc_info:
                told["exc_text"] = self._formatter.formatException(record.exc_info)
            self._send(("log", told))
        except Exception:
            self.handleError(record)


def hand_over(told: Mapping[str, Any], task: str | None) -> None:
    """Gives a log record of a worker to the handlers of this process.

    Its message begins with the task's name, for lines of several workers come mixed; the name also
    stands in the record's attribute ``kart_task``.
    """
    record = logging.makeLogRecord(dict(told))
    record.kart_task = task
    if task is not None:
        record.msg = f"{task}: {record.msg}"
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        try:
            logger.handle(record)
        except Exception:  # a filter's or a handler's: for a line of a log no run ends
            logging.Handler().handleError(record)


class Printed(io.TextIOBase):
    """Takes the place of a standard stream of a worker: what is written goes out by whole lines, or when flushed."""

    def __init__(self, name: str, beneath: Any, send: Send) -> None:
        self._name = name
        self._beneath = beneath
        self._send = send
        self._text = ""

    def end(self) -> None:
        """From now on what is written goes to the stream beneath, by whole lines as before."""
        self._text = ""
        self._send = self._write_beneath

    def _write_beneath(self, news: tuple[Any, ...]) -> None:
        self._beneath.write(news[2])
        self._beneath.flush()  # pools end their processes without asking

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As of any text that leaves a worker."""
        return "utf-8"

    @property
    def buffer(self) -> Any:
        """The stream beneath, for bytes: they go where the worker's own stream leads."""
        return self._beneath.buffer

    def fileno(self) -> int:
        """Of the stream beneath."""
        return self._beneath.fileno()

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, text: str) -> int:
        """Takes text."""
        self._text += text
        end = self._text.rfind("\n") + 1
        if end:
            whole, self._text = self._text[:end], self._text[end:]
            self._send(("print", self._name, whole))
        return len(text)

    def flush(self) -> None:
        """Sends what is there, be it no whole line."""
        if self._text:
            text, self._text = self._text, ""
            self._send(("print", self._name, text))


def show(stream: str, text: str) -> None:
    """Writes what a worker printed."""
    file = sys.stdout if stream == "stdout" else sys.stderr
    if file is None:  # a program without a console has none
        return
    try:
        file.write(text)
    except UnicodeEncodeError:  # the run does not end for a letter that this console cannot show
        file.write(text.encode(file.encoding, "backslashreplace").decode(file.encoding))
    file.flush()
