"""What goes wrong with a bucket is one sentence, with its cause and the next step, and exit code 70."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import pytest

from kart_core import config
from kart_core.cli import main

PIPELINE = """
import kart_core


class Task(kart_core.TaskOnKart[dict[str, int]]):
    n: int = 1

    def run(self) -> None:
        self.dump({"n": self.n})


if __name__ == "__main__":
    kart_core.run()
"""


Fails = Callable[..., str]


@dataclass(frozen=True)
class Checked:
    """What must hold of a command that met a workspace which does not work."""

    bucket: Any
    secrets: tuple[str, ...]
    tokens: Any

    def sentence(self, outcome: Any, took: float, within: float) -> str:
        """The one sentence that is said."""
        assert outcome.code == 70, outcome
        said = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
        assert len(said) == 1, outcome.err
        for text in (outcome.out, outcome.err):
            assert "Traceback" not in text
            for secret in (*self.secrets, *self.tokens.granted):
                assert secret not in text
        assert self.bucket.names() == []
        assert took < within + 2  # the two are for starting Python on a busy machine
        return said[0]


@pytest.fixture
def checked(project: Any, guard: Any, bucket: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> Checked:
    """A project whose credentials are right and whose storage demands them."""
    project.write("main.py", PIPELINE)
    key = tokens.service_account()
    monkeypatch.setenv("GCS_CREDENTIAL", json.dumps(key))
    guard.tokens = tokens
    return Checked(bucket, (key["private_key"], key["private_key"].splitlines()[3]), tokens)


@pytest.fixture
def fails(
    checked: Checked, project: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Fails]:
    """Runs a task whose workspace does not work, by the command line; gives the one sentence that is said."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def fails(url: str | None = None, within: float = 10, environment: dict[str, str] | None = None) -> str:
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        config.load_default()
        sys.modules.pop("main", None)
        began = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main(["run", "main:Task", "--workspace-directory", url or f"gs://{bucket.name}/work"])
        took = time.monotonic() - began
        captured = capsys.readouterr()
        return checked.sentence(Outcome(cast("int", ended.value.code), captured.out, captured.err), took, within)

    yield fails
    sys.modules.pop("main", None)
    monkeypatch.undo()
    config.load_default()


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def refusing(status: int, message: str, *kinds: str, reason: str = "forbidden") -> Any:
    """A rule that answers as Google does."""
    body = {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}
    return lambda request: (status, body) if not kinds or request.kind in kinds else None


def test_a_wrong_key(fails: Fails, tokens: Any) -> None:
    said = fails(environment={"GCS_CREDENTIAL": json.dumps(tokens.unknown_key("other@kart.example"))}, within=4)
    assert "GCS_CREDENTIAL" in said
    assert "Invalid JWT Signature" in said
    assert "make a new key" in said


def test_a_malformed_credential(fails: Fails, tokens: Any) -> None:
    text = json.dumps(tokens.service_account())[:-40]
    said = fails(environment={"GCS_CREDENTIAL": text}, within=4)
    assert "GCS_CREDENTIAL is not JSON" in said
    assert tokens.asked == 0


def test_an_expired_token_that_is_not_renewed(fails: Fails, tokens: Any, guard: Any) -> None:
    guard.tokens = None
    guard.rule = refusing(401, "Invalid Credentials", reason="authError")
    said = fails()
    assert "is not accepted (Invalid Credentials)" in said
    assert "pipeline@kart.example" in said


def test_a_token_of_a_user_that_has_expired(fails: Fails, tokens: Any) -> None:
    user = tokens.authorized_user()
    tokens.users.clear()
    assert "expired or revoked" in fails(environment={"GCS_CREDENTIAL": json.dumps(user)}, within=4)


def test_no_credentials(fails: Fails, guard: Any) -> None:
    elsewhere = {"STORAGE_EMULATOR_HOST": "", "KART_GCS__ENDPOINT_URL": guard.url, "NO_GCE_CHECK": "true"}
    said = fails(environment={"GCS_CREDENTIAL": "", **elsewhere}, within=4)
    assert "no credentials" in said
    assert "set GCS_CREDENTIAL" in said
    assert guard.requests == []


def test_a_bucket_that_is_not_open_to_everyone(fails: Fails) -> None:
    said = fails(environment={"KART_GCS__ANONYMOUS": "true"})
    assert "is not open to everyone" in said
    assert "GCS_CREDENTIAL" in said


def test_no_bucket(fails: Fails) -> None:
    said = fails("gs://kart-there-is-none/work")
    assert "there is no bucket kart-there-is-none" in said
    assert "gcloud storage buckets create gs://kart-there-is-none" in said


def test_no_bucket_as_google_says_it(fails: Fails, guard: Any) -> None:
    guard.rule = refusing(404, "The specified bucket does not exist.", reason="notFound")
    assert "there is no bucket" in fails()
    assert guard.kinds().get("PUT", 0) <= 1


def test_no_permission_to_write(fails: Fails, guard: Any) -> None:
    guard.rule = refusing(403, "x does not have storage.objects.create access.", "PUT", "START")
    said = fails()
    assert "storage.objects.create" in said
    assert "roles/storage.objectUser" in said


def test_no_permission_to_list(fails: Fails, guard: Any) -> None:
    """Google answers 403, not 404, for an object that is not there to those who may not list."""
    guard.rule = refusing(403, "x does not have storage.objects.list access.", "LIST", "HEAD", "GET")
    said = fails()
    assert "storage.objects.list" in said
    assert "roles/storage.objectUser" in said


def test_a_bucket_whose_requester_pays(fails: Fails, guard: Any) -> None:
    text = "Bucket is a requester pays bucket but no user project provided."
    guard.rule = refusing(400, text, reason="required")
    assert "[plugins.gcs] requester_pays = true" in fails()


def test_an_object_with_another_key(fails: Fails, guard: Any) -> None:
    text = "The target object is encrypted by a customer-supplied encryption key."
    guard.rule = refusing(400, text, "GET", reason="resourceIsEncryptedWithCustomerEncryptionKey")
    assert "encryption_key_variable" in fails()


@contextlib.contextmanager
def _deaf() -> Iterator[str]:
    """The address of a port that takes no connection, and does not refuse one either."""
    with socket.socket() as listening, contextlib.ExitStack() as filling:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            client = filling.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_endpoint_that_does_not_work_is_given_up_in_time(
    checked: Checked, project: Any, guard: Any, bucket: Any
) -> None:
    """Each is waited for; here all at once, each in a process of its own."""

    def fails(url: str, environment: dict[str, str]) -> str:
        began = time.monotonic()
        outcome = project.python("main.py", "Task", "--workspace-directory", url, environment=environment)
        return checked.sentence(outcome, time.monotonic() - began, within=11)  # one of eleven: five share two cores

    def rule(request: Any) -> Any:
        return "hang" if "kart-hangs" in request.path else "reset" if "kart-resets" in request.path else None

    guard.rule = rule
    with _deaf() as deaf, ThreadPoolExecutor(5) as pool:
        work = f"gs://{bucket.name}/work"
        cases = [
            ("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9", work, "127.0.0.1:9 cannot be reached (Connection refused)"),
            ("STORAGE_EMULATOR_HOST", "http://none.invalid", work, "the name none.invalid is not known"),
            ("STORAGE_EMULATOR_HOST", deaf, work, f"{deaf.removeprefix('http://')} gives no connection within 4 s"),
            ("KART_GCS__READ_TIMEOUT", "3", "gs://kart-hangs/work", "gives no answer within 3 s"),
            ("NO_GCE_CHECK", "true", "gs://kart-resets/work", "broke"),
        ]
        told = [pool.submit(fails, url, {name: value}) for name, value, url, _ in cases]
        for saying, (*_, expected) in zip(told, cases, strict=True):
            assert expected in saying.result()
            assert "check the endpoint" in saying.result()


def test_an_endpoint_that_is_something_else(fails: Fails, guard: Any) -> None:
    for answer in ((200, b"<html>Welcome"), (200, {"hello": "world"})):
        guard.rule = lambda request, answer=answer: answer
        assert "does not answer as Google Cloud Storage does" in fails()


def test_tls_where_there_is_none(fails: Fails, guard: Any) -> None:
    assert "does not speak TLS" in fails(environment={"STORAGE_EMULATOR_HOST": guard.url.replace("http:", "https:")})


@pytest.mark.parametrize("name", ["Kart_X", "x", "a..b", "-a-", "", "a b", "x" * 64, "ünï"])
def test_a_name_that_is_no_bucket_name(fails: Fails, name: str) -> None:
    said = fails(f"gs://{name}/work")
    assert f"{name!r} in gs://{name}/work is no name of a bucket" in said


def test_a_server_that_comes_back_is_waited_for(project: Any, guard: Any, bucket: Any, tokens: Any) -> None:
    """A proxy that resets the connection twice does not fail the run."""
    project.write("main.py", PIPELINE)
    lock, left = threading.Lock(), {"GET": 2, "PUT": 2, "HEAD": 2}

    def rule(request: Any) -> Any:
        with lock:
            left[request.kind] = left.get(request.kind, 0) - 1
            return "reset" if left[request.kind] >= 0 else None

    guard.rule = rule
    outcome = project.python("main.py", "Task", "--workspace-directory", f"gs://{bucket.name}")
    assert outcome.code == 0, outcome.err
    assert any(key.startswith("main/Task_") for key in bucket.names())
