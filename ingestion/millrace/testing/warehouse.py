"""One contract for every warehouse."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from millrace.audit.read_rows import ReadRows
from millrace.bad_values import SetAside
from millrace.batch import EVERY_KEY, WHOLE_TABLE, Batch, DeliveredFile, Interval, KeyRange
from millrace.catalog import SchemaPolicy
from millrace.checksums.columns import Tally
from millrace.checksums.digests import in_block, keys_of_block
from millrace.errors import (
    CountMismatch,
    PartCorrupt,
    RelationNotFound,
    SchemaConflict,
    WarehouseError,
)
from millrace.testing.place import (
    DAY,
    INTERVAL,
    NEXT_DAY,
    Place,
    aside,
    batches_of,
    comparable,
    ids,
    ledger,
)
from millrace.warehouses.base import LEDGER, LedgerRow, quarantine_of

SECOND = Interval(NEXT_DAY, NEXT_DAY + timedelta(days=1))
THIRD = Interval(NEXT_DAY + timedelta(days=1), NEXT_DAY + timedelta(days=2))
SEEN = {
    "naive": (pa.timestamp("us"), None, lambda moment: moment.replace(tzinfo=None)),
    "aware": (pa.timestamp("us", "UTC"), None, lambda moment: moment),
    "in New York": (
        pa.timestamp("us"),
        "America/New_York",
        lambda moment: moment.astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None),
    ),
}


VALUES = pa.table(
    {
        "id": pa.array([-(2**63), 0, 2**63 - 1], pa.int64()),
        "whole": pa.array([Decimal(2**64 - 1), Decimal(0), Decimal(7)], pa.decimal128(20, 0)),
        "decimal": pa.array(
            [Decimal("0.0000000001"), Decimal("-0.5"), Decimal(0)], pa.decimal128(38, 10)
        ),
        "text": pa.array(["좋아요 🎉 '\"\\|", "", "a|b"], pa.string()),
        "date": pa.array([date(1000, 1, 1), date(9999, 12, 31), date(2026, 1, 1)], pa.date32()),
        "aware": pa.array(
            [datetime(1000, 1, 1, 1, tzinfo=UTC), DAY, NEXT_DAY], pa.timestamp("us", "UTC")
        ),
        "naive": pa.array([datetime(9999, 12, 31, 23, 59, 59, 9), None, None], pa.timestamp("us")),
        "bool": pa.array([True, False, None], pa.bool_()),
        "int16": pa.array([-32768, 0, None], pa.int16()),
        "nothing": pa.array([None, "", "x"], pa.string()),
    }
)
ONLY_ID = comparable(pa.schema([("id", pa.int32())]), "id")


def edited(
    hours: Mapping[int, int], *, score: int = 0, deleted: datetime | None = None
) -> pa.Table:
    """Rows with these ids, each edited so many hours after ``DAY``."""
    moments = [DAY.replace(tzinfo=None) + timedelta(hours=hour) for hour in hours.values()]
    columns = {
        "score": pa.array([score] * len(hours), pa.int32()),
        "updated_at": pa.array(moments, pa.timestamp("us")),
    }
    if deleted is not None:
        mark = deleted.replace(tzinfo=None)
        columns["_deleted_at"] = pa.array([mark] * len(hours), pa.timestamp("us"))
    return ids(*hours, **columns)


def correct(place: Place, rows: pa.Table, at: datetime = DAY) -> LedgerRow:
    """Land and load a correction."""
    batch = Batch("mysql.nps", corrected_at=at)
    return place.load_manifest(place.land(rows, batch=batch))


def current(place: Place) -> dict[int, int]:
    """The score of each row that is there now."""
    keys = [(str(key),) for (key,) in place.rows()]
    with place.warehouse.by_key(place.table, ONLY_ID, WHOLE_TABLE) as loaded:
        rows = loaded.current(sorted(set(keys)))
    return dict(zip(rows["id"].to_pylist(), rows["score"].to_pylist(), strict=True))


def keys_of(place: Place, interval: Interval = WHOLE_TABLE) -> set[str]:
    """The keys that are compared of an interval."""
    with place.warehouse.by_key(place.table, ONLY_ID, interval) as loaded:
        return {key for row in loaded.keyed(None) for key in row.key}


class WarehouseContract:
    """The tests that every warehouse must pass.

    A subclass defines the fixture ``place``, without a raw table.

    Attributes:
        last_step: The function of the last step before a load commits.
    """

    last_step = "millrace.warehouses.sql._write_ledger"

    def test_a_batch_arrives_with_its_ledger_row(self, place: Place) -> None:
        manifest = place.land(ids(1, 2, 3))
        row = place.load_manifest(manifest)
        assert place.rows() == [(1,), (2,), (3,)]
        assert ledger(place.warehouse, place.table) == [row]
        assert (row.rows, row.interval, row.manifest_url) == (3, INTERVAL, manifest.url)
        assert row.extracted_at == manifest.extracted_at

    def test_a_query_gives_its_rows(self, place: Place) -> None:
        place.load(ids(1, 2, 3))
        counted = f"SELECT COUNT(*), MAX(id) FROM {place.raw()}"
        assert place.warehouse.query(counted) == [(3, 3)]

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
            f"SELECT {', '.join(map(place.quote, values))} FROM {place.raw()} "
            f"WHERE {place.quote('bool')}"
        )
        assert found == [tuple(value for _, value in values.values())]
        nulls = place.query(
            f"SELECT {', '.join(map(place.quote, values))} FROM {place.raw()} "
            f"WHERE {place.quote('bool')} IS NULL"
        )
        assert nulls == [(None,) * len(values)]

    @pytest.mark.parametrize("key", ["id", "whole", "text id", "date decimal aware"])
    def test_a_row_has_the_same_digest_and_bucket_as_at_its_source(
        self, place: Place, key: str
    ) -> None:
        place = place.with_options(cursor=None)
        place.load(VALUES, WHOLE_TABLE)
        assert place.warehouse.comparable(place.table, VALUES.schema) == VALUES.schema
        compared = comparable(VALUES.schema, *key.split())
        read = ReadRows(lambda: nullcontext(batches_of(VALUES)), compared)
        with place.warehouse.by_key(place.table, compared, WHOLE_TABLE) as loaded:
            assert set(loaded.keyed(None)) == set(read.keyed(None))
            assert loaded.fingerprints() == read.fingerprints()
            for bucket in read.fingerprints():
                assert set(loaded.keyed([bucket])) == set(read.keyed([bucket]))

    def test_only_the_current_versions_inside_the_interval_are_compared(self, place: Place) -> None:
        place.load(edited({1: 1, 2: 2}))
        place.load(edited({2: 30, 3: 31}), SECOND)
        assert keys_of(place) == {"1", "2", "3"}
        assert keys_of(place, INTERVAL) == {"1"}
        assert keys_of(place, SECOND) == {"2", "3"}

    def test_whole_numbers_are_bits_of_blocks(self, place: Place) -> None:
        keys = [-(2**63), -64, -32, -31, -1, 0, 1, 31, 32, 2**62]
        place = place.with_options(cursor=None)
        place.load(pa.table({"id": pa.array(keys, pa.int64())}), WHOLE_TABLE)
        compared = comparable(pa.schema([("id", pa.int64())]), "id")
        for after, through in ((None, None), (("-32",), ("31",))):
            with place.warehouse.by_key(place.table, compared, WHOLE_TABLE) as loaded:
                blocks = loaded.blocks(KeyRange(after, through))
            found = [int(key) for item in blocks.items() for (key,) in keys_of_block(*item)]
            assert sorted(found) == (keys if after is None else [-31, -1, 0, 1, 31])

    def test_a_correction_replaces_nothing_but_itself(self, place: Place) -> None:
        place.load(edited({1: 1, 2: 2}))
        for _ in range(2):
            correct(place, edited({1: 1}, score=7))
        assert len(place.rows()) == 3
        _, correction = ledger(place.warehouse, place.table)
        assert (correction.is_correction, correction.rows) == (True, 1)
        assert current(place) == {1: 7, 2: 0}
        # What is read again as a whole takes the place of corrections, too.
        place.reload(edited({1: 1}), Interval(None, NEXT_DAY))
        assert len(ledger(place.warehouse, place.table)) == 1

    def test_a_row_that_is_marked_as_deleted_is_gone_until_it_is_there_again(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        place = place.with_options(deletes="keys")
        place.load(edited({1: 1, 2: 20, 3: 3}))
        correct(place, edited({2: 20, 3: 3}, deleted=DAY))
        assert current(place) == {1: 0}
        with place.warehouse.by_key(place.table, ONLY_ID, WHOLE_TABLE) as loaded:
            assert loaded.blocks(EVERY_KEY) == {0: in_block(1)[1]}
            assert loaded.batch_rows()["correction_20261001T000000Z"] == 2
        # One comes again with a later batch, the other as it was long before.
        place.load(edited({3: 40}), SECOND)
        assert current(place) == {1: 0, 3: 0}
        # Nobody is told of a column that is Millrace's own.
        assert not _told(caplog)
        correct(place, edited({2: 5}, score=7), NEXT_DAY)
        assert current(place) == {1: 0, 2: 7, 3: 0}
        counts = {row.batch_id: row.rows for row in ledger(place.warehouse, place.table)}
        with place.warehouse.by_key(place.table, ONLY_ID, WHOLE_TABLE) as loaded:
            assert loaded.batch_rows() == counts
        assert "2 later versions are gone" in caplog.text

    def test_what_somebody_changed_in_a_raw_table_is_found_and_undone(self, place: Place) -> None:
        rows = edited({1: 1, 2: 2, 3: 3})
        tally = Tally(rows.schema)
        for batch in batches_of(rows):
            tally.add(batch)
        manifest = place.land(rows, checksums=lambda: tally.checksums)
        row = place.load_manifest(manifest)

        def differing() -> Sequence[str]:
            return place.warehouse.differing_columns(place.table, manifest, row, place.landing)

        assert differing() == []
        place.query(f"UPDATE {place.raw()} SET score = 9 WHERE id = 2")
        assert differing() == ["score"]
        place.query(f"DELETE FROM {place.raw()} WHERE id = 1")
        place.query(f"INSERT INTO {place.raw()} SELECT * FROM {place.raw()} WHERE id = 3")
        with place.warehouse.by_key(place.table, ONLY_ID, WHOLE_TABLE) as loaded:
            assert loaded.doubled() == [(row.batch_id, ("3",))]
            assert loaded.batch_rows() == {row.batch_id: 3}
        place.warehouse.discard(place.table, row.batch_id)
        assert place.rows() == []
        assert ledger(place.warehouse, place.table) == []

    def test_a_batch_without_rows_makes_the_table_and_is_remembered(self, place: Place) -> None:
        assert place.load(ids()).rows == 0
        assert place.rows() == []
        assert len(ledger(place.warehouse, place.table)) == 1

    def test_a_table_is_made_before_its_first_load_and_once(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        columns = pa.schema([("id", pa.int32()), ("note", pa.string())])
        assert place.warehouse.create(place.table, columns)
        assert not place.warehouse.create(place.table, columns)
        assert place.rows("id", "note") == []
        assert ledger(place.warehouse, place.table) == []
        assert place.warehouse.raw_types(place.table) == dict(
            zip(columns.names, columns.types, strict=True)
        )
        place.load(ids(1, note=["n"]))
        assert not _told(caplog)
        assert not place.warehouse.create(place.table, columns)
        assert place.rows("id", "note") == [(1, "n")]

    @pytest.mark.parametrize(
        ("columns", "what"),
        [
            ({"id": pa.int32()}, "note is gone"),
            ({"id": pa.int32(), "note": pa.string(), "on": pa.date32()}, "on .* is new"),
            ({"id": pa.int32(), "note": pa.int32()}, "column note was string"),
        ],
    )
    def test_a_table_that_is_there_with_other_columns_is_refused(
        self, place: Place, columns: dict[str, pa.DataType], what: str
    ) -> None:
        place.load(ids(1, note=["n"]))
        before = place.everything()
        with pytest.raises(SchemaConflict, match=what):
            place.warehouse.create(place.table, pa.schema(columns.items()))
        assert place.everything() == before

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

    def test_a_file_is_loaded_once(self, place: Place) -> None:
        files = tuple(DeliveredFile(name, "tag", 9, DAY) for name in ("a.csv", "b.csv"))
        first = Batch("mysql.nps", Interval(None, DAY), files=files[:1])
        row = place.load_manifest(place.land(ids(1), batch=first))
        assert row.taken == {files[0].fingerprint}
        beside = Batch("mysql.nps", INTERVAL, files=files)
        with pytest.raises(WarehouseError, match=r"another one: a\.csv"):
            place.load_manifest(place.land(ids(1, 2), batch=beside))
        assert ledger(place.warehouse, place.table) == [row]
        instead = Batch("mysql.nps", Interval(None, NEXT_DAY), files=files)
        place.load_manifest(place.land(ids(1, 2), batch=instead))
        assert place.rows() == [(1,), (2,)]
        (row,) = ledger(place.warehouse, place.table)
        assert row.taken == {file.fingerprint for file in files}

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
            "millrace.warehouses.loads._now", lambda: DAY - timedelta(hours=next(hours))
        )
        stamps = []
        for days in range(4):
            day = Interval(DAY + timedelta(days=days), DAY + timedelta(days=days + 1))
            stamps.append(place.load(ids(days), day).loaded_at)
        assert stamps == sorted(set(stamps))

    def test_the_raw_table_grows_with_the_source_and_that_is_told(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.load(ids(1))
        assert not _told(caplog)
        wider = pa.table({"id": pa.array([2**40], pa.int64()), "note": ["new"]})
        place.load(wider, SECOND)
        assert place.rows("id", "note") == [(1, None), (2**40, "new")]
        new, widened = _told(caplog)
        told = [row.schema_changes for row in ledger(place.warehouse, place.table)]
        assert told == [None, f"{new}\n{widened}"]
        assert "the new column note (string)" in new
        assert "column id was int32" in widened
        assert "widened to int64" in widened
        assert place.warehouse.raw_types(place.table) == {"id": pa.int64(), "note": pa.string()}

    def test_a_column_that_is_gone_stays_with_null_and_that_is_told(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.load(ids(1, note=["old"]))
        place.load(ids(2), SECOND)
        assert place.rows("id", "note") == [(1, "old"), (2, None)]
        (told,) = _told(caplog)
        assert "no longer has the column note" in told
        assert "`millrace reload mysql.nps` removes it" in told

    def test_a_renamed_column_is_a_drop_and_an_add_and_that_is_told(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.load(ids(1, note=["old"]))
        place.load(ids(2, remark=["new"]), SECOND)
        assert place.rows("id", "note", "remark") == [(1, "old", None), (2, None, "new")]
        added, renamed = _told(caplog)
        assert "the new column remark" in added
        assert "renamed to remark: that is a drop and an add" in renamed

    def test_a_narrower_type_fits_the_column_as_it_is(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        place.load(pa.table({"id": pa.array([2**40], pa.int64())}))
        place.load(ids(1), SECOND)
        assert place.rows() == [(1,), (2**40,)]
        assert place.warehouse.raw_types(place.table) == {"id": pa.int64()}
        assert not _told(caplog)

    @pytest.mark.parametrize("schema", list(SchemaPolicy))
    def test_a_batch_that_does_not_fit_leaves_everything_as_it_was(
        self, place: Place, schema: SchemaPolicy
    ) -> None:
        place = place.with_options(schema=schema)
        place.load(ids(1, 2, seen=[True, False]))
        before = place.everything()
        with pytest.raises(SchemaConflict) as refused:
            place.load(ids(3, seen=["yes"], note=["n"]), SECOND)
        assert place.everything() == before
        assert "`millrace reload mysql.nps`" in refused.value.fix

    @pytest.mark.parametrize(
        "data",
        [
            ids(3, note=["new"]),
            pa.table({"id": pa.array([3], pa.int64())}),
            pa.table({"id": pa.array([3], pa.int16())}),
            pa.table({"other": pa.array([3], pa.int32())}),
        ],
        ids=["new", "wider", "narrower", "gone"],
    )
    def test_frozen_columns_refuse_every_difference(self, place: Place, data: pa.Table) -> None:
        place = place.with_options(schema="freeze")
        place.load(ids(1))
        place.load(ids(2), SECOND)
        before = place.everything()
        with pytest.raises(SchemaConflict, match="schema: freeze"):
            place.load(data, THIRD)
        assert place.everything() == before

    @pytest.mark.parametrize(
        ("before", "after", "both"),
        [
            (pa.array([7, None], pa.int32()), pa.array(["x"]), {"7", None, "x"}),
            (pa.array(["7", "-8"]), pa.array([9], pa.int64()), {7, -8, 9}),
            (pa.array([1.5, 2.0]), pa.array([2**53], pa.int64()), None),
            (pa.array([1.0, 2.0]), pa.array([2**53], pa.int64()), {1, 2, 2**53}),
            (pa.array(["7", "07"]), pa.array([9], pa.int64()), None),
            (pa.array(["7", "seven"]), pa.array([9], pa.int64()), None),
        ],
        ids=[
            *("a number to a text", "a text to a number", "a fraction to a whole number"),
            *("whole doubles to a whole number", "a text of another form", "a text that is none"),
        ],
    )
    def test_a_column_that_may_evolve_is_rewritten_if_every_value_fits(
        self, place: Place, before: pa.Array, after: pa.Array, both: set[Any] | None
    ) -> None:
        place = place.with_options(schema="evolve")
        place.load(ids(1, 2, value=before))
        as_it_was = place.everything()
        if both is None:
            with pytest.raises(SchemaConflict, match="column value was") as refused:
                place.load(ids(3, value=after), SECOND)
            assert "`millrace reload mysql.nps`" in refused.value.fix
            assert place.everything() == as_it_was
        else:
            place.load(ids(3, value=after), SECOND)
            assert {value for (value,) in place.rows("value")} == both
            assert place.warehouse.raw_types(place.table)["value"] == after.type

    def test_what_a_batch_replaces_need_not_fit_the_new_type(self, place: Place) -> None:
        place = place.with_options(schema="evolve", cursor=None)
        place.load(ids(1, 2, value=["7", "seven"]), WHOLE_TABLE)
        place.load(ids(1, 2, value=pa.array([7, 8], pa.int64())), WHOLE_TABLE)
        assert place.rows("value") == [(7,), (8,)]

    def test_a_reload_puts_a_new_table_in_the_place_of_the_old_one(self, place: Place) -> None:
        place.load(ids(1, 2, note=["a", "b"]))
        last = place.load(ids(3, note=["c"]), SECOND)
        everything = Interval(None, SECOND.end)
        data = pa.table({"id": ["one", "three"], "score": pa.array([9, 7], pa.int16())})
        row = place.reload(data, everything)
        assert place.rows("id", "score") == [("one", 9), ("three", 7)]
        assert place.warehouse.raw_types(place.table) == {"id": pa.string(), "score": pa.int16()}
        assert ledger(place.warehouse, place.table) == [row]
        assert (row.interval, row.rows) == (everything, 2)
        assert row.loaded_at > last.loaded_at
        assert place.relations() == {place.table.identifier, LEDGER}
        # What follows goes on as ever.
        place.load(pa.table({"id": ["four"], "score": pa.array([1], pa.int16())}), THIRD)
        assert place.rows() == [("four",), ("one",), ("three",)]
        assert [row.interval for row in ledger(place.warehouse, place.table)] == [everything, THIRD]

    def test_a_reload_is_stamped_later_than_every_load_though_the_clock_steps_back(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = place.load(ids(1))
        monkeypatch.setattr("millrace.warehouses.loads._now", lambda: DAY)
        assert place.reload(ids(1)).loaded_at > before.loaded_at
        assert place.query(f"SELECT COUNT(*) FROM {place.raw()}") == [(1,)]

    def test_a_table_that_was_never_loaded_is_reloaded_too(self, place: Place) -> None:
        row = place.reload(ids(1, 2))
        assert place.rows() == [(1,), (2,)]
        assert ledger(place.warehouse, place.table) == [row]

    def test_a_reload_leaves_the_other_tables_of_its_schema(self, place: Place) -> None:
        other = replace(place.table, name="users", identifier="users")
        there = place.land(ids(7), batch=Batch(other.key, WHOLE_TABLE))
        kept = place.warehouse.load(other, there, place.landing)
        place.load(ids(1))
        place.reload(ids(2))
        assert ledger(place.warehouse, other) == [kept]
        assert place.query(f"SELECT id FROM {place.raw(other)}") == [(7,)]

    def test_a_reload_that_fails_leaves_everything_as_it_was(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.load(ids(1, 2))
        place.load(ids(3), SECOND)
        before = place.everything()
        gone = place.land(pa.table({"id": ["five"]}))
        place.remove(gone.parts[-1])
        with pytest.raises((PartCorrupt, WarehouseError)):
            place.warehouse.reload(place.table, gone, place.landing)
        assert place.everything() == before
        for name in ("_BATCH_ID", "ID"):
            with pytest.raises(SchemaConflict):
                place.reload(ids(1, **{name: [1]}))
            assert place.everything() == before

        def fail(*_: Any) -> None:
            raise CountMismatch("The ledger is full.", fix="Empty it.")

        # The last step before the commit.
        monkeypatch.setattr(self.last_step, fail)
        with pytest.raises(CountMismatch):
            place.reload(pa.table({"id": ["five"]}))
        assert place.everything() == before

    def test_a_table_that_millrace_did_not_make_is_not_replaced(self, place: Place) -> None:
        place.load(ids(1))
        theirs = replace(place.table, identifier="theirs")
        place.query(f"CREATE TABLE {place.raw(theirs)} (id INTEGER)")
        place.table = theirs
        with pytest.raises(SchemaConflict, match="Millrace did not make it"):
            place.warehouse.create(place.table, ids().schema)
        with pytest.raises(SchemaConflict, match="Millrace did not make it"):
            place.reload(ids(2))
        assert place.query(f"SELECT COUNT(*) FROM {place.raw(theirs)}") == [(0,)]

    def test_the_columns_of_tables_and_views_are_told(self, place: Place) -> None:
        place.load(ids(1, note=["a"], price=pa.array([Decimal("1.50")], pa.decimal128(10, 2))))
        schema = place.table.schema
        place.query(f"CREATE VIEW {place.quote(schema)}.seen AS SELECT note FROM {place.raw()}")
        found = place.warehouse.columns(schema, place.table.identifier)
        assert list(found) == ["id", "note", "price", "_batch_id", "_loaded_at"]
        assert "(10,2)" in found["price"]
        assert list(place.warehouse.columns(schema, "seen")) == ["note"]
        assert place.warehouse.columns(schema, "nowhere") == {}

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

    def test_rows_that_were_set_aside_go_to_a_table_of_their_own(self, place: Place) -> None:
        row = place.load_manifest(place.land(ids(1, 2), set_aside=lambda: aside("3", "4")))
        assert (row.rows, row.quarantined) == (2, 2)
        assert ledger(place.warehouse, place.table) == [row]
        assert place.rows() == [(1,), (2,)]
        quarantine = quarantine_of(place.table)
        assert list(place.warehouse.columns(quarantine.schema, quarantine.identifier)) == [
            *("row_key", "row_cursor", "column_name", "reason", "value_text"),
            *("_batch_id", "_loaded_at"),
        ]
        found = place.query(f"SELECT * FROM {place.raw(quarantine)} ORDER BY row_key")
        record = (DAY.replace(tzinfo=None), "note", "is not UTF-8", "\\xff", row.batch_id)
        assert [values[:-1] for values in found] == [("3", *record), ("4", *record)]
        assert {values[-1].replace(tzinfo=UTC) for values in found} == {row.loaded_at}

    def test_a_batch_without_such_rows_makes_no_such_table(self, place: Place) -> None:
        assert place.load(ids(1)).quarantined == 0
        assert quarantine_of(place.table).identifier not in place.relations()

    def test_rows_that_were_set_aside_are_replaced_with_their_batch(self, place: Place) -> None:
        first = place.land(ids(1), set_aside=lambda: aside("2", "3"))
        second = place.land(ids(4), SECOND, set_aside=lambda: aside("5"))
        for manifest in (first, second, first):
            place.load_manifest(manifest)
        batches = first.batch.id, second.batch.id
        kept = [("2", batches[0]), ("3", batches[0]), ("5", batches[1])]
        assert place.quarantined() == kept
        place.load(ids(1, 2, 3))
        assert place.quarantined() == [("5", batches[1])]
        place.load(ids(1), Interval(None, SECOND.end))
        assert place.quarantined() == []

    def test_a_lookback_replaces_what_was_set_aside_of_the_end(self, place: Place) -> None:
        cursor = {"column": "at", "lookback": {"count": 6, "period": "hour"}}
        place = place.with_options(cursor=cursor)
        hour = timedelta(hours=1)
        data = pa.table({"id": ["a"], "at": pa.array([DAY.replace(tzinfo=None)])})
        early, late = aside("early", at=DAY + hour), aside("late", at=DAY + 20 * hour)
        both = SetAside(2, pa.concat_tables([early.records, late.records]))
        place.load_manifest(place.land(data, set_aside=lambda: both))
        again = Interval(NEXT_DAY - 6 * hour, NEXT_DAY + 6 * hour)
        manifest = place.land(data.slice(0, 0), again, set_aside=lambda: late)
        for _ in range(2):
            place.load_manifest(manifest)
            assert [key for key, _ in place.quarantined()] == ["early", "late"]
            found = ledger(place.warehouse, place.table)
            assert [row.quarantined for row in found] == [1, 1]

    def test_a_reload_replaces_all_that_was_set_aside(self, place: Place) -> None:
        place.load_manifest(place.land(ids(1), set_aside=lambda: aside("2")))
        everything = place.land(ids(1, 2), Interval(None, SECOND.end), set_aside=lambda: aside("3"))
        place.warehouse.reload(place.table, everything, place.landing)
        assert place.quarantined() == [("3", everything.batch.id)]
        place.reload(ids(1, 2, 3), Interval(None, SECOND.end))
        assert place.quarantined() == []

    def test_many_rows_are_set_aside(self, place: Place) -> None:
        keys = [f"{number:05d}" for number in range(1_234)]
        place.load_manifest(place.land(ids(), set_aside=lambda: aside(*keys)))
        assert [key for key, _ in place.quarantined()] == keys

    def test_a_record_that_is_gone_leaves_everything_as_it_was(self, place: Place) -> None:
        place.load(ids(1, 2))
        before = place.everything()
        manifest = place.land(ids(3), set_aside=lambda: aside("4"))
        place.remove(manifest.quarantine[0])
        with pytest.raises((PartCorrupt, WarehouseError)):
            place.load_manifest(manifest)
        assert place.everything() == before

    def test_names_are_quoted(self, place: Place) -> None:
        odd = 'a"b; drop table x; --'
        place.table = replace(place.table, identifier=odd)
        data = pa.table({odd: [1], "select": [2]})
        place.load(data)
        place.reload(data)
        assert [row.rows for row in ledger(place.warehouse, place.table)] == [1]
        assert place.rows(odd, "select") == [(1, 2)]

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


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What Millrace itself warns of: what else is logged hangs on the tests that ran before."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("millrace") and record.levelno >= logging.WARNING
    ]
