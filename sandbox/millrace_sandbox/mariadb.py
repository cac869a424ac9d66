"""A private MariaDB server, standing in for the production MySQL."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from millrace_sandbox.mysql import MySQLService, run_as
from millrace_sandbox.processes import SandboxError


class MariaDB(MySQLService):
    """Debian's MariaDB; see ``MySQLService``."""

    title = "MariaDB"
    name = "mariadb"

    def _program(self) -> list[str]:
        return [_find_program("mariadbd")]

    def _installer(self, draft: Path) -> list[str]:
        return [
            _find_program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={draft}",
            "--auth-root-authentication-method=socket",
            "--skip-test-db",
            "--skip-name-resolve",
            *run_as(),
        ]


def _find_program(name: str) -> str:
    # Debian puts servers into /usr/sbin, which is not on every user's PATH.
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if program is None:
        raise SandboxError(f"{name} is not installed. Run: apt-get install mariadb-server")
    return program
