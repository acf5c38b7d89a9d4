"""A proxy before a server of HTTP: it counts requests, makes them wait, and breaks connections.

It forwards bytes as they come and changes none, the ``Host`` header included, so that signatures
made for the proxy's address stay right where the server trusts that header.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


class Request(NamedTuple):
    """A request that came by."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def kind(self) -> str:
        """What it asks of S3: ``GET``, ``PUT``, ``LIST``, ``PART`` …"""
        if "list-type" in self.query:
            return "LIST"
        if "uploads" in self.query:
            return "BEGIN" if self.method == "POST" else "LIST UPLOADS"
        if "uploadId" in self.query:
            return {"PUT": "PART", "POST": "FINISH", "DELETE": "ABORT"}.get(self.method, self.method)
        return self.method


class Proxy:
    """Use it as a context manager; `endpoint` is its address.

    Attributes:
        delay: seconds that each request waits.
        requests: what came by.
        breaks: asked for each request, before it is forwarded: ``"before"`` resets the connection at once,
            ``"answer"`` after the server has done what was asked, ``"half"`` in the midst of the answer's
            content, ``"hang"`` never answers; None lets it pass.
        answers: gives the whole answer to a request, which then goes no further; None lets it pass.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.delay = 0.0
        self.requests: list[Request] = []
        self.breaks: Callable[[Request], str | None] = lambda request: None
        self.answers: Callable[[Request], bytes | None] = lambda request: None
        self._closing = threading.Event()

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.close()

    def counted(self) -> dict[str, int]:
        """How many requests of each kind came by since this was last asked."""
        counts = dict(Counter(request.kind for request in self.requests))
        self.requests.clear()
        return counts

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far = socket.create_connection(self._upstream)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with near, far, near.makefile("rb") as asked, far.makefile("rb") as answered:
                while self._one(near, far, asked, answered):
                    pass
        except OSError:
            pass

    def _one(self, near: socket.socket, far: socket.socket, asked, answered) -> bool:
        head = _head(asked)
        if not head:
            return False
        request = _parsed(head)
        self.requests.append(request)
        fate = self.breaks(request)
        if fate == "before":
            _reset(near)
            return False
        if self.delay:
            time.sleep(self.delay)
        if "100-continue" in request.headers.get("expect", ""):
            near.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"".join(line for line in head.splitlines(True) if not line.lower().startswith(b"expect:"))
        if (own := self.answers(request)) is not None:
            _copy(asked, lambda data: None, request.headers)
            near.sendall(own)
            return False
        far.sendall(head)
        _copy(asked, far.sendall, request.headers)
        if fate == "hang":
            self._closing.wait(60)
            return False
        answer = _head(answered)
        if not answer:
            return False
        if fate == "answer":
            _reset(near)
            return False
        near.sendall(answer)
        status = int(answer.split(b" ", 2)[1])
        headers = _headers(answer)
        if request.method == "HEAD" or status in (204, 304):
            return True
        if fate == "half":
            near.sendall(answered.read(int(headers["content-length"]) // 2))
            _reset(near)
            return False
        _copy(answered, near.sendall, headers)
        return headers.get("connection", "").lower() != "close"


def _head(stream) -> bytes:
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line in (b"\r\n", b"\n"):
            return b"".join(lines)
    return b""


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _parsed(head: bytes) -> Request:
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    parts = urlsplit(target)
    return Request(method, unquote(parts.path), parse_qs(parts.query, keep_blank_values=True), _headers(head))


def _copy(stream, send: Callable[[bytes], None], headers: dict[str, str]) -> None:
    """The content that belongs to a head."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while line := stream.readline():
            send(line)
            count = int(line.split(b";")[0], 16)
            send(stream.read(count + 2))
            if count == 0:
                return
    left = int(headers.get("content-length") or 0)
    while left > 0:
        piece = stream.read(min(left, 1 << 16))
        if not piece:
            return
        send(piece)
        left -= len(piece)


def _reset(connection: socket.socket) -> None:
    """Ends a connection with a reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
