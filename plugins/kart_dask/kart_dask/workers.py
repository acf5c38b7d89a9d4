"""The workers of a cluster: who they are now, and whether they can run tasks of kart."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kart_core.errors import PluginError
from kart_dask import travelling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Workers", "check"]

_SHOWN = 3


class Workers:
    """The addresses of the workers, kept up by what the scheduler tells.

    Args:
        client: of the cluster, a `distributed.Client`.
        lost: told the address of a worker that has left.
    """

    def __init__(self, client: Any, lost: Callable[[str], None]) -> None:
        self._client = client
        self._lost = lost
        self._addresses: set[str] = set()
        self._resources: set[str] = set()
        self._has_news = True
        client.subscribe_topic("all", self._heard)
        self._addresses.update(client.nthreads())

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, address: object) -> bool:
        return address in self._addresses

    def resources(self, names: Iterable[str]) -> set[str]:
        """Those of the resources that workers have, or had.

        The scheduler is asked only where one is not known and a worker has come since it was asked last.
        """
        if self._has_news and not self._resources.issuperset(names):
            self._has_news = False
            told: Any = self._client.scheduler_info(n_workers=-1)
            for worker in told["workers"].values():
                self._resources.update(worker.get("resources") or ())
        return self._resources.intersection(names)

    def _heard(self, event: tuple[float, Any]) -> None:
        told = event[1]
        action = told.get("action")
        if action == "add-worker":
            self._addresses.add(told["worker"])
            self._has_news = True
        elif action == "remove-worker":
            self._addresses.discard(told["worker"])
            self._lost(told["worker"])


def check(client: Any) -> None:
    """Makes sure that the workers that there are can run tasks of kart; those that come later say so themselves.

    Raises:
        PluginError: one of them cannot.
    """
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    versions: Any = client.get_versions()["workers"]
    for address, found in versions.items():
        there = ".".join(str(found["host"]["python"]).split(".")[:2])
        if there != here:
            raise PluginError(
                f"the Dask worker {address} has Python {there}, and the process that builds has {here}: use one in both"
            )
    looks: dict[str, Any] = client.run(travelling.by_value(travelling.look), on_error="return")
    faults = [fault for address, look in looks.items() if (fault := _fault(address, look))]
    if faults:
        more = f" (and {len(faults) - _SHOWN} more like it)" if len(faults) > _SHOWN else ""
        raise PluginError("; ".join(faults[:_SHOWN]) + more)


def _fault(address: str, look: Any) -> str | None:
    from kart_core._version import __version__

    if isinstance(look, BaseException):
        return f"the Dask worker {address} cannot be asked what it has: {type(look).__name__}: {look}"
    version, missing, threads = look
    if missing and not version:
        return f"the Dask worker {address} has no kart-core ({missing}): pip install kart-core=={__version__} there"
    if version != __version__:
        return (
            f"the Dask worker {address} has kart-core {version}, and the process that builds has {__version__}: "
            "install one version in both"
        )
    if missing:
        return f"the Dask worker {address} cannot import kart-core: {missing}"
    if threads != 1:
        return (
            f"the Dask worker {address} has {threads} threads, and kart runs one task at a time in a process, since "
            "global random generators are shared by threads: start workers with --nthreads 1, and as many of them as "
            "there are cores (--nworkers)"
        )
    return None
