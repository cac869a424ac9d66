"""Record the ten lines of docs/your-own-project.md as a picture of the terminal.

    python -m tests.e2e.record_session docs/images/session.svg

They are typed into a terminal in an empty folder, and the picture shows of each what it printed
last, and how long it took.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.project import Project
from millrace_sandbox.stack import Stack
from tests.e2e.ten_lines import ROOT, SAKILA, environment, lines

_WIDTH = 118
# Of what a line prints: enough to see that it went well.
_SHOWN = 12
_MARK = "\x1e"
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b\][^\x07]*\x07|\x1b[=>]")


def record(picture: Path) -> None:
    """Type the lines, and keep the picture."""
    with tempfile.TemporaryDirectory(prefix="record-") as made:
        folder = Path(made)
        shutil.copy(SAKILA, folder)
        programs = folder / "bin"
        programs.mkdir()
        shell = environment(programs) | {"COLUMNS": str(_WIDTH), "TERM": "xterm-256color"}
        typed = folder / "typed.sh"
        typed.write_text("\n".join(_timed(lines())))
        project = folder / "rentals"
        stack = Stack(SandboxPaths(project / ".sandbox"), project=Project(project))
        try:
            said = _typed(typed, folder, shell)
        finally:
            stack.stop()
        picture.write_text(_drawn(said.replace(str(folder), "~").replace(str(ROOT), "~/millrace")))


def _timed(typed: list[str]) -> list[str]:
    """A script of the lines, in which each is preceded by itself and followed by its seconds."""
    pinned = f"{shlex.quote(sys.executable)} -c 'from tests.e2e.ten_lines import pin; "
    pinned += "from pathlib import Path; pin(Path())'"
    script = ["set -euo pipefail"]
    for number, line in enumerate(typed):
        script += [f"printf '{_MARK}%s\\n' {shlex.quote(line)}", "began=$SECONDS", line]
        script += ["printf '%s s\\n' $((SECONDS - began))"]
        if number == 0:
            # The versions of the checkout, so that the picture is of what is tested.
            script += [f"PYTHONPATH={shlex.quote(str(ROOT))} {pinned}"]
    return script


def _typed(script: Path, folder: Path, shell: dict[str, str]) -> str:
    """Run the script in a terminal; returns what it printed."""
    printed: list[bytes] = []

    def read(terminal: int) -> bytes:
        read = os.read(terminal, 65_536)
        printed.append(read)
        return read

    before = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(shell)
    try:
        status = pty.spawn(["bash", str(script)], read)
    finally:
        os.chdir(before[0])
        os.environ.clear()
        os.environ.update(before[1])
    if status:
        sys.exit(f"A line failed: {os.waitstatus_to_exitcode(status)}")
    return b"".join(printed).decode(errors="replace")


def _drawn(said: str) -> str:
    """The picture: of each line, what it printed last."""
    console = Console(record=True, width=_WIDTH, file=Path(os.devnull).open("w"))  # noqa: SIM115
    took = 0
    for part in said.split(_MARK)[1:]:
        # A line that shows progress is written over again and again.
        plain = [
            _CONTROLS.sub("", line.rstrip("\r")).split("\r")[-1] for line in part.split("\r\n")
        ]
        typed, *printed = [line for line in plain if line.strip()]
        *printed, seconds = printed
        took += int(seconds.removesuffix(" s"))
        console.print(Text(f"$ {typed}", style="bold"))
        if len(printed) > _SHOWN:
            console.print(Text(f"… {len(printed) - _SHOWN} lines", style="dim"))
        for line in printed[-_SHOWN:]:
            console.print(Text.from_ansi(line), no_wrap=True, overflow="ellipsis")
        console.print(Text(f"({seconds})\n", style="dim"))
    console.print(Text(f"{took} s in all", style="bold"))
    return console.export_svg(title="rentals", unique_id="session")


if __name__ == "__main__":
    record(Path(sys.argv[1]).resolve())
