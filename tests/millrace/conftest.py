"""MySQL databases to read from, and a workspace in which the command `millrace` runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import duckdb
import pyarrow as pa
import pytest
from tenacity import stop_after_attempt

from millrace import cli
from millrace.batch import WHOLE_TABLE, Interval
from millrace.catalog import IngestTable
from millrace.checksums.digests import KeyedDigest
from millrace.checksums.witness import Witness
from millrace.connections import Connection
from millrace.dbt.project import Project
from millrace.landing.landing import Landing
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.sources.mysql.options import MySQLOptions
from millrace.sources.mysql.source import MySQLSource
from millrace.testing import Place, comparable, declared
from millrace.warehouses.expressions import quote
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.postgres import Postgres
from sheets_standin import GoogleSheetsServer
from tests import services
from tests.millrace.postgres import PostgresDatabase
from tests.millrace.sheets import Workbook

if TYPE_CHECKING:
    from millrace.warehouses.bigquery.session import BigQuerySession

ROOT = Path(__file__).parents[2]


class Database:
    """A MySQL database: filled by the admin, read by the pipeline's own account."""

    def __init__(self, server: MySQLServer, name: str) -> None:
        self.server = server
        self.name = name
        self.client = server.connect_as_admin(db=name, charset="utf8mb4", autocommit=True)

    def execute(self, statement: str, arguments: Sequence[Any] | None = None) -> None:
        with closing(self.client.cursor()) as cursor:
            cursor.execute(statement, arguments)

    def insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        marks = ", ".join(["%s"] * len(rows[0]))
        with closing(self.client.cursor()) as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(self.client.cursor()) as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    @property
    def is_mariadb(self) -> bool:
        ((version,),) = self.rows("SELECT VERSION()")
        return "MariaDB" in version

    def seq(self, first: int, last: int) -> str:
        """A derived table of the numbers from the first to the last, in its column `seq`."""
        _make_numbers(self.server)
        return f"(SELECT seq FROM numbers.numbers WHERE seq BETWEEN {first} AND {last})"

    @property
    def uri(self) -> str:
        """The reader's connection, as Airflow writes it."""
        return self.server.reader_uri(self.name)

    def source(self, **changes: Any) -> MySQLSource:
        """The database as the pipeline's account sees it; the changes are the connection's."""
        fields: dict[str, Any] = {
            "host": self.server.host,
            "port": self.server.port,
            "login": self.server.reader_user,
            "password": self.server.reader_password,
            "schema": self.name,
        }
        return MySQLSource(Connection("mysql_prod", "mysql", **(fields | changes)))

    def table(
        self,
        name: str,
        *,
        cursor: str | dict[str, Any] | None = None,
        primary_key: tuple[str, ...] = ("id",),
    ) -> IngestTable:
        """The declaration of a table of this database."""
        return IngestTable(
            source="mysql",
            name="rows",
            schema="raw_mysql",
            identifier="rows",
            options=MySQLOptions.model_validate(
                {
                    "kind": "mysql",
                    "connection": "mysql_prod",
                    "table": name,
                    "primary_key": primary_key,
                    "cursor": cursor,
                }
            ),
        )

    def extract(
        self,
        table: IngestTable,
        interval: Interval = WHOLE_TABLE,
        *,
        without: frozenset[str] = frozenset(),
    ) -> pa.Table:
        """What is read, after it was compared with what the server computes of it."""
        with self.source().extract(table, interval, without=without) as extraction:
            witness = Witness(table.key, extraction.figures, extraction.schema, ())
            batches = witness.reading(extraction.batches)
            rows = pa.Table.from_batches(batches, schema=extraction.schema)
            witness.refuse_differences()
        return rows

    def digests(self, table: IngestTable, rows: pa.Table) -> list[KeyedDigest]:
        """The digests that the server itself computes of the rows that were read."""
        compared = comparable(rows.schema, *table.options.primary_key)
        with self.source().by_key(table, compared, WHOLE_TABLE) as found:
            return sorted(found.keyed(None), key=repr)


@cache
def _make_numbers(server: MySQLServer) -> None:
    """Make a table of the numbers to a million, which MariaDB has built in and MySQL has not.

    A server that runs on after the tests keeps it.
    """
    with server.admin_cursor() as cursor:
        cursor.execute("CREATE DATABASE IF NOT EXISTS numbers")
        cursor.execute("CREATE TABLE IF NOT EXISTS numbers.numbers (seq INT PRIMARY KEY)")
        cursor.execute("SELECT MAX(seq) FROM numbers.numbers")
        if cursor.fetchone() == (2**20,):
            return
        cursor.execute("TRUNCATE numbers.numbers")
        cursor.execute("INSERT INTO numbers.numbers VALUES (1)")
        for power in range(20):
            cursor.execute(
                f"INSERT INTO numbers.numbers SELECT seq + {2**power} FROM numbers.numbers"
            )


@pytest.fixture
def mysql(mysql_server: MySQLServer, database: str) -> Iterator[Database]:
    """A test's own MySQL database, empty at first."""
    opened = Database(mysql_server, database)
    with closing(opened.client):
        yield opened


@pytest.fixture
def plain_source(mysql: Database) -> Iterator[MySQLSource]:
    """The database as an account sees it that has SELECT on it, and nothing else."""
    account = f"'plain_{uuid4().hex[:8]}'@'{mysql.server.host}'"
    login = account.split("'")[1]
    mysql.execute(f"CREATE USER {account} IDENTIFIED BY '{login}'")
    mysql.execute(f"GRANT SELECT ON {mysql.name}.* TO {account}")
    yield mysql.source(login=login, password=login)
    mysql.execute(f"DROP USER {account}")


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[PostgresDatabase]:
    """A test's own PostgreSQL database, empty at first."""
    with PostgresDatabase.made(postgres_server) as opened:
        yield opened


SOURCES = """
sources:
  - name: mysql
    schema: raw_mysql
    config:
      meta:
        ingest: {kind: mysql, connection: mysql_prod}
    tables:
      - name: nps
        config: {meta: {ingest: {table: nps, primary_key: [id], cursor: updated_at}}}
      - name: users
        config: {meta: {ingest: {table: users, primary_key: [id]}}}
        columns:
          - {name: name, config: {meta: {pii: drop}}}
          - {name: email, config: {meta: {pii: hash}}}
"""

DBT_PROJECT = """
name: millrace
version: "1.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
"""

TABLES = """
CREATE TABLE nps (
    id BIGINT UNSIGNED PRIMARY KEY,
    score TINYINT UNSIGNED NOT NULL,
    comment TEXT,
    updated_at DATETIME(6) NOT NULL
);
CREATE TABLE users (
    id BIGINT UNSIGNED PRIMARY KEY, email VARCHAR(255) NOT NULL, name VARCHAR(120) NOT NULL
)
"""
NPS = [
    (1, 9, "great", "2026-09-30 08:00:00.000000"),
    (2, 3, "", "2026-09-30 23:59:59.999999"),
    (3, 7, None, "2026-10-01 00:00:00.000000"),
]
USERS = [(1, "ann@example.com", "Ann"), (2, "bob@example.com", "Bob")]

CLEARED = (
    *("AIRFLOW_CONN_AWS_LANDING", "DBT_PROJECT_DIR", "DBT_PROFILES_DIR", "DBT_TARGET_PATH"),
    *("TARGET", "WAREHOUSE_SCHEMA", "DBT_TARGET", "DBT_PROFILE"),
)


@pytest.fixture(scope="session")
def parsed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small dbt project and its manifest: parsed once, since that takes seconds."""
    shared = services.shared_folder()
    root = shared / "project" if shared else tmp_path_factory.mktemp("project")
    if not (root / "dbt_project" / "target" / "manifest.json").exists():
        _parse_project(root)
    return root


def _parse_project(root: Path) -> None:
    models = root / "dbt_project" / "models"
    models.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "profiles.yml", root)
    (models.parent / "dbt_project.yml").write_text(DBT_PROJECT)
    (models / "sources.yml").write_text(SOURCES)
    Project(models.parent, root).parse()


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    exit_code: int
    out: str
    err: str

    @property
    def errors(self) -> int:
        return sum(line.startswith("Error:") for line in (self.out + self.err).splitlines())


@dataclass(frozen=True)
class Workspace:
    """A project that is set up to run: two tables in MySQL, a landing folder and a DuckDB file."""

    root: Path
    mysql: Database
    environment: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    @property
    def sources_file(self) -> Path:
        return self.root / "dbt_project" / "models" / "sources.yml"

    @property
    def manifest_file(self) -> Path:
        return self.root / "dbt_project" / "target" / "manifest.json"

    @property
    def warehouse_file(self) -> Path:
        return self.root / "millrace.duckdb"

    @property
    def landing_folder(self) -> Path:
        return self.root / "landing"

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline.find(Settings.read(os.environ))

    def run(self, *arguments: str) -> Outcome:
        """Run `millrace`, in this process: a stack trace would fail the test as it is."""
        self.environment.setattr(sys, "argv", ["millrace", *arguments])
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = self.capture.readouterr()
        return Outcome(int(ended.value.code or 0), said.out, said.err)

    def succeeds(self, *arguments: str) -> str:
        outcome = self.run(*arguments)
        assert outcome.exit_code == 0, outcome
        return outcome.out

    def refuses(self, *arguments: str, says: Sequence[str]) -> str:
        """Run `millrace` and expect one clear error, a warehouse as before, and no secret."""
        before = self.warehouse()
        outcome = self.run(*arguments)
        said = outcome.out + outcome.err
        assert outcome.exit_code != 0
        assert outcome.errors == 1, said
        assert "Traceback" not in said
        missing = [words for words in says if words not in said]
        assert not missing, said
        assert self.mysql.server.reader_password not in said
        assert self.warehouse() == before
        return said

    def change_manifest(self, change: dict[str, Any], table: str = "nps") -> None:
        """Change keys of a table's node in the manifest, as if its YAML said so."""
        manifest = json.loads(self.manifest_file.read_text())
        manifest["sources"][f"source.millrace.mysql.{table}"] |= change
        self.manifest_file.write_text(json.dumps(manifest))
        self.take_manifest()

    def take_manifest(self) -> None:
        """Make the manifest look as if dbt had just parsed the project in this environment."""
        project = self.pipeline.project
        project._fingerprint_path.write_text(
            json.dumps(project._fingerprint(project.inputs_digest()))
        )

    def declare(self, name: str = "nps", /, **changes: Any) -> None:
        """Change keys of a table's ingest block; None removes one."""
        manifest = json.loads(self.manifest_file.read_text())
        meta = manifest["sources"][f"source.millrace.mysql.{name}"]["meta"]
        block = {**meta["ingest"], **changes}
        kept = {key: value for key, value in block.items() if value is not None}
        self.change_manifest({"meta": {"ingest": kept}}, name)

    def warehouse(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, raw and ledger."""
        if not self.warehouse_file.exists():
            return {}
        with duckdb.connect(str(self.warehouse_file)) as connection:
            tables = connection.execute(
                "SELECT table_schema || '.' || table_name FROM information_schema.tables"
            ).fetchall()
            return {
                name: connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()
                for (name,) in tables
            }

    def raw(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.warehouse_file)) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def workspace(
    parsed_project: Path,
    mysql: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Workspace:
    """A workspace of a test's own, in which nothing is loaded yet."""
    root = tmp_path / "workspace"
    shutil.copytree(parsed_project, root)
    for statement in TABLES.split(";"):
        mysql.execute(statement)
    mysql.insert("nps", NPS)
    mysql.insert("users", USERS)
    for variable in CLEARED:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MYSQL_PROD", mysql.uri)
    monkeypatch.setenv("LANDING_URL", (root / "landing").as_uri())
    monkeypatch.setenv("DUCKDB_PATH", str(root / "millrace.duckdb"))
    monkeypatch.setenv("MILLRACE_PII_SALT", os.urandom(8).hex())
    monkeypatch.chdir(root)
    made = Workspace(root, mysql, monkeypatch, capsys)
    made.take_manifest()
    return made


@pytest.fixture
def workbook(google_sheets: GoogleSheetsServer) -> Iterator[Workbook]:
    """A test's own spreadsheet, shared for editing, with one blank tab."""
    opened = Workbook(google_sheets)
    yield opened
    opened.admin.clear_faults()


REDSHIFT_SETTINGS = ("host", "port", "database", "user", "password")


@pytest.fixture
def redshift_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A schema of its own on the stand-in, or on the cluster that REDSHIFT_TEST_* name."""
    from dbt.adapters.redshift.connections import RedshiftCredentials, UserSSLMode

    from millrace.warehouses.redshift.warehouse import RedshiftWarehouse

    real = os.environ.get("REDSHIFT_TEST_HOST")
    if real:
        server: dict[str, Any] = {
            name: os.environ[f"REDSHIFT_TEST_{name.upper()}"] for name in REDSHIFT_SETTINGS
        }
        role = os.environ["REDSHIFT_TEST_IAM_ROLE"]
        landing = Landing(os.environ["REDSHIFT_TEST_LANDING_URL"])
        sslmode = UserSSLMode.verify_ca
    else:
        endpoint = request.getfixturevalue("redshift").endpoint
        server = {name: getattr(endpoint, name) for name in REDSHIFT_SETTINGS}
        role, sslmode = endpoint.iam_role, UserSSLMode.disable
        s3 = request.getfixturevalue("s3_server").endpoint
        landing = Landing(
            f"s3://{request.getfixturevalue('bucket')}",
            Connection(conn_id="aws_landing", **s3.airflow_connection()),
        )
    credentials = RedshiftCredentials(
        **{**server, "port": int(server["port"])},
        schema="analytics",
        method="database",
        sslmode=sslmode,
    )
    table = replace(declared(), schema=f"millrace_test_{uuid4().hex[:12]}")
    place = Place(RedshiftWarehouse(credentials, role), landing, table)
    yield place
    place.query(f"DROP SCHEMA IF EXISTS {quote(table.schema)} CASCADE")


@pytest.fixture
def bigquery_place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A dataset of its own on the emulator, or in the project that BIGQUERY_TEST_PROJECT names.

    On the emulator the landing is a bucket, whose parts are loaded by their addresses.
    """
    from dbt.adapters.bigquery.credentials import BigQueryConnectionMethod, BigQueryCredentials

    from millrace.warehouses.bigquery.warehouse import BigQueryWarehouse

    given: dict[str, Any] = {
        "database": os.environ.get("BIGQUERY_TEST_PROJECT"),
        "location": os.environ.get("BIGQUERY_TEST_LOCATION", "US"),
        "method": BigQueryConnectionMethod.OAUTH,
    }
    landing = Landing(os.environ.get("BIGQUERY_TEST_LANDING_URL") or f"file://{tmp_path}/landing")
    if not given["database"]:
        bucket = request.getfixturevalue("google_bucket")
        landing = Landing(f"{bucket.url}/some/prefix", bucket.connection())
        endpoint = request.getfixturevalue("bigquery").endpoint
        given = {
            "database": endpoint.project,
            "location": endpoint.location,
            "method": BigQueryConnectionMethod.OAUTH_SECRETS,
            "api_endpoint": endpoint.url,
            "token": "emulator",
        }
    schema = f"millrace_test_{uuid4().hex[:12]}"
    warehouse = BigQueryWarehouse(
        BigQueryCredentials(**given, execution_project=given["database"], schema=schema)
    )
    for retried in ("load", "reload"):
        # What the emulator stumbles over, it stumbles over again.
        once = f"millrace.warehouses.bigquery.warehouse.BigQueryWarehouse.{retried}.retry.stop"
        monkeypatch.setattr(once, stop_after_attempt(1))
    place = BigQueryPlace(warehouse, landing, replace(declared(), schema=schema))
    with warehouse._session() as session:
        session.make_dataset(schema)
        yield place
        session.client.delete_dataset(schema, delete_contents=True)


class BigQueryPlace(Place):
    """A place whose catalog is asked through the API."""

    def relations(self) -> set[str]:
        """The names of the tables and views in the raw table's dataset."""
        with self.warehouse._session() as session:
            client = cast("BigQuerySession", session).client
            return {found.table_id for found in client.list_tables(self.table.schema)}
