"""A small shop whose data go all the way: MySQL and a sheet, landing, warehouse, dbt, a sheet.

Between the pipeline and each service stands a proxy that can do to it what networks do. After
anything that was done to it, the world can say whether every stage holds what it should.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import duckdb

from millrace.batch import Interval, gaps
from millrace.connections import Connection
from millrace.landing.landing import Landing
from millrace.landing.sweep import OLD, Loaded, Rules, Sweep, Verdict, carry_out, plan
from millrace_sandbox.processes import LOOPBACK, poll
from redshift_standin.supervisor import connect_superuser
from sheets_standin import GoogleSheetsServer, TabSpec
from tests.e2e.small_project import write_project
from tests.faults.child import BUILD, PUBLISH, STRUCK, Job, Outcome, Strike, run
from tests.faults.disks import mounted
from tests.faults.http_faults import HTTPFaults
from tests.faults.servers import await_recovery
from tests.proxy import FaultProxy

if TYPE_CHECKING:
    from millrace_sandbox.mysql import MySQLServer, MySQLService
    from redshift_standin import RedshiftServer
    from redshift_standin.s3 import S3Server
    from sheets_standin.admin import CellValue
    from tests.faults.disks import Disk
    from tests.faults.servers import Servers

ROOT = Path(__file__).parents[2]
ORDERS, CUSTOMERS, TARGETS = "shop.orders", "shop.customers", "plans.targets"
INGESTED = (ORDERS, CUSTOMERS, TARGETS)
STAGES = (*INGESTED, BUILD, PUBLISH)
WORLDS = ("duckdb", "folder", "redshift")
"""DuckDB, MariaDB and S3; the same with a folder in S3's place, and orders that are read by two
connections; the Redshift stand-in, MySQL and S3."""

# Of any stage, with every fault: beyond it something hangs.
PATIENCE = 90
_CUSTOMERS = 12
# Room for all that a world's processes write besides dbt's own files.
_DISK_MEGABYTES = 96
PLANS = ("free", "team", "business")
_TARGETS = tuple((plan, Decimal(10 * number)) for number, plan in enumerate(PLANS))

FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
""",
    "models/_shop.yml": """
sources:
  - name: shop
    schema: raw_shop
    config:
      meta:
        ingest: {kind: mysql, connection: shop_db}
    tables:
      - name: orders
        config:
          meta:
            ingest: {table: orders, primary_key: [id], cursor: updated_at, partitions: PARTITIONS}
      - name: customers
        config: {meta: {ingest: {table: customers, primary_key: [id]}}}
  - name: plans
    schema: raw_plans
    config:
      meta:
        ingest: {kind: google_sheet, connection: google_sheets, spreadsheet: SPREADSHEET}
    tables:
      - name: targets
        config:
          meta:
            ingest: {tab: targets, columns: {plan: string, target: "decimal(5,2)"}}
exposures:
  - name: plans_sheet
    type: dashboard
    owner: {name: Data team, email: data@example.com}
    depends_on: [ref('plans_summary')]
    config:
      meta:
        publish:
          kind: google_sheet
          connection: google_sheets
          spreadsheet: SPREADSHEET
          tab: summary
          order_by: [plan]
""",
    "models/int_orders.sql": """
{{ config(materialized='incremental', unique_key='order_id') }}
with versions as (
    select id as order_id, customer_id, amount, note, updated_at, _loaded_at
    from {{ source('shop', 'orders') }}
    {% if is_incremental() %}
    where _loaded_at > (select coalesce(max(_loaded_at), '1970-01-01') from {{ this }})
    union all
    select * from {{ this }}
    {% endif %}
),
numbered as (
    select
        *,
        row_number() over (
            partition by order_id order by updated_at desc, _loaded_at desc
        ) as version
    from versions
)
select order_id, customer_id, amount, note, updated_at, _loaded_at
from numbered
where version = 1
""",
    "models/plans_summary.sql": """
{{ config(materialized='table') }}
select customers.plan, count(*) as orders,
    cast(coalesce(sum(orders.amount), 0) as decimal(28, 4)) as amount
from {{ ref('int_orders') }} as orders
inner join {{ source('shop', 'customers') }} as customers on orders.customer_id = customers.id
inner join {{ source('plans', 'targets') }} as targets on customers.plan = targets.plan
group by customers.plan
""",
    "snapshots/customers.yml": """
snapshots:
  - name: customers_snapshot
    relation: source('shop', 'customers')
    config: {unique_key: id, strategy: check, check_cols: [name, plan]}
""",
}

TABLES = """
CREATE TABLE orders (
    id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
    customer_id INT NOT NULL,
    amount DECIMAL(18, 4),
    note TEXT,
    updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY (updated_at)
);
CREATE TABLE customers (
    id INT PRIMARY KEY, name VARCHAR(120) NOT NULL, plan VARCHAR(20) NOT NULL
)
"""

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.forked_imports", run.__module__])

Row = tuple[Any, ...]


class Attempt:
    """A stage that runs in a process of its own.

    Args:
        world: Where.
        stage: The stage.
        strike: Where it waits for the test.
        is_patient: Whether it waits for slow services.

    Attributes:
        clock: How many seconds its clock is ahead.
    """

    def __init__(
        self, world: World, stage: str, strike: Strike | None = None, *, is_patient: bool = False
    ) -> None:
        self.stage = stage
        self.clock = _CONTEXT.RawValue("d", 0.0)
        self._pipe, theirs = _CONTEXT.Pipe()
        job = Job(stage, world.environ, world.folder, strike, self.clock, is_patient)
        self.process: BaseProcess = _CONTEXT.Process(target=run, args=(job, theirs))
        self._outcome: Outcome | None = None
        self.process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self._pipe.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def reaches_strike(self, timeout: float = PATIENCE) -> bool:
        """Whether it comes to where it was told to wait; False: it has ended before."""
        if not self._pipe.poll(timeout):
            return False
        try:
            said = self._pipe.recv()
        except EOFError:
            return False
        if said == STRUCK:
            return True
        self._outcome = said
        return False

    def go_on(self) -> None:
        """Let it go on, if it still lives."""
        # One that was killed may have gone a moment ago.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(None)

    def outcome(self) -> Outcome | None:
        """How it ended; None: it was ended."""
        try:
            if self._outcome is None and self._pipe.poll(PATIENCE):
                self._outcome = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            pass
        self.process.join(PATIENCE)
        assert not self.process.is_alive(), f"it still runs after {PATIENCE} s"
        return self._outcome


@dataclass
class World:
    """The shop.

    Attributes:
        kind: One of ``WORLDS``.
        folder: Where its project and its files are.
        mysql: Its MySQL, which can be restarted.
        sheets: The Google Sheets stand-in.
        database: The MySQL database's name.
        spreadsheet: The spreadsheet's id.
        environ: What the pipeline is told.
        landing: Its landing, by no proxy.
        proxies: The proxies by service: ``mysql``, and ``s3``, ``redshift`` where they are used.
        disks: The disks that can be filled: ``worker``, where the processes write, and
            ``redshift``; none where this machine lets nobody mount one.
        s3: The S3 server, where the landing is there.
        s3_answers: What S3 answers; it stands behind the proxy ``s3``.
        redshift: The stand-in, where it is the warehouse.
        passages: Of each stage, what its last whole run passed.
        seconds: Of each stage, how long that took.
        interruptions: How many it has seen.
        is_broken: Whether one of them was not made good.
    """

    kind: str
    folder: Path
    mysql: MySQLService
    sheets: GoogleSheetsServer
    database: str
    spreadsheet: str
    environ: dict[str, str]
    landing: Landing
    proxies: Mapping[str, FaultProxy]
    disks: Mapping[str, Disk]
    s3: S3Server | None
    s3_answers: HTTPFaults
    redshift: RedshiftServer | None
    passages: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    interruptions: int = 0
    is_broken: bool = False
    _names: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))
    _looked_at: set[str] = field(default_factory=set)

    @classmethod
    def make(cls, kind: str, folder: Path, servers: Servers, open_: ExitStack) -> World:
        """Open the shop, with its first customers, and run every stage once.

        Args:
            kind: One of ``WORLDS``.
            folder: An empty folder.
            servers: The servers.
            open_: Closes what is opened.
        """
        redshift = servers.redshift if kind == "redshift" else None
        mysql = servers.mysql if kind == "redshift" else servers.mariadb
        s3 = None if kind == "folder" else servers.s3
        database = f"shop_{uuid4().hex[:8]}"
        spreadsheet = _open_spreadsheet(servers.sheets)
        filled_in = {"SPREADSHEET": spreadsheet, "PARTITIONS": "2" if kind == "folder" else "1"}
        write_project(folder, {name: _filled(text, filled_in) for name, text in FILES.items()})
        disks = _open_disks(folder, servers.redshift_disk if redshift else None, open_)
        answers = open_.enter_context(HTTPFaults(*_address(servers.s3.endpoint.endpoint_url)))
        services = {"mysql": (mysql.server.host, mysql.server.port)}
        if s3:
            services["s3"] = (answers.host, answers.port)
        if redshift:
            services["redshift"] = (redshift.endpoint.host, redshift.endpoint.port)
            _forget_last_world(redshift)
        proxies = {
            name: open_.enter_context(FaultProxy(*address)) for name, address in services.items()
        }
        environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "AIRFLOW_CONN_SHOP_DB": _by(proxies["mysql"], mysql.server).reader_uri(database),
            "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(servers.sheets.airflow_connection()),
            "TMPDIR": str(folder / "disk" / "tmp"),
            "WAREHOUSE_SCHEMA": database,
            "DO_NOT_TRACK": "1",
            **_landing_environment(folder, database, s3, proxies.get("s3")),
            **_warehouse_environment(folder, redshift, proxies.get("redshift")),
        }
        near = Connection("aws_landing", **s3.endpoint.airflow_connection()) if s3 else None
        world = cls(
            kind=kind,
            folder=folder,
            mysql=mysql,
            sheets=servers.sheets,
            database=database,
            spreadsheet=spreadsheet,
            environ=environ,
            landing=Landing(environ["LANDING_URL"], near),
            proxies=proxies,
            disks=disks,
            s3=s3,
            s3_answers=answers,
            redshift=redshift,
        )
        world._open()
        return world

    def _open(self) -> None:
        """Make the database, let in the first customers, and run every stage once."""
        with self.server.admin_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4")
            cursor.execute(
                f"GRANT SELECT, LOCK TABLES ON {self.database}.* TO {self.server.reader}"
            )
        with self._admin() as cursor:
            for statement in TABLES.split(";"):
                cursor.execute(statement)
            for number in range(_CUSTOMERS):
                plan = PLANS[number % len(PLANS)]
                cursor.execute(
                    "INSERT INTO customers VALUES (%s, %s, %s)", (number, f"No. {number}", plan)
                )
        for _ in range(10):
            self.change(Random(0))
        for stage in STAGES:
            self.carry(stage)

    def change(self, random: Random) -> None:
        """Let people work: orders come and are edited, a customer changes plan, a target moves."""
        with self._admin() as cursor:
            for _ in range(random.randint(1, 4)):
                cursor.execute(
                    "INSERT INTO orders (customer_id, amount, note) VALUES (%s, %s, %s)",
                    (
                        random.randrange(_CUSTOMERS),
                        random.choice([None, Decimal(random.randrange(10**9)) / 10**4]),
                        random.choice([None, "", "näïve 🙂", "x" * random.randrange(3_000)]),
                    ),
                )
            cursor.execute(
                "UPDATE orders SET amount = amount + 1 WHERE id %% 7 = %s ORDER BY id DESC LIMIT 9",
                (random.randrange(7),),
            )
            cursor.execute(
                "UPDATE customers SET plan = %s, name = %s WHERE id = %s",
                (
                    random.choice(PLANS),
                    f"Customer {next(self._names)}",
                    random.randrange(_CUSTOMERS),
                ),
            )
            # What has the moment of the batch's end belongs to the next one.
            cursor.execute("SELECT UTC_TIMESTAMP(6)")
            ((written,),) = cursor.fetchall()
            while True:
                cursor.execute("SELECT UTC_TIMESTAMP(6)")
                ((now,),) = cursor.fetchall()
                if now > written:
                    break

    @property
    def server(self) -> MySQLServer:
        """Its MySQL, by no proxy."""
        return self.mysql.server

    @property
    def breakable(self) -> frozenset[str]:
        """What can be broken here: services, and disks."""
        return frozenset([*self.proxies, *(f"disk of the {name}" for name in self.disks)])

    def heal(self) -> None:
        """Undo what faults have done; what was killed is started again."""
        for disk in self.disks.values():
            disk.free()
        for proxy in self.proxies.values():
            proxy.heal()
        self.s3_answers.heal()
        self.sheets.admin().clear_faults()
        self.mysql.start()
        with self.server.admin_cursor() as cursor:
            cursor.execute("SET GLOBAL max_allowed_packet = DEFAULT")
        if self.s3:
            self.s3.start()
        if self.redshift:
            self.redshift.start()
            await_recovery(self.redshift)

    def carry(self, stage: str) -> Outcome:
        """Run a stage to its end; its passages are known then."""
        began = time.monotonic()
        with Attempt(self, stage, is_patient=True) as attempt:
            outcome = attempt.outcome()
        assert outcome is not None, f"{stage} ended without a word\n{self._log()}"
        assert outcome.kind == "done", f"{stage}: {outcome.said}\n{self._log()}"
        self.passages[stage] = list(outcome.passages)
        self.seconds[stage] = time.monotonic() - began
        return outcome

    def check(self, stage: str) -> None:
        """See that what a stage has to leave is there, and that nothing else is left."""
        if stage in (ORDERS, CUSTOMERS):
            assert self._raw(stage) == self._source(stage)
        elif stage == TARGETS:
            assert self._raw(stage) == sorted(_TARGETS)
        elif stage == BUILD:
            self._check_marts()
        else:
            published = self.sheets.admin().tab(self.spreadsheet, "summary").values
            assert [tuple(row) for row in published[1:]] == [
                (plan, orders, float(amount)) for plan, orders, amount in self._mart()
            ]
        if stage in INGESTED:
            self._check_ledger(stage)
        self._check_landing()
        self._check_nothing_is_open()

    def _source(self, stage: str) -> list[Row]:
        table = stage.partition(".")[2]
        with self._admin() as cursor:
            cursor.execute(f"SELECT * FROM {table} ORDER BY id")
            return list(cursor.fetchall())

    def _raw(self, stage: str) -> list[Row]:
        if stage == CUSTOMERS:
            return self.query("SELECT id, name, plan FROM raw_shop.customers ORDER BY id")
        if stage == TARGETS:
            return self.query("SELECT plan, target FROM raw_plans.targets ORDER BY plan")
        return self.query(
            "SELECT id, customer_id, amount, note, updated_at FROM (SELECT *, ROW_NUMBER() OVER "
            "(PARTITION BY id ORDER BY updated_at DESC, _loaded_at DESC) AS version "
            "FROM raw_shop.orders) AS versions WHERE version = 1 ORDER BY id"
        )

    def _summary(self) -> list[Row]:
        plans = {id_: plan for id_, _, plan in self._raw(CUSTOMERS)}
        counts: Counter[str] = Counter()
        amounts: Counter[str] = Counter()
        for _, customer, amount, *_rest in self._raw(ORDERS):
            counts[plans[customer]] += 1
            amounts[plans[customer]] += amount or 0
        return [(plan, counts[plan], amounts[plan]) for plan in sorted(counts)]

    def _mart(self) -> list[Row]:
        schema = self.environ["WAREHOUSE_SCHEMA"]
        return self.query(f"SELECT plan, orders, amount FROM {schema}.plans_summary ORDER BY plan")

    def _check_marts(self) -> None:
        """The marts are what a full refresh would make of raw: here, what Python makes of it."""
        schema = self.environ["WAREHOUSE_SCHEMA"]
        assert self._raw(ORDERS) == self.query(
            f"SELECT order_id, customer_id, amount, note, updated_at FROM {schema}.int_orders "
            "ORDER BY order_id"
        )
        assert self._summary() == self._mart()
        assert self._raw(CUSTOMERS) == self.query(
            f"SELECT id, name, plan FROM {schema}.customers_snapshot WHERE dbt_valid_to IS NULL "
            "ORDER BY id"
        )

    def _check_ledger(self, stage: str) -> None:
        schema, table = ("raw_shop" if stage in (ORDERS, CUSTOMERS) else "raw_plans"), stage
        identifier = stage.partition(".")[2]
        ledger = self.query(
            "SELECT batch_id, row_count, interval_start, interval_end, manifest_url "
            f"FROM {schema}._batches WHERE table_name = '{table}' ORDER BY interval_end"
        )
        raw = self.query(f"SELECT _batch_id, COUNT(*) FROM {schema}.{identifier} GROUP BY 1")
        assert {batch: count for batch, count, *_ in ledger if count} == dict(raw)
        # Batches that were loaded at a time may overlap.
        assert not gaps(Interval(_in_utc(start), _in_utc(end)) for _, _, start, end, _ in ledger)
        # Old ones stay as they are.
        for _, count, _, _, url in ledger:
            if url not in self._looked_at:
                assert self.landing.read_manifest(url).rows == count
                self._looked_at.add(url)

    def _check_landing(self) -> None:
        """A sweep, a month from now, leaves what the ledgers name and nothing else."""
        found = self._plan_sweep()
        kept = {Verdict.NAMED}
        if self.redshift:
            # The project is parsed for DuckDB first, and its first batches say so.
            kept.add(Verdict.FOREIGN)
        swept = {Verdict.UNCOMMITTED, Verdict.UNLOADED}
        assert {one.verdict for one in found.judged} <= kept | swept
        committed = {one.attempt.path for one in found.judged if one.attempt.is_committed}
        open_for = {upload.path.rpartition("/")[0] for upload in found.uploads}
        assert not committed & open_for
        carry_out(self.landing, found)
        again = self._plan_sweep()
        assert {one.verdict for one in again.judged} <= kept
        assert not again.uploads

    def _plan_sweep(self) -> Sweep:
        rules = Rules(datetime.now(UTC) + 2 * OLD)
        return plan(self.landing, INGESTED, self._loaded, rules)

    def _loaded(self) -> dict[str, Loaded]:
        kind = "redshift" if self.redshift else "duckdb"
        return {table: self._loaded_of(table, f"{kind} raw_{table}") for table in INGESTED}

    def _loaded_of(self, table: str, raw_table: str) -> Loaded:
        schema = table.partition(".")[0]
        urls = self.query(
            f"SELECT manifest_url FROM raw_{schema}._batches WHERE table_name = '{table}'"
        )
        return Loaded.of(raw_table, (str(url) for (url,) in urls))

    def _check_nothing_is_open(self) -> None:
        user = self.server.reader_user

        def asked(query: str) -> list[Row]:
            with self._admin() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())

        def left() -> list[Row]:
            return [
                *asked(
                    "SELECT id, command, state FROM information_schema.processlist "
                    f"WHERE user = '{user}' AND db = '{self.database}'"
                ),
                # Thread 0 is the server's own: it purges, and writes statistics down.
                *asked(
                    "SELECT trx_id, trx_state, trx_started, trx_mysql_thread_id, trx_query "
                    "FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> 0"
                ),
            ]

        assert poll(lambda: not left(), 20), f"still open in MySQL: {left()}"
        if self.redshift is not None:
            endpoint = self.redshift.endpoint
            query = (
                "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
            )
            with connect_superuser(endpoint) as connection:
                assert poll(lambda: not connection.execute(query).fetchall(), 20)

    def query(self, query: str) -> list[Row]:
        """Ask the warehouse, by no proxy."""
        if self.redshift:
            return _ask_redshift(self.redshift, query)
        return _ask_duckdb(Path(self.environ["DUCKDB_PATH"]), query)

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        with self.server.admin_cursor(db=self.database, charset="utf8mb4") as cursor:
            # A stage that waits for the test may hold its tables.
            cursor.execute("SET SESSION lock_wait_timeout = 3")
            yield cursor

    def _log(self) -> str:
        log = self.folder / "child.log"
        return log.read_text()[-3_000:] if log.exists() else ""


def _ask_duckdb(file: Path, query: str) -> list[Row]:
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        return connection.execute(query).fetchall()


def _ask_redshift(server: RedshiftServer, query: str) -> list[Row]:
    with closing(server.endpoint.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return [tuple(row) for row in cursor.fetchall()]


def _by(proxy: FaultProxy, server: MySQLServer) -> MySQLServer:
    return replace(server, port=proxy.port)


def _open_disks(folder: Path, of_redshift: Disk | None, open_: ExitStack) -> dict[str, Disk]:
    """Mount the disk that the world's processes write to, where that can be done."""
    of_worker = open_.enter_context(mounted(folder / "disk", _DISK_MEGABYTES))
    (folder / "disk" / "tmp").mkdir()
    found = {"worker": of_worker, "redshift": of_redshift}
    return {name: disk for name, disk in found.items() if disk is not None}


def _landing_environment(
    folder: Path, database: str, s3: S3Server | None, proxy: FaultProxy | None
) -> dict[str, str]:
    """A new bucket, or a folder."""
    if s3 is None or proxy is None:
        return {"LANDING_URL": (folder / "disk" / "landing").as_uri()}
    bucket = database.replace("_", "-")
    s3.create_bucket(bucket)
    far = replace(s3.endpoint, endpoint_url=f"http://{LOOPBACK}:{proxy.port}")
    return {
        "AIRFLOW_CONN_AWS_LANDING": json.dumps(far.airflow_connection()),
        "LANDING_URL": f"s3://{bucket}/landing",
    }


def _warehouse_environment(
    folder: Path, redshift: RedshiftServer | None, proxy: FaultProxy | None
) -> dict[str, str]:
    if redshift is None or proxy is None:
        return {"DUCKDB_PATH": str(folder / "disk" / "warehouse.duckdb"), "TARGET": "dev"}
    far = replace(redshift.endpoint, port=proxy.port)
    return {**far.environment(), "TARGET": "redshift"}


def _forget_last_world(redshift: RedshiftServer) -> None:
    """Drop the raw tables: they have the same names in every world."""
    with closing(redshift.endpoint.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for schema in ("raw_shop", "raw_plans"):
            cursor.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def _open_spreadsheet(sheets: GoogleSheetsServer) -> str:
    """Make the spreadsheet; returns its id."""
    account = sheets.service_account_key()["client_email"]
    rows: list[list[CellValue]] = [["plan", "target"]]
    rows += ([plan, number] for plan, number in _TARGETS)
    targets = TabSpec("targets", rows)
    return sheets.admin().create("Shop", [targets], share={account: "writer"})


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
