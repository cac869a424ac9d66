"""Property test: no schedule of writers loses a row, in any of the three ways of closing a batch.

A schedule is made from its seed: writers with transactions of any length, savepoints, rollbacks,
changes of the key and statements that wait for locks, with batches in between. In the end every
row of the source has arrived as it is. ``MILLRACE_SCHEDULES=10000`` makes pytest run that many
schedules, and ``MILLRACE_SEED=…`` repeats the one that failed.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import MySQLdb
import pyarrow as pa
import pytest

from millrace.batch import Interval

if TYPE_CHECKING:
    from millrace.catalog import IngestTable
    from millrace.sources.mysql.source import MySQLSource
    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

# The number of schedules in total, over both servers and the three ways.
SCHEDULES = int(os.environ.get("MILLRACE_SCHEDULES", "120"))
SEED = os.environ.get("MILLRACE_SEED")
STEPS = 40
WRITERS = 3
KEYS = 6
TYPES = ("DATETIME(6)", "TIMESTAMP(6)", "DATETIME(3)")
# How long a statement may take if the account has SELECT alone, and how much a lookback reads
# again. Short, so that a schedule is; the writers keep to it, as the documentation asks of users.
SPAN = timedelta(milliseconds=150)
PATIENCE = SPAN / 2


@dataclass(frozen=True)
class Span:
    """A period of milliseconds, shorter than any that can be declared."""

    span: timedelta = SPAN


@dataclass
class Writer:
    """A connection whose statements may have to wait for another's."""

    client: Any
    began: float | None = None
    waiting: threading.Thread | None = None
    savepoint: bool = False
    asked: float = 0.0
    answered: float = 0.0

    @property
    def is_busy(self) -> bool:
        return self.waiting is not None and self.waiting.is_alive()

    def run(self, statement: str) -> None:
        """Run a statement; if it waits for a lock, return before it is done."""
        self.began = self.began or time.monotonic()
        self.asked = time.monotonic()
        self.waiting = threading.Thread(target=self._run, args=(statement,))
        self.waiting.start()
        self.waiting.join(0.02)

    def end(self, statement: str) -> None:
        self.run(statement)
        # COMMIT and ROLLBACK wait for no lock.
        if self.waiting:
            self.waiting.join()
        self.began, self.savepoint = None, False

    def _run(self, statement: str) -> None:
        # A deadlock, a lock timeout or a duplicate key does not matter here.
        with suppress(MySQLdb.Error), closing(self.client.cursor()) as cursor:
            cursor.execute(statement)
        self.answered = time.monotonic()

    def worked_longer_than(self, seconds: float, since: float) -> bool:
        """Whether a statement that was still running at `since` took longer than `seconds`."""
        is_done = self.answered > self.asked
        until = self.answered if is_done else time.monotonic()
        return until > since and until - self.asked > seconds


class Schedule:
    """One random schedule over one table."""

    def __init__(
        self, mysql: Database, source: MySQLSource, way: str, seed: int, writers: list[Writer]
    ) -> None:
        self.random = random.Random(seed)  # noqa: S311 a schedule, no secret
        self.mysql, self.source, self.way, self.writers = mysql, source, way, writers
        self.type = self.random.choice(TYPES)
        self.start: datetime | None = None
        self.arrived: set[tuple[Any, ...]] = set()
        self.batches = 0

    def run(self) -> None:
        """Make the table, run the schedule, and compare."""
        precision = self.type[-3:]
        index = self.random.choice(["", ", KEY (at)"])
        self.mysql.execute("DROP TABLE IF EXISTS t")
        self.mysql.execute(
            f"CREATE TABLE t (id INT PRIMARY KEY, v INT NOT NULL, at {self.type} NOT NULL "
            f"DEFAULT CURRENT_TIMESTAMP{precision} ON UPDATE CURRENT_TIMESTAMP{precision}{index})"
        )
        for step in range(STEPS):
            self._keep_to_the_conditions()
            if self.random.random() < 0.15:
                self._batch()
            else:
                self._write(self.random.choice(self.writers), step)
        self._finish()
        rows = self.mysql.rows("SELECT id, v, at FROM t")
        lost = set(rows) - self.arrived
        assert not lost, f"lost {lost}, {self.batches} batches"

    @property
    def table(self) -> IngestTable:
        cursor: dict[str, Any] = {"column": "at"}
        table = self.mysql.table("t", cursor=cursor)
        change = {"lookback" if self.way == "lookback" else "settle": Span()}
        assert table.options.cursor
        changed = table.options.cursor.model_copy(update=change)
        options = table.options.model_copy(update={"cursor": changed})
        return type(table)(**{**table.__dict__, "options": options})

    def _write(self, writer: Writer, step: int) -> None:
        if writer.is_busy:
            return
        key = self.random.randrange(KEYS)
        roll = self.random.random()
        if roll < 0.35:
            writer.run(
                f"INSERT INTO t (id, v) VALUES ({key}, {step}) "
                f"ON DUPLICATE KEY UPDATE v = {step + 100}"
            )
        elif roll < 0.5:
            writer.run(f"UPDATE t SET v = {step + 200} WHERE id <= {key}")
        elif roll < 0.58:
            writer.run(f"UPDATE t SET id = {key + KEYS * (step + 1)} WHERE id = {key}")
        elif roll < 0.63:
            writer.run(f"DELETE FROM t WHERE id = {key}")
        elif roll < 0.68:
            writer.run("SAVEPOINT s")
            writer.savepoint = True
        elif roll < 0.73 and writer.savepoint:
            writer.run("ROLLBACK TO SAVEPOINT s")
        elif roll < 0.89:
            writer.run(f"UPDATE t SET v = {step + 300} WHERE id = {key}")
        elif roll < 0.93:
            writer.end("ROLLBACK")
        else:
            writer.end("COMMIT")

    def _keep_to_the_conditions(self) -> None:
        """Make the writers meet each way's conditions; PROCESS has none."""
        if self.way == "PROCESS":
            return
        late = time.monotonic() - PATIENCE.total_seconds()
        for writer in self.writers:
            if self.way == "SELECT alone" and writer.is_busy and writer.asked < late:
                self._end_all()
            if self.way == "lookback" and writer.began and writer.began < late:
                self._end_all()

    def _conditions_were_broken(self, since: float) -> bool:
        """Whether the machine was too slow for the conditions to hold while a batch was made."""
        seconds = SPAN.total_seconds()
        if self.way == "SELECT alone":
            return any(writer.worked_longer_than(seconds, since) for writer in self.writers)
        now = time.monotonic()
        return self.way == "lookback" and any(
            writer.began and now - writer.began > seconds for writer in self.writers
        )

    def _end_all(self) -> None:
        """Let no statement wait any more, and no transaction stay open."""
        while any(writer.began or writer.is_busy for writer in self.writers):
            for writer in self.writers:
                if not writer.is_busy and writer.began:
                    writer.end(self.random.choice(["COMMIT", "COMMIT", "ROLLBACK"]))

    def _batch(self) -> None:
        table = self.table
        start = self.start
        if start is not None and self.way == "lookback":
            start -= SPAN
        began = time.monotonic()
        end = self.source.closed(table, Interval(start, None)).end
        if start is not None and end <= start:
            return
        with self.source.extract(table, Interval(start, end)) as extraction:
            rows = pa.Table.from_batches(extraction.batches, schema=extraction.schema)
        if self._conditions_were_broken(began):
            return
        for row in rows.to_pylist():
            at = row["at"].replace(tzinfo=None)
            self.arrived.add((row["id"], row["v"], at))
        self.start = max(self.start or end, end)
        self.batches += 1

    def _finish(self) -> None:
        self._end_all()
        ((last,),) = self.mysql.rows("SELECT MAX(at) FROM t")
        deadline = time.monotonic() + 15
        while last is not None and time.monotonic() < deadline:
            self._batch()
            if self.start is not None and self.start.replace(tzinfo=None) > last:
                return
            threading.Event().wait(0.02)
        assert last is None, "the last batch was never closed"


@pytest.mark.parametrize("way", ["PROCESS", "SELECT alone", "lookback"])
def test_no_schedule_of_writers_loses_a_row(
    mysql: Database, plain_source: MySQLSource, way: str
) -> None:
    source = mysql.source() if way == "PROCESS" else plain_source
    seeds = [int(SEED)] if SEED else range(SCHEDULES // 6)
    batches = 0
    writers = [Writer(mysql.server.connect_as_admin(db=mysql.name)) for _ in range(WRITERS)]
    for writer in writers:
        writer.run("SET SESSION innodb_lock_wait_timeout = 2")
        writer.end("COMMIT")
    try:
        for seed in seeds:
            schedule = Schedule(mysql, source, way, seed, writers)
            try:
                schedule.run()
            except BaseException:
                print(f"MILLRACE_SEED={seed}, {way}, {schedule.type}")  # noqa: T201
                raise
            batches += schedule.batches
    finally:
        for writer in writers:
            if writer.waiting:
                writer.waiting.join()
            writer.client.close()
    # More than one batch per schedule, so not only at its end.
    assert batches > 1.5 * len(seeds)
