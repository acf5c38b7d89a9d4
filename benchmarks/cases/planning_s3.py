"""Planning stored tasks of two classes on a bucket: ``store`` puts what they would leave, ``plan`` plans."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from clock import done, imported

import kart_core as kart

FOLDER, COUNT, STEP = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Left(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        return self.number


class Right(kart.TaskOnKart[int]):
    number: int

    def run(self) -> int:
        return self.number


tasks = [cls(number=number) for cls in (Left, Right) for number in range(COUNT)]
if STEP == "store":
    from kart_core.workspace import open_workspace

    store = open_workspace(FOLDER).store
    kart.build(tasks[0], workspace_directory=FOLDER)
    record = kart.record(tasks[0], FOLDER).task.rpartition(".")[0]
    paths = [f"{record}/{type(task).__name__}_{task.unique_id}.pkl" for task in tasks]
    paths += [f".kart/records/{record}.{type(task).__name__}/{task.unique_id}.json" for task in tasks]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda path: store.put(path, b"{}"), paths))
else:
    import kart_s3.store  # noqa: F401 - importing the client libraries is not planning

    imported()
    plan = kart.plan(*tasks, workspace_directory=FOLDER)
    done(result=len(plan.reused))
