"""The contract of a warehouse, on DuckDB, on Redshift and on BigQuery."""

from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.batch import Interval
from millrace.errors import DeclarationError, SchemaConflict
from millrace.landing.landing import Landing
from millrace.testing import DAY, Place, WarehouseContract, declared, ids, ledger
from millrace.warehouses.bigquery.options import BigQueryOptions
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse


class TestDuckDB(WarehouseContract):
    @pytest.fixture
    def place(self, tmp_path):
        return Place(
            DuckDBWarehouse(tmp_path / "warehouse.duckdb"),
            Landing(f"file://{tmp_path}/landing"),
            declared(),
        )


@pytest.mark.service
@pytest.mark.redshift
class TestRedshift(WarehouseContract):
    @pytest.fixture
    def place(self, redshift_place):
        return redshift_place


@pytest.mark.service
@pytest.mark.bigquery
class TestBigQuery(WarehouseContract):
    last_step = "millrace.warehouses.bigquery.statements.Commit.write_ledger"

    @pytest.fixture
    def place(self, bigquery_place):
        return bigquery_place

    def test_names_are_quoted(self, place):
        # BigQuery takes few characters in a name, so the others are refused.
        odd = replace(place.table, identifier='a"b; drop table x; --')
        with pytest.raises(DeclarationError, match="cannot be a table"):
            place.warehouse.load(odd, place.land(ids(1)), place.landing)
        data = pa.table({"select": [1], "from": [2]})
        place.table = replace(place.table, identifier="drop-table")
        place.load(data)
        place.reload(data)
        assert place.rows("select", "from") == [(1, 2)]

    def test_a_table_with_other_partitions_is_refused(self, place):
        columns = pa.schema([("id", pa.int64()), ("day", pa.date32()), ("on", pa.date32())])
        by_day, by_on = (
            replace(place.table, of_warehouse={"bigquery": BigQueryOptions(partition_by=name)})
            for name in ("day", "on")
        )
        assert place.warehouse.create(by_day, columns)
        assert not place.warehouse.create(by_day, columns)
        with pytest.raises(SchemaConflict, match=r"by the day of day, and .* declares that of on"):
            place.warehouse.create(by_on, columns)

    def test_parts_that_are_elsewhere_are_uploaded(self, place, tmp_path):
        place.landing = Landing(f"file://{tmp_path}/landing")
        manifest = place.land(ids(*range(3_000)), part_bytes=1)
        assert len(manifest.parts) > 1
        place.load_manifest(manifest)
        assert set(place.rows()) == {(number,) for number in range(3_000)}

    def test_the_columns_of_tables_and_views_are_told(self, place):
        # The emulator forgets a decimal's precision and scale.
        place.load(ids(1, note=["a"]))
        schema = place.table.schema
        place.query(f"CREATE VIEW {place.quote(schema)}.seen AS SELECT note FROM {place.raw()}")
        found = place.warehouse.columns(schema, place.table.identifier)
        assert list(found) == ["id", "note", "_batch_id", "_loaded_at"]
        assert place.warehouse.columns(schema, "seen") == {"note": "STRING"}
        assert place.warehouse.columns(schema, "nowhere") == {}


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
    place = Place(
        DuckDBWarehouse(folder / "warehouse.duckdb"),
        Landing(f"file://{folder}/landing"),
        declared(),
    )
    model: dict[Interval, list[int]] = {}
    for (start, end), values, times in loads:
        interval = Interval(
            None if start is None else DAY + timedelta(days=start), DAY + timedelta(days=end + 1)
        )
        manifest = place.land(ids(*values), interval)
        for _ in range(times):
            place.load_manifest(manifest)
        model = {kept: values for kept, values in model.items() if not interval.contains(kept)}
        model[interval] = values
    assert place.rows() == sorted((value,) for values in model.values() for value in values)
    found = ledger(place.warehouse, place.table)
    assert {row.interval for row in found} == set(model)
    assert sum(row.rows for row in found) == len(place.rows())
