"""The client for what only tests and the demo may do: make, share and look into spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import httpx

from sheets_standin.errors import StandinError
from sheets_standin.faults import Fault, LoggedRequest
from sheets_standin.formats import EPOCH, parse_typed

if TYPE_CHECKING:
    from pathlib import Path

CellValue = str | bool | int | float | Decimal | date | datetime | Mapping[str, Any] | None
"""What a cell is made from: a plain value, or an object with value or error (such as ``N_A``),
formula, note, format and validation."""


@dataclass(frozen=True)
class TabSpec:
    """A tab to be made; the grid grows to its values."""

    title: str
    values: Sequence[Sequence[CellValue]] = ()
    rows: int = 1000
    columns: int = 26
    frozen_rows: int = 0

    @classmethod
    def from_csv(cls, file: Path, title: str = "Sheet1") -> TabSpec:
        """A tab with a CSV file's values, each as if it was typed into a cell.

        Raises:
            StandinError: The file cannot be read.
        """
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                return cls(title, [[_typed(text) for text in row] for row in csv.reader(lines)])
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise StandinError(f"{file} cannot be read as CSV in UTF-8: {error}") from error


@dataclass(frozen=True)
class SpreadsheetEntry:
    """A spreadsheet in the list of all."""

    spreadsheet_id: str
    title: str


@dataclass(frozen=True)
class TabState:
    """A tab as it stands.

    Attributes:
        values: The unformatted values, dates as serial numbers, trailing empty cells left out.
        formatted: The values as a person sees them.
        notes: The notes by cell, such as ``B2``.
        formats: The cells' ``CellFormat``, by cell.
        charts: The tab's ``EmbeddedChart``.
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
    charts: list[dict[str, Any]]


class SheetsAdmin:
    """Makes and shares spreadsheets, looks into them, and makes requests fail.

    Args:
        url: Where the server listens.
        token: The bearer token of the admin's endpoints.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._client = httpx.Client(
            base_url=f"{url}/admin",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            # A proxy that the environment names would be used for loopback too.
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
            spreadsheet_id: Its id; default: a random one.

        Returns:
            Its id.
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

    def spreadsheets(self) -> list[SpreadsheetEntry]:
        """Every spreadsheet, by title."""
        return [SpreadsheetEntry(**entry) for entry in self._call("GET", "/spreadsheets")]

    def delete(self, spreadsheet_id: str) -> None:
        """Delete a spreadsheet."""
        self._call("DELETE", f"/spreadsheets/{spreadsheet_id}")

    def share(
        self, spreadsheet_id: str, email: str, role: Literal["reader", "writer"] | None
    ) -> None:
        """Share a spreadsheet with an account; a role of None ends that."""
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
        """Add a fault; if several are due for a request, it meets the one added first."""
        self._call("POST", "/faults", json=fault.model_dump())

    def clear_faults(self) -> None:
        """Remove all faults, so that requests work again."""
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
            raise StandinError(f"The Google Sheets stand-in does not answer: {error}") from error
        if not response.is_success:
            raise StandinError(f"The Google Sheets stand-in refused: {response.text}")
        return response.json() if response.content else None


def _typed(text: str) -> CellValue:
    """The value that a cell holds after somebody has typed the text."""
    if not text:
        return None
    value, number_format = parse_typed(text)
    return {"value": value, "format": {"numberFormat": number_format}} if number_format else value


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
