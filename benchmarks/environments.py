"""A virtual environment for kart and one for each of its peers, so that none sees what another installed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".environments"

PACKAGES = {
    "kart": ["--editable", str(HERE.parent), "numpy"],
    "gokart": ["gokart"],
    "luigi": ["luigi"],
    "joblib": ["joblib"],
    "doit": ["doit"],
}
"""What pip installs into each. Outside plugins and development tools are in none."""


def python(name: str) -> str:
    """The interpreter of the environment `name`."""
    return str(FOLDER / name / "bin" / "python")


def command(name: str, program: str) -> str:
    """A console script of the environment `name`."""
    return str(FOLDER / name / "bin" / program)


def make(*names: str) -> None:
    """Makes each environment that is not there yet, and brings each up to date; `names` for these alone."""
    for name in names or PACKAGES:
        if not Path(python(name)).exists():
            print(f"making the environment of {name}", file=sys.stderr)
            venv.create(FOLDER / name, with_pip=True)
        pip = [python(name), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "pip>=22.3"], check=True)
        subprocess.run([*pip, "--constraint", str(HERE.parent / "constraints.txt"), *PACKAGES[name]], check=True)


def versions() -> dict[str, str]:
    """The version of each package that is measured, and of numpy beside kart."""
    ask = "import importlib.metadata as m, sys; print(*[m.version(n) for n in sys.argv[1:]])"
    found: dict[str, str] = {}
    for name in PACKAGES:
        wanted = {"kart": ["kart-core", "numpy", "attrs"]}.get(name, [name])
        answer = subprocess.run([python(name), "-c", ask, *wanted], check=True, capture_output=True, text=True)
        found.update(zip(wanted, answer.stdout.split(), strict=True))
    return found
