"""Functions that Dask's scheduler and workers run, sent as what they are: kart-dask need not be installed there.

A function that a worker cannot import would cost it its connection, and the future would never end. So
each stands on its own: it imports what it needs when it runs, and says what is missing.
"""

from __future__ import annotations

import builtins
from types import FunctionType
from typing import Any

__all__ = ["by_value", "call", "look", "obey", "run", "shipped"]


def by_value(function: FunctionType) -> Any:
    """The same function as one that stands in no module that can be imported, and so travels with its code."""
    alone = FunctionType(
        function.__code__,
        {"__builtins__": builtins, "__name__": "__main__"},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    alone.__module__ = "__main__"
    alone.__qualname__ = f"kart_dask_{function.__name__}"
    return alone


def look(dask_worker: Any) -> tuple[str, str, int]:
    """What a worker is like: kart's version there, or why it cannot be imported, and the number of threads."""
    from importlib import import_module

    threads = dask_worker.state.nthreads
    try:
        import_module("kart_core.execution.piece")
    except ImportError as error:
        try:
            from kart_core._version import __version__ as found
        except ImportError:
            return "", str(error), threads
        return found, str(error), threads
    from kart_core._version import __version__ as version

    return version, "", threads


def run(function: str, topic: str, key: str, *args: bytes) -> tuple[str, str, bytes | None]:
    """Calls a function of kart on a worker.

    Args:
        function: as ``module:function``.
        topic: under which messages go to the coordinating process.
        key: of the future.
        args: the function's arguments.

    Returns:
        ``done``, the worker's address, and what the function gave, or None where that went ahead as a message;
        ``again`` and the address, where the engine has run it before, or begun to; ``unfit`` and why this worker
        cannot run it.
    """
    from importlib import import_module

    from distributed import get_worker

    worker: Any = get_worker()
    state: Any = worker.state.tasks
    task = state.get(key)
    annotations: dict[str, Any] = getattr(task, "annotations", None) or {}
    if annotations.get("kart_again"):
        return "again", worker.address, None
    if worker.state.nthreads != 1:
        fault = (
            f"the Dask worker {worker.address} runs {worker.state.nthreads} tasks at a time in one process, and kart "
            "runs one, since global random generators are shared by threads; start workers with --nthreads 1, and as "
            "many of them as there are cores (--nworkers)"
        )
        return "unfit", fault, None
    module, _, name = function.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        fault = f"the Dask worker {worker.address} cannot import kart: {error}; pip install kart-core there"
        return "unfit", fault, None

    def tell(data: bytes) -> None:
        worker.log_event(topic, (key, data, ""))

    given: bytes = found(*args, tell=tell)
    if len(given) > 65536:  # the scheduler keeps the last thousand messages
        return "done", worker.address, given
    worker.log_event(topic, (key, given, worker.address))  # it saves a request
    return "done", worker.address, None


def call(function: str, *args: bytes) -> None:
    """Calls a function of kart, where there is one.

    Args:
        function: as ``module:function``.
        args: the function's arguments.
    """
    import sys

    module, _, name = function.partition(":")
    if module in sys.modules:  # a worker that had no task has nothing to end
        getattr(sys.modules[module], name)(*args)


def obey(dask_scheduler: Any) -> None:
    """Has the scheduler leave it to kart what becomes of a piece of work whose worker is gone."""
    from distributed import SchedulerPlugin

    class Pieces(SchedulerPlugin):
        """One lost worker is the end of a piece; where Dask runs it once more all the same, it is told so."""

        def update_graph(self, scheduler: Any, **found: Any) -> None:
            for key in found["keys"]:
                if isinstance(key, str) and key.startswith("kart-") and key in scheduler.tasks:
                    task = scheduler.tasks[key]
                    task.suspicious = max(task.suspicious, scheduler.allowed_failures)

        def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:
            del args, kwargs
            if finish == "released" and start in ("processing", "memory"):
                task = dask_scheduler.tasks.get(key)
                if isinstance(key, str) and key.startswith("kart-") and task is not None:
                    task.annotations = {**(task.annotations or {}), "kart_again": True}

    if "kart-pieces" not in dask_scheduler.plugins:
        dask_scheduler.add_plugin(Pieces(), name="kart-pieces")


def shipped(name: str, content: bytes) -> Any:
    """What brings modules to each worker, those that come later too: a plugin of workers."""
    from distributed import WorkerPlugin

    class Modules(WorkerPlugin):
        """Unpacks modules into a folder of the worker's, where imports find them."""

        def setup(self, worker: Any) -> None:
            import io
            import os
            import sys
            import zipfile

            folder = os.path.join(worker.local_directory, name)
            if not os.path.isdir(folder):
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    archive.extractall(folder)
            sys.path[:] = [folder, *(path for path in sys.path if not os.path.basename(path).startswith("kart-code-"))]

    Modules.__module__ = "__main__"
    plugin: Any = Modules()
    plugin.name = "kart-code"
    return plugin
