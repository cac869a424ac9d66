"""Where the stand-in listens, as it tells programs in a file and people in its first line."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from redshift_standin.errors import StandinError
from redshift_standin.files import write_private
from redshift_standin.s3_endpoint import S3Endpoint

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT_FILE = "endpoint.json"


@dataclass(frozen=True)
class RedshiftEndpoint:
    """Where the stand-in listens and who may come in.

    Attributes:
        pid: The server's process.
        iam_role: The role that COPY and UNLOAD may name.
        postgres_port: PostgreSQL itself, without the proxy: for measuring and for a look inside.
        ca_file: The CA that a client has to trust to verify the server; None without TLS.
        s3: The stand-in's own S3 server, for COPY and UNLOAD; None where it has none.
    """

    pid: int
    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    iam_role: str
    postgres_port: int
    superuser_password: str = field(repr=False)
    ca_file: str | None = None
    s3: S3Endpoint | None = None

    @classmethod
    def read(cls, folder: Path) -> RedshiftEndpoint:
        """Read the file of the server that runs on a folder.

        Raises:
            StandinError: No server runs on it.
        """
        try:
            value = json.loads((folder / ENDPOINT_FILE).read_text(encoding="utf-8"))
            return cls(**value | {"s3": S3Endpoint(**value["s3"]) if value["s3"] else None})
        except (FileNotFoundError, KeyError, TypeError):
            # A file of another version has other keys: nothing of this version runs there.
            raise StandinError(f"No Redshift stand-in runs on {folder}. Start it.") from None

    @classmethod
    def is_ready(cls, folder: Path, pid: int | None) -> bool:
        """Whether the server with this pid serves the folder."""
        with suppress(StandinError):
            return cls.read(folder).pid == pid
        return False

    def write(self, folder: Path) -> None:
        """Write the file that ``read`` reads; it holds secrets."""
        write_private(folder / ENDPOINT_FILE, json.dumps(asdict(self), indent=2) + "\n")

    def connect(self, **changes: Any) -> Any:
        """Connect without TLS; the changes are redshift_connector's arguments."""
        # Imported here: the server does not need it.
        import redshift_connector

        arguments: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "ssl": False,
        }
        return redshift_connector.connect(**arguments | changes)

    def environment(self) -> dict[str, str]:
        """The environment variables by which dbt and Millrace find it; one holds a secret."""
        return {
            "REDSHIFT_HOST": self.host,
            "REDSHIFT_PORT": str(self.port),
            "REDSHIFT_DATABASE": self.database,
            "REDSHIFT_USER": self.user,
            "DBT_ENV_SECRET_REDSHIFT_PASSWORD": self.password,
            # The stand-in is on loopback.
            "REDSHIFT_SSLMODE": "disable",
            "REDSHIFT_IAM_ROLE": self.iam_role,
        }

    def dbt_output(self) -> dict[str, object]:
        """A target of a dbt profile, without its schema; it holds a secret."""
        return {
            "type": "redshift",
            "method": "database",
            "sslmode": "disable",
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }
