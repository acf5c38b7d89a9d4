"""The executor that runs work in processes of this machine, one piece at a time in each.

Each worker is a fresh Python, started and never forked: file systems and CUDA do not survive a
fork. It is the leader of a process group of its own, so that a signal of the terminal reaches the
coordinating process alone, and so that whatever the work started ends with the worker.

Messages go through a pair of sockets. The pools of the standard library and of loky are not used:
when one worker dies they give up all the others and what was under way there, they cannot stop a
single piece of work, and they pass work through a thread and a queue.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from kart_core.errors import PluginError
from kart_core.plugin import Executor

__all__ = ["RECORDS", "WorkerProcess", "WorkerProcesses"]

# What it is told comes by the socket, for a command must not be long. An interrupt ends it without a traceback.
_START = """\
import _signal
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
import json, sys
descriptor, size, told = int(sys.argv[1]), int(sys.argv[2]), b""
with open(descriptor, "rb", buffering=0, closefd=False) as file:
    while len(told) < size:
        told += file.read(size - len(told)) or sys.exit()
told = json.loads(told)
sys.path[:], sys.argv[:] = told["path"], told["argv"]
from importlib import import_module
getattr(import_module(told["module"]), told["function"])(descriptor)
"""
_PATIENCE = 5.0  # seconds for a process to end that has closed its socket


class WorkerProcess:
    """One worker: a Python process that takes messages and answers with messages.

    Args:
        entry: the function that it calls, ``module:function``, with the descriptor of its socket.
    """

    def __init__(self, entry: str) -> None:
        here, there = socket.socketpair()
        with there:
            # The path goes along with the command: kart itself may lie where only this process looks.
            module, _, function = entry.partition(":")
            told = {
                "path": [part if part else os.getcwd() for part in sys.path],
                "argv": sys.argv,
                "module": module,
                "function": function,
            }
            message = json.dumps(told).encode()
            self._process = subprocess.Popen(
                [sys.executable, *_flags(), "-c", _START, str(there.fileno()), str(len(message))],
                pass_fds=(there.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        with suppress(OSError):  # one that has ended already is heard of like any other
            here.sendall(message)
        self._connection = Connection(here.detach())
        self._poll = select.poll()  # `Connection.poll` makes one each time
        self._poll.register(self._connection.fileno(), select.POLLIN)
        self._ending: str | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def fileno(self) -> int:
        """The descriptor that becomes readable when a message has come, or the worker has ended."""
        return self._connection.fileno()

    def send(self, message: bytes) -> None:
        """Sends a message.

        Raises:
            OSError: the worker has ended.
        """
        self._connection.send_bytes(message)

    def receive(self) -> bytes:
        """The next message; waits for it.

        Raises:
            EOFError: the worker has ended.
            OSError: the worker has ended.
        """
        return self._connection.recv_bytes()

    def has_message(self) -> bool:
        """Whether `receive` would not wait."""
        return bool(self._poll.poll(0))

    def interrupt(self) -> None:
        """Asks for an end, as Ctrl-C does; whoever takes no notice is to be killed."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """Ends the process and all that it started, at once."""
        if self._ending is not None:
            return  # its number may be another's by now
        with suppress(ProcessLookupError, PermissionError):  # of a group that is gone macOS says the latter
            os.killpg(self.pid, signal.SIGKILL)

    def ending(self, patience: float = _PATIENCE) -> str:
        """How the process ended, for messages; one that closed its socket and lives on is killed.

        Args:
            patience: the seconds that it has to end.
        """
        if self._ending is not None:
            return self._ending
        try:
            status = self._waited(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.wait()
        # What it started, and left behind, ends too.
        self.kill()
        self._connection.close()
        killed = f"was killed by signal {-status} ({_named(-status)})"
        self._ending = killed if status < 0 else f"ended with exit status {status}"
        return self._ending

    def _waited(self, patience: float) -> int:
        """As `Popen.wait`, which with a timeout asks again and again, each time a little later."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # Linux alone has it; and one that was buried has no number
            return self._process.wait(patience)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(patience * 1000)
        finally:
            os.close(descriptor)
        return self._process.wait(0)


class WorkerProcesses:
    """Starts workers, and ends those that are left."""

    def __init__(self) -> None:
        self._started: list[WorkerProcess] = []

    def start(self, entry: str) -> WorkerProcess:
        """Starts a worker.

        Args:
            entry: what it runs, as ``module:function``; the function takes the descriptor of a socket.

        Raises:
            PluginError: the system starts no process.
        """
        try:
            worker = WorkerProcess(entry)
        except OSError as error:
            raise PluginError(
                f"the executor 'processes' cannot start a worker process ({error}); give fewer --workers"
            ) from error
        self._started.append(worker)
        return worker

    def shutdown(self, wait: bool = True) -> None:
        """Ends the workers: those that were told to end are waited for, others are killed.

        Args:
            wait: whether to give them time.
        """
        end = time.monotonic() + _PATIENCE
        for worker in self._started:
            if not wait:
                worker.kill()
            worker.ending(max(end - time.monotonic(), 0.0))
        self._started.clear()


def _named(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "no name"


def _flags() -> list[str]:
    """The flags of this interpreter that decide what code means, where it is found and which warnings are shown."""
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    if sys.flags.isolated:
        flags += ["-I"]
    else:
        asked = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
        flags += [flag for flag, is_set in asked.items() if is_set]
        flags += ["-P"] if getattr(sys.flags, "safe_path", False) else []  # since Python 3.11
    if sys.flags.dev_mode:
        flags += ["-X", "dev"]
    if sys.flags.utf8_mode:
        flags += ["-X", "utf8"]
    if sys.flags.dont_write_bytecode or sys.dont_write_bytecode:
        flags += ["-B"]
    return [*flags, *(f"-W{option}" for option in sys.warnoptions)]


def _open(_workers: int) -> WorkerProcesses:
    if os.name != "posix":
        raise PluginError(
            "the executor 'processes' needs Linux or macOS; on this system run without --workers, or use an executor "
            "of a plugin"
        )
    return WorkerProcesses()


RECORDS = {("kart_executors", "processes"): Executor("processes", open=_open)}
"""Each record under its hook and name, as the host looks it up."""
