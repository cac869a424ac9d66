"""A private PostgreSQL: its programs, its data folder, its command."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from redshift_standin.errors import StandinError
from redshift_standin.files import write_private
from redshift_standin.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

# A power cut may lose the data, which can be made again; a killed server must not.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "max_connections": "200",
    "synchronous_commit": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
}


def find_programs() -> Path:
    """The folder of ``postgres`` and ``initdb``; of several versions the newest.

    Raises:
        StandinError: PostgreSQL is not installed.
    """
    # Debian keeps each major version in a folder of its own, which is on nobody's PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    on_path = shutil.which("postgres")
    candidates = [*reversed(folders), *([Path(on_path).parent] if on_path else [])]
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise StandinError(
        "PostgreSQL's programs are not installed. On Debian and Ubuntu: apt-get install postgresql"
    )


def unprivileged_account() -> pwd.struct_passwd:
    """The account that runs PostgreSQL where this process runs as root.

    Raises:
        StandinError: There is none.
    """
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise StandinError("PostgreSQL refuses to run as root. Make an account called postgres.")


def run_as() -> list[str]:
    """The beginning of a command that runs a program as an account that PostgreSQL accepts.

    PostgreSQL refuses root, and the folders belong to root alone: the capability lets the other
    account into them.
    """
    if os.geteuid() != 0:
        return []
    account = unprivileged_account()
    return [
        "setpriv",
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        "--inh-caps=-all,+dac_override",
        "--ambient-caps=-all,+dac_override",
        "--bounding-set=-all,+dac_override",
    ]


def make_data(folder: Path, superuser: str, password: str, *options: str) -> None:
    """Make a data folder; what an interrupted attempt left there is removed.

    Args:
        folder: The data folder.
        superuser: The name of PostgreSQL's own account.
        password: Its password.
        options: More options of ``initdb``.

    Raises:
        StandinError: PostgreSQL is not installed, or ``initdb`` fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        account = unprivileged_account()
        os.chown(folder, account.pw_uid, account.pw_gid)
    password_file = folder.with_name(f"{folder.name}.password")
    write_private(password_file, password)
    made = subprocess.run(
        [
            *(*run_as(), str(find_programs() / "initdb"), f"--pgdata={folder}", "--no-sync"),
            *(f"--username={superuser}", f"--pwfile={password_file}", *options),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    password_file.unlink()
    if made.returncode:
        raise StandinError(f"initdb failed in {folder}:\n{made.stdout}{made.stderr}")


def command(data: Path, port: int, settings: Mapping[str, str] | None = None) -> list[str]:
    """The server's command, to be run as ``run_as`` says.

    Args:
        data: Its data folder.
        port: Where it listens, on loopback.
        settings: Changes to ``SETTINGS``.

    Raises:
        StandinError: PostgreSQL is not installed.
    """
    chosen = {**SETTINGS, "port": str(port), **(settings or {})}
    options = [f"-c{name}={value}" for name, value in chosen.items()]
    return [str(find_programs() / "postgres"), "-D", str(data), *options]
