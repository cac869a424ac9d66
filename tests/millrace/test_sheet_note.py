from __future__ import annotations

import json
from typing import Any

import pytest

from millrace.google_sheets.column import SheetColumn
from millrace.google_sheets.note import News, Note, Owner, Record, stale_note, written_note
from millrace.google_sheets.to_cells import SheetTable

OWNER = Owner("nps_sheet", "duckdb w.duckdb 12345678, analytics")
TABLE = SheetTable(
    (SheetColumn("day", "date"), SheetColumn("nps", "decimal(5,2)", "NPS (%)")), [[46000, 1.5]]
)


def text() -> str:
    return written_note(
        TABLE,
        sheet_id=7,
        owner=OWNER,
        mart="nps",
        declared_tab="NPS",
        news=News("today, run 1", "mysql.nps until Monday, by values"),
    )


def record(note: str) -> Record | None:
    return Note(7, 0, 0, note).record


def test_a_note_keeps_what_it_was_written_with():
    found = record(text())
    assert found is not None
    assert found.columns == TABLE.columns
    assert (found.owner, found.tab, found.sheet_id, found.rows) == (OWNER, "NPS", 7, 1)
    assert record(stale_note(text(), when="now", reason="why")) == found


def test_a_note_says_how_many_rows_there_are_and_what_was_loaded():
    assert text().split("\n")[:2] == [
        "Refreshed today, run 1",
        "1 row, equal to the mart. Loaded by then (UTC): mysql.nps until Monday, by values.",
    ]


def test_a_note_of_an_older_version_names_its_exposure_and_columns():
    older = (
        "Refreshed today\nFrom nps by nps_sheet. These columns are overwritten; columns to their "
        'right are yours.\nColumns: {"day": "date"}'
    )
    found = record(older)
    assert found is not None
    assert found.owner is not None
    assert found.owner.is_same(OWNER)
    assert not found.owner.is_same(Owner("other_sheet"))
    assert (found.columns, found.rows) == ((SheetColumn("day", "date"),), None)


@pytest.mark.parametrize("note", ["", "look", "Columns: ", 'Columns: ["day"]', 'Columns: {"a": 1}'])
def test_a_note_of_somebody_else_is_no_record(note: str):
    assert record(note) is None


@pytest.mark.parametrize(
    "edited",
    [5, [], {"rows": -1}, {"rows": "many"}, {"labels": 5}, {"labels": {"day": 1}}, {"sheet": "x"}],
    ids=str,
)
def test_a_record_that_somebody_spoiled_is_none(edited: Any):
    *first, _, last = text().split("\n")
    assert record("\n".join([*first, f"Record: {json.dumps(edited)}", last])) is None


def test_a_stale_note_keeps_the_first_time_and_says_the_last_reason():
    once = stale_note(text(), when="Monday, run 1", reason="One:\n  a\n  b")
    assert once == f"Stale since Monday, run 1: One: a\n{text()}"
    twice = stale_note(once, when="Tuesday, run 2", reason="Two: c.")
    assert twice == f"Stale since Monday, run 1: Two: c.\n{text()}"
