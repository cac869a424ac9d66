"""What does not fit refuses a batch, becomes NULL, or is set aside with its row."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import bad_values
from millrace.bad_values import RECORDS, UNLIMITED, Limits, Misfit, Sieve
from millrace.catalog import IngestTable, OnBadValue, Pii
from millrace.checksums.columns import Tally, together
from millrace.errors import ValueDoesNotFit
from millrace.testing import declared

AT = datetime(2026, 10, 1, 8)
ROWS = pa.record_batch(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "note": ["fine", None, "long"],
        "updated_at": pa.array([AT] * 3, pa.timestamp("us")),
    }
)
BAD_NOTE = Misfit(1, "note", r"'\xff' is not UTF-8", r"\xff", counted=b"\xff")
BAD_ID = Misfit(2, "id", "'x' is no number", "x", counted=b"x")


def unchanged(keys: pa.RecordBatch) -> pa.RecordBatch:
    return keys


def sieve(policy: str, table: IngestTable | None = None, schema: pa.Schema = ROWS.schema) -> Sieve:
    table = table or declared()
    options = table.options.model_copy(update={"on_bad_value": OnBadValue(policy)})
    return Sieve(replace(table, options=options), schema)


def records(of: Sieve) -> list[dict[str, Any]]:
    aside = of.set_aside(unchanged)
    assert aside is not None
    assert aside.records.schema == RECORDS
    found: list[dict[str, Any]] = aside.records.to_pylist()
    return found


@pytest.mark.parametrize("policy", ["fail", "null", "quarantine"])
def test_rows_that_fit_pass_as_they_are(policy: str) -> None:
    passing = sieve(policy)
    assert passing.sift(ROWS, []) is ROWS
    assert passing.rows == 0
    assert passing.set_aside(unchanged) is None
    assert not list(passing.told())


def test_what_fails_lists_every_value() -> None:
    with pytest.raises(ValueDoesNotFit) as refused:
        sieve("fail").sift(ROWS, [BAD_NOTE, BAD_ID])
    assert refused.value.message == (
        "2 values of mysql.nps do not fit their column's type:\n"
        "  column note: '\\xff' is not UTF-8\n"
        "  column id: 'x' is no number"
    )


def test_a_long_list_is_cut_and_counted() -> None:
    with pytest.raises(ValueDoesNotFit, match=r"1,000 values[\s\S]*and 980 more"):
        sieve("fail").sift(ROWS, [BAD_NOTE] * 1000)


def test_what_becomes_null_is_told_by_column() -> None:
    sifted = sieve("null")
    found = sifted.sift(ROWS, [replace(BAD_NOTE, row=2)])
    assert found["note"].to_pylist() == ["fine", None, None]
    assert found.schema == ROWS.schema
    assert sifted.rows == 0
    (told,) = sifted.told()
    assert told == "mysql.nps: column note: 1 value did not fit; landed as NULL"


@pytest.mark.parametrize("column", ["id", "updated_at"])
def test_nothing_in_a_key_or_cursor_becomes_null(column: str) -> None:
    with pytest.raises(ValueDoesNotFit, match=f"1 value .*cannot become NULL.*\n  column {column}"):
        sieve("null").sift(ROWS, [BAD_NOTE, replace(BAD_ID, column=column)])


def test_a_row_is_set_aside_with_a_record_for_each_of_its_misfits() -> None:
    sifted = sieve("quarantine")
    again = replace(BAD_NOTE, column="updated_at", reason="no date", value="0000-00-00")
    assert (
        sifted.sift(ROWS, [BAD_NOTE, again]).to_pylist()
        == ROWS.filter([True, False, True]).to_pylist()
    )
    sifted.sift(ROWS, [BAD_ID])
    assert sifted.rows == 2
    assert records(sifted) == [
        {
            "row_key": '{"id": 2}',
            "row_cursor": None,
            "column_name": "note",
            "reason": "'\\xff' is not UTF-8",
            "value_text": "\\xff",
        },
        {
            "row_key": '{"id": 2}',
            "row_cursor": None,
            "column_name": "updated_at",
            "reason": "no date",
            "value_text": "0000-00-00",
        },
        # A key that is bad itself is shown as the source has it.
        {
            "row_key": '{"id": "x"}',
            "row_cursor": AT,
            "column_name": "id",
            "reason": "'x' is no number",
            "value_text": "x",
        },
    ]
    assert len(list(sifted.told())) == 3


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (pa.array([Decimal(2**64 - 1)], pa.decimal128(20, 0)), 2**64 - 1),
        (pa.array([Decimal("0.50")], pa.decimal128(9, 2)), "0.50"),
        (pa.array([b"\x00\xff"]), "00ff"),
        (pa.array([date(2026, 10, 1)]), "2026-10-01"),
        (pa.array(['a"b\n']), 'a"b\n'),
        # Python has no year 0.
        (pa.array([-719_528], pa.int32()).view(pa.date32()), "0000-01-01"),
    ],
    ids=["unsigned", "decimal", "binary", "date", "text", "year 0"],
)
def test_a_key_of_any_type_is_json(values: pa.Array, shown: Any) -> None:
    batch = pa.record_batch({"id": values, "note": ["x"]})
    sifted = sieve("quarantine", declared(cursor=None), batch.schema)
    sifted.sift(batch, [replace(BAD_NOTE, row=0)])
    (record,) = records(sifted)
    assert json.loads(record["row_key"]) == {"id": shown}


@pytest.mark.parametrize(
    "cursor",
    [
        pa.array([AT.replace(tzinfo=UTC)], pa.timestamp("us", "UTC")),
        pa.array([date(2026, 10, 1)]),
    ],
    ids=str,
)
def test_a_cursor_is_kept_without_its_zone(cursor: pa.Array) -> None:
    batch = pa.record_batch({"id": [1], "note": ["x"], "updated_at": cursor})
    sifted = sieve("quarantine", schema=batch.schema)
    sifted.sift(batch, [replace(BAD_NOTE, row=0)])
    (record,) = records(sifted)
    assert record["row_cursor"] == AT.replace(hour=8 if cursor.type != pa.date32() else 0)


def test_a_table_without_a_key_has_records_too() -> None:
    table = declared(cursor=None)
    table = replace(table, options=table.options.model_copy(update={"primary_key": ()}))
    sifted = sieve("quarantine", table)
    sifted.sift(ROWS, [BAD_NOTE])
    (record,) = records(sifted)
    assert (record["row_key"], record["row_cursor"]) == (None, None)


def test_no_personal_value_is_shown() -> None:
    table = declared(pii={"note": Pii.HASH, "id": Pii.HASH, "updated_at": Pii.MASK})
    secret = replace(BAD_NOTE, value="ann@example.com", reason="'ann@example.com' is not UTF-8")
    with pytest.raises(ValueDoesNotFit) as refused:
        sieve("fail", table).sift(ROWS, [secret])
    assert "ann@" not in str(refused.value)
    sifted = sieve("quarantine", table)
    sifted.sift(ROWS, [secret, replace(BAD_ID, value="ann@example.com")])
    hashed = sifted.set_aside(lambda keys: keys.set_column(0, "id", pa.array(["h", "h"])))
    assert hashed is not None
    assert hashed.records["row_key"].to_pylist() == ['{"id": "h"}', '{"id": "***"}']
    assert hashed.records["row_cursor"].null_count == 2
    assert "ann@" not in str(hashed.records.to_pylist())
    assert set(hashed.records["reason"].to_pylist()) == {
        "a personal value that does not fit string",
        "a personal value that does not fit int64",
    }


def test_too_many_rows_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bad_values, "MOST_ROWS", 2)
    sifted = sieve("quarantine")
    sifted.sift(ROWS, [BAD_NOTE, BAD_ID])
    with pytest.raises(ValueDoesNotFit, match="more than 2 rows"):
        sifted.sift(ROWS, [BAD_NOTE])
    # What becomes NULL has no such bound.
    nulls = sieve("null")
    for _ in range(3):
        nulls.sift(ROWS, [BAD_NOTE])


def test_texts_and_bytes_beyond_a_warehouses_limits_are_misfits() -> None:
    batch = pa.record_batch(
        {
            "id": pa.array([1, 2, 3, 4], pa.int64()),
            "note": ["ééé", "éé", None, ""],
            "data": pa.array([None, b"1234", b"12345", b""]),
            "email": ["a much longer text"] * 4,
        }
    )
    table = declared(cursor=None, pii={"email": Pii.HASH})
    limits = Limits(text_bytes=4, binary_bytes=4)
    sifted = sieve("quarantine", table, batch.schema)
    (found,) = sifted.within(limits, [batch])
    assert found["id"].to_pylist() == [2, 4]
    assert [(record["row_key"], record["reason"]) for record in records(sifted)] == [
        ('{"id": 1}', "more than the 4 bytes that the warehouse holds"),
        ('{"id": 3}', "more than the 4 bytes that the warehouse holds"),
    ]
    assert sieve("quarantine", table, batch.schema).within(UNLIMITED, [batch]) == [batch]
    # The warehouse itself refuses them.
    assert sieve("fail", table, batch.schema).within(limits, [batch]) == [batch]


@pytest.mark.parametrize(
    ("values", "shown", "says"),
    [
        (pa.array(["a\0b", "ab"]), "a\\x00b", "NUL"),
        (pa.array([-719_163, -719_162], pa.int32()).view(pa.date32()), "0000-12-31", "the year 1"),
        (
            pa.array([-62_135_596_800_000_001, -62_135_596_800_000_000]).view(pa.timestamp("us")),
            "0000-12-31 23:59:59.999999",
            "the year 1",
        ),
        (
            pa.array([-62_135_596_800_000_001, 0]).view(pa.timestamp("us", "UTC")),
            "0000-12-31 23:59:59.999999",
            "the year 1",
        ),
    ],
    ids=["text", "date", "timestamp", "moment"],
)
def test_what_a_warehouse_does_not_know_is_a_misfit(
    values: pa.Array, shown: str, says: str
) -> None:
    batch = pa.record_batch({"id": [1, 2], "value": values})
    sifted = sieve("quarantine", declared(cursor=None), batch.schema)
    (found,) = sifted.within(Limits(has_nul=False, has_year_0=False), [batch])
    assert found["id"].to_pylist() == [2]
    (record,) = records(sifted)
    assert record["value_text"] == shown
    assert says in record["reason"]
    everything, landed = Tally(batch.schema), Tally(batch.schema)
    everything.add(batch)
    landed.add(found)
    assert together([landed.checksums, sifted.checksums]) == everything.checksums


def test_a_record_batch_of_nothing_but_misfits_is_left_out() -> None:
    batch = pa.record_batch({"id": [1], "note": ["long"]})
    assert not list(sieve("quarantine", schema=batch.schema).within(Limits(3), [batch]))


def test_a_record_fits_every_warehouse() -> None:
    sifted = sieve("quarantine")
    sifted.sift(ROWS, [replace(BAD_NOTE, value="🎉\0" * 70_000)])
    (record,) = records(sifted)
    assert len(record["value_text"].encode()) <= 4096
    assert "\0" not in record["value_text"]


@given(
    st.lists(st.tuples(st.none() | st.text(max_size=6), st.booleans()), min_size=1),
    st.sampled_from(["null", "quarantine"]),
)
def test_what_is_landed_and_what_is_not_are_what_the_source_counts(
    rows: list[tuple[str | None, bool]], policy: str
) -> None:
    batch = pa.record_batch(
        {
            "id": pa.array(range(len(rows)), pa.int64()),
            # What the type cannot hold is NULL already.
            "note": pa.array([None if is_bad else text for text, is_bad in rows], pa.string()),
        }
    )
    misfits = [
        Misfit(row, "note", "bad", text, counted=text.encode())
        for row, (text, is_bad) in enumerate(rows)
        if is_bad and text is not None
    ]
    sifted = sieve(policy, declared(cursor=None), batch.schema)
    landed = Tally(batch.schema)
    landed.add(sifted.sift(batch, misfits))
    found = together([landed.checksums, sifted.checksums])
    kept = [text for text, is_bad in rows if text is not None]
    assert found["note"].values == len(kept)
    assert found["note"].total == sum(zlib.crc32(text.encode()) for text in kept)
    assert found["id"].values == len(rows)
