"""A 400 MB array through kart. STEP "dump" stores it, "load" reads it back and checks it, as every load does."""

from __future__ import annotations

import sys

import numpy as np
from clock import done, imported
from numpy.typing import NDArray

import kart_core as kart

FOLDER, STEP, SUFFIX, MEGABYTES = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
build = kart.build  # imported when first asked for
array = np.arange(MEGABYTES * 125_000 if STEP == "dump" else 0, dtype=np.float64)


class Big(kart.TaskOnKart[NDArray[np.float64]]):
    megabytes: int

    def output(self) -> kart.Target:
        return self.make_target(f"big.{SUFFIX}")

    def run(self) -> NDArray[np.float64]:
        return array


imported()
if STEP == "dump":
    build(Big(megabytes=MEGABYTES), workspace_directory=FOLDER, return_value=False)
else:
    array = build(Big(megabytes=MEGABYTES), workspace_directory=FOLDER)
done(result=float(array[-1]))
