"""Where the stand-in listens and what opens it, as it tells programs in a file."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sheets_standin.admin import SheetsAdmin
from sheets_standin.errors import StandinError
from sheets_standin.files import write_private

ENDPOINT_FILE = "endpoint.json"


@dataclass(frozen=True)
class SheetsEndpoint:
    """Where the stand-in listens.

    Attributes:
        pid: The server's process.
        url: The base URL in the place of ``https://sheets.googleapis.com``, without a slash at
            the end; a browser shows the spreadsheets there.
        email: The service account that may use the API; share spreadsheets with it.
        key_file: Its key, as Google's JSON file has it.
        admin_token: The bearer token of the admin's endpoints.
    """

    pid: int
    url: str
    email: str
    key_file: str
    admin_token: str = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> SheetsEndpoint:
        """Read the file of the server that runs on a folder.

        Raises:
            StandinError: No server runs on it.
        """
        try:
            return cls(**json.loads((folder / ENDPOINT_FILE).read_text(encoding="utf-8")))
        except (FileNotFoundError, TypeError):
            # A file of another version has other keys: nothing of this version runs there.
            raise StandinError(f"No Google Sheets stand-in runs on {folder}. Start it.") from None

    @classmethod
    def is_ready(cls, folder: Path, pid: int | None) -> bool:
        """Whether the server with this pid serves the folder."""
        with suppress(StandinError):
            return cls.read(folder).pid == pid
        return False

    def write(self, folder: Path) -> None:
        """Write the file that ``read`` reads; it holds a secret."""
        write_private(folder / ENDPOINT_FILE, json.dumps(asdict(self), indent=2) + "\n")

    def admin(self) -> SheetsAdmin:
        """A client for what only tests and the demo may do."""
        return SheetsAdmin(self.url, self.admin_token)

    def service_account_key(self) -> dict[str, str]:
        """The key of the service account; it holds a secret."""
        key: dict[str, str] = json.loads(Path(self.key_file).read_text(encoding="utf-8"))
        return key

    def airflow_connection(self) -> dict[str, object]:
        """The connection of the service account, as Airflow keeps one; it holds a secret."""
        return {
            "conn_type": "google_cloud_platform",
            "extra": {"keyfile_dict": self.service_account_key(), "endpoint_url": self.url},
        }
