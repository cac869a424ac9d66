"""What a watcher tells of changed columns; all else that it tells is shown in tests/airflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from millrace.alerts.airflow_api import AirflowApi, Load
from millrace.alerts.messages import Message
from millrace.alerts.watcher import Watcher
from millrace.catalog import Catalog, IngestTable
from millrace.dbt.project import Project
from millrace.errors import AlertNotSent
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.sources.mysql.options import MySQLOptions

NOW = datetime(2026, 11, 27, 7, tzinfo=UTC)
NEW, GONE = "mysql.nps has the new column channel", "mysql.nps no longer has the column note"


@dataclass
class Airflow:
    """An Airflow in which all is well, with these loads."""

    had: list[Load] = field(default_factory=list)

    def health(self) -> Mapping[str, Any]:
        return {}

    def failed_runs(self, since: datetime) -> Sequence[Any]:
        return []

    def loads(self, since: datetime) -> Sequence[Load]:
        return [load for load in self.had if load.at > since]

    def load(self, *changes: str, dag_id: str = "ingest__mysql__nps") -> None:
        """A load, after which deletes are marked, which says nothing of columns."""
        for said in ("\n".join(changes), None):
            at = NOW - timedelta(hours=1) + timedelta(minutes=len(self.had))
            self.had.append(Load(dag_id, at, said, "https://airflow/run"))


@dataclass
class Channel:
    """Takes messages, unless it is down."""

    is_down: bool = False
    sent: list[str] = field(default_factory=list)

    def send(self, message: Message) -> None:
        if self.is_down:
            raise AlertNotSent("The mail server is down.", fix="Start it.")
        what, _, _ = message.body.partition("\nSince")
        self.sent.append(what.removeprefix("What").replace(" " * 10, "").strip())


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def watcher(tmp_path: Path, airflow: Airflow, channel: Channel) -> Watcher:
    settings = Settings.read({"LANDING_URL": (tmp_path / "landing").as_uri()})
    pipeline = Pipeline(Project(tmp_path, tmp_path), settings, cast(Any, None))
    options = MySQLOptions.model_validate(
        {"kind": "mysql", "connection": "c", "table": "prod.nps", "primary_key": "id"}
    )
    table = IngestTable("mysql", "nps", "raw_mysql", "nps", options)
    pipeline.__dict__["catalog"] = Catalog((table,), project="shop")
    return Watcher(pipeline, cast(AirflowApi, airflow), channel)


def test_a_change_of_columns_is_told_once(
    watcher: Watcher, airflow: Airflow, channel: Channel
) -> None:
    airflow.load()
    airflow.load(NEW, GONE)
    airflow.load("of somebody else's DAG", dag_id="theirs")
    watcher.look(NOW)
    watcher.look(NOW)
    # Every load from now on says that the column is gone.
    airflow.load(GONE)
    watcher.look(NOW)
    Watcher(watcher.pipeline, watcher.api, watcher.channel).look(NOW)
    assert channel.sent == [f"{NEW}\n{GONE}"]
    # It comes back, and goes once more.
    airflow.load()
    airflow.load(GONE)
    watcher.look(NOW)
    assert channel.sent == [f"{NEW}\n{GONE}", GONE]


def test_a_change_of_columns_that_could_not_be_sent_is_sent_later(
    watcher: Watcher, airflow: Airflow, channel: Channel
) -> None:
    airflow.load(NEW)
    airflow.load(GONE)
    channel.is_down = True
    assert watcher.look(NOW) == []
    channel.is_down = False
    assert len(watcher.look(NOW)) == 2
    assert channel.sent == [NEW, GONE]
