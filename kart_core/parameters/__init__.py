"""What a parameter's annotation takes: from Python code, from text, and from plain data.

`checker` compiles the check of values given in Python. `parse_text` reads what a command line, an
INI file or the environment holds, `structure` what TOML or JSON holds, and `unstructure` writes
a value as data that `structure` reads back. The last three are imported when first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kart_core.parameters.annotation import describe, plain, scalar_type
from kart_core.parameters.checking import checker
from kart_core.parameters.fault import ParameterFault
from kart_core.parameters.kinds import register

if TYPE_CHECKING:
    from kart_core.parameters.data import structure
    from kart_core.parameters.text import parse_text
    from kart_core.parameters.writing import unstructure

__all__ = [
    "ParameterFault",
    "checker",
    "describe",
    "parse_text",
    "plain",
    "register",
    "scalar_type",
    "structure",
    "unstructure",
]


_HOMES = {"parse_text": "text", "structure": "data", "unstructure": "writing"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
