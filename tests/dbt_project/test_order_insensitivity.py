"""Whatever order rows arrive in, the incremental model ends as a full refresh would.

A dbt start costs seconds, so dbt runs here only to show the statements it sends: once to build
the model, once to add to it. The properties replay these very statements, a new session a run,
in a database of the same name in memory. The last tests let dbt itself do the whole.
"""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from dbt_common.events.base_types import EventMsg

    from tests.dbt_project.conftest import Warehouse

MODEL = "int_nps_responses_deduplicated"
STAGING = "stg_mysql__nps_responses"
TABLE = f"analytics_intermediate.{MODEL}"
ROWS = f"""
select nps_response_id, score, is_deleted, updated_at, _loaded_at
from {TABLE}
order by nps_response_id
"""
START = datetime.fromisoformat("2026-01-01")


@dataclass(frozen=True)
class Version:
    """A response as it was at a time, in hours since `START`."""

    id: int
    updated_at: int
    score: int
    is_deleted: bool = False


@dataclass(frozen=True)
class Row:
    """A version in the raw table, with the number of the load that brought it."""

    version: Version
    load: int

    def current(self) -> tuple[object, ...]:
        """The row the model should hold for it."""
        version = self.version
        return (
            version.id,
            version.score,
            version.is_deleted,
            at(version.updated_at),
            at(self.load),
        )


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


class Database(Protocol):
    """What the loader needs of a database."""

    def execute(self, sql: str) -> object:
        """Runs a statement."""


@dataclass
class Raw:
    """The raw table as the loader keeps it: a new load of a batch replaces its rows."""

    database: Database
    batches: dict[int, list[Row]] = field(default_factory=dict)
    loads: int = 0

    def load(self, batch: int, versions: Sequence[Version]) -> None:
        self.loads += 1
        self.batches[batch] = [Row(version, self.loads) for version in versions]
        self.database.execute(f"delete from raw_mysql.nps where _batch_id = '{batch}'")
        for v in versions:
            deleted_at = f"'{at(v.updated_at)}'" if v.is_deleted else "null"
            self.database.execute(
                f"insert into raw_mysql.nps values ({v.id}, 1, {v.score}, null, 'email', '{START}',"
                f" '{at(v.updated_at)}', {deleted_at}, '{batch}', '{at(self.loads)}')"
            )

    def current(self) -> list[tuple[object, ...]]:
        """What the model should hold: a key's latest change and, of equals, the last loaded."""
        rows = [row for batch in self.batches.values() for row in batch]
        rows.sort(key=lambda row: (row.version.updated_at, row.load))
        latest = {row.version.id: row for row in rows}
        return [latest[key].current() for key in sorted(latest)]


@dataclass(frozen=True)
class Statements:
    """The raw table's definition, and what dbt sent for the view, a first and a later run."""

    raw: str
    staging: Sequence[str]
    build: Sequence[str]
    increment: Sequence[str]


class Replay:
    """A database of one's own in which `dbt run` is a replay of its statements."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.connection = duckdb.connect()
        self.execute("attach ':memory:' as millrace; use millrace")
        for schema in ("raw_mysql", "analytics_staging", "analytics_intermediate"):
            self.execute(f"create schema {schema}")
        for statement in (statements.raw, *statements.staging):
            self.execute(statement)
        self.is_built = False

    def close(self) -> None:
        self.connection.close()

    def execute(self, sql: str) -> None:
        self.connection.execute(sql)

    def run(self) -> None:
        # dbt's temporary tables end with its session.
        with self.connection.cursor() as session:
            for statement in self.statements.increment if self.is_built else self.statements.build:
                session.execute(statement)
        self.is_built = True

    def refresh(self) -> None:
        self.execute(f"drop table if exists {TABLE}")
        self.is_built = False
        self.run()

    def rows(self) -> list[tuple[object, ...]]:
        return self.connection.execute(ROWS).fetchall()


@pytest.fixture(scope="module")
def statements(warehouse: "Warehouse") -> Statements:
    [[raw]] = warehouse.query("select sql from duckdb_tables() where table_name = 'nps'")
    first, second = recorded_run(warehouse), recorded_run(warehouse)
    return Statements(raw, staging=first[STAGING], build=first[MODEL], increment=second[MODEL])


def recorded_run(warehouse: "Warehouse") -> dict[str, list[str]]:
    """Runs the model and returns the changing statements sent for each node."""
    sent: dict[str, list[str]] = {MODEL: [], STAGING: []}

    def record(event: "EventMsg") -> None:
        if event.info.name == "SQLQuery":
            name = event.data.node_info.node_name
            if re.search(r"^\s*(create|alter|drop|merge)\b", event.data.sql, re.M | re.I):
                sent.setdefault(name, []).append(event.data.sql)

    warehouse.dbt("run", "--select", f"+{MODEL}", on_event=record)
    return sent


def test_replay_is_of_a_build_and_of_a_merge(statements: Statements) -> None:
    assert len(statements.build) == 1
    assert "create  table" in statements.build[0]
    temporary, merge = statements.increment
    assert "create temporary table" in temporary
    assert "MERGE INTO" in merge


versions = st.builds(
    Version,
    id=st.integers(1, 4),
    updated_at=st.integers(0, 5),
    score=st.integers(0, 10),
    is_deleted=st.booleans(),
)
# An extraction reads each key once.
batches = st.lists(st.lists(versions, unique_by=lambda v: v.id, max_size=4), min_size=1, max_size=5)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[int, list[Version], bool]]:
    """Loads of batches in any order, with repeats, each perhaps followed by a run."""
    contents = draw(batches)
    numbers = list(range(len(contents)))
    order = draw(st.lists(st.sampled_from(numbers), max_size=6)) + draw(st.permutations(numbers))
    return [(number, contents[number], draw(st.booleans())) for number in order]


@settings(max_examples=100, deadline=None)
@given(history=deliveries(), starts_empty=st.booleans())
def test_any_order_of_delivery_ends_as_a_full_refresh(
    statements: Statements,
    history: list[tuple[int, list[Version], bool]],
    starts_empty: bool,
) -> None:
    with closing(Replay(statements)) as replay:
        raw = Raw(replay)
        if starts_empty:
            replay.run()
        for batch, contents, runs in history:
            raw.load(batch, contents)
            if runs:
                replay.run()
                assert replay.rows() == raw.current()
        replay.run()
        incremental = replay.rows()
        replay.refresh()
        assert incremental == replay.rows() == raw.current()


INTERVAL = 3
INTERVALS = 3


@dataclass(frozen=True)
class Edit:
    """Somebody changes a response, `after` hours after the last change."""

    id: int
    score: int
    after: int


@dataclass(frozen=True)
class Extract:
    """An interval is extracted as MySQL is now, and loaded."""

    interval: int


@dataclass(frozen=True)
class Run:
    """Dbt runs."""


edits = st.builds(Edit, id=st.integers(1, 3), score=st.integers(0, 10), after=st.integers(0, 2))
steps = edits | st.builds(Extract, interval=st.integers(0, INTERVALS - 1)) | st.just(Run())


@settings(max_examples=60, deadline=None)
@given(life=st.lists(steps, max_size=20))
@example(
    # The second edit falls in the same instant as the first, which was extracted already.
    life=[Edit(1, 5, after=1), Extract(0), Run(), Edit(1, 9, after=0)]
)
def test_backfill_of_every_interval_ends_as_the_source_is(
    statements: Statements, life: list[Edit | Extract | Run]
) -> None:
    """A row that moved to a later interval is gone from its old one when that is read again."""
    source: dict[int, Version] = {}
    now = 0
    with closing(Replay(statements)) as replay:
        raw = Raw(replay)
        for step in [*life, *(Extract(n) for n in reversed(range(INTERVALS))), Run()]:
            match step:
                case Edit(id, score, after):
                    now = min(now + after, INTERVALS * INTERVAL - 1)
                    source[id] = Version(id, now, score)
                case Extract(interval):
                    raw.load(
                        interval,
                        [v for v in source.values() if v.updated_at // INTERVAL == interval],
                    )
                case Run():
                    replay.run()
        assert [row[:4] for row in replay.rows()] == [
            Row(source[id], load=0).current()[:4] for id in sorted(source)
        ]


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2, 1)])
def test_dbt_itself_ends_as_its_full_refresh(
    warehouse: "Warehouse", order: tuple[int, ...]
) -> None:
    contents = [
        [Version(1, 0, 9), Version(2, 0, 3)],
        [Version(1, 4, 2), Version(3, 1, 7)],
        [Version(1, 4, 5), Version(2, 5, 3, is_deleted=True), Version(4, 2, 10)],
    ]
    warehouse.execute(f"delete from raw_mysql.nps; drop table if exists {TABLE}")
    raw = Raw(warehouse)
    for batch in order:
        raw.load(batch, contents[batch])
        warehouse.dbt("run", "--select", f"+{MODEL}")
    incremental = warehouse.query(ROWS)
    warehouse.dbt("run", "--select", f"+{MODEL}", "--full-refresh")
    assert incremental == warehouse.query(ROWS) == raw.current()
