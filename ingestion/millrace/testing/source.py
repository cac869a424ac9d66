"""One contract for every source, and one more for those that have cursors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from millrace import arrow_types
from millrace.batch import EVERY_KEY, WHOLE_TABLE, Interval, KeyRange
from millrace.catalog import IngestTable, OnBadValue
from millrace.checksums.columns import Tally, differing, together
from millrace.errors import SourceMismatch, ValueDoesNotFit
from millrace.sources.base import Source
from millrace.testing.place import DAY

_TICK = timedelta(seconds=1)
_CLOCKS_DIFFER = timedelta(minutes=5)

Row = tuple[int, datetime, str]
"""An id, a moment in UTC of whole seconds, and a note."""


@dataclass(frozen=True)
class Served:
    """A table that a source serves, with the columns ``id``, ``at`` and ``note``.

    Attributes:
        source: The source.
        table: The declaration; its key is ``id``, and its cursor, if it has one, is ``at``.
        insert: Adds rows to the table, which is empty at first.
        missing: A declaration of a table that is not there.
        insert_bad: Adds a row with this id, in which a column other than the key and the cursor has
            a value that its type cannot hold; None: the source has no such values.
    """

    source: Source
    table: IngestTable
    insert: Callable[[Sequence[Row]], None]
    missing: IngestTable
    insert_bad: Callable[[int], None] | None = None

    def with_bad_row(self, policy: OnBadValue) -> Served:
        """The same source with a bad row 3, and that policy."""
        if self.insert_bad is None:
            pytest.skip("every value of this source fits")
        self.insert(rows(DAY, DAY + _TICK))
        self.insert_bad(3)
        options = self.table.options.model_copy(update={"on_bad_value": policy})
        return replace(self, table=replace(self.table, options=options))

    def read(
        self,
        interval: Interval = WHOLE_TABLE,
        *,
        without: frozenset[str] = frozenset(),
        ranges: Sequence[KeyRange] = (EVERY_KEY,),
    ) -> pa.Table:
        """The rows of an interval."""
        with self.source.extract(
            self.table, interval, without=without, ranges=ranges
        ) as extraction:
            return pa.Table.from_batches(extraction.batches, schema=extraction.schema)

    def ids(
        self, interval: Interval = WHOLE_TABLE, *, ranges: Sequence[KeyRange] = (EVERY_KEY,)
    ) -> list[int]:
        """The ids of the rows of an interval, in order."""
        return sorted(self.read(interval, ranges=ranges)["id"].to_pylist())


def _without_own(names: Iterable[str]) -> set[str]:
    """The names without those of columns that a source adds, which begin with an underscore."""
    return {name for name in names if not name.startswith("_")}


def rows(*moments: datetime) -> list[Row]:
    """A row for each moment; the first has the id 1."""
    return [(at, moment, f"note {at}") for at, moment in enumerate(moments, start=1)]


class SourceContract:
    """The tests that every source must pass; a subclass defines the fixture ``served``."""

    def test_a_check_says_what_was_reached(self, served: Served) -> None:
        served.insert(rows(DAY))
        assert served.source.check([served.table])

    def test_a_table_that_is_not_there_is_named(self, served: Served) -> None:
        with pytest.raises(SourceMismatch) as refused:
            served.source.extract(served.missing, WHOLE_TABLE).__enter__()
        assert refused.value.fix

    def test_every_row_comes_once_and_is_counted(self, served: Served) -> None:
        served.insert(rows(DAY, DAY + _TICK, DAY - _TICK))
        with served.source.extract(served.table, WHOLE_TABLE) as extraction:
            found = pa.Table.from_batches(extraction.batches, schema=extraction.schema)
        assert sorted(found["id"].to_pylist()) == [1, 2, 3]
        assert sorted(found["note"].to_pylist()) == ["note 1", "note 2", "note 3"]
        assert extraction.figures.rows in (None, 3)

    def test_only_types_come_that_every_warehouse_holds(self, served: Served) -> None:
        served.insert(rows(DAY))
        for field in served.read().schema:
            assert arrow_types.from_name(str(field.type)) == field.type

    def test_ranges_together_have_every_row_once(self, served: Served) -> None:
        served.insert(rows(*(DAY + number * _TICK for number in range(20))))
        ranges = served.source.ranges(served.table, WHOLE_TABLE)
        assert ranges
        one_by_one = [id_ for found in ranges for id_ in served.ids(ranges=[found])]
        assert sorted(one_by_one) == list(range(1, 21)) == served.ids(ranges=ranges)

    def test_the_columns_are_told_as_they_are_read(self, served: Served) -> None:
        served.insert(rows(DAY))
        for without in (frozenset[str](), frozenset({"note"})):
            told = served.source.columns(served.table, without=without)
            read = {column.name: column.type for column in told if column.type is not None}
            schema = served.read(without=without).schema
            assert read == dict(zip(schema.names, schema.types, strict=True))
            assert _without_own(column.name for column in told) == {"id", "at", "note"}
            assert all(column.declared_type for column in told)

    def test_an_estimate_of_the_rows_is_a_number_or_none(self, served: Served) -> None:
        served.insert(rows(DAY, DAY + _TICK))
        estimate = served.source.estimated_rows(served.table, WHOLE_TABLE)
        assert estimate is None or estimate >= 0

    def test_a_column_that_must_not_be_read_does_not_come(self, served: Served) -> None:
        served.insert(rows(DAY))
        found = served.read(without=frozenset({"note"}))
        assert _without_own(found.column_names) == {"id", "at"}

    def test_a_value_that_does_not_fit_refuses_the_table_by_default(self, served: Served) -> None:
        served = served.with_bad_row(OnBadValue.FAIL)
        with pytest.raises(ValueDoesNotFit) as refused:
            served.read()
        assert refused.value.fix

    def test_a_value_that_does_not_fit_becomes_null(self, served: Served) -> None:
        served = served.with_bad_row(OnBadValue.NULL)
        (row,) = [row for row in served.read().to_pylist() if row["id"] == 3]
        assert None in row.values()
        assert served.ids() == [1, 2, 3]

    def test_a_row_that_does_not_fit_is_set_aside_and_counted(self, served: Served) -> None:
        served = served.with_bad_row(OnBadValue.QUARANTINE)
        with served.source.extract(served.table, WHOLE_TABLE) as extraction:
            found = pa.Table.from_batches(extraction.batches, schema=extraction.schema)
        assert sorted(found["id"].to_pylist()) == [1, 2]
        assert extraction.figures.rows in (None, 3)
        assert extraction.sieve is not None
        set_aside = extraction.sieve.set_aside(lambda keys: keys)
        assert set_aside is not None
        assert set_aside.rows == 1
        assert set_aside.records["row_key"].to_pylist() == ['{"id": 3}']
        if extraction.figures.checksums is not None:
            tally = Tally(extraction.schema, total=extraction.figures.total)
            for batch in found.to_batches():
                tally.add(batch)
            landed = together([tally.checksums, extraction.sieve.checksums])
            assert not differing(extraction.figures.checksums, landed)


class CursorContract(SourceContract):
    """The tests that every source with cursors must pass too."""

    def test_an_interval_takes_its_start_and_leaves_its_end(self, served: Served) -> None:
        end = DAY + timedelta(days=1)
        served.insert(rows(DAY - _TICK, DAY, end - _TICK, end))
        assert served.ids(Interval(DAY, end)) == [2, 3]
        assert served.ids(Interval(None, DAY)) == [1]
        assert served.ids(Interval(end, None)) == [4]

    def test_an_interval_without_rows_has_the_columns_and_nothing_else(
        self, served: Served
    ) -> None:
        found = served.read(Interval(DAY, DAY + _TICK))
        assert (found.num_rows, set(found.column_names)) == (0, {"id", "at", "note"})

    def test_what_is_closed_ends_at_the_source_s_clock(self, served: Served) -> None:
        served.insert(rows(DAY))
        closing = served.source.closed(served.table, Interval())
        assert closing.end <= closing.now
        assert abs(closing.now - datetime.now(UTC)) < _CLOCKS_DIFFER

    def test_an_interval_of_the_past_is_closed_up_to_its_end(self, served: Served) -> None:
        served.insert(rows(DAY))
        past = Interval(DAY, DAY + timedelta(days=1))
        lookback = {"column": "at", "lookback": {"count": 1, "period": "hour"}}
        options = type(served.table.options).model_validate(
            {**served.table.options.model_dump(), "cursor": lookback}
        )
        closing = served.source.closed(replace(served.table, options=options), past)
        assert (closing.end, closing.held_by) == (past.end, None)
