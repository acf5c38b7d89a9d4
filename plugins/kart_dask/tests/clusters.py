"""Clusters that tests start: a scheduler and workers, each a process of its own, as on machines of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_LONG = 60.0
_MAIN = "from distributed.cli.dask_{0} import main; main()"


class Cluster:
    """A scheduler, and workers that are started one by one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._file = folder / "scheduler.json"
        self._count = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")
        self._wait(self._file.exists)

    @property
    def file(self) -> str:
        """The scheduler's file."""
        return str(self._file)

    def worker(
        self,
        threads: int = 1,
        before: str = "",
        hidden: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Starts a worker in a folder of its own, and waits until it has joined.

        Args:
            threads: how many it has.
            before: what its Python does first.
            hidden: folders that it sees empty, as on another machine.
            environment: further variables.
            options: further options of its command.
        """
        self._count += 1
        name, folder = f"worker{self._count}", self.folder / f"worker{self._count}"
        folder.mkdir()
        process = self._start(
            "worker",
            *("--nthreads", str(threads), "--name", name, "--no-dashboard", "--no-nanny"),
            *("--local-directory", str(folder), "--host", "127.0.0.1", *options),
            before=before,
            hidden=hidden,
            folder=folder,
            environment=environment,
        )
        log = self.folder / "scheduler.log"
        self._wait(lambda: f"name: {name}" in log.read_text() and "Starting worker compute stream" in log.read_text())
        return process

    def _start(
        self,
        what: str,
        *options: str,
        before: str = "",
        hidden: Sequence[Path] = (),
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", before + _MAIN.format(what), *options, "--scheduler-file", str(self._file)]
        if hidden:
            # The file must be seen, so it is read before the folders are hidden: they never hold it.
            mounts = " && ".join(f"mount -t tmpfs none '{path}'" for path in hidden)
            words = ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh", *words]
        log = (self.folder / f"{what}{self._count or ''}.log").open("wb")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KART_")}
        process = subprocess.Popen(
            words,
            cwd=folder or self.folder,
            env={**kept, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self._processes.append(process)
        return process

    def _wait(self, is_so) -> None:
        end = time.monotonic() + _LONG
        while not is_so():
            if time.monotonic() > end or any(process.poll() is not None for process in self._processes):
                logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
                raise AssertionError(f"the cluster did not come up:\n{logs[-5000:]}")
            time.sleep(0.05)

    def close(self) -> None:
        """Ends everything."""
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def machines_can_be_set_apart() -> bool:
    """Whether a worker can be given another view of the disk, as on another machine."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


apart = pytest.mark.skipif(not machines_can_be_set_apart(), reason="this needs root, for a worker with its own disk")
