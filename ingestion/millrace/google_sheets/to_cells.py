"""Converts a mart to a sheet's cells: pure functions, which report all misfits at once.

A sheet knows texts, numbers and booleans. Dates are numbers in a date's format, and numbers are
doubles, of which it shows 15 digits: what does not fit exactly is refused, never rounded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from millrace.errors import PublicationRefused
from millrace.google_sheets.client import EPOCH, Cell
from millrace.google_sheets.column import SheetColumn

MAX_TEXT = 50_000
_EXACT_DIGITS = 15
_LISTED = 20
_DAY = timedelta(days=1)
_DIGEST_LENGTH = 16

Canonical = tuple[str | float | bool | None, ...]
"""A row in the form in which rows are compared."""


@dataclass(frozen=True)
class SheetTable:
    """A table of cells.

    Attributes:
        columns: Its columns.
        rows: Its rows, without the headings.
    """

    columns: tuple[SheetColumn, ...]
    rows: Sequence[Sequence[Cell]]

    @property
    def headings(self) -> list[str]:
        """What is written above its columns."""
        return [column.heading for column in self.columns]

    def keys(self, names: Sequence[str]) -> list[Canonical]:
        """What these columns hold in each row."""
        places = {column.name: at for at, column in enumerate(self.columns)}
        chosen = [places[name] for name in names]
        return [canonical([row[at] for at in chosen], len(chosen)) for row in self.rows]


def to_sheet_table(rows: pa.Table, labels: Mapping[str, str]) -> SheetTable:
    """Convert a mart, exactly.

    Args:
        rows: The mart.
        labels: Heading by column name, where it differs from the name.

    Raises:
        PublicationRefused: values or columns that a sheet cannot hold; each is named.
    """
    columns, converted, problems = [], [], []
    for field, values in zip(rows.schema, rows.columns, strict=True):
        kind = _kind(field.type)
        if kind is None:
            problems.append(f"column '{field.name}': a sheet knows nothing like {field.type}")
            continue
        columns.append(SheetColumn(field.name, kind.name, labels.get(field.name, "")))
        cells: list[Cell] = []
        if pa.types.is_timestamp(field.type):
            # An Arrow time with a zone counts in UTC; Python has no nanoseconds.
            values = values.cast(pa.timestamp("us"), safe=False)
        for number, value in enumerate(values.to_pylist(), start=1):
            try:
                cells.append(None if value is None else kind.convert(value))
            except ValueError as problem:
                problems.append(f"column '{field.name}', row {number:,}: {problem}")
        converted.append(cells)
    if problems:
        listed = problems[:_LISTED]
        if len(problems) > _LISTED:
            listed.append(f"… and {len(problems) - _LISTED:,} more")
        raise PublicationRefused(
            "A sheet cannot hold what the mart has:\n  " + "\n  ".join(listed),
            fix="Cast the column to varchar in the mart, or round it there. "
            "The sheet keeps what it has.",
        )
    return SheetTable(tuple(columns), list(zip(*converted, strict=True)))


def cell_data(cell: Cell) -> dict[str, Any]:
    """A cell as ``updateCells`` takes it: typed, so that no text is taken for a formula."""
    if cell is None or cell == "":
        return {}
    if isinstance(cell, bool):
        return {"userEnteredValue": {"boolValue": cell}}
    if isinstance(cell, str):
        return {"userEnteredValue": {"stringValue": cell}}
    return {"userEnteredValue": {"numberValue": cell}}


def row_data(row: Iterable[Cell]) -> dict[str, Any]:
    """A row as ``updateCells`` takes it."""
    return {"values": [cell_data(cell) for cell in row]}


def canonical(row: Sequence[Cell], width: int) -> Canonical:
    """A row in the form in which rows are compared, whether it was written or read back.

    Trailing empty cells, which the API leaves out, are added again; numbers are rounded to the 15
    digits that a sheet counts with.
    """
    cells: list[str | float | bool | None] = []
    for cell in row[:width]:
        if cell is None or cell == "":
            cells.append(None)
        elif isinstance(cell, bool | str):
            cells.append(cell)
        else:
            # Adding zero takes the sign from a negative zero.
            cells.append(float(f"{cell:.{_EXACT_DIGITS}g}") + 0.0)
    return (*cells, *[None] * (width - len(cells)))


def checksum(rows: Iterable[Sequence[Cell]], width: int) -> str:
    """SHA-256 of canonical rows."""
    return _sha256(json.dumps(canonical(row, width)) for row in rows)


def digest(rows: Iterable[Canonical]) -> str:
    """A short digest of these rows, the same in whatever order they come."""
    return _sha256(sorted(json.dumps(row) for row in rows))[:_DIGEST_LENGTH]


def _sha256(lines: Iterable[str]) -> str:
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode() + b"\n")
    return found.hexdigest()


@dataclass(frozen=True)
class _Kind:
    name: str
    convert: Callable[[Any], Cell]


def _kind(type_: pa.DataType) -> _Kind | None:
    is_a = pa.types
    if is_a.is_decimal(type_):
        return _Kind(f"decimal({type_.precision},{type_.scale})", _from_decimal)
    for of_kind, kind in (
        (is_a.is_null, _Kind("string", _from_text)),
        (is_a.is_string, _Kind("string", _from_text)),
        (is_a.is_large_string, _Kind("string", _from_text)),
        (is_a.is_integer, _Kind("integer", _from_integer)),
        (is_a.is_floating, _Kind("double", _from_double)),
        (is_a.is_boolean, _Kind("boolean", bool)),
        (is_a.is_date, _Kind("date", _from_date)),
        (is_a.is_timestamp, _Kind("datetime", _from_datetime)),
    ):
        if of_kind(type_):
            return kind
    return None


def _from_text(value: str) -> Cell:
    if len(value) > MAX_TEXT:
        raise ValueError(
            f"a text of {len(value):,} characters; a cell holds {MAX_TEXT:,} of them at most"
        )
    return value


def _from_integer(value: int) -> Cell:
    _check_digits(Decimal(value))
    return value


def _from_decimal(value: Decimal) -> Cell:
    _check_digits(value)
    return float(value)


def _check_digits(value: Decimal) -> None:
    digits = "".join(map(str, value.as_tuple().digits)).strip("0")
    if len(digits) > _EXACT_DIGITS:
        raise ValueError(f"{value} has more digits than the {_EXACT_DIGITS} of a sheet's number")


def _from_double(value: float) -> Cell:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number")
    return value


def _from_date(value: date) -> Cell:
    return (value - EPOCH.date()).days


def _from_datetime(value: datetime) -> Cell:
    return (value - EPOCH) / _DAY
