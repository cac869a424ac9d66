"""Rows of an answer as typed columns: pure functions and their memory of the page before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from hashlib import blake2b
from itertools import islice
from typing import Any

import pyarrow as pa

from millrace.bad_values import Misfit
from millrace.batch import Interval
from millrace.catalog import IngestTable
from millrace.cursor import CursorClock
from millrace.errors import SourceMismatch
from millrace.sources.http.answers import Row
from millrace.sources.http.options import HttpOptions
from millrace.sources.http.paging import moved
from millrace.sources.json_values import arrow_type, converter, json_text, printable

ROWS = 2_000
"""Rows a record batch: as Python's objects they take many times their size."""

# So many rows of a page are remembered: a page of more is read in bounded memory.
_REMEMBERED = 100_000

_IS_NULL = "is null, which no key or cursor may be"


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows, so many at a time as a record batch has."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, ROWS)):
        yield chunk


@dataclass(frozen=True)
class Bounds:
    """Which times of a cursor lie in an interval.

    Attributes:
        column: The cursor.
        start: The first of them; None: any.
        end: The first that is later than all of them; None: any.
    """

    column: str
    start: datetime | None
    end: datetime | None

    @classmethod
    def of(cls, column: str, type_: pa.DataType, interval: Interval, clock: CursorClock) -> Bounds:
        """The bounds of a column of some type.

        Args:
            column: The cursor.
            type_: Its type.
            interval: The interval.
            clock: What the column shows at any moment.
        """
        if pa.types.is_timestamp(type_) and type_.tz:
            return cls(column, interval.start, interval.end)
        return cls(column, *clock.bounds(interval))

    def has(self, value: Any) -> bool:
        """Whether a time lies in it; one that is not known does: it must not get lost."""
        if value is None:
            return True
        moment = value if isinstance(value, datetime) else datetime.combine(value, time())
        return (self.start is None or self.start <= moment) and (
            self.end is None or moment < self.end
        )


class Columns:
    """Converts rows to record batches.

    Args:
        table: The declaration.
        without: Columns that are left out.
    """

    def __init__(self, table: IngestTable, without: Collection[str] = ()) -> None:
        options = table.options
        if not isinstance(options, HttpOptions):
            raise TypeError("not an HTTP API's table")
        kept = [name for name in options.columns if name not in without]
        self._table = table
        self._options = options
        self._converters = {name: converter(of.type) for name, of in options.columns.items()}
        self._never_null = {*options.primary_key, table.cursor_column}
        self.schema = pa.schema([(name, arrow_type(options.columns[name].type)) for name in kept])

    def record_batch(
        self,
        rows: Sequence[Row],
        names: Sequence[str],
        made: Mapping[str, str],
        bounds: Bounds | None,
    ) -> tuple[pa.RecordBatch, list[Misfit], list[tuple[Any, ...]]]:
        """Convert rows.

        Args:
            rows: The rows.
            names: The columns that they have, in order.
            made: The texts of the others, which are the same in all rows.
            bounds: Rows beyond are left out; None: none are.

        Returns:
            The rows, the values that their column's type cannot hold, which are NULL among them,
            and what tells the rows apart.
        """
        at = {name: number for number, name in enumerate(names)}
        misfits: list[Misfit] = []
        if bounds is not None and bounds.column in at:
            place, convert = at[bounds.column], self._converters[bounds.column]
            rows = [row for row in rows if bounds.has(_or_none(convert, row[place]))]
        columns: dict[str, list[Any]] = {}
        for name, convert in self._converters.items():
            given = [row[at[name]] for row in rows] if name in at else [made[name]] * len(rows)
            columns[name] = [
                self._converted(name, convert, number, value, misfits)
                for number, value in enumerate(given)
            ]
        arrays = [pa.array(columns[field.name], field.type) for field in self.schema]
        batch = pa.record_batch(arrays, schema=self.schema)
        identity = dict.fromkeys([*self._options.primary_key, self._table.cursor_column or ""])
        keys = [columns[name] for name in identity if name]
        return (
            batch,
            [misfit for misfit in misfits if misfit.column in self.schema.names],
            list(zip(*keys, strict=True)) if self._options.primary_key else [],
        )

    def _converted(
        self,
        name: str,
        convert: Callable[[Any], Any],
        row: int,
        value: Any,
        misfits: list[Misfit],
    ) -> Any:
        try:
            converted = convert(value)
        except ValueError as problem:
            misfits.append(Misfit(row, name, str(problem), printable(json_text(value))))
            return None
        if converted is None and name in self._never_null:
            misfits.append(Misfit(row, name, _IS_NULL, "null"))
        return converted


class Neighbours:
    """Finds rows that come twice: within a page, and from a page to the next.

    Where a row is added or deleted before those that were read, the others move on by one, and the
    next page begins with a row of the last or leaves one out.

    Args:
        where: What answers, for messages.
        names: What tells rows apart.
        is_personal: Whether no message may show it.
    """

    def __init__(self, where: str, names: Sequence[str], *, is_personal: bool = False) -> None:
        self._where = where
        self._is_personal = is_personal
        self._names = names
        self._page: set[tuple[Any, ...]] = set()
        self._before: set[tuple[Any, ...]] = set()
        self._on_one_page: tuple[Any, ...] | None = None
        self._on_two_pages: tuple[Any, ...] | None = None

    def add(self, identities: Iterable[tuple[Any, ...]]) -> None:
        """Look at some more rows of a page."""
        for identity in identities:
            # A misfit has been reported, and is no key.
            if None in identity:
                continue
            if identity in self._before:
                self._on_two_pages = self._on_two_pages or identity
            if identity in self._page:
                self._on_one_page = self._on_one_page or identity
            if len(self._page) < _REMEMBERED:
                self._page.add(identity)

    def turn(self) -> None:
        """The next rows are of another page.

        Raises:
            SourceMismatch: two rows of this page are not told apart.
            RowsMissing: one of them was on the page before.
        """
        if self._on_two_pages:
            raise moved(self._where, f"{self._told(self._on_two_pages)} is on two pages")
        if self._on_one_page:
            raise SourceMismatch(
                f"{self._where}: {self._told(self._on_one_page)} is there twice, and is declared "
                "to tell rows apart.",
                fix="Correct `primary_key`. The raw table keeps what it has.",
            )
        self._before, self._page = self._page, set()

    def _told(self, identity: tuple[Any, ...]) -> str:
        if self._is_personal:
            return "a row"
        return ", ".join(
            f"{name} {value}" for name, value in zip(self._names, identity, strict=True)
        )


class Digest:
    """The digest of a page's rows."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self.rows = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Add some rows."""
        self.rows += len(rows)
        self._hash.update(repr(rows).encode("utf-8", "surrogatepass"))

    @property
    def value(self) -> bytes:
        """The digest so far."""
        return self._hash.digest()


def _or_none(convert: Callable[[Any], Any], value: Any) -> date | None:
    try:
        found: date | None = convert(value)
    except ValueError:
        return None
    return found.astimezone(UTC) if isinstance(found, datetime) and found.tzinfo else found
