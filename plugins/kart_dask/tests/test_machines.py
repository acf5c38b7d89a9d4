"""Workers as on machines of their own: they share neither the disk nor the code, and results lie in a bucket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from clusters import apart

import kart_core as kart


@apart
def test_200_tasks_run_on_two_machines_with_a_bucket_and_code_that_is_shipped(
    on_own: Any, project: Any, bucket: Mapping[str, str]
) -> None:
    (project.folder / "kart.toml").write_text('[plugins]\nload = ["kart_s3:S3"]\n')
    for _ in range(2):
        on_own.worker(hidden=[project.folder], environment=bucket)
    done = project.kart("run", "pipe:PlainTotal", "--workspace-directory", "s3://kart/results", "--dask-ship")
    assert done.returncode == 0, done.stderr
    assert "201 ran" in done.stdout
    inline = kart.build(project.pipe.PlainTotal(), executor="inline", workspace_directory="inline")
    assert kart.build(project.pipe.PlainTotal(), workspace_directory="s3://kart/results") == inline
    assert {*os.listdir(project.folder)} - {"__pycache__"} == {"inline", "kart.toml", "pipe.py"}
    record = kart.record(project.pipe.PlainTotal(), workspace_directory="s3://kart/results")
    assert record.code == kart.record(project.pipe.PlainTotal(), workspace_directory="inline").code


@apart
def test_code_that_workers_lack_is_said_to_be_lacking(on_own: Any, project: Any, bucket: Mapping[str, str]) -> None:
    (project.folder / "kart.toml").write_text('[plugins]\nload = ["kart_s3:S3"]\n')
    on_own.worker(hidden=[project.folder], environment=bucket)
    done = project.kart("run", "pipe:Plain", "--i", "1", "--workspace-directory", "s3://kart/lacking")
    assert done.returncode in (40, 70)
    assert "No module named 'pipe'" in done.stderr
