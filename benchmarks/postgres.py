"""PostgreSQL to Arrow and to Parquet, beside what the server itself takes to copy a table out."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from benchmarks.measure import run
from benchmarks.progress import Progress
from benchmarks.report import MEGABYTE, Report, Table, Target, megabytes, ratio, seconds, times
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import BenchmarkError, Workspace, clean_environment, leaving_on_sigterm
from millrace_sandbox.postgres import Postgres

SECTION = "postgres"
CASE = "extract"

FLOOR = "COPY … TO STDOUT BINARY, discarded"
READ = "Millrace, `verify: off`, discarded"
COUNTED = "Millrace, discarded"
BY_TWO = "Millrace, 2 connections, discarded"
LANDED = "Millrace, to Parquet in a folder"
WAYS = {FLOOR: "copy", READ: "read", COUNTED: "counted", BY_TWO: "two", LANDED: "landed"}

_METHOD_FILE = Path(__file__).parent / "methods" / "read_postgres.py"
_MOST_TIMES = 1.5
_MOST_MEGABYTES = 300
_SETTINGS = {"shared_buffers": "2GB", "max_wal_size": "4GB"}

# The same columns and values as of MySQL's table, as far as both have them (`tables.py`).
_CREATE = """
CREATE TABLE {draft} AS SELECT
    seq AS id,
    (1 + seq * 7919 % 50000)::int AS user_id,
    (seq * 31 % 11)::smallint AS score,
    (ARRAY['free', 'pro', 'business'])[1 + seq % 3] AS plan,
    CASE seq % 5
        WHEN 0 THEN NULL
        WHEN 1 THEN ''
        WHEN 2 THEN 'The export is "quick", the rest is fine. ' || md5(seq::text)
        WHEN 3 THEN '응답이 빨라졌어요. 감사합니다 🙂 ' || md5(seq::text)
        ELSE left(
            md5(seq::text) || md5((seq + 1)::text) || md5((seq + 2)::text), (30 + seq % 70)::int
        )
    END AS comment,
    CASE
        WHEN seq % 7 = 0 THEN NULL
        WHEN seq % 1000 = 1 THEN 98765432109876.4321 + seq
        ELSE seq * 104729 % 100000000 * 0.0001
    END::numeric(18, 4) AS amount,
    (1 + seq * 15485863 % 1500000000000000 * 0.000000000001)::numeric(18, 12) AS fx_rate,
    timestamp '2025-01-01' + seq * interval '5.000007 s' AS created_at,
    CASE WHEN seq % 20 = 0 THEN timestamp '2026-01-01' + seq * interval '1 s' END AS deleted_at
FROM generate_series(1, {rows}::bigint) AS seq
"""


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Read a table in each way, round after round, each in a fresh process.

    Raises:
        BenchmarkError: a way failed, or read another number of rows.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    with _running(workspace) as server:
        with progress.step(f"a table of {rows:,} rows"):
            table = _table(server, rows)
        with psycopg.connect(server.url("postgres", "postgresql")) as client:
            result.facts["versions"] = (
                f"PostgreSQL {client.info.parameter_status('server_version')}"
            )
        # Round by round, so that a disturbance of the machine affects every way alike.
        for round_ in range(1, rounds + 1):
            for method in WAYS:
                if result.has(CASE, method, round_):
                    continue
                done = _run(workspace, server, table, rows, method, round_)
                progress.say(f"{done.wall:8.2f} s  round {round_}: {method}")
                result.runs.append(done)
                file.save(result)
    return result


def report(result: Result) -> Report:
    """The table and the targets of this section."""

    def working(method: str) -> float | None:
        return result.median(CASE, method, lambda run: float(run.values["working"]))

    def peak(method: str) -> float | None:
        return result.median(CASE, method, lambda run: float(run.values["peak"]))

    floor, memory = working(FLOOR), peak(LANDED)
    return Report(
        title=f"Extraction: PostgreSQL, {result.rows:,} rows × 9 columns",
        method=_METHOD,
        table=Table(
            ("method", "wall", "compared with COPY", "processor time", "peak memory"),
            tuple(
                (
                    method,
                    seconds(working(method)),
                    times(ratio(working(method), floor)),
                    seconds(result.median(CASE, method, lambda run: float(run.values["cpu"]))),
                    megabytes(peak(method)),
                )
                for method in WAYS
            ),
            ours=frozenset(range(1, len(WAYS))),
        ),
        targets=(
            Target(
                "PostgreSQL: one connection compared with COPY that is discarded",
                _MOST_TIMES,
                ratio(working(COUNTED), floor),
                "×",
            ),
            Target(
                "PostgreSQL: two connections compared with COPY that is discarded",
                _MOST_TIMES,
                ratio(working(BY_TWO), floor),
                "×",
            ),
            Target(
                "PostgreSQL: peak memory, one connection",
                _MOST_MEGABYTES,
                None if memory is None else memory / MEGABYTE,
                "MB",
            ),
        ),
    )


@contextmanager
def _running(workspace: Workspace) -> Iterator[Postgres]:
    folder = workspace.sandbox.root / "postgres"
    server = Postgres("postgres", workspace.sandbox, folder, _SETTINGS)
    with leaving_on_sigterm():
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _table(server: Postgres, rows: int) -> str:
    """Make the measured table, unless it is there; returns its name."""
    name = f"rows_{rows}"
    with psycopg.connect(server.url("postgres", "postgresql"), autocommit=True) as client:
        # Renamed once it is complete, so that an interrupted one is not taken for the table.
        client.execute(b"DROP TABLE IF EXISTS draft")
        if client.execute("SELECT to_regclass(%s)", [name]).fetchone() == (None,):
            client.execute(_CREATE.format(draft="draft", rows=rows).encode())
            client.execute(b"ALTER TABLE draft ADD PRIMARY KEY (id)")
            client.execute(b"VACUUM ANALYZE draft")
            client.execute(f"ALTER TABLE draft RENAME TO {name}".encode())
        # Reads the table into memory, so that the disk is not measured.
        client.execute(f"SELECT count(*), sum(length(comment)) FROM {name}".encode())
    return name


def _run(
    workspace: Workspace, server: Postgres, table: str, rows: int, method: str, round_: int
) -> Run:
    folder = workspace.scratch / "postgres"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    url = urlsplit(server.url("postgres", "postgresql"))
    connection = {
        "host": url.hostname,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "dbname": "postgres",
    }
    environment = clean_environment() | {
        "BENCH_CONNECTION": json.dumps(connection),
        "BENCH_TABLE": table,
        "BENCH_WAY": WAYS[method],
        "BENCH_LANDING": str(folder / "landing"),
    }
    usage = run([sys.executable, _METHOD_FILE], environment=environment, folder=folder)
    if usage.output.get("rows") != rows:
        raise BenchmarkError(f"{method} read {usage.output.get('rows')} rows of {rows:,}.")
    values = {
        "working": usage.output["working"],
        "cpu": usage.cpu,
        "peak": usage.peak,
    }
    return Run(CASE, method, round_, usage.wall, values)


_METHOD = """\
Each method reads the whole table from PostgreSQL (loopback, warm) in a fresh process, by one
connection unless it says two; wall time is from the first query on, without start-up. The first
one is the floor: psycopg2 takes what the server copies out, in C, and discards it. Millrace makes
Arrow of it by the ADBC driver, piece by piece in one snapshot; "discarded" lands nothing. Unless
`verify` is `off`, the server also counts the rows of each piece. Processor time is the reader's,
with its start-up and without the server's. Every method must read every row."""
