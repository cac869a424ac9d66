"""The contracts of a source, on each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from millrace.sources.google_sheets.source import GoogleSheetSource
from millrace.testing import DAY, CursorContract, Served, SourceContract
from sheets_standin import TabSpec
from tests.millrace import deliveries
from tests.millrace.deliveries import Partner
from tests.millrace.http_api import Api, declared
from tests.millrace.sheets import Workbook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from millrace.testing.source import Row
    from redshift_standin.s3 import S3Server
    from sheets_standin import GoogleSheetsServer
    from tests.millrace.conftest import Database
    from tests.millrace.postgres import PostgresDatabase

pytestmark = pytest.mark.service


@pytest.mark.both_servers
class TestMySQL(CursorContract):
    @pytest.fixture
    def served(self, mysql: Database) -> Served:
        mysql.execute(
            "CREATE TABLE served (id INT PRIMARY KEY, at TIMESTAMP NOT NULL, note VARCHAR(20))"
        )
        mysql.execute("SET time_zone = '+00:00'")

        def insert(rows: Sequence[Row]) -> None:
            mysql.insert("served", [(id_, at.replace(tzinfo=None), note) for id_, at, note in rows])

        def insert_bad(id_: int) -> None:
            # Half a surrogate pair, which only MariaDB takes for UTF-8.
            mysql.execute("SET sql_mode = ''")
            mysql.execute(f"INSERT INTO served VALUES ({id_}, '{DAY:%Y-%m-%d}', x'EDA080')")

        return Served(
            mysql.source(),
            mysql.table("served", cursor="at"),
            insert,
            missing=mysql.table("nowhere", cursor="at"),
            insert_bad=insert_bad if mysql.is_mariadb else None,
        )


class TestPostgres(CursorContract):
    @pytest.fixture
    def served(self, postgres: PostgresDatabase) -> Served:
        postgres.execute(
            "CREATE TABLE served (id int PRIMARY KEY, at timestamptz NOT NULL, note text)"
        )

        def insert(rows: Sequence[Row]) -> None:
            postgres.insert("served", rows)

        # Every text fits; other values that do not are in test_postgres.py.
        return Served(
            postgres.source(),
            postgres.table("served", cursor="at"),
            insert,
            missing=postgres.table("nowhere", cursor="at"),
        )


class TestGoogleSheets(SourceContract):
    @pytest.fixture
    def served(self, google_sheets: GoogleSheetsServer) -> Served:
        """An empty tab `targets`, which gets its rows when a test inserts them."""
        workbook = Workbook(google_sheets, TabSpec("targets"))
        columns = {"id": "integer", "at": "datetime", "note": "string"}
        table = workbook.table(columns=columns, primary_key=["id"])

        def insert(rows: Sequence[Row]) -> None:
            values = [(id_, f"{at:%Y-%m-%d %H:%M:%S}", note) for id_, at, note in rows]
            workbook.judge.worksheet("targets").update([list(columns), *map(list, values)])

        def insert_bad(id_: int) -> None:
            workbook.judge.worksheet("targets").append_row([id_, "soon", "late"])

        options = table.options.model_copy(update={"tab": "nowhere"})
        return Served(
            GoogleSheetSource(workbook.connection()),
            table,
            insert,
            missing=replace(table, options=options),
            insert_bad=insert_bad,
        )


class TestHttp(CursorContract):
    @pytest.fixture
    def served(self) -> Iterator[Served]:
        """An API that ignores which interval it is asked for, and serves all rows."""
        with Api() as api:
            table = declared(
                primary_key=["id"],
                cursor={"column": "at", "settle": {"count": 1, "period": "minute"}},
                columns={"id": "integer", "at": "timestamp", "note": "string"},
                params={"from": "{start}", "to": "{end}"},
                since="2026-01-01",
                pages={"by": "page", "size": 7, "size_param": "size"},
            )

            def insert(rows: Sequence[Row]) -> None:
                api.rows += [
                    {"id": id_, "at": at.isoformat(), "note": note} for id_, at, note in rows
                ]

            def insert_bad(id_: int) -> None:
                api.rows.append({"id": id_, "at": DAY.isoformat(), "note": ["no", "text"]})

            yield Served(
                api.source(),
                table,
                insert,
                missing=replace(
                    table, options=table.options.model_copy(update={"endpoint": "/nowhere"})
                ),
                insert_bad=insert_bad,
            )


class TestS3Files(SourceContract):
    @pytest.fixture(params=["csv", "jsonl"])
    def served(self, request: pytest.FixtureRequest, s3_server: S3Server, bucket: str) -> Served:
        """A folder of files, of which each insert delivers one."""
        partner = Partner(s3_server, bucket)
        table = deliveries.declared(
            bucket,
            files=f"s3://{bucket}/served/*.{request.param}",
            columns={"id": "integer", "at": "timestamp", "note": "string"},
            primary_key=["id"],
        )

        def deliver(rows: Sequence[tuple[object, ...]]) -> None:
            name = f"served/{len(partner.names()):03d}.{request.param}"
            partner.deliver_rows(name, ["id", "at", "note"], rows)

        def insert(rows: Sequence[Row]) -> None:
            deliver([(id_, at.isoformat(), note) for id_, at, note in rows])

        def insert_bad(id_: int) -> None:
            deliver([(id_, "soon", "late")])

        return Served(
            partner.source(),
            table,
            insert,
            missing=deliveries.declared(bucket, files=f"s3://{bucket}/nowhere/*.csv"),
            insert_bad=insert_bad,
        )
