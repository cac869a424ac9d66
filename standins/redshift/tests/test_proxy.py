"""The wire protocol, by unmodified clients."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest
import redshift_connector

from redshift_standin import RedshiftServer
from standins.redshift.tests.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]

ROWS = 300_000


def libpq(redshift: RedshiftServer) -> dict[str, Any]:
    endpoint = redshift.endpoint
    return {
        "host": endpoint.host,
        "port": endpoint.port,
        "dbname": endpoint.database,
        "user": endpoint.user,
        "password": endpoint.password,
    }


# redshift_connector: the extended protocol for everything.


def test_values_go_there_and_back(connection, schema: str):
    run(
        connection,
        f"create table {schema}.t (a int, b varchar(20), c decimal(10, 2), d date, e timestamp, "
        "f timestamptz, g boolean, h double precision, i bigint)",
    )
    row = (
        *(1, "한국 'x' %", Decimal("-1.50"), date(2026, 1, 2)),
        *(datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, tzinfo=UTC), True, 0.1, 2**40),
    )
    places = ", ".join(["%s"] * len(row))
    run(connection, f"insert into {schema}.t values ({places})", *row)
    run(connection, f"insert into {schema}.t values ({places})", *[None] * len(row))
    assert run(connection, f"select * from {schema}.t order by a") == [row, (None,) * len(row)]


def test_row_counts_are_reported(connection, schema: str):
    run(connection, f"create table {schema}.t (n int)")
    with connection.cursor() as cursor:
        cursor.executemany(f"insert into {schema}.t values (%s)", [(n,) for n in range(5)])
        cursor.execute(f"update {schema}.t set n = n + 1 where n > %s", (1,))
        assert cursor.rowcount == 3


def test_an_error_fails_the_transaction_until_it_is_rolled_back(connection):
    connection.autocommit = False
    with pytest.raises(redshift_connector.Error, match="does not exist"):
        run(connection, "select * from no_such_table")
    with pytest.raises(redshift_connector.Error, match="current transaction is aborted"):
        run(connection, "select 1")
    connection.rollback()
    assert run(connection, "select 1") == [(1,)]


def test_what_redshift_refuses_fails_the_transaction_too(connection):
    connection.autocommit = False
    assert run(connection, "select 1") == [(1,)]
    with pytest.raises(redshift_connector.Error, match=r"(?i)distinct on"):
        run(connection, "select distinct on (n) n from (select 1 as n) t")
    with pytest.raises(redshift_connector.Error, match="current transaction is aborted"):
        run(connection, "select 1")
    connection.rollback()
    assert run(connection, "select 1") == [(1,)]


def test_a_statement_that_needs_nothing_done_is_answered(connection, schema: str):
    run(connection, f"create table {schema}.t (n int)")
    for _ in range(2):
        run(connection, f"vacuum {schema}.t")
    assert run(connection, "select 1") == [(1,)]


def test_super_has_redshifts_type_number(connection, schema: str):
    run(connection, f"create table {schema}.t (s super)")
    with connection.cursor() as cursor:
        cursor.execute(f"select s from {schema}.t")
        assert cursor.description[0][1] == 4000


def test_varbyte_comes_as_hexadecimal_digits(redshift: RedshiftServer, connection, schema: str):
    # redshift_connector turns the digits into bytes, and decodes these as UTF-8.
    run(connection, f"create table {schema}.t (n int, b varbyte)")
    run(connection, f"insert into {schema}.t values (1, 'caf\u00e9'::varbyte), (2, null)")
    for _ in range(2):
        found = run(connection, f"select n, b, n as again from {schema}.t order by n")
        assert found == [(1, "caf\u00e9", 1), (2, None, 2)]
    with closing(psycopg2.connect(**libpq(redshift))) as simple:
        cursor = simple.cursor()
        cursor.execute(f"select b, n from {schema}.t order by n")
        assert cursor.fetchall() == [("636166c3a9", 1), (None, 2)]
        cursor.execute("select 'plain'")
        assert cursor.fetchall() == [("plain",)]
    with psycopg.connect(**libpq(redshift)) as extended:
        found = extended.execute(f"select b, n from {schema}.t where n < %s", (2,)).fetchall()
        assert found == [("636166c3a9", 1)]


def test_truncate_commits(connection, schema: str):
    run(connection, f"create table {schema}.t (n int)")
    run(connection, f"insert into {schema}.t values (1)")
    connection.autocommit = False
    run(connection, f"truncate table {schema}.t")
    connection.rollback()
    assert run(connection, f"select * from {schema}.t") == []


def test_tls_is_refused_in_words(redshift: RedshiftServer):
    with pytest.raises(redshift_connector.InterfaceError, match="Server refuses SSL"):
        redshift.endpoint.connect(ssl=True)


def test_many_rows_come_through_whole(redshift: RedshiftServer, connection, schema: str):
    run(connection, f"create table {schema}.t (n int, label varchar(100))")
    # Filled directly in PostgreSQL: Redshift has no generate_series together with tables.
    direct = {
        "port": redshift.endpoint.postgres_port,
        "user": "rdsdb",
        "password": redshift.endpoint.superuser_password,
    }
    with psycopg.connect(**libpq(redshift) | direct) as postgres:
        postgres.execute(
            f"insert into {schema}.t select n, repeat('x', n % 100) "
            f"from generate_series(1, {ROWS}) n"
        )
    with psycopg.connect(**libpq(redshift)) as client:
        found = client.execute(f"select n, label from {schema}.t").fetchall()
    assert len(found) == ROWS
    assert sum(n for n, _ in found) == ROWS * (ROWS + 1) // 2
    assert all(len(label) == n % 100 for n, label in found)


def test_a_row_larger_than_any_buffer_comes_through(redshift: RedshiftServer):
    with psycopg.connect(**libpq(redshift)) as client:
        found = client.execute("select repeat('y', 3000000), 1").fetchall()
    assert found == [("y" * 3_000_000, 1)]


def test_sessions_do_not_wait_for_each_other(redshift: RedshiftServer):
    def work(number: int) -> list[tuple[Any, ...]]:
        with closing(redshift.endpoint.connect()) as connection:
            return [run(connection, "select %s::int + 1", number)[0] for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [[(number + 1,)] * 20 for number in range(8)]


# Other clients.


@pytest.mark.parametrize("client", [psycopg, psycopg2])
def test_libpqs_clients(redshift: RedshiftServer, client: Any):
    with closing(client.connect(**libpq(redshift))) as connection:
        assert connection.info.server_version == 80002
        cursor = connection.cursor()
        cursor.execute("select %s::int + 1, %s::varchar", (41, "ü"))
        assert cursor.fetchall() == [(42, "ü")]
        cursor.execute("select 1; select 2")
        assert cursor.fetchall()[-1] == (2 if client is psycopg2 else 1,)


def test_several_statements_in_one_message(redshift: RedshiftServer, schema: str):
    with closing(psycopg2.connect(**libpq(redshift))) as client:
        client.autocommit = True
        cursor = client.cursor()
        cursor.execute(f"create table {schema}.t (n int) -- first; with a comment\n; vacuum; ;")
        cursor.execute(f"insert into {schema}.t values (1) -- ;\n; select 'a;b', n from {schema}.t")
        assert cursor.fetchall() == [("a;b", 1)]
        with pytest.raises(psycopg2.Error, match="division by zero"):
            cursor.execute(f"insert into {schema}.t values (2); select 1 / 0")
        cursor.execute(f"select n from {schema}.t")
        assert cursor.fetchall() == [(1,)]


def test_a_cancelled_statement_stops_at_once(redshift: RedshiftServer, connection, schema: str):
    run(connection, f"create table {schema}.t (n int)")
    with psycopg.connect(**libpq(redshift)) as holder:
        holder.execute(f"lock table {schema}.t")
        with psycopg.connect(**libpq(redshift)) as waiter:
            began = time.monotonic()
            timer = threading.Timer(0.3, waiter.cancel)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                waiter.execute(f"insert into {schema}.t values (1)")
            timer.join()
            assert time.monotonic() - began < 10


def test_asyncpg_prepares_and_fetches(redshift: RedshiftServer):
    async def fetch() -> list[Any]:
        options = libpq(redshift)
        options["database"] = options.pop("dbname")
        client = await asyncpg.connect(**options)
        try:
            return [tuple(row) for row in await client.fetch("select $1::int, $2::varchar", 5, "q")]
        finally:
            await client.close()

    assert asyncio.run(fetch()) == [(5, "q")]


def test_psql_shows_rows_and_errors(redshift: RedshiftServer):
    options = libpq(redshift)
    done = subprocess.run(
        [
            *("psql", "-X", "-h", options["host"], "-p", str(options["port"])),
            *("-U", options["user"], "-At", options["dbname"]),
            *("-c", "select 1 as n; select 2 as n", "-c", "select nope"),
        ],
        env={**os.environ, "PGPASSWORD": options["password"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n2\n"
    assert 'column "nope" does not exist' in done.stderr


# Strangers.


def test_noise_on_the_port_harms_nobody(redshift: RedshiftServer, connection):
    endpoint = redshift.endpoint
    for noise in (b"GET / HTTP/1.1\r\n\r\n", struct.pack("!II", 8, 1), b"", b"\0" * 100):
        with socket.create_connection((endpoint.host, endpoint.port), timeout=10) as client:
            client.sendall(noise)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
    assert run(connection, "select 1") == [(1,)]
