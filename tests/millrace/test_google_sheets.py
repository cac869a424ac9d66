"""The client: signing in, trying again, and what its errors say."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import google.auth._helpers
import pytest
from urllib3.util import Retry

import millrace.google_sheets.client as client
from millrace.connections import Connection
from millrace.errors import ConnectionNotFound, SheetRefused, SheetUnavailable, SpreadsheetNotFound
from millrace.google_sheets.client import GoogleSheets, quote_tab, spreadsheet_key
from sheets_standin import Fault, GoogleSheetsServer, TabSpec
from sheets_standin.accounts import new_key
from tests.millrace.sheets import Workbook, keyfile_text

service = pytest.mark.service


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without retries."""
    monkeypatch.setattr(client, "_RETRY", Retry(total=0, raise_on_status=False))


def test_a_spreadsheet_is_named_by_its_url_or_its_key():
    key = "1aB_-cdefghijklmnopqrstuvwxyz0123456789ABCDEF"
    assert spreadsheet_key(key) == key
    assert spreadsheet_key(f"https://docs.google.com/spreadsheets/d/{key}/edit#gid=0") == key
    with pytest.raises(SpreadsheetNotFound, match="neither the URL of a spreadsheet nor its key"):
        spreadsheet_key("https://example.com/nothing")


def test_a_tabs_title_is_quoted():
    assert quote_tab("Bob's targets") == "'Bob''s targets'"


@pytest.mark.parametrize("extra", [{}, {"keyfile_dict": "{"}, {"keyfile_dict": {"type": "x"}}])
def test_a_connection_without_a_key_is_refused(extra: dict[str, object]):
    with pytest.raises(ConnectionNotFound, match="'google_sheets' holds no service account's key"):
        GoogleSheets(Connection("google_sheets", "google_cloud_platform", extra=extra))


@service
def test_the_key_may_be_an_object_or_its_json(workbook: Workbook):
    assert GoogleSheets(workbook.connection()).check() == workbook.email
    as_text = workbook.connection(keyfile_dict=keyfile_text(workbook))
    assert GoogleSheets(as_text).check() == workbook.email


@service
def test_a_damaged_key_is_refused_without_showing_it(workbook: Workbook):
    key = workbook.server.service_account_key()
    damaged = key | {"private_key": key["private_key"][:400]}
    with pytest.raises(SheetRefused, match="Make a new key") as refused:
        GoogleSheets(workbook.connection(keyfile_dict=damaged))
    assert key["private_key"][40:100] not in str(refused.value)


@service
def test_a_key_that_google_no_longer_knows_is_refused(workbook: Workbook):
    key = workbook.server.service_account_key()
    revoked = new_key(key["client_email"], key["token_uri"])
    sheets = GoogleSheets(workbook.connection(keyfile_dict=revoked))
    with pytest.raises(SheetRefused, match=f"Google refuses the key of {workbook.email}") as told:
        sheets.check()
    assert not told.value.may_pass
    with pytest.raises(SheetRefused, match="Make a new key"):
        sheets.tabs(workbook.key)


@service
@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(days=-1)])
def test_a_clock_that_is_wrong_is_not_taken_for_a_wrong_key(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
):
    now = (datetime.now(UTC) + ahead).replace(tzinfo=None)
    monkeypatch.setattr(google.auth._helpers, "utcnow", lambda: now)
    with pytest.raises(SheetRefused, match="this machine's time") as told:
        GoogleSheets(workbook.connection()).check()
    assert "clock" in told.value.fix


@service
@pytest.mark.usefixtures("impatient")
def test_an_endpoint_that_does_not_answer_is_named_as_such(
    google_sheets: GoogleSheetsServer, workbook: Workbook
):
    nowhere = "http://127.0.0.1:9"
    key = google_sheets.service_account_key() | {"token_uri": f"{nowhere}/token"}
    with pytest.raises(SheetUnavailable, match="Google Sheets cannot be reached"):
        GoogleSheets(workbook.connection(keyfile_dict=key)).check()
    with pytest.raises(SheetUnavailable, match=r"cannot be reached: .*refused"):
        GoogleSheets(workbook.connection(endpoint_url=nowhere)).tabs(workbook.key)


@service
@pytest.mark.parametrize(
    "fault",
    [
        Fault(action="status", status=429, retry_after=0),
        Fault(action="status", status=500),
        Fault(action="status", status=503),
        Fault(action="cut"),
        Fault(action="cut", applied=True),
        Fault(action="cut_body"),
    ],
    ids=lambda fault: f"{fault.action} {fault.applied} {fault.status}",
)
def test_a_passing_fault_is_not_noticed(workbook: Workbook, fault: Fault):
    sheets = GoogleSheets(workbook.connection())
    workbook.admin.add_fault(fault)
    assert sheets.tabs(workbook.key) == ["Sheet1"]
    assert len(workbook.requests()) == 2


@service
def test_google_says_how_long_to_wait(workbook: Workbook):
    workbook.admin.add_fault(Fault(action="status", status=429, retry_after=1, times=2))
    sheets = GoogleSheets(workbook.connection())
    started = time.monotonic()
    assert sheets.tabs(workbook.key) == ["Sheet1"]
    assert time.monotonic() - started >= 2


@service
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(action="status", status=429), "Google Sheets answers 429 .*Quota exceeded"),
        (Fault(action="status", status=503), "Google Sheets answers 503"),
        (Fault(action="cut", times=9), "Google Sheets cannot be reached"),
        (Fault(action="cut_body", times=9), "Google Sheets cannot be reached"),
    ],
)
def test_a_lasting_fault_is_one_clear_error_that_may_pass(
    workbook: Workbook, fault: Fault, says: str
):
    workbook.admin.add_fault(fault)
    with pytest.raises(SheetUnavailable, match=says) as refused:
        GoogleSheets(workbook.connection()).tabs(workbook.key)
    assert refused.value.may_pass


@service
def test_a_token_that_expired_is_renewed(workbook: Workbook):
    sheets = GoogleSheets(workbook.connection())
    sheets.tabs(workbook.key)
    workbook.admin.expire_tokens()
    assert sheets.tabs(workbook.key) == ["Sheet1"]


@service
def test_a_spreadsheet_that_is_not_shared_says_with_whom_to_share_it(
    google_sheets: GoogleSheetsServer,
):
    private = Workbook(google_sheets, role=None)
    with pytest.raises(SpreadsheetNotFound, match=f"Share it with {private.email}"):
        GoogleSheets(private.connection()).tabs(private.key)


@service
def test_a_viewer_reads_and_may_not_write(google_sheets: GoogleSheetsServer):
    seen = Workbook(google_sheets, TabSpec("targets", [["a"]]), role="reader")
    sheets = GoogleSheets(seen.connection(), may_write=True)
    assert sheets.values(seen.key, "targets") == [["a"]]
    with pytest.raises(SpreadsheetNotFound, match="as editor to publish"):
        sheets.batch_update(seen.key, [{"addSheet": {}}])


@service
def test_reading_asks_for_no_right_to_write(workbook: Workbook):
    with pytest.raises(SpreadsheetNotFound, match="scopes"):
        GoogleSheets(workbook.connection()).batch_update(workbook.key, [{"addSheet": {}}])


@service
def test_a_deleted_spreadsheet_is_named(workbook: Workbook):
    workbook.admin.delete(workbook.key)
    with pytest.raises(SpreadsheetNotFound, match=f"no spreadsheet {workbook.key}: it was deleted"):
        GoogleSheets(workbook.connection()).tabs(workbook.key)
