"""Everything that a project needs, on one page: is it well, since when is it not, what to do.

Looks itself: at the connections, the landing and the warehouse, at Airflow, at the watcher, and at
what the declarations promise. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from millrace.alerts.airflow_api import AirflowApi
from millrace.alerts.causes import COMPONENTS, sick
from millrace.alerts.promises import Broken, look_at_publication, look_at_table, promised_of
from millrace.alerts.state import FAILED, Memory
from millrace.catalog import IngestTable, Publication
from millrace.checks import checks_of
from millrace.errors import ConnectionNotFound, MillraceError
from millrace.pipeline import Pipeline

_WATCHES_EVERY = timedelta(minutes=5)


class State(StrEnum):
    """How something is."""

    WELL = "well"
    ILL = "ill"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Line:
    """How one thing is.

    Attributes:
        what: Its name.
        state: How it is.
        said: What was reached, or what is wrong.
        way_out: What the reader can do.
        since: Since when it is ill, in UTC; None: it is well, or nobody knows.
    """

    what: str
    state: State
    said: str = ""
    way_out: str = ""
    since: datetime | None = None

    @classmethod
    def of_error(cls, what: str, error: MillraceError) -> Line:
        """Something that failed."""
        return cls(what, State.ILL, error.message, error.fix)

    def to_json(self) -> dict[str, Any]:
        """For a program: texts and None."""
        return asdict(self) | {"since": self.since and self.since.isoformat()}


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
    yield from _tables(pipeline, [t for t in pipeline.catalog.tables if promised_of(t)], now)
    for publication in pipeline.catalog.publications:
        if publication.options.fresh_by:
            yield _publication(pipeline, publication, now)


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


def _tables(pipeline: Pipeline, tables: Sequence[IngestTable], now: datetime) -> Iterator[Line]:
    try:
        ledgers = pipeline.warehouse.ledgers(tables) if tables else {}
    except MillraceError as error:
        for table in tables:
            yield Line(table.key, State.UNKNOWN, error.message, error.fix)
        return
    for table in tables:
        found = look_at_table(table, ledgers[table.key], now)
        if isinstance(found, Broken):
            dag_id = table.dag_id()
            way_out = f"See why in its DAG {dag_id}, or load it: millrace ingest {table.key}"
            yield Line(table.key, State.ILL, found.what, way_out, found.since)
        else:
            yield Line(table.key, State.WELL, "loaded as promised")


def _publication(pipeline: Pipeline, publication: Publication, now: datetime) -> Line:
    name = publication.name
    try:
        published_at = pipeline.published_at(publication)
    except MillraceError as error:
        return Line(name, State.UNKNOWN, error.message, error.fix)
    tables = [pipeline.catalog.table(key) for key in publication.tables]
    found = look_at_publication(publication, tables, published_at, now)
    if isinstance(found, Broken):
        return Line(name, State.ILL, found.what, f"millrace publish {name}", found.since)
    return Line(name, State.WELL, "published as promised")
