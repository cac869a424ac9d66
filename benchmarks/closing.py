"""What each way of making sure that an interval is closed costs, compared with reading it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import tables
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, ratio, seconds
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import Services, Workspace, running_services
from millrace.batch import Interval
from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.sources.mysql.options import MySQLOptions
from millrace.sources.mysql.source import MySQLSource

SECTION = "closing"

READ = "reading it"
QUIET = "PROCESS, nothing open"
OPEN = "PROCESS, a transaction open elsewhere"
PLAIN = "SELECT alone"
LOOKBACK = "with a lookback"
METHODS = (READ, QUIET, OPEN, PLAIN, LOOKBACK)

# The table has one row every five seconds, from here on.
_BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Close and read a day in the middle, and the whole table, with and without an index.

    Raises:
        BenchmarkError: the services do not come up.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    end = _BEGINNING + timedelta(seconds=5 * rows)
    middle = _BEGINNING + (end - _BEGINNING) / 2
    intervals = {"a day": Interval(middle, middle + _DAY), "everything": Interval(None, end)}
    with running_services(workspace) as services:
        with progress.step(f"a table of {rows:,} rows, and one with an index"):
            plain = tables.create_rows(workspace, services.mariadb.server, rows)
            names = {"": plain, ", index on the cursor": _indexed(services, plain)}
        result.facts |= {"versions": services.mysql_version}
        for round_ in range(1, rounds + 1):
            for suffix, name in names.items():
                for what, interval in intervals.items():
                    for method in METHODS:
                        case = f"{what}{suffix}"
                        if result.has(case, method, round_):
                            continue
                        wall = _timed(services, name, interval, method)
                        progress.say(f"{wall:8.3f} s  {case}: {method}")
                        result.runs.append(Run(case, method, round_, wall))
                        file.save(result)
    return result


def report(result: Result) -> Report:
    """The table of this section."""
    rows = []
    for case in result.cases():
        read = result.median(case, READ)
        rows.append(
            (
                case,
                seconds(read),
                *(ratio_text(result.median(case, method), read) for method in METHODS[1:]),
            )
        )
    return Report(
        title=f"Closing an interval of {result.rows:,} rows: what it takes to lose no late commit",
        method=_METHOD,
        table=Table(("interval", *METHODS), tuple(rows)),
    )


def ratio_text(wall: float | None, read: float | None) -> str:
    """The time as a multiple of the read's, with the seconds."""
    share = ratio(wall, read)
    return "–" if share is None else f"{share:.2f} × ({seconds(wall)})"


def _timed(services: Services, name: str, interval: Interval, method: str) -> float:
    source, table = _source(services, plain=method == PLAIN), _declared(name, method)
    with _open_transaction(services) if method == OPEN else nullcontext():
        began = time.perf_counter()
        if method == READ:
            with source.extract(table, interval) as extraction:
                for _ in extraction.batches:
                    pass
        else:
            source.closed(table, interval)
        return time.perf_counter() - began


def _declared(name: str, method: str) -> IngestTable:
    cursor: dict[str, Any] = {"column": "created_at"}
    if method == LOOKBACK:
        cursor["lookback"] = {"count": 1, "period": "hour"}
    options = MySQLOptions.model_validate(
        {
            "kind": "mysql",
            "connection": "mysql_prod",
            "table": f"prod.{name}",
            "primary_key": ["id"],
            "cursor": cursor,
        }
    )
    return IngestTable("mysql", name, "raw_mysql", name, options)


def _source(services: Services, *, plain: bool) -> MySQLSource:
    server = services.mariadb.server
    login, password = server.reader_user, server.reader_password
    if plain:
        login, password = "plain", server.reader_password
        with server.admin_cursor() as cursor:
            cursor.execute(
                f"CREATE OR REPLACE USER plain@'{server.host}' IDENTIFIED BY '{password}'"
            )
            cursor.execute(f"GRANT SELECT ON prod.* TO plain@'{server.host}'")
    return MySQLSource(
        Connection(
            "mysql_prod",
            "mysql",
            host=server.host,
            port=server.port,
            login=login,
            password=password,
        )
    )


def _indexed(services: Services, name: str) -> str:
    indexed = f"{name}_indexed"
    with services.mariadb.server.admin_cursor(db="prod") as cursor:
        cursor.execute("SHOW TABLES LIKE %s", [indexed])
        if not cursor.fetchone():
            cursor.execute(f"CREATE OR REPLACE TABLE {indexed}_draft LIKE {name}")
            cursor.execute(f"INSERT INTO {indexed}_draft SELECT * FROM {name}")
            cursor.execute(f"ALTER TABLE {indexed}_draft ADD INDEX (created_at)")
            cursor.execute(f"RENAME TABLE {indexed}_draft TO {indexed}")
    return indexed


@contextmanager
def _open_transaction(services: Services) -> Iterator[None]:
    """Keep a transaction open that has written to another table, so it holds nothing up."""
    server = services.mariadb.server
    with server.admin_cursor(db="prod") as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS elsewhere (id INT PRIMARY KEY)")
    with closing(server.connect_as_admin(db="prod")) as connection:
        connection.cursor().execute("INSERT INTO elsewhere VALUES (1)")
        yield
        connection.rollback()


_METHOD = """\
How long `plan` queries the source before a batch, compared with reading that batch into memory
(nothing is landed), in one warm process. The interval's keys are read twice, to find rows that are
written and not committed; with PROCESS and no open transaction, only those of its last seconds. The
figures are multiples of the read: below 1 ×, closing the interval costs less than reading it."""
