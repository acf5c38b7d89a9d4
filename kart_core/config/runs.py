"""The sections ``[run]`` and ``[resources]``: what they may hold, and what is wrong with what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kart_core.errors import ConfigError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kart_core.config.layers import Config, Found

SECTION: Final = "run"
"""The section of the configuration that says how runs are executed."""
RESOURCES: Final = "resources"
"""The section that says how much there is of each resource."""

KEYS: Final = ("workers", "executor")
"""What `SECTION` may hold."""


def check_workers(workers: Any) -> None:
    """Makes sure that a number of workers is one.

    Raises:
        ParameterError: it is not.
    """
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise ParameterError(f"workers takes a whole number from 1 on, but was given {workers!r}")


def count(found: Found) -> int:
    """A configured number of workers.

    Raises:
        ConfigError: it is none.
    """
    given: Any = found.value
    workers: Any = int(given) if isinstance(given, str) and given.strip().isdigit() else given
    try:
        check_workers(workers)
    except ParameterError as error:
        raise ConfigError(f"{found.source}: {error}") from None
    return int(workers)


def name(found: Found) -> str:
    """A configured executor's name.

    Raises:
        ConfigError: it is no text.
    """
    if not isinstance(found.value, str):
        raise ConfigError(f"{found.source}: given {found.value!r}, but it takes the name of an executor")
    return found.value


def amount(resource: str, found: Found) -> float:
    """How much there is of a resource.

    Raises:
        ConfigError: the value is no amount.
    """
    try:
        given = float(found.value)
    except (TypeError, ValueError):
        given = -1.0
    if not 0 <= given < float("inf") or isinstance(found.value, bool):
        raise ConfigError(f"{found.source}: given {found.value!r}, but it takes how much there is of {resource!r}")
    return given


def check(section: str, key: str, found: Found) -> None:
    """Makes sure of one value of the two sections.

    Raises:
        ConfigError: the section has no such key, or the value is none of its.
    """
    if section == RESOURCES:
        amount(key, found)
    elif key == "workers":
        count(found)
    elif key == "executor":
        name(found)
    else:
        from kart_core.config import nearest

        near = nearest(key, KEYS)
        hint = f"did you mean {near!r}?" if near else f"there are {' and '.join(KEYS)}"
        raise ConfigError(f"{found.source}: the section [{SECTION}] has no key {key!r}; {hint}")


def faults(conf: Config) -> Iterator[str]:
    """What is wrong in the two sections: a sentence for each fault.

    A variable that is not set is none: it stops only what uses its value.
    """
    for section in (SECTION, RESOURCES):
        for key in conf.keys(section):
            try:
                found = conf.find([section], key)
            except ConfigError:
                continue
            if found is not None:
                try:
                    check(section, key, found)
                except ConfigError as error:
                    yield str(error)
