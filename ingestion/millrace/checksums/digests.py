"""Digests of rows and buckets of keys, which a source and a warehouse compute in the same way.

A row's digest is the first 60 bits of the SHA-256 of its texts, which ``checksums.columns`` lists,
joined by bars. A text column takes part with its own SHA-256, so that no text holds a bar or is
longer than a warehouse can join; NULL takes part with nothing. A key's bucket is a whole number
modulo ``BUCKETS``, or else the first bits of the SHA-256 of its texts: SHA-256 is the one function
that MySQL, DuckDB, Redshift and BigQuery all have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa

BUCKETS = 65_536
DIGEST_DIGITS = 15
BUCKET_DIGITS = 4

# In one block, a key's place is a bit of a signed 64-bit number; zero's neighbours share a block.
BLOCK = 32

Key = tuple[str, ...]
"""The texts of a key's columns; bytes in hexadecimal."""


@dataclass(frozen=True)
class Compared:
    """What is compared of a table.

    Attributes:
        key: The columns that identify a row.
        schema: Every compared column, the key's among them, with the source's types.
    """

    key: tuple[str, ...]
    schema: pa.Schema

    @property
    def whole_key(self) -> str | None:
        """The key's only column, if it is a whole number."""
        return self.key[0] if len(self.key) == 1 and self._is_whole(self.key[0]) else None

    def only_key(self) -> Compared:
        """The same with the key alone."""
        return Compared(self.key, pa.schema([self.schema.field(name) for name in self.key]))

    def _is_whole(self, name: str) -> bool:
        type_ = self.schema.field(name).type
        is_whole = pa.types.is_decimal(type_) and type_.scale == 0
        return bool(is_whole or pa.types.is_integer(type_))


@dataclass(frozen=True)
class Fingerprint:
    """Of the rows in one bucket.

    Attributes:
        rows: How many there are.
        total: The sum of their digests.
    """

    rows: int = 0
    total: int = 0

    def __add__(self, other: Fingerprint) -> Fingerprint:
        return Fingerprint(self.rows + other.rows, self.total + other.total)


Fingerprints = Mapping[int, Fingerprint]
"""By bucket; a bucket without rows may be missing."""


@dataclass(frozen=True)
class KeyedDigest:
    """A row by its key.

    Attributes:
        key: The key.
        digest: The row's digest.
        is_in_scope: Whether the row's cursor lies in the compared interval.
    """

    key: Key
    digest: int
    is_in_scope: bool = True


def differing_buckets(one: Fingerprints, other: Fingerprints) -> list[int]:
    """The buckets whose rows are not the same."""
    nothing = Fingerprint()
    return sorted(
        bucket
        for bucket in one.keys() | other.keys()
        if one.get(bucket, nothing) != other.get(bucket, nothing)
    )


def in_block(key: int) -> tuple[int, int]:
    """A whole number's block, and its bit there."""
    remainder = abs(key) % BLOCK * (-1 if key < 0 else 1)
    return (key - remainder) // BLOCK, 1 << (remainder + BLOCK - 1)


def keys_of_block(block: int, bits: int) -> Iterator[Key]:
    """The keys whose bits are set, as texts."""
    for place in range(2 * BLOCK - 1):
        if bits >> place & 1:
            yield (str(block * BLOCK + place - BLOCK + 1),)


def of_rows(batch: pa.RecordBatch, compared: Compared) -> Iterator[KeyedDigest]:
    """The digests of rows that were read."""
    texts = {name: _texts(batch.column(name)) for name in compared.schema.names}
    keys = zip(*(map(_as_key, texts[name]) for name in compared.key), strict=True)
    parts = [_parts(texts[field.name], field.type) for field in compared.schema]
    for key, row in zip(keys, zip(*parts, strict=True), strict=True):
        yield KeyedDigest(key, _number("|".join(row), DIGEST_DIGITS))


def bucket_of(key: Key, compared: Compared) -> int:
    """The bucket that a key lies in."""
    if compared.whole_key:
        # As in SQL: the remainder has the number's sign.
        return abs(int(key[0])) % BUCKETS * (-1 if int(key[0]) < 0 else 1)
    return _number("|".join(key), BUCKET_DIGITS)


def _texts(array: pa.Array) -> list[Any]:
    """The texts of values; bytes are themselves."""
    type_ = array.type
    if pa.types.is_decimal(type_):
        # Arrow writes a decimal that is close to zero with an exponent.
        return [value if value is None else f"{value:f}" for value in array.to_pylist()]
    if pa.types.is_boolean(type_):
        array = array.cast(pa.int8())
    if pa.types.is_timestamp(type_):
        array = array.view(pa.timestamp("us"))
    if pa.types.is_binary(type_):
        return list(array.to_pylist())
    return list(array.cast(pa.string()).to_pylist())


def _as_key(text: str | bytes) -> str:
    return text.hex() if isinstance(text, bytes) else text


def _parts(texts: Sequence[Any], type_: pa.DataType) -> list[str]:
    if pa.types.is_binary(type_):
        return ["" if text is None else sha256(text).hexdigest() for text in texts]
    if pa.types.is_string(type_):
        return ["" if text is None else sha256(text.encode()).hexdigest() for text in texts]
    return ["" if text is None else text for text in texts]


def _number(text: str, digits: int) -> int:
    return int(sha256(text.encode()).hexdigest()[:digits], 16)
