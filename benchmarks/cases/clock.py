"""What each measured process says of itself: how far it was when its imports were done, and what it found."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

_marks: dict[str, Any] = {}


def imported() -> None:
    """Called when everything that the work needs is imported: what comes after is the work."""
    _marks["import_cpu"] = time.process_time()
    _marks["import_wall"] = time.perf_counter()
    _marks["import_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def done(**facts: Any) -> None:
    """Called when the work is done, with what it found."""
    _marks["work_wall"] = time.perf_counter() - _marks.pop("import_wall")
    _marks["work_cpu"] = time.process_time() - _marks["import_cpu"]
    sys.stdout.write("\n" + json.dumps({**_marks, **facts}) + "\n")
    sys.stdout.flush()
