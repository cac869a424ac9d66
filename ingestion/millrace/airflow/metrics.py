"""What Millrace's tasks count, sent the way that Airflow sends its own metrics.

Which way that is, and whether anything is sent at all, Airflow's settings say: section ``metrics``.
The names are in docs/metrics.md.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf
from airflow.sdk.observability import stats

from millrace.catalog import IngestTable, Publication
from millrace.errors import MillraceError

if TYPE_CHECKING:
    from millrace.destinations.base import Published
    from millrace.manifest import Manifest
    from millrace.pipeline import Pipeline
    from millrace.warehouses.base import LedgerRow

log = logging.getLogger(__name__)

_SWITCHES = ("statsd_on", "statsd_datadog_enabled", "otel_on")


def is_on() -> bool:
    """Whether Airflow sends metrics."""
    return any(conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES)


def landed(pipeline: Pipeline, table: IngestTable, manifest: Manifest) -> None:
    """Count what was read from a source and landed."""
    if not is_on():
        return
    tags = _tags(pipeline, table=table.key)
    stats.incr("millrace.rows_landed", manifest.rows, tags=tags)
    stats.incr("millrace.bytes_landed", manifest.size, tags=tags)


def loaded(pipeline: Pipeline, table: IngestTable, row: LedgerRow) -> None:
    """Count what was loaded, and say up to when the table is there.

    Both times are moments, not ages: an age would stand still as soon as nothing is loaded.
    """
    if not is_on():
        return
    from millrace.alerts.promises import due_at

    tags = _tags(pipeline, table=table.key)
    stats.incr("millrace.rows_loaded", row.rows, tags=tags)
    stats.incr("millrace.rows_quarantined", row.quarantined or 0, tags=tags)
    try:
        # Of all loads: an old interval may have been loaded again.
        ledger = pipeline.warehouse.ledgers([table])[table.key]
    except MillraceError as error:
        # The load itself has ended well.
        log.warning("It is not told up to when %s is loaded: %s", table.key, error.message)
        return
    reaches = max(load.reaches for load in ledger if not load.is_correction)
    stats.gauge("millrace.loaded_until", reaches.timestamp(), tags=tags)
    if due := due_at(table, ledger):
        stats.gauge("millrace.due_at", due.timestamp(), tags=tags)


def published(pipeline: Pipeline, publication: Publication, table: Published) -> None:
    """Say that a mart was published, and how many rows it has."""
    if not is_on():
        return
    tags = _tags(pipeline, publication=publication.name)
    stats.gauge("millrace.published_rows", table.rows, tags=tags)
    stats.gauge("millrace.published_at", datetime.now(UTC).timestamp(), tags=tags)


def _tags(pipeline: Pipeline, **of: str) -> dict[str, Any]:
    names = {"project": pipeline.catalog.project, **of}
    return {key: stats.normalize_name_for_stats(name, False) for key, name in names.items()}
