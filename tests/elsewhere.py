"""A second process of the tests' own, to which values are sent and which sends back what came of them."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import IO, Any


class Elsewhere:
    """A process that calls what it is sent; it lives until the block ends."""

    def __enter__(self) -> Elsewhere:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.elsewhere import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The value of a call over there; what it raises is raised."""
        from kart_core.execution.by_value import dumps

        return self.receive(dumps((function, arguments)))

    def receive(self, data: bytes) -> Any:
        """The same for a call that is pickled already."""
        from kart_core.execution.travelling import unpack

        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _write(self._process.stdin, data)
        worked = _read(self._process.stdout) == b"value"
        answer = _read(self._process.stdout)
        if worked:
            return pickle.loads(answer)
        raise unpack(answer)


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value of one call in a process of its own."""
    with Elsewhere() as call:
        return call(function, *arguments)


def serve() -> None:
    """The main function of the second process."""
    from kart_core.execution.travelling import pack

    outgoing, sys.stdout = sys.stdout.buffer, sys.stderr
    while True:
        try:
            data = _read(sys.stdin.buffer)
        except EOFError:
            return
        try:
            function, arguments = pickle.loads(data)
            kind, answer = b"value", pickle.dumps(function(*arguments))
        except BaseException as error:
            kind, answer = b"error", pack(error)
        _write(outgoing, kind)
        _write(outgoing, answer)


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(struct.pack("<Q", len(data)) + data)
    file.flush()


def _read(file: IO[bytes]) -> bytes:
    head = file.read(8)
    if len(head) < 8:
        raise EOFError
    return file.read(struct.unpack("<Q", head)[0])


SESSION = """\
import json, linecache, sys, __main__
for number, cell in enumerate(json.loads(sys.stdin.read())):
    name = f"<cell {number}>"
    linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
    exec(compile(cell, name, "exec"), __main__.__dict__)
"""


def notebook(*cells: str) -> str:
    """What cells print that are run one after another as a notebook runs them."""
    import json

    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
