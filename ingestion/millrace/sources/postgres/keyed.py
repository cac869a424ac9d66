"""What the server itself computes of its rows by key, to be compared with what was loaded.

Each statement reads one piece of the table, so that none of them runs for long. The pieces are read
at different times: what differs is looked at again by its key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from millrace.batch import EVERY_KEY, KeyRange
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
from millrace.sources.pace import Pace
from millrace.sources.postgres.limits import Limits
from millrace.sources.postgres.pieces import Cutter, Pages, Whole, moved, pieces
from millrace.sources.postgres.relation import Relation, where_clause
from millrace.sources.postgres.session import Session
from millrace.sources.postgres.types import Column, literal, quote

# So that a statement takes a second or so, even where every column of a row is hashed.
_PAGES_A_PIECE = 4_096
_ROWS_A_RANGE = 500_000
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
        moment: The exported snapshot whose rows are read.
    """

    session: Session
    relation: Relation
    compared: Compared
    limits: Limits
    scope: Sequence[str] = ()
    moment: str | None = None

    @cached_property
    def pieces(self) -> tuple[KeyRange, ...]:
        """Ranges of the key with about half a million rows each, if it is a whole number."""
        if self.compared.whole_key is None or self.relation.rows <= _ROWS_A_RANGE:
            return (EVERY_KEY,)
        name = quote(self.compared.whole_key)
        bounds: list[tuple[str, ...] | None] = [None]
        self.limits.limit_statements(can_be_smaller=False)
        while True:
            behind = f" WHERE {name} > {bounds[-1][0]}" if bounds[-1] else ""
            found = self.session.rows(
                f"SELECT {name}::text FROM {self.relation.quoted}{behind} "
                f"ORDER BY {name} OFFSET {_ROWS_A_RANGE} LIMIT 1"
            )
            if not found:
                break
            bounds.append((str(found[0][0]),))
        return tuple(
            KeyRange(after, through)
            for after, through in zip(bounds, [*bounds[1:], None], strict=True)
        )

    def fingerprints(self) -> dict[int, Fingerprint]:
        """The fingerprints of the rows in scope, by bucket."""
        found: dict[int, Fingerprint] = {}
        asked = f"{self._bucket}, COUNT(*), SUM({self._digest})"
        for bucket, rows, total in self._rows(asked, self.scope, group="1"):
            seen = found.get(int(bucket), Fingerprint())
            found[int(bucket)] = seen + Fingerprint(int(rows), int(total))
        return found

    def keyed(self, buckets: Collection[int] | None) -> Iterator[KeyedDigest]:
        """The rows of some buckets, or of all; those out of scope, too."""
        inside = " AND ".join(f"({condition})" for condition in self.scope) or "true"
        texts = [_key_text(column) for column in self._key]
        chosen = []
        if buckets is not None:
            chosen = [f"{self._bucket} IN ({', '.join(map(str, buckets))})"]
        asked = f"{', '.join(texts)}, {self._digest}, {inside}"
        for *key, digest, is_in_scope in self._rows(asked, chosen):
            yield KeyedDigest(tuple(map(str, key)), int(digest), bool(is_in_scope))

    def blocks(self, piece: KeyRange) -> dict[int, int]:
        """The keys of a piece, which are whole numbers: the bits of each block."""
        column = self._key[0]
        name = quote(column.name)
        number = f"{name}::{'numeric' if pa.types.is_decimal(column.type) else 'bigint'}"
        remainder = f"mod({number}, {BLOCK})"
        asked = (
            f"div(({number} - {remainder})::numeric, {BLOCK}), "
            f"bit_or(1::bigint << ({remainder} + {BLOCK - 1})::int)"
        )
        bounds = [
            f"{name} {operator} {bound[0]}"
            for operator, bound in ((">", piece.after), ("<=", piece.through))
            if bound is not None
        ]
        self.limits.wait()
        self.limits.limit_statements(can_be_smaller=False)
        found = self.session.rows(
            f"SELECT {asked} FROM {self.relation.quoted}{where_clause(bounds)} GROUP BY 1"
        )
        return {int(block): int(bits) for block, bits in found}

    def chosen(self, keys: Sequence[Key]) -> Iterator[list[str]]:
        """The conditions that choose rows by their keys, for a thousand keys at a time."""
        for at in range(0, len(keys), _KEYS_A_STATEMENT):
            each = [self._is(key) for key in keys[at : at + _KEYS_A_STATEMENT]]
            yield [" OR ".join(each), *self.scope]

    def _is(self, key: Key) -> str:
        return " AND ".join(
            f"{quote(column.name)} = {_literal(column, text)}"
            for column, text in zip(self._key, key, strict=True)
        )

    def _rows(
        self, asked: str, conditions: Sequence[str], *, group: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        """Ask for all rows, piece by piece."""
        grouped = f" GROUP BY {group}" if group else ""
        is_cut = self.relation.has_pages and not self.relation.is_view

        def rows(inside: Sequence[str]) -> list[tuple[Any, ...]]:
            where = where_clause([*conditions, *inside])
            with self.session.snapshot(self.moment):
                found = self.session.rows(
                    f"SELECT {asked} FROM {self.relation.quoted}{where}{grouped}"
                )
                if not self.relation.is_stored_as_before(self.session):
                    raise moved(self.relation)
            return found

        cutter: Cutter = Pages(self.relation.pages) if is_cut else Whole()
        for found in pieces(cutter, self.limits, Pace(_PAGES_A_PIECE, self.limits), rows):
            yield from found

    @property
    def _key(self) -> list[Column]:
        return [self.relation.column(name) for name in self.compared.key]

    @property
    def _bucket(self) -> str:
        if self.compared.whole_key:
            return f"mod({quote(self.compared.whole_key)}::numeric, {BUCKETS})::int"
        texts = ", ".join(_key_text(column) for column in self._key)
        return _number(f"concat_ws('|', {texts})", BUCKET_DIGITS)

    @property
    def _digest(self) -> str:
        columns = map(self.relation.column, self.compared.schema.names)
        parts = ", ".join(f"COALESCE({_part(column)}, '')" for column in columns)
        return _number(f"concat_ws('|', {parts})", DIGEST_DIGITS)


def _key_text(column: Column) -> str:
    return f"encode({column.text}, 'hex')" if column.is_binary else str(column.text)


def _literal(column: Column, text: str) -> str:
    return literal(f"\\x{text}" if column.is_binary else text)


def _part(column: Column) -> str:
    """What a column takes part with in its row's digest."""
    if column.is_binary:
        return f"encode(sha256({column.text}), 'hex')"
    if pa.types.is_string(column.type):
        return f"encode(sha256(convert_to({column.text}, 'UTF8')), 'hex')"
    return str(column.text)


def _number(text: str, digits: int) -> str:
    hashed = f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"
    return f"('x' || left({hashed}, {digits}))::bit({4 * digits})::bigint"
