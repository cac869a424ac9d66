"""The note on a table's first heading: what it tells people, and what the next publication reads.

It is the record of a publication: whose the table is, which columns it has and how many rows. It
moves with its cell, and people see it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from millrace.google_sheets.column import SheetColumn
from millrace.google_sheets.to_cells import SheetTable, canonical, digest

_STALE = "Stale since "
_RECORD_LINE = "Record: "
_COLUMNS_LINE = "Columns: "
_REFRESHED = re.compile(r"^Refreshed (\d{4}-\d\d-\d\d \d\d:\d\d) UTC\b", re.MULTILINE)


@dataclass(frozen=True)
class Owner:
    """Whose a table is.

    Attributes:
        publication: Name of the exposure.
        warehouse: Names the warehouse and schema of its mart; empty where a note of an older
            version does not say.
    """

    publication: str
    warehouse: str = ""

    def is_same(self, other: Owner) -> bool:
        """Whether both are the same; an unknown warehouse matches any."""
        warehouses = {self.warehouse, other.warehouse} - {""}
        return self.publication == other.publication and len(warehouses) < 2

    def __str__(self) -> str:
        """For a person."""
        return f"{self.publication} ({self.warehouse})" if self.warehouse else self.publication


@dataclass(frozen=True)
class News:
    """What a note tells people of a publication.

    Attributes:
        refreshed: When and by which run.
        loaded: What the warehouse was loaded with by then; empty where nobody knows.
    """

    refreshed: str
    loaded: str = ""


@dataclass(frozen=True)
class Record:
    """What a note keeps of the last publication.

    Attributes:
        columns: The columns that were published.
        owner: Whose they are; None where the note does not say.
        tab: The title that was declared for the tab.
        sheet_id: Google's id of the tab, which a copy of it does not have.
        rows: How many rows there were; None where the note does not say.
        all_rows: Digest of them, in any order.
        last_row: Digest of the last one.
        chart: Google's id of the chart that was made beside them; None: none was.
    """

    columns: tuple[SheetColumn, ...]
    owner: Owner | None = None
    tab: str = ""
    sheet_id: int | None = None
    rows: int | None = None
    all_rows: str = ""
    last_row: str = ""
    chart: int | None = None


@dataclass(frozen=True)
class Note:
    """A note on a cell.

    Attributes:
        sheet_id: Google's id of the tab.
        row: Row of the cell, from 0.
        column: Column of the cell, from 0.
        text: What it says.
    """

    sheet_id: int
    row: int
    column: int
    text: str

    @cached_property
    def record(self) -> Record | None:
        """The record of a publication that it keeps; None if it is somebody else's note."""
        return _read_record(self.text)


def written_note(
    table: SheetTable,
    *,
    sheet_id: int,
    owner: Owner,
    mart: str,
    declared_tab: str,
    news: News,
    chart: int | None = None,
) -> str:
    """What the first heading's note says, for people and for the next publication."""
    rows = [canonical(row, len(table.columns)) for row in table.rows]
    record = {
        "publication": owner.publication,
        "warehouse": owner.warehouse,
        "tab": declared_tab,
        "sheet": sheet_id,
        "rows": len(rows),
        "all_rows": digest(rows),
        "last_row": digest(rows[-1:]),
        "labels": {column.name: column.label for column in table.columns if column.label},
    }
    if chart is not None:
        record["chart"] = chart
    columns = {column.name: column.type for column in table.columns}
    counted = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
    loaded = f" Loaded by then (UTC): {news.loaded}." if news.loaded else ""
    return (
        f"Refreshed {news.refreshed}\n"
        f"{counted}, equal to the mart.{loaded}\n"
        f"From {mart} by {owner.publication}. These columns are overwritten; all other cells are "
        "yours.\n"
        f"{_RECORD_LINE}{json.dumps(record, ensure_ascii=False)}\n"
        f"{_COLUMNS_LINE}{json.dumps(columns, ensure_ascii=False)}"
    )


def stale_note(text: str, *, when: str, reason: str) -> str:
    """The note of a table that could not be refreshed, with the time of the first failure."""
    # The first lines say what is wrong. The list of all problems after them is not for readers.
    reason = " ".join(line.strip() for line in reason.split("\n")[:2])
    first, _, rest = text.partition("\n")
    if first.startswith(_STALE):
        when, text = first.removeprefix(_STALE).partition(": ")[0], rest
    return f"{_STALE}{when}: {reason}\n{text}"


def refreshed_at(text: str) -> datetime | None:
    """When the table of a note was published, in UTC, to the minute; None: it does not say."""
    found = _REFRESHED.search(text)
    try:
        return datetime.strptime(found[1], "%Y-%m-%d %H:%M").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


class _Kept(BaseModel):
    """The line of the record, which anybody may have edited."""

    publication: str | None = None
    warehouse: str = ""
    tab: str = ""
    sheet: int | None = None
    rows: int | None = Field(default=None, ge=0)
    all_rows: str = ""
    last_row: str = ""
    chart: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)


_COLUMNS = TypeAdapter(dict[str, str])


def _read_record(note: str) -> Record | None:
    columns: dict[str, str] | None = None
    kept = _Kept()
    by = None
    try:
        for line in note.split("\n"):
            if line.startswith(_COLUMNS_LINE):
                columns = _COLUMNS.validate_json(line.removeprefix(_COLUMNS_LINE))
            elif line.startswith(_RECORD_LINE):
                kept = _Kept.model_validate_json(line.removeprefix(_RECORD_LINE))
            elif match := re.match(r"From \S+ by (\S+)\. These columns", line):
                by = match[1]
    except ValidationError:
        return None
    if columns is None:
        return None
    publication = kept.publication or by
    return Record(
        columns=tuple(
            SheetColumn(name, type_, kept.labels.get(name, "")) for name, type_ in columns.items()
        ),
        owner=Owner(publication, kept.warehouse) if publication else None,
        tab=kept.tab,
        sheet_id=kept.sheet,
        rows=kept.rows,
        all_rows=kept.all_rows,
        last_row=kept.last_row,
        chart=kept.chart,
    )
