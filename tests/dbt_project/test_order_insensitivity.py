"""Whatever order rows arrive in, the marts end as a full refresh would make them.

A dbt start costs seconds, so dbt runs here only to show the statements it sends: once to build
the models and snapshots, once to add to them. The property tests replay these very statements in
a database of the same name in memory, with one session per node. In the last tests dbt itself runs.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
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

CURRENT = "int_nps_responses_deduplicated"
HISTORY = "nps_responses_snapshot"
PLANS = "users_snapshot"
DAYS = "fct_nps_responses_daily"
# In the order of their dependencies.
STAGING = ("stg_mysql__nps_responses", "stg_mysql__users")
VIEWS = ("int_users_plan_periods", "fct_nps_responses")
BUILD = (PLANS, CURRENT, HISTORY, DAYS)
ROWS = f"""
select nps_response_id, score, is_deleted, updated_at, _loaded_at
from analytics_intermediate.{CURRENT}
order by nps_response_id
"""
OPEN_VERSIONS = f"""
select nps_response_id, updated_at from analytics_snapshots.{HISTORY}
where dbt_valid_to is null
order by nps_response_id
"""
DAY_ROWS = f"""
select response_date, segment, responses, promoters, passives, detractors
from analytics.{DAYS}
order by response_date, segment
"""
START = datetime.fromisoformat("2026-01-01")


@dataclass(frozen=True)
class Version:
    """A version of a response: `updated_at` is in hours since `START`, `day` in days since then."""

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
    """The raw tables as the loader keeps them: a new load of a batch replaces its rows.

    Attributes:
        plans: Each user's plan now, and on which day since `START` the user got it.
        seen: The plans of each user that the snapshot has seen, the earliest first.
    """

    database: Database
    batches: dict[int, list[Row]] = field(default_factory=dict)
    plans: dict[int, tuple[str | None, int]] = field(default_factory=dict)
    seen: dict[int, list[tuple[str | None, int]]] = field(default_factory=dict)
    loads: int = 0

    def load(self, batch: int, versions: Sequence[Version]) -> None:
        self.loads += 1
        self.batches[batch] = [Row(version, self.loads) for version in versions]
        self.database.execute(f"delete from analytics_raw_mysql.nps where _batch_id = '{batch}'")
        for v in versions:
            deleted_at = f"'{at(v.updated_at)}'" if v.is_deleted else "null"
            self.database.execute(
                f"insert into analytics_raw_mysql.nps values ({v.id}, {v.user}, {v.score}, null, 'email',"
                f" '{START + timedelta(days=v.day)}', '{at(v.updated_at)}', {deleted_at},"
                f" '{batch}', '{at(self.loads)}')"
            )

    def load_users(self, plans: Mapping[int, str | None], day: int) -> None:
        """Replace all users; whose plan differs from before got it on this day."""
        self.loads += 1
        self.plans = {
            user: self.plans[user] if self.plans.get(user, ("", 0))[0] == plan else (plan, day)
            for user, plan in plans.items()
        }
        self.database.execute("delete from analytics_raw_mysql.users")
        for user, (plan, since) in self.plans.items():
            quoted = f"'{plan}'" if plan else "null"
            self.database.execute(
                "insert into analytics_raw_mysql.users (id, plan, is_active, updated_at, _loaded_at)"
                f" values ({user}, {quoted}, 1, '{START + timedelta(days=since)}',"
                f" '{at(self.loads)}')"
            )

    def snapshot(self) -> None:
        """Note what the snapshot of users should see now."""
        for user, version in self.plans.items():
            seen = self.seen.setdefault(user, [])
            if not seen or version[1] > seen[-1][1]:
                seen.append(version)

    def latest(self) -> list[Row]:
        """The latest version of each key; of equally late ones, the one loaded last."""
        rows = [row for batch in self.batches.values() for row in batch]
        rows.sort(key=lambda row: (row.version.updated_at, row.load))
        latest = {row.version.id: row for row in rows}
        return [latest[key] for key in sorted(latest)]

    def current(self) -> list[tuple[object, ...]]:
        """The rows that the model of current versions should hold."""
        return [row.current() for row in self.latest()]

    def segment(self, version: Version) -> str:
        """The plan that the user had on the day of the response, or the earliest that is known."""
        versions = self.seen.get(version.user, [])
        had = [plan for plan, since in versions[1:] if since <= version.day]
        return (had or [plan for plan, _ in versions[:1]] or [None])[-1] or "none"

    def days(self) -> list[tuple[object, ...]]:
        """The rows that the daily model should hold: live responses by the plan of their time."""
        counts: dict[tuple[object, ...], Counter[str]] = {}
        for version in (row.version for row in self.latest()):
            if not version.is_deleted:
                day = (START + timedelta(days=version.day)).date()
                category = (["detractor"] * 7 + ["passive"] * 2 + ["promoter"] * 2)[version.score]
                counts.setdefault((day, self.segment(version)), Counter())[category] += 1
        return [
            (*cell, n.total(), n["promoter"], n["passive"], n["detractor"])
            for cell, n in sorted(counts.items())
        ]


@dataclass(frozen=True)
class Statements:
    """The raw tables' definitions, and what dbt sent for each node in a first and a later run."""

    raw: Sequence[str] = field(repr=False)
    build: Mapping[str, Sequence[str]] = field(repr=False)
    increment: Mapping[str, Sequence[str]] = field(repr=False)


class Replay:
    """A private database in which a replay of its statements stands for `dbt build`."""

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.connection = duckdb.connect()
        self.execute("attach ':memory:' as millrace; use millrace")
        for layer in ("", "_staging", "_intermediate", "_snapshots"):
            self.execute(f"create schema analytics{layer}")
        self.execute("create schema analytics_raw_mysql")
        for statement in statements.raw:
            self.execute(statement)
        self.replay(statements.build, STAGING)
        self.is_built = False

    def close(self) -> None:
        self.connection.close()

    def execute(self, sql: str) -> None:
        self.connection.execute(sql)

    def replay(self, sent: Mapping[str, Sequence[str]], nodes: Sequence[str]) -> None:
        # dbt's temporary tables end with its session.
        for node in nodes:
            with self.connection.cursor() as session:
                for statement in sent[node]:
                    session.execute(statement)

    def run(self, nodes: Sequence[str] = BUILD) -> tuple[str, ...]:
        """Runs these nodes, the first time all of them; returns those that ran."""
        if self.is_built:
            self.replay(self.statements.increment, nodes)
            return tuple(nodes)
        self.is_built = True
        self.replay(self.statements.build, (PLANS, CURRENT, HISTORY, *VIEWS, DAYS))
        return BUILD

    def refresh(self) -> None:
        """A full refresh makes tables and views anew and leaves snapshots as they are."""
        self.execute(f"drop table analytics_intermediate.{CURRENT}")
        self.execute(f"drop table analytics.{DAYS}")
        self.replay(self.statements.build, (CURRENT, DAYS))
        self.replay(self.statements.increment, (PLANS, HISTORY))

    def rows(self) -> list[tuple[object, ...]]:
        return self.connection.execute(ROWS).fetchall()

    def open_versions(self) -> list[tuple[object, ...]]:
        return self.connection.execute(OPEN_VERSIONS).fetchall()

    def days(self) -> list[tuple[object, ...]]:
        return self.connection.execute(DAY_ROWS).fetchall()


@pytest.fixture(scope="module")
def statements(warehouse: "Warehouse") -> Statements:
    tables = warehouse.query(
        "select sql from duckdb_tables() where schema_name = 'analytics_raw_mysql'"
    )
    first, second = recorded_run(warehouse), recorded_run(warehouse)
    return Statements([sql for [sql] in tables], build=first, increment=second)


def recorded_run(warehouse: "Warehouse") -> dict[str, list[str]]:
    """Builds models and snapshots and returns the changing statements sent for each."""
    sent: dict[str, list[str]] = {}

    def record(event: "EventMsg") -> None:
        if event.info.name == "SQLQuery":
            name = event.data.node_info.node_name
            changing = r"^\s*(create|alter|drop|insert|update|delete|merge)\b"
            if re.search(changing, event.data.sql, re.MULTILINE | re.IGNORECASE):
                sent.setdefault(name, []).append(event.data.sql)

    warehouse.dbt(
        *("build", "--exclude-resource-type", "test", "unit_test"),
        *("--select", f"+{DAYS}", HISTORY),
        on_event=record,
    )
    return sent


def test_replay_is_of_a_build_and_of_increments(statements: Statements) -> None:
    for node in BUILD:
        assert any("create  table" in sql for sql in statements.build[node])
    for node in (PLANS, CURRENT, HISTORY):
        assert any("create temporary table" in sql for sql in statements.increment[node])
    assert "delete from" in statements.increment[CURRENT][-1]


versions = st.builds(
    Version,
    id=st.integers(1, 4),
    updated_at=st.integers(0, 5),
    score=st.integers(0, 10),
    is_deleted=st.booleans(),
    user=st.integers(1, 2),
    day=st.integers(0, 4),
)
# An extraction reads each key once.
batches = st.lists(st.lists(versions, unique_by=lambda v: v.id, max_size=4), min_size=1, max_size=5)
# A load without any user is refused (docs/decisions/0007).
plans = st.dictionaries(
    st.integers(1, 3), st.sampled_from(["free", "team", None]), min_size=1, max_size=3
)
# The nodes that a build finishes after a load: none, all, or those before a failure.
runs = st.sampled_from([(), (CURRENT,), (PLANS,), (PLANS, CURRENT), (CURRENT, HISTORY), BUILD])


@dataclass(frozen=True)
class Delivery:
    """A load of a batch, perhaps a load of the users, and the nodes that run then."""

    batch: int
    contents: list[Version]
    plans: dict[int, str | None] | None
    nodes: tuple[str, ...]


@st.composite
def deliveries(draw: st.DrawFn) -> list[Delivery]:
    """Loads of batches in any order, with repeats, each perhaps followed by a run."""
    contents = draw(batches)
    numbers = list(range(len(contents)))
    order = draw(st.lists(st.sampled_from(numbers), max_size=6)) + draw(st.permutations(numbers))
    return [
        Delivery(number, contents[number], draw(st.none() | plans), draw(runs)) for number in order
    ]


@settings(max_examples=40, deadline=None)
@given(history=deliveries(), starts_empty=st.booleans())
@example(
    # A user upgrades on day 1; a response of day 0 is edited and delivered again afterwards.
    history=[
        Delivery(0, [Version(1, 0, 9)], {1: "free"}, BUILD),
        Delivery(1, [Version(2, 1, 9, day=2)], {1: "team"}, BUILD),
        Delivery(2, [Version(1, 3, 3)], None, BUILD),
        Delivery(0, [Version(1, 0, 9)], None, BUILD),
    ],
    starts_empty=False,
)
@example(
    # The responses that a user gave after an upgrade are built before the upgrade is known.
    history=[
        Delivery(0, [Version(1, 0, 9, day=3)], {1: "free"}, BUILD),
        Delivery(1, [], {1: "team"}, BUILD),
        Delivery(2, [Version(1, 2, 3, is_deleted=True, day=3)], {2: "team"}, (CURRENT,)),
        Delivery(3, [Version(1, 3, 3, day=3)], {1: "free"}, BUILD),
    ],
    starts_empty=True,
)
def test_any_order_of_delivery_ends_as_a_full_refresh(
    statements: Statements, history: list[Delivery], starts_empty: bool
) -> None:
    with closing(Replay(statements)) as replay:
        raw = Raw(replay)
        if starts_empty:
            replay.run()
        for day, delivery in enumerate(history):
            raw.load(delivery.batch, delivery.contents)
            if delivery.plans is not None:
                raw.load_users(delivery.plans, day)
            if delivery.nodes and PLANS in replay.run(delivery.nodes):
                raw.snapshot()
            if delivery.nodes == BUILD:
                assert replay.rows() == raw.current()
                assert replay.days() == raw.days()
        replay.run()
        raw.snapshot()
        incremental = replay.rows(), replay.days()
        assert replay.open_versions() == [(row[0], row[3]) for row in replay.rows()]
        replay.refresh()
        assert incremental == (replay.rows(), replay.days()) == (raw.current(), raw.days())


def test_after_a_reload_incremental_models_keep_what_was_deleted_until_a_full_refresh(
    statements: Statements,
) -> None:
    edited, deleted, added = Version(1, 2, 5), Version(2, 0, 3), Version(3, 3, 8)
    with closing(Replay(statements)) as replay:
        raw = Raw(replay)
        raw.load_users({1: "free"}, 0)
        raw.load(0, [Version(1, 0, 9), deleted])
        raw.load(1, [edited])
        replay.run()
        # One batch in the place of all others, with the current version of each row at the source.
        raw.load(1, [])
        raw.load(0, [edited, added])
        replay.run()
        versions = [edited, deleted, added]
        assert [row[:2] for row in replay.rows()] == [(v.id, v.score) for v in versions]
        open_versions = [(v.id, at(v.updated_at)) for v in versions]
        assert replay.open_versions() == open_versions
        replay.refresh()
        assert replay.rows() == raw.current()
        assert [row[0] for row in replay.rows()] == [1, 3]
        assert replay.open_versions() == open_versions


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
    """An interval is extracted from MySQL as it is now, and loaded."""

    interval: int


@dataclass(frozen=True)
class Run:
    """Dbt runs."""


edits = st.builds(Edit, id=st.integers(1, 3), score=st.integers(0, 10), after=st.integers(0, 2))
steps = edits | st.builds(Extract, interval=st.integers(0, INTERVALS - 1)) | st.just(Run())


@settings(max_examples=30, deadline=None)
@given(life=st.lists(steps, max_size=20))
@example(
    # The second edit falls in the same instant as the first, which was extracted already.
    life=[Edit(1, 5, after=1), Extract(0), Run(), Edit(1, 9, after=0)]
)
def test_backfill_of_every_interval_ends_as_the_source_is(
    statements: Statements, life: list[Edit | Extract | Run]
) -> None:
    """A row that moved to a later interval vanishes from its old one when that is read again."""
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
    warehouse.execute(
        "delete from analytics_raw_mysql.nps; drop schema if exists analytics_snapshots cascade;"
        f"drop table if exists analytics_intermediate.{CURRENT}"
    )
    raw = Raw(warehouse)
    build = ("build", "--exclude-resource-type", "test", "unit_test", "--select", f"+{DAYS}")
    for day, batch in enumerate(order):
        raw.load(batch, contents[batch])
        raw.load_users({1: "free" if batch else "team"}, day)
        warehouse.dbt(*build)
        raw.snapshot()
    incremental = warehouse.query(ROWS), warehouse.query(DAY_ROWS)
    warehouse.dbt(*build, "--full-refresh")
    assert incremental == (warehouse.query(ROWS), warehouse.query(DAY_ROWS))
    assert incremental == (raw.current(), raw.days())
