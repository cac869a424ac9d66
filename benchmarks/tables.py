"""The tables that are read, made by MariaDB itself, and their contents, to compare with."""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.workspace import Workspace
from millrace_sandbox.mysql import MySQLServer

COLUMNS = {
    "id": "BIGINT",
    "user_id": "INTEGER",
    "score": "TINYINT",
    "plan": "VARCHAR",
    "comment": "VARCHAR",
    "amount": "DECIMAL(18,4)",
    "fx_rate": "DECIMAL(18,12)",
    "created_at": "TIMESTAMP",
    "deleted_at": "TIMESTAMP",
}
"""The measured table's columns with DuckDB's names of their types."""

_DEFINITION = """
    id bigint not null primary key,
    user_id int not null,
    score tinyint not null,
    plan varchar(20) not null,
    comment text null,
    amount decimal(18, 4) null,
    fx_rate decimal(18, 12) not null,
    created_at datetime(6) not null,
    deleted_at datetime null
"""

# Each value is a function of the row's number. Comments: a fifth are NULL, a fifth are '', the rest
# have 30 to 130 bytes. Amounts: some are NULL, one in a thousand has all 18 digits.
_VALUES = """
    seq,
    1 + seq * 7919 % 50000,
    seq * 31 % 11,
    elt(1 + seq % 3, 'free', 'pro', 'business'),
    case seq % 5
        when 0 then null
        when 1 then ''
        when 2 then concat('The export is "quick", the rest is fine. ', md5(seq))
        when 3 then concat('응답이 빨라졌어요. 감사합니다 🙂 ', md5(seq))
        else left(concat(md5(seq), ' ', md5(seq + 1), ' ', md5(seq + 2)), 30 + seq % 70)
    end,
    case
        when seq % 7 = 0 then null
        when seq % 1000 = 1 then 98765432109876.4321 + seq
        else seq * 104729 % 100000000 * 0.0001
    end,
    1 + seq * 15485863 % 1500000000000000 * 0.000000000001,
    timestamp '2025-01-01 00:00:00' + interval seq * 5000000 + seq * 7 % 1000000 microsecond,
    if(seq % 20 = 0, timestamp '2026-01-01 00:00:00' + interval seq second, null)
"""

_LONG_TEXT_COLUMNS = {"id": "BIGINT", "body": "VARCHAR"}
_LONG_TEXT_DEFINITION = "id bigint not null primary key, body mediumtext not null"
_LONG_TEXT_BYTES = 400_000
_LONG_TEXTS_AT_ONCE = 20


def create_rows(workspace: Workspace, server: MySQLServer, rows: int) -> str:
    """Make the measured table with that many rows, unless it is there; returns its name."""
    name = f"rows_{rows}"

    def fill(cursor: Any, draft: str) -> None:
        cursor.execute(f"insert into {draft} select {_VALUES} from seq_1_to_{rows}")

    with _admin(server) as cursor:
        _create(cursor, name, _DEFINITION, fill)
        _write_reference(workspace, cursor, name, COLUMNS)
        # Reads the table into memory, so that the disk is not measured.
        cursor.execute(f"select count(*), sum(length(comment)) from {name}")
    return name


def create_plain_rows(server: MySQLServer, rows: int) -> str:
    """Make the measured table on MariaDB or on MySQL, with nothing to compare it with."""
    name = f"rows_{rows}"

    def fill(cursor: Any, draft: str) -> None:
        cursor.execute("select version()")
        values, numbers = _VALUES, f"seq_1_to_{rows}"
        if "MariaDB" not in cursor.fetchone()[0]:
            _create_numbers(cursor, rows)
            # MySQL 9 has no MD5.
            values = re.sub(r"md5\(([^)]*)\)", r"left(sha2(\1, 256), 32)", values)
            numbers = f"numbers where seq <= {rows}"
        cursor.execute(f"insert into {draft} select {values} from {numbers}")

    with _admin(server) as cursor:
        _create(cursor, name, _DEFINITION, fill)
        # Reads the table into memory, so that the disk is not measured.
        cursor.execute(f"select count(*), sum(length(comment)) from {name}")
    return name


def create_long_texts(workspace: Workspace, server: MySQLServer, rows: int) -> str:
    """Make a table with a text of 400 kB in each row, unless it is there; returns its name."""
    name = f"long_texts_{rows}"

    def fill(cursor: Any, draft: str) -> None:
        for first in range(1, rows + 1, _LONG_TEXTS_AT_ONCE):
            numbers = range(first, min(first + _LONG_TEXTS_AT_ONCE, rows + 1))
            # Random, so that it hardly compresses and fills every buffer.
            texts = [(number, _noise(_LONG_TEXT_BYTES)) for number in numbers]
            cursor.executemany(f"insert into {draft} values (%s, %s)", texts)

    with _admin(server) as cursor:
        _create(cursor, name, _LONG_TEXT_DEFINITION, fill)
        _write_reference(workspace, cursor, name, _LONG_TEXT_COLUMNS)
    return name


def reference_of(workspace: Workspace, table: str) -> Path:
    """A Parquet file with what the table holds, as MariaDB itself wrote it."""
    return workspace.scratch / f"{table}.parquet"


def hashed_reference_of(workspace: Workspace, table: str, column: str, salt: str) -> Path:
    """What the table holds with a column hashed, as Python's own ``hmac`` hashes it."""
    hashed = workspace.scratch / f"{table}_{column}_hashed.parquet"
    if not hashed.exists():
        draft = hashed.with_suffix(".draft")
        with duckdb.connect() as connection:
            connection.create_function(
                "hashed",
                lambda text: hmac.digest(salt.encode(), text.encode(), "sha256").hex(),
                ["VARCHAR"],
                "VARCHAR",
            )
            connection.execute(
                f"copy (select * replace (hashed({column}::varchar) as {column}) "
                f"from '{reference_of(workspace, table)}') to '{draft}' (format parquet)"
            )
        draft.replace(hashed)
    return hashed


def _create(cursor: Any, name: str, definition: str, fill: Callable[[Any, str], None]) -> None:
    cursor.execute("create database if not exists prod")
    # MariaDB looks for the tables seq_… in the current database.
    cursor.execute("use prod")
    cursor.execute("show tables like %s", [name])
    if cursor.fetchone():
        return
    # Renamed once it is complete, so that an interrupted one is not taken for the table.
    draft = f"draft_of_{name}"
    cursor.execute(f"drop table if exists {draft}")
    cursor.execute(f"create table {draft} ({definition}) character set utf8mb4")
    fill(cursor, draft)
    cursor.execute(f"analyze table {draft}")
    cursor.fetchall()
    cursor.execute(f"rename table {draft} to {name}")


def _create_numbers(cursor: Any, rows: int) -> None:
    """Make a table of the numbers from 1 on, which MariaDB has built in and MySQL has not."""
    cursor.execute("drop table if exists numbers")
    cursor.execute("create table numbers (seq bigint not null primary key)")
    cursor.execute("insert into numbers values (1)")
    last = 1
    while last < rows:
        cursor.execute(f"insert into numbers select seq + {last} from numbers")
        last *= 2


def _write_reference(
    workspace: Workspace, cursor: Any, name: str, columns: Mapping[str, str]
) -> None:
    reference = reference_of(workspace, name)
    if reference.exists():
        return
    text = reference.with_suffix(".tsv")
    text.unlink(missing_ok=True)
    # The server writes the file, so that no measured client takes part.
    cursor.execute(f"select * from {name} into outfile %s", [str(text)])
    draft = reference.with_suffix(".draft")
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select * from read_csv('{text}', delim = '\t', quote = '', escape = '', "
            f"nullstr = '\\N', header = false, columns = {dict(columns)})) "
            f"to '{draft}' (format parquet)"
        )
    text.unlink()
    draft.replace(reference)


def _noise(length: int) -> str:
    return base64.b64encode(os.urandom(length * 3 // 4)).decode()


@contextmanager
def _admin(server: MySQLServer) -> Iterator[Any]:
    with server.admin_cursor(charset="utf8mb4") as cursor:
        cursor.execute("set session time_zone = '+00:00'")
        yield cursor
