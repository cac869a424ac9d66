"""Landed Parquet into the warehouse: Millrace compared with the warehouse's own bulk load."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from benchmarks import measure as measuring
from benchmarks import tables
from benchmarks.declared import SCHEMA, DeclaredTable, declare
from benchmarks.peers import METHODS
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, megabytes, ratio, seconds, times
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import (
    BUCKET,
    BenchmarkError,
    Services,
    Workspace,
    clean_environment,
    running_services,
)
from redshift_standin.supervisor import SUPERUSER

SECTION = "loading"
DUCKDB, REDSHIFT = "DuckDB", "Redshift stand-in"
BARE_DUCKDB = "INSERT … SELECT FROM read_parquet"
MILLRACE_FOLDER = "Millrace, landed in a folder"
MILLRACE_S3 = "Millrace, landed on S3"
BARE_POSTGRES = "PostgreSQL's COPY, CSV"
BARE_COPY = "COPY … PARQUET MANIFEST"
BARE = {DUCKDB: BARE_DUCKDB, REDSHIFT: BARE_POSTGRES}

_REDSHIFT_TYPES = {"TINYINT": "SMALLINT", "VARCHAR": "VARCHAR(65535)"}
_PROOF = (
    "select count(*), sum(id), sum(user_id), sum(score), count(comment), sum(length(comment)), "
    "sum(amount), sum(fx_rate), max(created_at), count(deleted_at) from {table}"
)


@dataclass(frozen=True)
class _Landed:
    """Where a batch was landed, and how Millrace finds it."""

    landing: str
    manifest: str
    parts: tuple[str, ...]
    target: str


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Land the measured table, then load it by every method, round after round.

    Raises:
        BenchmarkError: a load failed, or its rows are not the table's.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    with running_services(workspace, redshift=True) as services:
        with progress.step(f"a table of {rows:,} rows"):
            table = tables.create_rows(workspace, services.mariadb.server, rows)
            bench = _Bench(workspace, services, table, declare(workspace, table))
            bench.write_csv()
        result.facts["versions"] = f"DuckDB {duckdb.__version__}; {bench.postgres_version()}"
        with progress.step("land it in a folder, and on S3 for each warehouse"):
            bench.land()
        for round_ in range(1, rounds + 1):
            for case, method in _METHODS:
                if result.has(case, method, round_):
                    continue
                with progress.step(f"round {round_} of {rounds}: {case}, {method}"):
                    run = bench.run(case, method, round_)
                progress.say(f"{run.wall:8.2f} s  {case}: {method}")
                result.runs.append(run)
                file.save(result)
    return result


_METHODS = (
    (DUCKDB, BARE_DUCKDB),
    (DUCKDB, MILLRACE_FOLDER),
    (DUCKDB, MILLRACE_S3),
    (REDSHIFT, BARE_POSTGRES),
    (REDSHIFT, BARE_COPY),
    (REDSHIFT, MILLRACE_S3),
)


class _Bench:
    def __init__(
        self, workspace: Workspace, services: Services, table: str, declared: DeclaredTable
    ) -> None:
        self._workspace = workspace
        self._services = services
        self._table = table
        self._declared = declared
        self._reference = tables.reference_of(workspace, table)
        self._csv = self._reference.with_suffix(".csv")
        self._landed: dict[tuple[str, str], _Landed] = {}
        with duckdb.connect() as connection:
            self._expected = connection.execute(
                _PROOF.format(table=f"read_parquet('{self._reference}')")
            ).fetchone()

    def write_csv(self) -> None:
        """Write the same rows in a form that PostgreSQL's COPY reads."""
        with duckdb.connect() as connection:
            connection.execute(
                f"copy (select * from read_parquet('{self._reference}')) to '{self._csv}' "
                "(format csv, header false)"
            )

    def land(self) -> None:
        """Let Millrace land the table for each of its own methods."""
        folder = (self._workspace.scratch / "landing").as_uri()
        s3 = f"s3://{BUCKET}/{SECTION}/{self._table}"
        for case, method, landing, target in (
            (DUCKDB, MILLRACE_FOLDER, folder, "dev"),
            (DUCKDB, MILLRACE_S3, f"{s3}/dev", "dev"),
            (REDSHIFT, MILLRACE_S3, f"{s3}/redshift", "redshift"),
        ):
            said = self._execute(
                "land_millrace.py", {"LANDING_URL": landing, "TARGET": target}
            ).output
            self._landed[case, method] = _Landed(
                landing, said["manifest"], tuple(said["parts"]), target
            )

    def run(self, case: str, method: str, round_: int) -> Run:
        """Load once into an empty warehouse, and check the rows."""
        self._empty(case)
        usage = self._execute(*self._command(case, method))
        self._prove(case, method)
        values = {"process": usage.wall, "cpu": usage.cpu, "peak": usage.peak}
        return Run(case, method, round_, usage.output["working"], values)

    def postgres_version(self) -> str:
        with self._postgres() as connection:
            return f"PostgreSQL {connection.info.server_version // 10000}"

    def _command(self, case: str, method: str) -> tuple[str, dict[str, str]]:
        if (landed := self._landed.get((case, method))) is not None:
            return "load_millrace.py", {
                "LANDING_URL": landed.landing,
                "TARGET": landed.target,
                "BENCH_MANIFEST": landed.manifest,
            }
        if method == BARE_DUCKDB:
            in_folder = self._landed[DUCKDB, MILLRACE_FOLDER]
            paths = [url.removeprefix("file://") for url in in_folder.parts]
            return "load_duckdb.py", {
                "BENCH_COLUMNS": _columns({}),
                "BENCH_PARTS": json.dumps(paths),
            }
        if method == BARE_COPY:
            return "load_redshift.py", {
                "BENCH_COLUMNS": _columns(_REDSHIFT_TYPES),
                "BENCH_MANIFEST": self._landed[REDSHIFT, MILLRACE_S3].manifest,
            }
        return "load_postgres.py", {
            "BENCH_COLUMNS": _columns(_REDSHIFT_TYPES),
            "BENCH_CSV": str(self._csv),
            "BENCH_POSTGRES": self._postgres_uri(),
        }

    def _execute(self, script: str, settings: Mapping[str, str]) -> measuring.Usage:
        job = self._services.job(self._table, "")
        with tempfile.TemporaryDirectory(dir=self._workspace.scratch) as folder:
            return measuring.run(
                [sys.executable, METHODS / script],
                environment={
                    **clean_environment(),
                    **{f"BENCH_{key.upper()}": str(value) for key, value in job.items()},
                    **self._services.environment(),
                    **self._declared.environment(),
                    **settings,
                },
                folder=Path(folder),
            )

    def _empty(self, case: str) -> None:
        if case == DUCKDB:
            for suffix in ("", ".wal"):
                Path(f"{self._declared.duckdb}{suffix}").unlink(missing_ok=True)
            return
        with self._postgres() as connection:
            connection.execute(f"drop schema if exists {SCHEMA} cascade")
            # Otherwise the files of this round would still be freed during the next.
            connection.execute("checkpoint")

    def _prove(self, case: str, method: str) -> None:
        query = _PROOF.format(table=f"{SCHEMA}.{self._table}")
        if case == DUCKDB:
            with duckdb.connect(str(self._declared.duckdb), read_only=True) as connection:
                found: Any = connection.execute(query).fetchone()
        else:
            with self._postgres() as connection:
                found = connection.execute(query).fetchone()
        if found != self._expected:
            raise BenchmarkError(
                f"{case}, {method}: the loaded rows are not the table's:\n{found}\n{self._expected}"
            )

    def _postgres(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self._postgres_uri(), autocommit=True)

    def _postgres_uri(self) -> str:
        """The address of PostgreSQL itself, without the stand-in's proxy."""
        endpoint = self._services.redshift_endpoint
        return psycopg.conninfo.make_conninfo(
            host=endpoint.host,
            port=endpoint.postgres_port,
            user=SUPERUSER,
            password=endpoint.superuser_password,
            dbname=endpoint.database,
        )


def _columns(types: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {types.get(type_, type_)}" for name, type_ in tables.COLUMNS.items())


def report(result: Result) -> Report:
    """The table and the targets of this section."""
    rows = []
    for case in result.cases():
        for method in result.methods(case):
            wall = result.median(case, method)
            peak = result.median(case, method, lambda run: float(run.values["peak"]))
            bare = result.median(case, BARE[case])
            rows.append((case, method, seconds(wall), times(ratio(wall, bare)), megabytes(peak)))
    ours = frozenset(number for number, row in enumerate(rows) if row[1].startswith("Millrace"))

    def beside_bare(case: str, method: str) -> float | None:
        return ratio(result.median(case, method), result.median(case, BARE[case]))

    return Report(
        title=f"Loading: {result.rows:,} rows from Parquet into the warehouse",
        method=_METHOD,
        table=Table(
            ("warehouse", "method", "wall", "÷ bare", "client's peak memory"),
            tuple(rows),
            ours,
            texts=frozenset({1}),
        ),
        targets=(
            Target(
                f"DuckDB: Millrace from a folder compared with a bare {BARE_DUCKDB}",
                1.3,
                beside_bare(DUCKDB, MILLRACE_FOLDER),
                "×",
            ),
            Target(
                "Redshift stand-in: COPY … PARQUET MANIFEST compared with PostgreSQL's own COPY",
                1.5,
                beside_bare(REDSHIFT, BARE_COPY),
                "×",
            ),
            Target(
                "Redshift stand-in: Millrace's whole load compared with PostgreSQL's own COPY",
                1.5,
                beside_bare(REDSHIFT, MILLRACE_S3),
                "×",
            ),
        ),
    )


_METHOD = """\
Millrace lands the table of the section above; then each method loads it into an empty warehouse, in
a fresh process, interleaved. The time runs from when everything is imported and the profile is read
until the commit. The bare methods only insert the rows: DuckDB's reads the same parts from a
folder, PostgreSQL's reads a CSV file with the same rows from the server's disk. Millrace also
checks the parts and stages them if the warehouse needs that; then, in one transaction, it deletes
what the batch replaces, inserts, counts, and writes the ledger. After each load, counts, sums and
maxima are compared with those of the table."""
