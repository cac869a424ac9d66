"""Other pipelines and programs beside Millrace: the example DAGs, metrics, lineage.

One Airflow for all of them. It runs a small project with the names of the example's, and copies of
the example DAGs, which differ only in how often they look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from moto.server import ThreadedMotoServer

from millrace_sandbox.airflow import Airflow
from millrace_sandbox.airflow_api import AirflowClient, AssetEvent, DagRun, TaskInstance
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from sheets_standin import GoogleSheetsServer, TabSpec
from tests.e2e.small_project import write_project
from tests.sinks import UdpSink, udp_sink

pytestmark = [pytest.mark.airflow, pytest.mark.service]

ROOT = Path(__file__).parents[2]
TIMEOUT = 120
DAY = timedelta(days=1)
DATABASE = "beside"
SHEET = "nps-summary"
BUCKET, REGION = "partner-deliveries", "eu-central-1"
OUR_KEY, EXTERNAL_ID = "OURKEY", "known-to-both"
ROLE = "arn:aws:iam::123456789012:role/for-us"
INGEST = "ingest__mysql__nps"

FILES = {
    "dbt_project.yml": "{name: millrace, version: '1.0.0', profile: millrace}",
    "models/_nps.yml": """
sources:
  - name: mysql
    schema: analytics_raw_mysql
    config:
      meta:
        ingest: {kind: mysql, connection: mysql_prod, schedule: "@daily", primary_key: [id]}
    tables:
      - name: nps
        config: {meta: {ingest: {table: nps, cursor: updated_at, expected_by: "07:00"}}}
      - name: gone
        config: {meta: {ingest: {table: gone}}}
models:
  - name: nps_summary
    columns:
      - name: responses
        data_tests: [not_null]
exposures:
  - name: nps_summary_sheet
    type: dashboard
    owner: {name: Data team}
    depends_on: [ref('nps_summary')]
    config:
      meta:
        publish:
          kind: google_sheet
          connection: google_sheets
          spreadsheet: nps-summary
          tab: summary
          order_by: [responses]
""",
    "models/stg_nps.sql": "select * from {{ source('mysql', 'nps') }}",
    "models/int_nps.sql": """
{{ config(materialized='ephemeral') }} select * from {{ ref('stg_nps') }}
""",
    "models/nps_summary.sql": """
{{ config(materialized='table') }} select count(*) as responses from {{ ref('int_nps') }}
""",
}


@dataclass
class Partner:
    """Somebody else's AWS account, at moto's: its role lets us in if we name the external id.

    moto itself lets everybody assume any role; what AWS looks at is looked at here.

    Attributes:
        url: Its address.
        external_ids: Those that were named, in order.
        keys: The access keys that have asked for objects.
    """

    url: str = ""
    external_ids: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def guard(self, app: Any) -> Any:
        """Moto's application, behind the role's trust policy."""

        def guarded(environ: dict[str, Any], start_response: Any) -> Any:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
            asked = parse_qs(body.decode("utf-8", "replace"))
            signed = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
            if asked.get("Action") == ["AssumeRole"]:
                self.external_ids += asked.get("ExternalId", [""])
                if self.external_ids[-1] != EXTERNAL_ID or asked["RoleArn"] != [ROLE]:
                    start_response("403 Forbidden", [("Content-Type", "text/xml")])
                    return [_DENIED]
            elif environ["PATH_INFO"].startswith(f"/{BUCKET}/") and signed:
                self.keys.add(signed[1])
            return app(environ, start_response)

        return guarded

    def deliver(self, key: str) -> None:
        """Put a file into the bucket."""
        self.client().put_object(Bucket=BUCKET, Key=key, Body=b"month,target\n")

    def client(self) -> Any:
        """The partner's own access."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="PARTNER",
            aws_secret_access_key="testing",
        )

    def connection(self, external_id: str) -> str:
        """As Airflow keeps it."""
        extra = {
            "region_name": REGION,
            "role_arn": ROLE,
            "assume_role_kwargs": {"ExternalId": external_id},
            # The hook never takes the connection's own endpoint to assume a role.
            "service_config": {name: {"endpoint_url": self.url} for name in ("s3", "sts")},
        }
        login = {"login": OUR_KEY, "password": "testing"}
        return json.dumps({"conn_type": "aws", "extra": extra} | login)


_DENIED = b"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
<Type>Sender</Type><Code>AccessDenied</Code>
<Message>User is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"""


@contextmanager
def partner_account() -> Iterator[Partner]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    partner = Partner(f"http://{host}:{port}")
    assert server._server is not None
    server._server.app = partner.guard(server._server.app)
    try:
        partner.client().create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield partner
    finally:
        server.stop()


@dataclass(frozen=True)
class Others:
    """The Airflow, and what it told others.

    Attributes:
        client: Its API.
        partner: Whose file is waited for.
        metrics: What it sent as StatsD.
        events: Where OpenLineage's events are, a file each.
        mysql: The source.
        today: The midnight at which the first interval ended.
    """

    client: AirflowClient
    partner: Partner
    metrics: UdpSink
    events: Path
    mysql: MySQLServer
    today: datetime

    def run(self, dag_id: str, is_wanted: Callable[[DagRun], bool] = lambda run: True) -> DagRun:
        """A run of a DAG that has ended well."""
        return self.client.wait_for_run(dag_id, is_wanted, TIMEOUT)

    def task(self, run: DagRun, task_id: str) -> TaskInstance:
        """A task of a run."""
        found = self.client.task_instances(run.dag_id, run.run_id)
        return next(task for task in found if task.task_id == task_id)

    def events_of(self, asset: str) -> list[AssetEvent]:
        """The updates of an asset, oldest first."""
        return [event for event in self.client.asset_events() if event.name == asset]

    def is_waiting(self, dag_id: str, task_id: str) -> bool:
        """Whether a task waits in the triggerer."""
        found = self.client.task_instances(dag_id)
        return [task.state for task in found if task.task_id == task_id] == ["deferred"]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Others]:
    root = tmp_path_factory.mktemp("beside")
    events = root / "events"
    for folder in ("warehouse", "events"):
        (root / folder).mkdir()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with (
        GoogleSheetsServer(root / "google_sheets") as sheets,
        partner_account() as partner,
        udp_sink() as metrics,
        _responses(mariadb.server, today),
    ):
        sheets.admin().create(
            "NPS summary",
            [TabSpec("summary")],
            share={sheets.service_account_key()["client_email"]: "writer"},
            spreadsheet_id=SHEET,
        )
        project = write_project(root / "project", FILES)
        dags = project.folder.parent / "dags"
        _switch_examples_on(dags)
        paths = SandboxPaths(root / "sandbox")
        paths.create()
        environment = {
            "AIRFLOW_CONN_MYSQL_PROD": mariadb.server.reader_uri(DATABASE),
            "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(sheets.airflow_connection()),
            "AIRFLOW_CONN_PARTNER_S3": partner.connection(EXTERNAL_ID),
            "AIRFLOW_CONN_PARTNER_S3_WRONG": partner.connection("somebody-else's"),
            "DUCKDB_PATH": str(root / "warehouse" / "w.duckdb"),
            "LANDING_URL": (root / "landing").as_uri(),
            "TARGET": "dev",
            **_metrics(metrics),
            **_lineage(events),
        }
        airflow = Airflow(paths, dags, environment, port=0)
        try:
            airflow.start()
            client = airflow.client()
            client.ensure_pool("warehouse", slots=1)
            client.wait_for_dags({INGEST, "transform", *EXAMPLES.values()})
            yield Others(client, partner, metrics, events, mariadb.server, today)
        finally:
            airflow.stop()


EXAMPLES = {
    file.stem: f"example__{file.stem}" for file in sorted((ROOT / "dags" / "examples").glob("*.py"))
}


def _switch_examples_on(dags: Path) -> None:
    """Copy them out of their folder, as the documentation says; only their patience is a test's."""
    for name in EXAMPLES:
        text = (ROOT / "dags" / "examples" / f"{name}.py").read_text()
        (dags / f"{name}.py").write_text(re.sub(r"poke_interval=\d+", "poke_interval=1", text))
    waiting = (dags / "when_a_file_arrives.py").read_text()
    wrong = waiting.replace("partner_s3", "partner_s3_wrong").replace("arrives", "arrives_wrong")
    (dags / "when_a_file_arrives_wrong.py").write_text(wrong)


@contextmanager
def _responses(server: MySQLServer, today: datetime) -> Iterator[None]:
    """A table with three rows of yesterday, and one that is declared and was dropped."""
    with closing(server.connect_as_admin(autocommit=True)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE {DATABASE}")
        try:
            cursor.execute(f"GRANT SELECT ON {DATABASE}.* TO {server.reader}")
            cursor.execute(
                f"CREATE TABLE {DATABASE}.nps "
                "(id INT PRIMARY KEY, updated_at DATETIME NOT NULL, KEY (updated_at))"
            )
            for key in range(3):
                written = today - timedelta(hours=key + 1)
                cursor.execute(f"INSERT INTO {DATABASE}.nps VALUES ({key}, '{written:%F %T}')")
            yield
        finally:
            cursor.execute(f"DROP DATABASE {DATABASE}")


def _metrics(sink: UdpSink) -> dict[str, str]:
    """The settings of docs/metrics.md."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    (allowed,) = re.findall(r"\| `AIRFLOW__METRICS__METRICS_ALLOW_LIST` \| `(.+?)` \|", page)
    return {
        "AIRFLOW__METRICS__METRICS_ALLOW_LIST": allowed,
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(sink.port),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "AIRFLOW__METRICS__LEGACY_NAMES_ON": "False",
    }


def _lineage(events: Path) -> dict[str, str]:
    """The settings of docs/lineage.md."""
    transport = {"type": "file", "log_file_path": str(events / "event"), "append": False}
    return {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "airflow",
    }


@pytest.fixture(scope="module")
def loaded(others: Others) -> DagRun:
    """The run that has loaded yesterday, which started all that waits for it."""
    client = others.client
    for dag_id in ("transform", "example__after_a_mart", "example__only_with_news"):
        client.unpause(dag_id)
    client.unpause("example__after_an_interval")
    assert poll(
        lambda: others.is_waiting("example__after_an_interval", "wait_for_the_load"), TIMEOUT, 0.2
    )
    client.unpause(INGEST)
    return others.run(INGEST)


@pytest.fixture(scope="module")
def published(others: Others, loaded: DagRun) -> DagRun:
    """The run of dbt that has read it and published; what is loaded later needs none."""
    run = others.run("transform")
    others.client.pause("transform")
    return run


def test_a_dag_that_waits_for_an_interval_goes_on_when_it_is_loaded(
    others: Others, loaded: DagRun
) -> None:
    run = others.run("example__after_an_interval")
    assert (run.interval_start, run.interval_end) == (others.today - DAY, others.today)
    assert run.logical_date == loaded.logical_date
    waited = others.task(run, "wait_for_the_load").ended_at
    assert waited
    assert loaded.ended_at
    assert waited > loaded.ended_at - timedelta(seconds=1)


def test_a_dag_starts_when_a_mart_is_built_and_tested(others: Others, loaded: DagRun) -> None:
    run = others.run("example__after_a_mart")
    assert run.run_type == "asset_triggered"
    built, *_ = others.events_of("millrace.marts.nps_summary")
    assert (built.source_dag_id, built.source_task_id) == ("transform", "nps_summary.test")
    assert run.started_at
    assert run.started_at > built.at
    said = "\n".join(others.client.log_tail(others.task(run, "use_the_mart")))
    assert f"Returned value was: ['{built.source_run_id}']" in said


def test_a_published_sheet_tells_that_too(others: Others, published: DagRun) -> None:
    event, *_ = others.events_of("millrace.published.nps_summary_sheet")
    assert event.source_task_id == "publish__nps_summary_sheet"
    assert event.source_run_id == published.run_id


def test_a_dag_skips_what_follows_where_a_load_has_brought_nothing(
    others: Others, loaded: DagRun
) -> None:
    first = others.run("example__only_with_news")
    assert others.task(first, "use_the_news").state == "success"
    quiet = (others.today - 3 * DAY, others.today - 2 * DAY)
    run = others.client.trigger(INGEST, run_id="quiet_day", interval=quiet)
    others.run(INGEST, lambda found: found.run_id == run.run_id)
    second = others.run("example__only_with_news", lambda found: found.run_id != first.run_id)
    assert others.task(second, "use_the_news").state == "skipped"


def test_a_dag_has_a_table_loaded_for_its_own_interval_and_goes_on_after_it(
    others: Others, loaded: DagRun
) -> None:
    others.client.unpause("example__before_an_ingestion")
    run = others.run("example__before_an_ingestion")
    assert (run.interval_start, run.interval_end) == (others.today - DAY, others.today)
    (triggered,) = [
        found
        for found in others.client.runs(INGEST)
        if found.logical_date == others.today + timedelta(seconds=1)
    ]
    assert (triggered.interval_start, triggered.interval_end) == (others.today - DAY, others.today)
    went_on = others.task(run, "go_on").started_at
    assert went_on
    assert triggered.ended_at
    assert went_on > triggered.ended_at


def test_a_dag_waits_for_a_file_of_somebody_else_by_their_role_and_external_id(
    others: Others,
) -> None:
    partner = others.partner
    others.client.unpause("example__when_a_file_arrives")
    waits = ("example__when_a_file_arrives", "wait_for_the_file")
    # Once it has asked in the task, and again in the triggerer.
    assert poll(lambda: others.is_waiting(*waits), TIMEOUT, 0.2)
    assert poll(lambda: partner.external_ids.count(EXTERNAL_ID) >= 2, TIMEOUT, 0.2)
    others.partner.deliver(f"targets/{others.today - DAY:%Y-%m-%d}.csv")
    others.run("example__when_a_file_arrives")
    # The partner itself has put the file there. We never came with our own key.
    assert OUR_KEY not in partner.keys
    assert {key[:4] for key in partner.keys - {"PARTNER"}} == {"ASIA"}


def test_a_wrong_external_id_fails_at_once_and_says_so(others: Others) -> None:
    dag_id = "example__when_a_file_arrives_wrong"
    others.client.wait_for_dags({dag_id})
    others.client.unpause(dag_id)
    assert poll(
        lambda: [run.state for run in others.client.runs(dag_id)] == ["failed"], TIMEOUT, 0.2
    )
    (run,) = others.client.runs(dag_id)
    log = "\n".join(others.client.log_tail(others.task(run, "wait_for_the_file")))
    assert "AccessDenied" in log
    assert "sts:AssumeRole" in log


# Metrics.


@dataclass(frozen=True)
class Metric:
    """What StatsD is sent: one line.

    Attributes:
        name: Its name, with Airflow's prefix.
        tags: Its tags.
        value: Its value.
        kind: ``c``, ``g`` or ``ms``.
    """

    name: str
    tags: Mapping[str, str]
    value: float
    kind: str

    @classmethod
    def parse(cls, line: str) -> Metric:
        """Read a line with tags in InfluxDB's way."""
        what, _, measured = line.rpartition(":")
        name, *tags = what.split(",")
        value, kind = measured.split("|")[:2]
        return cls(name, dict(tag.split("=", 1) for tag in tags), float(value), kind)


@pytest.fixture(scope="module")
def failed(others: Others) -> None:
    """A run of an ingest DAG has failed: its table is not there."""
    others.client.unpause("ingest__mysql__gone")
    assert poll(
        lambda: [run.state for run in others.client.runs("ingest__mysql__gone")] == ["failed"],
        TIMEOUT,
        0.2,
    )


def metrics_until(others: Others, names: Iterable[str]) -> list[Metric]:
    """All metrics that came until each of these names was among them."""

    def missing() -> set[str]:
        return set(names) - {Metric.parse(line).name for line in list(others.metrics.lines)}

    assert poll(lambda: not missing(), 60, 0.5), missing()
    return [Metric.parse(line) for line in list(others.metrics.lines)]


def documented(page: str) -> set[str]:
    """The metrics in the tables of docs/metrics.md."""
    return set(re.findall(r"^\| `(airflow\.[\w.]+)` \|", page, re.MULTILINE))


def asked_for(dashboard: Any) -> set[str]:
    """The metrics that the dashboard's queries name, as Prometheus knows them."""
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    assert queries
    return {name for query in queries for name in re.findall(r"\bairflow_\w+", query)}


def in_prometheus(metric: Metric) -> set[str]:
    """What statsd_exporter makes of a metric without a mapping."""
    name = re.sub(r"\W", "_", metric.name)
    return {name, f"{name}_sum", f"{name}_count"} if metric.kind == "ms" else {name}


def test_each_metric_that_is_documented_is_sent(
    others: Others, published: DagRun, failed: None
) -> None:
    names = documented((ROOT / "docs" / "metrics.md").read_text())
    assert len(names) > 10
    seen = metrics_until(others, names)
    ours = {metric.name for metric in seen if metric.name.startswith("airflow.millrace.")}
    assert ours <= names, "one that is sent is not documented"


def test_the_metrics_of_a_table_say_what_was_loaded_and_up_to_when(
    others: Others, published: DagRun
) -> None:
    seen = metrics_until(others, ["airflow.millrace.due_at", "airflow.millrace.published_at"])
    of_table = {"project": "millrace", "table": "mysql.nps"}
    values = {
        metric.name.removeprefix("airflow.millrace."): metric
        for metric in reversed(seen)
        if metric.name.startswith("airflow.millrace.")
    }
    assert values["rows_landed"].value == values["rows_loaded"].value == 3
    assert values["rows_quarantined"].value == 0
    assert values["bytes_landed"].value > 0
    assert values["loaded_until"].value == others.today.timestamp()
    # Expected by seven: what was loaded is what is due today.
    assert values["due_at"].value == (others.today + DAY + timedelta(hours=7)).timestamp()
    assert values["published_rows"].value == 1
    assert values["due_at"].tags == values["rows_loaded"].tags == of_table
    assert values["published_at"].tags == {
        "project": "millrace",
        "publication": "nps_summary_sheet",
    }


def test_the_dashboard_asks_only_for_metrics_that_are_sent(
    others: Others, published: DagRun, failed: None
) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "millrace.json").read_text())
    asked = asked_for(dashboard)

    def unknown() -> set[str]:
        seen = [Metric.parse(line) for line in list(others.metrics.lines)]
        return asked - {name for metric in seen for name in in_prometheus(metric)}

    assert poll(lambda: not unknown(), 60, 0.5), unknown()


# Lineage.

Dataset = tuple[str, str]


def lines_of(events: Iterable[Mapping[str, Any]]) -> set[tuple[Dataset, Dataset]]:
    """Which dataset goes into which, in any one event."""
    return {
        ((read["namespace"], read["name"]), (written["namespace"], written["name"]))
        for event in events
        for read in event.get("inputs", ())
        for written in event.get("outputs", ())
    }


def path(lines: set[tuple[Dataset, Dataset]], start: Dataset, end: Dataset) -> list[Dataset]:
    """The datasets on a way from one to another; none where there is no way."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == end:
            return way
        for read, written in sorted(lines):
            if read == way[-1] and written not in seen:
                seen.add(written)
                ways.append([*way, written])
    return []


def test_lineage_goes_from_the_mysql_table_to_the_sheet(others: Others, published: DagRun) -> None:
    table = (f"mysql://{others.mysql.host}:{others.mysql.port}", f"{DATABASE}.nps")
    sheet = ("google_sheets", f"{SHEET}.summary")

    def told() -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in others.events.glob("event-*")]

    assert poll(lambda: bool(path(lines_of(told()), table, sheet)), 60, 0.5), told()
    way = path(lines_of(told()), table, sheet)
    assert [name.rpartition("/")[2] for _, name in way] == [
        "beside.nps",
        # The folder of the landing.
        "nps",
        "w.analytics_raw_mysql.nps",
        "w.analytics.stg_nps",
        # An ephemeral model is no table.
        "w.analytics.nps_summary",
        f"{SHEET}.summary",
    ]
    jobs = {event["job"]["name"] for event in told() if event.get("outputs")}
    assert {f"{INGEST}.extract", f"{INGEST}.load", "transform.nps_summary.run"} <= jobs
