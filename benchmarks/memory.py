"""Millrace's memory: whether it stays flat from small to large tables, and with very long texts."""

from __future__ import annotations

from benchmarks import extraction, peers, tables
from benchmarks.peers import MILLRACE
from benchmarks.progress import Progress
from benchmarks.report import (
    MEGABYTE,
    Chart,
    Report,
    Table,
    Target,
    megabytes,
    ratio,
    seconds,
)
from benchmarks.results import Result, ResultFile
from benchmarks.workspace import Workspace, running_services

SECTION = "memory"
LONG_TEXTS = "long texts"

# A long text weighs as much as this many rows.
_ROWS_A_LONG_TEXT = 2_500
_FLAT = 1.1


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Let Millrace read tables of a fifth, all and four times the rows, and one of long texts.

    Raises:
        BenchmarkError: it failed, or changed a value.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    millrace = peers.BY_NAME[MILLRACE]
    with running_services(workspace) as services:
        server = services.mariadb.server
        sizes = (rows // 5, rows, rows * 4)
        long_rows = max(rows // _ROWS_A_LONG_TEXT, 20)
        cases: dict[str, str] = {}
        for size in sizes:
            with progress.step(f"a table of {size:,} rows"):
                cases[str(size)] = tables.create_rows(workspace, server, size)
        with progress.step(f"a table of {long_rows:,} long texts"):
            cases[LONG_TEXTS] = tables.create_long_texts(workspace, server, long_rows)
        result.facts |= {"long_texts": long_rows, "versions": services.mysql_version}
        for table in cases.values():
            peers.prepare(workspace, millrace, table)
        for round_ in range(1, rounds + 1):
            for case, table in cases.items():
                if result.has(case, MILLRACE, round_):
                    continue
                with progress.step(f"round {round_} of {rounds}: {table}"):
                    run = extraction.run_once(
                        workspace, services, millrace, table, case=case, round_=round_
                    )
                progress.say(f"{run.wall:8.2f} s  {megabytes(run.values['peak'])}  {table}")
                result.runs.append(run)
                file.save(result)
    return result


def report(result: Result) -> Report:
    """The table, the targets and the picture of this section."""

    def peak(case: str) -> float | None:
        return result.median(case, MILLRACE, lambda run: float(run.values["peak"]))

    sizes = [int(case) for case in result.cases() if case != LONG_TEXTS]
    rows = []
    for case in result.cases():
        name = (
            f"{int(case):,} rows"
            if case != LONG_TEXTS
            else f"{result.facts['long_texts']:,} texts of 400 kB"
        )
        written = result.select(case, MILLRACE)[-1].values["size"]
        rows.append(
            (
                name,
                seconds(result.median(case, MILLRACE)),
                megabytes(written),
                megabytes(peak(case)),
            )
        )
    peaks = [(size, peak(str(size))) for size in sizes]
    largest, smallest = peak(str(max(sizes))), peak(str(min(sizes)))
    long_texts = peak(LONG_TEXTS)
    return Report(
        title="Memory: from small tables to large ones",
        method=_METHOD,
        table=Table(("table", "wall", "Parquet", "peak memory"), tuple(rows)),
        targets=(
            Target(
                f"peak memory of {max(sizes):,} rows compared with that of {min(sizes):,}",
                _FLAT,
                ratio(largest, smallest),
                "×",
            ),
            Target(
                "peak memory, texts of 400 kB",
                300,
                None if long_texts is None else long_texts / MEGABYTE,
                "MB",
            ),
        ),
        charts=(
            Chart(
                "memory-over-rows.png",
                "Millrace's peak memory over the size of the table",
                {
                    "kind": "lines",
                    "title": "Millrace's peak memory over the size of the table",
                    "unit": "MB",
                    "x_unit": "rows",
                    "limit": 200,
                    "limit_label": "target: 200 MB",
                    "lines": [
                        {
                            "label": "Millrace, one connection",
                            "ours": True,
                            "points": [(size, value / MEGABYTE) for size, value in peaks if value],
                        }
                    ],
                },
            ),
        ),
    )


_METHOD = """\
Millrace with one connection reads the same table in three sizes, and a table with a text of 400 kB
of random Base64 in each row. As in the section above, each run is a fresh process, and everything
is compared afterwards. Peak memory includes the interpreter and all that is imported."""
