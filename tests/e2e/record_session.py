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
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.project import Project
from millrace_sandbox.stack import Stack
from tests.e2e.ten_lines import ROOT, SAKILA, environment, lines

if TYPE_CHECKING:
    from pyte.screens import Char

_WIDTH = 118
# Of what a line prints: enough to see that it went well.
_SHOWN = 7
_MARK = "\x1e"
# `make up` prints the login of the project's own Airflow, which ends with the recording.
_PASSWORD = re.compile(r"(?<=password )\S+")


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
        said = _PASSWORD.sub("…", said)
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
    """The picture: of each line, what stands in the terminal once it is done."""
    console = Console(record=True, width=_WIDTH, file=StringIO())
    took = 0
    for part in said.split(_MARK)[1:]:
        typed, *printed, seconds = _screen(part)
        took += int(seconds.plain.removesuffix(" s"))
        console.print(Text(f"$ {typed.plain}", style="bold"))
        if len(printed) > _SHOWN:
            console.print(Text(f"… {len(printed) - _SHOWN} lines", style="dim"))
        for line in printed[-_SHOWN:]:
            console.print(line, no_wrap=True, overflow="ellipsis")
        console.print(Text(f"({seconds.plain})\n", style="dim"))
    console.print(Text(f"{took} s in all", style="bold"))
    picture = console.export_svg(title="rentals", unique_id="session")
    # A picture in a page fetches nothing: its reader's own font for code will do.
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def _screen(printed: str) -> list[Text]:
    """The lines that are left, other than empty ones: progress is written over itself."""
    # So high that nothing scrolls away, with what is too wide for one row in several.
    screen = pyte.Screen(_WIDTH, sum(1 + len(line) // _WIDTH for line in printed.split("\n")))
    pyte.Stream(screen).feed(printed)
    rows = [[screen.buffer[row][at] for at in range(_WIDTH)] for row in range(screen.lines)]
    lines = [Text.assemble(*((sign.data, _style(sign)) for sign in row)) for row in rows]
    for line in lines:
        line.rstrip()
    return [line for line in lines if line]


def _style(sign: Char) -> Style:
    # What pyte calls brown is the terminal's yellow.
    color = {"default": None, "brown": "yellow"}.get(sign.fg, sign.fg)
    return Style(color=color, bold=sign.bold or None)


if __name__ == "__main__":
    record(Path(sys.argv[1]).resolve())
