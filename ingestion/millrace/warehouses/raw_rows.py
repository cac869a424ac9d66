"""The current rows of a raw table by key, to be compared with what their source has now."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from millrace.batch import Interval, KeyRange
from millrace.catalog import IngestTable, SoftDeletes
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
from millrace.deletes import DELETED_COLUMN
from millrace.warehouses.base import BATCH_COLUMN, LOADED_COLUMN
from millrace.warehouses.dialect import Dialect
from millrace.warehouses.expressions import cursor_bounds

_KEYS_A_STATEMENT = 1_000
_PLACE = "_millrace_place"


class Session(Protocol):
    """A connection that runs SQL; parameters are bound with ``?``."""

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement.

        Returns:
            Its rows; none for a statement that has no result.
        """

    def table(
        self, query: str, parameters: Sequence[Any], types: Mapping[str, pa.DataType]
    ) -> pa.Table:
        """The rows of a query, with these columns."""


@dataclass(frozen=True)
class RawRows:
    """The current version of each row that is loaded; see ``checksums.digests.KeyedRows``.

    Attributes:
        session: The connection.
        dialect: How the warehouse writes things.
        table: The declaration.
        types: The raw table's columns.
        compared: Which columns are compared.
        interval: The interval of the cursor that is compared.
    """

    session: Session
    dialect: Dialect
    table: IngestTable
    types: Mapping[str, pa.DataType]
    compared: Compared
    interval: Interval

    def fingerprints(self) -> dict[int, Fingerprint]:
        """The fingerprints of the rows in scope, by bucket."""
        rows = self._select(f"{self._bucket}, COUNT(*), SUM({self._digest})", group="1")
        return {int(bucket): Fingerprint(int(count), int(total)) for bucket, count, total in rows}

    def keyed(self, buckets: Collection[int] | None) -> Iterator[KeyedDigest]:
        """The rows in scope of some buckets, or of all."""
        asked = f"{', '.join(self._key_texts)}, {self._digest}"
        for *key, digest in self._select(asked, self._within(buckets)):
            yield KeyedDigest(tuple(key), int(digest))

    def blocks(self, piece: KeyRange) -> dict[int, int]:
        """The keys of a piece that are there, which are whole numbers: the bits of each block."""
        name = self.dialect.quote(self.compared.key[0])
        bounds = [(">", piece.after), ("<=", piece.through)]
        where = " AND ".join(f"{name} {sign} {int(key[0])}" for sign, key in bounds if key)
        remainder = f"MOD({name}, {BLOCK})"
        block = self.dialect.divided(f"({name} - {remainder})", BLOCK)
        bit = f"CAST(1 AS BIGINT) << CAST({remainder} + {BLOCK - 1} AS INTEGER)"
        loaded = self.dialect.rows(self.table)
        keys = f"SELECT {name} FROM {loaded} WHERE {where or '1 = 1'} GROUP BY {name}"
        if self._has_deleted:
            # A row that was loaded after its key had vanished is there again.
            present = f"MAX(CASE WHEN {DELETED_COLUMN} IS NULL THEN {LOADED_COLUMN} END)"
            deleted = f"MAX(CASE WHEN {DELETED_COLUMN} IS NOT NULL THEN {LOADED_COLUMN} END)"
            keys += f" HAVING {deleted} IS NULL OR {present} > {deleted}"
        rows = self.session.run(f"SELECT {block}, BIT_OR({bit}) FROM ({keys}) AS keys GROUP BY 1")
        return {int(block): int(bits) for block, bits in rows}

    def current(self, keys: Sequence[Key]) -> pa.Table:
        """The rows with these keys, without Millrace's own columns."""
        types = {name: type_ for name, type_ in self.types.items() if name != DELETED_COLUMN}
        names = ", ".join(map(self.dialect.quote, types))
        found = [pa.schema(types.items()).empty_table()]
        for at in range(0, len(keys), _KEYS_A_STATEMENT):
            some = keys[at : at + _KEYS_A_STATEMENT]
            each = " AND ".join(f"{text} = ?" for text in self._key_texts)
            where = " OR ".join([f"({each})"] * len(some))
            query = f"SELECT {names} FROM {self._current()} AS found WHERE {where}"
            arguments = [text for key in some for text in key]
            found.append(self.session.table(query, arguments, types))
        return pa.concat_tables(found)

    def doubled(self) -> list[tuple[str, Key]]:
        """The batches that have loaded a key more than once, each with one such key."""
        key = ", ".join(map(self.dialect.quote, self.compared.key))
        rows = self.session.run(
            f"SELECT {BATCH_COLUMN}, {', '.join(self._key_texts)} FROM ("
            f"SELECT {BATCH_COLUMN}, {key} FROM {self.dialect.rows(self.table)} "
            f"GROUP BY {BATCH_COLUMN}, {key} HAVING COUNT(*) > 1) AS doubled"
        )
        return [(batch, tuple(texts)) for batch, *texts in rows]

    def batch_rows(self) -> dict[str, int]:
        """How many rows each batch has in the raw table."""
        rows = self.session.run(
            f"SELECT {BATCH_COLUMN}, COUNT(*) FROM {self.dialect.rows(self.table)} "
            f"GROUP BY {BATCH_COLUMN}"
        )
        return {batch: int(count) for batch, count in rows}

    def _select(self, asked: str, where: str = "", group: str = "") -> list[tuple[Any, ...]]:
        scope, arguments = self._scope
        grouped = f" GROUP BY {group}" if group else ""
        return self.session.run(
            f"SELECT {asked} FROM {self._current(where)} AS found{scope}{grouped}", arguments
        )

    def _current(self, where: str = "") -> str:
        """The current version of each row; a whole table has only one."""
        if self.table.is_full_refresh:
            return f"(SELECT * FROM {self.dialect.rows(self.table)}{where})"
        key = ", ".join(map(self.dialect.quote, self.compared.key))
        order = f"{self.dialect.quote(str(self.table.cursor_column))} DESC, {LOADED_COLUMN} DESC"
        deleted = f" AND {DELETED_COLUMN} IS NULL" if self._has_deleted else ""
        return (
            f"(SELECT * FROM (SELECT versions.*, ROW_NUMBER() OVER (PARTITION BY {key} "
            f"ORDER BY {order}) AS {_PLACE} FROM {self.dialect.rows(self.table)} AS versions{where}"
            f") AS placed WHERE {_PLACE} = 1{deleted})"
        )

    @property
    def _scope(self) -> tuple[str, list[Any]]:
        bounds = cursor_bounds(self.dialect, self.table, self.types, self.interval)
        where = " AND ".join(condition for condition, _ in bounds)
        return (f" WHERE {where}" if where else ""), [value for _, value in bounds]

    @property
    def _has_deleted(self) -> bool:
        """Whether the mark says that a row has vanished; a soft delete is a row like any other."""
        is_soft = isinstance(self.table.options.deletes, SoftDeletes)
        return DELETED_COLUMN in self.types and not is_soft

    @property
    def _bucket(self) -> str:
        if self.compared.whole_key:
            return f"MOD({self.dialect.quote(self.compared.whole_key)}, {BUCKETS})"
        return self._number(" || '|' || ".join(self._key_texts), BUCKET_DIGITS)

    @property
    def _digest(self) -> str:
        parts = [f"COALESCE({self._part(field)}, '')" for field in self.compared.schema]
        return self._number(" || '|' || ".join(parts), DIGEST_DIGITS)

    @property
    def _key_texts(self) -> list[str]:
        return [
            self.dialect.hexadecimal(field)
            if pa.types.is_binary(field.type)
            else str(self.dialect.text(field))
            for field in map(self.compared.schema.field, self.compared.key)
        ]

    def _within(self, buckets: Collection[int] | None) -> str:
        if buckets is None:
            return ""
        return f" WHERE {self._bucket} IN ({', '.join(map(str, buckets))})"

    def _part(self, field: pa.Field) -> str:
        """What a column takes part with in its row's digest."""
        text = str(self.dialect.text(field))
        is_text = pa.types.is_string(field.type) or pa.types.is_binary(field.type)
        return self.dialect.hashed(text) if is_text else text

    def _number(self, text: str, digits: int) -> str:
        return self.dialect.number(f"LEFT({self.dialect.hashed(text)}, {digits})")
