import os
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from millrace.batch import Batch, Interval
from millrace.connections import Connection
from millrace.errors import (
    LandingError,
    LandingUnavailable,
    PartCorrupt,
    WarehouseError,
    WarehouseLocked,
    WarehouseRefused,
)
from millrace.landing.landing import Landing
from millrace.testing import batches_of, declared, ledger
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse

DAY = datetime(2026, 10, 1, tzinfo=UTC)
INTERVAL = Interval(DAY, DAY + timedelta(days=1))
TABLE = declared()


@pytest.fixture
def landing(tmp_path):
    return Landing(f"file://{tmp_path}/landing")


@pytest.fixture
def warehouse(tmp_path):
    return DuckDBWarehouse(tmp_path / "warehouse.duckdb")


def rows(*ids, **columns):
    return pa.table({"id": pa.array(ids, pa.int32()), **columns})


def land(landing, data, interval=INTERVAL, **options):
    batch = Batch("mysql.nps", interval)
    return landing.write(batch, data.schema, batches_of(data), **options)


def content(
    tmp_path, query="select * exclude (_batch_id, _loaded_at) from raw_mysql.nps order by all"
):
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(query).fetchall()


EVERYTHING = (
    "select 'raw', _batch_id, id::varchar, _loaded_at from raw_mysql.nps "
    "union all select 'ledger', batch_id, row_count::varchar, loaded_at from raw_mysql._batches "
    "union all select 'column', column_name, data_type, null from information_schema.columns "
    "order by all"
)


def test_a_part_that_is_damaged_leaves_everything_as_it_was(landing, warehouse, tmp_path):
    warehouse.load(TABLE, land(landing, rows(1, 2)), landing)
    before = content(tmp_path, EVERYTHING)
    wider = pa.table({"id": pa.array(range(5000), pa.int64()), "note": ["n"] * 5000})
    manifest = land(landing, wider, part_bytes=1)
    assert len(manifest.parts) == 5
    last = Path(manifest.parts[-1].url.removeprefix("file://"))
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(PartCorrupt):
        warehouse.load(TABLE, manifest, landing)
    assert content(tmp_path, EVERYTHING) == before


def test_a_view_reads_the_table_that_replaced_its_own(landing, warehouse, tmp_path):
    warehouse.load(TABLE, land(landing, rows(1, 2, note=["a", "b"])), landing)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("create view seen as select cast(id as bigint) as id from raw_mysql.nps")
    wider = pa.table({"id": pa.array([3], pa.int64()), "score": [9]})
    warehouse.reload(TABLE, land(landing, wider), landing)
    # From a file that is opened anew: what the transaction wrote is replayed from the log.
    assert content(tmp_path, "select id from seen") == [(3,)]
    assert content(tmp_path) == [(3, 9)]


def test_bytes_arrive_as_they_left(landing, warehouse, tmp_path):
    data = pa.table({"id": pa.array([b"\x00\xff", None], pa.binary())})
    warehouse.load(TABLE, land(landing, data), landing)
    assert content(tmp_path) == [(b"\x00\xff",), (None,)]


@pytest.fixture
def holder(tmp_path):
    """A process that holds the file until its standard input is closed."""
    path = tmp_path / "warehouse.duckdb"
    code = (
        f"import duckdb; c = duckdb.connect({str(path)!r}); c.execute('create table t(i int)'); "
        "import sys; print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_a_locked_file_names_its_holder(holder, warehouse):
    with pytest.raises(WarehouseLocked, match=f"process {holder.pid}"):
        warehouse.check()
    holder.stdin.close()
    assert holder.wait(30) == 0
    assert "DuckDB" in warehouse.check()


def test_a_file_that_is_held_for_a_moment_is_waited_for(holder, warehouse, monkeypatch):
    connect = duckdb.connect
    refused = []

    def connected(*arguments):
        try:
            return connect(*arguments)
        except duckdb.IOException as error:
            refused.append(error)
            holder.stdin.close()
            holder.wait(30)
            raise

    monkeypatch.setattr(duckdb, "connect", connected)
    assert "DuckDB" in warehouse.check()
    assert len(refused) == 1


@pytest.mark.parametrize("name", ["warehouse.duckdb", "locked/Could not set lock on file.duckdb"])
def test_a_file_that_is_not_duckdbs_is_refused(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(WarehouseRefused, match="cannot be opened") as caught:
        DuckDBWarehouse(path).check()
    assert not isinstance(caught.value, WarehouseLocked)
    assert not caught.value.may_pass


@pytest.fixture
def small_disk(tmp_path):
    """A disk of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(rows_count):
    return pa.table({"id": [os.urandom(1_000) for _ in range(rows_count)]})


def test_a_full_disk_leaves_everything_as_it_was(landing, small_disk):
    warehouse = DuckDBWarehouse(small_disk / "warehouse.duckdb")
    before = warehouse.load(TABLE, land(landing, noise(100)), landing)
    with pytest.raises(WarehouseError, match="There is no room for the DuckDB file") as caught:
        warehouse.load(TABLE, land(landing, noise(20_000)), landing)
    assert "profiles.yml" in caught.value.fix
    assert ledger(warehouse, TABLE) == [before]
    again = warehouse.load(TABLE, land(landing, noise(200)), landing)
    assert ledger(warehouse, TABLE) == [again]


def test_a_full_landing_folder_keeps_nothing_of_the_attempt(small_disk):
    landing = Landing(f"file://{small_disk}/landing")
    with pytest.raises(LandingUnavailable, match="No space left"):
        land(landing, noise(20_000))
    assert not [file for file in small_disk.rglob("*") if file.is_file()]


@pytest.mark.service
def test_a_full_temporary_folder_is_told(small_disk, s3_server, bucket, monkeypatch):
    connection = Connection("aws_landing", **s3_server.endpoint.airflow_connection())
    landing = Landing(f"s3://{bucket}", connection)
    (part,) = land(landing, noise(8_000)).parts
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with (
        pytest.raises(LandingError, match=f"no room for a copy of a part in {small_disk}") as told,
        landing.local_copy(part),
    ):
        pytest.fail("a part that did not fit was handed out")
    assert "TMPDIR" in told.value.fix
    assert not list(small_disk.iterdir())


def test_ctrl_c_in_the_middle_of_a_statement_is_ctrl_c(warehouse):
    # It may be noticed only when a thread is done with its share: a second or two.
    query = "SELECT SUM(sqrt(number)) FROM range(500_000_000) AS _(number)"
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), warehouse._session() as session:
        session.run(query)


def test_what_duckdb_refuses_is_told_without_a_stack_trace(warehouse):
    with pytest.raises(WarehouseError, match="refuses"), warehouse._session() as session:
        session.run("SELECT * FROM nowhere")


def test_too_little_memory_is_told_with_the_way_out(warehouse):
    query = (
        "SET memory_limit = '4MB'; SET max_temp_directory_size = '0B'; "
        "SELECT list(number) FROM range(1_000_000) AS _(number)"
    )
    with (
        pytest.raises(WarehouseError, match="does not have enough memory") as told,
        warehouse._session() as session,
    ):
        session.run(query)
    assert "The warehouse is as it was before." in told.value.fix


def test_a_table_that_was_never_loaded_has_no_batches(tmp_path, warehouse):
    assert ledger(warehouse, TABLE) == []
    assert not (tmp_path / "warehouse.duckdb").exists()
