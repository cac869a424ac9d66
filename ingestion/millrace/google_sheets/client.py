"""The part of Google's Sheets API that Millrace uses: every call to Google is here.

gspread signs in and sends the requests. After a used-up quota (429) or a passing fault (5xx, a
broken connection), urllib3 retries with backoff and jitter, and honours Retry-After.
https://developers.google.com/workspace/sheets/api/reference/rest
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import gspread
import requests
from google.auth.exceptions import GoogleAuthError, TransportError
from google.oauth2.service_account import Credentials
from gspread.exceptions import APIError, NoValidUrlKeyFound
from gspread.utils import extract_id_from_url
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from urllib3.util import Retry

from millrace.connections import endpoint_of, masked, service_account_key
from millrace.errors import SheetRefused, SheetUnavailable, SpreadsheetNotFound

if TYPE_CHECKING:
    from millrace.connections import Connection

Cell = str | float | int | bool | None
"""A cell's value as JSON has it; a date is a serial number."""

EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 a sheet's times have no zone
"""Day 0 of serial numbers."""

# How a sheet shows the errors that the API has names for.
_ERRORS = {
    "NULL_VALUE": "#NULL!",
    "DIVIDE_BY_ZERO": "#DIV/0!",
    "VALUE": "#VALUE!",
    "REF": "#REF!",
    "NAME": "#NAME?",
    "NUM": "#NUM!",
    "N_A": "#N/A",
    "LOADING": "Loading…",
}
# Shared by all cells without a number format.
_AUTOMATIC: Mapping[str, str] = {}
_CELL_FIELDS = (
    "sheets.data.rowData.values(effectiveValue,effectiveFormat.numberFormat,dataValidation)"
)

_GOOGLE = "https://sheets.googleapis.com"
_DOCS = "https://docs.google.com"
# What Google says of a token that was made in its past or future.
_WRONG_TIME = "Check your iat and exp values"
_READ = "https://www.googleapis.com/auth/spreadsheets.readonly"
_WRITE = "https://www.googleapis.com/auth/spreadsheets"
_TIMEOUT_SECONDS = (10, 180)
_KEY = re.compile(r"[A-Za-z0-9_-]+")

# Every request of Millrace may be repeated: the second is refused, or adds blank rows at most.
_RETRY = Retry(
    total=6,
    backoff_factor=1,
    backoff_jitter=1,
    backoff_max=60,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    respect_retry_after_header=True,
    raise_on_status=False,
)


@dataclass(frozen=True, slots=True)
class SheetCell:
    """A cell: its value, and what the value alone does not say.

    Attributes:
        value: Its value; None in an empty cell, and where a formula ends in an error.
        error: How the sheet shows that error, such as ``#REF!``. The same text typed by a person
            is a value.
        number_format: Google's ``NumberFormat``, with ``type`` and ``pattern``; empty where it is
            automatic.
        is_unticked: Whether it is a check box that nobody ticked.
    """

    value: Cell = None
    error: str = ""
    number_format: Mapping[str, str] = field(default_factory=lambda: _AUTOMATIC)
    is_unticked: bool = False

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing in it."""
        return not self.error and (self.value is None or self.value == "")

    @property
    def is_loading(self) -> bool:
        """Whether Google is still computing it."""
        return self.error == _ERRORS["LOADING"]


class GoogleSheets:
    """The spreadsheets that a service account may open.

    Args:
        connection: Its extra holds the service account's key (``keyfile_dict``, an object or its
            JSON) and perhaps another ``endpoint_url`` than Google's.
        may_write: Ask for the right to write too; otherwise only to read.

    Raises:
        ConnectionNotFound: the connection holds no service account's key, or no plain address.
        SheetRefused: the key is damaged.
    """

    def __init__(self, connection: Connection, *, may_write: bool = False) -> None:
        key = service_account_key(connection)
        self.email: str = key["client_email"]
        self._conn_id = connection.conn_id
        endpoint = endpoint_of(connection) or _GOOGLE
        scopes = [_WRITE if may_write else _READ]
        with self._explained(""):
            self._http = _HTTPClient(_Credentials.from_service_account_info(key, scopes=scopes))
        self._http.endpoint = endpoint
        self._http.set_timeout(_TIMEOUT_SECONDS)
        self._http.session.mount(endpoint, HTTPAdapter(max_retries=_RETRY))
        # So that nobody has to close the session.
        weakref.finalize(self, self._http.session.close)

    def check(self) -> str:
        """Sign in.

        Returns:
            The account that spreadsheets are to be shared with.

        Raises:
            SheetUnavailable: Google cannot be reached.
            SheetRefused: Google refuses the key.
        """
        with self._explained(""):
            self._http.login()
        return self.email

    def page(self, spreadsheet: str) -> str:
        """The address at which people open a spreadsheet.

        Raises:
            SpreadsheetNotFound: the text is neither a URL nor a key.
        """
        place = _DOCS if self._http.endpoint == _GOOGLE else self._http.endpoint
        return f"{place}/spreadsheets/d/{spreadsheet_key(spreadsheet)}/edit"

    def values(self, spreadsheet: str, a1_range: str) -> list[list[Cell]]:
        """The unformatted values of a range, in one request.

        Dates are serial numbers; trailing empty cells and rows are left out.

        Raises:
            SheetUnavailable: Google cannot be reached, or is busy.
            SheetRefused: Google refuses the key.
            SpreadsheetNotFound: no such spreadsheet, or it is not shared with us.
            APIError: Google cannot make sense of the range (code 400).
        """
        options: Any = {
            "valueRenderOption": "UNFORMATTED_VALUE",
            "dateTimeRenderOption": "SERIAL_NUMBER",
        }
        with self._explained(spreadsheet):
            answer = self._http.values_get(spreadsheet_key(spreadsheet), a1_range, options)
        values: list[list[Cell]] = answer.get("values", [])
        return values

    def cells(self, spreadsheet: str, a1_range: str) -> list[list[SheetCell]]:
        """The cells of a range, in one request; trailing rows without a value are left out.

        Raises:
            As ``values``.
        """
        found = self.metadata(spreadsheet, _CELL_FIELDS, ranges=[a1_range])
        # A tab that is a chart has no cells.
        [grid] = found["sheets"][0].get("data", [{}])
        rows = [
            [_sheet_cell(cell) for cell in row.get("values", [])] for row in grid.get("rowData", [])
        ]
        while rows and all(cell.is_blank for cell in rows[-1]):
            rows.pop()
        return rows

    def metadata(
        self, spreadsheet: str, fields: str, *, ranges: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Google's description of a spreadsheet, without its cells unless ``fields`` names them.

        Args:
            spreadsheet: Its URL or key.
            fields: What to return, as a field mask.
            ranges: Return only tabs and cells that are in one of these, in A1 notation.

        Raises:
            SheetUnavailable: Google cannot be reached, or is busy.
            SheetRefused: Google refuses the key.
            SpreadsheetNotFound: no such spreadsheet, or it is not shared with us.
        """
        with self._explained(spreadsheet):
            found = self._http.spreadsheets_get(
                spreadsheet_key(spreadsheet), {"fields": fields, "ranges": list(ranges)}
            )
        return dict(found)

    def tabs(self, spreadsheet: str) -> list[str]:
        """The titles of its tabs.

        Raises:
            SheetUnavailable: Google cannot be reached, or is busy.
            SheetRefused: Google refuses the key.
            SpreadsheetNotFound: no such spreadsheet, or it is not shared with us.
        """
        sheets = self.metadata(spreadsheet, "sheets.properties.title").get("sheets", [])
        return [sheet["properties"]["title"] for sheet in sheets]

    def batch_update(
        self, spreadsheet: str, changes: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Apply changes together: all of them, or none.

        Raises:
            SheetUnavailable: Google cannot be reached, or is busy. Whether the changes were
                applied is not known: read back.
            SheetRefused: Google refuses the key.
            SpreadsheetNotFound: no such spreadsheet, or it is not shared with us.
            APIError: Google cannot make sense of a change (code 400); none is applied.
        """
        with self._explained(spreadsheet):
            answer = self._http.batch_update(
                spreadsheet_key(spreadsheet), {"requests": list(changes)}
            )
        return dict(answer)

    @contextmanager
    def _explained(self, spreadsheet: str) -> Iterator[None]:
        try:
            yield
        except APIError as error:
            if error.code == 403:
                raise SpreadsheetNotFound(
                    f"The spreadsheet {spreadsheet} is not shared with {self.email} "
                    f"(connection '{self._conn_id}'), or not for what is asked: "
                    f"{said(error)}.",
                    fix=f"Share it with {self.email}: as viewer to read, as editor to publish.",
                ) from None
            if error.code == 404:
                raise SpreadsheetNotFound(
                    f"There is no spreadsheet {spreadsheet}: it was deleted, or never was.",
                    fix="Correct `spreadsheet` in the declaration: its URL, or the key in the URL.",
                ) from None
            if error.code == 400:
                raise
            raise SheetUnavailable(
                f"Google Sheets answers {error.code} for {spreadsheet}: {said(error)}.",
                fix="It may pass: try again later. 429 means that the quota of requests a minute "
                "is used up.",
            ) from error
        except (requests.RequestException, TransportError) as error:
            raise SheetUnavailable(
                f"Google Sheets cannot be reached: {masked(_reason(error))}.",
                fix="Check the network, then try again.",
            ) from None
        except (GoogleAuthError, ValueError) as error:
            if _WRONG_TIME in str(error):
                raise SheetRefused(
                    f"Google refuses a request of {self.email} with this machine's time.",
                    fix="Set this machine's clock right.",
                ) from None
            raise SheetRefused(
                f"Google refuses the key of {self.email} (connection '{self._conn_id}'): {error}.",
                fix="Make a new key for the service account and put it into the connection.",
            ) from None


def spreadsheet_key(spreadsheet: str) -> str:
    """The key of a spreadsheet that is named by its URL or by its key.

    Raises:
        SpreadsheetNotFound: the text is neither.
    """
    key = spreadsheet
    if "/" in spreadsheet:
        with suppress(NoValidUrlKeyFound):
            key = str(extract_id_from_url(spreadsheet))
    # The key becomes a part of the address of every request.
    if not _KEY.fullmatch(key):
        raise SpreadsheetNotFound(
            f"{spreadsheet!r} is neither the URL of a spreadsheet nor its key.",
            fix="Copy the URL from the browser: https://docs.google.com/spreadsheets/d/<key>/…",
        )
    return key


def quote_tab(tab: str) -> str:
    """A tab's title as A1 notation wants it."""
    return "'" + tab.replace("'", "''") + "'"


def said(error: APIError) -> str:
    """What Google says about an error, without a full stop."""
    return str(error.error["message"]).rstrip(".")


class _Credentials(Credentials):  # type: ignore[misc]  # google-auth is untyped
    """A service account's credentials, which ask only the token endpoint.

    google-auth also looks up, in the background and at another host, in which regions the account
    may be used. Sheets ignores that; behind a firewall the look-up costs seconds and warnings.
    """

    def _is_regional_access_boundary_lookup_required(self) -> bool:
        return False


class _HTTPClient(gspread.HTTPClient):
    """gspread's own client, with an endpoint that can be set."""

    endpoint = _GOOGLE

    def request(self, method: str, endpoint: str, *args: Any, **kwargs: Any) -> Any:
        url = endpoint.replace(_GOOGLE, self.endpoint, 1)
        try:
            return super().request(method, url, *args, **kwargs)
        except ChunkedEncodingError:
            # urllib3 does not retry once an answer has begun to arrive.
            return super().request(method, url, *args, **kwargs)


def _sheet_cell(data: Mapping[str, Any]) -> SheetCell:
    """A cell out of Google's ``CellData``."""
    found = data.get("effectiveValue", {})
    if "errorValue" in found:
        return SheetCell(error=_ERRORS.get(found["errorValue"].get("type", ""), "#ERROR!"))
    value = next(iter(found.values()), None)
    return SheetCell(
        value,
        number_format=data.get("effectiveFormat", {}).get("numberFormat", _AUTOMATIC),
        is_unticked=_is_unticked(value, data.get("dataValidation", {}).get("condition", {})),
    )


def _is_unticked(value: Cell, condition: Mapping[str, Any]) -> bool:
    if condition.get("type") != "BOOLEAN":
        return False
    own_values = [own.get("userEnteredValue") for own in condition.get("values", [])]
    # A check box may have values of its own: for both states, or for the ticked one alone.
    return str(value) in own_values[1:] if own_values else value is False


def _reason(error: Exception) -> str:
    """The innermost cause, without urllib3's layers around it."""
    reason: object = error
    while getattr(reason, "args", None) and isinstance(reason.args[0], Exception):  # type: ignore[attr-defined]
        reason = reason.args[0]  # type: ignore[attr-defined]
    return str(getattr(reason, "reason", None) or reason)
