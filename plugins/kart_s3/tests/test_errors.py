"""Whatever is wrong with a bucket or the way to it is said in one sentence, soon, with the next step."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence

import pytest
from projects import Project
from proxy import Proxy
from servers import ACCESS_KEY, READER, SECRET_KEY, WRITER, Server

TOKEN = "KartTokenThatNobodyMaySee/0123456789=="


@pytest.fixture
def hanging() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _refused(project: Project, *facts: str, code: int = 70, seconds: float = 10, words: Sequence[str] = ()) -> str:
    begun = time.monotonic()
    outcome = project.kart("run", "pipeline:Total", *words)
    took = time.monotonic() - begun
    assert outcome.code == code, outcome
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: s3://")
    assert ": " in lines[0]
    assert "; " in lines[0], "the next step"
    for fact in facts:
        assert fact in lines[0], lines[0]
    for secret in (SECRET_KEY, TOKEN):
        assert secret not in outcome.err + outcome.out
    assert took < seconds
    return lines[0]


def _nothing_written(server: Server, url: str) -> None:
    assert server.keys(url) == []


def test_a_wrong_access_key(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KARTNOBODY0000000001")
    _refused(project, "access key", "AWS_ACCESS_KEY_ID")
    _nothing_written(seaweed, url)


def test_a_wrong_secret_key(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY[:-1])
    _refused(project, "secret key", "AWS_SECRET_ACCESS_KEY")
    _nothing_written(seaweed, url)


def test_no_credentials(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    project.monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    project.monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _refused(project, "no credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")
    _nothing_written(seaweed, url)


def test_half_of_the_credentials(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    project.monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _refused(project, "credentials")


def test_a_profile_that_is_not_there(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("AWS_PROFILE", "nobody")
    _refused(project, "nobody", "AWS_PROFILE")


def test_a_named_variable_that_is_not_set(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("KART_S3__ACCESS_KEY_ID_VARIABLE", "TEAM_KEY")
    project.monkeypatch.setenv("KART_S3__SECRET_ACCESS_KEY_VARIABLE", "TEAM_SECRET")
    _refused(project, "TEAM_KEY")


def _answer(status: str, code: str, more: str = "", headers: str = "") -> bytes:
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>as it is</Message>{more}</Error>'
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n{headers}\r\n{text}".encode()


def test_an_expired_token(project: Project, seaweed: Server, proxy: Proxy) -> None:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    project.monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    # As Amazon answers; no server that a test can start knows tokens that expire.
    more = f"<Token-0>{TOKEN}</Token-0>"
    proxy.answers = lambda request: (
        b"HTTP/1.1 400 Bad Request\r\n\r\n"
        if request.method == "HEAD"
        else _answer("400 Bad Request", "ExpiredToken", more)
    )
    _refused(project, "expired", "temporary credentials")
    _nothing_written(seaweed, url)


def test_a_wrong_region(project: Project, seaweed: Server, proxy: Proxy) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    project.monkeypatch.setenv("AWS_REGION", "us-west-2")
    answers = {
        "HEAD": b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "LIST": _answer("400 Bad Request", "AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>"),
    }
    proxy.answers = lambda request: answers.get(request.kind, answers["LIST"])
    _refused(project, "another region", "AWS_REGION=eu-central-1")


def test_a_bucket_that_moved(project: Project, seaweed: Server, proxy: Proxy) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    where = "x-amz-bucket-region: eu-central-1\r\n"
    moved = "301 Moved Permanently"
    proxy.answers = lambda request: (
        f"HTTP/1.1 {moved}\r\n{where}\r\n".encode()
        if request.method == "HEAD"
        else _answer(moved, "PermanentRedirect", headers=where)
    )
    _refused(project, "another region", "AWS_REGION=eu-central-1")


def test_no_bucket(project: Project, seaweed: Server) -> None:
    project.use(seaweed, "s3://there-is-none/x")
    _refused(project, "there-is-none", "create it", "workspace_directory")
    assert project.kart("plan", "pipeline:Total").code == 70


@pytest.mark.parametrize("name", ["No Bucket", "a", "s", "under..dots", "127.0.0.1", "", "-", "ü"])
def test_a_name_that_is_no_buckets(project: Project, seaweed: Server, name: str) -> None:
    project.use(seaweed, f"s3://{name}/x")
    _refused(project, repr(name), "s3://my-bucket/results", seconds=2)


def test_no_permission_to_write(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    _refused(project, "may not write", "s3:PutObject", "arn:aws:s3:::kart/*")
    _nothing_written(seaweed, url)


def test_permission_to_write_that_is_taken_away_under_way(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    seaweed.put(url, ".kart/format", b"1\n")
    project.monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    outcome = project.kart("run", "pipeline:Total")
    assert outcome.code == 70
    assert "may not write" in outcome.err
    assert "Traceback" not in outcome.err
    assert seaweed.keys(url) == [".kart/format"]


def test_no_permission_to_list(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    project.monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER)
    _refused(project, "may not list", "s3:ListBucket", "arn:aws:s3:::kart ")
    _nothing_written(seaweed, url)


def test_an_endpoint_that_refuses_connections(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    _refused(project, f"127.0.0.1:{port}", "AWS_ENDPOINT_URL")


def test_an_endpoint_that_hangs(project: Project, seaweed: Server, hanging: str) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", hanging)
    _refused(project, "within 2 s", "timeout", seconds=9, words=("--set", "plugins.s3.timeout=2"))


def test_an_endpoint_that_is_no_server_of_s3(project: Project, seaweed: Server, proxy: Proxy) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    proxy.answers = lambda request: b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    _refused(project, proxy.endpoint, "not as S3")


def test_an_endpoint_that_is_no_address(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", "http://not an address")
    _refused(project, "AWS_ENDPOINT_URL", "not an address", "http://127.0.0.1:9000")


def test_an_endpoint_without_a_scheme(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    _refused(project, "AWS_ENDPOINT_URL is localhost:9000", "http:// or https:// is missing", "http://localhost:9000")


def test_a_setting_that_does_not_fit_is_told(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    outcome = project.kart("run", "pipeline:Total", "--set", "plugins.s3.kms_key_id=abc")
    assert outcome.code == 2
    assert "server_side_encryption" in outcome.err


def test_the_keys_of_other_variables_are_used(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    project.monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    project.monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name, variable, value in (
        ("ACCESS_KEY_ID_VARIABLE", "TEAM_KEY", ACCESS_KEY),
        ("SECRET_ACCESS_KEY_VARIABLE", "TEAM_SECRET", SECRET_KEY),
    ):
        project.monkeypatch.setenv(f"KART_S3__{name}", variable)
        project.monkeypatch.setenv(variable, value)
    outcome = project.kart("run", "pipeline:Total")
    assert outcome.code == 0, outcome.err
    assert seaweed.keys(url)


def test_a_profile_of_the_shared_files_is_used(project: Project, seaweed: Server) -> None:
    url = project.use(seaweed)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        project.monkeypatch.delenv(name)
    text = f"[team]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    project.monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(project.write("credentials", text)))
    text = f"[profile team]\nendpoint_url = {seaweed.endpoint}\nregion = us-east-1\n"
    project.monkeypatch.setenv("AWS_CONFIG_FILE", str(project.write("aws-config", text)))
    outcome = project.kart("run", "pipeline:Total", "--set", "plugins.s3.profile=team")
    assert outcome.code == 0, outcome.err
    assert seaweed.keys(url)
