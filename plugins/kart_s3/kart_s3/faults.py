"""What went wrong with a request to S3, by the errors of botocore and of what is below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from botocore import exceptions as boto  # pyright: ignore

from kart_core.builtin.object_store import Fault
from kart_s3.client import MissingCredentials, MissingVariable, hidden

if TYPE_CHECKING:
    from kart_s3.settings import S3Settings

__all__ = ["BadBucketName", "fault_of"]

_POLICY: Final = "docs/s3.md has the least policy"

_MISSING: Final = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})
_UNMET: Final = frozenset({"PreconditionFailed", "412"})
_PASSING: Final = frozenset(
    {
        "BadGateway",
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XMinioServerNotInitialized",
    }
)
_WRONG_REGION: Final = frozenset(
    {
        "301",
        "307",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_BAD_TOKEN: Final = frozenset({"InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException"})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem", "403"})

_ACTIONS: Final = {
    "HeadObject": ("read", "s3:GetObject"),
    "GetObject": ("read", "s3:GetObject"),
    "PutObject": ("write", "s3:PutObject"),
    "CreateMultipartUpload": ("write", "s3:PutObject"),
    "UploadPart": ("write", "s3:PutObject"),
    "CompleteMultipartUpload": ("write", "s3:PutObject"),
    "AbortMultipartUpload": ("abort uploads", "s3:AbortMultipartUpload"),
    "DeleteObject": ("delete", "s3:DeleteObject"),
    "ListObjectsV2": ("list", "s3:ListBucket"),
    "ListMultipartUploads": ("list uploads", "s3:ListBucketMultipartUploads"),
}

_CREDENTIALS: Final = (
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.SSOError,
    getattr(boto, "LoginError", boto.SSOError),  # newer than some of the versions that will do
)

_TRANSPORT: Final = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.ChecksumError)


class BadBucketName(Exception):
    """A name that no bucket can have."""


def fault_of(error: Exception, bucket: str, settings: S3Settings) -> Fault:
    """What an error means, and what to do about it; without any secret.

    Args:
        error: what a request or the making of the client raised.
        bucket: the bucket's name.
        settings: the plugin's settings.
    """
    if isinstance(error, boto.ClientError):
        return _answered(error, bucket, settings)
    if isinstance(error, (MissingCredentials, boto.NoCredentialsError)):
        return Fault(
            "denied",
            "no credentials were found",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or [plugins.s3] anonymous = true for a "
            "public bucket",
        )
    if isinstance(error, MissingVariable):
        return Fault("denied", f"the environment variable {error} is not set", f"set {error}, or change [plugins.s3]")
    if isinstance(error, boto.ProfileNotFound):
        return Fault("denied", _text(error), "check AWS_PROFILE, [plugins.s3] profile and ~/.aws/config")
    if isinstance(error, _CREDENTIALS):
        return Fault(
            "denied", f"the credentials cannot be had: {_text(error)}", "check them, or sign in again: aws sso login"
        )
    if isinstance(error, boto.SSLError):
        return Fault(
            "final",
            f"the server at {_endpoint(settings)} has no certificate that is trusted here",
            "set AWS_CA_BUNDLE, or check the endpoint",
        )
    if isinstance(error, ValueError) and "endpoint" in str(error):
        return _bad_endpoint(settings)
    transport = _transport(error, settings)
    if transport is not None:
        return transport
    return Fault("final", f"{type(error).__name__}: {_text(error)}", "check [plugins.s3] and the URL")


def _transport(error: Exception, settings: S3Settings) -> Fault | None:
    """A request that was not answered."""
    where = _endpoint(settings)
    if isinstance(error, boto.ConnectTimeoutError):
        why = f"no connection to {where} within {settings.connect_timeout:g} s"
        return Fault("passing", why, "check endpoint_url, AWS_ENDPOINT_URL and the network")
    if isinstance(error, (boto.ReadTimeoutError, TimeoutError)):
        why = f"no answer from {where} within {settings.timeout:g} s"
        return Fault("passing", why, "check the server, or raise [plugins.s3] timeout")
    if isinstance(error, boto.EndpointConnectionError):
        return Fault("passing", f"{where} cannot be reached", "check endpoint_url, AWS_ENDPOINT_URL and the network")
    if isinstance(error, (*_TRANSPORT, OSError)) or type(error).__module__.startswith("aiohttp."):
        return Fault(
            "passing", f"the connection to {where} broke ({type(error).__name__})", "check the network and the server"
        )
    return None


def _answered(error: Any, bucket: str, settings: S3Settings) -> Fault:
    """An answer of the server that is an error."""
    found: dict[str, Any] = error.response.get("Error", {})
    meta: dict[str, Any] = error.response.get("ResponseMetadata", {})
    code, status = str(found.get("Code", "")), int(meta.get("HTTPStatusCode") or 0)
    if code == "NoSuchBucket":
        return Fault("final", f"there is no bucket {bucket}", "create it, or set workspace_directory to another")
    if code in _MISSING:
        if code == "404" and error.operation_name != "HeadObject":
            why = f"{_endpoint(settings)} answers, but not as S3 does (404 without a reason)"
            return Fault("final", why, "check endpoint_url, AWS_ENDPOINT_URL and the proxy settings")
        return Fault("missing", "no such object")
    if code in _UNMET or status == 412:
        return Fault("unmet", "the object is another than expected")
    if code in _PASSING or status in (409, 429) or status >= 500:
        why = f"the server answers {code or status}" + (f" to {error.operation_name}" if error.operation_name else "")
        return Fault("passing", why, "try again later")
    if code in _WRONG_REGION or status in (301, 307):
        return _wrong_region(found, meta, bucket)
    return _refused(code, found, str(error.operation_name), bucket, settings)


def _wrong_region(found: dict[str, Any], meta: dict[str, Any], bucket: str) -> Fault:
    headers = cast("dict[str, str]", meta.get("HTTPHeaders") or {})
    region = headers.get("x-amz-bucket-region") or found.get("Region")
    advice = f"set AWS_REGION={region}" if region else "set AWS_REGION to the bucket's region"
    return Fault("final", f"the bucket {bucket} is in another region", f"{advice}, or [plugins.s3] region")


def _refused(code: str, found: dict[str, Any], operation: str, bucket: str, settings: S3Settings) -> Fault:
    key = settings.access_key_id_variable or "AWS_ACCESS_KEY_ID"
    secret = settings.secret_access_key_variable or "AWS_SECRET_ACCESS_KEY"
    if code == "InvalidAccessKeyId":
        return Fault(
            "denied", f"the server does not know the access key ({code})", f"check {key}, the profile and the endpoint"
        )
    if code == "SignatureDoesNotMatch":
        return Fault(
            "denied", f"the secret key does not belong to the access key ({code})", f"check {secret} or the profile"
        )
    if code in _EXPIRED:
        return Fault(
            "denied", f"the session token has expired ({code})", "get new temporary credentials, and run again"
        )
    if code in _BAD_TOKEN:
        return Fault("denied", f"the session token is not valid ({code})", "check AWS_SESSION_TOKEN, or unset it")
    if code == "RequestTimeTooSkewed":
        return Fault("denied", "this machine's clock differs too much from the server's", "set the clock")
    if code in _DENIED:
        verb, action = _ACTIONS.get(operation, ("do this", operation))
        resource = f"arn:aws:s3:::{bucket}" + ("" if verb.startswith("list") else "/*")
        who = "nobody without credentials may" if settings.anonymous else "the credentials may not"
        return Fault("denied", f"{who} {verb} in the bucket {bucket}", f"allow {action} on {resource} ({_POLICY})")
    if code == "InvalidBucketName":
        return bad_name(bucket)
    if code.startswith("KMS"):
        return Fault(
            "denied", f"the key of KMS cannot be used ({code})", "check kms_key_id and that its policy allows its use"
        )
    if code == "NotImplemented":
        return Fault(
            "final",
            f"the server does not know {operation} as it was asked ({code})",
            "see docs/s3.md for what it needs",
        )
    message = hidden(str(found.get("Message") or ""))
    return Fault(
        "final",
        f"{operation} was refused: {code}{': ' if message else ''}{message}",
        "check the bucket and [plugins.s3]",
    )


def bad_name(bucket: str) -> Fault:
    """The fault of a name that no bucket can have."""
    return Fault(
        "final",
        f"{bucket!r} is no name of a bucket",
        "3 to 63 small letters, digits, dots and hyphens make one: s3://my-bucket/results",
    )


def _bad_endpoint(settings: S3Settings) -> Fault:
    """The fault of an address at which no server can be."""
    origin, given = _given_endpoint(settings)
    where = _endpoint(settings)
    if given and ":/" not in given:
        return Fault(
            "final", f"{origin} is {where}, in which http:// or https:// is missing", f"set it to http://{where}"
        )
    return Fault("final", f"{origin} is {where}, which is no address", "give one such as http://127.0.0.1:9000")


def _given_endpoint(settings: S3Settings) -> tuple[str, str | None]:
    """What says where the server is, and what it says."""
    import os

    if settings.endpoint_url:
        return "[plugins.s3] endpoint_url", settings.endpoint_url
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(variable):
            return variable, os.environ[variable]
    return "the endpoint_url of the profile", None


def _endpoint(settings: S3Settings) -> str:
    _, given = _given_endpoint(settings)
    # An address may hold a password.
    return given.rpartition("@")[2] if given and "@" in given else given or "the server"


def _text(error: Exception) -> str:
    return hidden(str(error)).replace("\n", " ")
