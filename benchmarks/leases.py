"""What a lease costs a task: `python -m benchmarks.leases`.

On a local disk CPU time, the median of several rounds, each in a new folder. In a bucket the requests, counted by the
proxy of the tests of ``plugins/kart_s3`` before a server of S3; that needs the packages which these tests need, and is
left out without them. Ends with 1 where a promise is not kept.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import kart_core as kart
from kart_core import config
from kart_core.execution.leases import Lease
from kart_core.execution.locking import Locking
from kart_core.resolved import Resolved, resolved

LIMIT: Final = 60.0
"""Microseconds that a lease may cost a task on a local disk."""

REQUESTS: Final = {"PUT": 1, "HEAD": 1, "DELETE": 1}
"""What a lease costs a task in a bucket: its creation, the second look, its removal."""

TASKS: Final = 1_000
ROUNDS: Final = 15
TESTS: Final = Path(__file__).resolve().parent.parent / "plugins" / "kart_s3" / "tests"


class Task(kart.TaskOnKart[int]):
    """Stands for a task."""

    def run(self) -> int:
        """Is not called."""
        return 0


def under_lease(locking: Locking, here: Resolved, unique_id: str) -> None:
    """All that a worker does about a task's lease."""
    lease = locking.take(here, unique_id)
    assert isinstance(lease, Lease)
    locking.look_again(here, unique_id, None)
    lease.check()
    lease.check()
    lease.release()


def microseconds(folder: str, work: Callable[[Resolved, str], object]) -> float:
    """The CPU time of a task."""
    workspace = {("TaskOnKart", "workspace_directory"): tempfile.mkdtemp(dir=folder)}
    with config.using(config.Config().with_options(workspace, origin="Python")):
        here = resolved(Task())
        work(here, "first")
        start = time.process_time()
        for i in range(TASKS):
            work(here, f"{i:032x}")
        return (time.process_time() - start) / TASKS * 1e6


def local() -> tuple[float, float]:
    """What a lease costs, and what two files cost that are merely created and removed, with the same store."""
    locking = Locking(processes=2)
    folder = tempfile.mkdtemp(prefix="kart-leases-")

    def bare(here: Resolved, unique_id: str) -> None:
        here.workspace.store.create(f".kart/leases/{unique_id}", b"")
        here.workspace.store.remove(f".kart/leases/{unique_id}")

    try:
        rounds = [
            (
                microseconds(folder, lambda here, unique_id: under_lease(locking, here, unique_id)),
                microseconds(folder, bare),
            )
            for _ in range(ROUNDS)
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return statistics.median(lease for lease, _ in rounds), statistics.median(bare for _, bare in rounds)


def requests() -> dict[str, int]:
    """What a lease costs in a bucket."""
    sys.path.insert(0, str(TESTS))
    from proxy import Proxy
    from servers import start_seaweed

    folder = Path(tempfile.mkdtemp(prefix="kart-leases-"))
    try:
        with start_seaweed(folder) as server, Proxy(server.endpoint) as proxy:
            os.environ.update(server.environment(AWS_ENDPOINT_URL=proxy.endpoint))
            config.refresh()
            here = resolved(Task(workspace_directory=server.new_url()))
            here.workspace.ensure_format()
            under_lease(Locking(), here, "1" * 32)  # the first answer that something is missing is looked into
            proxy.counted()
            under_lease(Locking(), here, "0" * 32)
            return proxy.counted()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Measures, and prints what was found."""
    lease, bare = local()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs")
    print(f"{lease:7.1f} µs  a lease on a local disk (at most {LIMIT:g})")
    print(f"{bare:7.1f} µs  a file that is created exclusively and removed")
    kept = lease <= LIMIT
    if find_spec("kart_s3") is None or find_spec("aiobotocore") is None:
        print("kart-s3 is not installed: no requests were counted")
    else:
        counted = requests()
        print(f"{', '.join(f'{count} {kind}' for kind, count in counted.items())}  a lease in a bucket")
        kept = kept and counted == REQUESTS
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
