"""The fan-out with doit, in process, with its quietest reporter. The root depends on the leaves' files."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clock import done, imported
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.tools import config_changed

FOLDER, LEAVES, SALT = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def write_leaf(number: int, path: str) -> None:
    with open(path, "wb") as file:
        pickle.dump(number, file)


def write_root() -> None:
    total = SALT
    for number in range(LEAVES):
        with open(f"{FOLDER}/leaf_{number}.pkl", "rb") as file:
            total += pickle.load(file)
    with open(FOLDER / "root.pkl", "wb") as file:
        pickle.dump(total, file)


def task_leaf() -> Iterator[dict[str, Any]]:
    for number in range(LEAVES):
        path = f"{FOLDER}/leaf_{number}.pkl"
        yield {"name": str(number), "actions": [(write_leaf, (number, path))], "targets": [path], "uptodate": [True]}


def task_root() -> dict[str, Any]:
    return {
        "actions": [write_root],
        "file_dep": [f"{FOLDER}/leaf_{number}.pkl" for number in range(LEAVES)],
        "targets": [f"{FOLDER}/root.pkl"],
        "uptodate": [config_changed(str(SALT))],
    }


imported()
os.makedirs(FOLDER, exist_ok=True)
config = {"dep_file": str(FOLDER / "doit"), "backend": "json", "verbosity": 0, "reporter": "zero"}
members = {"task_leaf": task_leaf, "task_root": task_root, "DOIT_CONFIG": config}
status = DoitMain(ModuleTaskLoader(members)).run(["run", "root"])
assert not status, f"doit ended with status {status}"
with open(FOLDER / "root.pkl", "rb") as file:
    done(result=pickle.load(file))
