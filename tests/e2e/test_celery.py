"""Three Celery workers on hosts of their own: one dies, Redis restarts, and every row arrives once.

The hosts are network namespaces. A worker reaches MySQL, S3, PostgreSQL, the Google Sheets stand-in
and Airflow's API server by the address of this machine, as on a real network.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest
import redis as redis_client

from millrace.connections import in_environment
from millrace.dbt.project import Project
from millrace.landing.sweep import Loaded, Rules, Verdict, carry_out, plan
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace_sandbox import celery, hosts
from millrace_sandbox.airflow import Airflow
from millrace_sandbox.airflow_api import AirflowClient, TaskInstance
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import LOOPBACK, Service, poll
from millrace_sandbox.redis import Redis
from redshift_standin.s3 import S3Server
from sheets_standin import GoogleSheetsServer, TabSpec
from tests.e2e.small_project import write_project
from tests.proxy import FaultProxy

WHY_NOT = hosts.why_not()
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.service,
    pytest.mark.airflow,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]

INGEST, TRANSFORM = "ingest__shop__orders", "transform"
SHEET = "shop-orders"
ROWS, RANGES = 24_000, 4
# Bytes of MySQL's answers: more than the statements before a read are answered, less than a range.
INSIDE_A_RANGE = 150_000
TIMEOUT = 120
LARGE = ("large-1", "large-2")

# Airflow's own patience is minutes, for a silent task and for a queued one.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "2",
}
ROOT = Path(__file__).parents[2]
# Forwards a port of a host's own loopback: the Google Sheets stand-in answers under no other name.
TUNNEL = """
import signal, sys
from tests.proxy import FaultProxy
with FaultProxy(sys.argv[1], int(sys.argv[2]), listen=("127.0.0.1", int(sys.argv[2]))):
    signal.pause()
"""
DAGS = """
from datetime import timedelta
from pathlib import Path

from millrace.airflow import AirflowProject, ingest_dags, transform_dag
from millrace.sources.mysql import source

# By default only a batch of millions of rows is split.
source._MIN_ROWS_A_RANGE = 1_000

project = AirflowProject(
    Path(__file__).parents[1] / "dbt_project",
    default_args={
        "queue": "warehouse",
        "retry_delay": timedelta(seconds=1),
        "retry_exponential_backoff": 0,
    },
    queues={"extract": "large"},
)
ingest_dags(project)
transform_dag(project)
"""
FILES = {
    "dbt_project.yml": "{name: shop, version: '1.0.0', profile: millrace}",
    "models/_shop.yml": f"""
sources:
  - name: shop
    schema: raw_shop
    config: {{meta: {{ingest: {{kind: mysql, connection: shop_db, schedule: "@daily"}}}}}}
    tables:
      - name: orders
        config:
          meta:
            ingest:
              table: orders
              primary_key: [id]
              cursor: updated_at
              partitions: {RANGES}
exposures:
  - name: orders_sheet
    type: dashboard
    owner: {{name: Data team, email: data@example.com}}
    depends_on: [ref('orders_summary')]
    config:
      meta:
        publish:
          kind: google_sheet
          connection: google_sheets
          spreadsheet: {SHEET}
          tab: orders
          order_by: [orders]
""",
    "models/orders_summary.sql": """
{{ config(materialized='table') }}
select count(*) as orders, cast(sum(amount) as integer) as amount
from {{ source('shop', 'orders') }}
""",
}


@dataclass(frozen=True)
class Cluster:
    """Airflow, its workers and what they work on.

    Attributes:
        lines: How each worker of the queue ``large`` reaches MySQL.
    """

    airflow: Airflow
    client: AirflowClient
    redis: Redis
    workers: dict[str, celery.Worker]
    lines: dict[str, FaultProxy]
    server: MySQLServer
    database: str
    warehouse: Path
    pipeline: Pipeline
    sheets: GoogleSheetsServer

    def waiting(self) -> int:
        """How many messages of the queue ``large`` no worker has taken."""
        with closing(redis_client.Redis.from_url(self.redis.url)) as broker:
            return int(broker.llen("large"))

    def edit(self) -> None:
        """Change every row, so that the next batch has them all."""
        with self.server.admin_cursor(database=self.database) as cursor:
            cursor.execute(
                "update orders set amount = amount + 1, "
                "updated_at = utc_timestamp(6) - interval 2 second"
            )

    @contextmanager
    def run_inside_ranges(self) -> Iterator[str]:
        """A run of the table in whose middle both workers are, with a range each.

        When the block ends, they go on, and the run has to succeed in time.

        Yields:
            The run's id.
        """
        self.edit()
        try:
            for line in self.lines.values():
                line.stall(after=INSIDE_A_RANGE)
            run_id = self.client.trigger(INGEST).run_id
            assert poll(lambda: all(line.is_stalling for line in self.lines.values()), TIMEOUT)
            assert poll(lambda: self.waiting() == RANGES - len(LARGE), TIMEOUT)
            yield run_id
        finally:
            for line in self.lines.values():
                line.heal()
        self.client.wait_for_run(INGEST, lambda run: run.run_id == run_id, TIMEOUT)

    def tries(self, run_id: str) -> dict[str, int]:
        """How often each task of a run was tried."""
        tasks = self.client.task_instances(INGEST, run_id)
        return {f"{task.task_id} {task.map_index}": task.try_number for task in tasks}

    def check(self) -> None:
        """Nothing is lost, and nothing doubled: source, raw table and ledger have the same rows."""
        with self.server.admin_cursor(database=self.database) as cursor:
            cursor.execute("select id, amount, note, updated_at from orders order by id")
            at_source = list(cursor.fetchall())
        batches = self.query(
            "select batch_id, row_count from raw_shop._batches order by interval_end"
        )
        loaded = self.query(
            "select _batch_id, count(*), count(distinct id) from raw_shop.orders group by 1"
        )
        assert {name: (rows, rows) for name, rows in batches} == {
            name: (rows, keys) for name, rows, keys in loaded
        }
        newest, rows = batches[-1]
        assert rows == ROWS
        assert at_source == self.query(
            "select id, amount, note, updated_at from raw_shop.orders "
            f"where _batch_id = '{newest}' order by id"
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Look into the warehouse, when no task has it open any more."""
        found: list[list[tuple[Any, ...]]] = []

        def is_read() -> bool:
            try:
                with closing(duckdb.connect(str(self.warehouse), read_only=True)) as connection:
                    found.append(connection.execute(sql).fetchall())
            except duckdb.IOException:
                return False
            return True

        assert poll(is_read, 30, interval=0.2)
        return found[0]


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
    mariadb: MariaDB,
    s3_server: S3Server,
    google_sheets: GoogleSheetsServer,
    short_folder: Path,
) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("celery")
    warehouse = root / "warehouse.duckdb"
    with ExitStack() as open_:
        network = open_.enter_context(hosts.Network([*LARGE, "warehouse"]))
        database = open_.enter_context(_orders(mariadb.server))
        bucket = open_.enter_context(_bucket(s3_server))
        google_sheets.admin().create(
            "Orders",
            [TabSpec("orders")],
            share={google_sheets.service_account_key()["client_email"]: "writer"},
            spreadsheet_id=SHEET,
        )
        project = write_project(root / "project", FILES)
        for file in (project.root / "dags").glob("*.py"):
            file.unlink()
        (project.root / "dags" / "shop.py").write_text(DAGS)

        paths = SandboxPaths(root / "sandbox")
        redis = Redis(paths, network.address)
        redis.start()
        open_.callback(redis.stop)
        environment = {
            "AIRFLOW_CONN_AWS_LANDING": json.dumps(s3_server.endpoint.airflow_connection()),
            "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(google_sheets.airflow_connection()),
            "AIRFLOW_CONN_SHOP_DB": mariadb.server.reader_uri(database),
            "DUCKDB_PATH": str(warehouse),
            "LANDING_URL": f"s3://{bucket}",
            "TARGET": "dev",
            "TMPDIR": str(short_folder),
        }
        airflow = Airflow(
            paths,
            project.root / "dags",
            environment | celery.settings(redis) | IMPATIENT,
            port=0,
        )
        open_.callback(airflow.stop)
        airflow.start()
        for address in _on_loopback(airflow, environment):
            open_.enter_context(FaultProxy(*address, listen=(network.address, address[1])))
        workers, lines = _workers(airflow, network, mariadb.server, open_)
        client = airflow.client()
        client.ensure_pool("warehouse", slots=1)
        client.wait_for_dags({INGEST, TRANSFORM})
        for worker in workers.values():
            worker.wait_until_ready()
        yield Cluster(
            airflow,
            client,
            redis,
            workers,
            lines,
            mariadb.server,
            database,
            warehouse,
            _pipeline(project, environment),
            google_sheets,
        )


@contextmanager
def _orders(server: MySQLServer) -> Iterator[str]:
    """A database with the table; yields its name."""
    name = f"celery_{secrets.token_hex(4)}"
    with server.admin_cursor() as cursor:
        cursor.execute(f"create database {name}")
        cursor.execute(f"use {name}")
        try:
            cursor.execute(f"grant select on {name}.* to {server.reader}")
            cursor.execute(
                f"create table {name}.orders (id int primary key, amount int not null, "
                "note varchar(100) not null, updated_at datetime(6) not null, key (updated_at))"
            )
            cursor.execute(
                f"insert into {name}.orders select seq, seq % 100, repeat(md5(seq), 3), "
                f"'2026-01-01' from seq_1_to_{ROWS}"
            )
            yield name
        finally:
            cursor.execute(f"revoke select on {name}.* from {server.reader}")
            cursor.execute(f"drop database {name}")


@contextmanager
def _bucket(server: S3Server) -> Iterator[str]:
    name = f"celery-{secrets.token_hex(4)}"
    server.create_bucket(name)
    try:
        yield name
    finally:
        # SeaweedFS deletes the bucket's objects with it.
        server.endpoint.client().delete_bucket(Bucket=name)


def _on_loopback(airflow: Airflow, environment: dict[str, str]) -> set[tuple[str, int]]:
    """The services that listen on this machine's loopback, which no host can reach."""
    urls = [
        airflow.environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"],
        airflow.url,
        environment["AIRFLOW_CONN_SHOP_DB"],
        json.loads(environment["AIRFLOW_CONN_AWS_LANDING"])["extra"]["endpoint_url"],
        json.loads(environment["AIRFLOW_CONN_GOOGLE_SHEETS"])["extra"]["endpoint_url"],
    ]
    return {(LOOPBACK, int(urlsplit(url).port or 0)) for url in urls}


def _workers(
    airflow: Airflow, network: hosts.Network, server: MySQLServer, open_: ExitStack
) -> tuple[dict[str, celery.Worker], dict[str, FaultProxy]]:
    """One worker for each host: those of the queue ``large`` do not see the warehouse's file."""
    *large, last = network.hosts
    workers, lines = {}, {}
    for host in large:
        line = open_.enter_context(
            FaultProxy(server.host, server.port, listen=(network.address, 0))
        )
        own = {
            "AIRFLOW_CONN_SHOP_DB": airflow.env["AIRFLOW_CONN_SHOP_DB"].replace(
                f"{server.host}:{server.port}", f"{line.host}:{line.port}"
            ),
            "DUCKDB_PATH": "/nowhere/warehouse.duckdb",
        }
        lines[host.name] = line
        workers[host.name] = celery.Worker(
            airflow, host.name, ["large"], 1, host=host, head=network.address, env=own
        )
    sheets = airflow.env["AIRFLOW_CONN_GOOGLE_SHEETS"]
    tunnel = Service("tunnel", airflow.paths)
    open_.callback(tunnel.stop)
    port = urlsplit(json.loads(sheets)["extra"]["endpoint_url"]).port
    command = [sys.executable, "-c", TUNNEL, network.address, str(port)]
    tunnel.start(last.command(command), cwd=ROOT)
    own = {"AIRFLOW_CONN_GOOGLE_SHEETS": sheets}
    workers[last.name] = celery.Worker(
        airflow, last.name, ["warehouse"], 2, host=last, head=network.address, env=own
    )
    open_.callback(_stop, list(workers.values()))
    for worker in workers.values():
        worker.start()
    return workers, lines


def _stop(workers: list[celery.Worker]) -> None:
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(celery.Worker.stop, workers))


def _pipeline(project: Project, environment: dict[str, str]) -> Pipeline:
    """A pipeline in this process, which looks at the landing and at the ledger."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        pipeline = Pipeline(project, Settings.read(os.environ), in_environment(environment))
        # dbt reads the environment.
        assert pipeline.warehouse
    return pipeline


def where(tasks: list[TaskInstance], queue: str) -> set[str]:
    return {task.hostname for task in tasks if task.queue == queue and task.hostname}


def test_ranges_go_to_several_workers_and_tasks_keep_to_their_queue(cluster: Cluster) -> None:
    client = cluster.client
    client.unpause(TRANSFORM)
    client.unpause(INGEST)
    client.wait_for_run(INGEST, lambda run: run.run_type == "scheduled", TIMEOUT)
    client.wait_for_run(TRANSFORM, lambda run: True, TIMEOUT)
    client.pause(TRANSFORM)

    tasks = client.task_instances(INGEST) + client.task_instances(TRANSFORM)
    assert sum(task.queue == "large" for task in tasks) == RANGES
    assert {task.task_id for task in tasks if task.queue == "large"} == {"extract"}
    assert where(tasks, "large") == set(LARGE)
    assert where(tasks, "warehouse") == {"warehouse"}
    assert {task.try_number for task in tasks if task.state == "success"} == {1}
    with cluster.server.admin_cursor(database=cluster.database) as cursor:
        cursor.execute("select sum(amount) from orders")
        ((amount,),) = cursor.fetchall()
    published = cluster.sheets.admin().tab(SHEET, "orders").values
    assert [ROWS, int(amount)] in published
    cluster.check()


def test_a_worker_that_dies_inside_a_range_costs_one_try(cluster: Cluster) -> None:
    victim, survivor = LARGE
    with cluster.run_inside_ranges() as run_id:
        tasks = cluster.client.task_instances(INGEST, run_id)
        (lost,) = (task.map_index for task in tasks if task.hostname == victim)
        host = cluster.workers[victim].host
        assert host
        host.kill()

    tries = cluster.tries(run_id)
    assert tries.pop(f"extract {lost}") == 2
    assert set(tries.values()) == {1}
    extracts = [
        task for task in cluster.client.task_instances(INGEST, run_id) if task.queue == "large"
    ]
    assert {task.hostname for task in extracts} == {survivor}
    cluster.check()
    cluster.workers[victim].stop()
    cluster.workers[victim].start()
    cluster.workers[victim].wait_until_ready()


def test_redis_restarts_and_a_message_delivered_twice_changes_nothing(cluster: Cluster) -> None:
    with cluster.run_inside_ranges() as run_id:
        with closing(redis_client.Redis.from_url(cluster.redis.url)) as broker:
            # Those of the ranges being read, and of the range that was lost with its worker: when
            # the visibility timeout is over, Redis itself puts them back.
            taken: Any = broker.hvals("unacked")
            for entry in taken:
                message, _, queue = json.loads(entry)
                broker.lpush(queue, json.dumps(message))
        assert len(taken) >= len(LARGE)
        cluster.redis.stop()
        cluster.redis.start()
        assert cluster.waiting() == RANGES - len(LARGE) + len(taken)

    assert set(cluster.tries(run_id).values()) == {1}
    assert poll(lambda: cluster.waiting() == 0, TIMEOUT)
    cluster.check()


def test_a_redis_that_forgets_costs_the_patience_for_queued_tasks(cluster: Cluster) -> None:
    with cluster.run_inside_ranges() as run_id:
        cluster.redis.stop()
        cluster.redis.forget()
        cluster.redis.start()
        assert cluster.waiting() == 0

    assert set(cluster.tries(run_id).values()) == {1}
    cluster.check()


def test_what_is_due_while_redis_is_away_waits_for_it(cluster: Cluster) -> None:
    cluster.edit()
    log = cluster.airflow.services["scheduler"].log
    cluster.redis.stop()
    run_id = cluster.client.trigger(INGEST).run_id
    refused = "Celery Task Timeout Error"
    # More often than Airflow would try by default.
    assert poll(lambda: log.read_text(errors="replace").count(refused) > 5, TIMEOUT)
    cluster.redis.start()

    cluster.client.wait_for_run(INGEST, lambda run: run.run_id == run_id, TIMEOUT)
    assert set(cluster.tries(run_id).values()) == {1}
    cluster.check()


def test_what_a_dead_worker_has_left_is_swept(cluster: Cluster) -> None:
    landing, table = cluster.pipeline.landing, cluster.pipeline.catalog.table("shop.orders")
    urls = [url for (url,) in cluster.query("select manifest_url from raw_shop._batches")]
    loaded = {table.key: Loaded.of(cluster.pipeline.raw_table(table), urls)}
    rules = Rules(datetime.now(UTC) + timedelta(days=31))

    carry_out(landing, plan(landing, [table.key], lambda: loaded, rules))

    left = plan(landing, [table.key], lambda: loaded, rules)
    assert [one.verdict for one in left.judged] == [Verdict.NAMED] * len(urls)
    assert left.uploads == ()
    # No file of a lost try is among those of the try that was loaded.
    parts = {part.url for url in urls for part in landing.read_manifest(url).parts}
    found = {stored.path for one in left.judged for stored in one.attempt.objects}
    assert {path for path in found if path.endswith(".parquet")} == {
        url.removeprefix(f"{landing.url}/") for url in parts
    }
