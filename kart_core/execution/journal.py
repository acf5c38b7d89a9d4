"""The journal of a run: one line of JSON for each thing that happened, under ``.kart/runs``."""

from __future__ import annotations

import os
import time
from typing import IO

from kart_core.records import ESCAPE, text_of, to_text
from kart_core.workspace import Workspace, guarded

_BATCH = 200


class Journal:
    """Writes what happens in a run.

    On a local disk lines are appended as they come; elsewhere the whole is put at the end. Nothing
    is written for a run in which no task runs.
    """

    def __init__(self, workspace: Workspace, run: str) -> None:
        self._workspace = workspace
        self._path = f".kart/runs/{run}.jsonl"
        self._lines: list[str] = []
        self._file: IO[str] | None = None
        self._begun = False

    def task(self, kind: str, name: str, unique_id: str, seconds: float, error: str | None = None) -> None:
        """Notes what became of a task."""
        ending = "" if error is None else f',"error":{to_text(error)}'
        self._lines.append(
            f'{{"kind":"{kind}","time":{time.time():.3f},"task":{text_of(name)},"unique_id":"{unique_id}",'
            f'"seconds":{seconds:.6f}{ending}}}\n'
        )
        self._begun = True
        if len(self._lines) >= _BATCH or error is not None:
            self._flush(final=False)

    def run(self, kind: str, counts: dict[str, int]) -> None:
        """Notes the begin or the end of the run."""
        self._lines.append(f'{{"kind":"{kind}","time":{time.time():.3f},"counts":{to_text(counts)}}}\n')
        if kind == "run_finished" and self._begun:
            self._flush(final=True)

    def _flush(self, *, final: bool) -> None:
        local = self._workspace.store.local_path(self._path)
        with guarded(self._workspace, self._path, writing=True):
            if local is None:
                if final:
                    self._workspace.store.put(self._path, "".join(self._lines).encode(errors=ESCAPE))
                return
            if self._file is None:
                os.makedirs(os.path.dirname(local), exist_ok=True)
                self._file = open(local, "a", encoding="utf-8", errors=ESCAPE)  # noqa: SIM115 - closed at the end of the run
            self._file.writelines(self._lines)
            self._file.flush()
            self._lines.clear()
            if final:
                self._file.close()
