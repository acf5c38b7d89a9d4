"""Draws docs/run.svg, the picture in the README: the digits pipeline as a terminal shows it.

``python docs/picture.py``, with what the demo needs and Rich installed.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 108
COMMANDS = [
    "python digits.py Report",
    "python digits.py Report",
    "kart-core plan digits:Report --gammas '[0.001, 0.1]'",
    "python digits.py Report --gammas '[0.001, 0.1]'",
]
# Rich's own frame asks a server for its font; a picture in a README should ask nobody.
FRAME = re.sub(r"@font-face \{.*?\}\s*(?=[@.])", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    """Runs the commands in a new copy of the examples, and writes what a terminal showed."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "examples"
        shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("resources", "__pycache__"))
        console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        for command in COMMANDS:
            console.print(Text("$ ", style="bold green") + Text(command, style="bold"))
            shown = _run(command, folder).replace(str(folder), "~/examples").rstrip()
            console.print(Text.from_ansi(shown))
            console.print()
        console.save_svg(str(ROOT / "docs" / "run.svg"), title="kart: only what is missing runs", code_format=FRAME)


def _run(command: str, folder: Path) -> str:
    """What a terminal shows after the command: bars that were drawn and taken away again are not seen."""
    controller, terminal = pty.openpty()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": str(WIDTH), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(command, shell=True, cwd=folder, env=environment, stdout=terminal, stderr=terminal)
    os.close(terminal)
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # how Linux says that the other end was closed
            break
        if not part:
            break
        parts.append(part)
    process.wait()
    os.close(controller)
    return _seen(b"".join(parts).decode())


def _seen(written: str) -> str:
    """The lines that stay: a cursor that moves up takes lines away, `erase` empties one."""
    lines = [""]
    for piece in re.split(r"(\r?\n|\r|\x1b\[\d*A|\x1b\[\d*K|\x1b\[\?\d+[hl])", written):
        if piece in ("\n", "\r\n"):
            lines.append("")
        elif piece.endswith("A") and piece.startswith("\x1b["):
            count = int(piece[2:-1] or "1")
            lines = lines[: max(1, len(lines) - count)]
        elif piece == "\r" or (piece.endswith("K") and piece.startswith("\x1b[")):
            lines[-1] = ""
        elif not piece.startswith("\x1b[?"):
            lines[-1] += piece
    return "\n".join(lines)


if __name__ == "__main__":
    main()
