from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

import pytest

from millrace_sandbox import sample_data
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.processes import SandboxError
from millrace_sandbox.sample_data import HISTORY_END, arrive_day, create_schema, fill_history

pytestmark = pytest.mark.service

FIRST_DAY = HISTORY_END.date()


@dataclass(frozen=True)
class Target:
    server: MySQLServer
    name: str


@pytest.fixture
def target(mariadb: MariaDB, database: str) -> Target:
    create_schema(mariadb.server, database)
    return Target(mariadb.server, database)


@pytest.fixture
def filled(target: Target) -> Target:
    fill_history(target.server, 8_000, 600, database=target.name)
    return target


def query(target: Target, sql: str):
    server = target.server
    connection = server.connect_as_reader(database=target.name, charset="utf8mb4")
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def contents(target: Target):
    return [query(target, f"select * from {table} order by id") for table in ("nps", "users")]


def arrive(target: Target, days_later: int = 0, **sizes: int) -> None:
    day = FIRST_DAY + timedelta(days=days_later)
    arrive_day(target.server, day, database=target.name, **sizes)


def test_a_refill_gives_the_same_rows_whatever_happened_since(filled: Target):
    before = contents(filled)
    arrive(filled)
    fill_history(filled.server, 8_000, 600, database=filled.name)
    assert contents(filled) == before


def test_several_blocks_give_every_row_once(filled: Target, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sample_data, "BLOCK_ROWS", 3_000)
    fill_history(filled.server, 8_000, 600, database=filled.name)
    assert query(filled, "select count(*), min(id), max(id) from nps") == ((8_000, 1, 8_000),)
    assert query(filled, "select count(*), count(distinct email) from users") == ((600, 600),)


def test_the_history_is_consistent_in_itself(filled: Target):
    assert query(
        filled,
        """
        select
            count(*),
            sum(score between 0 and 10),
            sum(u.signed_up_at <= n.created_at),
            sum(n.created_at >= '2025-10-01' and n.updated_at < '2026-10-01'),
            sum(n.updated_at >= n.created_at),
            sum(n.deleted_at is null or n.deleted_at = n.updated_at)
        from nps n join users u on u.id = n.user_id
        """,
    ) == ((8_000,) * 6,)
    assert query(filled, "select sum(updated_at < '2026-10-01') from users") == ((600,),)


def test_the_history_has_the_cases_a_pipeline_trips_over(filled: Target):
    ((edited, deleted, empty, missing, long, korean, emoji, lines),) = query(
        filled,
        """
        select
            sum(deleted_at is null and updated_at > created_at), sum(deleted_at is not null),
            sum(comment = ''), sum(comment is null), sum(length(comment) > 2000),
            sum(comment like '%좋%'), sum(comment like '%🚀%'), sum(comment like '%\n%')
        from nps
        """,
    )
    assert 200 < edited < 400
    assert 40 < deleted < 120
    assert 4_000 < missing < 5_500
    assert min(empty, korean, emoji) > 50
    assert min(long, lines) > 3
    assert query(filled, "select count(*) from users where country is null")[0][0] > 0


def test_scores_drift_dip_and_differ_by_plan(filled: Target):
    def mean(condition: str) -> float:
        rows = query(
            filled, f"select avg(score) from nps join users u on u.id = user_id where {condition}"
        )
        return float(rows[0][0])

    assert mean("created_at >= '2026-08-01'") > mean("created_at < '2025-12-01'") + 0.3
    assert mean("created_at >= '2026-03-10' and created_at < '2026-03-17'") < 6.5
    assert mean("plan = 'business'") > mean("plan = 'team'") > mean("plan = 'free'")
    at_weekends, in_the_week = query(
        filled, "select count(*) from nps group by weekday(created_at) >= 5 order by 1"
    )
    assert at_weekends[0] * 3 < in_the_week[0]


def test_a_day_brings_new_edited_and_deleted_responses_and_users(filled: Target):
    before = {row[0]: row for row in query(filled, "select * from nps")}
    arrive(filled)
    after = {row[0]: row for row in query(filled, "select * from nps")}
    added = [row for number, row in after.items() if number not in before]
    changed = [row for number, row in before.items() if after[number] != row]
    deleted = [row for row in changed if after[row[0]][7] is not None]
    assert (len(added), len(changed), len(deleted)) == (150, 50, 10)
    assert all(row[5].date() == row[6].date() == FIRST_DAY for row in added)
    assert all(after[row[0]][6].date() == FIRST_DAY for row in changed)
    assert all(after[row[0]][2] != row[2] for row in changed if row not in deleted)
    assert query(filled, "select count(*) from users") == ((605,),)


def test_a_day_that_arrives_twice_leaves_what_it_left_once(filled: Target):
    arrive(filled)
    arrive(filled, 1)
    before = contents(filled)
    arrive(filled)
    arrive(filled, 1)
    assert contents(filled) == before


def test_days_are_the_same_on_every_machine(filled: Target):
    arrive(filled)
    arrive(filled, 1)
    before = contents(filled)
    fill_history(filled.server, 8_000, 600, database=filled.name)
    arrive(filled)
    arrive(filled, 1)
    assert contents(filled) == before


def test_sizes_are_options_down_to_almost_nothing(target: Target):
    fill_history(target.server, 0, 1, database=target.name)
    assert query(target, "select count(*) from nps") == ((0,),)
    arrive(target, responses=1, edits=0, deletions=0, new_users=0)
    arrive(target, 1, responses=2, edits=3, deletions=3, new_users=1)
    assert query(target, "select count(*) from nps") == ((3,),)
    assert query(target, "select count(*) from users") == ((2,),)


def test_a_day_within_the_history_is_refused(target: Target):
    with pytest.raises(SandboxError, match="in the history"):
        arrive(target, -1)


def test_missing_tables_are_one_clear_error(mariadb: MariaDB, database: str):
    with pytest.raises(SandboxError, match=r"cannot be written.*nps"):
        arrive(Target(mariadb.server, database))


def test_nobody_is_not_enough(target: Target):
    with pytest.raises(SandboxError, match="ask for more"):
        fill_history(target.server, 10, 0, database=target.name)
