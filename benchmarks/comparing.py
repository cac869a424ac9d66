"""What it costs to compare: each batch by value, and a loaded table with its source by key."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb

from benchmarks import peers, tables
from benchmarks.declared import SCHEMA, declaration, write_project
from benchmarks.measure import Usage
from benchmarks.peers import FLOOR
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, megabytes, ratio, seconds, times
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import BenchmarkError, Services, Workspace, running_services

SECTION = "comparing"

VERIFY = ("off", "counts", "values")
KEYS, ROWS = "compare the keys", "compare every row by value"
# One row of a thousand has vanished at the source.
_VANISHED = 1_000


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Extract with each way of verifying, and compare a loaded table of four times the rows.

    Raises:
        BenchmarkError: something failed, or not exactly the vanished keys were found.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    with running_services(workspace) as services:
        result.facts |= {"versions": services.mysql_version}
        for size in (rows // 50, rows // 5):
            with progress.step(f"a table of {size:,} rows"):
                table = tables.create_rows(workspace, services.mariadb.server, size)
            project = _declare(workspace, table)
            for round_ in range(1, rounds + 1):
                for verify in VERIFY:
                    case = f"extract {size:,} rows"
                    if result.has(case, verify, round_):
                        continue
                    usage = peers.run_declared(
                        services, project, f"{table}_{verify}", "extract_millrace.py"
                    )
                    progress.say(f"{usage.wall:8.2f} s  {case}: {verify}")
                    values = {"cpu": usage.cpu + usage.services_cpu}
                    result.runs.append(Run(case, verify, round_, usage.wall, values))
                    file.save(result)
        _measure_keys(workspace, services, rows * 4, result, file, progress)
    return result


def _measure_keys(
    workspace: Workspace,
    services: Services,
    rows: int,
    result: Result,
    file: ResultFile,
    progress: Progress,
) -> None:
    """Compare a loaded table with its source, of which one row in a thousand has vanished."""
    with progress.step(f"a table of {rows:,} rows"):
        table = tables.create_rows(workspace, services.mariadb.server, rows)
    project = _declare(workspace, table)
    with progress.step("load it into DuckDB, and let rows vanish"):
        (project / "warehouse.duckdb").unlink(missing_ok=True)
        peers.run_declared(services, project, f"{table}_counts", "ingest_millrace.py")
        vanished = _vanish(project, f"{table}_counts")
    case = f"{rows:,} rows"
    for round_ in range(1, result.rounds + 1):
        for method in (FLOOR, KEYS, ROWS):
            if result.has(case, method, round_):
                continue
            before = _bytes_sent(services)
            usage = _compare(workspace, services, project, table, rows, method)
            sent = _bytes_sent(services) - before
            if method != FLOOR and usage.output["vanished"] != vanished:
                raise BenchmarkError(f"{method}: {usage.output} were found, not {vanished:,}.")
            wall = usage.output.get("working", usage.wall)
            progress.say(f"{wall:8.2f} s  {megabytes(sent)}  {method}")
            values = {"sent": sent, "peak": usage.peak}
            result.runs.append(Run(case, method, round_, wall, values))
            file.save(result)
    result.facts["table_bytes"] = _size_of(services, table)
    file.save(result)


def _compare(
    workspace: Workspace, services: Services, project: Path, table: str, rows: int, method: str
) -> Usage:
    if method == FLOOR:
        floor = peers.BY_NAME[FLOOR]
        keys = f"(select id from prod.{table}) as one_column"
        with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
            return peers.extract(workspace, services, floor, keys, prefix="", folder=Path(folder))
    what = {"BENCH_COMPARED": "keys" if method == KEYS else "rows", "BENCH_ROWS": str(rows)}
    return peers.run_declared(services, project, f"{table}_counts", "compare_keys.py", what)


def _declare(workspace: Workspace, table: str) -> Path:
    """A project that declares the table with each way of verifying; returns its folder."""
    root = workspace.scratch / f"compared_{table}"
    ways = [
        declaration(f"{table}_{verify}", table, verify=verify, partitions=1) for verify in VERIFY
    ]
    write_project(root / "dbt_project", ways)
    return root


def _vanish(project: Path, name: str) -> int:
    """Give some loaded rows keys that the source does not have; returns how many."""
    raw = f"{SCHEMA}.{name}"
    with duckdb.connect(str(project / "warehouse.duckdb")) as connection:
        connection.execute(
            f"INSERT INTO {raw} SELECT * REPLACE (-id AS id) FROM {raw} WHERE id % {_VANISHED} = 0"
        )
        found = connection.execute(f"SELECT COUNT(*) FROM {raw} WHERE id < 0").fetchone()
    return int(found[0]) if found else 0


def _bytes_sent(services: Services) -> int:
    with services.mariadb.server.admin_cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")
        ((_, value),) = cursor.fetchall()
    return int(value)


def _size_of(services: Services, table: str) -> int:
    with services.mariadb.server.admin_cursor() as cursor:
        cursor.execute(
            "SELECT data_length FROM information_schema.tables "
            "WHERE table_schema = 'prod' AND table_name = %s",
            [table],
        )
        ((size,),) = cursor.fetchall()
    return int(size)


def report(result: Result) -> Report:
    """The table and the targets of this section."""

    def sent(case: str, method: str) -> float | None:
        return result.median(case, method, lambda run: float(run.values["sent"]))

    rows, targets = [], []
    for case in result.cases():
        base = VERIFY[0] if case.startswith("extract") else FLOOR
        for method in result.methods(case):
            wall = result.median(case, method)
            is_keys = base == FLOOR
            rows.append(
                (
                    case,
                    f"verify: {method}" if not is_keys else method,
                    seconds(wall),
                    times(ratio(wall, result.median(case, base))),
                    megabytes(sent(case, method)) if is_keys else "",
                )
            )
    extracted = [case for case in result.cases() if case.startswith("extract")]
    for case in extracted[:1]:
        cost = ratio(result.median(case, "values"), result.median(case, "off"))
        targets.append(Target(f"{case}, by value compared with not at all", 1.25, cost, "×"))
    for case in result.cases():
        if case in extracted:
            continue
        cost = ratio(result.median(case, KEYS), result.median(case, FLOOR))
        share = ratio(sent(case, KEYS), result.facts.get("table_bytes"))
        targets += [
            Target(f"keys of {case} compared with the C client's read of them", 10, cost, "×"),
            Target("bytes that are moved for it, of the table's", 2, share and share * 100, "%"),
        ]
    return Report(
        title="Comparing: a batch by value, a table by its keys",
        method=_METHOD,
        table=Table(
            ("what", "how", "wall", "compared with the first", "sent by MySQL"),
            tuple(rows),
            texts=frozenset({1}),
        ),
        remark=f"The compared table has {megabytes(result.facts.get('table_bytes'))} in MariaDB.",
        targets=tuple(targets),
    )


_METHOD = """\
First the extraction to S3 by one connection with each `verify`, each in a fresh process as Airflow
starts one: its start counts. Then a table that is loaded into DuckDB is compared with MariaDB after
one row in a thousand has vanished there: the C client reads only the key column and discards it;
`deletes: keys` compares the keys; `millrace audit` compares every column of every row. Exactly the
vanished keys have to be found."""
