"""Who asks: the credentials that are found in the environment, and the tokens that they get.

They are looked for in a fixed order, and the first that is there holds:

1. ``anonymous = true`` of ``[plugins.gcs]``: nobody;
2. ``GCS_CREDENTIAL`` (or the variable that ``credential_variable`` names): the path of a JSON file, or its text;
3. ``GOOGLE_APPLICATION_CREDENTIALS``: the path of a JSON file;
4. an emulator (``STORAGE_EMULATOR_HOST``): nobody. What follows is never sent to one;
5. the file that ``gcloud auth application-default login`` writes;
6. the metadata server, where it is asked for or this is one of Google's machines.

Nothing is guessed beyond that: no credentials are an error, never an anonymous request, and what
cannot be read as credentials is never sent anywhere nor repeated in a message.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from kart_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kart_gcs.settings import GcsSettings

__all__ = ["SCOPE", "Found", "find", "google_credentials", "secrets_in"]

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
"""What a token is asked for: to read and write objects, not to change who may."""

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "service_account": ("client_email", "private_key", "token_uri"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
    "external_account": ("audience", "subject_token_type", "token_url", "credential_source"),
    "impersonated_service_account": ("service_account_impersonation_url", "source_credentials"),
}
"""The kinds of credentials, by their ``type``, and what each must hold."""

_PUBLIC = {
    "type",
    "audience",
    "client_email",
    "subject_token_type",
    "project_id",
    "quota_project_id",
    "universe_domain",
}
"""What of credentials may stand in a message or a log."""

_HOW = (
    "set GCS_CREDENTIAL to the path or the text of a service account's key, run "
    "`gcloud auth application-default login`, or say [plugins.gcs] anonymous = true for a public bucket"
)


class Found(NamedTuple):
    """Which credentials hold, before any token was asked for."""

    kind: Literal["anonymous", "json", "metadata"]
    source: str
    """As messages name it: ``GCS_CREDENTIAL``."""
    info: Mapping[str, Any] | None = None
    """The JSON object, of kind ``json``; it is secret."""

    def __repr__(self) -> str:
        return f"Found({self.kind!r}, {self.source!r})"

    @property
    def who(self) -> str:
        """The account, as messages name it."""
        info = self.info or {}
        if self.kind == "metadata":
            return "the machine's service account"
        words = str(info.get("type", "nobody")).replace("_", " ")
        return f"{words} {info['client_email']}" if isinstance(info.get("client_email"), str) else words

    @property
    def project(self) -> str | None:
        """The project that the credentials belong to, where they say so."""
        info = self.info or {}
        named = info.get("project_id") or info.get("quota_project_id")
        return named if isinstance(named, str) else None


def find(settings: GcsSettings, environment: Mapping[str, str], *, emulated: bool) -> Found:
    """The credentials that hold, by the order of this module. Nothing is sent.

    Args:
        settings: of the plugin.
        environment: the environment variables.
        emulated: whether the endpoint is an emulator's.

    Raises:
        StorageError: there are none, or what is there is not credentials. The message repeats nothing of it.
    """
    if settings.anonymous:
        return Found("anonymous", "[plugins.gcs] anonymous")
    named = settings.credential_variable
    if value := environment.get(named, "").strip():
        return Found("json", named, _given(named, value))
    if value := environment.get("GOOGLE_APPLICATION_CREDENTIALS", "").strip():
        return Found("json", "GOOGLE_APPLICATION_CREDENTIALS", _in_file("GOOGLE_APPLICATION_CREDENTIALS", value))
    if emulated:
        return Found("anonymous", "STORAGE_EMULATOR_HOST")
    path = _gcloud_file(environment)
    if os.path.isfile(path):
        return Found("json", "the credentials of gcloud", _in_file("the credentials of gcloud", path))
    if settings.metadata_server or (settings.metadata_server is None and _on_google(environment)):
        return Found("metadata", "the metadata server")
    raise StorageError(f"no credentials for Google Cloud Storage were found; {_HOW}")


def google_credentials(found: Found) -> Any:
    """google-auth's object for credentials that were found; None for nobody. Nothing is sent.

    Raises:
        StorageError: they are incomplete or cannot be read.
    """
    if found.kind == "anonymous":
        return None
    if found.kind == "metadata":
        from google.auth import compute_engine

        return compute_engine.Credentials(scopes=[SCOPE])  # pyright: ignore[reportUnknownMemberType]
    info = dict(found.info or {})
    try:
        return _of_info(info)
    except Exception as error:
        # The cause is left out: it may repeat a part of the key.
        what = "private_key" if "private_key" in info else "content"
        why = "is no key in PEM form" if what == "private_key" else f"is not understood ({type(error).__name__})"
        lacking = f"the {what} of {found.source} ({found.who}) {why}"
    raise StorageError(f"{lacking}; copy the whole file that Google gave you, line breaks included")


def secrets_in(found: Found) -> list[str]:
    """Every text in the credentials that must never be shown, longest first."""
    secrets: set[str] = set()
    pending: list[Any] = [found.info or {}]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value).items()
            pending.extend(item for key, item in items if key not in _PUBLIC)
        elif isinstance(value, (list, tuple)):
            pending.extend(cast("list[Any]", value))
        elif isinstance(value, str) and len(value) >= 6 and not value.startswith(("http://", "https://")):
            secrets.add(value)
    return sorted(secrets, key=len, reverse=True)


def _given(variable: str, value: str) -> Mapping[str, Any]:
    """The JSON object of a variable that holds a path or the text itself."""
    if value.startswith("{"):
        return _parsed(variable, value)
    try:
        is_file = os.path.isfile(os.path.expanduser(value))
    except ValueError:  # a null character
        is_file = False
    if is_file:
        return _in_file(variable, value)
    raise StorageError(
        f"{variable} is neither the path of a file that is there nor JSON text that begins with '{{' "
        f"({len(value)} characters, not shown); {_HOW}"
    )


def _in_file(source: str, path: str) -> Mapping[str, Any]:
    try:
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
            text = file.read(1 << 20)
    except FileNotFoundError:
        why = "names a file that is not there"
    except UnicodeDecodeError:
        why = "names a file that is no JSON text"
    except (OSError, ValueError) as error:
        why = f"names a file that cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
    else:
        return _parsed(source, text)
    raise StorageError(f"{source} {why}; {_HOW}")


def _parsed(source: str, text: str) -> Mapping[str, Any]:
    """The JSON object in a text, if it has the shape of credentials."""
    try:
        info: Any = json.loads(text)
    except ValueError as error:
        at = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "its start"
        why = f"is not JSON (wrong at {at}; not shown)"
    else:
        why = _misshapen(info)
        if why is None:
            return cast("Mapping[str, Any]", info)
    raise StorageError(f"{source} {why}; {_HOW}")


def _misshapen(info: Any) -> str | None:
    """What is wrong with the shape of credentials; None where nothing is."""
    kinds = ", ".join(_NEEDED)
    if not isinstance(info, dict):
        return "holds no JSON object"
    held = cast("dict[str, Any]", info)
    if "installed" in held or "web" in held:
        return f"holds an OAuth client, which is no credential; credentials have a type: {kinds}"
    kind = held.get("type")
    if kind is None:
        return f"has no type; credentials have one: {kinds}"
    if not isinstance(kind, str) or kind not in _NEEDED:
        return f"has a type that is none of {kinds}"
    lacking = [name for name in _NEEDED[kind] if not held.get(name)]
    if lacking:
        return f"is a {kind} without {', '.join(lacking)}"
    wrong = [name for name in _NEEDED[kind] if name != _TABLES.get(kind) and not isinstance(held[name], str)]
    if wrong:
        return f"is a {kind} whose {', '.join(wrong)} is no text"
    return None


_TABLES = {"external_account": "credential_source", "impersonated_service_account": "source_credentials"}


def _of_info(info: dict[str, Any]) -> Any:
    kind = info["type"]
    if kind == "service_account":
        from google.oauth2 import service_account

        return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])  # pyright: ignore
    if kind == "authorized_user":
        from google.oauth2 import credentials

        # Scopes are left out: what the user granted holds. `from_authorized_user_info` would not read the token_uri.
        return credentials.Credentials(
            None,
            refresh_token=info["refresh_token"],
            client_id=info["client_id"],
            client_secret=info["client_secret"],
            token_uri=info.get("token_uri") or "https://oauth2.googleapis.com/token",
            quota_project_id=info.get("quota_project_id"),
        )
    if kind == "impersonated_service_account":
        from google.auth import impersonated_credentials

        made = cast("Any", impersonated_credentials.Credentials)
        return made.from_impersonated_service_account_info(info, scopes=[SCOPE])
    return _external(info)


def _external(info: dict[str, Any]) -> Any:
    """Of another cloud or an identity provider, told apart as google-auth does."""
    source: Mapping[str, Any] = info["credential_source"]
    if info["subject_token_type"] == "urn:ietf:params:aws:token-type:aws4_request":
        from google.auth import aws as module
    elif source.get("executable") is not None:
        from google.auth import pluggable as module
    else:
        from google.auth import identity_pool as module
    return cast("Any", module).Credentials.from_info(info, scopes=[SCOPE])


def _gcloud_file(environment: Mapping[str, str]) -> str:
    """Where `gcloud auth application-default login` writes."""
    folder = environment.get("CLOUDSDK_CONFIG")
    if not folder and os.name == "nt":
        folder = os.path.join(environment.get("APPDATA", ""), "gcloud")
    folder = folder or os.path.join(os.path.expanduser("~"), ".config", "gcloud")
    return os.path.join(folder, "application_default_credentials.json")


def _on_google(environment: Mapping[str, str]) -> bool:
    """Whether this is one of Google's machines, without asking the network."""
    if environment.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    # Whoever names the metadata server's host has one. The others are set by Cloud Run, its functions and App Engine.
    if any(environment.get(name) for name in ("GCE_METADATA_HOST", "K_SERVICE", "CLOUD_RUN_JOB", "GAE_SERVICE")):
        return True
    try:
        with open("/sys/class/dmi/id/product_name", encoding="utf-8", errors="replace") as file:
            return file.read(100).strip().startswith("Google")
    except OSError:
        return False
