"""Where the sandbox keeps everything it writes."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from millrace_sandbox.project import project_root


@dataclass(frozen=True)
class SandboxPaths:
    """The folders of one sandbox, all under one root.

    Attributes:
        root: The sandbox's own folder; removing it removes the sandbox.
    """

    root: Path

    @classmethod
    def default(cls) -> SandboxPaths:
        """The folder named by ``MILLRACE_SANDBOX_DIR``, or ``.sandbox`` in the project at hand.

        Raises:
            SandboxError: There is neither.
        """
        named = os.environ.get("MILLRACE_SANDBOX_DIR")
        return cls(Path(named).resolve() if named else project_root() / ".sandbox")

    @property
    def mariadb(self) -> Path:
        """MariaDB's data and accounts."""
        return self.root / "mariadb"

    @property
    def s3(self) -> Path:
        """The S3 server's data and keys."""
        return self.root / "s3"

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.root / "airflow"

    @property
    def logs(self) -> Path:
        """The logs, one per service."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """The pid files, one per service."""
        return self.root / "run"

    def create(self) -> None:
        """Make the folders that are missing, readable by their owner only."""
        for folder in (self.root, self.mariadb, self.s3, self.airflow, self.logs, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        # Keeps git from committing the sandbox.
        (self.root / ".gitignore").write_text("*\n")


def command_line(name: str) -> str:
    """How a person calls a program of this environment from the working directory."""
    program = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(program):
        return name
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)
