"""How a declaration shapes a raw table in Redshift."""

from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from millrace.batch import Interval
from millrace.errors import CountMismatch, DeclarationError
from millrace.testing import DAY, declared
from millrace.warehouses.redshift.options import RedshiftOptions

pytestmark = [pytest.mark.service, pytest.mark.redshift]

DATA = pa.table(
    {
        "id": [1, 2],
        "user_id": [7, 8],
        "payload": ['{"a": {"b": "좋아요"}}', None],
        "updated_at": pa.array([0, 1], pa.timestamp("us")),
    }
)


def shape(place):
    return place.query(
        "SELECT diststyle, sortkey1, sortkey_num FROM svv_table_info "
        f"WHERE \"schema\" = '{place.table.schema}' AND \"table\" = 'nps'"
    )


def with_redshift(place, **options):
    table = replace(declared(), of_warehouse={"redshift": RedshiftOptions(**options)})
    place.table = replace(table, schema=place.table.schema)
    return place


def test_key_and_cursor_spread_and_sort_unless_told(redshift_place):
    redshift_place.load(DATA)
    assert shape(redshift_place) == [("KEY(id)", "_loaded_at", 2)]


def test_the_declaration_spreads_and_sorts(redshift_place):
    place = with_redshift(redshift_place, distkey="user_id", sortkey=("id", "user_id"))
    place.load(DATA)
    assert shape(place) == [("KEY(user_id)", "_loaded_at", 3)]


def test_json_is_kept_as_super_where_declared(redshift_place):
    place = with_redshift(redshift_place, super=("payload",))
    place.load(DATA)
    # Loaded again, so that the raw table's own type is read back too.
    place.load(DATA)
    found = place.query(
        f"SELECT id, payload.a.b::varchar FROM {place.table.schema}.nps ORDER BY id"
    )
    assert found == [(1, "좋아요"), (2, None)]


def test_a_declared_column_that_does_not_come_is_refused(redshift_place):
    with pytest.raises(DeclarationError, match="redshift names the column paylod"):
        with_redshift(redshift_place, super=("paylod",)).load(DATA)


# Keys that widen: a cluster does not drop the column of a key.

NARROW = pa.table(
    {
        "id": pa.array([1, 2], pa.int32()),
        "score": pa.array([9, None], pa.int16()),
        "updated_at": pa.array([20_000, 20_001], pa.date32()),
    }
)
WIDER = {
    "id": pa.array([3, 2**40], pa.int64()),
    "updated_at": pa.array([0, 1], pa.timestamp("us")),
}


def widened(column):
    return NARROW.set_column(NARROW.schema.get_field_index(column), column, WIDER[column])


@pytest.mark.parametrize("column", ["id", "updated_at"], ids=["distribution key", "sort key"])
def test_a_key_widens_and_stays_the_key(redshift_place, column):
    place = redshift_place
    place.load(NARROW, interval_of(1))
    before = shape(place)
    place.load(widened(column), interval_of(2))
    assert shape(place) == before == [("KEY(id)", "_loaded_at", 2)]
    assert columns_of(place) == [*NARROW.column_names, "_batch_id", "_loaded_at"]
    wider = widened(column)
    expected = pa.concat_tables([NARROW.cast(wider.schema), wider]).select(["id", "updated_at"])
    assert place.rows("id", "updated_at") == sorted(
        zip(*expected.to_pydict().values(), strict=True), key=repr
    )


def test_a_load_that_fails_after_a_key_widened_leaves_everything_as_it_was(
    redshift_place, monkeypatch
):
    place = redshift_place
    place.load(NARROW, interval_of(1))
    before, keys = place.everything(), shape(place)

    def fail(*_):
        raise CountMismatch("Some rows are gone.", fix="Find them.")

    with monkeypatch.context() as patch:
        patch.setattr(place.warehouse, "_insert", fail)
        with pytest.raises(CountMismatch):
            place.load(widened("id"), interval_of(2))
    assert (place.everything(), shape(place)) == (before, keys)
    place.load(widened("id"), interval_of(2))
    assert place.rows() == [(1,), (2**40,), (2,), (3,)]


def test_json_is_still_super_after_a_key_widened(redshift_place):
    place = with_redshift(redshift_place, super=("payload",))
    place.load(DATA.set_column(0, "id", pa.array([1, 2], pa.int32())), interval_of(1))
    place.load(DATA, interval_of(2))
    found = place.query(
        f"SELECT id, payload.a.b::varchar FROM {place.table.schema}.nps WHERE id = 1"
    )
    assert found == [(1, "좋아요")] * 2


# What is dropped with a raw table that is made anew, or with a column.


def views_on(place):
    """A view, one on that view, and a late-binding one, which is what dbt makes here."""
    schema = place.table.schema
    place.query(f"CREATE VIEW {schema}.bound AS SELECT id, score FROM {schema}.nps")
    place.query(f"CREATE VIEW {schema}.above AS SELECT id FROM {schema}.bound")
    # The stand-in keeps the types of the day, which a cluster looks up anew.
    place.query(
        f"CREATE VIEW {schema}.late AS SELECT CAST(id AS BIGINT) AS id, CAST(score AS INT) AS "
        f"score FROM {schema}.nps WITH NO SCHEMA BINDING"
    )
    return schema


def reload(place):
    place.reload(NARROW)


def widen_a_key(place):
    place.load(widened("id"), interval_of(2))


def widen_a_column(place):
    score = pa.array([8, 70_000], pa.int32())
    place.load(NARROW.set_column(1, "score", score), interval_of(2))


@pytest.mark.parametrize("change", [reload, widen_a_key, widen_a_column])
def test_views_that_a_change_drops_are_told_and_late_binding_ones_stay(
    redshift_place, caplog, change
):
    place = redshift_place
    place.load(NARROW, interval_of(1))
    schema = views_on(place)
    change(place)
    assert f"has dropped the views that read it ({schema}.bound), and those" in caplog.messages[-1]
    assert not place.relations() & {"bound", "above"}
    assert place.query(f"SELECT id FROM {schema}.late WHERE id = 1 AND score = 9") == [(1,)]


def test_views_that_a_change_leaves_are_not_told(redshift_place, caplog):
    place = redshift_place
    place.load(NARROW, interval_of(1))
    schema = place.table.schema
    place.query(f"CREATE VIEW {schema}.bound AS SELECT id FROM {schema}.nps")
    widen_a_column(place)
    assert not any("dropped" in message for message in caplog.messages)
    assert place.query(f"SELECT COUNT(*) FROM {schema}.bound") == [(4,)]


def test_a_reload_spreads_and_sorts_as_declared_now(redshift_place):
    redshift_place.load(DATA)
    place = with_redshift(redshift_place, distkey="user_id", sortkey=(), super=("payload",))
    place.reload(DATA)
    assert shape(place) == [("KEY(user_id)", "_loaded_at", 1)]
    found = place.query(f"SELECT payload.a.b::varchar FROM {place.table.schema}.nps WHERE id = 1")
    assert found == [("좋아요",)]


def test_the_columns_of_a_late_binding_view_are_told(redshift_place):
    redshift_place.load(NARROW)
    schema = views_on(redshift_place)
    found = redshift_place.warehouse.columns(schema, "late")
    assert found == {"id": "bigint", "score": "integer"}


def columns_of(place):
    rows = place.query(
        "SELECT column_name FROM information_schema.columns "
        f"WHERE table_schema = '{place.table.schema}' AND table_name = 'nps' "
        "ORDER BY ordinal_position"
    )
    return [name for (name,) in rows]


def interval_of(day):
    return Interval(DAY + timedelta(days=day - 1), DAY + timedelta(days=day))
