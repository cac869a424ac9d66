"""What stands in for sorted blocks and automatic statistics, and stays hidden from clients."""

from __future__ import annotations

import io
from contextlib import closing
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector

from redshift_standin import RedshiftServer
from redshift_standin.s3 import S3Server
from standins.redshift.tests.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]

# More than the 8 MB up to which a table is read as a whole.
ROWS = 300_000
NUMBERS = "select a.n + 100 * b.n + 10000 * c.n as id from {s}.d as a, {s}.d as b, {s}.e as c"
LOOKUP = "select * from {t} where id = 77"
LAST = "select max(id) from {t}"


@pytest.fixture
def numbers(connection: Any, schema: str) -> str:
    """A query that gives `ROWS` numbers."""
    run(connection, f"create table {schema}.d (n int)")
    run(connection, f"create table {schema}.e (n int)")
    for table, count in (("d", 100), ("e", ROWS // 10_000)):
        run(
            connection,
            f"insert into {schema}.{table} values {', '.join(f'({n})' for n in range(count))}",
        )
    return NUMBERS.format(s=schema)


def plan(connection: Any, query: str) -> str:
    return "\n".join(line for (line,) in run(connection, f"explain {query}"))


def reads_all(connection: Any, query: str) -> bool:
    return "Seq Scan" in plan(connection, query)


def test_a_table_made_by_a_query_is_sorted(connection: Any, schema: str, numbers: str) -> None:
    table = f"{schema}.t"
    run(connection, f"create table {table} sortkey (id) as {numbers}")
    assert not reads_all(connection, LOOKUP.format(t=table))
    assert not reads_all(connection, LAST.format(t=table))
    run(connection, f"alter table {table} rename to u")
    run(connection, f"alter table {schema}.u rename column id to number")
    assert not reads_all(connection, f"select max(number) from {schema}.u")


def test_the_first_rows_of_a_table_sort_it(connection: Any, schema: str, numbers: str) -> None:
    for table in ("t", "u"):
        run(connection, f"create table {schema}.{table} (id int) sortkey (id)")
    connection.autocommit = False
    run(connection, f"insert into {schema}.t {numbers}")
    connection.commit()
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            f"merge into {schema}.u using {schema}.t on u.id = t.id "
            "when matched then update set id = t.id "
            "when not matched then insert values (t.id)"
        )
    connection.commit()
    for table in ("t", "u"):
        assert not reads_all(connection, LOOKUP.format(t=f"{schema}.{table}"))


def test_copy_sorts(
    redshift: RedshiftServer, s3_server: S3Server, bucket: str, connection: Any, schema: str
) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(range(ROWS), pa.int32())}), sink)
    s3_server.endpoint.client().put_object(Bucket=bucket, Key="ids", Body=sink.getvalue())
    run(connection, f"create table {schema}.t (id int) sortkey (id)")
    run(
        connection,
        f"copy {schema}.t from 's3://{bucket}/ids' "
        f"iam_role '{redshift.endpoint.iam_role}' format as parquet",
    )
    assert not reads_all(connection, LOOKUP.format(t=f"{schema}.t"))


def test_another_sort_key_takes_the_place_of_the_first(
    connection: Any, schema: str, numbers: str
) -> None:
    table = f"{schema}.t"
    run(connection, f"create table {table} sortkey (id) as {numbers}")
    run(
        connection,
        f"create table {schema}.two sortkey (other) as select id, -id as other from {table}",
    )
    run(connection, f"alter table {schema}.two alter sortkey (id)")
    assert not reads_all(connection, LOOKUP.format(t=f"{schema}.two"))
    assert reads_all(connection, f"select max(other) from {schema}.two")
    run(connection, f"alter table {schema}.two alter sortkey none")
    assert reads_all(connection, LAST.format(t=f"{schema}.two"))


def test_a_long_text_as_sort_key_fails_no_insert(
    connection: Any, schema: str, numbers: str
) -> None:
    run(connection, f"create table {schema}.t (word varchar(max), id int) sortkey (word)")
    run(connection, f"insert into {schema}.t select id::varchar, id from ({numbers})")
    # Of random letters: a text that repeats one letter would be compressed.
    run(
        connection,
        f"insert into {schema}.t select listagg(md5(id::varchar)), 1 from {schema}.t "
        "where id < 1000",
    )
    assert run(connection, f"select max(len(word)) from {schema}.t") == [(32_000,)]


def test_clients_see_no_index(
    redshift: RedshiftServer, connection: Any, schema: str, numbers: str
) -> None:
    run(connection, f"create table {schema}.t sortkey (id) as {numbers}")
    of_schema = f"join pg_namespace as n on n.oid = c.relnamespace where n.nspname = '{schema}'"
    assert run(
        connection,
        f"select c.relname, c.relhasindex from pg_catalog.pg_class as c {of_schema} order by 1",
    ) == [("d", False), ("e", False), ("t", False)]
    for query in (
        f"select i.* from pg_index as i join pg_class as c on c.oid = i.indrelid {of_schema}",
        f"select * from pg_catalog.pg_indexes where schemaname = '{schema}'",
        "select pg_catalog.pg_class.oid from pg_catalog.pg_class where relname like 'redshift%'",
    ):
        assert run(connection, query) == []
    # The system's own indexes are visible, as in Redshift.
    assert run(connection, "select count(*) > 0 from pg_index") == [(True,)]


def test_statistics_are_there_for_the_next_statement(
    connection: Any, schema: str, numbers: str
) -> None:
    def rows_of(table: str) -> list[tuple[Any, ...]]:
        return run(connection, f"select reltuples from pg_class where oid = '{table}'::regclass")

    connection.autocommit = False
    run(connection, f"create temporary table made as {numbers}")
    assert rows_of("made") == [(ROWS,)]
    run(connection, "create temporary table filled (id int)")
    run(connection, "insert into filled select id from made")
    assert rows_of("filled") == [(ROWS,)]
    run(connection, "delete from filled where id >= %s", ROWS // 2)
    assert rows_of("filled") == [(ROWS / 2,)]
    connection.rollback()


@pytest.mark.parametrize("column", ["id", "day"])
def test_a_key_column_cannot_be_dropped(connection: Any, schema: str, column: str) -> None:
    run(
        connection,
        f"create table {schema}.t (id int, day date, other int) distkey (id) sortkey (other, day)",
    )
    kind = {"id": "distkey", "day": "sortkey"}[column]
    message = f'cannot drop {kind} column \\\\?"{column}\\\\?"'
    for option in ("", "cascade"):
        with pytest.raises(redshift_connector.ProgrammingError, match=message):
            run(connection, f"alter table {schema}.t drop column {column} {option}")
    run(connection, f"alter table {schema}.t alter diststyle even")
    run(connection, f"alter table {schema}.t alter sortkey (other)")
    run(connection, f"alter table {schema}.t drop column {column}")
    run(connection, f"drop table {schema}.t")


def test_several_tables_in_one_message_keep_their_own_keys(
    redshift: RedshiftServer, connection: Any, schema: str
) -> None:
    endpoint = redshift.endpoint
    with closing(
        psycopg.connect(
            host=endpoint.host,
            port=endpoint.port,
            dbname=endpoint.database,
            user=endpoint.user,
            password=endpoint.password,
            autocommit=True,
        )
    ) as client:
        client.execute(
            f"create table {schema}.a (x int) sortkey (x); create table {schema}.b (y int); "
            f"create table {schema}.c (z int) distkey (z)"
        )
        with pytest.raises(psycopg.Error, match="nowhere"):
            client.execute(f"create table {schema}.d (x int) sortkey (x); select * from nowhere")
    assert run(
        connection,
        "select table_name, distkey, sortkey from svv_redshift_columns "
        f"where schema_name = '{schema}' order by 1",
    ) == [("a", False, 1), ("b", False, 0), ("c", True, 0)]
