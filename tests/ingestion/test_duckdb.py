import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.batch import WHOLE_TABLE, Batch, Interval
from ingestion.errors import (
    CountMismatch,
    PartCorrupt,
    SchemaConflict,
    WarehouseLocked,
    WarehouseUnavailable,
)
from ingestion.landing.landing import Landing
from ingestion.manifest import Manifest, Part
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


def test_a_batch_arrives_with_its_ledger_row(landing, warehouse, tmp_path):
    manifest = land(landing, rows(1, 2, 3))
    row = warehouse.load(TABLE, manifest, landing.local_copy)
    assert content(tmp_path) == [(1,), (2,), (3,)]
    assert warehouse.batches(TABLE) == [row]
    assert (row.rows, row.interval, row.manifest_url) == (3, INTERVAL, manifest.url)
    assert row.extracted_at == manifest.extracted_at


def test_every_type_arrives_as_it_left(landing, warehouse, tmp_path):
    values = {
        "bool": (pa.bool_(), True),
        "int8": (pa.int8(), -128),
        "int16": (pa.int16(), -32768),
        "int32": (pa.int32(), -(2**31)),
        "int64": (pa.int64(), -(2**63)),
        "uint8": (pa.uint8(), 255),
        "uint16": (pa.uint16(), 65535),
        "uint32": (pa.uint32(), 2**32 - 1),
        "uint64": (pa.uint64(), 2**64 - 1),
        "float": (pa.float32(), 16777217.0),
        "double": (pa.float64(), 0.1),
        "decimal": (pa.decimal128(38, 10), Decimal("1234567890123456789012345678.0123456789")),
        "text": (pa.string(), "좋아요 🎉 '\"\\"),
        "empty": (pa.string(), ""),
        "bytes": (pa.binary(), b"\x00\xff"),
        "date": (pa.date32(), datetime(1000, 1, 1).date()),
        "naive": (pa.timestamp("us"), datetime(9999, 12, 31, 23, 59, 59, 999999)),
        "aware": (pa.timestamp("us", "UTC"), datetime(2026, 10, 1, 1, 2, 3, 4, tzinfo=UTC)),
    }
    data = pa.table({name: pa.array([v, None], t) for name, (t, v) in values.items()})
    warehouse.load(TABLE, land(landing, data), landing.local_copy)
    # Loaded again, so that the raw table's own types are read back too.
    warehouse.load(TABLE, land(landing, data), landing.local_copy)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        first, second = connection.execute(
            "select * exclude (_batch_id, _loaded_at) from raw_mysql.nps order by bool nulls last"
        ).fetchall()
    expected = [data.column(name)[0].as_py() for name in values]
    assert list(first) == expected
    assert set(second) == {None}


def test_a_batch_without_rows_makes_the_table_and_is_remembered(landing, warehouse, tmp_path):
    row = warehouse.load(TABLE, land(landing, rows()), landing.local_copy)
    assert row.rows == 0
    assert content(tmp_path) == []
    assert len(warehouse.batches(TABLE)) == 1


def test_loading_again_replaces_only_the_batch(landing, warehouse, tmp_path):
    before = Interval(DAY - timedelta(days=1), DAY)
    warehouse.load(TABLE, land(landing, rows(1, 2), before), landing.local_copy)
    warehouse.load(TABLE, land(landing, rows(3, 4)), landing.local_copy)
    warehouse.load(TABLE, land(landing, rows(4, 5)), landing.local_copy)
    assert content(tmp_path) == [(1,), (2,), (4,), (5,)]
    assert [row.interval for row in warehouse.batches(TABLE)] == [before, INTERVAL]


def test_a_wider_interval_replaces_the_batches_inside_it(landing, warehouse, tmp_path):
    for days in range(3):
        day = Interval(DAY + timedelta(days=days), DAY + timedelta(days=days + 1))
        warehouse.load(TABLE, land(landing, rows(days), day), landing.local_copy)
    first_two = Interval(DAY, DAY + timedelta(days=2))
    warehouse.load(TABLE, land(landing, rows(10, 11), first_two), landing.local_copy)
    assert content(tmp_path) == [(2,), (10,), (11,)]
    everything = Interval(None, DAY + timedelta(days=9))
    warehouse.load(TABLE, land(landing, rows(7), everything), landing.local_copy)
    assert content(tmp_path) == [(7,)]
    assert [row.interval for row in warehouse.batches(TABLE)] == [everything]


def test_a_full_refresh_replaces_the_table(landing, warehouse, tmp_path):
    table = declared(cursor=None)
    warehouse.load(table, land(landing, rows(1, 2), WHOLE_TABLE), landing.local_copy)
    warehouse.load(table, land(landing, rows(2, 3), WHOLE_TABLE), landing.local_copy)
    assert content(tmp_path) == [(2,), (3,)]


def test_loads_of_a_table_are_stamped_in_the_order_they_commit(
    landing, warehouse, tmp_path, monkeypatch
):
    hours = iter(range(100))
    monkeypatch.setattr(
        "ingestion.warehouses.sql._now", lambda: DAY - timedelta(hours=next(hours))
    )
    stamps = []
    for days in range(4):
        day = Interval(DAY + timedelta(days=days), DAY + timedelta(days=days + 1))
        stamps.append(
            warehouse.load(TABLE, land(landing, rows(days), day), landing.local_copy).loaded_at
        )
    assert stamps == sorted(set(stamps))


def test_the_raw_table_grows_with_the_source(landing, warehouse, tmp_path):
    warehouse.load(TABLE, land(landing, rows(1)), landing.local_copy)
    wider = pa.table({"id": pa.array([2**40], pa.int64()), "note": ["new"]})
    later = Interval(INTERVAL.end, INTERVAL.end + timedelta(days=1))
    warehouse.load(TABLE, land(landing, wider, later), landing.local_copy)
    assert content(tmp_path) == [(1, None), (2**40, "new")]


@pytest.mark.parametrize(
    "data",
    [pa.table({"id": ["text"]}), pa.table({"other": [1]})],
    ids=["a lossy type change", "a vanished column"],
)
def test_a_batch_that_does_not_fit_leaves_everything_as_it_was(landing, warehouse, tmp_path, data):
    warehouse.load(TABLE, land(landing, rows(1, 2)), landing.local_copy)
    before = content(tmp_path, EVERYTHING)
    with pytest.raises(SchemaConflict):
        warehouse.load(TABLE, land(landing, data), landing.local_copy)
    assert content(tmp_path, EVERYTHING) == before


def test_a_part_that_is_damaged_leaves_everything_as_it_was(landing, warehouse, tmp_path):
    warehouse.load(TABLE, land(landing, rows(1, 2)), landing.local_copy)
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
        warehouse.load(TABLE, manifest, landing.local_copy)
    assert content(tmp_path, EVERYTHING) == before


def test_a_part_with_other_rows_than_promised_leaves_everything_as_it_was(
    landing, warehouse, tmp_path
):
    warehouse.load(TABLE, land(landing, rows(1, 2)), landing.local_copy)
    before = content(tmp_path, EVERYTHING)
    true = land(landing, rows(3, 4))
    (part,) = true.parts
    wrong = Manifest(
        true.batch,
        true.schema,
        (Part(part.url, part.size, part.rows + 1, part.sha256),),
        true.extracted_at,
        true.url,
    )
    with pytest.raises(CountMismatch, match="brought 2 rows; its manifest says 3"):
        warehouse.load(TABLE, wrong, landing.local_copy)
    assert content(tmp_path, EVERYTHING) == before


def test_names_are_quoted(landing, tmp_path):
    odd = 'a"b; drop table x; --'
    table = declared()
    table = type(table)(**{**table.__dict__, "schema": odd, "identifier": odd})
    warehouse = DuckDBWarehouse(tmp_path / "warehouse.duckdb")
    data = pa.table({odd: [1], "select": [2]})
    warehouse.load(table, land(landing, data), landing.local_copy)
    assert [row.rows for row in warehouse.batches(table)] == [1]


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


# A property: whatever is loaded in whatever order, repeated or not, raw holds what a plain
# model of "a batch replaces the batches inside its interval" holds.

days = st.integers(0, 3)
intervals = st.tuples(st.none() | days, days).filter(lambda b: b[0] is None or b[0] < b[1] + 1)
loads = st.lists(
    st.tuples(intervals, st.lists(st.integers(0, 9), max_size=4), st.integers(1, 2)),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(loads)
def test_raw_holds_the_last_load_of_every_interval(tmp_path_factory, loads):
    folder = tmp_path_factory.mktemp("property")
    landing = Landing(f"file://{folder}/landing")
    warehouse = DuckDBWarehouse(folder / "warehouse.duckdb")
    model: dict[Interval, list[int]] = {}
    for (start, end), ids, times in loads:
        interval = Interval(
            None if start is None else DAY + timedelta(days=start), DAY + timedelta(days=end + 1)
        )
        manifest = land(landing, rows(*ids), interval)
        for _ in range(times):
            warehouse.load(TABLE, manifest, landing.local_copy)
        model = {kept: ids for kept, ids in model.items() if not interval.contains(kept)}
        model[interval] = ids
    assert content(folder) == sorted((id_,) for ids in model.values() for id_ in ids)
    assert {row.interval for row in warehouse.batches(TABLE)} == set(model)
    assert sum(row.rows for row in warehouse.batches(TABLE)) == len(content(folder))
