"""Runs that share a bucket: each task runs once, however many ask at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project
from servers import Server

FOUR = range(4)


@pytest.mark.parametrize("workers", [1, 2])
def test_four_processes_that_ask_at_once_run_each_task_once(project: Project, seaweed: Server, workers: int) -> None:
    url = project.use(seaweed)
    settings = "{}" if workers == 1 else f'{{"workers": {workers}}}'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", "import team; team.main()", settings],
            cwd=project.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(project.folder / f"told-{number}").open("wb"),
            text=True,
        )
        for number in FOUR
    ]
    try:
        for run in runs:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
        for run in runs:
            assert run.stdin is not None
            run.stdin.write("\n")
            run.stdin.flush()
        results = [run.communicate(timeout=120)[0].strip() for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait(10)
    assert results == [str(sum(range(180)))] * 4, [(project.folder / f"told-{number}").read_text() for number in FOUR]
    bodies = (project.folder / "bodies.txt").read_text().split()
    assert len(bodies) == len(set(bodies)) == 201
    assert [key for key in seaweed.keys(url) if key.startswith(".kart/leases/")] == []
