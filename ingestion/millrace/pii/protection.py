"""Personal data: hashed, masked or left out before anything is landed."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from millrace.catalog import IngestTable, Pii
from millrace.errors import DeclarationError, SettingError
from millrace.pii.hashing import Hasher

MASK = "***"
# What is hashed to tell one salt from another. No value of a column has this text.
_WHICH_SALT = b"Millrace: which salt is this?"
_ID_DIGITS = 16


def protected_schema(schema: pa.Schema, table: IngestTable) -> pa.Schema:
    """The schema after protection: a hashed or masked column is text.

    Raises:
        DeclarationError: a policy names a column that the source does not have.
    """
    for name in table.pii.keys() - table.left_out - set(schema.names):
        raise DeclarationError(
            f"{table.file}: source table {table.key}: column {name} has a pii policy, "
            "but the source has no such column.",
            fix=f"Its columns: {', '.join(schema.names)}.",
        )
    return pa.schema(
        [
            pa.field(field.name, pa.string()) if field.name in table.pii else field
            for field in schema
        ]
    )


def protect(
    batches: Iterable[pa.RecordBatch], table: IngestTable, salt: str | None
) -> Iterator[pa.RecordBatch]:
    """Hash and mask the declared columns.

    A hash is HMAC-SHA256 of the value's text under the salt, in hexadecimal: equal values stay
    equal, so it still joins. NULL stays NULL in either case.

    Raises:
        SettingError: a column is to be hashed, but there is no salt.
    """
    policies = _policies(table)
    if Pii.HASH in policies.values() and not salt:
        raise SettingError(
            f"{table.key} has columns to hash, but MILLRACE_PII_SALT is not set.",
            fix="Set MILLRACE_PII_SALT to a long random text, and keep it: "
            "with another salt the same e-mail gets another hash.",
        )
    hasher = Hasher((salt or "").encode())
    for batch in batches:
        for name, policy in policies.items():
            at = batch.schema.get_field_index(name)
            column = batch.column(at)
            if policy is Pii.HASH:
                texts = hasher.hexdigests(column.cast(pa.string()))
            else:
                texts = _masked(column)
            batch = batch.set_column(at, pa.field(name, pa.string()), texts)
        yield batch


def salt_id(table: IngestTable, salt: str | None) -> str | None:
    """Tells the salt of a table's hashed columns from others, as well hidden as by their hashes.

    Returns:
        16 hexadecimal digits; None: no column is hashed, or there is no salt.
    """
    if not salt or Pii.HASH not in _policies(table).values():
        return None
    return hmac.digest(salt.encode(), _WHICH_SALT, "sha256").hex()[:_ID_DIGITS]


def _policies(table: IngestTable) -> Mapping[str, Pii]:
    """What is done with the columns that are read."""
    return {name: policy for name, policy in table.pii.items() if name not in table.left_out}


def _masked(column: pa.Array) -> pa.StringArray:
    return pc.if_else(column.is_valid(), MASK, pa.scalar(None, pa.string()))
