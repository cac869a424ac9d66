"""Shows an answer to a person."""

from __future__ import annotations

from collections.abc import Sequence

from millrace.provenance.why import LISTED_KEYS, Answer, BatchBehind, TableBehind
from millrace.terminal import print_plain, print_table

_LISTED_PARTS = 20


def show(answer: Answer) -> None:
    """Print what is behind a cell."""
    row = ", ".join(f"{name} {value}" for name, value in answer.row.items())
    shown = answer.shown
    print_plain(f"{shown.place} shows {answer.value}: {shown.column} of {answer.mart}, {row}")
    print_plain(shown.refreshed)
    print_plain("")
    for step in answer.steps:
        print_plain(f"{step.relation}: {', '.join(step.columns) or 'its rows'}")
        for made_by in step.made_by:
            print_plain(f"    {made_by}")
    for table in answer.tables:
        print_plain("")
        _show_table(table)
    if not answer.tables:
        print_plain("No table that Millrace loads is behind it.")


def _show_table(found: TableBehind) -> None:
    table, batches = found.table, found.batches
    rows = sum(batch.rows or 0 for batch in batches)
    if found.not_followed:
        reasons = "; ".join(found.not_followed)
        print_plain(
            f"{table.key}: which of its rows contributed is not known: {reasons}. "
            f"All of its batches ({len(batches):,}):"
        )
    else:
        print_plain(
            f"{table.key}: {rows:,} row{'' if rows == 1 else 's'} can have contributed, of "
            f"{len(batches):,} batch{'' if len(batches) == 1 else 'es'}:"
        )
    key = ", ".join(table.options.primary_key)
    print_table(
        ["BATCH", "ROWS", "OF", "LOADED", "VERIFIED", f"KEYS ({key or 'none declared'})"],
        [_line(batch) for batch in batches],
        numbers={"ROWS", "OF"},
    )
    parts = [part for batch in batches for part in batch.parts]
    if parts:
        print_table(
            ["PART", "ROWS", "SHA-256"],
            [(part.url, f"{part.rows:,}", part.sha256) for part in parts[:_LISTED_PARTS]],
            numbers={"ROWS"},
        )
    if len(parts) > _LISTED_PARTS:
        print_plain(f"and {len(parts) - _LISTED_PARTS:,} more parts")
    for batch in batches:
        if batch.problem:
            print_plain(f"Its parts are not known: {batch.problem}")


def _line(batch: BatchBehind) -> tuple[str, ...]:
    ledger = batch.ledger
    rows = "?" if batch.rows is None else f"{batch.rows:,}"
    if ledger is None:
        return batch.batch_id, rows, "", "", "", _keys(batch)
    loaded = f"{ledger.loaded_at:%Y-%m-%d %H:%M}"
    interval = "a correction" if ledger.is_correction else str(ledger.interval)
    return interval, rows, f"{ledger.rows:,}", loaded, ledger.verified or "no", _keys(batch)


def _keys(batch: BatchBehind) -> str:
    listed: Sequence[str] = [" ".join(key) for key in batch.keys]
    more = (batch.rows or 0) - LISTED_KEYS
    return ", ".join(listed) + (f" and {more:,} more" if more > 0 else "")
