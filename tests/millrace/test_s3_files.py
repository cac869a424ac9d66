"""Files in S3: which ones, how they are read, and what is refused."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from millrace.bad_values import SetAside
from millrace.batch import WHOLE_TABLE, DeliveredFile
from millrace.catalog import OnBadValue
from millrace.errors import (
    SourceFailed,
    SourceMismatch,
    SourceRefused,
    ValueDoesNotFit,
)
from millrace.sources.s3_files import vectors
from millrace.sources.s3_files.options import Column, Files
from millrace.sources.s3_files.texts import text_converter
from redshift_standin.s3 import S3Server
from tests.millrace.deliveries import Partner, declared, written

COLUMNS = {"id": "integer", "note": {"type": "string", "optional": True}}


@pytest.fixture
def partner(s3_server: S3Server, bucket: str) -> Partner:
    return Partner(s3_server, bucket)


def options(partner: Partner, name: str, **more: Any) -> dict[str, Any]:
    return {"files": f"s3://{partner.bucket}/{name}", "columns": COLUMNS, **more}


def test_a_star_stands_for_no_slash_and_two_for_any() -> None:
    def found(pattern: str) -> list[str]:
        keys = ["a.csv", "x/a.csv", "x/y/a.csv", "x/b.csv", "x/a.csv.gz", "x/[a].csv"]
        files = Files.of(f"s3://partner/{pattern}")
        return [key for key in keys if files.match(key)]

    assert found("*.csv") == ["a.csv"]
    assert found("x/*.csv") == ["x/a.csv", "x/b.csv", "x/[a].csv"]
    assert found("**/a.csv") == ["a.csv", "x/a.csv", "x/y/a.csv"]
    assert found("x/**") == ["x/a.csv", "x/y/a.csv", "x/b.csv", "x/a.csv.gz", "x/[a].csv"]
    assert found("x/[ab].csv") == ["x/a.csv", "x/b.csv"]
    assert found("x/[!a].csv") == ["x/b.csv"]
    assert found("x/?.csv") == ["x/a.csv", "x/b.csv"]
    assert found("x/[[]a].csv") == ["x/[a].csv"]


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("*.csv", ""), ("a/b*/c.csv", "a"), ("a/b/**/c.csv", "a/b"), ("a/b.csv", "a")],
)
def test_only_the_folder_that_all_files_share_is_listed(pattern: str, folder: str) -> None:
    assert Files.of(f"s3://partner/{pattern}").folder == folder


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0*?["), min_size=1))
def test_a_pattern_without_wild_cards_is_one_key(key: str) -> None:
    assert Files.of(f"s3://partner/{key}").match(key)


@given(st.text(), st.text(), st.integers(0), st.datetimes(timezones=st.just(UTC)))
def test_a_file_written_again_is_another_one_of_the_same_name(
    name: str, version: str, size: int, moment: datetime
) -> None:
    file = DeliveredFile(name, version, size, moment)
    assert DeliveredFile.from_json(file.to_json()) == file
    again = DeliveredFile(name, f"{version}!", size, moment)
    assert again.fingerprint != file.fingerprint
    assert again.fingerprint[:6] == file.fingerprint[:6]


TYPES = [
    "string",
    "integer",
    "double",
    "decimal(9,3)",
    "decimal(38,0)",
    "boolean",
    "date",
    "datetime",
    "timestamp",
]
TEXTS = st.one_of(
    st.none(),
    st.text(max_size=4),
    st.from_regex(r"[+-]?[0-9]{1,20}(\.[0-9]{0,8})?", fullmatch=True),
    st.sampled_from(["true", "True", "false", "1", "0x1F", " 1", "1 ", "1e3", "-0", "NaN", "inf"]),
    st.from_regex(
        r"([12][0-9]{3}|0000|9999)-[01][0-9]-[0-3][0-9]"
        r"([T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-9]{2})?)?",
        fullmatch=True,
    ),
)


@given(st.lists(TEXTS, max_size=3), st.sampled_from(TYPES))
def test_what_is_converted_at_once_is_what_each_value_is_by_itself(
    texts: list[str | None], type_: str
) -> None:
    at_once = vectors.converted(texts, type_)
    if at_once is not None:
        convert = text_converter(Column(type=type_), is_json=False)
        one_by_one = pa.array([convert(text) for text in texts], at_once.type)
        assert at_once.equals(one_by_one)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"files": "https://partner/x.csv"}, "not like s3://"),
        ({"files": "s3://partner"}, "not like s3://"),
        ({"files": "s3://partner/x.dat"}, "lacks the key 'format'"),
        ({"cursor": "id"}, "each is taken once"),
        ({"columns": {"id": "int"}}, "'int' is not a type"),
        ({"columns": {"_file": "string"}}, "every table of files has"),
        ({"columns": {"id": {"type": "integer", "format": "%d"}}}, "`format` is for a date"),
        ({"columns": {"id": {"type": "date", "time_zone": "UTC"}}}, "is for a timestamp"),
        ({"primary_key": ["nothing"]}, "no declared column"),
        ({"deletes": "keys", "primary_key": ["id"]}, "say nothing of rows that are gone"),
        ({"csv": {"encoding": "none such"}}, "no encoding"),
        ({"csv": {"delimiter": ";;"}}, "at most 1 character"),
        ({"format": "parquet", "csv": {"delimiter": ";"}}, "`csv` is not for files"),
        ({"wait": {"file": "{tomorrow}.csv"}}, "stands for nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        declared("partner", **changes)


@pytest.mark.service
class TestFormats:
    @pytest.mark.parametrize(
        "name", ["a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "a.jsonl.gz", "a.parquet"]
    )
    def test_each_format_gives_the_same_rows(self, partner: Partner, name: str) -> None:
        if name == "a.tsv":
            partner.deliver(name, "id\tnote\n1\tone\n2\t\n")
        else:
            partner.deliver_rows(name, ["id", "note"], [(1, "one"), (2, None)])
        read = partner.read(**options(partner, name)).to_pylist()
        assert [(row["id"], row["note"]) for row in read] == [(1, "one"), (2, None)]
        first = 2 if name.endswith((".csv", ".csv.gz", ".tsv")) else 1
        assert [row["_line"] for row in read] == [first, first + 1]
        assert {row["_file"] for row in read} == {name}
        ages = [datetime.now(UTC) - row["_delivered_at"] for row in read]
        assert all(abs(age) < timedelta(minutes=5) for age in ages)

    def test_names_may_have_any_characters(self, partner: Partner) -> None:
        name = "orders of/Äpfel & Birnen #1 50% (neu)+.csv"
        partner.deliver(name, "id\n1\n")
        (row,) = partner.read(**options(partner, "orders of/*.csv")).to_pylist()
        assert row["_file"] == name

    def test_values_are_exact(self, partner: Partner) -> None:
        columns = {
            "amount": "decimal(20,2)",
            "share": "double",
            "is_paid": "boolean",
            "paid_on": {"type": "date", "format": "%d.%m.%Y"},
            "paid_at": {"type": "timestamp", "path": "Paid at", "time_zone": "Europe/Berlin"},
            "seen_at": "timestamp",
            "shown_at": "datetime",
            "extra": "json",
        }
        partner.deliver(
            "a.csv",
            "amount,share,is_paid,paid_on,Paid at,seen_at,shown_at,extra\n"
            "123456789012345678.10,0.1,true,27.11.2026,2026-07-01 12:00:00,"
            '2026-11-27T08:30:00+02:00,2026-11-27 08:30:00.123456,"{""a"": 1.10}"\n',
        )
        (row,) = partner.read(**options(partner, "a.csv", columns=columns)).to_pylist()
        assert {name: row[name] for name in columns} == {
            "amount": Decimal("123456789012345678.10"),
            "share": 0.1,
            "is_paid": True,
            "paid_on": date(2026, 11, 27),
            "paid_at": datetime(2026, 7, 1, 10, tzinfo=UTC),
            "seen_at": datetime(2026, 11, 27, 6, 30, tzinfo=UTC),
            "shown_at": datetime(2026, 11, 27, 8, 30, 0, 123456),
            "extra": '{"a": 1.10}',
        }

    def test_csv_may_be_written_in_another_way(self, partner: Partner) -> None:
        text = "1;'a;b''\r\nc';\r\n2;-;Köln\r\n\r\n"
        partner.deliver("a.txt", text.encode("cp1252"))
        way = {
            "delimiter": ";",
            "quote": "'",
            "header": False,
            "encoding": "cp1252",
            "nulls": ["", "-"],
        }
        columns = {"id": "integer", "note": "string", "city": "string"}
        read = partner.read(**options(partner, "a.txt", columns=columns, csv=way)).to_pylist()
        assert [(row["id"], row["note"], row["city"], row["_line"]) for row in read] == [
            (1, "a;b'\r\nc", None, 1),
            (2, None, "Köln", 3),
        ]

    @pytest.mark.parametrize(
        "content",
        [b"\xef\xbb\xbfid,note\n1,x\n", "id,note\n1,x\n".encode("utf-16")],
        ids=["utf-8", "utf-16"],
    )
    def test_a_byte_order_mark_is_no_part_of_a_name(self, partner: Partner, content: bytes) -> None:
        partner.deliver("a.csv", content)
        encoding = "utf-16" if content[0] == 0xFF else "utf-8"
        read = partner.read(**options(partner, "a.csv", csv={"encoding": encoding}))
        assert read["id"].to_pylist() == [1]

    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
    def test_a_file_without_rows_has_none(self, partner: Partner, name: str) -> None:
        empty = written(name, ["id", "note"], []) if name != "a.parquet" else b""
        partner.deliver(name, empty)
        assert partner.read(**options(partner, name)).num_rows == 0

    def test_json_of_any_depth_is_found(self, partner: Partner) -> None:
        partner.deliver("a.jsonl", '{"a": {"b": [0.10]}, "c": {"d": [1]}}\n\n{"a": null, "c": 2}\n')
        columns = {"b": {"type": "decimal(9,2)", "path": "a.b.0"}, "c": "json"}
        read = partner.read(**options(partner, "a.jsonl", columns=columns)).to_pylist()
        assert [(row["b"], row["c"], row["_line"]) for row in read] == [
            (Decimal("0.10"), '{"d":[1]}', 1),
            (None, "2", 3),
        ]

    def test_the_types_of_parquet_become_those_declared(self, partner: Partner) -> None:
        zone = pa.timestamp("ns", "Europe/Berlin")
        moment = datetime(2026, 7, 1, 12)
        there = pa.table(
            {
                "id": pa.array([7], pa.uint8()),
                "amount": pa.array([Decimal("1.5")], pa.decimal128(5, 1)),
                "text_amount": pa.array(["2.50"]).dictionary_encode(),
                "at": pa.array([datetime(2026, 7, 1, 10, tzinfo=UTC)], zone),
                "local_at": pa.array([moment], pa.timestamp("ms")),
                "tags": pa.array([["a", "b"]]),
            }
        )
        file = io.BytesIO()
        pq.write_table(there, file)
        partner.deliver("a.parquet", file.getvalue())
        columns = {
            "id": "integer",
            "amount": "decimal(12,2)",
            "text_amount": "decimal(12,2)",
            "at": "timestamp",
            "local_at": {"type": "timestamp", "time_zone": "Europe/Berlin"},
            "tags": "json",
        }
        (row,) = partner.read(**options(partner, "a.parquet", columns=columns)).to_pylist()
        at = datetime(2026, 7, 1, 10, tzinfo=UTC)
        assert [row[name] for name in columns] == [
            *(7, Decimal("1.50"), Decimal("2.50"), at, at, '["a","b"]')
        ]


@pytest.mark.service
class TestRefused:
    def refused(
        self, partner: Partner, name: str, content: bytes | str, *says: str, **more: Any
    ) -> None:
        partner.deliver(name, content)
        with pytest.raises((SourceFailed, SourceMismatch, ValueDoesNotFit)) as refused:
            partner.read(**options(partner, name, **more))
        assert refused.value.fix
        assert [words for words in (name, *says) if words not in str(refused.value)] == []

    def test_a_file_that_breaks_off(self, partner: Partner) -> None:
        packed = gzip.compress(b"id\n" + b"1\n" * 10_000)
        self.refused(partner, "a.csv.gz", packed[:-20], "end-of-stream")
        self.refused(partner, "b.csv.gz", packed[:-8] + b"\0" * 8, "CRC")
        self.refused(partner, "c.parquet", written("c.parquet", ["id"], [(1,)])[:-9], "broken")
        self.refused(partner, "d.csv", 'id,note\n1,"x\n2,y\n', "unexpected end of data")
        self.refused(partner, "e.csv", 'id,note\n1,"x"y\n2,y\n', "after line 2")

    def test_another_encoding(self, partner: Partner) -> None:
        self.refused(partner, "a.csv", "id,note\n1,Köln\n".encode("cp1252"), "`encoding`")

    def test_other_columns(self, partner: Partner) -> None:
        self.refused(partner, "a.csv", "ID,note\n1,x\n", "has no column 'id'", "ID, note")
        self.refused(partner, "b.csv", "id,id\n1,2\n", "'id' more than once")
        nowhere = written("c.parquet", ["note"], [("x",)])
        self.refused(partner, "c.parquet", nowhere, "has no column 'id'")

    def test_a_type_that_is_not_exactly_the_declared_one(self, partner: Partner) -> None:
        there = written("a.parquet", ["amount"], [(0.1,)])
        columns = {"amount": "decimal(9,2)"}
        self.refused(partner, "a.parquet", there, "double, which is not", columns=columns)

    def test_a_value_of_parquet_that_does_not_fit(self, partner: Partner) -> None:
        there = written("a.parquet", ["amount"], [(Decimal("1.234"),), (Decimal("1.230"),)])
        columns = {"amount": "decimal(9,2)"}
        self.refused(partner, "a.parquet", there, "row 1", "1.234", columns=columns)

    @pytest.mark.parametrize("local", ["2026-10-25 02:30:00", "2026-03-29 02:30:00"])
    def test_a_time_that_the_clock_shows_twice_or_never(self, partner: Partner, local: str) -> None:
        columns = {"at": {"type": "timestamp", "time_zone": "Europe/Berlin"}}
        says = (f'line 2, at: "{local}" comes twice or never', "Europe/Berlin")
        self.refused(partner, "a.csv", f"at\n{local}\n", *says, columns=columns)

    def test_a_bucket_that_is_not_there_or_refuses(self, partner: Partner) -> None:
        with pytest.raises(SourceRefused, match="does not exist"):
            partner.read(files="s3://nowhere-to-be-found/*.csv")
        source = type(partner.source())(partner.connection(password="wrong"))
        with pytest.raises(SourceRefused) as refused:
            source.check([declared(partner.bucket)])
        assert "the connection partner_s3: it needs to list the bucket" in refused.value.fix
        assert "landing" not in str(refused.value)

    def test_a_file_that_changed_since_it_was_found(self, partner: Partner) -> None:
        table = declared(partner.bucket)
        partner.deliver("orders/a.csv", "id\n1\n")
        files = partner.source().files(table)
        partner.deliver("orders/a.csv", "id\n22\n")
        with (
            partner.source().extract_files(table, files) as extraction,
            pytest.raises(SourceMismatch, match="delivered again"),
        ):
            list(extraction.batches)
        partner.remove("orders/a.csv")
        with (
            partner.source().extract_files(table, files) as extraction,
            pytest.raises(SourceMismatch, match="is gone"),
        ):
            list(extraction.batches)


@pytest.mark.service
class TestBadRows:
    def read(self, partner: Partner, **more: Any) -> tuple[list[int], SetAside | None]:
        table = declared(partner.bucket, columns=COLUMNS, primary_key=["id"], **more)
        with partner.source().extract(table, WHOLE_TABLE) as extraction:
            found = pa.Table.from_batches(extraction.batches, schema=extraction.schema)
            assert extraction.sieve is not None
            return found["id"].to_pylist(), extraction.sieve.set_aside(lambda keys: keys)

    CSV = "id,note\n1,one\n2,two,too,many\n3\n4,four\nx,five\n"
    JSONL = '{"id": 1}\n{"id": 2,\n[3]\n{"id": 4}\n{"id": "x"}\n'

    @pytest.mark.parametrize(("name", "content"), [("csv", CSV), ("jsonl", JSONL)])
    def test_a_line_that_is_no_row_is_set_aside(
        self, partner: Partner, name: str, content: str
    ) -> None:
        partner.deliver(f"orders/a.{name}", content)
        files = f"s3://{partner.bucket}/orders/*.{name}"
        policy = {"files": files, "on_bad_value": OnBadValue.QUARANTINE}
        ids, aside = self.read(partner, **policy)
        assert ids == [1, 4]
        assert aside is not None
        assert aside.rows == 3
        reasons = aside.records["reason"].to_pylist()
        first = 3 if name == "csv" else 2
        assert reasons[0].startswith(f"orders/a.{name}, line {first}: ")
        assert aside.records["column_name"].to_pylist() == ["_line", "_line", "id"]
        assert aside.records["value_text"].to_pylist()[0] in ("2,two,too,many", '{"id": 2,')
        assert aside.records["row_cursor"].null_count == 0

    @pytest.mark.parametrize("policy", [OnBadValue.FAIL, OnBadValue.NULL])
    def test_or_refuses_the_batch(self, partner: Partner, policy: OnBadValue) -> None:
        partner.deliver("orders/a.csv", "id,note\n1,one\n2,two,too,many\n")
        with pytest.raises(ValueDoesNotFit, match=r"line 3.*has 4 values, and 2 are expected"):
            self.read(partner, on_bad_value=policy)

    def test_a_key_that_is_missing_is_set_aside(self, partner: Partner) -> None:
        partner.deliver("orders/a.csv", "id,note\n1,one\n,two\n")
        ids, aside = self.read(partner, on_bad_value=OnBadValue.QUARANTINE)
        assert ids == [1]
        assert aside is not None
        assert aside.records["reason"].to_pylist() == [
            "orders/a.csv, id: is null, which no key may be"
        ]


@pytest.mark.service
def test_a_large_file_is_read_in_pieces(partner: Partner) -> None:
    partner.deliver("orders/a.csv.gz", gzip.compress(b"id\n" + b"1\n" * 50_000, 1))
    table = declared(partner.bucket, files=f"s3://{partner.bucket}/orders/*.gz", format="csv")
    with partner.source().extract(table, WHOLE_TABLE) as extraction:
        sizes = [batch.num_rows for batch in extraction.batches]
    assert sum(sizes) == 50_000
    assert max(sizes) <= 2_000
    assert extraction.figures.rows == 50_000


@pytest.mark.service
def test_what_is_there_and_not_declared_is_told(partner: Partner) -> None:
    partner.deliver("orders/a.csv", "id,more\n1,2\n")
    told = partner.source().columns(declared(partner.bucket))
    assert [(column.name, column.type) for column in told if column.type is None] == [
        ("more", None)
    ]
