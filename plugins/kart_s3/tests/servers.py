"""A server of S3 as the tests see it, past kart: through botocore's own blocking client."""

from __future__ import annotations

import os
import uuid
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

ACCESS_KEY = "KARTACCESSKEY0000001"
SECRET_KEY = "kart/Secret+Key/0123456789abcdefghij=XYZ"


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
