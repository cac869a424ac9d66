"""What a tab is called outside of Millrace. OpenLineage has no rule for spreadsheets."""

from __future__ import annotations

from millrace.datasets import Dataset

SERVICE = "google_sheets"


def tab_dataset(spreadsheet: str, tab: str) -> Dataset:
    """The name of a tab.

    Args:
        spreadsheet: The spreadsheet's URL, or the key in the URL.
        tab: The tab's title.

    Raises:
        SpreadsheetNotFound: the text names no spreadsheet.
    """
    # It brings gspread, which the declaration of a kind does without.
    from millrace.google_sheets.client import spreadsheet_key

    return Dataset(SERVICE, f"{spreadsheet_key(spreadsheet)}.{tab}")
