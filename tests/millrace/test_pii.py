import hashlib
import hmac

import pyarrow as pa
import pytest

from millrace.catalog import Pii
from millrace.errors import DeclarationError, SettingError
from millrace.pii import protect, protected_schema
from tests.millrace.tables import declared

ROWS = pa.record_batch({"id": [1, 2, 3], "email": ["a@b.c", None, "a@b.c"], "phone": [5, None, 7]})


def protected(table, salt="salt"):
    (batch,) = protect(iter([ROWS]), table, salt)
    return batch


def test_a_hash_is_keyed_joins_and_keeps_null():
    emails = protected(declared(pii={"email": Pii.HASH})).column("email").to_pylist()
    expected = hmac.new(b"salt", b"a@b.c", hashlib.sha256).hexdigest()
    assert emails == [expected, None, expected]


def test_another_salt_gives_another_hash():
    table = declared(pii={"email": Pii.HASH})
    assert protected(table, "a").column("email") != protected(table, "b").column("email")


def test_a_mask_hides_the_value_and_keeps_null():
    assert protected(declared(pii={"phone": Pii.MASK})).column("phone").to_pylist() == [
        "***",
        None,
        "***",
    ]


def test_the_schema_says_what_the_rows_are():
    table = declared(pii={"email": Pii.HASH, "phone": Pii.MASK})
    assert protected(table).schema == protected_schema(ROWS.schema, table)


def test_a_dropped_column_is_never_asked_for():
    assert declared(pii={"email": Pii.DROP, "phone": Pii.MASK}).left_out == {"email"}


def test_hashing_without_a_salt_is_refused():
    with pytest.raises(SettingError, match="MILLRACE_PII_SALT is not set"):
        protected(declared(pii={"email": Pii.HASH}), salt=None)


def test_a_policy_for_a_column_that_does_not_come_is_refused():
    with pytest.raises(DeclarationError, match=r"column emial has a pii policy"):
        protected_schema(ROWS.schema, declared(pii={"emial": Pii.HASH}))
