"""Two clusters, one workspace: what both ask for runs once."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster

S3 = Path(__file__).parents[2] / "kart_s3"
ROOTS = ("pipe:CountedTotal", "pipe:CountedGrowth")


@pytest.fixture
def real_bucket(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """A bucket named ``kart`` of SeaweedFS: of those who create at once, the fake server lets two, rarely."""
    spec = importlib.util.spec_from_file_location("servers_of_kart_s3", S3 / "tests" / "servers.py")
    assert spec is not None
    assert spec.loader is not None
    servers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(servers)
    folder = tmp_path / "seaweed"
    folder.mkdir()
    with ExitStack() as stack:
        try:
            server = stack.enter_context(servers.start_seaweed(folder))
        except RuntimeError:  # somebody took one of its dozen ports meanwhile
            server = stack.enter_context(servers.start_seaweed(folder))
        yield {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPATH": str(S3),
        }


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def workspace(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, str]]:
    """A workspace, and the variables by which other processes reach it."""
    if request.param == "folder":
        return "results", {}
    Path("kart.toml").write_text('[plugins]\nload = ["kart_s3:S3"]\n')
    return "s3://kart/two-clusters", request.getfixturevalue("real_bucket")


def test_each_task_runs_once_though_two_clusters_are_given_all(
    cluster: Cluster, project: Any, workspace: tuple[str, Mapping[str, str]], tmp_path: Path
) -> None:
    where, environment = workspace
    other = Cluster(tmp_path / "other")
    try:
        for each in (cluster, other):
            for _ in range(2):
                each.worker(environment=environment)
        runs = [
            project.start(
                *("run", *ROOTS, "--workspace-directory", where),
                environment={**environment, "KART_EXECUTOR": "dask", "KART_DASK__SCHEDULER_FILE": each.file},
            )
            for each in (cluster, other)
        ]
        told = [run.communicate(timeout=120) for run in runs]
    finally:
        other.close()
    assert [run.returncode for run in runs] == [0, 0], told
    counted = Counter(project.ran())
    expected = [f"counted{i}" for i in (*range(54), *range(1000, 1008))]
    expected += [*(f"group{9 * i}" for i in range(6)), "growth-begins", "growth-goes-on"]
    assert counted == Counter(expected)
    assert all("70 ran" not in out for out, _ in told), "one of them did everything, and the test says nothing"
    again = project.kart("run", *ROOTS, "--workspace-directory", where, environment=environment)
    assert again.returncode == 0, again.stderr
    assert Counter(project.ran()) == counted
