"""Looks at the project for the page: not too often, once at a time, and never for too long."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millrace.errors import MillraceError
from millrace.status import Line, State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What a look has seen.

    Attributes:
        at: When, in UTC.
        project: The dbt project's name; empty: it could not be read.
        tables: A line for each table.
        publications: A line for each publication.
        problem: Why something of this is missing or old; None: nothing is.
    """

    at: datetime
    project: str = ""
    tables: tuple[Line, ...] = ()
    publications: tuple[Line, ...] = ()
    problem: Line | None = None


class Looking:
    """The newest look, for many readers.

    Args:
        look: Looks; it may take long, and runs in a thread of its own.
        patience: For how long a reader waits for it.
        keeps: For how long a look is new enough.
    """

    def __init__(
        self,
        look: Callable[[], Seen],
        *,
        patience: timedelta = timedelta(seconds=8),
        keeps: timedelta = timedelta(seconds=15),
    ) -> None:
        self._look = look
        self._patience = patience
        self._keeps = keeps
        self._lock = threading.Lock()
        self._running: Future[Seen] | None = None
        self._seen: Seen | None = None

    def newest(self) -> Seen:
        """What is seen now, or was seen last where that takes too long."""
        with self._lock:
            if self._seen and datetime.now(UTC) - self._seen.at < self._keeps:
                return self._seen
            if self._running is None:
                self._running = Future()
                # A daemon: a warehouse that never answers does not keep the server from stopping.
                threading.Thread(target=self._run, args=[self._running], daemon=True).start()
            running = self._running
        try:
            return running.result(self._patience.total_seconds())
        except TimeoutError:
            seconds = f"{self._patience.total_seconds():.0f} seconds"
            said = f"The warehouse or a spreadsheet has not answered within {seconds}."
            way_out = "Load this page again. If it stays, see: millrace check"
            problem = Line("looking", State.UNKNOWN, said, way_out)
            return replace(self._seen or Seen(datetime.now(UTC)), problem=problem)

    def _run(self, running: Future[Seen]) -> None:
        try:
            seen = self._look()
        except MillraceError as error:
            seen = Seen(datetime.now(UTC), problem=Line.of_error("project", error))
        except Exception:
            log.exception("The page Millrace cannot be made")
            said = "Looking at the project failed; the API server's log says why."
            seen = Seen(datetime.now(UTC), problem=Line("project", State.ILL, said))
        with self._lock:
            seen = _with_older(seen, self._seen)
            self._seen, self._running = seen, None
        running.set_result(seen)


def look_at_project() -> Seen:
    """Look at the project that the environment names, or that lies beside the DAGs.

    Raises:
        MillraceError: there is no such project, or its declarations cannot be read.
    """
    from airflow.configuration import conf

    from millrace.airflow.project import AirflowProject
    from millrace.dbt.project import Project
    from millrace.settings import DbtSettings
    from millrace.status import look_at_published, look_at_tables

    dags = Path(conf.get("core", "dags_folder"))
    folder = Project.find(dags, DbtSettings.read(os.environ)).folder
    project = AirflowProject(folder)
    pipeline = project.pipeline()
    now = datetime.now(UTC)
    tables = tuple(look_at_tables(pipeline, project.catalog.tables, now))
    unknown = [line for line in tables if line.state is State.UNKNOWN and line.facts is None]
    publications = tuple(
        look_at_published(pipeline, publication, now)
        for publication in project.catalog.publications
    )
    is_away = tables and len({line.said for line in unknown}) == 1 and len(unknown) == len(tables)
    problem = replace(unknown[0], what="warehouse") if is_away else None
    return Seen(now, project.catalog.project, tables, publications, problem)


def _with_older(seen: Seen, before: Seen | None) -> Seen:
    """While the warehouse is away or held by a task, what was known of the tables stays."""
    if before is None or seen.problem is None or not before.tables:
        return seen
    if not seen.project:
        return replace(before, problem=seen.problem)
    return replace(before, publications=seen.publications, problem=seen.problem)
