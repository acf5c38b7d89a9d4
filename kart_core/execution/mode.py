"""How a run is executed: by which executor, with how many workers, within which limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import attrs

from kart_core import config, host, running
from kart_core.declaration import shape_of
from kart_core.errors import ConfigError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kart_core.config import Found
    from kart_core.graph import Node
    from kart_core.plugin import Executor

SECTION: Final = "run"
"""The section of the configuration that says how runs are executed."""
RESOURCES: Final = "resources"
"""The section that says how much there is of each resource."""

_KEYS: Final = ("workers", "executor")


@attrs.frozen
class Mode:
    """An executor, and how many tasks it runs at the same time."""

    executor: Executor
    workers: int
    limits: Mapping[str, float]
    """How much there is of each resource that is named."""

    @classmethod
    def of(cls, executor: str | None, workers: int | None) -> Mode:
        """What holds for a run.

        Args:
            executor: as the caller says; by default what is configured, or ``processes`` where there is more than one
                worker, and else ``inline``.
            workers: as the caller says; by default what is configured. An executor of other processes has by default
                as many as this process may use cores.

        Raises:
            ConfigError: what is configured makes no sense.
            ParameterError: what the caller says makes none.
            PluginError: nobody provides the executor.
        """
        # Within a task the process is its worker, and has its share: only what is asked for there holds.
        if running.current() is None:
            executor, workers = _configured(executor, workers)
        name = executor or ("processes" if workers is not None and workers > 1 else "inline")
        present = host.current()
        record = present.executor(name)
        if record is None:
            raise present.missing("kart_executors", name)
        if name == "inline" and workers is not None and workers > 1:
            raise ParameterError(
                f"the executor 'inline' runs one task at a time, and {workers} workers were asked for; leave one of "
                "the two out, or take executor='processes'"
            )
        if workers is None:
            workers = 1 if record.in_process else _cores()
        return cls(record, workers, _limits())

    def check(self, nodes: Iterable[Node]) -> None:
        """Makes sure that tasks can run this way.

        Raises:
            ConfigError: a workspace that the workers cannot share, or a resource of which there is too little.
        """
        for node in nodes:
            policy = shape_of(type(node.task)).policy
            for name, amount in policy.resources.items():
                limit = self.limits.get(name, 1)
                if amount > limit:
                    raise ConfigError(
                        f"{node.name} takes {amount:g} of the resource {name!r}, and there is {limit:g}; say how much "
                        f"there is in the section [{RESOURCES}] of the configuration, or in "
                        f"KART_RESOURCES__{name.upper()}"
                    )
            if self.executor.in_process and policy.timeout is None:
                continue
            storage, url = node.resolved.workspace.storage, node.resolved.workspace.url
            if storage.shared == "process" or (storage.shared == "machine" and self.executor.shared == "network"):
                how = (
                    f"it has a timeout and so runs in a process of its own, which does not see {url}"
                    if self.executor.in_process
                    else f"the workers of the executor {self.executor.name!r} do not see {url}"
                )
                raise ConfigError(
                    f"{node.name} cannot run: {how}; choose a workspace_directory that is shared by them, or run "
                    "without workers"
                )


def _configured(executor: str | None, workers: int | None) -> tuple[str | None, int | None]:
    conf = config.current()
    for key, found in conf.section(SECTION).items():
        if key not in _KEYS:
            _check(key, found)
    if executor is None and workers is not None and workers <= 1:
        return "inline", workers  # whoever asks for one worker wants no other process
    if workers is None and (found := conf.find([SECTION], "workers")) is not None:
        workers = _count(found)
    if executor is None and (found := conf.find([SECTION], "executor")) is not None:
        _check("executor", found)
        executor = found.value
    return executor, workers


def fault_of(section: str, key: str, found: Found) -> str:
    """What is wrong with a value of the sections that are about runs; empty where nothing is.

    Args:
        section: `SECTION` or `RESOURCES`.
        key: the key in it.
        found: the value.
    """
    try:
        if section == RESOURCES:
            _amount(key, found)
        else:
            _check(key, found)
    except ConfigError as error:
        return str(error).removeprefix(f"{found.source}: ")
    return ""


def _check(key: str, found: Found) -> None:
    if key not in _KEYS:
        near = config.nearest(key, _KEYS)
        hint = f"did you mean {near!r}?" if near else f"there are {' and '.join(_KEYS)}"
        raise ConfigError(f"{found.source}: the section [{SECTION}] has no key {key!r}; {hint}")
    if key == "workers":
        _count(found)
    elif not isinstance(found.value, str):
        raise ConfigError(f"{found.source}: given {found.value!r}, but it takes the name of an executor")


def check_workers(workers: Any) -> None:
    """Makes sure that a number of workers is one.

    Raises:
        ParameterError: it is not.
    """
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise ParameterError(f"workers takes a whole number from 1 on, but was given {workers!r}")


def _count(found: Found) -> int:
    given: Any = found.value
    workers: Any = int(given) if isinstance(given, str) and given.strip().isdigit() else given
    try:
        check_workers(workers)
    except ParameterError as error:
        raise ConfigError(f"{found.source}: {error}") from None
    return int(workers)


def _limits() -> Mapping[str, float]:
    return {name: _amount(name, found) for name, found in config.current().section(RESOURCES).items()}


def _amount(name: str, found: Found) -> float:
    try:
        amount = float(found.value)
    except (TypeError, ValueError):
        amount = -1.0
    if not 0 <= amount < float("inf") or isinstance(found.value, bool):
        raise ConfigError(f"{found.source}: given {found.value!r}, but it takes how much there is of {name!r}")
    return amount


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
