"""The cluster of a run: one that runs already, one that a factory makes, or one on this machine."""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

import dask.config
import distributed
from distributed.comm.registry import backends

from kart_core.errors import PluginError

if TYPE_CHECKING:
    from kart_dask.settings import DaskSettings

__all__ = ["Connection"]


# What it has of types is not enough for a strict checker.
_dask: Any = distributed
_config: Any = dask.config


class Connection:
    """A client of Dask, and what ends with it.

    Args:
        settings: which cluster it is.
        workers: how many workers a cluster on this machine has.

    Attributes:
        client: the client, a `distributed.Client`.
        where: the scheduler's address, for messages.

    Raises:
        PluginError: there is no such cluster, or it does not answer.
    """

    def __init__(self, settings: DaskSettings, workers: int) -> None:
        self._stack = ExitStack()
        try:
            self.client = self._connected(settings, workers)
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            self._stack.close()
            raise PluginError(f"{_named(settings)} cannot be used: {_said(error)}") from error
        self.where: str = self.client.scheduler.address

    def _connected(self, settings: DaskSettings, workers: int) -> Any:
        target: Any
        if settings.scheduler_file is not None:
            _check_file(settings.scheduler_file)
        if settings.address is not None:
            _check_address(settings.address)
        if settings.address is not None:
            target = {"address": settings.address}
        elif settings.scheduler_file is not None:
            target = {"scheduler_file": settings.scheduler_file}
        elif settings.cluster is not None:
            target = {"address": self._made(settings.cluster)}
        else:
            target = {"address": self._local(settings, workers)}
        client = _dask.Client(**target, timeout=settings.connect_timeout, set_as_default=False)
        self._stack.callback(client.close, timeout=2)
        return client

    def _made(self, name: str) -> Any:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"the setting cluster of the plugin dask is {name!r}, which cannot be had: {error}"
            ) from error
        if not callable(found):
            return found
        try:
            cluster: Any = found()
        except Exception as error:
            raise PluginError(f"{name} made no cluster: {type(error).__name__}: {error}") from error
        self._stack.callback(cluster.close)
        return cluster

    def _local(self, settings: DaskSettings, workers: int) -> Any:
        cluster = _dask.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=f"127.0.0.1:{_free(settings.dashboard_port)}",
            preload=[*_config.get("distributed.worker.preload"), "kart_dask.aloof"],
        )
        self._stack.callback(cluster.close)
        return cluster

    def close(self) -> None:
        """Ends the connection, and the cluster if it was made for it."""
        self._stack.close()


def _check_file(path: str) -> None:
    """Makes sure that a file names a scheduler: Dask itself would wait for its address to the end of its patience."""
    if not os.path.exists(path):
        raise OSError(f"there is no file {path}; has the scheduler been started?")
    try:
        with open(path, encoding="utf-8") as file:
            told: Any = json.load(file)
        _check_address(told["address"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the file {path} names no scheduler ({type(error).__name__}: {_said(error)}); give the one that "
            "`dask scheduler --scheduler-file` has written"
        ) from error


def _check_address(address: str) -> None:
    """Makes sure that Dask knows the kind of an address: what it has begun with another, it takes long to end."""
    scheme, mark, _ = address.partition("://")
    known: Any = backends
    if mark and scheme not in known:
        raise ValueError(f"it knows no {scheme}://; give tcp://HOST:PORT")


def _named(settings: DaskSettings) -> str:
    if settings.address is not None:
        return f"the Dask scheduler {settings.address}"
    if settings.scheduler_file is not None:
        return f"the Dask scheduler of {settings.scheduler_file}"
    return f"the Dask cluster {settings.cluster}" if settings.cluster is not None else "a Dask cluster on this machine"


def _said(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _free(port: int) -> int:
    """The port if it is free; otherwise 0, which is any."""
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port
