"""A PostgreSQL database to read from: filled by its owner, read by accounts of their own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pyarrow as pa

from millrace.batch import WHOLE_TABLE, Interval
from millrace.catalog import IngestTable
from millrace.checksums.digests import KeyedDigest
from millrace.checksums.witness import Witness
from millrace.connections import Connection
from millrace.sources.postgres.options import PostgresOptions
from millrace.sources.postgres.relation import Relation
from millrace.sources.postgres.source import PostgresSource
from millrace.testing import comparable
from millrace_sandbox.postgres import Postgres


@dataclass(frozen=True)
class PostgresDatabase:
    """A database of a test's own.

    Attributes:
        url: Where it is, with its owner's account.
        client: The owner's session.
        reader: The name of the pipeline's account, and its password.
    """

    url: str
    client: psycopg.Connection[tuple[Any, ...]]
    reader: str

    @classmethod
    @contextmanager
    def made(cls, server: Postgres) -> Iterator[PostgresDatabase]:
        """A new database and its reader, for a block."""
        name = f"t_{secrets.token_hex(4)}"
        server.create(name)
        url = server.url(name, "postgresql")
        try:
            with psycopg.connect(url, autocommit=True) as client:
                client.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'".encode())
                client.execute(f"GRANT pg_read_all_data, pg_read_all_stats TO {name}".encode())
                yield cls(url, client, name)
        finally:
            server.drop(name)
            # Roles belong to the server.
            with psycopg.connect(server.url("postgres", "postgresql"), autocommit=True) as admin:
                admin.execute(f"DROP ROLE {name}".encode())

    @property
    def name(self) -> str:
        """The database's name."""
        return urlsplit(self.url).path.removeprefix("/")

    @property
    def sessions(self) -> str:
        """The reader's sessions, as a query's end."""
        return f"FROM pg_stat_activity WHERE usename = '{self.reader}'"

    def execute(self, statement: str, arguments: Sequence[Any] | None = None) -> None:
        """Run a statement as the owner."""
        self.client.execute(statement.encode(), arguments)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the owner sees."""
        return self.client.execute(query.encode()).fetchall()

    def insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows."""
        marks = ", ".join(["%s"] * len(rows[0]))
        with self.client.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})".encode(), rows)

    def another(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Another session of the owner's, each of whose statements belongs to a transaction."""
        return psycopg.connect(self.url)

    def connection(self, **changes: Any) -> Connection:
        """The reader's connection, with some changes."""
        parts = urlsplit(self.url)
        fields: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port,
            "login": self.reader,
            "password": self.reader,
            "schema": self.name,
        }
        return Connection("postgres_prod", "postgres", **(fields | changes))

    @property
    def uri(self) -> str:
        """The reader's connection, as Airflow writes it."""
        parts = urlsplit(self.url)
        account = f"{self.reader}:{self.reader}"
        return f"postgres://{account}@{parts.hostname}:{parts.port}{parts.path}"

    def source(self, **changes: Any) -> PostgresSource:
        """The database as the pipeline's account sees it; the changes are the connection's."""
        return PostgresSource(self.connection(**changes))

    def relation(self, table: IngestTable) -> Relation:
        """What the catalog says of a table."""
        options = cast("PostgresOptions", table.options)
        with self.source()._server.connected() as session:
            return Relation.find(session, options, self.reader)

    def table(self, name: str, **options: Any) -> IngestTable:
        """The declaration of a table of this database; its key is ``id``, unless told otherwise."""
        declared = {"kind": "postgres", "connection": "postgres_prod", "table": name}
        return IngestTable(
            source="postgres",
            name="rows",
            schema="raw_postgres",
            identifier="rows",
            options=PostgresOptions.model_validate({**declared, "primary_key": ["id"], **options}),
        )

    def extract(
        self,
        table: IngestTable,
        interval: Interval = WHOLE_TABLE,
        *,
        without: frozenset[str] = frozenset(),
    ) -> pa.Table:
        """What is read, after it was compared with what the server computes of it."""
        with self.source().extract(table, interval, without=without) as extraction:
            witness = Witness(table.key, extraction.figures, extraction.schema, ())
            batches = witness.reading(extraction.batches)
            rows = pa.Table.from_batches(batches, schema=extraction.schema)
            sieve = extraction.sieve
            witness.refuse_differences(beside=sieve.checksums if sieve else None)
            assert extraction.figures.rows in (None, rows.num_rows)
        return rows

    def digests(self, table: IngestTable, rows: pa.Table) -> list[KeyedDigest]:
        """The digests that the server itself computes of the rows that were read."""
        compared = comparable(rows.schema, *table.options.primary_key)
        with self.source().by_key(table, compared, WHOLE_TABLE) as found:
            return sorted(found.keyed(None), key=repr)
