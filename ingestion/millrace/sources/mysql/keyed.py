"""What the server itself computes of its rows by key, to be compared with what was loaded.

Each statement reads one piece of the key, so that none of them runs for long, whatever the size of
the table. The pieces are read at different times: what differs is looked at again by its key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from millrace.batch import KeyRange
from millrace.checksums.digests import (
    BLOCK,
    BUCKET_DIGITS,
    BUCKETS,
    DIGEST_DIGITS,
    Compared,
    Fingerprint,
    Key,
    KeyedDigest,
)
from millrace.sources.mysql.limits import Limits
from millrace.sources.mysql.pieces import Pieces
from millrace.sources.mysql.ranges import (
    Condition,
    Cutter,
    in_range,
    literal,
    split,
    where_clause,
)
from millrace.sources.mysql.relation import Relation
from millrace.sources.mysql.session import Session
from millrace.sources.mysql.types import Column, quote
from millrace.sources.pace import Pace

# So that a statement takes seconds, even where every column of a row is hashed.
_ROWS_A_PIECE = 500_000
_KEYS_A_STATEMENT = 1_000


@dataclass(frozen=True)
class KeyedTable:
    """The rows of a table, by key.

    Attributes:
        session: Each statement is a transaction of its own.
        relation: The table.
        compared: Which columns are compared.
        limits: What the table declares.
        scope: The conditions of the interval that is compared; none: the whole table.
    """

    session: Session
    relation: Relation
    compared: Compared
    limits: Limits
    scope: Sequence[Condition] = ()

    @cached_property
    def pieces(self) -> tuple[KeyRange, ...]:
        """Ranges of the primary key, none of which takes long to read."""
        rows = self.relation.estimated_rows(self.session)
        key = self.relation.key
        return split(self.session, self.relation.quoted, key, 1 + rows // _ROWS_A_PIECE)

    def fingerprints(self) -> dict[int, Fingerprint]:
        """The fingerprints of the rows in scope, by bucket."""
        found: dict[int, Fingerprint] = {}
        for piece in self.pieces:
            asked = f"{self._bucket}, COUNT(*), SUM({self._digest})"
            for bucket, rows, total in self._rows(asked, piece, self.scope, group="1"):
                seen = found.get(int(bucket), Fingerprint())
                found[int(bucket)] = seen + Fingerprint(int(rows), int(total))
        return found

    def keyed(self, buckets: Collection[int] | None) -> Iterator[KeyedDigest]:
        """The rows of some buckets, or of all; those out of scope, too."""
        inside = " AND ".join(f"({condition.sql})" for condition in self.scope) or "1"
        arguments = tuple(value for condition in self.scope for value in condition.arguments)
        texts = [self._key_text(column) for column in self._key]
        asked = Condition(f"{', '.join(texts)}, {self._digest}, {inside}", arguments)
        chosen = []
        if buckets is not None:
            chosen = [Condition(f"{self._bucket} IN ({', '.join(map(str, buckets))})")]
        for piece in self.pieces:
            for *key, digest, is_in_scope in self._rows(asked, piece, chosen):
                yield KeyedDigest(tuple(key), int(digest), is_in_scope == "1")

    def blocks(self, piece: KeyRange) -> dict[int, int]:
        """The keys of a piece, which are whole numbers: the bits of each block."""
        name = quote(self._key[0].name)
        remainder = f"MOD({name}, {BLOCK})"
        asked = f"({name} - {remainder}) DIV {BLOCK}, BIT_OR(1 << ({remainder} + {BLOCK - 1}))"
        found: dict[int, int] = {}
        for block, bits in self._rows(asked, piece, group="1"):
            # A piece that was asked for in parts may have been cut within a block.
            found[int(block)] = found.get(int(block), 0) | int(bits)
        return found

    def chosen(self, keys: Sequence[Key]) -> Iterator[list[Condition]]:
        """The conditions that choose rows by their keys, for a thousand keys at a time."""
        for at in range(0, len(keys), _KEYS_A_STATEMENT):
            some = keys[at : at + _KEYS_A_STATEMENT]
            each = [self._is(key) for key in some]
            sql = " OR ".join(f"({condition.sql})" for condition in each)
            arguments = tuple(value for condition in each for value in condition.arguments)
            yield [Condition(sql, arguments), *self.scope]

    def _is(self, key: Key) -> Condition:
        values = [literal(column, text) for column, text in zip(self._key, key, strict=True)]
        return Condition(
            " AND ".join(
                f"{quote(column.name)} = {value.sql}"
                for column, value in zip(self._key, values, strict=True)
            ),
            tuple(argument for value in values for argument in value.arguments),
        )

    def _rows(
        self,
        asked: str | Condition,
        piece: KeyRange,
        conditions: Sequence[Condition] = (),
        *,
        group: str = "",
    ) -> Iterator[tuple[str, ...]]:
        """Ask for a piece: at once, or in parts if that takes too long."""
        selected = Condition(asked) if isinstance(asked, str) else asked
        grouped = f" GROUP BY {group}" if group else ""

        def rows(inside: Sequence[Condition]) -> list[tuple[str | None, ...]]:
            where, arguments = where_clause([*conditions, *inside])
            return self.session.rows(
                f"SELECT {selected.sql} FROM {self.relation.quoted}{where}{grouped}",
                [*selected.arguments, *arguments],
            )

        key = self.relation.key
        inside = in_range(key, piece)
        cutter = Cutter(self.session, self.relation.quoted, key, piece, inside, _ROWS_A_PIECE)
        for found in Pieces(key, cutter, self.limits, self._pace).each(rows):
            for row in found:
                yield tuple(map(str, row))

    @cached_property
    def _pace(self) -> Pace:
        return Pace(_ROWS_A_PIECE, self.limits)

    @property
    def _key(self) -> list[Column]:
        return [self.relation.column(name) for name in self.compared.key]

    @property
    def _bucket(self) -> str:
        if self.compared.whole_key:
            return f"MOD({quote(self.compared.whole_key)}, {BUCKETS})"
        texts = ", ".join(self._key_text(column) for column in self._key)
        return _number(f"CONCAT_WS('|', {texts})", BUCKET_DIGITS)

    @property
    def _digest(self) -> str:
        columns = map(self.relation.column, self.compared.schema.names)
        parts = ", ".join(f"COALESCE({_part(column)}, '')" for column in columns)
        return _number(f"CONCAT_WS('|', {parts})", DIGEST_DIGITS)

    @staticmethod
    def _key_text(column: Column) -> str:
        return f"LOWER(HEX({column.text}))" if _is_binary(column) else str(column.text)


def _part(column: Column) -> str:
    """What a column takes part with in its row's digest."""
    is_text = pa.types.is_string(column.type) or _is_binary(column)
    return f"SHA2({column.text}, 256)" if is_text else str(column.text)


def _number(text: str, digits: int) -> str:
    return f"CAST(CONV(LEFT(SHA2({text}, 256), {digits}), 16, 10) AS UNSIGNED)"


def _is_binary(column: Column) -> bool:
    return bool(pa.types.is_binary(column.type))
