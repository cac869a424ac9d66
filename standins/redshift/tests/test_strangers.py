"""Programs that others wrote for Redshift, unmodified and used as their users use them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tempfile
from contextlib import closing
from typing import Any

import psycopg
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector

from redshift_standin import RedshiftServer
from redshift_standin.s3 import S3Server
from standins.redshift.tests.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]

# Airflow reads its home when it is first imported, which only the tests here do.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="millrace-airflow-"))

ROWS = "1|9|great\n2|3|\n"
NEWER = "2|4|better\n3|10|new\n"


@pytest.fixture
def airflow(
    redshift: RedshiftServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """Connections as an operator of Airflow writes them: redshift_default and aws_default."""
    monkeypatch.setenv("AIRFLOW__USAGE_DATA_COLLECTION__ENABLED", "False")
    server, s3 = redshift.endpoint, s3_server.endpoint
    connections = {
        "REDSHIFT_DEFAULT": {
            "conn_type": "redshift",
            "host": server.host,
            "port": server.port,
            "schema": server.database,
            "login": server.user,
            "password": server.password,
            "extra": {"ssl": False},
        },
        "AWS_ROLE": {"conn_type": "aws", "extra": {"role_arn": server.iam_role}},
        "AWS_KEYS": {
            "conn_type": "aws",
            "login": s3.access_key_id,
            "password": s3.secret_access_key,
            "extra": {"endpoint_url": s3.endpoint_url, "region_name": s3.region},
        },
        "AWS_STRANGER": {
            "conn_type": "aws",
            "extra": {"role_arn": "arn:aws:iam::123456789012:role/somebody-else"},
        },
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    return monkeypatch


@pytest.fixture
def hook(airflow: pytest.MonkeyPatch) -> Any:
    from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook

    return RedshiftSQLHook()


class Copying:
    """One test's bucket and table, and the operator that copies from one into the other."""

    def __init__(self, s3: S3Server, bucket: str, connection: Any, schema: str) -> None:
        self.s3 = s3.endpoint.client()
        self.bucket = bucket
        self.connection = connection
        self.schema = schema
        run(
            connection,
            f"create table {schema}.nps "
            "(id int not null, score int, comment varchar(40), primary key (id)) "
            "distkey (id) sortkey (id)",
        )

    def put(self, key: str, body: str | bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def copy(self, key: str, **arguments: Any) -> None:
        from airflow.providers.amazon.aws.transfers.s3_to_redshift import S3ToRedshiftOperator

        defaults = {"aws_conn_id": "AWS_ROLE", "copy_options": ["EMPTYASNULL"]}
        S3ToRedshiftOperator(
            task_id="copy",
            schema=self.schema,
            table="nps",
            s3_bucket=self.bucket,
            s3_key=key,
            **defaults | arguments,
        ).execute({})

    def rows(self) -> list[tuple[Any, ...]]:
        return run(self.connection, f"select * from {self.schema}.nps order by 1, 2")


@pytest.fixture
def copying(
    airflow: pytest.MonkeyPatch, s3_server: S3Server, bucket: str, connection: Any, schema: str
) -> Copying:
    copying = Copying(s3_server, bucket, connection, schema)
    copying.put("old/nps.txt", ROWS)
    copying.put("new/nps.txt", NEWER)
    return copying


# Airflow's operator.


@pytest.mark.parametrize("connection_id", ["AWS_ROLE", "AWS_KEYS"])
def test_append_keeps_what_is_there(copying: Copying, connection_id: str):
    for key in ("old/", "new/"):
        copying.copy(key, aws_conn_id=connection_id)
    assert copying.rows() == [
        *((1, 9, "great"), (2, 3, None)),
        *((2, 4, "better"), (3, 10, "new")),
    ]


def test_replace_leaves_the_new_rows_alone(copying: Copying):
    copying.copy("old/")
    copying.copy("new/", method="REPLACE")
    assert copying.rows() == [(2, 4, "better"), (3, 10, "new")]


@pytest.mark.parametrize("keys", [None, ["id"]], ids=["the primary key", "keys that are named"])
def test_upsert_replaces_rows_by_key(copying: Copying, keys: list[str] | None):
    copying.copy("old/")
    copying.copy("new/", method="UPSERT", upsert_keys=keys)
    assert copying.rows() == [(1, 9, "great"), (2, 4, "better"), (3, 10, "new")]


def test_upsert_keeps_duplicates_that_are_inside_a_file(copying: Copying):
    # Redshift does not enforce primary keys, so the stand-in does not either.
    copying.put("twice.txt", "1|5|a\n1|6|b\n")
    copying.copy("twice.txt", method="UPSERT")
    assert copying.rows() == [(1, 5, "a"), (1, 6, "b")]


def test_parquet_and_a_column_list(copying: Copying):
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"id": pa.array([7], pa.int32()), "score": pa.array([8], pa.int32())}), sink
    )
    copying.put("part.parquet", sink.getvalue())
    copying.copy("part.parquet", column_list=["id", "score"], copy_options=["FORMAT AS PARQUET"])
    assert copying.rows() == [(7, 8, None)]


@pytest.mark.parametrize("method", ["APPEND", "REPLACE", "UPSERT"])
def test_a_bad_row_leaves_the_table_as_it_was(copying: Copying, method: str):
    copying.copy("old/")
    before = copying.rows()
    copying.put("bad.txt", "4|5|a\nx|6|b\n")
    with pytest.raises(redshift_connector.ProgrammingError, match="stl_load_errors"):
        copying.copy("bad.txt", method=method)
    assert copying.rows() == before
    assert run(
        copying.connection,
        "select line_number, trim(colname), trim(raw_field_value) from stl_load_errors "
        f"where filename = 's3://{copying.bucket}/bad.txt'",
    ) == [(2, "id", "x")]


def test_a_role_that_is_not_the_clusters_is_refused(copying: Copying):
    with pytest.raises(redshift_connector.ProgrammingError, match="not authorized to assume"):
        copying.copy("old/", aws_conn_id="AWS_STRANGER")
    assert copying.rows() == []


# Airflow's hook.


def test_the_hook_runs_and_reads(hook: Any, schema: str):
    hook.run(
        [
            f"create table {schema}.t (id int identity(1, 1), name varchar(20)) diststyle all",
            f"insert into {schema}.t (name) values ('a'), ('b')",
        ]
    )
    hook.run(f"insert into {schema}.t (name) values (%s)", parameters=("한국",))
    assert [row[0] for row in hook.get_records(f"select name from {schema}.t order by 1")] == [
        *("a", "b", "한국")
    ]
    assert hook.get_first(
        f"select count(*), max(name) from {schema}.t where name < %s", ("c",)
    ) == [*(2, "b")]


def test_the_hook_commits_all_or_nothing(hook: Any, schema: str):
    hook.run(f"create table {schema}.t (n int)")
    with pytest.raises(redshift_connector.ProgrammingError, match="nowhere"):
        hook.run([f"insert into {schema}.t values (1)", "select * from nowhere"])
    assert hook.get_first(f"select count(*) from {schema}.t") == [0]


def test_the_hook_gives_a_data_frame(hook: Any):
    frame = hook.get_df("select 1 as n, nvl(null, 'x') as word union all select 2, 'y' order by 1")
    assert frame.to_dict("list") == {"n": [1, 2], "word": ["x", "y"]}


def test_the_hook_inserts_rows(hook: Any, schema: str):
    hook.run(f"create table {schema}.t (n int, word varchar(5))")
    hook.insert_rows(f"{schema}.t", [(1, "a"), (2, None)], target_fields=["n", "word"])
    assert [tuple(row) for row in hook.get_records(f"select * from {schema}.t order by 1")] == [
        *((1, "a"), (2, None))
    ]


def test_the_hook_finds_a_primary_key(hook: Any, schema: str):
    hook.run(f"create table {schema}.keyed (a int, b int, c int, primary key (a, b))")
    hook.run(f"create table {schema}.bare (a int)")
    assert sorted(hook.get_table_primary_key("keyed", schema)) == ["a", "b"]
    assert hook.get_table_primary_key("bare", schema) is None


def test_the_hooks_uri_leads_to_the_cluster(hook: Any):
    with closing(psycopg2.connect(hook.get_uri())) as client, client.cursor() as cursor:
        cursor.execute("select current_database()")
        assert cursor.fetchone() == ("dev",)


def test_the_hook_tests_its_connection(hook: Any):
    assert hook.test_connection() == (True, "Connection successfully tested")


# Other clients.


@pytest.mark.parametrize("module", [psycopg, psycopg2])
def test_psycopg_works_with_the_right_password_only(redshift: RedshiftServer, module: Any):
    endpoint = redshift.endpoint
    arguments = {
        "host": endpoint.host,
        "port": endpoint.port,
        "dbname": endpoint.database,
        "user": endpoint.user,
    }
    with closing(module.connect(**arguments, password=endpoint.password)) as client:
        cursor = client.cursor()
        cursor.execute("select nvl(null, %s), getdate() is not null", ("x",))
        assert cursor.fetchall() == [("x", True)]
    with pytest.raises(module.OperationalError, match="password authentication failed"):
        module.connect(**arguments, password="wrong")


@pytest.mark.parametrize("password", [None, "wrong"], ids=["right", "wrong"])
def test_psql_works_with_the_right_password_only(redshift: RedshiftServer, password: str | None):
    endpoint = redshift.endpoint
    done = subprocess.run(
        [
            *("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--no-password"),
            *(f"--host={endpoint.host}", f"--port={endpoint.port}", f"--user={endpoint.user}"),
            *(f"--dbname={endpoint.database}", "--command=select top 1 len('four')"),
        ],
        env={**os.environ, "PGPASSWORD": password or endpoint.password},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if password:
        assert done.returncode == 2
        assert "password authentication failed" in done.stderr
    else:
        assert (done.stdout, done.returncode) == ("4\n", 0)
