"""The section on extraction as a whole, on real services, at a tiny size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from benchmarks import extraction, peers, tables
from benchmarks.peers import FLOOR, FLOOR_BINARY, HASHING_NUMBER, HASHING_TEXT, MILLRACE
from benchmarks.progress import Progress
from benchmarks.results import Result
from benchmarks.workspace import BenchmarkError, Services, Workspace
from millrace_sandbox.mariadb import MariaDB
from redshift_standin.s3 import S3Server

ROWS = 500

pytestmark = pytest.mark.service


@pytest.fixture
def workspace(
    tmp_path: Path,
    mariadb: MariaDB,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> Workspace:
    """A workspace whose services are the tests' own, already running."""

    @contextmanager
    def running(_: Workspace) -> Iterator[Services]:
        s3_server.create_bucket("benchmarks")
        yield Services(mariadb, s3_server, None)

    monkeypatch.setattr(extraction, "running_services", running)
    opened = Workspace(tmp_path / "bench")
    opened.create()
    return opened


def measure(workspace: Workspace, *methods: str) -> Result:
    progress = Progress(Console(file=StringIO()))
    return extraction.measure(workspace, ROWS, rounds=1, progress=progress, only=methods)


def test_the_floor_and_millrace_bring_what_is_there(workspace: Workspace) -> None:
    result = measure(workspace, FLOOR, FLOOR_BINARY, MILLRACE)

    assert result.methods("extract") == [FLOOR, FLOOR_BINARY, MILLRACE]
    assert [run.values["rows"] for run in result.runs] == [ROWS] * 3
    assert all(run.wall > 0 for run in result.runs)
    assert result.runs[-1].values["peak"] > 50 * 2**20
    assert "equal" in extraction.report(result).table.rows[-1][-1]


def test_a_wrong_value_ends_the_measurement(workspace: Workspace, mariadb: MariaDB) -> None:
    table = tables.create_rows(workspace, mariadb.server, ROWS)
    reference = tables.reference_of(workspace, table)
    rows = pq.read_table(reference)
    spoilt = rows.set_column(2, "score", [[*rows["score"].to_pylist()[:-1], 99]])
    pq.write_table(spoilt.cast(rows.schema), reference)

    with pytest.raises(BenchmarkError, match="score in 1 rows"):
        measure(workspace, MILLRACE)


def test_hashes_are_compared_with_those_of_the_standard_library(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measure(workspace, HASHING_TEXT, HASHING_NUMBER)
    assert [run.values["rows"] for run in result.runs] == [ROWS] * 2

    monkeypatch.setattr(peers, "SALT", "another text")
    with pytest.raises(BenchmarkError, match=f"user_id in {ROWS} rows"):
        measure(workspace, HASHING_NUMBER)


def test_a_peer_that_fails_does_not_cost_the_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise BenchmarkError("uv pip failed:\nno such package")

    monkeypatch.setattr(peers, "python_of", refuse)

    result = measure(workspace, "connectorx", FLOOR)

    assert result.methods("extract") == [FLOOR]
    assert "connectorx failed: no such package" in extraction.report(result).remark


def test_an_unknown_method_is_named_with_those_that_are_known(workspace: Workspace) -> None:
    with pytest.raises(BenchmarkError, match=r"no method 'milrace'\. Known: .*Millrace"):
        measure(workspace, "milrace")
