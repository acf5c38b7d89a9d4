"""No secret is stored, shown or logged."""

from __future__ import annotations

import logging

import pytest
from projects import Project
from servers import ACCESS_KEY, SECRET_KEY, Server

TOKEN = "KartTokenThatNobodyMaySee/0123456789=="
SECRETS = (SECRET_KEY, TOKEN, ACCESS_KEY)


def _clean(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text


def test_a_run_leaves_no_secret_anywhere(project: Project, moto: Server) -> None:
    url = project.use(moto)
    project.monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)  # moto takes any
    run = project.kart("run", "pipeline:Total", "--log-level", "debug")
    logging.getLogger().setLevel("WARNING")
    assert run.code == 0, run.err
    _clean(run.out + run.err)
    keys = moto.keys(url)
    assert any("/runs/" in key for key in keys)
    assert any("/records/" in key for key in keys)
    for key in keys:
        _clean((moto.get(url, key) or b"").decode("latin-1") + key)
    shown = [
        ("config",),
        ("plugins", "s3"),
        ("plugins",),
        ("plan", "pipeline:Total"),
        ("show", "pipeline:Total", "--json"),
    ]
    for words in shown:
        outcome = project.kart(*words)
        assert outcome.code == 0, outcome.err
        _clean(outcome.out + outcome.err)


def test_debug_logs_in_a_process_of_its_own_hold_no_secret(project: Project, moto: Server) -> None:
    url = moto.new_url()
    script = (
        "import logging; logging.basicConfig(level=1)\n"
        "import kart_core as kart, pipeline\n"
        f"print(kart.build(pipeline.Total(numbers=pipeline.Numbers()), workspace_directory={url!r}))\n"
    )
    outcome = project.python("-c", script, environment=moto.environment(AWS_SESSION_TOKEN=TOKEN))
    assert outcome.code == 0, outcome.err
    assert "botocore" in outcome.err, "libraries log, and are not silenced"
    assert "x-amz-security-token" in outcome.err.lower()
    _clean(outcome.out + outcome.err)


LOGGERS = """\
import logging, threading
import kart_core as kart, pipeline

task = pipeline.Total(numbers=pipeline.Numbers())
kart.build(task)
store = task.output().workspace.store
print([name for name in logging.root.manager.loggerDict if logging.getLogger(name).filters])

said = []
class Keeps(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("botocore").addHandler(Keeps())
logging.getLogger("botocore").setLevel("DEBUG")
stop = threading.Event()
asking = threading.Thread(target=lambda: [store.stat("a") for _ in range(20)] + [stop.set()])
asking.start()
own = 0
while not stop.wait(0.001):
    logging.getLogger("botocore.auth").debug("my own key is %s", "SECRET")
    own += 1
asking.join()
print(said.count("my own key is SECRET") == own > 0, any("SECRET" in line for line in said if "my own" not in line))
"""


def test_the_log_of_who_uses_the_same_library_beside_kart_is_left_alone(project: Project, moto: Server) -> None:
    script = LOGGERS.replace("SECRET", SECRET_KEY)
    url = moto.new_url()
    outcome = project.python("-c", script, environment=moto.environment(KART_WORKSPACE_DIRECTORY=url))
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == ["[]", "True False"]


@pytest.mark.parametrize("secret", ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_errors_hold_no_secret(project: Project, seaweed: Server, secret: str) -> None:
    project.use(seaweed)
    project.monkeypatch.setenv(secret, TOKEN)
    outcome = project.kart("run", "pipeline:Total", "--log-level", "debug")
    logging.getLogger().setLevel("WARNING")
    assert outcome.code == 70
    _clean(outcome.out + outcome.err)


def test_the_store_and_its_settings_hold_no_secret(project: Project, seaweed: Server) -> None:
    import pickle

    from kart_s3 import S3Settings
    from kart_s3.store import S3Store

    store = S3Store(project.use(seaweed), S3Settings())
    store.stat("a")
    _clean(repr(store) + repr(store.__getstate__()) + pickle.dumps(store).decode("latin-1"))
