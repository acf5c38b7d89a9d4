"""The core's tests of build, rerun, ids, failure, formats and records with their results in a bucket.

Plugins run it, each on the servers that it has for its tests, with the plugin installed:

    CORE_TESTS_STORE_AT=s3://bucket/prefix python tests/in_a_bucket.py

What is marked `local` is left out, and says why. Arguments go to pytest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FILES = ("dynamic", "failure", "identity", "load_and_dump", "outputs", "records", "rerun", "restore")

if __name__ == "__main__":
    assert "CORE_TESTS_STORE_AT" in os.environ, "say where: CORE_TESTS_STORE_AT=s3://bucket/prefix"
    here = Path(__file__).resolve().parent
    os.chdir(here.parent)
    sys.path[0] = str(here.parent)
    files = [str(here / f"test_{name}.py") for name in FILES]
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--numprocesses", "2", *files, *sys.argv[1:]]))
