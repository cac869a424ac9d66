"""What a load replaces, what the ledger keeps of it, and how often it is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tenacity import (
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from millrace.batch import Batch, Interval
from millrace.catalog import IngestTable
from millrace.errors import WarehouseBusy, WarehouseError
from millrace.manifest import Manifest
from millrace.warehouses.base import LedgerRow

Method = TypeVar("Method", bound=Callable[..., Any])

_TICK = timedelta(microseconds=1)
_RETRY_SECONDS = 600
_LISTED = 5
# Of what a load has changed; Redshift counts bytes, and a character has up to four.
_MOST_TOLD = 16_000


def tried_again(attempts: int) -> Callable[[Method], Method]:
    """A decorator that tries a load again where another one is in its way.

    A failed load leaves nothing behind, so it may be retried.

    Args:
        attempts: How often it is tried at most, within ten minutes.
    """
    return retry(
        retry=retry_if_exception_type(WarehouseBusy),
        stop=stop_after_attempt(attempts) | stop_after_delay(_RETRY_SECONDS),
        wait=wait_random_exponential(multiplier=1, max=30),
        reraise=True,
    )


def replaces(batch: Batch, row: LedgerRow) -> bool:
    """Whether a batch takes the place of one that was loaded earlier."""
    if batch.corrected_at is not None:
        return batch.id == row.batch_id
    return batch.interval.contains(row.interval)


def is_read_again(table: IngestTable, row: LedgerRow, interval: Interval) -> bool:
    """Whether a batch with a lookback has read the end of an earlier one again."""
    if not (table.options.cursor and table.options.cursor.lookback) or interval.start is None:
        return False
    begins_before = row.start is None or row.start < interval.start
    ends_inside = (
        row.end is not None
        and row.end > interval.start
        and (interval.end is None or row.end <= interval.end)
    )
    return begins_before and ends_inside


def new_row(
    table: IngestTable, manifest: Manifest, loaded_at: datetime, schema_changes: Sequence[str] = ()
) -> LedgerRow:
    """What the ledger keeps of a batch."""
    interval = manifest.batch.interval
    return LedgerRow(
        table=table.key,
        batch_id=manifest.batch.id,
        start=interval.start,
        end=interval.end,
        manifest_url=manifest.url,
        rows=manifest.rows,
        size=manifest.size,
        extracted_at=manifest.extracted_at,
        loaded_at=loaded_at,
        verified=manifest.verified,
        is_correction=manifest.batch.corrected_at is not None,
        quarantined=manifest.quarantined,
        schema_changes="\n".join(schema_changes)[:_MOST_TOLD] or None,
        salt_id=manifest.salt_id,
        files="".join(file.fingerprint for file in manifest.batch.files) or None,
    )


def refuse_taken(table: IngestTable, batch: Batch, earlier: Sequence[LedgerRow]) -> None:
    """Refuse files that another batch has loaded since this one was planned.

    Args:
        table: The table.
        batch: The batch that is to be loaded.
        earlier: The batches that are loaded; those that it replaces may have its files.

    Raises:
        WarehouseError: there are some.
    """
    if not batch.files:
        return
    kept = (row for row in earlier if not replaces(batch, row))
    taken = frozenset[str]().union(*(row.taken for row in kept))
    again = [file.name for file in batch.files if file.fingerprint in taken]
    if again:
        raise WarehouseError(
            f"{table.key}: {len(again):,} of the files of this batch have been loaded meanwhile by "
            f"another one: {', '.join(again[:_LISTED])}.",
            fix="Nothing is to be done: their rows are there. The next ingestion takes the others.",
        )


def stamp(earlier: Sequence[LedgerRow]) -> datetime:
    """When a load commits: now, and later than each earlier one."""
    # The lock lets one load in at a time, but the clock may still step back.
    return max([_now(), *(row.loaded_at + _TICK for row in earlier)])


def told_older(table: IngestTable, versions: int) -> str:
    """What is said of later versions that a correction has taken back."""
    return (
        f"{table.key}: rows are at their source as they were before, so {versions:,} later "
        f"versions are gone from {table.schema}.{table.identifier}. Incremental models keep them "
        f"until `dbt build --full-refresh --select source:{table.key}+`."
    )


def _now() -> datetime:
    return datetime.now(UTC)


def aware(value: Any) -> Any:
    """A time as the ledger is read: in UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
