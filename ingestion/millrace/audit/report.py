"""What a person sees of an audit."""

from __future__ import annotations

from millrace.audit.auditor import Audit
from millrace.terminal import out, print_done, print_failed, print_plain, print_table

_SHOWN_KEYS = 20
_MEANS = {
    "missing": "at the source, not in the raw table",
    "vanished": "in the raw table, no longer at the source",
    "changed": "other values in the raw table than at the source",
    "doubled": "more than once in the raw table",
}


def print_audit(audit: Audit, *, is_mended: bool = False) -> None:
    """Print what an audit has found: one line if nothing differs, else a table of what does."""
    said = f"{audit.table.key}: {audit.rows:,} rows"
    if audit.is_equal:
        print_done(f"{said} {'are now equal' if is_mended else 'are equal'} to the source's")
    else:
        count = audit.differences.count
        print_failed(f"{said}; differing: {count:,}; damaged batches: {len(audit.damaged):,}", out)
    if audit.not_compared and not is_mended:
        print_plain(f"  not compared: {', '.join(audit.not_compared)}")
    for damage in audit.damaged:
        print_plain(f"  batch {damage.batch_id}: {damage.why}")
    rows = [
        (kind, f"{len(keys):,}", "" if _is_personal(audit) else _shown(keys), _MEANS[kind])
        for kind, keys in audit.differences.by_kind.items()
        if keys
    ]
    if rows:
        print_table(["ROWS", "NUMBER", "KEYS", "MEANING"], rows, numbers={"NUMBER"})


def summary(audit: Audit) -> str:
    """The same for a log: a line for each kind of difference."""
    lines = [f"{audit.table.key}: {audit.rows:,} rows are equal to the source's"]
    if not audit.is_equal:
        lines = [f"{audit.table.key}: of {audit.rows:,} rows, {audit.differences.count:,} differ"]
    lines += [f"batch {damage.batch_id}: {damage.why}" for damage in audit.damaged]
    for kind, keys in audit.differences.by_kind.items():
        if keys:
            shown = "" if _is_personal(audit) else f": {_shown(keys)}"
            lines.append(f"{len(keys):,} rows are {kind} ({_MEANS[kind]}){shown}")
    return "\n".join(lines)


def _is_personal(audit: Audit) -> bool:
    return bool(set(audit.compared.key) & audit.table.pii.keys())


def _shown(keys: list[tuple[str, ...]]) -> str:
    keys = sorted(keys, key=lambda key: [(len(text), text) for text in key])
    shown = ", ".join("/".join(key) for key in keys[:_SHOWN_KEYS])
    return f"{shown}, …" if len(keys) > _SHOWN_KEYS else shown
