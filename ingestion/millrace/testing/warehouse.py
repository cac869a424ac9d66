"""One contract for every warehouse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from millrace.batch import WHOLE_TABLE, Interval
from millrace.errors import (
    CountMismatch,
    PartCorrupt,
    RelationNotFound,
    SchemaConflict,
    WarehouseError,
)
from millrace.testing.place import DAY, INTERVAL, NEXT_DAY, Place, ids, ledger
from millrace.warehouses.sql import quote, raw

SEEN = {
    "naive": (pa.timestamp("us"), None, lambda moment: moment.replace(tzinfo=None)),
    "aware": (pa.timestamp("us", "UTC"), None, lambda moment: moment),
    "in New York": (
        pa.timestamp("us"),
        "America/New_York",
        lambda moment: moment.astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None),
    ),
}


class WarehouseContract:
    """The tests that every warehouse must pass.

    A subclass defines the fixture ``place``, without a raw table.
    """

    def test_a_batch_arrives_with_its_ledger_row(self, place: Place) -> None:
        manifest = place.land(ids(1, 2, 3))
        row = place.load_manifest(manifest)
        assert place.rows() == [(1,), (2,), (3,)]
        assert ledger(place.warehouse, place.table) == [row]
        assert (row.rows, row.interval, row.manifest_url) == (3, INTERVAL, manifest.url)
        assert row.extracted_at == manifest.extracted_at

    def test_every_type_arrives_as_it_left(self, place: Place) -> None:
        values = {
            "bool": (pa.bool_(), True),
            "int16": (pa.int16(), -32768),
            "int32": (pa.int32(), -(2**31)),
            "int64": (pa.int64(), -(2**63)),
            "float": (pa.float32(), 16777216.0),
            "double": (pa.float64(), 0.1),
            "decimal": (pa.decimal128(38, 10), Decimal("1234567890123456789012345678.0123456789")),
            "text": (pa.string(), "좋아요 🎉 '\"\\"),
            "empty": (pa.string(), ""),
            "date": (pa.date32(), date(1000, 1, 1)),
            "naive": (pa.timestamp("us"), datetime(9999, 12, 31, 23, 59, 59, 999999)),
            "aware": (pa.timestamp("us", "UTC"), datetime(2026, 10, 1, 1, 2, 3, 4, tzinfo=UTC)),
        }
        data = pa.table({name: pa.array([v, None], t) for name, (t, v) in values.items()})
        place.load(data)
        # Loaded again, so that the raw table's own types are read back too.
        place.load(data)
        found = place.query(
            f"SELECT {', '.join(map(quote, values))} FROM {raw(place.table)} WHERE {quote('bool')}"
        )
        assert found == [tuple(value for _, value in values.values())]
        nulls = place.query(
            f"SELECT {', '.join(map(quote, values))} FROM {raw(place.table)} "
            f"WHERE {quote('bool')} IS NULL"
        )
        assert nulls == [(None,) * len(values)]

    def test_a_batch_without_rows_makes_the_table_and_is_remembered(self, place: Place) -> None:
        assert place.load(ids()).rows == 0
        assert place.rows() == []
        assert len(ledger(place.warehouse, place.table)) == 1

    def test_loading_again_replaces_only_the_batch(self, place: Place) -> None:
        before = Interval(DAY - timedelta(days=1), DAY)
        place.load(ids(1, 2), before)
        place.load(ids(3, 4))
        place.load(ids(4, 5))
        assert place.rows() == [(1,), (2,), (4,), (5,)]
        assert [row.interval for row in ledger(place.warehouse, place.table)] == [before, INTERVAL]

    def test_a_wider_interval_replaces_the_batches_inside_it(self, place: Place) -> None:
        for days in range(3):
            day = Interval(DAY + timedelta(days=days), DAY + timedelta(days=days + 1))
            place.load(ids(days), day)
        place.load(ids(10, 11), Interval(DAY, DAY + timedelta(days=2)))
        assert place.rows() == [(10,), (11,), (2,)]
        everything = Interval(None, DAY + timedelta(days=9))
        place.load(ids(7), everything)
        assert place.rows() == [(7,)]
        assert [row.interval for row in ledger(place.warehouse, place.table)] == [everything]

    @pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN.keys())
    def test_a_lookback_replaces_the_end_of_what_is_loaded(self, place: Place, seen: Any) -> None:
        type_, zone, shown = seen
        cursor = {
            "column": "at",
            "time_zone": zone,
            "lookback": {"count": 6, "period": "hour"},
        }
        place = place.with_options(cursor=cursor)
        hour = timedelta(hours=1)

        def rows(**at: datetime) -> pa.Table:
            moments = pa.array([shown(moment) for moment in at.values()], type_)
            return pa.table({"id": pa.array(at.keys(), pa.string()), "at": moments})

        place.load(rows(old=DAY + hour, edge=DAY + 18 * hour, gone=DAY + 20 * hour))
        again = Interval(NEXT_DAY - 6 * hour, NEXT_DAY + 6 * hour)
        for _ in range(2):
            place.load(rows(edge=DAY + 18 * hour, late=DAY + 23 * hour, new=DAY + 25 * hour), again)
            assert place.rows() == [("edge",), ("late",), ("new",), ("old",)]
            first, second = ledger(place.warehouse, place.table)
            assert (first.interval, first.rows) == (Interval(INTERVAL.start, again.start), 1)
            assert (second.interval, second.rows) == (again, 3)

    def test_a_full_refresh_replaces_the_table(self, place: Place) -> None:
        place = place.with_options(cursor=None)
        place.load(ids(1, 2), WHOLE_TABLE)
        place.load(ids(2, 3), WHOLE_TABLE)
        assert place.rows() == [(2,), (3,)]

    def test_loads_of_a_table_are_stamped_in_the_order_they_commit(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hours = iter(range(100))
        monkeypatch.setattr(
            "millrace.warehouses.sql._now", lambda: DAY - timedelta(hours=next(hours))
        )
        stamps = []
        for days in range(4):
            day = Interval(DAY + timedelta(days=days), DAY + timedelta(days=days + 1))
            stamps.append(place.load(ids(days), day).loaded_at)
        assert stamps == sorted(set(stamps))

    def test_the_raw_table_grows_with_the_source(self, place: Place) -> None:
        place.load(ids(1))
        wider = pa.table({"id": pa.array([2**40], pa.int64()), "note": ["new"]})
        place.load(wider, Interval(NEXT_DAY, NEXT_DAY + timedelta(days=1)))
        assert place.rows("id", "note") == [(1, None), (2**40, "new")]

    @pytest.mark.parametrize(
        "data",
        [pa.table({"id": ["text"]}), pa.table({"other": [1]})],
        ids=["a lossy type change", "a vanished column"],
    )
    def test_a_batch_that_does_not_fit_leaves_everything_as_it_was(
        self, place: Place, data: pa.Table
    ) -> None:
        place.load(ids(1, 2))
        before = place.everything()
        with pytest.raises(SchemaConflict):
            place.load(data)
        assert place.everything() == before

    def test_a_part_with_other_rows_than_promised_leaves_everything_as_it_was(
        self, place: Place
    ) -> None:
        place.load(ids(1, 2))
        before = place.everything()
        true = place.land(ids(3, 4))
        (part,) = true.parts
        wrong = replace(true, parts=(replace(part, rows=part.rows + 1),))
        place.rewrite(wrong)
        with pytest.raises(CountMismatch, match="2 rows"):
            place.load_manifest(wrong)
        assert place.everything() == before
        place.rewrite(true)
        place.load_manifest(true)
        assert place.rows() == [(3,), (4,)]

    def test_a_part_that_is_gone_leaves_everything_as_it_was(self, place: Place) -> None:
        place.load(ids(1, 2))
        before = place.everything()
        manifest = place.land(pa.table({"id": pa.array([5], pa.int64()), "note": ["n"]}))
        place.remove(manifest.parts[-1])
        with pytest.raises((PartCorrupt, WarehouseError)):
            place.load_manifest(manifest)
        assert place.everything() == before

    def test_names_are_quoted(self, place: Place) -> None:
        odd = 'a"b; drop table x; --'
        place.table = replace(place.table, identifier=odd)
        place.load(pa.table({odd: [1], "select": [2]}))
        assert [row.rows for row in ledger(place.warehouse, place.table)] == [1]

    def test_a_mart_is_read_in_order_with_the_columns_asked_for(self, place: Place) -> None:
        place.load(ids(3, 1, 2, note=["c", "a", None]))
        schema, identifier = place.table.schema, place.table.identifier
        read = place.warehouse.read(schema, identifier, ["note", "id"], ["note"])
        assert read.to_pydict() == {"note": ["a", "c", None], "id": [1, 3, 2]}
        assert read.column_names == ["note", "id"]
        with pytest.raises(RelationNotFound, match="nowhere"):
            place.warehouse.read(schema, "nowhere", None, ["id"])
        with pytest.raises(RelationNotFound, match="typo"):
            place.warehouse.read(schema, identifier, ["typo"], ["id"])
