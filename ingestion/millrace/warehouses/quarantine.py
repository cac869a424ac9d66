"""The rows that were set aside: a table beside the raw table, with a record for each bad value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from millrace.bad_values import RECORDS
from millrace.errors import CountMismatch
from millrace.manifest import Manifest
from millrace.warehouses.base import BATCH_COLUMN, LOADED_COLUMN, Landed

if TYPE_CHECKING:
    from millrace.warehouses.raw_rows import Session

# A text has at most 1,000 characters.
_COLUMNS = (
    "row_key VARCHAR(4096)",
    "row_cursor TIMESTAMP",
    "column_name VARCHAR(512)",
    "reason VARCHAR(4096)",
    "value_text VARCHAR(4096)",
    f"{BATCH_COLUMN} VARCHAR(512) NOT NULL",
    f"{LOADED_COLUMN} TIMESTAMP NOT NULL",
)
# Redshift takes 32,767 parameters.
_RECORDS_A_STATEMENT = 500


def insert_records(
    session: Session, place: str, manifest: Manifest, loaded_at: datetime | None, landed: Landed
) -> None:
    """Insert what was set aside of a batch.

    Args:
        session: In the transaction of the load.
        place: The quoted name of the table; it is made if it is missing.
        manifest: What was landed.
        loaded_at: When the load commits, in UTC, without a zone.
        landed: Where the parts are.

    Raises:
        CountMismatch: not as many records arrived as the manifest promises.
        PartCorrupt: a part is missing, or is not what was landed.
    """
    session.run(f"CREATE TABLE IF NOT EXISTS {place} ({', '.join(_COLUMNS)})")
    for part in manifest.quarantine:
        with landed.local_copy(part) as path:
            records = pq.read_table(path, columns=RECORDS.names).to_pylist()
        if len(records) != part.rows:
            raise CountMismatch(
                f"{part.url} has {len(records):,} records; its manifest says {part.rows:,}.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            )
        rows = [[*record.values(), manifest.batch.id, loaded_at] for record in records]
        for start in range(0, len(rows), _RECORDS_A_STATEMENT):
            _insert(session, place, rows[start : start + _RECORDS_A_STATEMENT])


def trim(session: Session, place: str, batch_id: str, bound: str) -> int:
    """Delete a batch's rows from a moment of the cursor on.

    Returns:
        How many of its rows are left.
    """
    session.run(
        f"DELETE FROM {place} WHERE {BATCH_COLUMN} = ? AND row_cursor >= CAST(? AS TIMESTAMP)",
        [batch_id, bound],
    )
    ((left,),) = session.run(
        f"SELECT COUNT(DISTINCT row_key) FROM {place} WHERE {BATCH_COLUMN} = ?", [batch_id]
    )
    return int(left)


def _insert(session: Session, place: str, rows: Sequence[Sequence[Any]]) -> None:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    session.run(
        f"INSERT INTO {place} VALUES {', '.join([row] * len(rows))}",
        list(chain.from_iterable(rows)),
    )
