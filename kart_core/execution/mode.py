"""How a run is executed: by which executor, with how many workers, within which limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from kart_core import config, host, running
from kart_core.config import runs
from kart_core.declaration import shape_of
from kart_core.errors import ConfigError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kart_core.graph import Node
    from kart_core.plugin import Executor


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
            ConfigError: what is configured makes no sense; all faults at once. Or nothing bears the executor's name.
            ParameterError: what the caller says makes none.
            PluginError: the executor is one of a plugin that is not installed, disabled or broken.
        """
        # Within a task the process is its worker, and has its share: only what is asked for there holds.
        if running.current() is None:
            faults = list(runs.faults(config.current()))
            if faults:
                raise ConfigError("\n".join(faults))
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
        for node in {node.resolved: node for node in nodes}.values():
            policy = shape_of(type(node.task)).policy
            for name, amount in policy.resources.items():
                limit = self.limits.get(name, 1)
                if amount > limit:
                    raise ConfigError(
                        f"{node.name} takes {amount:g} of the resource {name!r}, and there is {limit:g}; say how much "
                        f"there is in the section [{runs.RESOURCES}] of the configuration, or in "
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
    if executor is None and workers is not None and workers <= 1:
        return "inline", workers  # whoever asks for one worker wants no other process
    if workers is None and (found := conf.find([runs.SECTION], "workers")) is not None:
        workers = runs.count(found)
    if executor is None and (found := conf.find([runs.SECTION], "executor")) is not None:
        executor = runs.name(found)
    return executor, workers


def _limits() -> Mapping[str, float]:
    return {name: runs.amount(name, found) for name, found in config.current().section(runs.RESOURCES).items()}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
