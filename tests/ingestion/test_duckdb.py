import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest

from ingestion.batch import Batch, Interval
from ingestion.errors import (
    PartCorrupt,
    WarehouseLocked,
    WarehouseUnavailable,
)
from ingestion.landing.landing import Landing
from ingestion.warehouses.duckdb import DuckDBWarehouse
from tests.ingestion.tables import batches_of, declared

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
    last = manifest.parts[-1].url.removeprefix("file://")
    with open(last, "rb") as file:
        data = file.read()
    with open(last, "wb") as file:
        file.write(data[:-1])
    with pytest.raises(PartCorrupt):
        warehouse.load(TABLE, manifest, landing)
    assert content(tmp_path, EVERYTHING) == before


def test_bytes_arrive_as_they_left(landing, warehouse, tmp_path):
    data = pa.table({"id": pa.array([b"\x00\xff", None], pa.binary())})
    warehouse.load(TABLE, land(landing, data), landing)
    assert content(tmp_path) == [(b"\x00\xff",), (None,)]


def test_a_locked_file_names_its_holder(tmp_path, warehouse):
    path = tmp_path / "warehouse.duckdb"
    code = (
        f"import duckdb; c = duckdb.connect({str(path)!r}); c.execute('create table t(i int)'); "
        "import sys; print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with closing(holder.stdin), holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WarehouseLocked, match=f"process {holder.pid}"):
            warehouse.check()
    assert holder.wait(30) == 0
    assert "DuckDB" in warehouse.check()


def test_a_file_that_is_not_duckdbs_is_refused(tmp_path, warehouse):
    (tmp_path / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(WarehouseUnavailable, match="cannot be opened"):
        warehouse.check()


def test_a_table_that_was_never_loaded_has_no_batches(tmp_path, warehouse):
    assert warehouse.batches(TABLE) == []
    assert not (tmp_path / "warehouse.duckdb").exists()
