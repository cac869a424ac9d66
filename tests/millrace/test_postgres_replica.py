"""A replica of PostgreSQL is read where the table says how."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest

from millrace.batch import WHOLE_TABLE, Interval
from millrace.errors import SourceBusy, SourceMismatch
from millrace.sources import limits
from millrace_sandbox.postgres import SUPERUSER, Postgres
from redshift_standin import postgres as programs
from tests.millrace.postgres import PostgresDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from millrace.sources.base import Closing
    from millrace_sandbox.paths import SandboxPaths

pytestmark = pytest.mark.service

HOUR = {"count": 1, "period": "hour"}


@dataclass(frozen=True)
class Pair:
    """A database and its replica."""

    primary: PostgresDatabase
    replica: PostgresDatabase

    def replay(self) -> None:
        """Wait until the replica has what the primary has."""
        ((position,),) = self.primary.rows("SELECT pg_current_wal_lsn()::text")
        self.wait(f"pg_last_wal_replay_lsn() >= '{position}'")

    def wait(self, condition: str) -> None:
        """Wait until something holds on the replica."""
        for _ in range(1000):
            if self.replica.rows(f"SELECT {condition}") == [(True,)]:
                return
            self.replica.execute("SELECT pg_sleep(0.01)")
        raise TimeoutError(condition)


@pytest.fixture
def pair(
    postgres: PostgresDatabase, postgres_server: Postgres, sandbox_paths: SandboxPaths
) -> Iterator[Pair]:
    folder = sandbox_paths.root / "replica"
    folder.mkdir(mode=0o700)
    (folder / "data").mkdir(mode=0o700)
    if os.geteuid() == 0:
        account = programs.unprivileged_account()
        os.chown(folder / "data", account.pw_uid, account.pw_gid)
    url = postgres_server.url("postgres", "postgresql")
    copying = [str(programs.find_programs() / "pg_basebackup"), f"--dbname={url}", "--no-sync"]
    copying += [f"--pgdata={folder / 'data'}", "--write-recovery-conf", "--checkpoint=fast"]
    subprocess.run([*programs.run_as(), *copying], check=True, cwd="/")
    shutil.copy(sandbox_paths.root / "postgres" / "password", folder / "password")
    server = Postgres("replica", sandbox_paths, folder, {"max_prepared_transactions": "4"})
    try:
        server.start()
        assert SUPERUSER in url
        there = server.url(postgres.name, "postgresql")
        with psycopg.connect(there, autocommit=True) as client:
            yield Pair(postgres, PostgresDatabase(there, client, postgres.reader))
    finally:
        server.stop()
        shutil.rmtree(folder)


def test_a_replica_is_read_with_a_lookback_and_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.primary.execute("CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL)")
    pair.primary.execute("INSERT INTO t SELECT g, '2026-10-01Z' FROM generate_series(1, 2000) g")
    pair.replay()

    table = pair.replica.table("t", cursor="at")
    for ask in (lambda: pair.replica.source().check([table]), lambda: closed(pair, "at")):
        with pytest.raises(SourceMismatch, match="read from a replica") as refused:
            ask()
        assert "lookback" in refused.value.fix

    found = closed(pair, {"column": "at", "lookback": HOUR})
    assert (found.end, found.held_by) == (found.now, None)
    # As of one moment, by several statements.
    assert pair.replica.extract(pair.replica.table("t", verify="values")).num_rows == 2000

    near = pair.replica.table("t", harm={"max_replica_lag_s": 1})
    assert pair.replica.source().check([near])
    assert pair.replica.extract(near).num_rows == 2000
    pair.replica.execute("SELECT pg_wal_replay_pause()")
    pair.primary.execute("INSERT INTO t VALUES (0, '2026-10-01Z')")
    pair.wait(
        "pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() "
        "AND clock_timestamp() > pg_last_xact_replay_timestamp() + '1 s'::interval"
    )
    monkeypatch.setattr(limits, "_PATIENCE_SECONDS", 0)
    with pytest.raises(SourceBusy, match="behind its primary"):
        pair.replica.source().extract(near, WHOLE_TABLE).__enter__()


def closed(pair: Pair, cursor: object) -> Closing:
    return pair.replica.source().closed(pair.replica.table("t", cursor=cursor), Interval())
