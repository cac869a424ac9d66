import pyarrow as pa
import pytest

from millrace.arrow_types import is_castable
from millrace.catalog import Pii
from millrace.errors import SchemaConflict
from millrace.testing import declared
from millrace.warehouses.evolution import Evolution, plan_evolution

EXISTING = {"id": pa.int32(), "score": pa.int16()}
POLICIES = ["evolve", "additive", "freeze"]


def plan(incoming, existing=EXISTING, *, pii=None, **options):
    return plan_evolution(declared(pii=pii, **options), existing, pa.schema(incoming))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_columns_change_nothing(policy):
    assert plan(EXISTING, schema=policy) == Evolution(insert=("id", "score"))


@pytest.mark.parametrize("policy", POLICIES)
def test_of_a_table_that_is_yet_to_be_made_no_column_is_new(policy):
    assert plan(EXISTING, existing={}, schema=policy) == Evolution(insert=("id", "score"))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_name_that_only_changed_its_case_is_the_same_column(policy):
    incoming = {"ID": pa.int32(), "Score": pa.int16()}
    assert plan(incoming, schema=policy) == Evolution(insert=("ID", "Score"))


@pytest.mark.parametrize("policy", ["evolve", "additive"])
def test_a_new_column_is_added_and_told(policy):
    found = plan({**EXISTING, "channel": pa.string()}, schema=policy)
    assert found.add == {"channel": pa.string()}
    assert found.insert == ("id", "score", "channel")
    (told,) = found.told
    assert told == (
        "mysql.nps has the new column channel (string): raw_mysql.nps gets it, with NULL in the "
        "rows that are loaded already."
    )


@pytest.mark.parametrize("policy", ["evolve", "additive"])
def test_a_wider_type_widens_the_column_and_is_told(policy):
    found = plan({"id": pa.int64(), "score": pa.int16()}, schema=policy)
    assert found.widen == {"id": pa.int64()}
    assert found.told == (
        "mysql.nps: column id was int32 in raw_mysql.nps and is now int64: it is widened to int64.",
    )


def test_a_narrower_type_does_not_narrow_the_column():
    assert plan({"id": pa.int16(), "score": pa.int16()}) == Evolution(insert=("id", "score"))


def test_a_vanished_column_stays_and_is_told():
    found = plan({"id": pa.int32()})
    assert found.insert == ("id",)
    (told,) = found.told
    assert told == (
        "mysql.nps no longer has the column score: raw_mysql.nps keeps it, with NULL in the rows "
        "that are loaded from now on. `millrace reload mysql.nps` removes it."
    )


def test_a_new_column_of_the_type_of_a_vanished_one_may_be_its_new_name():
    new = {"points": pa.int16(), "channel": pa.string(), "grade": pa.int16()}
    *_, told = plan({"id": pa.int32(), **new}).told
    assert "It may have been renamed to points or grade: that is a drop and an add" in told
    assert "`millrace reload mysql.nps` reads the whole table under the new name" in told


def test_columns_that_are_left_out_have_not_vanished():
    assert plan({"id": pa.int32()}, pii={"score": Pii.DROP}) == Evolution(insert=("id",))


def test_all_types_that_do_not_fit_are_refused_together_with_what_to_do():
    with pytest.raises(SchemaConflict) as refused:
        plan({"id": pa.bool_(), "score": pa.string()})
    assert "column id was int32 in raw_mysql.nps and is now bool" in refused.value.message
    assert "column score was int16 in raw_mysql.nps and is now string" in refused.value.message
    assert "`millrace reload mysql.nps`" in refused.value.fix


def test_a_policy_that_would_take_the_change_is_named():
    with pytest.raises(SchemaConflict) as refused:
        plan({**EXISTING, "score": pa.string()})
    assert "`schema: evolve`" in refused.value.fix
    with pytest.raises(SchemaConflict) as refused:
        plan({**EXISTING, "score": pa.bool_()})
    assert "evolve" not in refused.value.fix


def test_a_changed_type_is_rewritten_where_columns_may_evolve():
    found = plan({**EXISTING, "score": pa.string()}, schema="evolve")
    assert found.rewrite == {"score": (pa.int16(), pa.string())}
    (told,) = found.told
    assert told == (
        "mysql.nps: column score was int16 in raw_mysql.nps and is now string: it is rewritten if "
        "every value fits."
    )


@pytest.mark.parametrize(
    ("one", "other", "may_be"),
    [
        (pa.int64(), pa.string(), True),
        (pa.decimal128(10, 2), pa.string(), True),
        (pa.date32(), pa.string(), True),
        (pa.float64(), pa.int64(), True),
        (pa.decimal128(38, 0), pa.float64(), True),
        # A zone that nobody named, a text that each warehouse writes in its own way.
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), False),
        (pa.timestamp("us"), pa.string(), False),
        (pa.float64(), pa.string(), False),
        (pa.bool_(), pa.int16(), False),
        (pa.binary(), pa.string(), False),
        (pa.date32(), pa.int32(), False),
    ],
    ids=str,
)
def test_only_a_type_that_means_the_same_is_cast(one, other, may_be):
    assert is_castable(one, other) == is_castable(other, one) == may_be


def test_frozen_columns_name_every_difference():
    incoming = {"id": pa.int64(), "points": pa.int16()}
    with pytest.raises(SchemaConflict) as refused:
        plan(incoming, schema="freeze")
    assert refused.value.message.endswith(
        "(`schema: freeze`): points (int16) is new; score is gone; "
        "column id was int32 in raw_mysql.nps and is now int64."
    )
    assert "`ingest: false`" in refused.value.fix
    assert "`millrace reload mysql.nps`" in refused.value.fix


@pytest.mark.parametrize("names", [("Id", "id"), ("_loaded_at",), ("_BATCH_ID",)])
def test_names_that_a_warehouse_cannot_tell_apart_are_refused(names):
    with pytest.raises(SchemaConflict):
        plan(dict.fromkeys(names, pa.int32()), existing={})
