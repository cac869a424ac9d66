"""Everything that a project needs, on one page: is it well, since when is it not, what to do.

Looks itself: at the connections, the landing and the warehouse, at Airflow, at the watcher, and at
what the declarations promise. It changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from millrace.alerts.airflow_api import AirflowApi
from millrace.alerts.causes import COMPONENTS, sick
from millrace.alerts.promises import (
    Broken,
    due_at,
    look_at_publication,
    look_at_table,
    promised_of,
)
from millrace.alerts.state import FAILED, Memory
from millrace.catalog import IngestTable, Publication
from millrace.checks import checks_of
from millrace.errors import ConnectionNotFound, MillraceError
from millrace.pipeline import Pipeline
from millrace.warehouses.base import LedgerRow

_WATCHES_EVERY = timedelta(minutes=5)
_DAYS = 30
_CHANGES = 5


class State(StrEnum):
    """How something is."""

    WELL = "well"
    ILL = "ill"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class TableFacts:
    """What the ledger tells of a table; all times are in UTC.

    Attributes:
        dag_id: The DAG that loads it.
        batches: How many batches are loaded.
        start: Start of the last one's interval; None: from the beginning, or a whole table.
        end: End of it; None: a whole table.
        rows: The rows of the last one.
        quarantined: Of its rows, how many were set aside; None: it does not say.
        verified: How it was compared with the source: ``values``, ``counts``, or None.
        loaded_at: When it was loaded.
        reaches: Up to when the table is loaded.
        due_at: By when it has to be loaded again; None: nothing is promised.
        changes: When its columns changed last and how, the newest first.
        rows_by_day: The rows loaded on each of the last 30 days, the oldest first.
    """

    dag_id: str
    batches: int
    start: datetime | None
    end: datetime | None
    rows: int
    quarantined: int | None
    verified: str | None
    loaded_at: datetime
    reaches: datetime
    due_at: datetime | None
    changes: tuple[tuple[datetime, str], ...]
    rows_by_day: tuple[tuple[date, int], ...]

    @classmethod
    def of(
        cls, table: IngestTable, ledger: Sequence[LedgerRow], now: datetime
    ) -> TableFacts | None:
        """The facts; None: the table was never loaded.

        Args:
            table: The table.
            ledger: Its ledger, oldest load first.
            now: The time, in UTC.
        """
        loads = [row for row in ledger if not row.is_correction]
        if not loads:
            return None
        last = loads[-1]
        rows: Counter[date] = Counter()
        for row in ledger:
            rows[row.loaded_at.date()] += row.rows
        days = [now.date() - timedelta(days=ago) for ago in reversed(range(_DAYS))]
        changes = [(row.loaded_at, row.schema_changes) for row in loads if row.schema_changes]
        return cls(
            dag_id=table.dag_id(),
            batches=len(loads),
            start=last.start,
            end=last.end,
            rows=last.rows,
            quarantined=last.quarantined,
            verified=last.verified,
            loaded_at=last.loaded_at,
            reaches=max(row.reaches for row in loads),
            due_at=due_at(table, ledger),
            changes=tuple(reversed(changes[-_CHANGES:])),
            rows_by_day=tuple((day, rows[day]) for day in days),
        )


@dataclass(frozen=True)
class PublicationFacts:
    """What is known of a publication.

    Attributes:
        mart: The model that is published.
        published_at: When, in UTC, to the minute; None: never.
        fresh_by: The time of day by which it is to be fresh; empty: nothing is promised.
        link: Where people open it.
    """

    mart: str
    published_at: datetime | None
    fresh_by: str
    link: str


@dataclass(frozen=True)
class Line:
    """How one thing is.

    Attributes:
        what: Its name.
        state: How it is.
        said: What was reached, or what is wrong.
        way_out: What the reader can do.
        since: Since when it is ill, in UTC; None: it is well, or nobody knows.
        facts: What is known of a table or a publication; None: nothing, or it is neither.
    """

    what: str
    state: State
    said: str = ""
    way_out: str = ""
    since: datetime | None = None
    facts: TableFacts | PublicationFacts | None = None

    @classmethod
    def of_error(cls, what: str, error: MillraceError) -> Line:
        """Something that failed."""
        return cls(what, State.ILL, error.message, error.fix)

    def to_json(self) -> dict[str, Any]:
        """For a program: times as ISO 8601 writes them."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def look(pipeline: Pipeline, now: datetime) -> Iterator[Line]:
    """Look at everything.

    Args:
        pipeline: The project.
        now: The time, in UTC.

    Yields:
        A line for each service, then one for each promise and each DAG that failed.
    """
    for what, check in checks_of(pipeline).items():
        try:
            yield Line(what, State.WELL, check())
        except MillraceError as error:
            yield Line.of_error(what, error)
    yield from _airflow(pipeline)
    yield from _watcher(pipeline, now)
    yield from look_at_tables(pipeline, [*filter(promised_of, pipeline.catalog.tables)], now)
    for publication in pipeline.catalog.publications:
        if publication.options.fresh_by:
            yield look_at_published(pipeline, publication, now)


def _airflow(pipeline: Pipeline) -> Iterator[Line]:
    conn_id = pipeline.settings.airflow_api_connection
    try:
        connection = pipeline.connection(conn_id)
    except ConnectionNotFound:
        yield Line(
            "Airflow",
            State.UNKNOWN,
            f"No connection '{conn_id}' says where it is.",
            f"Set AIRFLOW_CONN_{conn_id.upper()}, as for `millrace watch`: "
            '{"conn_type": "http", "host": "https://airflow.example.com", "login": "monitor", '
            '"password": "…"}',
        )
        return
    try:
        health = AirflowApi(connection).health()
    except MillraceError as error:
        yield Line.of_error("Airflow", error)
    else:
        yield from _components(health)


def _components(health: Mapping[str, Mapping[str, Any]]) -> Iterator[Line]:
    ill = sick(health)
    for name, called in COMPONENTS.items():
        if name not in health:
            continue
        seen = health[name].get(f"latest_{name}_heartbeat")
        since = datetime.fromisoformat(seen) if seen else None
        what = f"Airflow's {called}"
        if name in ill:
            yield Line(what, State.ILL, ill[name].why, ill[name].way_out, since)
        else:
            yield Line(what, State.WELL, f"seen {since:%H:%M:%S} UTC" if since else "")


def _watcher(pipeline: Pipeline, now: datetime) -> Iterator[Line]:
    """The watcher, and the failed runs that it knows of."""
    what, start = "watcher", "Start it: millrace watch"
    try:
        state = Memory(pipeline.landing).read()
    except MillraceError as error:
        yield Line(what, State.UNKNOWN, f"It keeps its notes at the landing. {error.message}")
        return
    if state.looked is None:
        yield Line(what, State.UNKNOWN, "It has never looked at Airflow.", start)
    elif now - state.looked > _WATCHES_EVERY:
        said = "It does not look any more: nobody is told of what is late or fails."
        yield Line(what, State.ILL, said, start, state.looked)
    else:
        yield Line(what, State.WELL, f"looked {state.looked:%H:%M:%S} UTC")
    for key, told in state.told.items():
        if key.startswith(FAILED):
            way_out = "Put right what it says, and clear the failed task with what comes after it."
            yield Line(key.removeprefix(FAILED), State.ILL, f"{told.heading}.", way_out, told.since)


def look_at_tables(
    pipeline: Pipeline, tables: Sequence[IngestTable], now: datetime
) -> Iterator[Line]:
    """Look at what the ledger says of tables.

    Args:
        pipeline: The project.
        tables: Those to look at; of some of them nothing may be promised.
        now: The time, in UTC.

    Yields:
        A line for each, with its facts. All are unknown if the warehouse does not answer.
    """
    try:
        ledgers = pipeline.warehouse.ledgers(tables) if tables else {}
    except MillraceError as error:
        for table in tables:
            yield Line(table.key, State.UNKNOWN, error.message, error.fix)
        return
    for table in tables:
        ledger = ledgers[table.key]
        facts = TableFacts.of(table, ledger, now)
        load = f"millrace ingest {table.key}"
        if not promised_of(table):
            if facts:
                yield Line(table.key, State.WELL, "loaded; nothing is promised", facts=facts)
            else:
                said = f"{table.key} was never loaded; nothing is promised."
                yield Line(table.key, State.UNKNOWN, said, load)
            continue
        found = look_at_table(table, ledger, now)
        if isinstance(found, Broken):
            way_out = f"See why in its DAG {table.dag_id()}, or load it: {load}"
            yield Line(table.key, State.ILL, found.what, way_out, found.since, facts)
        else:
            yield Line(table.key, State.WELL, "loaded as promised", facts=facts)


def look_at_published(pipeline: Pipeline, publication: Publication, now: datetime) -> Line:
    """Look at what the place of a publication says of it.

    Args:
        pipeline: The project.
        publication: The publication; nothing may be promised of it.
        now: The time, in UTC.
    """
    name, fresh_by = publication.name, publication.options.fresh_by
    publish = f"millrace publish {name}"
    try:
        published_at = pipeline.published_at(publication)
        link = pipeline.destination(publication).link(publication)
    except MillraceError as error:
        return Line(name, State.UNKNOWN, error.message, error.fix)
    facts = PublicationFacts(publication.mart, published_at, str(fresh_by or ""), link)
    if fresh_by is None:
        if published_at is None:
            said = f"{name} was never published; nothing is promised."
            return Line(name, State.UNKNOWN, said, publish, facts=facts)
        return Line(name, State.WELL, "published; nothing is promised", facts=facts)
    tables = [pipeline.catalog.table(key) for key in publication.tables]
    found = look_at_publication(publication, tables, published_at, now)
    if isinstance(found, Broken):
        return Line(name, State.ILL, found.what, publish, found.since, facts)
    return Line(name, State.WELL, "published as promised", facts=facts)


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
