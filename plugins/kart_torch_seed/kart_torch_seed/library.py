"""Torch and numpy as they are needed: neither is imported with the plugin, torch may not be installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def torch() -> Any:
    """Torch; asked for only where a task has imported it, or is a worker of it."""
    return import_module("torch")


def numpy_random() -> Any:
    """The module `numpy.random`, whose types leave out how its bit generator is changed."""
    return import_module("numpy.random")
