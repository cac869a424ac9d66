"""Reading tables of a real PostgreSQL."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from millrace.batch import EVERY_KEY, WHOLE_TABLE, Batch, Interval, KeyRange, Partition
from millrace.errors import (
    ConnectionNotFound,
    SourceBusy,
    SourceError,
    SourceFailed,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
)
from millrace.sources import limits, pace
from millrace.sources.postgres import pieces, source
from millrace.sources.postgres.pieces import page_ranges
from millrace.sources.postgres.relation import Relation
from millrace.sources.postgres.rights import access
from millrace.sources.postgres.types import Column
from millrace.testing import comparable, digests_of
from redshift_standin.certificates import CA_FILE, make_certificates
from redshift_standin.ports import free_port
from tests import services

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.catalog import IngestTable
    from millrace_sandbox.paths import SandboxPaths
    from tests.millrace.conftest import Workspace
    from tests.millrace.postgres import PostgresDatabase

pytestmark = pytest.mark.service

DAY = datetime(2026, 10, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
MANY = 20_000


def ids(rows: pa.Table) -> list[Any]:
    return sorted(rows["id"].to_pylist())


@pytest.fixture
def many(postgres: PostgresDatabase) -> PostgresDatabase:
    """A table with many rows, an hour apart."""
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz NOT NULL)")
    postgres.execute(
        "INSERT INTO t SELECT g, repeat('x', 60), '2020-01-01Z'::timestamptz + g * '1 h'::interval "
        f"FROM generate_series(1, {MANY}) g"
    )
    postgres.execute("CREATE INDEX ON t (at); ANALYZE t")
    return postgres


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few pages or rows, so that a small table has many."""
    monkeypatch.setattr(source, "_FIRST_PIECE_BYTES", 1)
    monkeypatch.setattr(source, "_FIRST_PIECE_ROWS", 1)
    monkeypatch.setattr(pace, "_FEWEST_ROWS", 7)
    monkeypatch.setattr(pace, "_GROWTH", 1)


# ---- What there is


def test_what_the_account_may_read_and_nobody_declared_is_listed(
    postgres: PostgresDatabase,
) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA crm")
    postgres.execute("CREATE TABLE parted (id int) PARTITION BY RANGE (id)")
    postgres.execute("CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (1) TO (9)")
    postgres.execute('CREATE VIEW crm."No. 1" AS SELECT id FROM t')
    declared = [postgres.table("t")]
    assert postgres.source().undeclared(declared) == ["crm.No. 1", "public.parted"]
    postgres.execute(f"REVOKE pg_read_all_data FROM {postgres.reader}")
    postgres.execute(f"GRANT SELECT ON t, parted TO {postgres.reader}")
    assert postgres.source().undeclared(declared) == ["public.parted"]


# ---- Intervals


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date"])
def test_an_interval_takes_its_start_and_leaves_its_end(
    postgres: PostgresDatabase, type_: str
) -> None:
    step = timedelta(days=1) if type_ == "date" else TICK
    postgres.execute(f"CREATE TABLE t (id int PRIMARY KEY, at {type_} NOT NULL)")
    moments = [DAY - step, DAY, DAY + 2 * step, DAY + 3 * step]
    postgres.insert(
        "t", [(at, f"{moment:%Y-%m-%d %H:%M:%S.%f}Z") for at, moment in enumerate(moments)]
    )
    table = postgres.table("t", cursor="at")
    for interval, expected in [
        (Interval(DAY, DAY + 3 * step), [1, 2]),
        (Interval(DAY, DAY + step), [1]),
        (Interval(None, DAY), [0]),
        (Interval(DAY + 3 * step, None), [3]),
        (WHOLE_TABLE, [0, 1, 2, 3]),
    ]:
        assert ids(postgres.extract(table, interval)) == expected, interval


def test_a_wall_clock_is_read_by_its_zone(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL)")
    postgres.insert("t", [(1, "2026-09-30 19:59:59"), (2, "2026-09-30 20:00:00")])
    cursor = {"column": "at", "time_zone": "America/New_York"}
    assert ids(postgres.extract(postgres.table("t", cursor=cursor), Interval(DAY, None))) == [2]


def test_a_wall_clock_of_an_unknown_zone_is_refused(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamp NOT NULL)")
    postgres.execute(f"ALTER DATABASE {postgres.name} SET timezone = 'Europe/Paris'")
    with pytest.raises(SourceMismatch, match="on Europe/Paris") as refused:
        postgres.source().closed(postgres.table("t", cursor="at"), Interval())
    assert "time_zone: UTC" in refused.value.fix


@pytest.mark.parametrize(("value", "shown"), [("NULL", "NULL"), ("'infinity'", "not between")])
def test_a_row_without_a_time_is_refused_at_every_read(
    postgres: PostgresDatabase, value: str, shown: str
) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz)")
    postgres.execute(f"INSERT INTO t VALUES (1, now()), (2, {value})")
    table = postgres.table("t", cursor="at")
    with pytest.raises(SourceMismatch, match=f"1 rows whose cursor 'at' is {shown}"):
        postgres.source().closed(table, Interval())
    with pytest.raises(SourceMismatch, match=f"1 rows whose cursor 'at' is {shown}"):
        postgres.extract(table, Interval(None, DAY))


def test_rows_of_the_future_are_told(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL)")
    postgres.execute("INSERT INTO t VALUES (1, now() + '1 day')")
    closing = postgres.source().closed(postgres.table("t", cursor="at"), Interval())
    assert "1 rows whose cursor 'at' lies in the future" in closing.warnings[0]


# ---- What is declared, and what is there


@pytest.mark.parametrize(
    ("definition", "options", "says"),
    [
        ("id int", {}, "no primary key or unique index on \\(id\\)"),
        ("id int UNIQUE", {}, "no primary key or unique index"),
        ("id int NOT NULL UNIQUE DEFERRABLE", {}, "no primary key or unique index"),
        ("id int PRIMARY KEY", {"primary_key": ["no"]}, "has no column 'no'"),
        (
            "id int PRIMARY KEY",
            {"cursor": "no"},
            "has no column 'no', which is declared as its cur",
        ),
        ("id int PRIMARY KEY", {"cursor": "id"}, "is not a date or time"),
        (
            "id int PRIMARY KEY, at timestamptz NOT NULL",
            {"cursor": {"column": "at", "time_zone": "Europe/Paris"}},
            "keeps moments",
        ),
        ("id int PRIMARY KEY", {"harm": {"max_replica_lag_s": 5}}, "its server is no replica"),
    ],
)
def test_what_is_declared_and_not_there_is_named(
    postgres: PostgresDatabase, definition: str, options: dict[str, Any], says: str
) -> None:
    postgres.execute(f"CREATE TABLE t ({definition})")
    with pytest.raises(SourceMismatch, match=says) as refused:
        postgres.source().check([postgres.table("t", **options)])
    assert refused.value.fix


def test_a_unique_index_is_a_key_if_it_has_all_rows(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (id int NOT NULL, part int NOT NULL)")
    postgres.execute("CREATE UNIQUE INDEX ON t (id) WHERE id > 5")
    with pytest.raises(SourceMismatch):
        postgres.source().check([postgres.table("t")])
    postgres.execute("CREATE UNIQUE INDEX ON t (id) INCLUDE (part)")
    assert "PostgreSQL 1" in postgres.source().check([postgres.table("t")])


def test_what_is_no_plain_table_is_read_too(postgres: PostgresDatabase) -> None:
    postgres.execute(
        "CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (500);"
        "CREATE TABLE high PARTITION OF parts FOR VALUES FROM (500) TO (9999);"
        "CREATE TABLE parent (id int PRIMARY KEY, v text);"
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);"
        "INSERT INTO parts SELECT g, repeat('x', 500) FROM generate_series(1, 900) g;"
        "INSERT INTO parent SELECT id, v FROM low; INSERT INTO child SELECT id, v FROM high;"
        "CREATE VIEW seen AS SELECT * FROM parts; CREATE MATERIALIZED VIEW kept AS TABLE parts"
    )
    for name in ("parts", "parent", "seen"):
        assert ids(postgres.extract(postgres.table(name))) == list(range(1, 901)), name
    assert postgres.extract(postgres.table("kept", primary_key=[])).num_rows == 900
    for name in ("parts", "parent"):
        table = postgres.table(name)
        ranges = page_ranges(postgres.relation(table), 5)
        assert len(ranges) == 5
        with postgres.source().extract(table, WHOLE_TABLE, ranges=ranges) as extraction:
            found = pa.Table.from_batches(extraction.batches)
        assert ids(found) == list(range(1, 901)), name


def test_a_row_security_policy_hides_no_rows(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    postgres.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    postgres.execute("CREATE POLICY one ON t USING (id = 1)")
    with pytest.raises(SourceRefused, match="row-level security") as refused:
        postgres.extract(postgres.table("t"))
    assert "BYPASSRLS" in refused.value.fix


# ---- Accounts and outages


def test_a_wrong_account_or_place_is_one_clear_error(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY)")
    kinds: list[tuple[dict[str, Any], type[SourceError], str]] = [
        ({"password": "wr'ong\\"}, SourceRefused, "password authentication failed"),
        ({"login": "nobody"}, SourceRefused, "password authentication failed"),
        ({"schema": "no_such"}, SourceMismatch, 'database "no_such" does not exist'),
        ({"port": free_port(0)}, SourceUnavailable, "Connection refused"),
    ]
    for changes, kind, says in kinds:
        with pytest.raises(kind, match=says) as refused:
            postgres.source(**changes).check()
        said = str(refused.value)
        assert refused.value.fix
        assert postgres.reader not in said.replace(f"user '{postgres.reader}'", "").replace(
            f'user "{postgres.reader}"', ""
        )
        assert "wr'ong" not in said
    unreadable: list[tuple[dict[str, Any], str]] = [
        ({"schema": None}, "no database"),
        ({"extra": {"ssl_mode": "x"}}, "ssl_mode"),
    ]
    for changes, says in unreadable:
        with pytest.raises(ConnectionNotFound, match=says):
            postgres.source(**changes).check()


def test_a_server_proves_who_it_is_where_the_connection_names_an_authority(
    postgres: PostgresDatabase, sandbox_paths: SandboxPaths, tmp_path: Path
) -> None:
    authority = services.postgres_authority(sandbox_paths) / CA_FILE
    assert "with TLS" in access(postgres.connection(extra={"sslmode": "require"})).reached
    assert "without TLS" in access(postgres.connection(extra={"sslmode": "disable"})).reached
    assert postgres.source(extra={"sslrootcert": str(authority)}).check()
    make_certificates(tmp_path)
    for name in (CA_FILE, "no"):
        with pytest.raises(SourceUnavailable, match=r"SSL error|certificate") as refused:
            postgres.source(extra={"sslrootcert": str(tmp_path / name)}).check()
        assert refused.value.fix


def test_an_account_without_rights_is_told_what_grants_them(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, secret text)")
    postgres.execute(f"REVOKE pg_read_all_data FROM {postgres.reader}")
    with pytest.raises(SourceRefused) as refused:
        postgres.source().check([postgres.table("t")])
    for grant in refused.value.fix.removesuffix(".").split("; "):
        postgres.execute(grant)
    assert postgres.source().check([postgres.table("t")])
    postgres.execute(f"REVOKE SELECT ON t FROM {postgres.reader}")
    postgres.execute(f"GRANT SELECT (id) ON t TO {postgres.reader}")
    with pytest.raises(SourceRefused, match="permission denied"):
        postgres.extract(postgres.table("t"))
    assert postgres.extract(postgres.table("t"), without=frozenset({"secret"})).num_rows == 0


def test_what_the_server_cannot_compute_is_its_own_error(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE VIEW t AS SELECT 1 AS id, 1 / (random() * 0)::int AS v")
    with pytest.raises(SourceFailed, match=r"division by zero \(22012\)"):
        postgres.extract(postgres.table("t"))


def test_a_connection_that_breaks_is_an_outage(many: PostgresDatabase) -> None:
    def broken() -> None:
        with many.source().extract(many.table("t"), WHOLE_TABLE) as extraction:
            many.execute(f"SELECT pg_terminate_backend(pid) {many.sessions}")
            list(extraction.batches)

    with pytest.raises(SourceUnavailable, match="terminating connection"):
        broken()


def test_an_abandoned_read_leaves_no_session(many: PostgresDatabase) -> None:
    many.execute("CREATE VIEW endless AS SELECT a.id FROM t a, t b, t c")
    for name in ("endless", "t"):
        with many.source().extract(many.table(name), WHOLE_TABLE) as extraction:
            # Held until the end, as a landing that fails would.
            batches = iter(extraction.batches)
            assert next(batches).num_rows
        assert many.rows(f"SELECT 1 {many.sessions} AND state = 'active'") == []


# ---- Pieces and ranges


@pytest.mark.usefixtures("small_pieces")
def test_each_row_is_read_once_whatever_its_piece(many: PostgresDatabase) -> None:
    expected = list(range(1, MANY + 1))
    for changes in (
        {},
        {"as_of_one_moment": True},
        {"cursor": {"column": "at", "lookback": {"count": 1, "period": "hour"}}},
    ):
        table = (
            many.table("t", cursor="at", **changes)
            if "cursor" not in changes
            else many.table("t", **changes)
        )
        assert ids(many.extract(table)) == expected
    # By the cursor's index, with many rows of the same value.
    many.execute("UPDATE t SET at = '2021-01-01Z' WHERE id BETWEEN 10000 AND 10100")
    start = datetime(2021, 1, 1, tzinfo=UTC)
    interval = Interval(start, start + timedelta(days=20))
    found = many.extract(many.table("t", cursor="at", verify="values"), interval)
    where = "at >= '2021-01-01Z' AND at < '2021-01-21Z'"
    assert ids(found) == sorted(id_ for (id_,) in many.rows(f"SELECT id FROM t WHERE {where}"))


@pytest.mark.usefixtures("small_pieces")
def test_as_of_one_moment_nothing_that_writers_do_between_pieces_is_seen(
    many: PostgresDatabase,
) -> None:
    before = many.rows("SELECT id, v FROM t ORDER BY id")
    ranges = page_ranges(many.relation(many.table("t")), 3)
    with many.source().extract(many.table("t"), WHOLE_TABLE, ranges=ranges) as extraction:
        batches = iter(extraction.batches)
        found = [next(batches)]
        for batch in batches:
            many.execute("UPDATE t SET v = v || 'y' WHERE id % 97 = 0")
            many.execute(f"DELETE FROM t WHERE id % {random.randint(50, 99)} = 1")  # noqa: S311
            found.append(batch)
    rows = pa.Table.from_batches(found).sort_by("id")
    assert len(found) > 10
    assert list(zip(rows["id"].to_pylist(), rows["v"].to_pylist(), strict=True)) == before


@pytest.mark.usefixtures("small_pieces")
def test_with_a_cursor_an_unchanged_row_is_read_once_whatever_writers_do(
    many: PostgresDatabase,
) -> None:
    table = many.table("t", cursor="at")
    interval = Interval(None, datetime(2026, 1, 1, tzinfo=UTC))
    with many.source().extract(table, interval) as extraction:
        found = []
        for batch in extraction.batches:
            # An edit moves the row elsewhere in the table, and out of the interval.
            many.execute("UPDATE t SET at = now() WHERE id % 1000 = 1 AND id > 5000")
            found += batch["id"].to_pylist()
    assert len(found) == len(set(found))
    unchanged = {id_ for id_ in range(1, MANY + 1) if id_ % 1000 != 1 or id_ <= 5000}
    assert unchanged <= set(found)


def test_a_table_that_is_written_anew_between_its_pieces_is_refused(
    many: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = many.table("t", cursor="at")
    monkeypatch.setattr(source, "_MIN_ROWS_A_RANGE", 1)
    options = table.options.model_copy(update={"partitions": 3})
    ranges = many.source().ranges(replace(table, options=options), WHOLE_TABLE)
    assert len(ranges) == 3
    as_json = Partition(Batch(table.key), ranges).to_json()
    assert Partition.from_json(as_json).ranges == ranges
    found = [id_ for one in ranges for id_ in ids(read(many, table, one))]
    assert sorted(found) == list(range(1, MANY + 1))
    many.execute("VACUUM FULL t")
    with pytest.raises(SourceMismatch, match="was written anew"):
        read(many, table, ranges[1])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("options", [{}, {"cursor": "at"}], ids=["one moment", "many moments"])
def test_a_table_that_is_written_anew_while_it_is_read_is_refused(
    many: PostgresDatabase, options: dict[str, Any]
) -> None:
    with many.source().extract(many.table("t", **options), WHOLE_TABLE) as extraction:
        batches = iter(extraction.batches)
        next(batches)
        many.execute("VACUUM FULL t")
        with pytest.raises(SourceMismatch, match="was written anew"):
            list(batches)


def read(database: PostgresDatabase, table: IngestTable, key_range: KeyRange) -> pa.Table:
    with database.source().extract(table, WHOLE_TABLE, ranges=[key_range]) as extraction:
        return pa.Table.from_batches(extraction.batches, schema=extraction.schema)


def test_a_table_is_split_only_where_its_ranges_see_each_row_once(
    many: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_MIN_ROWS_A_RANGE", 1)
    lookback = {"column": "at", "lookback": {"count": 1, "period": "hour"}}
    interval = Interval(None, DAY)

    def count(interval: Interval, **options: Any) -> int:
        return len(many.source().ranges(many.table("t", partitions=2, **options), interval))

    assert count(WHOLE_TABLE) == count(interval, cursor="at") == 2
    assert count(WHOLE_TABLE, as_of_one_moment=False) == count(interval, cursor=lookback) == 1
    assert count(Interval(DAY, None), cursor="at") == 1
    many.execute("CREATE VIEW seen AS TABLE t")
    assert many.source().ranges(many.table("seen", partitions=2), WHOLE_TABLE) == (EVERY_KEY,)


def test_a_piece_that_takes_too_long_is_asked_for_again_in_halves(
    postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DEFAULT_STATEMENT_SECONDS", 0.1)
    monkeypatch.setattr(source, "_FIRST_PIECE_BYTES", 10**9)
    # Ten rows a page, each of which takes some milliseconds.
    postgres.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text);"
        "INSERT INTO t SELECT g, repeat('x', 700) FROM generate_series(1, 200) g;"
        "CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS "
        "$$ BEGIN PERFORM pg_sleep(0.001); RETURN $1; END $$"
    )
    sizes = []
    taken = pieces.Pages.take

    def take(self: pieces.Pages, size: int) -> pieces.Piece:
        piece = taken(self, size)
        sizes.append(piece.size)
        return piece

    monkeypatch.setattr(pieces.Pages, "take", take)
    found = Relation.columns

    def slow(self: Relation, without: frozenset[str]) -> list[Column]:
        columns = found(self, without)
        return [replace(column, expression=f"slow({column.name}::text)") for column in columns[1:]]

    monkeypatch.setattr(Relation, "columns", slow)
    monkeypatch.setattr(pace, "_FEWEST_ROWS", 1)
    assert postgres.extract(postgres.table("t", verify="off")).num_rows == 200
    assert sizes[0] > sizes[1]


def test_a_declared_limit_that_cannot_be_kept_is_an_error(postgres: PostgresDatabase) -> None:
    postgres.execute("CREATE VIEW t AS SELECT 1 AS id, pg_sleep(5)::text AS v")
    table = postgres.table("t", harm={"max_statement_s": 0.1})
    with pytest.raises(SourceBusy, match=r"longer than the 0\.1 s"):
        postgres.extract(table)


# ---- Keys


def test_rows_are_found_by_keys_of_any_type(postgres: PostgresDatabase) -> None:
    key = ["name", "bytes", "at", "amount", "flag", "code"]
    postgres.execute(
        "CREATE TABLE t (name text, bytes bytea, at timestamptz, amount numeric(6,2), "
        "flag boolean, code char(4), note text, PRIMARY KEY (name, bytes, at, amount, flag, code));"
        "INSERT INTO t SELECT 'it''s \\ ' || g, decode(lpad(to_hex(g), 4, '0'), 'hex'), "
        "'2026-10-01Z'::timestamptz + g * '1 s'::interval, g / 4.0, g % 2 = 0, 'c', 'note ' || g "
        "FROM generate_series(1, 50) g"
    )
    table = postgres.table("t", primary_key=key)
    rows = postgres.extract(table)
    digests = postgres.digests(table, rows)
    assert digests == digests_of(rows, *key)
    compared = comparable(rows.schema, *key)
    wanted = [digest.key for digest in digests[::3]]
    with postgres.source().rows_of(table, compared, wanted, WHOLE_TABLE) as extraction:
        found = pa.Table.from_batches(extraction.batches, schema=extraction.schema)
    assert digests_of(found, *key) == digests[::3]


# ---- The whole way


@pytest.fixture
def loaded(workspace: Workspace, postgres: PostgresDatabase) -> Workspace:
    """A workspace whose table comes from PostgreSQL, and is loaded."""
    postgres.execute(
        "CREATE TABLE nps (id uuid PRIMARY KEY, score int, comment text, amount numeric(8,2), "
        "updated_at timestamptz NOT NULL)"
    )
    postgres.execute(
        "INSERT INTO nps SELECT gen_random_uuid(), g % 11, 'note ' || g, g * 1.5, "
        "'2026-10-01Z'::timestamptz + g * '1 minute'::interval FROM generate_series(1, 200) g"
    )
    workspace.environment.setenv("AIRFLOW_CONN_POSTGRES_PROD", postgres.uri)
    workspace.declare(kind="postgres", connection="postgres_prod", table="nps", deletes="keys")
    workspace.succeeds("ingest", "mysql.nps")
    return workspace


def test_deletes_and_differences_are_found_by_keys(
    loaded: Workspace, postgres: PostgresDatabase
) -> None:
    assert loaded.raw("SELECT COUNT(*), SUM(amount) FROM raw_mysql.nps") == [(200, 30150)]
    assert "200" in loaded.succeeds("audit", "mysql.nps")
    # A deletion, and an edit that the cursor does not show.
    postgres.execute("DELETE FROM nps WHERE score = 3")
    postgres.execute("UPDATE nps SET amount = -1 WHERE comment = 'note 8'")
    loaded.succeeds("ingest", "mysql.nps")
    gone = "SELECT COUNT(*) FROM raw_mysql.nps WHERE _deleted_at IS NOT NULL"
    assert loaded.raw(gone) == [(18,)]
    outcome = loaded.run("audit", "mysql.nps")
    assert outcome.exit_code != 0
    loaded.succeeds("audit", "mysql.nps", "--repair")
    newest = "SELECT amount FROM raw_mysql.nps WHERE comment = 'note 8' ORDER BY _loaded_at"
    assert loaded.raw(newest)[-1] == (-1,)
    loaded.succeeds("audit", "mysql.nps", "--deep")


def test_whole_numbers_are_compared_by_blocks(
    loaded: Workspace, postgres: PostgresDatabase
) -> None:
    postgres.execute(
        "DROP TABLE nps; CREATE TABLE nps (id bigint PRIMARY KEY, updated_at timestamp NOT NULL);"
        "INSERT INTO nps SELECT g, '2026-10-01' FROM generate_series(-500, 500) g"
    )
    loaded.succeeds("reload", "mysql.nps")
    postgres.execute("DELETE FROM nps WHERE id % 7 = 0")
    loaded.succeeds("ingest", "mysql.nps")
    gone = "SELECT id FROM raw_mysql.nps WHERE _deleted_at IS NOT NULL ORDER BY id"
    assert loaded.raw(gone) == [(id_,) for id_ in range(-497, 500, 7)]


def test_the_command_line_shows_what_is_there(
    loaded: Workspace, postgres: PostgresDatabase
) -> None:
    assert "note 1" in loaded.succeeds("preview", "mysql.nps")
    said = loaded.succeeds("connect", "shop", postgres.uri)
    assert "✓ shop: PostgreSQL " in said
    assert "public: 1 table" in said
    postgres.execute(f"REVOKE pg_read_all_stats FROM {postgres.reader}")
    said = loaded.succeeds("connect", "shop", postgres.uri)
    assert f'→ GRANT pg_read_all_stats TO "{postgres.reader}";' in said
