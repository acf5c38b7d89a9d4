"""Credentials as users have them, each proved by a server that grants tokens for that very key alone."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kart_gcs import Gcs, GcsSettings

from kart_core.errors import StorageError


@pytest.fixture
def closed(guard: Any, bucket: Any, tokens: Any) -> Any:
    """The storage, which lets nobody in without a token of the server's."""
    guard.tokens = tokens
    return guard


def works(bucket: Any, **settings: Any) -> None:
    """Writes and reads, and makes sure that it arrived."""
    store = Gcs(GcsSettings(**settings)).open(f"gs://{bucket.name}/credentials")
    store.put("a", b"with a token")
    assert store.read("a") == b"with a token"
    assert bucket.get("credentials/a") == b"with a token"


def refusal(bucket: Any, **settings: Any) -> str:
    """What is said where it does not work; and that it is said soon."""
    began = time.monotonic()
    with pytest.raises(StorageError) as raised:
        Gcs(GcsSettings(**settings)).open(f"gs://{bucket.name}/credentials").put("a", b"")
    assert time.monotonic() - began < 1.5
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.usefixtures("closed")
class TestGcsCredential:
    def test_a_path(self, bucket: Any, tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "key.json"
        path.write_text(json.dumps(tokens.service_account()))
        monkeypatch.setenv("GCS_CREDENTIAL", str(path))
        works(bucket)
        assert len(tokens.granted) == 1

    def test_json_text(self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.service_account(), indent=2))
        works(bucket)

    def test_json_text_of_a_user(self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.authorized_user()))
        works(bucket)

    def test_json_text_of_a_workload(
        self, bucket: Any, tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = tokens.external_account(str(tmp_path / "identity"))
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(account))
        works(bucket)

    def test_another_variable_that_the_settings_name(
        self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.unknown_key()))
        monkeypatch.setenv("TEAM_KEY", json.dumps(tokens.service_account("team@kart.example")))
        works(bucket, credential_variable="TEAM_KEY")

    def test_it_stands_above_the_application_credentials(
        self, bucket: Any, tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "key.json"
        path.write_text(json.dumps(tokens.unknown_key("other@kart.example")))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.service_account()))
        works(bucket)

    def test_a_token_is_asked_for_once_by_many_requests(
        self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.service_account()))
        store = Gcs().open(f"gs://{bucket.name}")
        assert store.stat_many([f"{i}/x" for i in range(40)]) == [None] * 40
        assert tokens.asked == 1

    def test_a_token_that_ended_is_renewed(
        self, bucket: Any, tokens: Any, closed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.service_account()))
        tokens.lifetime = 1
        store = Gcs().open(f"gs://{bucket.name}")
        store.put("a", b"1")
        time.sleep(1.1)
        tokens.revoked.update(tokens.granted)
        store.put("a", b"2")
        assert bucket.get("a") == b"2"
        assert tokens.asked == 2

    def test_a_token_that_was_revoked_is_renewed(
        self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.service_account()))
        store = Gcs().open(f"gs://{bucket.name}")
        store.put("a", b"1")
        tokens.revoked.update(tokens.granted)
        store.put("a", b"2")
        assert bucket.get("a") == b"2"

    def test_a_wrong_key_is_one_sentence_at_once(
        self, bucket: Any, tokens: Any, closed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tokens.service_account()
        wrong = tokens.unknown_key()
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(wrong))
        said = refusal(bucket)
        assert "Invalid JWT Signature" in said
        assert "GCS_CREDENTIAL" in said
        assert "pipeline@kart.example" in said
        assert wrong["private_key"].splitlines()[1] not in said
        assert closed.requests == []  # the storage was not asked

    def test_a_user_whose_token_was_revoked(self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        user = tokens.authorized_user()
        tokens.users.clear()
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(user))
        said = refusal(bucket)
        assert "expired or revoked" in said
        assert user["refresh_token"] not in said
        assert user["client_secret"] not in said

    def test_a_server_of_tokens_that_repeats_the_secret(
        self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = tokens.authorized_user()
        tokens.refuse = 400, {"error": "invalid_grant", "error_description": f"no {user['refresh_token']} here"}
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(user))
        said = refusal(bucket)
        assert "no *** here" in said

    def test_a_server_of_tokens_that_is_busy_is_asked_again(
        self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.service_account()))
        answer = tokens.asked_for
        answers = iter([(503, {"error": "busy"}), (429, {})])
        monkeypatch.setattr(tokens, "asked_for", lambda *asked: next(answers, None) or answer(*asked))
        works(bucket)

    def test_a_server_of_tokens_that_is_not_there(
        self, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = {**tokens.service_account(), "token_uri": "http://127.0.0.1:9/token"}
        monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(key))
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"127\.0\.0\.1, which gives tokens, cannot be reached"):
            Gcs().open(f"gs://{bucket.name}").read("a")
        assert time.monotonic() - began < 10


def test_many_who_wait_for_a_token_wait_once(guard: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kart_gcs.access import Access, Unavailable
    from kart_gcs.credentials import Found

    asked = tokens.asked_for

    def slow(*words: Any) -> Any:
        time.sleep(0.3)
        asked(*words)
        return 503, {}

    monkeypatch.setattr(tokens, "asked_for", slow)
    access = Access(Found("json", "GCS_CREDENTIAL", tokens.service_account()), (1, 2))

    def renew(_: int) -> str:
        with pytest.raises(Unavailable) as raised:
            access.renew()
        return str(raised.value)

    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(renew, range(16))) == {"127.0.0.1, which gives tokens, answers 503"}
    assert time.monotonic() - began < 1.5
    assert tokens.asked < 4
    monkeypatch.setattr(tokens, "asked_for", asked)
    access.renew()  # a failure is not kept
    assert access.valid()


PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANSECRETSECRET\n-----END PRIVATE KEY-----\n"
SERVICE = {"type": "service_account", "client_email": "a@b", "token_uri": "https://oauth2.googleapis.com/token"}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no/such/file-SECRETSECRET.json", "neither the path"),
        ("SECRETSECRET", "neither the path"),
        ("\ttext\nof several SECRETSECRET\nlines", "neither the path"),
        ("x" * 5000 + "SECRETSECRET", "neither the path"),
        (json.dumps({**SERVICE, "private_key": PEM})[:-10], "is not JSON"),
        (json.dumps({**SERVICE, "private_key": PEM}), "private_key of GCS_CREDENTIAL (service account a@b) is no key"),
        (json.dumps({**SERVICE, "private_key": 5, "x": "SECRETSECRET"}), "private_key is no text"),
        (json.dumps({**SERVICE, "x": "SECRETSECRET"}), "without private_key"),
        (json.dumps({"private_key": PEM}), "has no type"),
        (json.dumps({"type": "SECRETSECRET"}), "none of"),
        (json.dumps({"type": ["SECRETSECRET"]}), "none of"),
        (json.dumps({"type": "authorized_user", "client_id": "SECRETSECRET"}), "without client_secret, refresh_token"),
        (json.dumps({"installed": {"client_secret": "SECRETSECRET"}}), "an OAuth client"),
        (
            json.dumps(
                {
                    "type": "external_account",
                    "audience": "SECRETSECRET",
                    "subject_token_type": "urn:x",
                    "token_url": "https://sts.googleapis.com",
                    "credential_source": {"SECRETSECRET": 1},
                }
            ),
            "is not understood",
        ),
        ('{"type": "service_account"', "is not JSON"),
    ],
)
def test_a_malformed_credential_is_told_and_never_leaves_the_process(
    bucket: Any, guard: Any, monkeypatch: pytest.MonkeyPatch, value: str, why: str
) -> None:
    import socket

    monkeypatch.setenv("GCS_CREDENTIAL", value)
    guard.requests.clear()
    connected: list[Any] = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, address: (connected.append(address), connect(self, address))
    )
    said = refusal(bucket)
    assert why in said
    assert "GCS_CREDENTIAL" in said
    assert "SECRET" not in said
    assert guard.requests == []
    assert connected == []


def test_a_file_that_holds_no_credentials(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.json"
    monkeypatch.setenv("GCS_CREDENTIAL", str(path))
    for content in (b"SECRETSECRET", b"\xff\xfe\x00S", b"", b"[]"):
        path.write_bytes(content)
        said = refusal(bucket)
        assert "GCS_CREDENTIAL" in said
        assert "SECRET" not in said


def test_an_error_shows_no_secret_in_its_traceback_either(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import traceback

    monkeypatch.setenv("GCS_CREDENTIAL", json.dumps({**SERVICE, "private_key": PEM}))
    with pytest.raises(StorageError) as raised:
        Gcs().open(f"gs://{bucket.name}").read("a")
    assert "SECRET" not in "".join(traceback.format_exception(raised.value))


# -- the order


def test_application_credentials(
    closed: Any, bucket: Any, tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(tokens.service_account()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    works(bucket)


def test_application_credentials_that_are_not_there(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")
    assert "GOOGLE_APPLICATION_CREDENTIALS names a file that is not there" in refusal(bucket)


@pytest.fixture
def gcloud(tokens: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What gcloud's login leaves."""
    folder = tmp_path / "gcloud"
    folder.mkdir()
    (folder / "application_default_credentials.json").write_text(json.dumps(tokens.authorized_user()))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(folder))


@pytest.mark.usefixtures("gcloud")
def test_the_defaults_of_gcloud(closed: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    works(bucket, endpoint_url=closed.url)


@pytest.mark.usefixtures("gcloud")
def test_an_emulator_is_not_given_the_defaults_of_gcloud(guard: Any, bucket: Any, tokens: Any) -> None:
    works(bucket)
    assert tokens.asked == 0
    assert not any("Authorization" in request.headers for request in guard.requests)


@pytest.mark.usefixtures("gcloud")
def test_nobody_is_asked_for_a_token_where_requests_are_to_be_anonymous(
    guard: Any, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(tokens.service_account()))
    works(bucket, endpoint_url=guard.url, anonymous=True)
    assert tokens.asked == 0


def test_no_credentials_are_an_error_and_never_an_anonymous_request(
    guard: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    said = refusal(bucket, endpoint_url=guard.url)
    assert "no credentials" in said
    assert "GCS_CREDENTIAL" in said
    assert guard.requests == []


@pytest.mark.parametrize("asked", [True, None])
def test_the_metadata_server_where_it_is_asked_for_or_named(
    closed: Any, bucket: Any, tokens: Any, project: Any, asked: bool | None
) -> None:
    code = f"""
from kart_gcs import Gcs, GcsSettings
store = Gcs(GcsSettings(endpoint_url={closed.url!r}, metadata_server={asked})).open("gs://{bucket.name}")
store.put("a", b"by the machine")
answer = store.read("a").decode()
"""
    environment = {"GCE_METADATA_HOST": tokens.url.removeprefix("http://"), "STORAGE_EMULATOR_HOST": ""}
    assert project.ask(code, environment) == "by the machine"
    assert len(tokens.granted) == 1


def test_the_metadata_server_is_not_asked_unless_asked_for(
    guard: Any, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GCE_METADATA_HOST", tokens.url.removeprefix("http://"))
    assert "no credentials" in refusal(bucket, endpoint_url=guard.url, metadata_server=False)
    assert tokens.granted == []


def test_a_metadata_server_that_is_not_there(guard: Any, bucket: Any, project: Any) -> None:
    code = f"""
import time
from kart_core.errors import StorageError
from kart_gcs import Gcs, GcsSettings
began = time.monotonic()
try:
    Gcs(GcsSettings(endpoint_url={guard.url!r}, metadata_server=True)).open("gs://{bucket.name}").read("a")
except StorageError as error:
    answer = [str(error), time.monotonic() - began]
"""
    environment = {"GCE_METADATA_HOST": "127.0.0.1:9", "STORAGE_EMULATOR_HOST": ""}
    said, seconds = project.ask(code, environment)
    assert "127.0.0.1" in said
    assert seconds < 10
