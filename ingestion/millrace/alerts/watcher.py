"""Looks whether everything is as promised, and tells people what is not.

It runs outside of Airflow's DAGs, as ``millrace watch``: what never starts tells nobody. One
watcher runs for a project; a second one would tell everything twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from millrace.alerts.airflow_api import AirflowApi, Load, Run
from millrace.alerts.causes import sick, what_failed, why_late
from millrace.alerts.channel import Channel
from millrace.alerts.finding import Cause, Finding
from millrace.alerts.messages import Message, told, told_again_well, told_of_changes
from millrace.alerts.promises import Broken, Kept, look_at_publication, look_at_table, promised_of
from millrace.alerts.state import FAILED, Memory, State, Told
from millrace.catalog import IngestTable
from millrace.errors import AlertNotSent, MillraceError
from millrace.pipeline import Pipeline

log = logging.getLogger(__name__)

# How far back the first look at failed runs goes.
_FIRST_LOOK = timedelta(days=1)
# An API server that is started again is away for less.
_AWAY = timedelta(minutes=1)
_AIRFLOW = "airflow"
_DEAD, _LATE = "dead ", "late "


@dataclass(frozen=True)
class Sight:
    """What one look has found.

    Attributes:
        findings: What is not as it should be, by its key.
        stays: The keys of what stays told: it could not be looked at, or is as it was.
    """

    findings: dict[str, Finding] = field(default_factory=dict)
    stays: set[str] = field(default_factory=set)

    def add(self, finding: Finding) -> None:
        """Add something that was found."""
        self.findings[finding.key] = finding


@dataclass(frozen=True)
class _Promised:
    """A table or a publication of which something is promised.

    Attributes:
        name: What people call it.
        owner: Who answers for it; empty: nobody is declared.
        holds_up: What waits for it.
        why: Finds out why the promise is broken.
    """

    name: str
    owner: str
    holds_up: Sequence[str]
    why: Callable[[], Cause]

    @property
    def key(self) -> str:
        """Of what is found where the promise is broken."""
        return f"{_LATE}{self.name}"


@dataclass
class Watcher:
    """Looks, tells, and remembers what it told.

    Attributes:
        pipeline: The project.
        api: Airflow; None: only what the declarations promise is looked at.
        channel: Where messages go.
        prefix: Begins the ids of the project's DAGs, where an Airflow has several projects.
        transform: The id of the DAG that publishes, after the prefix.
    """

    pipeline: Pipeline
    api: AirflowApi | None
    channel: Channel
    prefix: str = ""
    transform: str = "transform"
    _kept_until: dict[str, datetime] = field(default_factory=dict, init=False, repr=False)
    _away_since: datetime | None = field(default=None, init=False, repr=False)

    def look(self, now: datetime) -> Sequence[Message]:
        """Look once, and tell what is new.

        Args:
            now: The time, in UTC.

        Returns:
            The messages that were sent.

        Raises:
            LandingError: what was told cannot be read or kept.
        """
        memory = Memory(self.pipeline.landing)
        state = memory.read()
        sight = Sight()
        self._look_at_tables(state, sight, now)
        self._look_at_publications(state, sight, now)
        loads = self._look_at_airflow(state, sight, now)
        messages = [*self._tell(state, sight, now), *self._tell_changes(state, loads)]
        memory.keep(state)
        return messages

    def _look_at_tables(self, state: State, sight: Sight, now: datetime) -> None:
        tables = [
            table
            for table in self.pipeline.catalog.tables
            if promised_of(table) and not self._is_known_to_be_kept(table.key, now)
        ]
        try:
            ledgers = self.pipeline.warehouse.ledgers(tables) if tables else {}
        except MillraceError as error:
            self._not_seen([table.key for table in tables], error, sight)
            return
        for table in tables:
            promised = _Promised(
                table.key,
                table.owner,
                self._waiting_for(table),
                partial(why_late, self.api, table.dag_id(self.prefix)),
            )
            found = look_at_table(table, ledgers[table.key], now)
            self._judge(promised, found, state, sight)

    def _look_at_publications(self, state: State, sight: Sight, now: datetime) -> None:
        for publication in self.pipeline.catalog.publications:
            name = publication.name
            if not publication.options.fresh_by or self._is_known_to_be_kept(name, now):
                continue
            try:
                published_at = self.pipeline.published_at(publication)
            except MillraceError as error:
                self._not_seen([name], error, sight)
                continue
            tables = [self.pipeline.catalog.table(table) for table in publication.tables]
            promised = _Promised(
                name,
                publication.owner,
                [f"the readers of {publication.options.where}"],
                partial(self._why_not_published, tables, state, sight),
            )
            found = look_at_publication(publication, tables, published_at, now)
            self._judge(promised, found, state, sight)

    def _judge(self, promised: _Promised, found: Kept | Broken, state: State, sight: Sight) -> None:
        if isinstance(found, Kept):
            self._kept_until[promised.name] = found.until
        elif state.is_told(promised.key):
            # Airflow need not be asked again why.
            sight.stays.add(promised.key)
        else:
            cause = promised.why()
            sight.add(
                Finding(
                    key=promised.key,
                    heading=f"{promised.name} is late: {cause.short}",
                    what=found.what,
                    cause=cause,
                    since=found.since,
                    owner=promised.owner,
                    holds_up=promised.holds_up,
                )
            )

    def _why_not_published(
        self, tables: Sequence[IngestTable], state: State, sight: Sight
    ) -> Cause:
        """Why a mart was not published: a table behind it is late, or the DAG that publishes."""
        for key in (f"{_LATE}{table.key}" for table in tables):
            late = sight.findings.get(key)
            if late:
                why, url = f"{late.heading}. {late.cause.why}", late.cause.url
                return Cause(why, late.cause.way_out, url, late.heading)
            if key in sight.stays and key in state.told:
                heading = state.told[key].heading
                return Cause(f"{heading}.", "A message told it, with the way out.", short=heading)
        return why_late(self.api, f"{self.prefix}{self.transform}")

    def _is_known_to_be_kept(self, name: str, now: datetime) -> bool:
        """Whether a promise needs no look yet: DuckDB lets one process in at a time."""
        until = self._kept_until.get(name)
        return until is not None and now < until

    def _not_seen(self, names: Sequence[str], error: MillraceError, sight: Sight) -> None:
        # A DuckDB that is being written to, for example: the next look will see.
        log.info("%s: %s", ", ".join(names), error.message)
        sight.stays.update(f"{_LATE}{name}" for name in names)

    def _look_at_airflow(self, state: State, sight: Sight, now: datetime) -> Sequence[Load]:
        """Look at Airflow; returns what was loaded since the last load that was told."""
        if self.api is None:
            return []
        try:
            self._look_at_components(self.api, sight)
            self._look_at_runs(self.api, state, sight, now)
            loads = self.api.loads(state.loads_told or now - _FIRST_LOOK)
        except MillraceError as error:
            sight.stays.update(key for key in state.told if key.startswith((_DEAD, FAILED)))
            self._airflow_is_away(error, sight, now)
            return []
        self._away_since = None
        return loads

    def _airflow_is_away(self, error: MillraceError, sight: Sight, now: datetime) -> None:
        self._away_since = self._away_since or now
        if now - self._away_since < _AWAY and error.may_pass:
            sight.stays.add(_AIRFLOW)
            return
        sight.add(
            Finding(
                key=_AIRFLOW,
                heading="Airflow's API cannot be asked",
                what="Nobody knows whether its DAGs run.",
                cause=Cause(error.message, error.fix),
                since=self._away_since,
                holds_up=["what tells of failed runs"],
            )
        )

    def _look_at_components(self, api: AirflowApi, sight: Sight) -> None:
        for name, cause in sick(api.health()).items():
            sight.add(
                Finding(
                    key=f"{_DEAD}{name}",
                    heading=cause.short,
                    what="A part of Airflow does not work.",
                    cause=cause,
                    since=None,
                    holds_up=["everything that Airflow runs"],
                )
            )

    def _look_at_runs(self, api: AirflowApi, state: State, sight: Sight, now: datetime) -> None:
        failed = {run.dag_id for run in api.failed_runs(state.looked or now - _FIRST_LOOK)}
        told_of = {key.removeprefix(FAILED) for key in state.told if key.startswith(FAILED)}
        for dag_id in sorted(failed | told_of):
            run = api.last_ended_run(dag_id)
            if run is None or run.state != "failed":
                continue
            key = f"{FAILED}{dag_id}"
            if state.is_told(key):
                # Its log need not be read again.
                sight.stays.add(key)
            else:
                sight.add(self._failed(api, run, key))
        # What ends while this is asked is asked for again.
        state.looked = now - _AWAY

    def _failed(self, api: AirflowApi, run: Run, key: str) -> Finding:
        tasks = api.tasks(run, "failed")
        cause = what_failed(api, run, tasks)
        table = self._table_of(run.dag_id)
        owners = self.pipeline.catalog.owners
        of_models = {owners.get(task.task_id.partition(".")[0], "") for task in tasks} - {""}
        owner = table.owner if table else ", ".join(sorted(of_models))
        return Finding(
            key=key,
            heading=f"{run.dag_id} failed: {cause.short}",
            what=f"The run {run.run_id} of {run.dag_id} failed.",
            cause=cause,
            since=run.ended_at,
            owner=owner or api.owners(run.dag_id),
            holds_up=self._waiting_for(table)
            if table
            else [task.task_id for task in api.tasks(run, "upstream_failed")],
        )

    def _table_of(self, dag_id: str) -> IngestTable | None:
        tables = self.pipeline.catalog.tables
        return next((table for table in tables if table.dag_id(self.prefix) == dag_id), None)

    def _waiting_for(self, table: IngestTable) -> list[str]:
        """The publications that a table goes into, and the models that read it."""
        catalog = self.pipeline.catalog
        publications = [found.name for found in catalog.publications if table.key in found.tables]
        return [*publications, *(model.name for model in catalog.readers.get(table.key, ()))]

    @property
    def _project(self) -> str:
        return f"{self.prefix}{self.pipeline.catalog.project}"

    def _tell(self, state: State, sight: Sight, now: datetime) -> Iterator[Message]:
        for key, finding in sight.findings.items():
            if state.is_told(key):
                continue
            message = told(self._project, finding)
            is_sent = self._send(message)
            state.told[key] = Told(heading=finding.heading, since=finding.since, is_sent=is_sent)
            if is_sent:
                yield message
        for key in sorted(state.told.keys() - sight.findings.keys() - sight.stays):
            known = state.told[key]
            message = told_again_well(self._project, known.heading, known.since, now)
            # Nobody is told that something is over of which nobody was told.
            if known.is_sent and not self._send(message):
                continue
            del state.told[key]
            if known.is_sent:
                yield message

    def _tell_changes(self, state: State, loads: Sequence[Load]) -> Iterator[Message]:
        """Tell what loads have changed in columns, oldest first; what is not sent comes again."""
        for load in loads:
            table = self._table_of(load.dag_id)
            if table is not None and load.schema_changes is not None:
                changes = load.schema_changes.splitlines()
                # That a column is gone is said by every load from then on.
                known = state.changes.get(table.key, ())
                new = [change for change in changes if change not in known]
                if new:
                    message = told_of_changes(
                        self._project, table, load, new, self._waiting_for(table)
                    )
                    if not self._send(message):
                        return
                    yield message
                state.changes[table.key] = changes
            state.loads_told = load.at

    def _send(self, message: Message) -> bool:
        try:
            self.channel.send(message)
        except AlertNotSent as error:
            log.error("%s", error)
            return False
        return True
