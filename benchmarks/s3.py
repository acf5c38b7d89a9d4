"""``python -m benchmarks.s3``: kart beside gokart on a bucket, with 30 ms added to each request; prints a table.

Needs the packages that the tests of ``plugins/kart_s3`` need; gokart is measured in its own environment. Both talk to
the same server of S3 through the same proxy; each measurement is a process of its own, in a new folder of the bucket.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.measure import measure

TESTS = environments.HERE.parent / "plugins" / "kart_s3" / "tests"
CASES = environments.HERE / "cases"
LEAVES, PLANNED, DELAY = 300, 5_000, 0.03
ROUNDS = int(os.environ.get("ROUNDS", "3"))

PROXY = """\
import sys, time
sys.path.insert(0, {tests!r})
from proxy import Proxy
one = Proxy({upstream!r})
one.__enter__()
one.delay = {delay}
print(one.endpoint, flush=True)
while True:
    time.sleep(60)
"""


def main() -> None:
    """Measures and prints."""
    sys.path.insert(0, str(TESTS))
    environments.make("gokart")
    python = environments.python("gokart")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "boto3"], check=True)
    with _server() as server, _far(server.endpoint) as endpoint:
        variables = {**server.environment(AWS_ENDPOINT_URL=endpoint), "AWS_DEFAULT_REGION": "us-east-1"}
        times: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, command in _commands(python).items():
                place = f"s3://{server.bucket}/{uuid.uuid4().hex}/"
                run = [word.replace("PLACE", place) for word in command]
                cost = measure(run, result=sum(range(LEAVES)), environment=variables)
                times.setdefault(name, []).append(float(cost.facts["work_wall"]))
                print(f"{name}: {times[name][-1]:.1f} s", file=sys.stderr)  # gokart takes minutes
        place = f"s3://{server.bucket}/planned"
        plan = [sys.executable, str(CASES / "planning_s3.py"), place, str(PLANNED)]
        measure([*plan, "store"], environment={**variables, "AWS_ENDPOINT_URL": server.endpoint})
        planned = [measure([*plan, "plan"], result=2 * PLANNED, environment=variables) for _ in range(ROUNDS)]
    print(f"| {LEAVES} leaf tasks and a root, cold, one worker | wall s |\n| --- | --: |")
    for name, walls in times.items():
        print(f"| {name} | {statistics.median(walls):.1f} |")
    kart, gokart = (statistics.median(times[name]) for name in ("kart", "gokart"))
    print(f"\nkart is {gokart / kart:.1f} times as fast (promised: 10)")
    walls = [float(cost.facts["work_wall"]) for cost in planned]
    print(f"planning {2 * PLANNED:,} stored tasks of two classes: {statistics.median(walls):.2f} s (promised: 2)")


def _commands(gokart: str) -> dict[str, list[str]]:
    return {
        "kart": [sys.executable, str(CASES / "fan_out_kart.py"), "PLACE", str(LEAVES), "0", "loads"],
        "gokart": [gokart, str(CASES / "fan_out_gokart.py"), "PLACE", str(LEAVES), "0", "1"],
    }


@contextmanager
def _server() -> Iterator[Any]:
    """SeaweedFS, as the tests start it."""
    from servers import start_seaweed

    folder = Path(tempfile.mkdtemp(prefix="kart-s3-"))
    try:
        with start_seaweed(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _far(upstream: str) -> Iterator[str]:
    """The proxy that makes the server a far one, in a process of its own; gives its address."""
    script = PROXY.format(tests=str(TESTS), upstream=upstream, delay=DELAY)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    begun = time.monotonic()
    main()
    print(f"({time.monotonic() - begun:.0f} s)", file=sys.stderr)
