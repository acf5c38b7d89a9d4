"""A 400 MB array through numpy's own functions (.npy) and pickle's (.pkl)."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
from clock import done, imported

FOLDER, STEP, SUFFIX, MEGABYTES = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
array = np.arange(MEGABYTES * 125_000 if STEP == "dump" else 0, dtype=np.float64)
os.makedirs(FOLDER, exist_ok=True)
path = f"{FOLDER}/big.{SUFFIX}"

imported()
if STEP == "dump" and SUFFIX == "npy":
    np.save(path, array)
elif STEP == "dump":
    with open(path, "wb") as file:
        pickle.dump(array, file, protocol=5)
elif SUFFIX == "npy":
    array = np.load(path)
else:
    with open(path, "rb") as file:
        array = pickle.load(file)
done(result=float(array[-1]))
