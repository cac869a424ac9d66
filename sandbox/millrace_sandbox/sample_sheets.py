"""The two spreadsheets of the sample: targets that people keep, and the sheet that they read."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from millrace_sandbox.processes import SandboxError
from sheets_standin.server import TabSpec

if TYPE_CHECKING:
    from sheets_standin.server import CellValue, GoogleSheetsServer

TARGETS = "nps-targets"
SUMMARY = "nps-summary"

_OWNERS = {"free": "Mina", "team": "Jonas", "business": "지우"}
_FIRST_TARGETS = {"free": 20, "team": 35, "business": 45}


def create_sheets(server: GoogleSheetsServer) -> None:
    """Make both spreadsheets anew, shared with the service account: one to read, one to write."""
    admin = server.admin()
    email = server.service_account_key()["client_email"]
    admin.reset()
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


def ensure_sheets(server: GoogleSheetsServer) -> None:
    """Make the spreadsheets where they are missing, as on a first start."""
    try:
        server.admin().tab(TARGETS, "targets")
    except SandboxError:
        create_sheets(server)


def _targets() -> list[list[CellValue]]:
    """A target a month and segment, from October 2025 to October 2026, half a point up a month."""
    rows: list[list[CellValue]] = [["Month", "Segment", "Target NPS", "Owner"]]
    for number in range(13):
        month = date(2025 + (9 + number) // 12, (9 + number) % 12 + 1, 1)
        for segment, first in _FIRST_TARGETS.items():
            rows.append([month, segment, first + number / 2, _OWNERS[segment]])
    return rows
