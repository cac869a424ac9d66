"""Values that cannot be loaded: they refuse the batch, become NULL, or their rows are set aside.

A source names the misfits of each record batch, and so do the limits of the warehouse. ``Sieve``
does with them what the table declares as ``on_bad_value``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.catalog import IngestTable, OnBadValue
from millrace.checksums.columns import Checksums, Tally, Total
from millrace.checksums.totals import crc32_total
from millrace.errors import ValueDoesNotFit

MOST_ROWS = 10_000
"""So many rows of a batch may be set aside: more are no longer a few bad rows."""

RECORDS = pa.schema(
    [
        ("row_key", pa.string()),
        ("row_cursor", pa.timestamp("us")),
        ("column_name", pa.string()),
        ("reason", pa.string()),
        ("value_text", pa.string()),
    ]
)
"""One record for each misfit of a row that is set aside."""

_LISTED = 20
# Characters of a key or value in a record.
_LONGEST = 1_000


@dataclass(frozen=True)
class Misfit:
    """A value that cannot be loaded.

    Attributes:
        row: The position of its row in the record batch.
        column: Its column.
        reason: Why, for a person; it may show the value.
        value: The value, for a person.
        where: Its place, such as a cell; default: its column.
        counted: The text by which the source counts it in its checksums; None: it counts as NULL.
    """

    row: int
    column: str
    reason: str
    value: str
    where: str = ""
    counted: bytes | None = None

    def __str__(self) -> str:
        return f"{self.where or f'column {self.column}'}: {self.reason}"


@dataclass(frozen=True)
class Limits:
    """What a warehouse does not hold, though its types do.

    Attributes:
        text_bytes: The longest text, in bytes of UTF-8; None: any.
        binary_bytes: The longest binary value; None: any.
        has_nul: Whether a text may have the character NUL.
        has_year_0: Whether there are days before the year 1.
    """

    text_bytes: int | None = None
    binary_bytes: int | None = None
    has_nul: bool = True
    has_year_0: bool = True

    def misfits(self, batch: pa.RecordBatch, columns: Iterable[str]) -> Iterator[Misfit]:
        """The values in these columns that it does not hold."""
        for name in columns:
            column = batch.column(name)
            found: dict[int, str] = {}
            for is_bad, reason in self._checks(column):
                found |= dict.fromkeys(pc.indices_nonzero(is_bad).to_pylist(), reason)
            for row, reason in found.items():
                text = _as_counted(column.slice(row, 1))
                shown = text[:_LONGEST].decode("utf-8", "backslashreplace")
                yield Misfit(row, name, reason, shown, counted=text)

    def _checks(self, column: pa.Array) -> Iterator[tuple[pa.Array, str]]:
        """Which values are bad, and why, check by check."""
        type_ = column.type
        most = self._most_bytes(type_)
        if most is not None:
            is_long = pc.greater(pc.binary_length(column), most)
            yield is_long, f"more than the {most:,} bytes that the warehouse holds"
        if pa.types.is_string(type_) and not self.has_nul:
            yield pc.match_substring(column, "\0"), "has a NUL, which the warehouse does not hold"
        if pa.types.is_temporal(type_) and not self.has_year_0:
            first = pa.scalar(date.min, pa.date32()).cast(type_)
            yield pc.less(column, first), "before the year 1, with which the warehouse begins"

    def _most_bytes(self, type_: pa.DataType) -> int | None:
        if pa.types.is_string(type_):
            return self.text_bytes
        return self.binary_bytes if pa.types.is_binary(type_) else None


UNLIMITED = Limits()


@dataclass(frozen=True)
class SetAside:
    """What was set aside of a batch.

    Attributes:
        rows: How many rows.
        records: A record for each of their misfits, as ``RECORDS``.
    """

    rows: int
    records: pa.Table


class Sieve:
    """Sifts the record batches of one extraction; several threads may do so at the same time.

    Args:
        table: The declaration.
        schema: The columns that are read.
        noun: What messages call a value, in the singular.
        place: What it is one of, for messages; default: the table.
        fix: What the reader of an error can do.
        total: Which checksum the source computes (``SourceFigures``).
    """

    def __init__(
        self,
        table: IngestTable,
        schema: pa.Schema,
        *,
        noun: str = "value",
        place: str = "",
        fix: str = "Correct it at the source. The warehouse keeps what it has.",
        total: Total = crc32_total,
    ) -> None:
        self._table = table
        self._schema = schema
        self._policy = table.options.on_bad_value
        self._noun, self._place, self._fix = noun, place or table.key, fix
        self._lock = Lock()
        self._rows = 0
        self._misfits: Counter[str] = Counter()
        self._not_landed = Tally(schema, total=total)
        self._aside: list[tuple[pa.RecordBatch, Sequence[Misfit]]] = []

    @property
    def rows(self) -> int:
        """How many rows are set aside so far."""
        return self._rows

    @property
    def checksums(self) -> Checksums:
        """Of what is not landed: together with what is, it is what the source counts."""
        return self._not_landed.checksums

    def is_strict(self, column: str) -> bool:
        """Whether a value that stands for nothing, such as a zero date, is a misfit here.

        Otherwise it simply becomes NULL.
        """
        if self._policy is OnBadValue.NULL:
            return column in self._never_null
        return self._policy is OnBadValue.QUARANTINE

    def within(self, limits: Limits, batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        """Sift out what a warehouse cannot hold; where a misfit fails, the warehouse itself does.

        Personal columns are left alone: their hashes and masks are short.
        """
        if self._policy is OnBadValue.FAIL or limits == UNLIMITED:
            return batches
        names = [name for name in self._schema.names if name not in self._table.pii]
        sifted = (self.sift(batch, list(limits.misfits(batch, names))) for batch in batches)
        return (batch for batch in sifted if batch.num_rows)

    def sift(self, batch: pa.RecordBatch, misfits: Sequence[Misfit]) -> pa.RecordBatch:
        """What is to be landed of a record batch.

        Raises:
            ValueDoesNotFit: the table declares that it fails, a misfit is in its key or cursor and
                was to become NULL, or too many rows would be set aside.
        """
        if not misfits:
            return batch
        misfits = [self._without_personal(misfit) for misfit in misfits]
        with self._lock:
            self._refuse(misfits)
            self._misfits.update(misfit.column for misfit in misfits)
            for misfit in misfits:
                if misfit.counted is not None:
                    self._not_landed.add_text(misfit.column, misfit.counted)
            batch = _with_nulls(batch, misfits)
            return batch if self._policy is OnBadValue.NULL else self._parted(batch, misfits)

    def set_aside(self, protect: Callable[[pa.RecordBatch], pa.RecordBatch]) -> SetAside | None:
        """What was set aside; None: nothing.

        Args:
            protect: Hashes and masks the personal columns of keys.
        """
        if not self._rows:
            return None
        records = [
            record
            for identity, misfits in self._aside
            for record in self._records(identity, protect(identity), misfits)
        ]
        return SetAside(self._rows, pa.Table.from_pylist(records, RECORDS))

    def told(self) -> Iterator[str]:
        """What a person should know."""
        for column, count in self._misfits.items():
            what = "landed as NULL" if self._policy is OnBadValue.NULL else "rows set aside"
            values = counted(count, self._noun)
            yield f"{self._table.key}: column {column}: {values} did not fit; {what}"

    @property
    def _never_null(self) -> set[str | None]:
        return {*self._table.options.primary_key, self._table.cursor_column}

    def _without_personal(self, misfit: Misfit) -> Misfit:
        if misfit.column not in self._table.pii:
            return misfit
        type_ = self._schema.field(misfit.column).type
        return replace(misfit, reason=f"a personal value that does not fit {type_}", value="***")

    def _refuse(self, misfits: Sequence[Misfit]) -> None:
        if self._policy is OnBadValue.FAIL:
            raise self._refusal(misfits, _fits_not(len(misfits)))
        in_key = [misfit for misfit in misfits if misfit.column in self._never_null]
        if self._policy is OnBadValue.NULL and in_key:
            raise self._refusal(in_key, "cannot become NULL, in the key or the cursor")
        rows = self._rows + len({misfit.row for misfit in misfits})
        if self._policy is OnBadValue.QUARANTINE and rows > MOST_ROWS:
            raise too_many(self._table, _listed(misfits))

    def _refusal(self, misfits: Sequence[Misfit], what: str) -> ValueDoesNotFit:
        values = counted(len(misfits), self._noun)
        return ValueDoesNotFit(
            f"{values} of {self._place} {what}:{_listed(misfits)}", fix=self._fix
        )

    def _parted(self, batch: pa.RecordBatch, misfits: Sequence[Misfit]) -> pa.RecordBatch:
        """Set the rows with misfits aside; returns the others."""
        rows = sorted({misfit.row for misfit in misfits})
        places = {row: at for at, row in enumerate(rows)}
        aside = batch.take(pa.array(rows, pa.int64()))
        self._rows += len(rows)
        self._not_landed.add(aside)
        names = [name for name in aside.schema.names if name in self._never_null]
        misfits = [replace(misfit, row=places[misfit.row]) for misfit in misfits]
        self._aside.append((aside.select(names), misfits))
        return batch.filter(pa.array([row not in places for row in range(batch.num_rows)]))

    def _records(
        self, identity: pa.RecordBatch, protected: pa.RecordBatch, misfits: Sequence[Misfit]
    ) -> Iterator[dict[str, Any]]:
        names = [name for name in self._table.options.primary_key if name in protected.schema.names]
        keys = protected.select(names)
        found = [dict(zip(names, values, strict=True)) for values in _plain_rows(keys)]
        for misfit in misfits:
            if misfit.column in names:
                found[misfit.row][misfit.column] = misfit.value
        cursors = self._cursors(identity)
        for misfit in misfits:
            key = _cut(json.dumps(found[misfit.row], ensure_ascii=False))
            yield {
                "row_key": key if names else None,
                "row_cursor": cursors[misfit.row],
                "column_name": misfit.column,
                "reason": _cut(str(misfit) if misfit.where else misfit.reason),
                "value_text": _cut(misfit.value),
            }

    def _cursors(self, identity: pa.RecordBatch) -> pa.Array:
        """The rows' cursors, without a zone; NULL where there is none, or a personal one."""
        name = self._table.cursor_column
        if name not in identity.schema.names or name in self._table.pii:
            return pa.nulls(identity.num_rows, pa.timestamp("us"))
        column = identity.column(name)
        is_moment = pa.types.is_timestamp(column.type)
        return column.view(pa.timestamp("us")) if is_moment else column.cast(pa.timestamp("us"))


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as ``1 row`` and ``2,000 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def too_many(table: IngestTable, listed: str = "") -> ValueDoesNotFit:
    """The error of a batch that has too many bad rows."""
    return ValueDoesNotFit(
        f"{table.key}: more than {MOST_ROWS:,} rows of a batch have values that do not fit, and "
        f"would be set aside.{listed}",
        fix="Something is wrong with the whole column: correct it at the source, read it through a "
        "view, or declare `on_bad_value: null`. The warehouse keeps what it has.",
    )


def _fits_not(count: int) -> str:
    return "does not fit its column's type" if count == 1 else "do not fit their column's type"


def _listed(misfits: Sequence[Misfit]) -> str:
    lines = [str(misfit) for misfit in misfits[:_LISTED]]
    if len(misfits) > _LISTED:
        lines.append(f"… and {len(misfits) - _LISTED:,} more")
    return "".join(f"\n  {line}" for line in lines)


def _with_nulls(batch: pa.RecordBatch, misfits: Sequence[Misfit]) -> pa.RecordBatch:
    """The record batch with NULL for each misfit."""
    rows: dict[str, set[int]] = {}
    for misfit in misfits:
        rows.setdefault(misfit.column, set()).add(misfit.row)
    for name, bad in rows.items():
        at = batch.schema.get_field_index(name)
        fits = pa.array([row not in bad for row in range(batch.num_rows)])
        column = batch.column(at)
        kept = pc.if_else(fits, column, pa.scalar(None, column.type))
        batch = batch.set_column(at, batch.schema.field(at), kept)
    return batch


def _as_counted(value: pa.Array) -> bytes:
    """The text by which one value is counted; see ``millrace.checksums``."""
    if pa.types.is_timestamp(value.type):
        value = value.view(pa.timestamp("us"))
    if pa.types.is_temporal(value.type):
        value = value.cast(pa.string())
    found: bytes = value.cast(pa.binary())[0].as_py()
    return found


def _plain_rows(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """Rows of what JSON can hold."""
    columns = [map(_plain, _readable(column).to_pylist()) for column in batch.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * batch.num_rows


def _readable(column: pa.Array) -> pa.Array:
    # Python has no year 0, which MySQL has.
    return column.cast(pa.string()) if pa.types.is_temporal(column.type) else column


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else str(value)
    return value.hex() if isinstance(value, bytes) else value


def _cut(text: str) -> str:
    """A text that every warehouse holds."""
    text = text.replace("\0", "\\x00")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
