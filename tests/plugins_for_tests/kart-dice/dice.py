"""A library with a global generator of its own, which counts upwards from its seed."""

from __future__ import annotations

_next = [0]


def roll() -> int:
    _next[0] += 1
    return _next[0]


def seed(value: int) -> None:
    _next[0] = value


def state() -> int:
    return _next[0]


restore = seed
