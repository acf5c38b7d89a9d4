"""The fan-out as a loop: pickle an int, write a temporary file, rename it. FILES=2 writes a 500-byte record as well."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from clock import done, imported

FOLDER, LEAVES, SALT, FILES = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
RECORD = b"r" * 500

imported()


def write(name: str, content: bytes) -> None:
    path = f"{FOLDER}/{name}"
    with open(path + ".tmp", "wb") as file:
        file.write(content)
    os.replace(path + ".tmp", path)


def store(name: str, value: int) -> None:
    write(f"{name}.pkl", pickle.dumps(value))
    if FILES == 2:
        write(f"{name}.json", RECORD)


def stored(name: str) -> bool:
    try:
        os.stat(f"{FOLDER}/{name}.pkl")
        if FILES == 2:
            os.stat(f"{FOLDER}/{name}.json")
    except FileNotFoundError:
        return False
    return True


def load(name: str) -> int:
    with open(f"{FOLDER}/{name}.pkl", "rb") as file:
        return int(pickle.load(file))


FOLDER.mkdir(parents=True, exist_ok=True)
for leaf in range(LEAVES):
    if not stored(f"leaf_{leaf}"):
        store(f"leaf_{leaf}", leaf)
if not stored(f"root_{SALT}"):
    store(f"root_{SALT}", SALT + sum(load(f"leaf_{leaf}") for leaf in range(LEAVES)))
done(result=load(f"root_{SALT}"))
