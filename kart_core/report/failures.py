"""What a task's own code raised, without the frames that are kart's."""

from __future__ import annotations

import os
import traceback
from itertools import dropwhile
from typing import TYPE_CHECKING

import kart_core
from kart_core.errors import BuildError, KartError, said
from kart_core.naming import qualified_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_OURS = os.path.dirname(os.path.abspath(kart_core.__file__)) + os.sep
_CARRIERS = (
    os.path.join("concurrent", "futures", "_base.py"),
    os.path.join("concurrent", "futures", "thread.py"),
    os.path.join("importlib", "__init__.py"),
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
)
_LONGEST = 100  # letters of what a user's exception says, in a summary
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_LIBRARIES = tuple(
    f"{os.sep}site-packages{os.sep}{name}{os.sep}"
    for name in ("attr", "attrs", "cattrs", "click", "cloudpickle", "fsspec", "pluggy", "rich", "tomli", "xxhash")
)


def trimmed(error: BaseException) -> str:
    """The traceback of an exception, and of those behind it, from the user's first line on.

    Example:
        >>> try:
        ...     {}["missing"]
        ... except KeyError as error:
        ...     print(trimmed(error).splitlines()[-1])
        KeyError: 'missing'
    """
    told = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [told]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list(_own(part.stack))
        waiting += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    lines = list(told.format())
    if not told.stack:
        lines = [line for line in lines if line != "Traceback (most recent call last):\n"]
    return "".join(lines).rstrip("\n")


def has_own_frames(error: BaseException) -> bool:
    """Whether a line of the user's own code was passed on the way; otherwise the message says it all."""
    return bool(_own(traceback.extract_tb(error.__traceback__)))


def is_ours(error: BaseException) -> bool:
    """Whether kart itself raised, so that the message says it all; not where a line of the user's own was behind it."""
    if not isinstance(error, KartError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    if frames and not frames[-1].filename.startswith(_OURS):
        return False
    cause = error.__cause__
    return cause is None or not _is_by_users(cause)


def _is_by_users(error: BaseException) -> bool:
    """Whether a line of the user's project raised after kart had called it."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    last = max((place for place, file in enumerate(frames) if file.startswith(_OURS)), default=-1)
    return any(map(_is_project, frames[last + 1 :]))


def _is_project(file: str) -> bool:
    installed = f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file
    return not (installed or file.startswith(("<", _STANDARD, _OURS)))


def reason(error: BaseException) -> str:
    """Why a task failed, for a summary: a line, of which what is too long was said in full before."""
    if isinstance(error, BuildError) and error.failures:
        task, inner = next(iter(error.failures.items()))
        more = f", and {len(error.failures) - 1} more" if len(error.failures) > 1 else ""
        return f"BuildError: {qualified_name(type(task))}: {reason(inner)}{more}"
    if is_ours(error):
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_project(frame.filename)]
        place = f" ({os.path.basename(lines[-1].filename)}, line {lines[-1].lineno})" if lines else ""
        return f"{_shortened(error)}{place}"
    return _shortened(error)


def _shortened(error: BaseException) -> str:
    text = one_line(error)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def raised_in(error: BaseException) -> str | None:
    """The line of a user's code that raised while kart had called it, such as ``pipeline.py, line 7``.

    None where kart itself, or a library that it calls, raised: that is a fault of kart.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = max((place for place, frame in enumerate(frames) if frame.filename.startswith(_OURS)), default=-1)
    for frame in frames[last + 1 :]:
        file = frame.filename
        if _carries(file):
            continue
        if file.startswith(("<", _STANDARD)) or any(part in file for part in _LIBRARIES):
            return None
        return f"{os.path.basename(file)}, line {frame.lineno}"
    return None


def one_line(error: BaseException) -> str:
    """The class and the first line of what an exception says, or the second where the first only leads to it."""
    first, _, rest = said(error).partition("\n")
    text = f"{first} {rest.partition(chr(10))[0].strip()}".strip() if first.endswith(":") else first
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _own(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames without kart's, and without those that only carried kart to the user's first line."""
    rest = dropwhile(lambda frame: frame.filename.startswith(_OURS) or _carries(frame.filename), frames)
    return [frame for frame in rest if not frame.filename.startswith(_OURS)]


def _carries(file: str) -> bool:
    return file.endswith(_CARRIERS) or f"{os.sep}site-packages{os.sep}click{os.sep}" in file
