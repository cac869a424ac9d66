"""MySQL to Parquet on S3: Millrace compared with what users would pick instead."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
import pyarrow.parquet as pq
from obstore.store import S3Store

from benchmarks import peers, tables
from benchmarks.peers import FLOOR, HASHING_NUMBER, HASHING_TEXT, MILLRACE, SALT, Peer
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
    times,
)
from benchmarks.results import Result, ResultFile, Run
from benchmarks.verify import Verdict, compare
from benchmarks.workspace import BenchmarkError, Services, Workspace, running_services

SECTION = "extraction"
CASE = "extract"


def measure(
    workspace: Workspace,
    rows: int,
    rounds: int,
    progress: Progress,
    *,
    only: Sequence[str] = (),
    resume: bool = False,
) -> Result:
    """Run every peer, round after round, and compare what each wrote with the table.

    Args:
        workspace: The folders of the benchmarks.
        rows: Rows of the table.
        rounds: How often each peer runs.
        progress: Where progress is reported.
        only: Names of peers; default: all of them.
        resume: Whether to go on where the last measurement of this size stopped.

    Raises:
        BenchmarkError: Millrace or the floor failed, or changed a value. A peer that fails is
            noted and left out.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    chosen = _chosen(only)
    with running_services(workspace) as services:
        result.facts["versions"] = peers.versions(services)
        with progress.step(f"a table of {rows:,} rows"):
            table = tables.create_rows(workspace, services.mariadb.server, rows)
        failed: dict[str, str] = {}
        result.facts["failed"] = failed
        for peer in chosen:
            with progress.step(f"prepare {peer.name}"), _noting_failures(peer, failed, progress):
                peers.prepare(workspace, peer, table)
        # Round by round, so that a disturbance of the machine affects every peer alike.
        for round_ in range(1, rounds + 1):
            for peer in chosen:
                if peer.name in failed or result.has(CASE, peer.name, round_):
                    continue
                with (
                    progress.step(f"round {round_} of {rounds}: {peer.name}"),
                    _noting_failures(peer, failed, progress),
                ):
                    run = run_once(workspace, services, peer, table, case=CASE, round_=round_)
                    progress.say(f"{run.wall:8.2f} s  {peer.name}")
                    result.runs.append(run)
                file.save(result)
    return result


@contextmanager
def _noting_failures(peer: Peer, failed: dict[str, str], progress: Progress) -> Iterator[None]:
    """Note the failure of a peer, so that the others are measured nevertheless."""
    try:
        yield
    except BenchmarkError as error:
        if peer.is_millrace or not peer.writes:
            raise
        progress.say(f"  FAILED    {error}")
        # The last line of a stack trace has the reason.
        failed[peer.name] = str(error).strip().splitlines()[-1]


def _chosen(only: Iterable[str]) -> list[Peer]:
    known = peers.BY_NAME
    if unknown := [name for name in only if name not in known]:
        raise BenchmarkError(f"There is no method {unknown[0]!r}. Known: {', '.join(known)}.")
    return [known[name] for name in only] or list(known.values())


def run_once(
    workspace: Workspace, services: Services, peer: Peer, table: str, *, case: str, round_: int
) -> Run:
    """Let a peer read a table once, and compare what it wrote.

    Raises:
        BenchmarkError: it failed; or it is Millrace or the floor, and changed something.
    """
    prefix = f"{SECTION}/{table}/{round_}/{peer.slug}"
    store = services.store
    _empty(store, prefix)
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        usage = peers.extract(workspace, services, peer, table, prefix=prefix, folder=Path(folder))
    reference = _reference(workspace, peer, table)
    if peer.writes:
        with _downloaded(workspace, store, prefix) as parts:
            verdict = compare(reference, parts)
            size = sum(part.stat().st_size for part in parts)
    else:
        verdict, size = _counted(reference, usage.output.get("rows")), 0
    _empty(store, prefix)
    values = {
        "cpu": usage.cpu,
        "peak": usage.peak,
        "services_cpu": usage.services_cpu,
        "working": usage.output.get("working", usage.wall),
        "size": size,
        "rows": verdict.rows,
        "changed": verdict.changed,
        "examples": verdict.examples,
        "retyped": verdict.retyped,
    }
    _refuse_changes(peer, verdict)
    return Run(case, peer.name, round_, usage.wall, values)


def _reference(workspace: Workspace, peer: Peer, table: str) -> Path:
    if peer.hashed:
        return tables.hashed_reference_of(workspace, table, peer.hashed, SALT)
    return tables.reference_of(workspace, table)


def _counted(reference: Path, rows: int | None) -> Verdict:
    """The verdict on a method that discards what it reads: only its rows can be counted."""
    expected = pq.read_metadata(reference).num_rows
    changed = () if rows == expected else (f"{rows} rows instead of {expected:,}",)
    return Verdict(rows or 0, changed)


def _refuse_changes(peer: Peer, verdict: Verdict) -> None:
    """Fail if Millrace or the floor changed a value; a peer's changes are shown in the table."""
    if verdict.changed and (peer.is_millrace or not peer.writes):
        raise BenchmarkError(f"{peer.name} did not bring what is there: {verdict.changed}")


@contextmanager
def _downloaded(workspace: Workspace, store: S3Store, prefix: str) -> Iterator[list[Path]]:
    """The data files under a prefix, without what a method writes beside them."""
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        parts: list[Path] = []
        for listed in obstore.list(store, prefix):
            for found in listed:
                path = found["path"]
                if path.endswith(".parquet") and "/_dlt" not in path:
                    part = Path(folder, f"{len(parts):05d}.parquet")
                    with part.open("wb") as file:
                        for chunk in obstore.get(store, path).stream():
                            file.write(chunk)
                    parts.append(part)
        yield parts


def _empty(store: S3Store, prefix: str) -> None:
    for listed in obstore.list(store, prefix):
        obstore.delete(store, [found["path"] for found in listed])


def report(result: Result) -> Report:
    """The table, the targets and the pictures of this section."""

    def median(method: str, name: str) -> float | None:
        return result.median(CASE, method, lambda run: float(run.values[name]))

    floor = result.median(CASE, FLOOR)
    rows = []
    methods = sorted(result.methods(CASE), key=lambda name: result.median(CASE, name) or 0)
    for method in methods:
        wall = result.median(CASE, method)
        last = result.select(CASE, method)[-1].values
        rows.append(
            (
                method,
                seconds(wall),
                times(ratio(wall, floor)),
                times(ratio(median(method, "working"), floor)),
                seconds(median(method, "cpu")),
                seconds(median(method, "services_cpu")),
                megabytes(median(method, "peak")),
                _values(last),
            )
        )
    ours = frozenset(
        number for number, method in enumerate(methods) if method.startswith("Millrace")
    )
    return Report(
        title=f"Extraction: MySQL to Parquet on S3, {result.rows:,} rows × {len(tables.COLUMNS)} "
        "columns",
        method=_METHOD,
        table=Table(_HEADINGS, tuple(rows), ours, texts=frozenset({len(_HEADINGS) - 1})),
        remark="\n\n".join(filter(None, (_failures(result), _examples(result)))),
        targets=(
            Target(
                "one connection compared with the C client that discards, start-up included",
                1.5,
                ratio(result.median(CASE, MILLRACE), floor),
                "×",
            ),
            Target(
                "one connection compared with the C client that discards, without start-up",
                1.5,
                ratio(median(MILLRACE, "working"), floor),
                "×",
            ),
            *(
                Target(
                    f"{what} hashed, compared with the same extraction without hashing",
                    1.3,
                    ratio(result.median(CASE, method), result.median(CASE, MILLRACE)),
                    "×",
                )
                for what, method in (("a text", HASHING_TEXT), ("a number", HASHING_NUMBER))
            ),
            Target("peak memory, one connection", 200, _mb(median(MILLRACE, "peak")), "MB"),
        ),
        charts=(
            _bars(
                "extraction-wall.png",
                f"Wall time of {result.rows:,} rows, in times of the C client that discards them",
                "× the C client",
                {name: ratio(result.median(CASE, name), floor) for name in methods},
                decimals=1,
            ),
            _bars(
                "extraction-memory.png",
                f"Peak memory of the client, {result.rows:,} rows",
                "MB",
                {name: _mb(median(name, "peak")) for name in methods},
                decimals=0,
            ),
        ),
    )


_HEADINGS = (
    "method",
    "wall",
    "÷ floor",
    "without start-up",
    "CPU",
    "servers' CPU",
    "peak memory",
    "values",
)
_METHOD = """\
Each method reads the whole table from MariaDB (loopback, warm) and writes Parquet to the S3 server
of the sandbox, in a fresh process; wall time is that of the process. Without start-up means: from
the moment when everything is imported and configured. The two C clients only read and discard; the
first is the floor. "Millrace" chooses its number of connections by the table's size; its other rows
declare the number (`partitions`). Two of them hash a personal column (`pii: hash`): the text
`comment`, whose hash takes about as many bytes in Parquet, and the number `user_id`, which takes 2
bytes, and its hash 32. Rounds are interleaved; the table has medians, in order of wall time. CPU is
that of the method's processes; the servers' CPU is that of MariaDB and of the S3 server, which
share the two cores. Peak memory is the resident memory of all processes of the method. After each
run, every value that it wrote is compared, by key, with what the server itself writes
(`SELECT … INTO OUTFILE`), and every hash with that of Python's `hmac`."""


def _values(values: Mapping[str, Any]) -> str:
    """Whether the values are equal, for a cell of the table."""
    if not values["size"]:
        return "discarded"
    if not values["changed"]:
        return "; ".join(("equal", *values["retyped"]))
    return "; ".join((f"changed: {', '.join(values['changed'])}", *values["retyped"]))


def _examples(result: Result) -> str:
    """One changed value for each column of each method, as a list."""
    lines = [
        f"- {method}: {'; '.join(examples)}"
        for method in result.methods(CASE)
        if (examples := result.select(CASE, method)[-1].values["examples"])
    ]
    return "\n".join(["Values that were changed, for example:", "", *lines]) if lines else ""


def _failures(result: Result) -> str:
    """The methods that did not work, with the reason, as a list."""
    failed = result.facts.get("failed", {})
    return "\n".join(f"- {name} failed: {reason}" for name, reason in failed.items())


def _mb(value: float | None) -> float | None:
    return None if value is None else value / MEGABYTE


def _bars(
    file: str, caption: str, unit: str, values: Mapping[str, float | None], decimals: int
) -> Chart:
    bars = [
        {"label": name, "value": value, "ours": name.startswith("Millrace")}
        for name, value in values.items()
        if value is not None
    ]
    return Chart(
        file,
        caption,
        {"kind": "bars", "title": caption, "unit": unit, "bars": bars, "decimals": decimals},
    )
