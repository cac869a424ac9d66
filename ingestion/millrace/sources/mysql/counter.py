"""What the server itself says of the rows that are read: how many, and the checksums of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from millrace.checksums.columns import Checksum
from millrace.sources.mysql.relation import Relation
from millrace.sources.mysql.session import Session
from millrace.sources.mysql.types import Column, quote


@dataclass(frozen=True)
class Counter:
    """Some rows of a table, as of the moment that the session sees.

    Attributes:
        session: In the transaction that reads the rows.
        relation: The table.
        where: Which rows: a WHERE clause, or nothing.
        arguments: Its parameters.
    """

    session: Session
    relation: Relation
    where: str
    arguments: Sequence[str]

    def rows(self) -> int:
        """How many there are."""
        [count] = self._ask(["COUNT(*)"])
        return int(str(count))

    def checksums(self, columns: Sequence[Column]) -> dict[str, Checksum]:
        """The number of values and the sum of their CRC-32, by column."""
        asked = []
        for column in columns:
            asked.append(f"COUNT({_present(column)})")
            asked.append("NULL" if column.text is None else f"SUM(CRC32({column.text}))")
        found = self._ask(asked)
        return {
            column.name: Checksum(
                int(str(values)), None if column.text is None else int(total or 0)
            )
            for column, values, total in zip(columns, found[::2], found[1::2], strict=True)
        }

    def _ask(self, expressions: Sequence[str]) -> tuple[str | None, ...]:
        [row] = self.session.rows(
            f"SELECT {', '.join(expressions)} FROM {self.relation.quoted}{self.where}",
            self.arguments,
        )
        return row


def _present(column: Column) -> str:
    """An expression that is NULL where NULL is landed; the column itself costs the least."""
    is_time = column.text is not None and pa.types.is_temporal(column.type)
    return str(column.text) if is_time else quote(column.name)
