"""How a warehouse writes what SQL leaves open."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from millrace.catalog import IngestTable
from millrace.warehouses.expressions import quote


class Dialect(Protocol):
    """How a warehouse writes what SQL leaves open."""

    def quote(self, identifier: str) -> str:
        """An identifier in quotes."""

    def raw(self, table: IngestTable) -> str:
        """The raw table's quoted name."""

    def rows(self, table: IngestTable) -> str:
        """What follows FROM where all rows of the raw table are read."""

    def timestamp(self, *, has_zone: bool) -> str:
        """The type of a moment, or of a time without a zone."""

    def text(self, field: pa.Field) -> str | None:
        """An expression of a value's text, as ``checksums.columns`` has it; None: it has none."""

    def hexadecimal(self, field: pa.Field) -> str:
        """An expression of bytes as small hexadecimal digits."""

    def hashed(self, value: str) -> str:
        """An expression of the SHA-256 of a text or of bytes, in small hexadecimal digits."""

    def number(self, digits: str) -> str:
        """An expression of the whole number that hexadecimal digits write."""

    def divided(self, whole: str, by: int) -> str:
        """An expression of the quotient of two whole numbers that leave no remainder."""


class StandardNames:
    """The part of a ``Dialect`` that follows the standard."""

    def quote(self, identifier: str) -> str:
        """An identifier in double quotes."""
        return quote(identifier)

    def raw(self, table: IngestTable) -> str:
        """The raw table's quoted name."""
        return f"{quote(table.schema)}.{quote(table.identifier)}"

    def rows(self, table: IngestTable) -> str:
        """What follows FROM where all rows of the raw table are read."""
        return self.raw(table)

    def timestamp(self, *, has_zone: bool) -> str:
        """The type of a moment, or of a time without a zone."""
        return "TIMESTAMP WITH TIME ZONE" if has_zone else "TIMESTAMP"
