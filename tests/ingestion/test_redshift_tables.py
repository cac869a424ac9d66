"""How a declaration shapes a raw table in Redshift."""

from dataclasses import replace

import pyarrow as pa
import pytest

from ingestion.catalog import RedshiftOptions
from ingestion.errors import DeclarationError
from tests.ingestion.tables import declared

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
    table = declared(redshift=RedshiftOptions(**options))
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
