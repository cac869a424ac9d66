"""Splitting tables of a real server, MariaDB and MySQL, into ranges of their key."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.batch import EVERY_KEY, WHOLE_TABLE, Batch, Interval, KeyRange, Partition
from millrace.catalog import Pii
from millrace.errors import ManifestCorrupt, SourceRefused
from millrace.sources import pace
from millrace.sources.mysql import source as mysql_source
from millrace.sources.mysql.ranges import split
from millrace.sources.mysql.relation import Relation
from millrace.sources.mysql.types import column_of, quote

if TYPE_CHECKING:
    from tests.millrace.conftest import Database, Workspace

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

DAY = datetime(2026, 10, 1, tzinfo=UTC)
ROWS = 20_000


@pytest.fixture(autouse=True)
def small_tables_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_source, "_MIN_ROWS_A_RANGE", 10)
    monkeypatch.setattr(mysql_source, "_ROWS_A_RANGE", 5_000)


@pytest.fixture
def ranges_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_source, "_FIRST_PIECE_BYTES", 0)
    monkeypatch.setattr(pace, "_FEWEST_ROWS", 3)


@pytest.fixture
def lockable(mysql: Database) -> Iterator[Database]:
    """A database whose tables the pipeline's account may lock."""
    account = f"'{mysql.server.reader_user}'@'{mysql.server.host}'"
    mysql.execute(f"GRANT LOCK TABLES ON {mysql.name}.* TO {account}")
    yield mysql
    mysql.execute(f"REVOKE LOCK TABLES ON {mysql.name}.* FROM {account}")


def keys(mysql: Database, table: Any, ranges: Sequence[KeyRange]) -> list[list[Any]]:
    """The keys that each range reads."""
    with mysql.source().extract(table, WHOLE_TABLE, ranges=ranges) as extraction:
        return [
            [row for batch in stream for row in batch["id"].to_pylist()]
            for stream in extraction.streams
        ]


def declared(mysql: Database, *key: str, cursor: str | None = "at", **options: Any) -> Any:
    table = mysql.table("t", cursor=cursor, primary_key=key or ("id",))
    return replace(table, options=table.options.model_copy(update=options))


def fill(mysql: Database, definition: str, values: str, rows: int = ROWS) -> None:
    mysql.execute(f"CREATE TABLE t ({definition}, at DATETIME NOT NULL DEFAULT '2026-10-01')")
    names = definition.split("PRIMARY KEY (")[1].split(")")[0]
    mysql.execute(f"INSERT IGNORE INTO t ({names}) SELECT {values} FROM {mysql.seq(1, rows)} s")
    mysql.rows("ANALYZE TABLE t")


@pytest.mark.parametrize(
    ("definition", "values"),
    [
        ("id BIGINT, PRIMARY KEY (id)", "seq"),
        ("id BIGINT, PRIMARY KEY (id)", "CAST(seq AS SIGNED) - 10000"),
        ("id BIGINT UNSIGNED, PRIMARY KEY (id)", "18446744073709551615 - seq * 922337203685"),
        # Nothing but a gap between two dense ends.
        ("id BIGINT, PRIMARY KEY (id)", "IF(seq % 2, seq, 1000000000000000 + seq)"),
        # Nine tenths of the rows in a thousandth of the values.
        ("id INT, PRIMARY KEY (id)", "IF(seq % 10, seq, seq * 1000)"),
        ("id DECIMAL(30,10), PRIMARY KEY (id)", "seq * seq / 7"),
        ("id DATETIME(6), PRIMARY KEY (id)", "'2026-01-01' + INTERVAL seq * seq SECOND"),
        ("id DATE, PRIMARY KEY (id)", "'1990-01-01' + INTERVAL seq DAY"),
        ("id CHAR(36), PRIMARY KEY (id)", "UUID()"),
        ("id CHAR(32), PRIMARY KEY (id)", "LEFT(SHA2(seq, 256), 32)"),
        ("id VARCHAR(50), PRIMARY KEY (id)", "CONCAT(ELT(seq % 3 + 1, 'ann', 'Bob', 'carl'), seq)"),
        ("id BINARY(16), PRIMARY KEY (id)", "UNHEX(LEFT(SHA2(seq, 256), 32))"),
        # One tenant has nearly everything.
        ("tenant INT, id INT, PRIMARY KEY (tenant, id)", "IF(seq % 20, 7, seq % 50), seq"),
        ("tenant CHAR(3), id INT, PRIMARY KEY (tenant, id)", "ELT(seq % 2 + 1, 'abc', 'xyz'), seq"),
    ],
)
def test_ranges_are_about_equal_whatever_the_key_looks_like(
    mysql: Database, definition: str, values: str
) -> None:
    fill(mysql, definition, values)
    key = tuple(definition.split("PRIMARY KEY (")[1].rstrip(")").split(", "))
    table = declared(mysql, *key, partitions=4)
    ranges = mysql.source().ranges(table, WHOLE_TABLE)
    counts = [len(found) for found in keys(mysql, table, ranges)]
    assert len(counts) == 4
    assert sum(counts) == mysql.rows("SELECT COUNT(*) FROM t")[0][0]
    assert max(counts) < 1.5 * sum(counts) / 4


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "BIGINT UNSIGNED": st.integers(0, 2**64 - 1),
    "DECIMAL(10,4)": st.integers(-(10**10) + 1, 10**10 - 1).map(lambda n: Decimal(n).scaleb(-4)),
    "DATETIME(6)": st.datetimes(datetime(1000, 1, 1)).map(lambda at: at.isoformat(" ")),
    "DATE": st.dates(datetime(1000, 1, 1).date()),
    "VARCHAR(8) COLLATE utf8mb4_unicode_ci": TEXTS,
    "VARCHAR(8) COLLATE utf8mb4_bin": TEXTS,
    "VARCHAR(8) COLLATE utf8mb4_0900_ai_ci": TEXTS,
    "VARCHAR(8) COLLATE utf8mb4_0900_as_cs": TEXTS,
    "VARCHAR(8) COLLATE utf8mb4_0900_bin": TEXTS,
    "VARCHAR(8) CHARACTER SET latin1": st.text(
        st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=8
    ),
    "VARBINARY(8)": st.binary(max_size=8),
    "ENUM('b','a','d','c')": st.sampled_from("abcd"),
}


# And in exactly one piece of it.
@pytest.mark.usefixtures("ranges_are_read_in_pieces")
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_row_lies_in_exactly_one_range(lockable: Database, data: st.DataObject) -> None:
    # MariaDB has no collations of Unicode 9.
    known = sorted(type_ for type_ in KEYS if not (lockable.is_mariadb and "_0900_" in type_))
    types = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    names = [f"k%`{at}" for at in range(len(types))]
    rows = data.draw(st.lists(st.tuples(*(KEYS[type_] for type_ in types)), max_size=40))
    count = data.draw(st.integers(1, 6))
    key = ", ".join(
        f"{quote(name).replace('%%', '%')} {data.draw(st.sampled_from(['', 'DESC']))}"
        for name in names
    )
    key_names = ", ".join(quote(name) for name in names)
    columns = ", ".join(
        f"{quote(name).replace('%%', '%')} {type_}"
        for name, type_ in zip(names, types, strict=True)
    )
    lockable.execute("DROP TABLE IF EXISTS t")
    lockable.execute(
        f"CREATE TABLE t (id INT AUTO_INCREMENT UNIQUE, {columns}, PRIMARY KEY ({key}))"
    )
    marks = ", ".join(["%s"] * len(types))
    for row in rows:
        # Keys that the collation takes for equal are left out.
        lockable.execute(f"INSERT IGNORE INTO t ({key_names}) VALUES ({marks})", row)
    source = lockable.source()
    table = lockable.table("t", primary_key=tuple(names))
    with source._server.connected() as session:
        relation = Relation.find(session, "t", source._server.connection)
        ranges = split(session, relation.quoted, relation.key, count)
    assert len(ranges) <= count
    found = [row for rows in keys(lockable, table, ranges) for row in rows]
    assert sorted(found) == sorted(id_ for (id_,) in lockable.rows("SELECT id FROM t"))
    for key_range in ranges:
        partition = Partition(Batch("mysql.rows"), (key_range,), "attempt")
        assert Partition.from_json(partition.to_json()) == partition


def test_connections_see_one_moment_though_writers_commit_meanwhile(lockable: Database) -> None:
    fill(lockable, "id INT, PRIMARY KEY (id)", "seq")
    lockable.execute("ALTER TABLE t ADD COLUMN v INT NOT NULL DEFAULT 0")
    table = declared(lockable, cursor=None, partitions=4)
    source = lockable.source()
    ranges = source.ranges(table, WHOLE_TABLE)
    assert len(ranges) == 4
    writer = Writer(lockable)
    with writer:
        for _ in range(20):
            with source.extract(table, WHOLE_TABLE, ranges=ranges) as extraction:
                rows = pa.Table.from_batches(extraction.batches, schema=extraction.schema)
            # Each transaction gives every row the same next number.
            assert len(rows["v"].unique()) == 1, "rows of several moments"
            assert rows.num_rows == ROWS
    assert writer.commits > 3


class Writer:
    """Changes all rows of t, in one transaction after another, until the block ends."""

    def __init__(self, mysql: Database) -> None:
        self.commits = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(mysql,))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self, mysql: Database) -> None:
        server = mysql.server
        client = server.connect_as_admin(
            db=mysql.name,
        )
        cursor = client.cursor()
        while not self._stop.is_set():
            cursor.execute("UPDATE t SET v = v + 1 WHERE id <= 100")
            cursor.execute("UPDATE t SET v = v + 1 WHERE id > 100")
            client.commit()
            self.commits += 1
        client.close()


def test_a_whole_table_is_not_split_without_the_right_to_lock_it(mysql: Database) -> None:
    fill(mysql, "id INT, PRIMARY KEY (id)", "seq")
    source = mysql.source()
    assert source.ranges(declared(mysql, cursor=None), WHOLE_TABLE) == (EVERY_KEY,)
    table = declared(mysql, cursor=None, partitions=2)
    ranges = source.ranges(table, WHOLE_TABLE)
    assert len(ranges) == 2
    with pytest.raises(SourceRefused, match="does not let 'millrace_reader' lock") as refused:
        keys(mysql, table, ranges)
    assert "GRANT LOCK TABLES" in refused.value.fix


def test_an_interval_is_split_without_the_right_to_lock(mysql: Database) -> None:
    fill(mysql, "id INT, PRIMARY KEY (id)", "seq")
    table = declared(mysql)
    ranges = mysql.source().ranges(table, Interval(None, DAY))
    assert len(ranges) > 2
    assert sorted(chain.from_iterable(keys(mysql, table, ranges))) == list(range(1, ROWS + 1))


def test_a_lock_that_is_held_elsewhere_is_waited_for(
    lockable: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lockable, "id INT, PRIMARY KEY (id)", "seq")
    monkeypatch.setattr(mysql_source, "_LOCK_SECONDS", 1)
    table = declared(lockable, cursor=None, partitions=2)
    ranges = lockable.source().ranges(table, WHOLE_TABLE)
    lockable.execute("SET autocommit = 0")
    lockable.execute("UPDATE t SET at = at WHERE id = 1")
    asked = []
    lock = mysql_source.MySQLSource._lock

    def commit_after_the_first(self: Any, session: Any, relation: Any) -> None:
        asked.append(1)
        if len(asked) == 2:
            lockable.execute("COMMIT")
        lock(self, session, relation)

    monkeypatch.setattr(mysql_source.MySQLSource, "_lock", commit_after_the_first)
    assert len(list(chain.from_iterable(keys(lockable, table, ranges)))) == ROWS
    assert len(asked) == 2


def test_a_small_interval_is_read_by_one_connection(mysql: Database) -> None:
    fill(mysql, "id INT, PRIMARY KEY (id)", "seq")
    mysql.execute("ALTER TABLE t ADD INDEX (at)")
    mysql.execute("UPDATE t SET at = '2026-10-02' WHERE id <= 5")
    mysql.rows("ANALYZE TABLE t")
    interval = Interval(datetime(2026, 10, 2, tzinfo=UTC), None)
    assert mysql.source().ranges(declared(mysql, partitions=4), interval) == (EVERY_KEY,)


@pytest.mark.parametrize("definition", ["id ENUM('b', 'a', 'c')", "id DOUBLE", "id YEAR"])
def test_a_key_without_a_certain_order_is_not_split(mysql: Database, definition: str) -> None:
    fill(mysql, f"{definition}, n INT, PRIMARY KEY (id, n)", "ELT(seq % 3 + 1, 'a', 'b', 'c'), seq")
    table = declared(mysql, "id", "n", partitions=4)
    assert mysql.source().ranges(table, WHOLE_TABLE) == (EVERY_KEY,)


def test_personal_data_is_no_boundary(mysql: Database) -> None:
    fill(mysql, "id VARCHAR(50), PRIMARY KEY (id)", "CONCAT(seq, '@example.com')")
    table = replace(declared(mysql, partitions=4), pii={"id": Pii.HASH})
    assert mysql.source().ranges(table, WHOLE_TABLE) == (EVERY_KEY,)


def test_a_view_is_read_by_one_connection(mysql: Database) -> None:
    fill(mysql, "id INT, PRIMARY KEY (id)", "seq")
    mysql.execute("CREATE VIEW v AS SELECT * FROM t")
    table = mysql.table("v", cursor="at")
    assert mysql.source().ranges(table, WHOLE_TABLE) == (EVERY_KEY,)


@pytest.mark.parametrize("how", ["one worker", "several workers"])
def test_a_batch_that_is_split_arrives_whole(workspace: Workspace, how: str) -> None:
    workspace.mysql.execute(
        "INSERT INTO nps SELECT seq, seq % 11, CONCAT('no. ', seq), '2026-09-30' "
        f"FROM {workspace.mysql.seq(4, 20_000)} s"
    )
    workspace.mysql.rows("ANALYZE TABLE nps")
    pipeline = workspace.pipeline
    table = pipeline.catalog.table("mysql.nps")
    batch = pipeline.plan(table, Interval(None, datetime(2026, 10, 3, tzinfo=UTC)))
    assert batch
    if how == "one worker":
        manifest = pipeline.extract(table, batch)
    else:
        partitions = pipeline.partitions(table, batch)
        landed = [pipeline.extract_partition(table, partition) for partition in partitions]
        assert len(landed) > 2
        # A partition that is extracted again lands beside its first part, which is then an orphan.
        landed[0] = pipeline.extract_partition(table, partitions[0])
        urls = [part.url for part in landed]
        for incomplete in (urls[1:], [*urls[1:], urls[1]]):
            with pytest.raises(ManifestCorrupt, match=f"{len(urls) - 1} of them have been landed"):
                pipeline.merge(table, partitions, incomplete)
        manifest = pipeline.merge(table, partitions, urls)
    assert len(manifest.parts) > 2
    assert pipeline.load(table, manifest).rows == 20_000
    found = workspace.raw("SELECT COUNT(*), COUNT(DISTINCT id), SUM(score) FROM raw_mysql.nps")
    assert found == [(20_000, 20_000, workspace.mysql.rows("SELECT SUM(score) FROM nps")[0][0])]


def test_a_whole_table_is_one_workers(workspace: Workspace) -> None:
    workspace.mysql.execute(
        f"INSERT INTO users SELECT seq, seq, seq FROM {workspace.mysql.seq(3, 20_000)} s"
    )
    workspace.mysql.rows("ANALYZE TABLE users")
    pipeline = workspace.pipeline
    table = pipeline.catalog.table("mysql.users")
    table = replace(table, options=table.options.model_copy(update={"partitions": 3}))
    batch = pipeline.plan(table)
    assert batch
    (partition,) = pipeline.partitions(table, batch)
    assert len(partition.ranges) == 3
    assert partition.attempt is None


def test_columns_are_ordered_as_mysql_compares_them() -> None:
    assert column_of("id", "int", "int(11)").is_ordered
    assert not column_of("id", "enum", "enum('b','a')").is_ordered
