"""The client of one process: made by s3fs of the settings, with credentials as AWS's own tools find them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from kart_core.builtin.log_redaction import LogRedaction

if TYPE_CHECKING:
    from kart_s3.settings import S3Settings

__all__ = ["Connection", "MissingCredentials", "MissingVariable", "connect", "hidden", "redaction"]

# Session tokens as requests carry them, and credentials as the services for roles answer.
redaction = LogRedaction(
    r"(?P<keep>x-amz-security-token['\"]?\s*[:=]\s*b?['\"]?)[^'\"\s,&)}]+",
    r"(?P<keep>(?:secret_?access_?key|session_?token|access_?key_?id)['\"]?\s*[:=>]\s*b?['\"]?)[^'\"\s,&<)}]+",
    r"(?P<keep>customer-key['\"]?\s*[:=]\s*b?['\"]?)[^'\"\s,&)}]+",
    libraries=("botocore", "aiobotocore", "s3fs", "fsspec", "aiohttp"),
)
"""Hides the secrets of this process in what is said and logged."""


class MissingCredentials(Exception):
    """Nothing of what AWS's tools look at has credentials."""


class MissingVariable(Exception):
    """An environment variable that the settings name is not set; its name."""


class Connection(NamedTuple):
    """What a store has in one process."""

    filesystem: Any
    """Of s3fs: it closes the client when nobody holds it any more, so the client itself must not."""
    client: Any
    """Makes each request once."""


async def connect(settings: S3Settings) -> Connection:
    """A filesystem of s3fs, and its client.

    Args:
        settings: the plugin's settings.

    Raises:
        MissingCredentials: there are none.
        MissingVariable: the settings name a variable that is not set.
        botocore.exceptions.BotoCoreError: a profile, a shared file or a role cannot be used.
    """
    from aiobotocore.session import AioSession  # pyright: ignore
    from s3fs import S3FileSystem  # pyright: ignore

    redaction.look_again()
    given = _given(settings)
    session: Any = cast("Any", AioSession)(**({"profile": settings.profile} if settings.profile else {}))
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    if not settings.anonymous and not given:
        found = await session.get_credentials()
        if found is None:
            raise MissingCredentials
        frozen = await found.get_frozen_credentials()
        redaction.hide_values(frozen.access_key, frozen.secret_key, frozen.token)
    filesystem: Any = cast("Any", S3FileSystem)(
        anon=settings.anonymous,
        endpoint_url=settings.endpoint_url,
        session=session,
        requester_pays=settings.requester_pays,
        client_kwargs={"region_name": settings.region} if settings.region else {},
        config_kwargs={
            "connect_timeout": settings.connect_timeout,
            "read_timeout": settings.timeout,
            # One layer alone tries again, the store: this one, and s3fs's above it, would multiply, and draw their
            # waits from the global random generator.
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": settings.concurrency,
            "s3": {"addressing_style": settings.addressing_style},
        },
        use_listings_cache=False,
        skip_instance_cache=True,
        **given,
    )
    client = await filesystem.set_session()
    redaction.look_again()
    return Connection(filesystem, client)


def _moment(text: Any) -> Any:
    """The time in an answer; botocore's own way takes three quarters of the time that a listing takes."""
    from datetime import datetime

    if isinstance(text, str) and text.endswith("Z"):
        try:
            return datetime.fromisoformat(f"{text[:-1]}+00:00")
        except ValueError:
            pass
    from botocore.utils import parse_timestamp  # pyright: ignore

    return cast("Any", parse_timestamp)(text)


def hidden(text: str) -> str:
    """The text without the secrets that were used in this process."""
    return redaction.hidden(text)


def _given(settings: S3Settings) -> dict[str, str]:
    """The credentials from the variables that the settings name."""
    names = {
        "key": settings.access_key_id_variable,
        "secret": settings.secret_access_key_variable,
        "token": settings.session_token_variable,
    }
    given: dict[str, str] = {}
    for argument, name in names.items():
        if name is not None and not settings.anonymous:
            value = os.environ.get(name)
            if not value:
                raise MissingVariable(name)
            given[argument] = value
    redaction.hide_values(*given.values())
    return given


redaction.hide_values(*(os.environ.get(f"AWS_{name}") for name in ("SECRET_ACCESS_KEY", "SESSION_TOKEN")))
