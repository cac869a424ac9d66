"""Checksums of columns, which do not depend on the order of the rows.

A column's checksum is the number of its values, and the sum of a checksum of each value's text. The
text of a value is the same everywhere: so what a source computes in its own SQL, what is computed
here of the rows that were read, and what a warehouse computes of those that were loaded can be
compared.

| type | text |
|---|---|
| whole numbers, booleans | decimal digits; 0 and 1 |
| decimals | decimal digits, with as many after the point as the type says |
| texts, bytes | themselves, texts in UTF-8 |
| dates | ``2026-11-26`` |
| times | ``2026-11-26 09:30:00.000000``, in UTC |
| floating point | none: every system writes them in its own way; only the values are counted |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from millrace.checksums.totals import crc32_total

Total = Callable[[pa.Array, int], int]
"""Sums up a checksum of texts; see ``millrace.checksums.totals``."""


@dataclass(frozen=True)
class Checksum:
    """Of one column.

    Attributes:
        values: How many values are not NULL.
        total: The sum of the checksums of their texts; None: they have no text that is the same
            everywhere.
    """

    values: int
    total: int | None = None

    def differs(self, other: Checksum) -> bool:
        """Whether it is of other values, as far as both know."""
        is_known = self.total is not None and other.total is not None
        return self.values != other.values or (is_known and self.total != other.total)


Checksums = Mapping[str, Checksum]
"""By the column's name."""


class Tally:
    """Sums up the checksums of the record batches that pass.

    Args:
        schema: Of the record batches.
        names: The columns; default: all.
        total: Which checksum; default: CRC-32.
    """

    def __init__(
        self, schema: pa.Schema, names: Iterable[str] | None = None, total: Total = crc32_total
    ) -> None:
        self._total = total
        self._sums = {
            name: Checksum(0, 0 if _has_text(schema.field(name).type) else None)
            for name in (schema.names if names is None else names)
        }

    @property
    def checksums(self) -> dict[str, Checksum]:
        """What they have come to so far."""
        return dict(self._sums)

    def passing(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Hand record batches on, and sum them up."""
        for batch in batches:
            self.add(batch)
            yield batch

    def add(self, batch: pa.RecordBatch) -> None:
        """Sum up a record batch."""
        for name, so_far in self._sums.items():
            array = batch.column(name)
            values = so_far.values + len(array) - array.null_count
            total = None if so_far.total is None else so_far.total + _of(array, self._total)
            self._sums[name] = Checksum(values, total)

    def add_text(self, name: str, text: bytes) -> None:
        """Sum up one value of a column, by its text."""
        so_far = self._sums[name]
        total = so_far.total
        if total is not None:
            total += self._total(pa.array([text], pa.binary()), 0)
        self._sums[name] = Checksum(so_far.values + 1, total)


def together(parts: Sequence[Checksums]) -> dict[str, Checksum]:
    """The checksums of all rows, from those of parts of them with the same columns."""
    return {name: _sum([part[name] for part in parts]) for name in parts[0]}


def differing(expected: Checksums, found: Checksums) -> list[str]:
    """The columns that both have, with other values."""
    return [name for name, of in expected.items() if name in found and of.differs(found[name])]


def _sum(parts: Sequence[Checksum]) -> Checksum:
    totals = [part.total for part in parts if part.total is not None]
    return Checksum(
        sum(part.values for part in parts), sum(totals) if len(totals) == len(parts) else None
    )


def _has_text(type_: pa.DataType) -> bool:
    return not pa.types.is_floating(type_)


def _of(array: pa.Array, total: Total) -> int:
    type_ = array.type
    if pa.types.is_string(type_) or pa.types.is_binary(type_):
        return total(array, 0)
    if pa.types.is_decimal(type_):
        # As whole numbers: Arrow writes a decimal that is close to zero with an exponent.
        whole = pa.Array.from_buffers(
            pa.decimal128(38, 0), len(array), array.buffers(), array.null_count, array.offset
        )
        return total(whole.cast(pa.string()), type_.scale)
    if pa.types.is_boolean(type_):
        array = array.cast(pa.int8())
    if pa.types.is_timestamp(type_):
        # Without the zone, which is UTC.
        array = array.view(pa.timestamp("us"))
    return total(array.cast(pa.string()), 0)
