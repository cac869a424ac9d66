import pyarrow as pa
import pytest

from millrace.catalog import Pii
from millrace.errors import SchemaConflict
from millrace.testing import declared
from millrace.warehouses.evolution import Evolution, plan_evolution

EXISTING = {"id": pa.int32(), "score": pa.int16()}


def plan(incoming, existing=EXISTING, **options):
    return plan_evolution(declared(**options), existing, pa.schema(incoming))


def test_the_same_columns_change_nothing():
    assert plan(EXISTING) == Evolution(insert=("id", "score"))


def test_a_new_column_is_added():
    found = plan({**EXISTING, "channel": pa.string()})
    assert found.add == {"channel": pa.string()}
    assert found.insert == ("id", "score", "channel")


def test_a_new_column_may_be_ignored_or_refused():
    incoming = {**EXISTING, "channel": pa.string()}
    assert plan(incoming, new_columns="ignore") == Evolution(insert=("id", "score"))
    with pytest.raises(SchemaConflict, match="new column channel"):
        plan(incoming, new_columns="refuse")


@pytest.mark.parametrize("policy", ["add", "ignore", "refuse"])
def test_of_a_table_that_is_yet_to_be_made_no_column_is_new(policy):
    assert plan(EXISTING, existing={}, new_columns=policy).insert == ("id", "score")


def test_a_wider_type_widens_the_column_and_a_narrower_one_does_not_narrow_it():
    assert plan({"id": pa.int64(), "score": pa.int16()}).widen == {"id": pa.int64()}
    assert plan({"id": pa.int16(), "score": pa.int16()}).widen == {}


def test_a_lossy_type_change_is_refused_with_both_types():
    with pytest.raises(SchemaConflict, match=r"score was int16 .* is now string"):
        plan({"id": pa.int32(), "score": pa.string()})


def test_a_vanished_column_is_refused_unless_told_to_keep_it():
    with pytest.raises(SchemaConflict, match="no longer has the column score"):
        plan({"id": pa.int32()})
    assert plan({"id": pa.int32()}, missing_columns="keep").insert == ("id",)


def test_a_column_that_is_dropped_as_pii_has_not_vanished():
    assert plan({"id": pa.int32()}, pii={"score": Pii.DROP}).insert == ("id",)


@pytest.mark.parametrize("names", [("Id", "id"), ("_loaded_at",), ("_BATCH_ID",)])
def test_names_that_a_warehouse_cannot_tell_apart_are_refused(names):
    with pytest.raises(SchemaConflict):
        plan(dict.fromkeys(names, pa.int32()), existing={})
