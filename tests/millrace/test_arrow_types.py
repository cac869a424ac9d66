import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.arrow_types import common_type, from_name

TYPES = [
    pa.bool_(),
    *(pa.int16(), pa.int32(), pa.int64()),
    *(pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32()),
    *(pa.timestamp("us"), pa.timestamp("us", "UTC")),
    *(pa.decimal128(5, 2), pa.decimal128(38, 0), pa.decimal128(38, 38)),
]
types = st.sampled_from(TYPES)


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_a_type_is_found_by_its_name(type_):
    assert from_name(str(type_)) == type_


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no type is called"):
        from_name("int8")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int16(), pa.int64(), pa.int64()),
        (pa.decimal128(20, 0), pa.int64(), pa.decimal128(20, 0)),
        (pa.int64(), pa.decimal128(10, 2), pa.decimal128(21, 2)),
        (pa.decimal128(10, 2), pa.decimal128(12, 4), pa.decimal128(12, 4)),
        (pa.decimal128(10, 2), pa.decimal128(10, 4), pa.decimal128(12, 4)),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.int32(), pa.float64(), pa.float64()),
        (pa.date32(), pa.timestamp("us"), pa.timestamp("us")),
        # No loss is small enough to be accepted.
        (pa.int64(), pa.float64(), None),
        (pa.string(), pa.int32(), None),
        (pa.bool_(), pa.int16(), None),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.decimal128(38, 0), pa.decimal128(38, 38), None),
        (pa.decimal128(10, 2), pa.float64(), None),
    ],
    ids=str,
)
def test_the_common_type_is_the_narrowest_without_loss(one, other, expected):
    assert common_type(one, other) == expected


@given(types, types)
def test_the_common_type_is_the_same_from_either_side(one, other):
    assert common_type(one, other) == common_type(other, one)


@given(types, types)
def test_the_common_type_absorbs_both(one, other):
    both = common_type(one, other)
    if both is not None:
        assert common_type(both, one) == both
        assert common_type(both, other) == both
