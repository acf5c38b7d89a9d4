"""What can be set for workspaces on S3: ``[plugins.s3]``, ``KART_S3__NAME``, ``--set plugins.s3.name=…``."""

from __future__ import annotations

from typing import Any, Literal

import attrs

__all__ = ["S3Settings"]


def _setting(default: Any, text: str, *validators: Any) -> Any:
    return attrs.field(default=default, metadata={"help": text}, validator=list(validators))


@attrs.frozen(kw_only=True)
class S3Settings:
    """The settings of the plugin ``s3``. None of them is a secret: keys stand where AWS's own tools look for them."""

    endpoint_url: str | None = _setting(
        None,
        "the server's address, such as http://127.0.0.1:9000; "
        "by default AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, or Amazon's own",
    )
    region: str | None = _setting(
        None, "the bucket's region; by default AWS_REGION, AWS_DEFAULT_REGION or the profile's"
    )
    profile: str | None = _setting(None, "a profile of ~/.aws/config and ~/.aws/credentials; by default AWS_PROFILE")
    anonymous: bool = _setting(False, "send no credentials at all; for public buckets, which can only be read")
    addressing_style: Literal["auto", "path", "virtual"] = _setting(
        "auto", "whether the bucket's name stands in the path of an address or in its host name"
    )
    server_side_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = _setting(
        None, "how the server encrypts what is written; by default as the bucket says"
    )
    kms_key_id: str | None = _setting(None, "the key of KMS with which it does, where server_side_encryption names KMS")
    requester_pays: bool = _setting(False, "pay for requests to a bucket whose owner asks for that")
    timeout: float = _setting(
        20.0, "seconds without any answer from the server after which a request has failed", attrs.validators.gt(0)
    )
    connect_timeout: float = _setting(
        3.0, "seconds in which a connection to the server must be made", attrs.validators.gt(0)
    )
    retry_seconds: float = _setting(
        60.0,
        "seconds for which a request that failed in passing is tried again; 6 at most before the first answer",
        attrs.validators.ge(0),
    )
    concurrency: int = _setting(32, "requests and connections at once, in each process", attrs.validators.ge(1))
    access_key_id_variable: str | None = _setting(
        None, "the name of another environment variable that holds the access key's id"
    )
    secret_access_key_variable: str | None = _setting(
        None, "the name of another environment variable that holds the secret access key"
    )
    session_token_variable: str | None = _setting(
        None, "the name of another environment variable that holds the session token"
    )

    def __attrs_post_init__(self) -> None:
        if self.kms_key_id is not None and self.server_side_encryption not in ("aws:kms", "aws:kms:dsse"):
            raise ValueError("kms_key_id needs server_side_encryption = aws:kms")
        if (self.access_key_id_variable is None) != (self.secret_access_key_variable is None):
            raise ValueError("access_key_id_variable and secret_access_key_variable belong together: give both")
        if self.session_token_variable is not None and self.secret_access_key_variable is None:
            raise ValueError("session_token_variable needs secret_access_key_variable and access_key_id_variable")
