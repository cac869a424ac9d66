"""The two spreadsheets of the sample: targets that people keep, and the sheet that they read."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from sheets_standin import TabSpec

if TYPE_CHECKING:
    from sheets_standin import SheetsEndpoint
    from sheets_standin.admin import CellValue, SheetsAdmin

TARGETS = "nps-targets"
SUMMARY = "nps-summary"
ENVIRONMENT = {"NPS_TARGETS_SPREADSHEET": TARGETS, "NPS_SUMMARY_SPREADSHEET": SUMMARY}
"""The environment variables by which the example project finds them."""

_OWNERS = {"free": "Mina", "team": "Jonas", "business": "지우"}
_FIRST_TARGETS = {"free": 20, "team": 35, "business": 45}


def create_sheets(endpoint: SheetsEndpoint) -> None:
    """Make both spreadsheets anew, shared with the service account: one to read, one to write."""
    admin, email = endpoint.admin(), endpoint.email
    for spreadsheet_id in _present(admin):
        admin.delete(spreadsheet_id)
    admin.create(
        "NPS targets",
        [TabSpec("targets", _targets(), rows=200, columns=8, frozen_rows=1)],
        share={email: "reader"},
        spreadsheet_id=TARGETS,
    )
    # The column to the right is a person's own: publishing leaves it alone.
    blank: list[CellValue] = [None] * 9
    remarks = [[*blank, "Our remarks"], [*blank, "Ask Mina why"]]
    admin.create(
        "NPS summary",
        [TabSpec("nps_summary", remarks, rows=50, columns=12, frozen_rows=1)],
        share={email: "writer"},
        spreadsheet_id=SUMMARY,
    )


def ensure_sheets(endpoint: SheetsEndpoint) -> None:
    """Make the spreadsheets where they are missing, as on a first start."""
    if len(_present(endpoint.admin())) < len(ENVIRONMENT):
        create_sheets(endpoint)


def _present(admin: SheetsAdmin) -> set[str]:
    return {entry.spreadsheet_id for entry in admin.spreadsheets()} & {TARGETS, SUMMARY}


def _targets() -> list[list[CellValue]]:
    """One target per month and segment, October 2025 to October 2026, rising by 0.5 a month."""
    rows: list[list[CellValue]] = [["Month", "Segment", "Target NPS", "Owner"]]
    for number in range(13):
        month = date(2025 + (9 + number) // 12, (9 + number) % 12 + 1, 1)
        for segment, first in _FIRST_TARGETS.items():
            rows.append([month, segment, first + number / 2, _OWNERS[segment]])
    return rows
