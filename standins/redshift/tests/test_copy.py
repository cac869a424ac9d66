"""COPY and UNLOAD, by an unmodified redshift_connector, against the S3 server."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector

from redshift_standin import RedshiftServer
from redshift_standin.s3 import S3Server
from redshift_standin.supervisor import IAM_ROLE
from standins.redshift.tests.conftest import poll, run

pytestmark = [pytest.mark.service, pytest.mark.redshift]

EVERY_TYPE = """
    id int not null, small smallint, big bigint, amount decimal(10, 2), ratio real,
    share double precision, is_open boolean, label varchar(40), code char(3), born date,
    seen timestamp, noted timestamptz"""


class Loader:
    """One test's bucket, schema and session."""

    def __init__(self, s3: S3Server, bucket: str, connection: Any, schema: str) -> None:
        self.s3 = s3.endpoint.client()
        self.bucket = bucket
        self.connection = connection
        self.schema = schema

    def put(self, key: str, body: bytes | str) -> str:
        data = body.encode() if isinstance(body, str) else body
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{self.bucket}/{key}"

    def put_parquet(self, key: str, table: pa.Table) -> tuple[str, int]:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        return self.put(key, sink.getvalue()), sink.tell()

    def put_manifest(self, key: str, *entries: tuple[str, int | None, bool]) -> str:
        found = [
            {"url": url, "mandatory": mandatory}
            | ({"meta": {"content_length": size}} if size is not None else {})
            for url, size, mandatory in entries
        ]
        return self.put(key, json.dumps({"entries": found}))

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [entry["Key"] for entry in found]

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        return run(self.connection, text)

    def create(self, columns: str, name: str = "t") -> None:
        self.sql(f"create table {self.schema}.{name} ({columns})")

    def copy(self, url: str, options: str, table: str = "t", role: str = IAM_ROLE) -> None:
        self.sql(f"copy {self.schema}.{table} from '{url}' iam_role '{role}' {options}")

    def rows(self, columns: str = "*", table: str = "t") -> list[tuple[Any, ...]]:
        return self.sql(f"select {columns} from {self.schema}.{table} order by 1")

    def load_errors(self) -> list[tuple[Any, ...]]:
        return self.sql(
            "select trim(colname), line_number, err_code, trim(err_reason), "
            "trim(raw_field_value) from stl_load_errors "
            f"where filename like 's3://{self.bucket}/%' order by line_number"
        )


@pytest.fixture
def loader(s3_server: S3Server, bucket: str, connection: Any, schema: str) -> Loader:
    return Loader(s3_server, bucket, connection, schema)


def every_type() -> pa.Table:
    return pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "small": pa.array([-5, None], pa.int16()),
            "big": pa.array([2**62, None], pa.int64()),
            "amount": pa.array([Decimal("12.50"), None], pa.decimal128(10, 2)),
            "ratio": pa.array([0.5, None], pa.float32()),
            "share": pa.array([0.1, None], pa.float64()),
            "is_open": pa.array([True, None]),
            "label": pa.array(['He said "hi",\n한국어 🎉', ""]),
            "code": pa.array(["abc", None]),
            "born": pa.array([date(2026, 1, 31), None]),
            "seen": pa.array([datetime(2026, 1, 31, 1, 2, 3, 456789), None], pa.timestamp("us")),
            "noted": pa.array(
                [datetime(2026, 1, 31, 1, 2, 3, tzinfo=UTC), None], pa.timestamp("us", "UTC")
            ),
        }
    )


EVERY_VALUE = [
    (
        *(1, -5, 2**62, Decimal("12.50"), 0.5, 0.1, True, 'He said "hi",\n한국어 🎉', "abc"),
        *(date(2026, 1, 31), datetime(2026, 1, 31, 1, 2, 3, 456789)),
        datetime(2026, 1, 31, 1, 2, 3, tzinfo=UTC),
    ),
    (2, None, None, None, None, None, None, "", None, None, None, None),
]


# Parquet.


def test_parquet_of_a_manifest_arrives_to_the_last_value(loader: Loader):
    loader.create(EVERY_TYPE)
    url, size = loader.put_parquet("batch/part-00000.parquet", every_type())
    manifest = loader.put_manifest("batch/manifest.json", (url, size, True))
    loader.copy(manifest, "format as parquet manifest")
    assert loader.rows() == EVERY_VALUE
    assert loader.sql("select pg_last_copy_count()") == [(2,)]
    assert loader.sql(
        "select trim(filename), lines_scanned from stl_load_commits where query = pg_last_copy_id()"
    ) == [(url, 2)]


def test_parquet_of_a_prefix_takes_every_key_that_begins_so(loader: Loader):
    loader.create("n int")
    for number, key in enumerate(["in/part-1", "in/part-2", "in/other", "in/part-3/deep"]):
        loader.put_parquet(key, pa.table({"n": pa.array([number], pa.int32())}))
    loader.copy(f"s3://{loader.bucket}/in/part-", "format parquet")
    assert loader.rows() == [(0,), (1,), (3,)]


def test_parquet_is_matched_by_position_not_by_name(loader: Loader):
    loader.create("a varchar(5), b varchar(5), c varchar(5)")
    url, _ = loader.put_parquet("f.parquet", pa.table({"b": ["first"], "a": ["next"]}))
    loader.sql(
        f"copy {loader.schema}.t (c, a) from '{url}' iam_role '{IAM_ROLE}' format as parquet"
    )
    assert loader.rows() == [("next", None, "first")]


@pytest.mark.parametrize(
    ("column", "array"),
    [
        ("int", pa.array([1], pa.int64())),
        ("bigint", pa.array([1], pa.int32())),
        ("bigint", pa.array([1], pa.uint32())),
        ("decimal(12, 2)", pa.array([Decimal("1.50")], pa.decimal128(10, 2))),
        ("double precision", pa.array([1.5], pa.float32())),
        ("varchar(10)", pa.array([1], pa.int32())),
        ("date", pa.array(["2026-01-01"])),
        ("timestamp", pa.array([date(2026, 1, 1)])),
    ],
)
def test_parquet_of_another_type_is_refused(loader: Loader, column: str, array: pa.Array):
    loader.create(f"n {column}")
    url, _ = loader.put_parquet("f.parquet", pa.table({"n": array}))
    with pytest.raises(redshift_connector.Error, match="incompatible Parquet schema for column"):
        loader.copy(url, "format as parquet")


def test_parquet_with_another_number_of_columns_is_refused(loader: Loader):
    loader.create("a int, b int")
    url, _ = loader.put_parquet("f.parquet", pa.table({"a": pa.array([1], pa.int32())}))
    with pytest.raises(redshift_connector.Error, match=r"Table columns: 2, Data columns: 1"):
        loader.copy(url, "format as parquet")


def test_varchar_counts_bytes(loader: Loader):
    loader.create("label varchar(6)")
    url, _ = loader.put_parquet("fits.parquet", pa.table({"label": ["한국"]}))
    loader.copy(url, "format as parquet")
    url, _ = loader.put_parquet("not.parquet", pa.table({"label": ["한국어"]}))
    with pytest.raises(redshift_connector.Error, match=r"Table: 6, Data: 9"):
        loader.copy(url, "format as parquet")
    assert loader.rows() == [("한국",)]


@pytest.mark.parametrize("value", [b"\xff\x00\x01", b"\xff\x00\x01\x02"], ids=["fits", "does not"])
def test_varbyte_keeps_its_length(loader: Loader, value: bytes):
    loader.create("data varbyte(3)")
    parquet, _ = loader.put_parquet("parquet", pa.table({"data": pa.array([value], pa.binary())}))
    text = loader.put("text", value.hex())
    if len(value) == 3:
        loader.copy(parquet, "format as parquet")
        loader.copy(text, "")
        # In hexadecimal, because the driver would decode the bytes themselves as UTF-8.
        assert loader.rows("to_hex(data)") == [(value.hex(),)] * 2
        return
    with pytest.raises(redshift_connector.Error, match=r"Table: 3, Data: 4"):
        loader.copy(parquet, "format as parquet")
    with pytest.raises(redshift_connector.Error, match="Check 'stl_load_errors'"):
        loader.copy(text, "")
    with pytest.raises(redshift_connector.Error, match=r"too long for type binary varying\(3\)"):
        loader.sql(f"insert into {loader.schema}.t values (from_hex('{value.hex()}'))")
    assert loader.rows() == []
    assert [row[:3] for row in loader.load_errors()] == [("data", 1, 1204)]


def test_a_null_for_a_column_that_has_none_is_refused(loader: Loader):
    loader.create("n int not null")
    url, _ = loader.put_parquet("f.parquet", pa.table({"n": pa.array([1, None], pa.int32())}))
    with pytest.raises(redshift_connector.Error, match="NOT NULL"):
        loader.copy(url, "format as parquet")


def test_super_takes_nested_values_with_serializetojson_only(loader: Loader):
    loader.create("id int, tags super")
    table = pa.table({"id": pa.array([1], pa.int32()), "tags": [[{"a": 1}, {"a": None}]]})
    url, _ = loader.put_parquet("f.parquet", table)
    with pytest.raises(redshift_connector.Error, match="Invalid type: 4000"):
        loader.copy(url, "format as parquet")
    loader.copy(url, "format as parquet serializetojson")
    assert json.loads(loader.rows("tags")[0][0]) == [{"a": 1}, {"a": None}]


def test_a_truncated_part_loads_nothing(loader: Loader):
    loader.create("n int")
    url, size = loader.put_parquet("good.parquet", pa.table({"n": pa.array([1], pa.int32())}))
    cut = loader.put("cut.parquet", loader.get("good.parquet")[:-20])
    manifest = loader.put_manifest("m", (url, size, True), (cut, size - 20, True))
    with pytest.raises(redshift_connector.Error, match=r"cut\.parquet"):
        loader.copy(manifest, "format as parquet manifest")
    assert loader.rows() == []


# Manifests.


def test_a_missing_mandatory_file_fails_and_another_is_passed_over(loader: Loader):
    loader.create("n int")
    url, size = loader.put_parquet("f.parquet", pa.table({"n": pa.array([1], pa.int32())}))
    missing = f"s3://{loader.bucket}/missing.parquet"
    strict = loader.put_manifest("strict", (url, size, True), (missing, 10, True))
    with pytest.raises(redshift_connector.Error, match=r"NoSuchKey.*missing\.parquet"):
        loader.copy(strict, "format as parquet manifest")
    assert loader.rows() == []
    loose = loader.put_manifest("loose", (url, size, True), (missing, 10, False))
    loader.copy(loose, "format as parquet manifest")
    assert loader.rows() == [(1,)]


def test_a_manifest_of_parquet_must_state_the_right_lengths(loader: Loader):
    loader.create("n int")
    url, size = loader.put_parquet("f.parquet", pa.table({"n": pa.array([1], pa.int32())}))
    for key, stated, said in [("a", None, "'meta' key"), ("b", size + 1, "content_length")]:
        manifest = loader.put_manifest(key, (url, stated, True))
        with pytest.raises(redshift_connector.Error, match=said):
            loader.copy(manifest, "format as parquet manifest")


def test_a_missing_or_broken_manifest_says_so(loader: Loader):
    loader.create("n int")
    broken = loader.put("broken", "{")
    for url in (broken, f"s3://{loader.bucket}/none"):
        with pytest.raises(redshift_connector.Error, match=r"(?i)manifest|NoSuchKey"):
            loader.copy(url, "format as parquet manifest")


def test_a_prefix_without_objects_and_a_missing_bucket_say_so(loader: Loader):
    loader.create("n int")
    with pytest.raises(redshift_connector.Error, match="'no/such' does not exist"):
        loader.copy(f"s3://{loader.bucket}/no/such", "format as parquet")
    with pytest.raises(redshift_connector.Error, match="NoSuchBucket"):
        loader.copy("s3://no-such-bucket/x", "format as parquet")


# Credentials.


def test_a_role_that_is_not_attached_is_refused(loader: Loader):
    loader.create("n int")
    url = loader.put("f.csv", "1\n")
    role = "arn:aws:iam::123456789012:role/stranger"
    with pytest.raises(redshift_connector.Error, match=f"not authorized to assume IAM Role {role}"):
        loader.copy(url, "csv", role=role)


def test_keys_are_really_used(loader: Loader, s3_server: S3Server):
    loader.create("n int")
    url = loader.put("f.csv", "1\n")
    endpoint = s3_server.endpoint
    keys = f"access_key_id '{endpoint.access_key_id}' secret_access_key"
    loader.sql(f"copy {loader.schema}.t from '{url}' {keys} '{endpoint.secret_access_key}' csv")
    clause = f"aws_access_key_id={endpoint.access_key_id};aws_secret_access_key="
    loader.sql(
        f"copy {loader.schema}.t from '{url}' "
        f"credentials '{clause}{endpoint.secret_access_key}' csv"
    )
    assert loader.rows() == [(1,), (1,)]
    with pytest.raises(redshift_connector.Error, match="Status 403"):
        loader.sql(f"copy {loader.schema}.t from '{url}' {keys} 'wrong' csv")


def test_the_client_is_told_how_many_rows_came(loader: Loader, redshift: RedshiftServer):
    loader.create("n int")
    url, endpoint = loader.put("f.csv", "1\n2\n"), redshift.endpoint
    with closing(
        psycopg2.connect(
            host=endpoint.host,
            port=endpoint.port,
            dbname=endpoint.database,
            user=endpoint.user,
            password=endpoint.password,
        )
    ) as client:
        client.cursor().execute(f"copy {loader.schema}.t from '{url}' iam_role default csv")
        client.commit()
    said = "Load into table 't' completed, 2 record(s) loaded successfully."
    assert client.notices == [f"INFO:  {said}\n"]
    assert loader.rows() == [(1,), (2,)]


def test_a_temporary_table_is_loaded_and_appended(loader: Loader):
    loader.create("n int, label varchar(5)")
    url = loader.put("f.csv", "1,a\n")
    loader.sql(f"create temp table stage (like {loader.schema}.t)")
    loader.sql("create table #other (n int, label varchar(5))")
    for table in ("stage", "#other"):
        loader.sql(f"copy {table} from '{url}' iam_role '{IAM_ROLE}' csv")
        loader.sql(f"insert into {loader.schema}.t select * from {table}")
    assert loader.rows() == [(1, "a"), (1, "a")]


# Text.


def test_csv_of_every_type_is_read_as_parquet_is(loader: Loader):
    loader.create(EVERY_TYPE)
    text = (
        "id,header\n"
        f'1,-5,{2**62},12.509,0.5,0.1,yes,"He said ""hi"",\n한국어 🎉",abc,2026-01-31,'
        "2026-01-31 01:02:03.456789,2026-01-31 01:02:03+00\n"
        "2, ,,,,,,,\\N,,,\n"
    )
    url = loader.put("f.csv.gz", gzip.compress(text.encode()))
    loader.copy(url, "csv gzip ignoreheader 1")
    assert loader.rows() == EVERY_VALUE


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a|1\nb|\n", "", [("a", 1), ("b", None)]),
        ("a;1\n", "delimiter ';'", [("a", 1)]),
        ("a\t1\n", "delimiter '\\t'", [("a", 1)]),
        ('"a"|"1"\n', "removequotes", [("a", 1)]),
        ("a\\|b|1\n\\N|2\n", "escape", [("a|b", 1), (None, 2)]),
        ("none|1\n", "null as 'none'", [(None, 1)]),
        ("|1\n", "", [("", 1)]),
        ("|1\n", "emptyasnull", [(None, 1)]),
        ("  |1\n", "blanksasnull", [(None, 1)]),
        ("a  |1\n", "trimblanks", [("a", 1)]),
        ("abcdefg|1\n", "truncatecolumns", [("abcde", 1)]),
        ("a\n", "fillrecord", [("a", None)]),
        ("\n\na|1\n", "ignoreblanklines", [("a", 1)]),
        ("'x,y',1\n", "csv quote as ''''", [("x,y", 1)]),
        ('"a";1\n', "csv delimiter ';'", [("a", 1)]),
    ],
)
def test_text_options(loader: Loader, text: str, options: str, expected: list[tuple[Any, ...]]):
    loader.create("label varchar(5), n int")
    loader.copy(loader.put("f", text), options)
    assert loader.rows() == expected


def test_dates_and_times_in_other_forms(loader: Loader):
    loader.create("d date, at timestamp")
    loader.copy(
        loader.put("a", "31.01.2026|31/01/2026 13:05\n"),
        "dateformat 'DD.MM.YYYY' timeformat 'DD/MM/YYYY HH24:MI'",
    )
    loader.copy(
        loader.put("b", "02/28/2026|1767225600\n"), "dateformat 'auto' timeformat 'epochsecs'"
    )
    loader.copy(loader.put("c", "2026-03-01|2026-03-01T10:00:00.5Z\n"), "timeformat 'auto'")
    assert loader.rows() == [
        (date(2026, 1, 31), datetime(2026, 1, 31, 13, 5)),
        (date(2026, 2, 28), datetime(2026, 1, 1)),
        (date(2026, 3, 1), datetime(2026, 3, 1, 10, 0, 0, 500000)),
    ]


def test_invalid_utf8_is_an_error_or_replaced(loader: Loader):
    loader.create("label varchar(10)")
    url = loader.put("f.csv", b"a\xe9b\n")
    with pytest.raises(redshift_connector.Error, match="stl_load_errors"):
        loader.copy(url, "csv")
    assert loader.load_errors()[0][2] == 1220
    loader.copy(url, "csv acceptinvchars as '^'")
    assert loader.rows() == [("a^b",)]


def test_json_by_names_and_by_paths(loader: Loader):
    loader.create("id int, label varchar(20), extra super")
    text = '{"id": 1, "label": "a", "extra": {"x": [1, 2]}, "more": 0}\n{"id": 2,\n "label": null}'
    loader.copy(loader.put("f.json", text), "format as json 'auto'")
    assert loader.rows("id, label") == [(1, "a"), (2, None)]
    assert json.loads(loader.rows("id, extra")[0][1]) == {"x": [1, 2]}
    paths = loader.put("paths", '{"jsonpaths": ["$.key", "$[\'n\'][0]", "$.n"]}')
    loader.copy(loader.put("g.json", '{"key": 3, "n": ["z"]}'), f"format as json '{paths}'")
    assert loader.rows("id, label")[-1] == (3, "z")


@pytest.mark.parametrize(
    ("line", "column", "code", "reason", "value"),
    [
        ("x|1", "id", 1207, "Invalid digit, Value 'x', Pos 0, Type: Integer", "x"),
        ("9999999999|1", "id", 1204, "Overflow, (column type: Integer)", "9999999999"),
        ("1|abcdefg", "label", 1204, "String length exceeds DDL length", "abcdefg"),
        ("1|2|3", "", 1202, "Extra column(s) found", ""),
        ("1", "", 1214, "Delimiter not found", ""),
        ("|a", "id", 1213, "Missing data for not-null field", ""),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_loaded(
    loader: Loader, line: str, column: str, code: int, reason: str, value: str
):
    loader.create("id int not null, label varchar(5)")
    url = loader.put("f", f"1|good\n{line}\n")
    with pytest.raises(redshift_connector.Error, match="Check 'stl_load_errors'"):
        loader.copy(url, "")
    assert loader.rows() == []
    assert loader.load_errors() == [(column, 2, code, reason, value)]


def test_maxerror_leaves_bad_rows_out_and_records_them(loader: Loader):
    loader.create("id int")
    url = loader.put("f", "1\nx\n2\ny\n3\n")
    with pytest.raises(redshift_connector.Error, match="failed"):
        loader.copy(url, "maxerror 2")
    assert loader.rows() == []
    loader.copy(url, "maxerror 3")
    assert loader.rows() == [(1,), (2,), (3,)]
    assert loader.sql("select pg_last_copy_count()") == [(3,)]


# Transactions.


def test_a_rollback_undoes_the_load_and_keeps_the_load_errors(loader: Loader):
    loader.create("id int")
    good, bad = loader.put("good", "1\n2\n"), loader.put("bad", "x\n")
    loader.connection.autocommit = False
    loader.copy(good, "")
    assert loader.rows() == [(1,), (2,)]
    loader.connection.rollback()
    assert loader.rows() == []
    with pytest.raises(redshift_connector.Error, match="failed"):
        loader.copy(bad, "")
    with pytest.raises(redshift_connector.Error, match="current transaction is aborted"):
        loader.rows()
    loader.connection.rollback()
    assert [row[2] for row in loader.load_errors()] == [1207]


def test_a_session_that_dies_before_its_commit_leaves_nothing(
    loader: Loader, redshift: RedshiftServer
):
    loader.create("id int")
    url = loader.put("f", "1\n")
    with closing(redshift.endpoint.connect()) as other:
        run(other, f"copy {loader.schema}.t from '{url}' iam_role '{IAM_ROLE}'")
    assert loader.rows() == []


@pytest.mark.parametrize("how", ["cut", "cancelled"])
def test_a_copy_that_is_interrupted_leaves_nothing(
    loader: Loader, redshift: RedshiftServer, how: str
):
    loader.create("n int, label varchar(100)")
    url = loader.put("f.csv", "".join(f"{n},{'x' * 90}\n" for n in range(200_000)))
    endpoint = redshift.endpoint
    arguments: dict[str, Any] = {"host": endpoint.host, "dbname": endpoint.database}
    client = psycopg.connect(
        **arguments, port=endpoint.port, user=endpoint.user, password=endpoint.password
    )
    pid = client.info.backend_pid
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(
            **arguments,
            port=endpoint.postgres_port,
            user="rdsdb",
            password=endpoint.superuser_password,
            autocommit=True,
        ) as postgres,
    ):

        def runs(view: str) -> bool:
            found = postgres.execute(f"select from {view} where pid = {pid}")
            return found.fetchone() is not None

        copying = pool.submit(_copy_and_fail, client, loader.schema, url)
        assert poll(lambda: runs("pg_stat_progress_copy"), 30)
        if how == "cut":
            socket.socket(fileno=os.dup(client.fileno())).shutdown(socket.SHUT_RDWR)
        else:
            client.cancel()
        copying.result(30)
        assert poll(lambda: not runs("pg_stat_activity"), 30)
    assert loader.rows() == []


def _copy_and_fail(client: psycopg.Connection[Any], schema: str, url: str) -> None:
    with pytest.raises((psycopg.errors.QueryCanceled, psycopg.OperationalError)):
        client.execute(f"copy {schema}.t from '{url}' iam_role default csv")
    client.close()


def test_a_missing_table_and_column_say_so(loader: Loader):
    url = loader.put("f", "1\n")
    with pytest.raises(redshift_connector.Error, match="Cannot COPY into nonexistent table t"):
        loader.copy(url, "")
    loader.create("id int")
    with pytest.raises(redshift_connector.Error, match='column "nope"'):
        loader.sql(f"copy {loader.schema}.t (nope) from '{url}' iam_role '{IAM_ROLE}'")


def test_an_option_of_another_format_is_refused(loader: Loader):
    loader.create("id int")
    with pytest.raises(redshift_connector.Error, match="MAXERROR argument is not supported"):
        loader.copy(f"s3://{loader.bucket}/f", "format as parquet maxerror 5")


# UNLOAD.


def test_what_is_unloaded_to_parquet_is_loaded_again(loader: Loader):
    loader.create(EVERY_TYPE)
    loader.create(EVERY_TYPE, name="again")
    url, _ = loader.put_parquet("in.parquet", every_type())
    loader.copy(url, "format as parquet")
    loader.sql(
        f"unload ('select * from {loader.schema}.t') to 's3://{loader.bucket}/out/' "
        f"iam_role '{IAM_ROLE}' format as parquet manifest verbose"
    )
    assert loader.keys() == ["in.parquet", "out/0000_part_00.parquet", "out/manifest"]
    manifest = json.loads(loader.get("out/manifest"))
    assert manifest["meta"]["record_count"] == 2
    assert manifest["entries"][0]["meta"]["content_length"] == len(
        loader.get("out/0000_part_00.parquet")
    )
    assert manifest["schema"]["elements"][3] == {
        "name": "amount",
        "type": {"base": "numeric", "precision": 10, "scale": 2},
    }
    manifest_url = f"s3://{loader.bucket}/out/manifest"
    loader.copy(manifest_url, "format as parquet manifest", table="again")
    assert loader.rows(table="again") == EVERY_VALUE


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", b"1|a|b\n2|\n"),
        ("addquotes", b'"1"|"a|b"\n"2"|""\n'),
        ("escape", b"1|a\\|b\n2|\n"),
        ("delimiter ',' null as 'none'", b"1,a|b\n2,none\n"),
        ("csv header", b"id,label\n1,a|b\n2,\n"),
        ("format as json", b'{"id":1,"label":"a|b"}\n{"id":2,"label":null}\n'),
    ],
)
def test_unload_to_text(loader: Loader, options: str, expected: bytes):
    loader.create("id int, label varchar(5)")
    loader.sql(f"insert into {loader.schema}.t values (1, 'a|b'), (2, null)")
    loader.sql(
        f"unload ('select * from {loader.schema}.t order by 1') to 's3://{loader.bucket}/x_' "
        f"iam_role '{IAM_ROLE}' {options} parallel off"
    )
    assert loader.get("x_000") == expected


def test_unload_does_not_overwrite_unless_told_so(loader: Loader):
    unload = (
        f"unload ('select 1 as one') to 's3://{loader.bucket}/x_' iam_role '{IAM_ROLE}' csv gzip"
    )
    loader.sql(unload)
    with pytest.raises(redshift_connector.Error, match="destination on S3 is not empty"):
        loader.sql(unload)
    loader.sql(f"{unload} allowoverwrite")
    assert gzip.decompress(loader.get("x_0000_part_00.gz")) == b"1\n"


def test_an_unload_that_fails_on_the_way_leaves_no_file(loader: Loader):
    loader.create("n int")
    loader.sql(f"insert into {loader.schema}.t values (1), (0)")
    with pytest.raises(redshift_connector.Error, match="division by zero"):
        loader.sql(
            f"unload ('select 1 / n from {loader.schema}.t') to 's3://{loader.bucket}/x_' "
            f"iam_role '{IAM_ROLE}' csv"
        )
    assert loader.keys() == []


def test_json_keeps_the_order_of_attributes_on_its_way_into_super_and_out(loader: Loader):
    kept = '{"bb":1,"a":[{"z":"x  y","c":2.5}],"u":"é"}'
    loader.create("id int, extra super")
    given = '{"bb" : 1, "a": [ {"z": "x  y", "c": 2.5} ], "u": "\\u00e9"}'
    loader.copy(loader.put("text.txt", f"1|{given}\n".encode()), "delimiter '|'")
    loader.copy(loader.put("auto.json", f'{{"id": 2, "extra": {kept}}}'), "format as json 'auto'")
    rows = loader.rows("id, extra")
    assert rows == [(1, kept), (2, kept)]
