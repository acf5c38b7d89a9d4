"""From ``pip install`` to a result in a bucket, as the documents say."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from projects import BASE_INI, PIPELINE, Project
from servers import Server

import kart_core

CORE = Path(kart_core.__file__).parents[1]


def test_base_ini_and_main_run_on_a_bucket_with_two_keys_and_an_endpoint(project: Project, seaweed: Server) -> None:
    project.write("base.ini", BASE_INI)
    project.write("main.py", PIPELINE)
    url = seaweed.new_url()
    environment = seaweed.environment(TASK_WORKSPACE_DIRECTORY=url)
    outcome = project.python("main.py", "Total", "--local-scheduler", environment=environment)
    assert outcome.code == 0, outcome.err
    assert "2 ran" in outcome.out
    assert sorted(key.rpartition("_")[0] for key in seaweed.keys(url) if key.startswith("main/")) == [
        "main/Numbers",
        "main/Total",
    ]
    again = project.python("main.py", "Total", environment=environment)
    assert "0 ran, 1 reused" in again.out


def test_without_the_plugin_one_sentence_names_it(project: Project, seaweed: Server) -> None:
    project.use(seaweed)
    outcome = project.kart("run", "pipeline:Total", "--no-plugin", "s3")
    assert outcome.code == 70
    assert len(outcome.err.strip().splitlines()) == 1
    assert "kart-s3" in outcome.err


@pytest.mark.slow
def test_in_an_empty_environment(project: Project, seaweed: Server) -> None:
    """The core alone names the plugin; with it the documents' files run."""
    plugin = Path(__file__).parents[1]
    if not (CORE / "pyproject.toml").exists():
        pytest.skip("the core is not installed from its folder")
    project.write("base.ini", BASE_INI)
    project.write("main.py", PIPELINE)
    venv.create(project.folder / "empty", with_pip=True)
    python = str(project.folder / "empty" / "bin" / "python")
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    url = seaweed.new_url()
    environment = {**seaweed.environment(TASK_WORKSPACE_DIRECTORY=url), **settings}

    def pip(folder: Path) -> None:
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(folder)]
        subprocess.run(command, check=True, env=environment)

    def run() -> subprocess.CompletedProcess[str]:
        command = [python, "main.py", "Total"]
        return subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True)

    pip(CORE)
    alone = run()
    assert alone.returncode == 70
    assert len(alone.stderr.strip().splitlines()) == 1
    assert "pip install kart-s3" in alone.stderr
    pip(plugin)
    done = run()
    assert done.returncode == 0, done.stderr
    assert any(key.startswith("main/Total_") for key in seaweed.keys(url))
    assert sys.version_info >= (3, 10)
