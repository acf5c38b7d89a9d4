"""The fan-out with joblib.Memory: each leaf, and the root, is a cached call."""

from __future__ import annotations

import sys

from clock import done, imported
from joblib import Memory

FOLDER, LEAVES, SALT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
memory = Memory(FOLDER, verbose=0)


@memory.cache
def leaf(number: int) -> int:
    return number


@memory.cache
def root(salt: int, leaves: int) -> int:
    return salt + sum(leaf(number) for number in range(leaves))


imported()
done(result=root(SALT, LEAVES))
