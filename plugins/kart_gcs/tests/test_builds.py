"""Whole runs on a bucket: the same results as locally, few requests, and nothing of a secret anywhere."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import gcs_servers
import pytest

BASE_INI = """\
[TaskOnKart]
workspace_directory=${TASK_WORKSPACE_DIRECTORY}

[Task]
n=3
"""

MAIN = """\
import kart_core


class Task(kart_core.TaskOnKart[dict[str, int]]):
    n: int = 1

    def run(self) -> None:
        self.dump({"n": self.n})


if __name__ == "__main__":
    kart_core.add_config("base.ini")
    kart_core.run()
"""


@pytest.mark.parametrize("form", ["path", "text"])
def test_the_documents_example_runs_with_the_credential_of_the_environment(
    project: Any, guard: Any, bucket: Any, tokens: Any, tmp_path: Path, form: str
) -> None:
    """Against a storage that lets in only tokens granted for that very key."""
    key = json.dumps(tokens.service_account())
    (tmp_path / "key.json").write_text(key)
    guard.tokens = tokens
    project.write("base.ini", BASE_INI)
    project.write("main.py", MAIN)
    environment = {
        "TASK_WORKSPACE_DIRECTORY": f"gs://{bucket.name}/prefix",
        "GCS_CREDENTIAL": str(tmp_path / "key.json") if form == "path" else key,
    }
    outcome = project.python("main.py", "Task", "--local-scheduler", environment=environment)
    assert outcome.code == 0, outcome.err
    assert "1 ran" in outcome.out
    assert len(tokens.granted) == 1
    assert any(name.startswith("prefix/main/Task_") for name in bucket.names())
    again = project.python("main.py", "Task", "--local-scheduler", environment=environment)
    assert "1 reused" in again.out
    wrong = {**environment, "GCS_CREDENTIAL": json.dumps(tokens.unknown_key())}
    assert project.python("main.py", "Task", environment=wrong).code == 70


# -- the same as locally

SCENARIO = """
import json, random, sys
import kart_core as kart


class Numbers(kart.TaskOnKart[list[int]]):
    n: int = 10

    def run(self) -> list[int]:
        ran.append(f"Numbers {self.n}")
        return [random.randint(0, 100) for _ in range(self.n)]


class Total(kart.TaskOnKart[int]):
    numbers: Numbers
    fails: bool = kart.parameter(default=False, significant=False)

    def run(self) -> None:
        ran.append("Total")
        self.task_log["seen"] = 1
        if self.fails:
            raise ValueError("as it was told")
        self.dump(sum(self.load(self.numbers)))


class Formats(kart.TaskOnKart[dict]):
    def output(self):
        return {name: self.make_target(f"formats/out.{name}") for name in ("json", "txt", "npy", "npz", "bin", "pkl")}

    def run(self) -> None:
        import numpy as np

        ran.append("Formats")
        array = np.arange(500_000, dtype="f8").reshape(5, -1)
        self.dump({"a": [1, None, "\\u00fc"]}, "json")
        self.dump("line\\r\\nline\\n", "txt")
        self.dump(array, "npy")
        self.dump({"x": array, "y": array[:0]}, "npz")
        self.dump(b"before\\n--==0==--\\nafter" * 100_000, "bin")
        self.dump({"set": {1, 2}, "none": None}, "pkl")


class Fixed(kart.TaskOnKart[str]):
    text: str = "a"

    def output(self):
        return self.make_target("latest/fixed.txt", use_unique_id=False)

    def run(self) -> str:
        ran.append(f"Fixed {self.text}")
        return self.text


class Empty(kart.TaskOnKart[bytes]):
    def output(self):
        return self.make_target("empty.bin")

    def run(self) -> bytes:
        ran.append("Empty")
        return b""


class Parts(kart.TaskOnKart[list[int]]):
    def run(self):
        ran.append("Parts")
        self.dump(i for i in range(100_000))


class Forgets(kart.TaskOnKart[int]):
    def run(self) -> None:
        ran.append("Forgets")


class Wants(kart.TaskOnKart[int]):
    forgets: Forgets
    total: Total

    def run(self) -> int:
        ran.append("Wants")
        return 1


ran = []
said = []


def say(what):
    said.append([what, ran.copy()])
    ran.clear()


def told(ask):
    try:
        return ask()
    except Exception as error:
        return [type(error).__name__, str(error)]


def build(*tasks, **settings):
    return told(lambda: kart.build(*tasks, workspace_directory=workspace, **settings))


def plain(record):
    keep = ("task", "unique_id", "parameters", "seed", "code")
    outputs = [[output.path, output.size, output.digest, output.serializer] for output in record.outputs]
    return [{name: str(getattr(record, name)) for name in keep}, outputs]


workspace = sys.argv[1]
total = Total(numbers=Numbers(n=5))
say(build(total))
say(build(total))
say(build(total, rerun=True))
say([total.unique_id, Numbers(n=5).unique_id])
with_workspace = Total(numbers=Numbers(n=5, workspace_directory=workspace), workspace_directory=workspace)
say([with_workspace.complete(), with_workspace.unique_id])
say(build(Total(numbers=Numbers(n=5), fails=True), rerun=True))
say(build(total))
formats = build(Formats())
say({name: repr(value)[:200] if name not in ("npy", "npz") else str(value)[:200] for name, value in formats.items()})
say(formats["npy"].shape if hasattr(formats["npy"], "shape") else None)
say([build(Fixed(text="a")), build(Fixed(text="b")), build(Fixed(text="a")), build(Fixed(text="a"))])
say([repr(build(Empty())), repr(build(Empty()))])
say(sum(build(Parts())))
parts = Parts(workspace_directory=workspace)
say(sum(1 for _ in parts.load_generator(parts)) if hasattr(parts, "load_generator") else None)
say(build(Wants(forgets=Forgets(), total=total)))
say(plain(kart.record(with_workspace)))
say([found.unique_id for found in kart.results(Numbers, workspace_directory=workspace)]
    if "workspace_directory" in kart.results.__code__.co_varnames else None)
say(told(lambda: kart.build(*[Numbers(n=i) for i in range(60)], workspace_directory=workspace)))
say([node.action for node in kart.plan(*[Numbers(n=i) for i in range(70)], workspace_directory=workspace).nodes])
print(json.dumps(said))
"""


def test_builds_on_a_bucket_are_equal_to_local_ones(project: Any, guard: Any, bucket: Any) -> None:
    """Builds, reruns, ids, failures, formats and records, step by step."""
    pytest.importorskip("numpy")
    project.write("scenario.py", SCENARIO)
    told: dict[str, Any] = {}
    for url in (str(project.folder / "local"), f"gs://{bucket.name}/deep/er"):
        outcome = project.python("scenario.py", url)
        assert outcome.code == 0, outcome.err
        told[url] = json.loads(outcome.out.splitlines()[-1].replace(url, "WORKSPACE"))
    local, remote = told.values()
    assert len(local) == len(remote) > 15
    for step, (here, there) in enumerate(zip(local, remote, strict=True)):
        assert here == there, step
    files = [path.relative_to(project.folder / "local") for path in (project.folder / "local").rglob("*")]
    names = {str(path) for path in files if (project.folder / "local" / path).is_file()}
    runs = re.compile(r"\.kart/runs/.*")
    stored = {name.removeprefix("deep/er/") for name in bucket.names()}
    assert {runs.sub("run", name) for name in names} == {runs.sub("run", name) for name in stored}


# -- requests

COUNTED = """
import kart_core as kart


class Leaf(kart.TaskOnKart[int]):
    n: int = 0

    def run(self) -> int:
        return self.n


class Two(kart.TaskOnKart[list[int]]):
    leaves: list[Leaf]

    def output(self):
        return [self.make_target("two/a.json"), self.make_target("two/b.json")]

    def run(self) -> None:
        self.dump([self.load(self.leaves), 2])
"""


@pytest.fixture
def count(project: Any, guard: Any, bucket: Any) -> Any:
    """Runs code after the tasks' in a process of its own; gives the requests that the server saw."""

    def count(code: str, leases: bool = True) -> dict[str, int]:
        guard.requests.clear()
        settings = f"workspace_directory='gs://{bucket.name}/counted'"
        if not leases:
            settings = f"workspace_directory='gs://{bucket.name}/without', should_lock_run=False"
        if not (project.folder / "counted.py").exists():
            # Of yesterday: what is newer than a record is compared with it, for which the record is read.
            os.utime(project.write("counted.py", COUNTED), (time.time() - 86400,) * 2)
        project.write("main.py", f"from counted import *\n{code.replace('WORKSPACE', settings)}\n")
        outcome = project.python("main.py")
        assert outcome.code == 0, outcome.err
        return guard.kinds()

    return count


DOCUMENTED = Path(__file__).resolve().parents[3] / "docs" / "gcs.md"


def test_requests_are_those_that_the_documentation_states(count: Any) -> None:
    leaves = "[Leaf(n=i) for i in range(20)]"
    first = f"kart.build(*{leaves}, WORKSPACE, return_value=False)"
    rerun = "kart.build(Leaf(n=3), WORKSPACE, return_value=False, rerun=True)"
    counted = {
        "a first build of 20 tasks": count(first),
        "a first build of 20 tasks, without leases": count(first, leases=False),
        "the same build again": count(f"kart.build(*{leaves}, WORKSPACE, return_value=False)"),
        "a task with two outputs that loads those 20": count(
            f"kart.build(Two(leaves={leaves}), WORKSPACE, return_value=False)"
        ),
        "a build whose root is stored, and its value": count("assert kart.build(Leaf(n=3), WORKSPACE) == 3"),
        "a rerun of one task": count(rerun),
        "a rerun of one task, without leases": count(rerun, leases=False),
        "`task.load(task)` of a stored result": count("leaf = Leaf(n=3, WORKSPACE); assert leaf.load(leaf) == 3"),
    }
    assert sum(counted["a build whose root is stored, and its value"].values()) <= 4
    assert sum(counted["`task.load(task)` of a stored result"].values()) <= 2
    if not DOCUMENTED.exists():
        pytest.skip("the documentation is not here")
    names = {"PUT": "PUT", "GET": "GET", "HEAD": "HEAD", "LIST": "list", "DELETE": "DELETE"}
    rows = [
        f"| {what} | {', '.join(f'{requests[kind]} {name}' for kind, name in names.items() if kind in requests)} |"
        for what, requests in counted.items()
    ]
    page = DOCUMENTED.read_text(encoding="utf-8")
    assert [row for row in rows if row not in page] == [], rows


MANY = """
import sys
import kart_core as kart


class A(kart.TaskOnKart[int]):
    n: int

    def run(self) -> int:
        return self.n


class B(A):
    pass


class Root(kart.TaskOnKart[int]):
    tasks: list[A]

    def run(self) -> int:
        return 1


workspace = sys.argv[1]
tasks = [kind(n=n) for kind in (A, B) for n in range(5000)]
if __name__ == "__main__":
    if workspace.startswith("gs://"):
        kart.plan(tasks[0], workspace_directory=workspace)
        plan = kart.plan(Root(tasks=tasks), workspace_directory=workspace)
        actions = [node.action for node in plan.nodes]
        print(actions.count("reuse"), actions.count("run"))
    else:
        kart.build(*tasks, workspace_directory=workspace, return_value=False)
"""


def test_planning_ten_thousand_stored_tasks_takes_few_listings(project: Any, guard: Any) -> None:
    project.write("many.py", MANY)
    outcome = project.python("many.py", str(project.folder / "work"))
    assert outcome.code == 0, outcome.err
    paths = [path for path in (project.folder / "work").rglob("*") if path.is_file()]
    guard.rule = gcs_servers.listing({str(path.relative_to(project.folder)): path.stat().st_size for path in paths})
    outcome = project.python("many.py", "gs://kart-many/work")
    assert outcome.code == 0, outcome.err
    assert outcome.out.split() == ["10000", "1"]
    kinds = guard.kinds()
    assert kinds["LIST"] <= 24
    assert sum(kinds.values()) - kinds["LIST"] <= 6


# -- secrets, and what is imported


def test_no_secret_is_in_what_is_written_shown_or_logged(project: Any, guard: Any, bucket: Any, tokens: Any) -> None:
    import base64

    key = tokens.service_account()
    own = base64.b64encode(b"0123456789abcdef" * 2).decode()
    guard.tokens = tokens
    project.write(
        "main.py",
        "import logging\nlogging.basicConfig(level=1)\n" + MAIN.replace('    kart_core.add_config("base.ini")\n', ""),
    )
    environment = {
        "GCS_CREDENTIAL": json.dumps(key),
        "OUR_KEY": own,
        "KART_GCS__ENCRYPTION_KEY_VARIABLE": "OUR_KEY",
        "KART_WORKSPACE_DIRECTORY": f"gs://{bucket.name}/secret",
        "KART_TRACE": "plugins",
        "GCSFS_DEBUG": "DEBUG",
        "GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google",
    }
    texts: list[str] = []

    def shown(outcome: Any, code: int = 0) -> None:
        assert outcome.code == code, outcome.err
        texts.extend([outcome.out, outcome.err])

    shown(project.python("main.py", "Task", environment=environment))
    guard.rule = lambda request: (500, {"error": "no"}) if request.kind == "PUT" else None
    shown(
        project.python("main.py", "Task", "--n", "2", environment={**environment, "KART_GCS__RETRY_SECONDS": "0"}), 70
    )
    guard.rule = None
    tokens.refuse = 400, {"error": "invalid_grant", "error_description": "no"}
    shown(project.python("main.py", "Task", environment=environment), 70)
    tokens.refuse = None
    for words in (["config"], ["plugins"], ["plugins", "gcs"], ["plugins", "--check"], ["show", "main:Task"]):
        outcome = project.kart(*words, environment=environment)
        texts.extend([outcome.out, outcome.err])
    texts.extend((bucket.get(name) or b"").decode(errors="replace") for name in bucket.names())
    texts.extend(path.read_text(errors="replace") for path in project.folder.rglob("*") if path.is_file())
    assert "DEBUG" in texts[1]
    assert len(tokens.granted) > 1
    lines = [line for line in key["private_key"].splitlines() if len(line) > 20 and not line.startswith("-----")]
    for secret in (*lines, key["private_key"], own, *tokens.granted, "assertion="):
        found = [text[max(0, text.find(secret) - 200) :][:400] for text in texts if secret in text]
        assert not found, found


def test_what_does_not_need_a_bucket_imports_nothing_of_googles(project: Any) -> None:
    project.write("main.py", MAIN.replace('    kart_core.add_config("base.ini")\n', ""))
    imported = (
        "import sys, atexit; atexit.register(lambda: print([m for m in sys.modules if m.split('.')[0] in "
        "('gcsfs', 'google', 'aiohttp', 's3fs', 'grpc')], file=sys.stderr)); "
    )
    for words in (["--help"], ["plugins"], ["run", "main:Task"], ["plan", "main:Task"], ["plugins", "gcs"]):
        code = f"{imported}from kart_core.cli import main; main({words!r})"
        outcome = project.python("-c", code)
        assert outcome.code == 0, outcome.err
        assert outcome.err.splitlines()[-1] == "[]"


# -- several at once


PARALLEL = """
import asyncio, multiprocessing, sys, threading
from concurrent.futures import ThreadPoolExecutor
import kart_core as kart

workspace = sys.argv[1] if len(sys.argv) > 1 else ""


class Leaf(kart.TaskOnKart[int]):
    n: int = 0

    def run(self) -> int:
        return self.n


class Root(kart.TaskOnKart[int]):
    leaves: list[Leaf]

    def run(self) -> int:
        return sum(self.load(self.leaves))


def in_a_process(workspace, number, results):
    results.put(kart.build(Root(leaves=[Leaf(n=n) for n in range(number, number + 10)]), workspace_directory=workspace))


if __name__ == "__main__":
    kart.build(Leaf(n=0), workspace_directory=workspace)
    with ThreadPoolExecutor(16) as pool:
        def in_a_thread(n):
            task = Leaf(n=0, workspace_directory=workspace)
            return task.load(task)
        assert list(pool.map(in_a_thread, range(64))) == [0] * 64
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [spawn.Process(target=in_a_process, args=(workspace, n, results)) for n in range(4)]
    for process in processes: process.start()
    built = sorted(results.get(timeout=60) for _ in processes)
    for process in processes: process.join()
    assert built == [sum(range(n, n + 10)) for n in range(4)], built

    async def notebook():
        return kart.build(Root(leaves=[Leaf(n=n) for n in range(5)]), workspace_directory=workspace)

    assert asyncio.run(notebook()) == 10
    print("fine")
"""


def test_threads_processes_and_a_running_event_loop_share_a_workspace(project: Any, guard: Any, bucket: Any) -> None:
    project.write("parallel.py", PARALLEL)
    outcome = project.python("parallel.py", f"gs://{bucket.name}/shared", timeout=120)
    assert (outcome.code, outcome.out.strip()) == (0, "fine"), outcome.err


@pytest.mark.parametrize("name", ["ünï code", "a+b", "100%", "hash#tag", "q?x=1&y", "~tilde", "日本"])
def test_a_workspace_of_any_name_is_planned_and_loaded(project: Any, guard: Any, bucket: Any, name: str) -> None:
    project.write("main.py", MAIN.replace('    kart_core.add_config("base.ini")\n', ""))
    words = ("main.py", "Task", "--workspace-directory", f"gs://{bucket.name}/{name}")
    assert "1 ran" in project.python(*words).out
    assert "1 reused" in project.python(*words).out
    assert any(key.startswith(f"{name}/main/Task_") for key in bucket.names())
