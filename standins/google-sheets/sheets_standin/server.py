"""Starting and stopping the stand-in, and the client for what only tests and the demo may do."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import httpx

from millrace_sandbox.paths import write_private
from millrace_sandbox.processes import LOOPBACK, SandboxError, Service, free_port
from sheets_standin.accounts import new_key
from sheets_standin.faults import Fault, LoggedRequest
from sheets_standin.formats import EPOCH

if TYPE_CHECKING:
    from millrace_sandbox.paths import SandboxPaths

PREFERRED_PORT = 18080
START_TIMEOUT = 60
ACCOUNT_EMAIL = "millrace@sandbox.invalid"

CellValue = str | bool | int | float | Decimal | date | datetime | Mapping[str, Any] | None
"""What a cell is made with: a plain value, or an object with value or error (such as ``N_A``),
formula, note, format and validation."""


@dataclass(frozen=True)
class TabSpec:
    """A tab to be made; the grid grows to its values."""

    title: str
    values: Sequence[Sequence[CellValue]] = ()
    rows: int = 1000
    columns: int = 26
    frozen_rows: int = 0


@dataclass(frozen=True)
class TabState:
    """A tab as it stands.

    Attributes:
        values: The unformatted values, dates as serial numbers, trailing empty cells left out.
        formatted: The same as a person sees them.
        notes: By cell, such as ``B2``.
        formats: The cells' ``CellFormat``, by cell.
    """

    title: str
    sheet_id: int
    index: int
    hidden: bool
    rows: int
    columns: int
    frozen_rows: int
    values: list[list[Any]]
    formatted: list[list[str]]
    notes: dict[str, str]
    formats: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class SheetsEndpoint:
    """Where the stand-in listens.

    Attributes:
        url: What takes the place of ``https://sheets.googleapis.com``, without a slash at the
            end; a browser shows the spreadsheets there.
        admin_token: Opens the admin's endpoints.
    """

    url: str
    admin_token: str = field(repr=False)

    def admin(self) -> SheetsAdmin:
        """A client for what only tests and the demo may do."""
        return SheetsAdmin(self)


class SheetsAdmin:
    """Makes and shares spreadsheets, looks into them, and lets requests go wrong.

    Args:
        endpoint: The running server.
    """

    def __init__(self, endpoint: SheetsEndpoint) -> None:
        self._url = endpoint.url
        self._client = httpx.Client(
            base_url=f"{endpoint.url}/admin",
            headers={"Authorization": f"Bearer {endpoint.admin_token}"},
            timeout=30,
            # A proxy of the user's own would be asked for loopback too.
            trust_env=False,
        )

    def create(
        self,
        title: str,
        tabs: Sequence[TabSpec] = (TabSpec("Sheet1"),),
        share: Mapping[str, Literal["reader", "writer"]] | None = None,
        spreadsheet_id: str | None = None,
    ) -> str:
        """Make a spreadsheet.

        Args:
            title: Its title.
            tabs: Its tabs; dates become dates, with a date's format.
            share: A role for each e-mail address.
            spreadsheet_id: Its key; a random one when None.

        Returns:
            Its key.
        """
        body = {
            "title": title,
            "tabs": [
                asdict(tab) | {"values": [[_cell(cell) for cell in row] for row in tab.values]}
                for tab in tabs
            ],
            "permissions": dict(share or {}),
            "spreadsheet_id": spreadsheet_id,
        }
        return str(self._call("POST", "/spreadsheets", json=body)["spreadsheet_id"])

    def url(self, spreadsheet_id: str) -> str:
        """Where a browser shows it; gspread's open_by_url takes it too."""
        return f"{self._url}/spreadsheets/d/{spreadsheet_id}/edit"

    def delete(self, spreadsheet_id: str) -> None:
        """Delete a spreadsheet."""
        self._call("DELETE", f"/spreadsheets/{spreadsheet_id}")

    def share(
        self, spreadsheet_id: str, email: str, role: Literal["reader", "writer"] | None
    ) -> None:
        """Share a spreadsheet with an account; no longer when the role is None."""
        self._call(
            "PUT",
            f"/spreadsheets/{spreadsheet_id}/permissions",
            json={"email": email, "role": role},
        )

    def tab(self, spreadsheet_id: str, title: str) -> TabState:
        """A tab as it stands."""
        state = self._call("GET", f"/spreadsheets/{spreadsheet_id}/tab", params={"title": title})
        return TabState(**state)

    def add_fault(self, fault: Fault) -> None:
        """Let requests go wrong; faults add up, and a request meets the first that is due."""
        self._call("POST", "/faults", json=fault.model_dump())

    def clear_faults(self) -> None:
        """Let nothing go wrong from now on."""
        self._call("DELETE", "/faults")

    def requests(self) -> list[LoggedRequest]:
        """The requests to the API and the token endpoint, oldest first."""
        return [LoggedRequest(**entry) for entry in self._call("GET", "/requests")]

    def clear_requests(self) -> None:
        """Empty the log of requests."""
        self._call("DELETE", "/requests")

    def expire_tokens(self) -> None:
        """Make every bearer token handed out so far invalid."""
        self._call("DELETE", "/tokens")

    def reset(self) -> None:
        """Delete every spreadsheet, fault and logged request."""
        self._call("DELETE", "/state")

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise SandboxError(f"The Google Sheets stand-in does not answer: {error}") from error
        if not response.is_success:
            raise SandboxError(f"The Google Sheets stand-in refused: {response.text}")
        return response.json() if response.content else None


def _cell(value: CellValue) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date):
        is_day = not isinstance(value, datetime)
        moment = value if isinstance(value, datetime) else datetime(*value.timetuple()[:3])  # noqa: DTZ001
        kind = "DATE" if is_day else "DATE_TIME"
        pattern = "yyyy-mm-dd" if is_day else "yyyy-mm-dd hh:mm:ss"
        return {
            "value": (moment - EPOCH) / timedelta(days=1),
            "format": {"numberFormat": {"type": kind, "pattern": pattern}},
        }
    return value


class GoogleSheetsServer:
    """Starts and stops the Google Sheets stand-in on a folder of the sandbox.

    It is on loopback. The API takes tokens of its own service account only; the pages that show
    the spreadsheets know no accounts, so on a machine shared with people you do not trust keep
    nothing in it that they must not read.

    Args:
        paths: The sandbox.
        port: The port wished for; another is taken when it is not free, 0 means any.
    """

    def __init__(self, paths: SandboxPaths, port: int = PREFERRED_PORT) -> None:
        self._paths = paths
        self._preferred_port = port
        self._service = Service("google_sheets", paths)
        self._folder = paths.root / "google_sheets"
        self._endpoint_file = self._folder / "endpoint.json"
        self._key_file = self._folder / "service_account.json"

    @property
    def endpoint(self) -> SheetsEndpoint:
        """The address of the server as last started.

        Raises:
            SandboxError: It was never started.
        """
        try:
            return SheetsEndpoint(**json.loads(self._endpoint_file.read_text()))
        except FileNotFoundError:
            raise SandboxError(
                "Google Sheets was never started in this sandbox. Start it."
            ) from None

    @property
    def url(self) -> str:
        """The base URL of the API; a browser shows the spreadsheets there."""
        return self.endpoint.url

    @property
    def status(self) -> str:
        """One line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.url}, pid {self._service.pid}"

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._service.is_running()

    def airflow_connection(self) -> dict[str, object]:
        """The connection of the service account, as Airflow keeps one; it holds a secret."""
        return {
            "conn_type": "google_cloud_platform",
            "extra": {"keyfile_dict": self.service_account_key(), "endpoint_url": self.url},
        }

    def service_account_key(self) -> dict[str, str]:
        """The key of the service account that may use the API, as Google's JSON file has it.

        Raises:
            SandboxError: The server was never started.
        """
        try:
            key: dict[str, str] = json.loads(self._key_file.read_text())
        except FileNotFoundError:
            raise SandboxError(
                "Google Sheets was never started in this sandbox. Start it."
            ) from None
        return key

    def admin(self) -> SheetsAdmin:
        """A client for what only tests and the demo may do."""
        return self.endpoint.admin()

    def start(self) -> SheetsEndpoint:
        """Start the server and wait until it answers.

        Does nothing when it runs already.

        Raises:
            SandboxError: The server does not come up.
        """
        if self.is_running():
            return self.endpoint
        self._paths.create()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        endpoint = self._prepare()
        admin = endpoint.admin()
        self._service.start([sys.executable, "-m", "sheets_standin", str(self._folder)])
        try:
            self._service.wait_until(
                lambda: _answers(admin), START_TIMEOUT, f"answered on {endpoint.url}"
            )
        except SandboxError:
            self.stop()
            raise
        return endpoint

    def stop(self) -> None:
        """Stop the server and wait until it is gone; does nothing when it does not run."""
        self._service.stop(timeout=5)

    def _prepare(self) -> SheetsEndpoint:
        """Choose the port, and keep the admin's token and the account's key made the first time."""
        url = f"http://{LOOPBACK}:{free_port(self._preferred_port)}"
        try:
            endpoint = replace(self.endpoint, url=url)
        except SandboxError:
            endpoint = SheetsEndpoint(url, secrets.token_urlsafe(24))
        write_private(self._endpoint_file, json.dumps(asdict(endpoint), indent=2) + "\n")
        token_uri = f"{url}/token"
        try:
            key = self.service_account_key() | {"token_uri": token_uri}
        except SandboxError:
            key = new_key(ACCOUNT_EMAIL, token_uri)
        write_private(self._key_file, json.dumps(key, indent=2) + "\n")
        return endpoint


def _answers(admin: SheetsAdmin) -> bool:
    try:
        admin.requests()
    except SandboxError:
        return False
    return True
