"""Where the sandbox keeps everything it writes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class SandboxPaths:
    """The folders of one sandbox, all under one root.

    Attributes:
        root: The sandbox's own folder; removing it removes the sandbox.
    """

    root: Path

    @classmethod
    def default(cls) -> SandboxPaths:
        """The folder named by ``MILLRACE_SANDBOX_DIR``, or ``.sandbox`` in the checkout."""
        return cls(
            Path(os.environ.get("MILLRACE_SANDBOX_DIR") or REPOSITORY / ".sandbox").resolve()
        )

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
        """One log a service."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """One pid file a service."""
        return self.root / "run"

    def create(self) -> None:
        """Make the folders that are missing, readable by their owner only."""
        for folder in (self.root, self.mariadb, self.s3, self.airflow, self.logs, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, replacing it whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(draft, "w", encoding="utf-8", opener=_open_private) as file:
        file.write(text)
    draft.replace(path)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
