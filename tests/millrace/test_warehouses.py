"""The contract of a warehouse, on DuckDB and on Redshift."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.batch import Interval
from millrace.landing.landing import Landing
from millrace.testing import DAY, Place, WarehouseContract, declared, ids, ledger
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
