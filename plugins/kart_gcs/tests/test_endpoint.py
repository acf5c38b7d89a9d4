"""Where the storage is: the settings, the discovery document, the emulator, Google."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kart_gcs import Gcs, GcsSettings, endpoint
from kart_gcs.discovery import read_or_fetch

from kart_core.errors import StorageError

DOCUMENT: dict[str, Any] = {
    "kind": "discovery#restDescription",
    "name": "storage",
    "version": "v1",
    "rootUrl": "https://storage.example.com/",
    "servicePath": "storage/v1/",
}
GOOGLE = {**DOCUMENT, "rootUrl": "https://storage.googleapis.com/"}


class Library:
    """A server that has the document."""

    def __init__(self) -> None:
        library = self
        self.asked = 0
        self.answer: tuple[int, bytes] = 200, json.dumps(DOCUMENT).encode()
        self.delay = 0.0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                library.asked += 1
                time.sleep(library.delay)
                status, content = library.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Silent: a client that goes away is no fault, and another test would be blamed for what is said."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/rest"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def library() -> Any:
    library = Library()
    yield library
    library.server.shutdown()
    library.server.server_close()


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path that the environment names."""
    path = tmp_path / "cache" / "discovery.json"
    monkeypatch.setenv("DISCOVER_CACHE_LOCAL_PATH", str(path))
    return path


def found(**settings: Any) -> Any:
    return endpoint.find(GcsSettings(**settings), os.environ)


def test_google_is_where_nothing_else_is_said() -> None:
    assert found().objects("b") == "https://storage.googleapis.com/storage/v1/b/b/o"
    assert found().uploads("b") == "https://storage.googleapis.com/upload/storage/v1/b/b/o"


def test_the_settings_stand_above_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:1")
    assert found().root == "http://localhost:1"
    assert found().emulated
    assert found(endpoint_url="https://x.example/").root == "https://x.example"
    assert not found(endpoint_url="https://x.example/").emulated


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://x:99999", "https://:5"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="endpoint_url is not an address"):
        found(endpoint_url=url)


def test_a_document_decides_the_endpoint(
    guard: Any, bucket: Any, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document.parent.mkdir()
    document.write_text(json.dumps({**DOCUMENT, "rootUrl": f"{guard.url}/", "servicePath": "storage/v1/"}))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")  # nobody is there
    store = Gcs().open(f"gs://{bucket.name}")
    store.put("a", b"by the document")
    assert store.read("a") == b"by the document"
    assert bucket.get("a") == b"by the document"


def test_a_document_may_give_other_paths(document: Path) -> None:
    document.parent.mkdir()
    path = {"path": "/restricted/upload/v1/b/{bucket}/o"}
    methods = {"insert": {"mediaUpload": {"protocols": {"simple": path}}}}
    other = {**DOCUMENT, "servicePath": "/restricted/v1/", "resources": {"objects": {"methods": methods}}}
    document.write_text(json.dumps(other))
    assert found().objects("b") == "https://storage.example.com/restricted/v1/b/b/o"
    assert found().uploads("b") == "https://storage.example.com/restricted/upload/v1/b/b/o"


def test_googles_own_document_does_not_hide_an_emulator(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document.parent.mkdir()
    document.write_text(json.dumps(GOOGLE))
    assert found().root == "https://storage.googleapis.com"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:1")
    assert found().root == "http://localhost:1"


def test_a_document_that_is_not_there_is_fetched_once(library: Library, document: Path) -> None:
    for _ in range(3):
        assert found(discovery_url=library.url).root == "https://storage.example.com"
    assert library.asked == 1
    assert json.loads(document.read_text()) == DOCUMENT
    assert [path.name for path in document.parent.iterdir() if path.suffix == ".tmp"] == []


def test_of_many_who_want_the_document_one_fetches_it(library: Library, document: Path) -> None:
    library.delay = 0.2
    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(lambda _: read_or_fetch(str(document), library.url, (2, 5)), range(16)))
    assert {found.root for found in read} == {"https://storage.example.com"}
    assert library.asked == 1


def test_of_many_processes_that_want_the_document_one_fetches_it(
    library: Library, document: Path, project: Any
) -> None:
    library.delay = 0.3
    code = f"""
import multiprocessing
from kart_gcs.discovery import read_or_fetch

def root(_):
    return read_or_fetch({str(document)!r}, {library.url!r}, (2, 5)).root

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        print(pool.map(root, range(4), 1))
"""
    project.write("many.py", code)
    outcome = project.python("many.py")
    assert outcome.out.strip() == str(["https://storage.example.com"] * 4), outcome.err
    assert library.asked == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b"\xff\xff",
        json.dumps({**DOCUMENT, "name": "compute"}).encode(),
        json.dumps({**DOCUMENT, "version": "v2"}).encode(),
        json.dumps({**DOCUMENT, "rootUrl": "file:///etc"}).encode(),
        json.dumps({**DOCUMENT, "rootUrl": 5}).encode(),
        json.dumps({"rootUrl": "https://x/"}).encode(),
    ],
)
def test_what_is_no_such_document_is_one_sentence(library: Library, document: Path, content: bytes) -> None:
    document.parent.mkdir()
    document.write_bytes(content)
    with pytest.raises(StorageError, match=r"not the discovery document.*rootUrl") as raised:
        found(discovery_url=library.url)
    assert str(document) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert library.asked == 0
    document.unlink()
    library.answer = 200, content
    with pytest.raises(StorageError, match="not the discovery document"):
        found(discovery_url=library.url)
    assert not document.exists()  # what is no such document is not kept


def test_a_document_that_cannot_be_fetched_is_one_sentence(library: Library, document: Path) -> None:
    library.answer = 404, b""
    with pytest.raises(StorageError, match=r"DISCOVER_CACHE_LOCAL_PATH.*answers 404"):
        found(discovery_url=library.url)
    with pytest.raises(StorageError, match=r"cannot be fetched from 127\.0\.0\.1:9: ConnectionError"):
        found(discovery_url="http://127.0.0.1:9/rest")
    library.delay = 3
    with pytest.raises(StorageError, match="no answer in time"):
        found(discovery_url=library.url, read_timeout=0.2)
    assert not document.exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOVER_CACHE_LOCAL_PATH", "/proc/no/such/folder/discovery.json")
    with pytest.raises(StorageError, match="cannot be written"):
        found(discovery_url=library.url)


def test_without_the_variable_nothing_is_read_or_fetched(library: Library, guard: Any, bucket: Any) -> None:
    store = Gcs(GcsSettings(discovery_url=library.url)).open(f"gs://{bucket.name}")
    store.put("a", b"")
    assert library.asked == 0
