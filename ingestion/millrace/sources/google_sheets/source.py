"""A tab of a Google Sheet, read whole in one request."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gspread.exceptions import APIError
from gspread.utils import a1_to_rowcol

from millrace.bad_values import Sieve
from millrace.batch import EVERY_KEY, Interval, KeyRange
from millrace.catalog import IngestTable
from millrace.checksums.columns import Checksums, Tally
from millrace.checksums.figures import SourceFigures
from millrace.errors import DeclarationError, SourceMismatch
from millrace.google_sheets.client import (
    GoogleSheets,
    SheetCell,
    quote_tab,
    said,
    spreadsheet_key,
)
from millrace.google_sheets.headings import column_name
from millrace.google_sheets.to_columns import (
    Corner,
    FoundColumn,
    find_columns,
    heading_row,
    to_record_batch,
)
from millrace.sources.base import Closing, Extraction, FoundTable, SourceColumn
from millrace.sources.google_sheets.description import described
from millrace.sources.google_sheets.options import GoogleSheetOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from millrace.connections import Connection


log = logging.getLogger(__name__)

_FIX = (
    "Correct the cells in the sheet, or the types in the declaration. The raw table keeps what it "
    "has."
)


@dataclass(frozen=True)
class _Found:
    """A table as it was found in a tab.

    Attributes:
        options: Its declaration.
        columns: Its columns.
        rows: The rows under the headings.
        corner: Where the first of these rows begins.
    """

    options: GoogleSheetOptions
    columns: Sequence[FoundColumn]
    rows: Sequence[Sequence[SheetCell]]
    corner: Corner


class GoogleSheetSource:
    """The spreadsheets that a service account may read.

    Args:
        connection: With the service account's key; see ``GoogleSheets``.
    """

    def __init__(self, connection: Connection) -> None:
        self._sheets = GoogleSheets(connection)

    def check(self, tables: Sequence[IngestTable] = ()) -> str:
        """Sign in."""
        return f"as {self._sheets.email}" if self._sheets.check() else ""

    def closed(self, table: IngestTable, interval: Interval) -> Closing:
        """A sheet is read whole: it has no intervals."""
        raise ValueError("a sheet has no cursor")

    def ranges(self, table: IngestTable, interval: Interval) -> tuple[KeyRange, ...]:
        """A tab is read in one request."""
        return (EVERY_KEY,)

    def estimated_rows(self, table: IngestTable, interval: Interval) -> int | None:
        """A sheet does not say."""
        return None

    def columns(
        self, table: IngestTable, *, without: frozenset[str] = frozenset()
    ) -> tuple[SourceColumn, ...]:
        """The declared columns, and the others if they are loaded; see ``Source.columns``."""
        left_out = set(map(column_name, without))
        return tuple(
            SourceColumn(
                column.name,
                column.type,
                None if column.name in left_out else column.arrow_type,
            )
            for column in self._find(table).columns
        )

    @contextmanager
    def extract(
        self,
        table: IngestTable,
        interval: Interval,
        *,
        without: frozenset[str] = frozenset(),
        ranges: Sequence[KeyRange] = (EVERY_KEY,),
    ) -> Iterator[Extraction]:
        """Read the tab; see ``Source.extract``."""
        found = self._find(table)
        left_out = set(map(column_name, without))
        columns = [column for column in found.columns if column.name not in left_out]
        batch, misfits = to_record_batch(
            found.rows, columns, found.corner, skip_blank_rows=found.options.skip_blank_rows
        )
        sieve = Sieve(table, batch.schema, noun="cell", place=found.options.tab, fix=_FIX)
        kept = sieve.sift(batch, misfits)
        _check_key(table, columns, kept.to_pylist())
        batches = [kept] if kept.num_rows else []
        is_compared = found.options.verify in (None, "values")
        figures = SourceFigures(is_counted=True, is_compared=is_compared)
        figures.add(batch.num_rows, _checksums(batch) if is_compared else None)
        yield Extraction(
            batch.schema, (iter(batches),), figures, sieve, expected_rows=batch.num_rows
        )

    def describe_tabs(self, spreadsheet: str, tabs: Sequence[str] = ()) -> list[FoundTable]:
        """The tabs of a spreadsheet as tables; those without headings are left out.

        Args:
            spreadsheet: Its URL, or the key in the URL.
            tabs: The titles of those that are asked for; default: all.

        Raises:
            SheetUnavailable, SheetRefused, SpreadsheetNotFound: it cannot be read.
            SourceMismatch: it has no such tab, or two columns of a tab have the same heading.
        """
        there = self._sheets.tabs(spreadsheet)
        if unknown := sorted(set(tabs) - set(there)):
            raise _no_tab(spreadsheet, unknown[0], there)
        found = (
            described(
                self._sheets.cells(spreadsheet, quote_tab(tab)),
                spreadsheet,
                tab_place(spreadsheet, tab),
                tab,
            )
            for tab in tabs or there
        )
        return [table for table in found if table is not None]

    def _find(self, table: IngestTable) -> _Found:
        """Read the tab, and match its headings with the declared columns."""
        options = table.options
        if not isinstance(options, GoogleSheetOptions):
            raise DeclarationError(
                f"{table.key} is not a Google Sheet.", fix="Set its `kind` to google_sheet."
            )
        cells = self._read(options)
        corner = _corner(options)
        skipped = _heading_row(table, options, cells, corner)
        rows = cells[skipped + 1 :]
        columns = find_columns(
            cells[skipped] if skipped < len(cells) else [],
            rows,
            options.columns,
            replace(corner, row=corner.row + skipped),
            labels=options.labels,
            undeclared=options.other_columns == "load",
        )
        return _Found(options, columns, rows, replace(corner, row=corner.row + skipped + 1))

    def _read(self, options: GoogleSheetOptions) -> list[list[SheetCell]]:
        tab = quote_tab(options.tab)
        try:
            return self._sheets.cells(
                options.spreadsheet, f"{tab}!{options.range}" if options.range else tab
            )
        except APIError as error:
            # Google only says that it cannot parse the range.
            tabs = self._sheets.tabs(options.spreadsheet)
            if options.tab in tabs:
                raise SourceMismatch(
                    f"The range {options.range} of {options.tab} cannot be read: {said(error)}.",
                    fix="Correct `range` in the declaration.",
                ) from None
            raise _no_tab(options.spreadsheet, options.tab, tabs) from None


def tab_place(spreadsheet: str, tab: str) -> str:
    """What tells a tab from all others, whether its spreadsheet is named by URL or by key."""
    return f"{spreadsheet_key(spreadsheet)}!{tab}"


def _no_tab(spreadsheet: str, tab: str, tabs: Sequence[str]) -> SourceMismatch:
    return SourceMismatch(
        f"The spreadsheet {spreadsheet} has no tab '{tab}'.",
        fix=f"Correct its name. Its tabs: {', '.join(tabs)}.",
    )


def _checksums(batch: pa.RecordBatch) -> Checksums:
    tally = Tally(batch.schema)
    tally.add(batch)
    return tally.checksums


def _heading_row(
    table: IngestTable,
    options: GoogleSheetOptions,
    cells: Sequence[Sequence[SheetCell]],
    corner: Corner,
) -> int:
    """How many of the rows that were read are above the headings."""
    if options.header_row is None:
        skipped = heading_row(cells, options.columns, options.labels)
        if skipped:
            log.info("%s: the headings are in row %s", table.key, corner.row + skipped)
        return skipped
    if options.header_row < corner.row:
        raise DeclarationError(
            f"{table.file}: source table {table.key}: header_row {options.header_row} is "
            f"above the range {options.range}.",
            fix="Count header_row from the tab's first row, or widen the range.",
        )
    return options.header_row - corner.row


def _corner(options: GoogleSheetOptions) -> Corner:
    match = re.match(r"([A-Z]+)(\d*)", options.range or "A1")
    if match is None:
        raise DeclarationError(f"{options.range} is no range.", fix="Write it as B3:F.")
    row, column = a1_to_rowcol(f"{match[1]}{match[2] or 1}")
    return Corner(options.tab, row, column)


def _check_key(
    table: IngestTable, columns: Sequence[FoundColumn], rows: Sequence[dict[str, object]]
) -> None:
    """Refuse rows that the declared key does not tell apart: a sheet itself enforces no keys."""
    key = table.options.primary_key
    missing = set(key) - {column.name for column in columns}
    if missing:
        raise SourceMismatch(
            f"{table.key} has no column '{min(missing)}', which is declared in its primary_key.",
            fix=f"Its columns: {', '.join(column.name for column in columns)}.",
        )
    seen: set[tuple[object, ...]] = set()
    repeated = set()
    for row in rows if key else ():
        value = tuple(row[name] for name in key)
        if value in seen or None in value:
            repeated.add(", ".join(f"{name} {part}" for name, part in zip(key, value, strict=True)))
        seen.add(value)
    if repeated:
        raise SourceMismatch(
            f"{table.key}: rows that its primary_key does not tell apart: "
            f"{'; '.join(sorted(repeated)[:20])}.",
            fix="Correct them in the sheet. The raw table keeps what it has.",
        )
