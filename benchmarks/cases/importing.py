"""Imports a module, and names of it if they follow after a colon, and says how long that took."""

from __future__ import annotations

import importlib
import sys

from clock import done, imported

module, _, names = sys.argv[1].partition(":")

imported()
found = importlib.import_module(module)
for name in names.split(",") if names else ():
    getattr(found, name)
done(modules=sorted({"numpy", "fsspec", "cattrs", "click", "rich"} & set(sys.modules)))
