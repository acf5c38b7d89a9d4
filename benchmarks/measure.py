"""Runs one command in a process of its own and says what it cost."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class MeasurementError(Exception):
    """A measured process that failed, or found another result than it should have."""


@dataclass(frozen=True)
class Cost:
    """What one process cost.

    Attributes:
        cpu: user and system seconds of the whole process, start and end included.
        wall: seconds from its start to its end.
        memory: the most memory that it held at once, in bytes.
        facts: what it said of itself (`cases/clock.py`): ``import_cpu``, ``work_wall``, ``result`` …
        errors: what it wrote to standard error.
    """

    cpu: float
    wall: float
    memory: int
    facts: Mapping[str, Any]
    errors: str = ""


def measure(
    command: Sequence[str],
    *,
    result: object = None,
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Cost:
    """Runs the command to its end.

    Args:
        command: the program and its arguments.
        result: what the process must say that it found; None where it says nothing.
        cwd: the folder in which it runs.
        environment: variables beside those that every measured process gets.

    Raises:
        MeasurementError: it ended with another status than 0, or found something else.
    """
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("KART_", "PYTHON"))}
    variables |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "", **(environment or {})}
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = _read(process)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise MeasurementError(f"{' '.join(command)} ended with status {process.returncode}:\n{errors or output}")
    facts = _facts(output)
    if result is not None and facts.get("result") != result:
        raise MeasurementError(f"{' '.join(command)} found {facts.get('result')!r}, not {result!r}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024, facts, errors)


def _read(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Both streams to their ends, without waiting for the process: only `wait4` tells what it cost."""
    import threading

    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(process.stderr,))
    reader.start()
    output = process.stdout.read()
    reader.join()
    return output, errors[0]


def _facts(output: str) -> dict[str, Any]:
    last = output.rstrip().rpartition("\n")[2]
    if not last.startswith("{"):
        return {}
    facts: dict[str, Any] = json.loads(last)
    return facts
