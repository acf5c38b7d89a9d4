"""Tasks of kart on a cluster of Dask: the executor ``dask``.

Example::

    kart-core run pipeline:Total --executor dask --workers 4
    kart-core run pipeline:Total --executor dask --dask-address tcp://scheduler:8786

`DaskSettings` says which cluster it is. Without any, one is started on this machine for the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kart_core.plugin import Executor, Plugin, hookimpl
from kart_dask.settings import DaskSettings

if TYPE_CHECKING:
    from kart_core.plugin import FutureSession

__all__ = ["Dask", "DaskSettings"]

__version__ = "0.1.0"


class Dask(Plugin, settings=DaskSettings):
    """Runs tasks on ``dask.distributed``."""

    settings: DaskSettings

    @hookimpl
    def kart_executors(self) -> list[Executor]:
        """The executor ``dask``."""
        return [Executor("dask", open=self._open)]

    def _open(self, workers: int) -> FutureSession:
        from kart_dask.session import DaskSession  # distributed takes half a second to import

        return DaskSession(self.settings, workers)
