"""Whatever order rows arrive in, the incremental models end as a full refresh would.

A dbt start costs seconds, so dbt runs here only to show the statements it sends: once to build
the models, once to add to them. The properties replay these very statements, a new session a run,
in a database of the same name in memory. The last tests let dbt itself do the whole.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from dbt_common.events.base_types import EventMsg

    from tests.dbt_project.conftest import Warehouse

VERSIONS = "int_nps_responses_versions"
SEGMENTS = "int_users_segments"
DAYS = "int_nps_responses_aggregated_to_days"
# In the order in which they need each other.
VIEWS = ("stg_mysql__nps_responses", "stg_mysql__users")
TABLES = (VERSIONS, SEGMENTS, DAYS)
CURRENT = "int_nps_responses_deduplicated"
ROWS = f"""
select nps_response_id, score, is_deleted, updated_at, _loaded_at
from analytics_intermediate.{CURRENT}
order by nps_response_id
"""
DAY_ROWS = f"""
select response_date, segment, responses, promoters, passives, detractors
from analytics_intermediate.{DAYS}
where responses > 0
order by response_date, segment
"""
START = datetime.fromisoformat("2026-01-01")


@dataclass(frozen=True)
class Version:
    """A response as it was at a time, in hours since `START`."""

    id: int
    updated_at: int
    score: int
    is_deleted: bool = False
    user: int = 1
    day: int = 0


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
    """The raw tables as the loader keeps them: a new load of a batch replaces its rows."""

    database: Database
    batches: dict[int, list[Row]] = field(default_factory=dict)
    plans: Mapping[int, str | None] = field(default_factory=dict)
    loads: int = 0

    def load(self, batch: int, versions: Sequence[Version]) -> None:
        self.loads += 1
        self.batches[batch] = [Row(version, self.loads) for version in versions]
        self.database.execute(f"delete from raw_mysql.nps where _batch_id = '{batch}'")
        for v in versions:
            deleted_at = f"'{at(v.updated_at)}'" if v.is_deleted else "null"
            self.database.execute(
                f"insert into raw_mysql.nps values ({v.id}, {v.user}, {v.score}, null, 'email',"
                f" '{START + timedelta(days=v.day)}', '{at(v.updated_at)}', {deleted_at},"
                f" '{batch}', '{at(self.loads)}')"
            )

    def load_users(self, plans: Mapping[int, str | None]) -> None:
        self.loads += 1
        self.plans = plans
        self.database.execute("delete from raw_mysql.users")
        for user, plan in plans.items():
            quoted = f"'{plan}'" if plan else "null"
            self.database.execute(
                f"insert into raw_mysql.users (id, plan, is_active, _loaded_at)"
                f" values ({user}, {quoted}, 1, '{at(self.loads)}')"
            )

    def latest(self) -> list[Row]:
        """A key's latest change and, of equals, the last loaded."""
        rows = [row for batch in self.batches.values() for row in batch]
        rows.sort(key=lambda row: (row.version.updated_at, row.load))
        latest = {row.version.id: row for row in rows}
        return [latest[key] for key in sorted(latest)]

    def current(self) -> list[tuple[object, ...]]:
        """What the current versions should be."""
        return [row.current() for row in self.latest()]

    def days(self) -> list[tuple[object, ...]]:
        """What the days should hold: live responses in the plans that their users have now."""
        counts: dict[tuple[object, ...], Counter[str]] = {}
        for version in (row.version for row in self.latest()):
            if not version.is_deleted:
                day = (START + timedelta(days=version.day)).date()
                segment = self.plans.get(version.user) or "none"
                category = (["detractor"] * 7 + ["passive"] * 2 + ["promoter"] * 2)[version.score]
                counts.setdefault((day, segment), Counter())[category] += 1
        return [
            (*cell, n.total(), n["promoter"], n["passive"], n["detractor"])
            for cell, n in sorted(counts.items())
        ]


@dataclass(frozen=True)
class Statements:
    """The raw tables' definitions, and what dbt sent for each model in a first and a later run."""

    raw: Sequence[str] = field(repr=False)
    build: Mapping[str, Sequence[str]] = field(repr=False)
    increment: Mapping[str, Sequence[str]] = field(repr=False)


class Replay:
    """A database of one's own in which `dbt run` is a replay of its statements."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.connection = duckdb.connect()
        self.execute("attach ':memory:' as millrace; use millrace")
        for schema in ("raw_mysql", "analytics_staging", "analytics_intermediate"):
            self.execute(f"create schema {schema}")
        for statement in statements.raw:
            self.execute(statement)
        self.replay(statements.build, VIEWS)
        self.is_built = False

    def close(self) -> None:
        self.connection.close()

    def execute(self, sql: str) -> None:
        self.connection.execute(sql)

    def replay(self, sent: Mapping[str, Sequence[str]], models: Sequence[str]) -> None:
        # dbt's temporary tables end with its session.
        for model in models:
            with self.connection.cursor() as session:
                for statement in sent[model]:
                    session.execute(statement)

    def run(self, models: Sequence[str] = TABLES) -> None:
        if self.is_built:
            self.replay(self.statements.increment, models)
        else:
            self.replay(self.statements.build, (*TABLES, CURRENT))
        self.is_built = True

    def refresh(self) -> None:
        for table in (VERSIONS, DAYS):
            self.execute(f"drop table if exists analytics_intermediate.{table} cascade")
        self.replay(self.statements.build, (VERSIONS,))
        self.replay(self.statements.increment, (SEGMENTS,))
        self.replay(self.statements.build, (DAYS,))

    def rows(self) -> list[tuple[object, ...]]:
        return self.connection.execute(ROWS).fetchall()

    def days(self) -> list[tuple[object, ...]]:
        return self.connection.execute(DAY_ROWS).fetchall()


@pytest.fixture(scope="module")
def recorded(warehouse: "Warehouse") -> Statements:
    tables = warehouse.query("select sql from duckdb_tables() where schema_name = 'raw_mysql'")
    first, second = recorded_run(warehouse), recorded_run(warehouse)
    return Statements([sql for [sql] in tables], build=first, increment=second)


@pytest.fixture(scope="module", params=[10_000, 1])
def statements(recorded: Statements, request: pytest.FixtureRequest) -> Statements:
    """What dbt sends, also where the newest keys do not show the newest load."""
    temporary, *merge = recorded.increment[VERSIONS]
    assert "limit 10000" in temporary
    temporary = temporary.replace("limit 10000", f"limit {request.param}")
    return replace(recorded, increment={**recorded.increment, VERSIONS: [temporary, *merge]})


def recorded_run(warehouse: "Warehouse") -> dict[str, list[str]]:
    """Runs the models and returns the changing statements sent for each."""
    sent: dict[str, list[str]] = {}

    def record(event: "EventMsg") -> None:
        if event.info.name == "SQLQuery":
            name = event.data.node_info.node_name
            if re.search(r"^\s*(create|alter|drop|insert|merge)\b", event.data.sql, re.M | re.I):
                sent.setdefault(name, []).append(event.data.sql)

    warehouse.dbt("run", "--select", f"+{DAYS}", CURRENT, on_event=record)
    return sent


def test_replay_is_of_a_build_and_of_a_merge(statements: Statements) -> None:
    for table in TABLES:
        assert any("create  table" in sql for sql in statements.build[table])
        assert any("create temporary table" in sql for sql in statements.increment[table])
        assert "MERGE INTO" in statements.increment[table][-1]


versions = st.builds(
    Version,
    id=st.integers(1, 4),
    updated_at=st.integers(0, 5),
    score=st.integers(0, 10),
    is_deleted=st.booleans(),
    user=st.integers(1, 2),
    day=st.integers(0, 1),
)
# An extraction reads each key once.
batches = st.lists(st.lists(versions, unique_by=lambda v: v.id, max_size=4), min_size=1, max_size=5)
# A load without any user is refused (docs/decisions/0007).
plans = st.dictionaries(
    st.integers(1, 3), st.sampled_from(["free", "team", None]), min_size=1, max_size=3
)
# What a build gets done after a load: nothing, all, or what comes before a failure.
runs = st.sampled_from([(), (VERSIONS,), (SEGMENTS,), (VERSIONS, SEGMENTS), TABLES])


@dataclass(frozen=True)
class Delivery:
    """A load of a batch, perhaps one of the users, and the models that run then."""

    batch: int
    contents: list[Version]
    plans: dict[int, str | None] | None
    models: tuple[str, ...]


@st.composite
def deliveries(draw: st.DrawFn) -> list[Delivery]:
    """Loads of batches in any order, with repeats, each perhaps followed by a run."""
    contents = draw(batches)
    numbers = list(range(len(contents)))
    order = draw(st.lists(st.sampled_from(numbers), max_size=6)) + draw(st.permutations(numbers))
    return [
        Delivery(number, contents[number], draw(st.none() | plans), draw(runs)) for number in order
    ]


@settings(max_examples=100, deadline=None)
@given(history=deliveries(), starts_empty=st.booleans())
@example(
    # The days miss two versions and two plans, one after the other, and see only what they became.
    history=[
        Delivery(0, [Version(1, 0, 9)], {1: "free"}, TABLES),
        Delivery(1, [Version(1, 1, 7, day=1)], {1: "team"}, (VERSIONS, SEGMENTS)),
        Delivery(2, [Version(1, 2, 3, is_deleted=True)], {2: "team"}, (VERSIONS, SEGMENTS)),
        Delivery(3, [Version(1, 3, 3)], {1: "free"}, TABLES),
    ],
    starts_empty=False,
)
@example(
    # The third run changes every day's row, and for old versions only.
    history=[
        Delivery(0, [Version(1, 0, 9, user=1)], {1: "free", 2: "free"}, TABLES),
        Delivery(1, [Version(2, 0, 9, user=2)], None, TABLES),
        Delivery(2, [], {1: "team", 2: "free"}, TABLES),
        Delivery(3, [], None, TABLES),
    ],
    starts_empty=False,
)
def test_any_order_of_delivery_ends_as_a_full_refresh(
    statements: Statements, history: list[Delivery], starts_empty: bool
) -> None:
    with closing(Replay(statements)) as replay:
        raw = Raw(replay)
        if starts_empty:
            replay.run()
        for delivery in history:
            raw.load(delivery.batch, delivery.contents)
            if delivery.plans is not None:
                raw.load_users(delivery.plans)
            if delivery.models:
                replay.run(delivery.models)
            if delivery.models == TABLES:
                assert replay.rows() == raw.current()
                assert replay.days() == raw.days()
        replay.run()
        incremental = replay.rows(), replay.days()
        replay.refresh()
        assert incremental == (replay.rows(), replay.days()) == (raw.current(), raw.days())


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
    warehouse.execute("delete from raw_mysql.nps")
    for table in TABLES:
        warehouse.execute(f"drop table if exists analytics_intermediate.{table} cascade")
    raw = Raw(warehouse)
    selection = ("--select", f"+{DAYS}", CURRENT)
    for batch in order:
        raw.load(batch, contents[batch])
        raw.load_users({1: "free" if batch else "team"})
        warehouse.dbt("run", *selection)
    incremental = warehouse.query(ROWS), warehouse.query(DAY_ROWS)
    warehouse.dbt("run", *selection, "--full-refresh")
    assert incremental == (warehouse.query(ROWS), warehouse.query(DAY_ROWS))
    assert incremental == (raw.current(), raw.days())
