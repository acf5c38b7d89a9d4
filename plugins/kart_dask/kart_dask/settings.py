"""What can be set for runs on Dask: ``[plugins.dask]``, ``KART_DASK__NAME``, ``--dask-name …``."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["DaskSettings"]


def _setting(default: Any, text: str, *validators: Any) -> Any:
    return attrs.field(default=default, metadata={"help": text}, validator=list(validators))


@attrs.frozen(kw_only=True)
class DaskSettings:
    """The settings of the plugin ``dask``. At most one of the first three says where the cluster is."""

    address: str | None = _setting(None, "the address of a scheduler that runs, such as tcp://host:8786")
    scheduler_file: str | None = _setting(
        None, "the file in which a scheduler that runs has written its address (dask scheduler --scheduler-file)"
    )
    cluster: str | None = _setting(
        None,
        "a cluster object of Dask, or a function that makes one, as module:name; what the function makes is closed "
        "after the run",
    )
    ship: bool = _setting(
        False, "bring the modules beside the script to the workers; for workers that do not have the code"
    )
    connect_timeout: float = _setting(
        30.0, "seconds in which the scheduler must answer when it is first spoken to", attrs.validators.gt(0)
    )
    dashboard_port: int = _setting(
        8787, "the port of the dashboard of a cluster on this machine; another is taken where it is not free"
    )

    def __attrs_post_init__(self) -> None:
        given = [name for name in ("address", "scheduler_file", "cluster") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each say where the cluster is: give one of them")
        if self.cluster is not None and not all(self.cluster.partition(":")):
            raise ValueError(f"cluster is module:name, not {self.cluster!r}")
