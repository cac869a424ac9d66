"""An interval of PostgreSQL's is closed where no open transaction can write into it any more."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from millrace.batch import WHOLE_TABLE, Interval
from millrace.errors import IntervalOpen
from millrace.sources.postgres import open_transactions, source
from millrace.sources.postgres.source import PostgresSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from millrace.sources.base import Closing
    from tests.millrace.postgres import PostgresDatabase

pytestmark = pytest.mark.service

AT = "'2026-10-01Z'"
NO_TIME = timedelta(0)


@pytest.fixture
def database(postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> PostgresDatabase:
    """A database with an empty table; nobody waits, nor keeps a distance from now."""
    monkeypatch.setattr(source, "MARGIN", NO_TIME)
    monkeypatch.setattr(open_transactions, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(open_transactions, "_LOOK_SECONDS", 0.02)
    postgres.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int, at timestamptz NOT NULL DEFAULT now())"
    )
    return postgres


@pytest.fixture
def writer(database: PostgresDatabase) -> Iterator[psycopg.Connection[Any]]:
    """A session of somebody who writes; its transaction begins with its first statement."""
    with closing(database.another()) as session:
        yield session


def closed(database: PostgresDatabase, interval: Interval = WHOLE_TABLE, **cursor: Any) -> Closing:
    table = database.table("t", cursor={"column": "at", **cursor})
    return database.source().closed(table, interval)


def blind(database: PostgresDatabase) -> None:
    """Take the right to see since when transactions are open."""
    database.execute(f"REVOKE pg_read_all_stats FROM {database.reader}")


def began(session: psycopg.Connection[Any]) -> datetime:
    found = session.execute("SELECT now()").fetchone()
    assert found is not None
    moment: datetime = found[0]
    return moment


@pytest.mark.parametrize("wrote", ["INSERT INTO t VALUES (1, 1)", "SELECT 1"])
def test_an_interval_ends_where_the_oldest_open_transaction_began(
    database: PostgresDatabase, writer: psycopg.Connection[Any], wrote: str
) -> None:
    # What has written nothing so far may still write, with the time of its beginning.
    since = began(writer)
    writer.execute(wrote.encode())
    found = closed(database)
    assert found.end == since
    assert found.held_by is not None
    assert f"connection {writer.info.backend_pid} (millrace from 127.0.0.1)" in found.held_by
    assert ("has written nothing yet" in found.held_by) is wrote.startswith("SELECT")
    writer.commit()
    assert (closed(database).held_by, closed(database).end > since) == (None, True)


def test_what_began_after_an_interval_does_not_hold_it_up(
    database: PostgresDatabase, writer: psycopg.Connection[Any]
) -> None:
    since = began(writer)
    interval = Interval(since - timedelta(days=1), since - timedelta(seconds=1))
    assert (closed(database, interval).end, closed(database, interval).held_by) == (
        interval.end,
        None,
    )


def test_who_only_reads_or_writes_elsewhere_holds_nothing_up(database: PostgresDatabase) -> None:
    elsewhere = database.url.replace(f"/{database.name}", "/postgres")
    dump = f"{database.url}?application_name=pg_dump"
    with psycopg.connect(elsewhere) as one, psycopg.connect(dump) as other:
        one.execute("SELECT 1")
        other.execute("SELECT 1")
        with database.source().extract(database.table("t"), WHOLE_TABLE):
            found = closed(database)
    assert (found.end, found.held_by) == (found.now, None)


def test_the_last_moments_are_left_out_because_a_beginning_is_listed_late(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MARGIN", timedelta(seconds=2))
    found = closed(database)
    assert (found.now - found.end, found.held_by) == (timedelta(seconds=2), None)
    # Whoever asks for more is told to wait.
    asked = closed(database, Interval(None, found.now))
    assert asked.held_by == "the last 2 s are not read yet"


def test_an_account_that_cannot_see_an_age_waits_for_the_end(
    database: PostgresDatabase,
    writer: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blind(database)
    assert closed(database).held_by is None
    began(writer)
    with pytest.raises(IntervalOpen, match=f"connection {writer.info.backend_pid}") as refused:
        closed(database)
    assert "GRANT pg_read_all_stats" in refused.value.fix
    # It says itself how long a transaction may be open.
    found = closed(database, settle={"count": 1, "period": "hour"})
    assert found.now - found.end == timedelta(hours=1)
    assert found.held_by is not None
    # One that ends meanwhile is none any more.
    listed = open_transactions._listed

    def ending(session: Any) -> Any:
        found = listed(session)
        writer.commit()
        return found

    monkeypatch.setattr(open_transactions, "_listed", ending)
    monkeypatch.setattr(open_transactions, "_PATIENCE_SECONDS", 30)
    found = closed(database)
    assert (found.end, found.held_by) == (found.now, None)


def test_a_prepared_transaction_holds_up_what_it_has_written(
    database: PostgresDatabase, writer: psycopg.Connection[Any]
) -> None:
    database.execute("CREATE TABLE other (id int)")
    for name, is_open in (("other", False), ("t", True)):
        writer.execute(f"INSERT INTO {name} (id) VALUES (1)".encode())
        writer.execute("PREPARE TRANSACTION 'two phases'")
        writer.commit()
        if is_open:
            with pytest.raises(IntervalOpen, match="prepared transaction 'two phases'"):
                closed(database)
        else:
            assert closed(database).held_by is None
        database.execute("ROLLBACK PREPARED 'two phases'")


def test_with_a_lookback_nobody_looks(
    database: PostgresDatabase, writer: psycopg.Connection[Any]
) -> None:
    began(writer)
    found = closed(database, lookback={"count": 1, "period": "hour"})
    assert (found.end, found.held_by) == (found.now, None)


@pytest.mark.parametrize("sees", [True, False])
def test_whatever_writers_do_no_version_is_lost(database: PostgresDatabase, *, sees: bool) -> None:
    if not sees:
        blind(database)
    dice = random.Random(7)  # noqa: S311 no secret
    reader: PostgresSource = database.source()
    table = database.table("t", cursor="at")
    read: set[tuple[int, int]] = set()
    until: datetime | None = None
    with closing(database.another()) as one, closing(database.another()) as other:
        for step in range(40):
            writer = dice.choice([one, other])
            match dice.choice(["write", "write", "commit", "rollback", "ingest", "ingest"]):
                case "write":
                    # Each writer has rows of its own, so that nobody waits for a lock.
                    id_ = 2 * dice.randrange(5) + (writer is other)
                    writer.execute(
                        "INSERT INTO t VALUES (%s, %s, now()) ON CONFLICT (id) "
                        "DO UPDATE SET v = excluded.v, at = excluded.at",
                        (id_, step),
                    )
                case "commit":
                    writer.commit()
                case "rollback":
                    writer.rollback()
                case "ingest":
                    until = ingest(reader, table, until, read)
        one.commit()
        other.commit()
        while set(database.rows("SELECT id, v FROM t")) - read:
            before = until
            until = ingest(reader, table, until, read)
            assert until != before, "a version was lost"


def ingest(
    reader: PostgresSource, table: Any, until: datetime | None, read: set[tuple[int, int]]
) -> datetime | None:
    """Take the next interval, as far as it is closed; returns its end."""
    try:
        end = reader.closed(table, Interval(until, None)).end
    except IntervalOpen:
        return until
    if until is not None and end <= until:
        return until
    with reader.extract(table, Interval(until, end)) as extraction:
        for batch in extraction.batches:
            read |= {(row["id"], row["v"]) for row in batch.to_pylist()}
    return end
