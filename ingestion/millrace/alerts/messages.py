"""The texts that people get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from millrace.alerts.airflow_api import Load
from millrace.alerts.finding import Finding
from millrace.catalog import IngestTable

_LABEL_WIDTH = len("Holds up") + 2
_NAMES = 8


@dataclass(frozen=True)
class Message:
    """What is sent.

    Attributes:
        title: One line.
        body: Plain text, in lines.
        is_good_news: Whether something is well again.
    """

    title: str
    body: str
    is_good_news: bool = False


def told(project: str, finding: Finding) -> Message:
    """What is said of something that was found."""
    lines = [
        ("What", finding.what),
        ("Why", finding.cause.why),
        ("Since", f"{finding.since:%Y-%m-%d %H:%M} UTC" if finding.since else ""),
        ("Owner", finding.owner or "nobody is declared"),
        ("Holds up", _names(finding.holds_up)),
        ("Way out", finding.cause.way_out),
        ("See", finding.cause.url),
    ]
    return Message(f"[{project}] {finding.heading}", _laid_out(lines))


def told_of_changes(
    project: str,
    table: IngestTable,
    load: Load,
    changes: Sequence[str],
    read_by: Sequence[str],
) -> Message:
    """What is said of a load whose columns differed from the raw table's.

    Args:
        project: The project.
        table: The table.
        load: The load, which went well.
        changes: What is new of what it says.
        read_by: What reads the table.
    """
    way_out = (
        f"None is needed: the load went well. `millrace diff {table.key}` shows source, "
        "declaration, raw table and staging side by side; `schema: freeze` refuses changes."
    )
    lines = [
        ("What", "\n".join(changes)),
        ("Since", f"{load.at:%Y-%m-%d %H:%M} UTC"),
        ("Owner", table.owner or "nobody is declared"),
        ("Read by", _names(read_by)),
        ("Way out", way_out),
        ("See", load.url),
    ]
    return Message(f"[{project}] {table.key} has changed its columns", _laid_out(lines))


def told_again_well(project: str, heading: str, since: datetime | None, now: datetime) -> Message:
    """What is said of something that was told, and is well again."""
    lasted = f" It lasted {in_words(now - since)}." if since else ""
    return Message(
        f"[{project}] Well again: {heading}",
        f"This is over since {now:%Y-%m-%d %H:%M} UTC.{lasted}",
        is_good_news=True,
    )


def _labelled(label: str, text: str) -> str:
    first, *others = text.splitlines()
    rest = "".join(f"\n{'':{_LABEL_WIDTH}}{line}" for line in others)
    return f"{label:{_LABEL_WIDTH}}{first}{rest}"


def _laid_out(lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join(_labelled(label, text) for label, text in lines if text)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def in_words(span: timedelta) -> str:
    """A span of time for a person, to the minute."""
    minutes = max(round(span.total_seconds() / 60), 1)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
