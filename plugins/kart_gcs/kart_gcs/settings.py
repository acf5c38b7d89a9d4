"""The settings of ``[plugins.gcs]``."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["GcsSettings"]


def _setting(default: Any, help: str, **keywords: Any) -> Any:  # noqa: A002
    return attrs.field(default=default, metadata={"help": help}, **keywords)


_above_zero = attrs.validators.gt(0)


@attrs.frozen(kw_only=True)
class GcsSettings:
    """How Google Cloud Storage is used. None of them is secret: secrets stay in the environment and in files."""

    project: str | None = _setting(None, "the project that pays for requester-pays buckets; default: the credentials'")
    endpoint_url: str | None = _setting(
        None, "where the API is, as https://storage.example.com; stands above STORAGE_EMULATOR_HOST"
    )
    credential_variable: str = _setting(
        "GCS_CREDENTIAL", "the environment variable that holds the credentials: the path of a JSON file, or its text"
    )
    anonymous: bool = _setting(False, "ask without credentials, for public buckets")
    metadata_server: bool | None = _setting(
        None, "take the machine's service account; default: on Google's machines, where nothing else is given"
    )
    requester_pays: bool = _setting(False, "charge the project for requests to requester-pays buckets")
    kms_key_name: str | None = _setting(
        None, "the Cloud KMS key that new objects are encrypted with: projects/P/locations/L/keyRings/R/cryptoKeys/K"
    )
    encryption_key_variable: str | None = _setting(
        None, "the environment variable that holds your own encryption key: 32 bytes as base64"
    )
    concurrency: int = _setting(32, "requests under way together", validator=attrs.validators.in_(range(1, 513)))
    connect_timeout: float = _setting(4.0, "seconds to wait for a connection", validator=_above_zero)
    read_timeout: float = _setting(
        20.0, "seconds without a byte after which a request has failed", validator=_above_zero
    )
    retry_seconds: float = _setting(
        60.0, "seconds for which a request that may pass is tried again", validator=attrs.validators.ge(0)
    )
    discovery_url: str = _setting(
        "https://www.googleapis.com/discovery/v1/apis/storage/v1/rest",
        "where the file of DISCOVER_CACHE_LOCAL_PATH is fetched from, if it is not there",
    )
