import datetime
import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.catalog import Pii
from millrace.errors import DeclarationError, SettingError
from millrace.pii import protect, protected_schema, watched
from millrace.pii.hashing import Hasher
from millrace.testing import declared

ROWS = pa.record_batch({"id": [1, 2, 3], "email": ["a@b.c", None, "a@b.c"], "phone": [5, None, 7]})


def protected(table, salt="salt", rows=ROWS):
    (batch,) = protect(iter([rows]), table, salt)
    return batch


def hexdigest(text, key=b"salt"):
    """The hash by Python's standard library; None stays None."""
    return None if text is None else hmac.digest(key, text.encode(), hashlib.sha256).hex()


def test_a_hash_is_keyed_joins_and_keeps_null():
    emails = protected(declared(pii={"email": Pii.HASH})).column("email").to_pylist()
    expected = hmac.new(b"salt", b"a@b.c", hashlib.sha256).hexdigest()
    assert emails == [expected, None, expected]


def test_another_salt_gives_another_hash():
    table = declared(pii={"email": Pii.HASH})
    assert protected(table, "a").column("email") != protected(table, "b").column("email")


# SHA-256 has blocks of 64 bytes: longer keys are hashed first, longer texts need more blocks.
@settings(deadline=None)
@given(
    texts=st.lists(st.none() | st.text(max_size=150)),
    key=st.binary(min_size=1, max_size=100),
    part=st.slices(20),
)
def test_hashes_are_those_of_the_standard_library_in_any_slice(texts, key, part):
    array = pa.array(texts, pa.string())[part.start or 0 : part.stop]
    hashes = Hasher(key).hexdigests(array)
    hashes.validate(full=True)
    assert hashes.to_pylist() == [hexdigest(text, key) for text in array.to_pylist()]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, -7], pa.int64()),
        pa.array([2**64 - 1, None], pa.uint64()),
        pa.array([True, None]),
        pa.array([0.1, None, 1e300]),
        pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
        pa.array([datetime.date(2026, 1, 2), None]),
        pa.array([datetime.datetime(2026, 1, 2, 3), None], pa.timestamp("us")),
        pa.array([datetime.datetime(2026, 1, 2, 3), None], pa.timestamp("us", "UTC")),
        pa.array(["é 🙂", "", None]),
        pa.array([b"bytes", None]),
        pa.array([None, None], pa.string()),
        pa.array([], pa.string()),
    ],
    ids=lambda values: str(values.type),
)
def test_a_value_of_any_type_is_hashed_as_its_text(values):
    table = declared(pii={"value": Pii.HASH})
    hashes = protected(table, rows=pa.record_batch({"value": values})).column("value")
    assert hashes.to_pylist() == [hexdigest(text) for text in values.cast(pa.string()).to_pylist()]


def test_threads_may_share_a_key():
    hasher = Hasher(b"salt")
    texts = [pa.array([f"{thread}-{number}" for number in range(5000)]) for thread in range(4)]
    with ThreadPoolExecutor(4) as pool:
        hashed = list(pool.map(hasher.hexdigests, texts))
    assert [hashes.to_pylist() for hashes in hashed] == [
        [hexdigest(text) for text in array.to_pylist()] for array in texts
    ]


def test_only_texts_are_hashed():
    with pytest.raises(TypeError, match="texts are hashed, not int64"):
        Hasher(b"salt").hexdigests(pa.array([1]))


def test_more_hashes_than_an_array_can_hold_are_refused():
    with pytest.raises(ValueError, match="33,554,432 hashes do not fit into an array"):
        Hasher(b"salt").hexdigests(pa.repeat("", 2**31 // 64))


def test_a_mask_hides_the_value_and_keeps_null():
    assert protected(declared(pii={"phone": Pii.MASK})).column("phone").to_pylist() == [
        "***",
        None,
        "***",
    ]


def test_what_is_no_text_is_masked_too():
    rows = pa.record_batch({"photo": [b"\xff\xd8", None]})
    photos = protected(declared(pii={"photo": Pii.MASK}), rows=rows).column("photo")
    assert photos.to_pylist() == ["***", None]


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


# Columns that look personal


def warned(caplog, batches, table=None):
    """What is said of the record batches, which are passed on as they are."""
    caplog.clear()
    assert list(watched(iter(batches), table or declared())) == list(batches)
    return [record.getMessage() for record in caplog.records]


def column(name, values=("x",)):
    return [pa.record_batch({name: pa.array(values)})]


@pytest.mark.parametrize(
    "name",
    [
        *("email", "E-Mail", "e_mail", "user_email", "emailAddress", "contact-mail", "phone"),
        *("mobile", "tel", "fax_number", "name", "first_name", "lastName", "full_name", "surname"),
        *("customer_name", "birth", "date_of_birth", "birthday", "address", "address_line_1"),
        *("ip", "ip_address", "remoteIp", "ssn", "iban", "passport_no", "zip", "postcode"),
    ],
)
def test_a_column_with_a_personal_name_is_told(caplog, name):
    (said,) = warned(caplog, column(name))
    assert f"mysql.nps: no `pii` is declared for columns that look personal: {name} (by" in said
    assert "`pii: none` if it is not personal" in said


@pytest.mark.parametrize(
    "name",
    [
        *("plan_name", "product_name", "filename", "channel", "score", "zipper", "shipped"),
        *("email_count", "is_email", "has_phone", "email_sent_at", "address_id", "phone_verified"),
        *("description", "recipe", "hotel", "mailbox", "_batch_id", "☃"),
    ],
)
def test_a_column_with_another_name_is_not(caplog, name):
    assert warned(caplog, column(name)) == []


def test_a_column_of_e_mail_addresses_is_told_whatever_its_name(caplog):
    (said,) = warned(caplog, column("login", ["ann@example.com", None, "bob@example.org"]))
    assert "login (its values are e-mail addresses)" in said


@pytest.mark.parametrize(
    "values",
    [
        ["write to ann@example.com", "or to bob@example.com"],
        ["ann@example.com", "x", "y"],
        ["a@b", "@", "a@@b.cc"],
        [None],
        [1, 2],
        [b"ann@example.com"],
    ],
    ids=str,
)
def test_a_column_of_other_values_is_not(caplog, values):
    assert warned(caplog, column("login", values)) == []


def test_the_first_record_batch_is_looked_at_and_no_other(caplog):
    first, later = column("login", ["x"]), column("login", ["ann@example.com"])
    assert warned(caplog, [*first, *later]) == []
    assert len(warned(caplog, [*later, *later])) == 1
    assert warned(caplog, []) == []


@pytest.mark.parametrize("policy", [Pii.HASH, Pii.MASK, Pii.DROP])
def test_a_column_with_a_policy_is_answered_for(caplog, policy):
    assert warned(caplog, column("email"), declared(pii={"email": policy})) == []


def test_a_column_that_is_declared_to_hold_nothing_personal_is_answered_for(caplog):
    table = replace(declared(), not_personal=frozenset({"email"}))
    assert warned(caplog, column("email"), table) == []
    assert protected_schema(ROWS.schema, table) == ROWS.schema
