"""The stand-in for programs, tests above all: in a process that ends with theirs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self

from redshift_standin.children import Child
from redshift_standin.endpoint import RedshiftEndpoint
from redshift_standin.files import make_folder
from redshift_standin.supervisor import IAM_ROLE, Options

if TYPE_CHECKING:
    from pathlib import Path

    from redshift_standin.s3_endpoint import S3Endpoint

START_TIMEOUT = 120
STOP_TIMEOUT = 60


class RedshiftServer:
    """Starts and stops a stand-in; also a context manager.

    It ends with this process, however that ends. Its PostgreSQL and its log are in its folder.

    Args:
        folder: Where it keeps everything; made if it is missing.
        s3: The S3 server that COPY reads and UNLOAD writes; None for SQL alone. ``S3Server``
            runs one.
        port: Where it listens; default: any free port.
        iam_roles: The roles attached to the cluster; the first is its default.
        tls: Offer TLS, with a certificate made for this start; clients need not use it.
    """

    def __init__(
        self,
        folder: Path,
        s3: S3Endpoint | None = None,
        port: int = 0,
        iam_roles: tuple[str, ...] = (IAM_ROLE,),
        *,
        tls: bool = False,
    ) -> None:
        self.folder = folder
        self._options = Options(folder, port, s3, iam_roles, tls, parent=os.getpid())
        self._process = Child("The Redshift stand-in", folder / "server.log", watches=True)

    def __enter__(self) -> Self:
        """Start it for a block."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def endpoint(self) -> RedshiftEndpoint:
        """The address and the account.

        Raises:
            StandinError: It does not run.
        """
        return RedshiftEndpoint.read(self.folder)

    def is_running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process.is_running()

    def start(self) -> RedshiftEndpoint:
        """Start it and wait until it answers; does nothing when it runs already.

        Raises:
            StandinError: It does not come up; carries the end of its log.
        """
        if self.is_running():
            return self.endpoint
        make_folder(self.folder)
        try:
            self._process.start(command(self._options), environment(self._options))
            self._process.wait_until(
                lambda: RedshiftEndpoint.is_ready(self.folder, self._process.pid),
                START_TIMEOUT,
                "was ready",
            )
        except BaseException:
            self.stop()
            raise
        return self.endpoint

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        self._process.stop(STOP_TIMEOUT)


def command(options: Options) -> list[str]:
    """The command that runs a server, for programs that start it themselves."""
    words = [sys.executable, "-m", "redshift_standin", "--folder", str(options.folder)]
    if options.port is not None:
        words += ["--port", str(options.port)]
    for role in options.iam_roles:
        words += ["--iam-role", role]
    if options.s3 is None:
        words.append("--no-s3")
    if options.tls:
        words.append("--tls")
    # Its output would show the password; whoever starts it reads endpoint.json instead.
    words.append("--quiet")
    if options.parent is not None:
        words += ["--parent", str(options.parent)]
    return words


def environment(options: Options) -> dict[str, str]:
    """The environment of that command; it holds the keys of the S3 server."""
    return {**os.environ, **(options.s3.environment() if options.s3 else {})}
