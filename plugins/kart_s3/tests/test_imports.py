"""Who does not use S3 does not wait for s3fs."""

from __future__ import annotations

import pytest
from projects import Project

HEAVY = ("s3fs", "gcsfs", "aiobotocore", "botocore", "aiohttp", "fsspec")


@pytest.mark.parametrize("words", [["--help"], ["plugins"], ["run", "pipeline:Total"], ["plan", "pipeline:Total"]])
def test_what_needs_no_bucket_imports_no_client(project: Project, words: list[str]) -> None:
    script = (
        "import sys\n"
        "from kart_core.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as ended:\n    assert ended.code == 0, ended.code\n"
        f"print('imported', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    outcome = project.python("-c", script)
    assert outcome.code == 0, outcome.err
    assert outcome.out.rstrip().endswith("imported []"), outcome.out


def test_the_plugin_itself_is_light(project: Project) -> None:
    outcome = project.python("-c", f"import sys, kart_s3; print([n for n in {HEAVY!r} if n in sys.modules])")
    assert outcome.out.strip() == "[]", outcome.err
