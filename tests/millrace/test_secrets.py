"""No secret is in anything that a run leaves: every secret is a canary, looked for everywhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from millrace.batch import Batch
from millrace.dbt.project import Project
from millrace.errors import MillraceError, ProjectError
from millrace.landing.landing import Landing
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.warehouses.base import open_warehouse
from millrace_sandbox.mariadb import MariaDB
from redshift_standin import RedshiftServer, S3Endpoint
from redshift_standin.ports import free_port
from sheets_standin import GoogleSheetsServer
from tests.canaries import (
    BUCKET,
    FILES,
    SHEET,
    Canary,
    found_below,
    found_in,
    make_sheet,
    mysql_opened_by,
    s3_opened_by,
    watched_processes,
)
from tests.commands import BIN, run
from tests.e2e.small_project import write_project

pytestmark = pytest.mark.service

# Redshift takes no quotes, slashes, @, blanks and line breaks in a password.
REDSHIFT_SIGNS = "%:#&{{x}}$;%41"

# What `millrace` does, with every library's logger at DEBUG.
LOUDLY = (
    "import logging, sys; logging.basicConfig(level=logging.DEBUG, stream=sys.stderr); "
    "from millrace.cli import main; main()"
)


@dataclass(frozen=True)
class Secrets:
    """Services that only canaries open, and the environment that has these."""

    mysql: Canary
    s3: Canary
    key: Canary
    salt: Canary
    redshift: Canary
    environment: Mapping[str, str]
    endpoint: S3Endpoint

    @property
    def all(self) -> tuple[Canary, ...]:
        return self.mysql, self.s3, self.key, self.salt, self.redshift

    def changed(self, connection: str, **changes: Any) -> dict[str, str]:
        """The variable of a connection with other fields."""
        variable = f"AIRFLOW_CONN_{connection.upper()}"
        fields = json.loads(self.environment[variable])
        fields["extra"] = fields.get("extra", {}) | changes.pop("extra", {})
        return {variable: json.dumps(fields | changes)}


@pytest.fixture(scope="module")
def canary_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Canary, S3Endpoint]]:
    secret = Canary.make("the secret key of S3")
    with s3_opened_by(secret, tmp_path_factory.mktemp("canary-s3")) as endpoint:
        yield secret, endpoint


@pytest.fixture(scope="module")
def canary_mysql(mariadb: MariaDB) -> Iterator[tuple[Canary, dict[str, Any]]]:
    secret = Canary.make("the password of MySQL")
    with mysql_opened_by(secret, mariadb.server) as connection:
        yield secret, connection


@pytest.fixture(scope="module")
def canary_redshift(
    tmp_path_factory: pytest.TempPathFactory, canary_s3: tuple[Canary, S3Endpoint]
) -> Iterator[tuple[Canary, dict[str, str]]]:
    """A stand-in with a user whose password is a canary; its variables."""
    secret = Canary.make("the password of Redshift", REDSHIFT_SIGNS)
    with RedshiftServer(tmp_path_factory.mktemp("canary-redshift"), canary_s3[1]) as server:
        endpoint = server.endpoint
        with closing(endpoint.connect()) as client, closing(client.cursor()) as cursor:
            client.autocommit = True
            cursor.execute(f"CREATE USER canary PASSWORD '{secret.value}' CREATEUSER")
        own = {
            "TARGET": "redshift",
            "REDSHIFT_USER": "canary",
            "DBT_ENV_SECRET_REDSHIFT_PASSWORD": secret.value,
        }
        yield secret, endpoint.environment() | own


@pytest.fixture(scope="module")
def canary_sheet(google_sheets: GoogleSheetsServer) -> tuple[Canary, dict[str, Any]]:
    """A shared spreadsheet, and the connection of the account whose private key is a canary."""
    return make_sheet(google_sheets), google_sheets.airflow_connection()


@pytest.fixture(scope="module")
def opened(
    canary_mysql: tuple[Canary, dict[str, Any]],
    canary_s3: tuple[Canary, S3Endpoint],
    canary_redshift: tuple[Canary, dict[str, str]],
    canary_sheet: tuple[Canary, dict[str, Any]],
) -> Secrets:
    mysql, connection = canary_mysql
    s3, endpoint = canary_s3
    salt = Canary.make("the salt")
    environment = {
        **os.environ,
        "AIRFLOW_CONN_MYSQL_PROD": json.dumps(connection),
        "AIRFLOW_CONN_AWS_LANDING": json.dumps(endpoint.airflow_connection()),
        "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(canary_sheet[1]),
        "LANDING_URL": f"s3://{BUCKET}/raw",
        "MILLRACE_PII_SALT": salt.value,
        "DO_NOT_TRACK": "1",
        **canary_redshift[1],
    }
    return Secrets(mysql, s3, canary_sheet[0], salt, canary_redshift[0], environment, endpoint)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("canaries"), FILES).folder


@dataclass(frozen=True)
class Left:
    """What a whole run left."""

    said: str
    arguments: set[str]
    project: Path
    environment: Mapping[str, str]

    @property
    def target(self) -> str:
        return self.environment["TARGET"]


@pytest.fixture(scope="module", params=["dev", pytest.param("redshift", marks=pytest.mark.nightly)])
def left(
    request: pytest.FixtureRequest,
    opened: Secrets,
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Left:
    """Run everything, at DEBUG, as a person would from a shell."""
    folder = tmp_path_factory.mktemp(f"left-{request.param}")
    environment = {
        **opened.environment,
        "TARGET": request.param,
        "DUCKDB_PATH": str(folder / "warehouse.duckdb"),
        "LANDING_URL": f"s3://{BUCKET}/{request.param}",
    }
    loudly = sys.executable, "-c", LOUDLY
    dbt = BIN / "dbt", "--debug", "--project-dir", str(project), "--profiles-dir", "."
    commands: list[tuple[str | Path, ...]] = [
        (*loudly, "check"),
        (*loudly, "-v", "ingest"),
        (BIN / "dbt", "--debug", "build", *dbt[2:]),
        (BIN / "dbt", "--debug", "docs", "generate", *dbt[2:]),
        (*loudly, "list"),
    ]
    if request.param == "dev":
        # Another warehouse would not publish over its table.
        commands.append((*loudly, "publish"))
    with watched_processes(opened.all) as arguments:
        said = "".join(run(project.parent, environment, *command) for command in commands)
    return Left(said, arguments, project.parent, environment)


def test_the_search_finds_a_canary_however_it_is_spelt(tmp_path: Path) -> None:
    canary = Canary.make("a secret")
    other = Canary.make("another")
    spellings = {
        "plain": canary.value,
        "json": json.dumps(canary.value),
        "repr": repr(canary.value),
        "url": quote(canary.value),
        "sql": canary.value.replace("'", "''"),
        "basic": _base64(f"user:{canary.value}"),
        "authority": _base64(canary.value),
        "shifted": _base64(f"u:{canary.value}"),
        "hex": canary.value.encode().hex(),
    }
    for name, text in spellings.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "wide").write_bytes(canary.value.encode("utf-16"))
    (tmp_path / canary.words[0]).touch()
    found = found_below(tmp_path, [canary, other])
    assert found == {name: {"a secret"} for name in [*spellings, "wide", canary.words[0]]}


def test_the_search_sees_the_arguments_of_processes() -> None:
    canary = Canary.make("a secret")
    waiting = "import sys; sys.stdin.read()"
    with (
        watched_processes([canary]) as arguments,
        subprocess.Popen(
            [sys.executable, "-c", waiting, canary.value], stdin=subprocess.PIPE
        ) as process,
    ):
        while not arguments:
            assert process.poll() is None
        process.communicate()
    assert any(canary.words[0] in found for found in arguments)


def test_nothing_that_a_run_says_at_debug_holds_a_secret(left: Left, opened: Secrets) -> None:
    assert "DEBUG" in left.said
    assert found_in(left.said, opened.all) == set()


def test_no_process_has_a_secret_among_its_arguments(left: Left) -> None:
    assert left.arguments == set()


def test_no_file_of_dbt_holds_a_secret(left: Left, opened: Secrets) -> None:
    files = {file.name for file in left.project.rglob("*") if file.is_file()}
    expected = {"manifest.json", "catalog.json", "index.html", "run_results.json", "dbt.log"}
    assert expected | {"partial_parse.msgpack", "millrace_parsed.json"} <= files
    assert found_below(left.project, opened.all) == {}


def test_nothing_that_is_landed_holds_a_secret(left: Left, opened: Secrets, tmp_path: Path) -> None:
    client = opened.endpoint.client()
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{left.target}/")["Contents"]
    assert {Path(found["Key"]).suffix for found in listed} == {".parquet", ".json"}
    for number, found in enumerate(listed):
        assert found_in(found["Key"], opened.all) == set()
        file = tmp_path / f"{number}{Path(found['Key']).suffix}"
        client.download_file(BUCKET, found["Key"], str(file))
        if file.suffix == ".parquet":
            # The pages are compressed.
            part = pq.ParquetFile(file)
            written = f"{part.metadata.metadata} {part.schema_arrow} {part.read().to_pylist()}"
            file.with_suffix(".txt").write_text(written)
    assert found_below(tmp_path, opened.all) == {}


def test_nothing_in_the_warehouse_holds_a_secret(
    left: Left, opened: Secrets, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = pipeline(project, opened, monkeypatch, **left.environment).warehouse
    with warehouse._session() as session:  # type: ignore[attr-defined]
        tables = session.run(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema "
            "NOT IN ('information_schema', 'pg_catalog')"
        )
        rows = {
            table: session.run('SELECT * FROM "{}"."{}"'.format(*table))
            for table in map(tuple, tables)
            if table[0].startswith(("raw_", "analytics"))
        }
    assert len(rows[("raw_mysql", "_batches")]) == 2
    assert rows[("analytics", "summary")]
    assert found_in(repr(rows), opened.all) == set()
    file = Path(left.environment["DUCKDB_PATH"])
    assert found_below(file.parent, opened.all) == {}


def test_nothing_in_the_sheet_holds_a_secret(
    left: Left, opened: Secrets, google_sheets: GoogleSheetsServer
) -> None:
    if left.target != "dev":
        pytest.skip("published from DuckDB alone")
    shown = google_sheets.admin().tab(SHEET, "summary")
    assert shown.notes
    assert found_in(repr(shown), opened.all) == set()


# What fails

Failure = Callable[[Pipeline], object]


def pipeline(
    project: Path, opened: Secrets, monkeypatch: pytest.MonkeyPatch, **changes: str
) -> Pipeline:
    """A pipeline of the project, in the canaries' environment with some changes."""
    environment = {**opened.environment, **changes}
    for name, value in environment.items():
        # dbt reads profiles.yml with the process's own environment.
        monkeypatch.setenv(name, value)
    return Pipeline.find(Settings.read(environment), project)


def ingest(name: str) -> Failure:
    return lambda carrier: carrier.ingest(carrier.catalog.table(name))


def reload(carrier: Pipeline) -> None:
    """Load a batch that names a part which is not there."""
    table = carrier.catalog.table("mysql.users")
    manifest = carrier.extract(table, Batch(table.key))
    (part,) = manifest.parts
    gone = replace(part, url=part.url.replace("part-", "gone-"))
    carrier.warehouse.load(table, replace(manifest, parts=(gone,)), carrier.landing)


def publish(carrier: Pipeline) -> object:
    (publication,) = carrier.catalog.publications
    return carrier.publish(publication, run="test")


def told(error: BaseException | None) -> str:
    """All that an error could tell: its chain, as printed and as kept, whatever is suppressed."""
    parts = []
    while error is not None:
        parts += [*traceback.format_exception(error, chain=False), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


FAILURES: dict[str, tuple[Failure, Callable[[Secrets], dict[str, str]]]] = {
    "MySQL refuses the password": (
        ingest("mysql.users"),
        lambda secrets: secrets.changed("mysql_prod", password=f"{secrets.mysql.value}x"),
    ),
    "MySQL is down": (
        ingest("mysql.users"),
        lambda secrets: secrets.changed("mysql_prod", port=free_port(0)),
    ),
    "MySQL does not encrypt": (
        ingest("mysql.users"),
        lambda secrets: secrets.changed("mysql_prod", extra={"ssl_mode": "REQUIRED"}),
    ),
    "MySQL has no such database": (
        ingest("mysql.users"),
        lambda secrets: secrets.changed("mysql_prod", schema="nowhere"),
    ),
    "a URI of MySQL is not encoded": (
        ingest("mysql.users"),
        lambda secrets: {
            "AIRFLOW_CONN_MYSQL_PROD": f"mysql://canary:{secrets.mysql.value}@127.0.0.1/canaries"
        },
    ),
    "a connection is no JSON": (
        ingest("mysql.users"),
        lambda secrets: {
            "AIRFLOW_CONN_MYSQL_PROD": secrets.environment["AIRFLOW_CONN_MYSQL_PROD"][:-1]
        },
    ),
    "S3 refuses the key": (
        ingest("mysql.users"),
        lambda secrets: secrets.changed("aws_landing", password=f"{secrets.s3.value}x"),
    ),
    "S3 is down": (
        ingest("mysql.users"),
        lambda secrets: secrets.changed(
            "aws_landing", extra={"endpoint_url": f"http://127.0.0.1:{free_port(0)}"}
        ),
    ),
    "S3 has a password in its address": (
        ingest("mysql.users"),
        lambda secrets: secrets.changed(
            "aws_landing",
            extra={"endpoint_url": f"http://k:{quote(secrets.s3.value)}@127.0.0.1:{free_port(0)}"},
        ),
    ),
    "there is no such bucket": (ingest("mysql.users"), lambda _: {"LANDING_URL": "s3://nowhere"}),
    "the landing has a password in its address": (
        ingest("mysql.users"),
        lambda secrets: {"LANDING_URL": f"s3://key:{secrets.s3.value}@bucket/prefix"},
    ),
    "Google's key is damaged": (
        ingest("sheets.targets"),
        lambda secrets: secrets.changed(
            "google_sheets", extra=_keyfile(secrets, private_key=secrets.key.value[:800])
        ),
    ),
    "Google's key is no JSON": (
        ingest("sheets.targets"),
        lambda secrets: secrets.changed(
            "google_sheets", extra={"keyfile_dict": json.dumps(_key(secrets))[:-1]}
        ),
    ),
    "Google does not know the key's account": (
        ingest("sheets.targets"),
        lambda secrets: secrets.changed(
            "google_sheets", extra=_keyfile(secrets, client_email="nobody@standin.invalid")
        ),
    ),
    "Google gives no token": (
        ingest("sheets.targets"),
        lambda secrets: secrets.changed(
            "google_sheets", extra=_keyfile(secrets, token_uri=f"http://127.0.0.1:{free_port(0)}/t")
        ),
    ),
    "Google is down": (
        publish,
        lambda secrets: secrets.changed(
            "google_sheets", extra={"endpoint_url": f"http://127.0.0.1:{free_port(0)}"}
        ),
    ),
    "Redshift refuses the password": (
        ingest("mysql.nps"),
        lambda secrets: {"DBT_ENV_SECRET_REDSHIFT_PASSWORD": f"{secrets.redshift.value}x"},
    ),
    "Redshift is down": (
        ingest("mysql.nps"),
        lambda _: {"REDSHIFT_PORT": str(free_port(0))},
    ),
    "Redshift does not encrypt": (
        ingest("mysql.nps"),
        lambda _: {"REDSHIFT_SSLMODE": "verify-ca"},
    ),
    "Redshift may not read the landing": (
        ingest("mysql.users"),
        lambda _: {"REDSHIFT_IAM_ROLE": "arn:aws:iam::000000000000:role/nobody"},
    ),
    "Redshift misses a part": (reload, lambda _: {}),
    "the profile is damaged": (
        ingest("mysql.nps"),
        lambda _: {"REDSHIFT_PORT": "no-port"},
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_no_error_holds_a_secret(
    failure: str,
    opened: Secrets,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("millrace.object_store.store._RETRIES", 0)
    monkeypatch.setattr("millrace.google_sheets.client._RETRY", 0)
    act, changes = FAILURES[failure]
    carrier = pipeline(project, opened, monkeypatch, **changes(opened))
    with caplog.at_level("DEBUG"), pytest.raises(MillraceError) as caught:
        act(carrier)
    said = told(caught.value)
    assert type(caught.value).__name__ in said
    assert found_in(said, opened.all) == set()
    assert found_in(caplog.text, opened.all) == set()


def test_no_repr_shows_a_secret(
    opened: Secrets, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = pipeline(project, opened, monkeypatch)
    tables = carrier.catalog.tables
    parts = [
        *(carrier, carrier.settings, carrier.project, carrier.catalog, carrier.landing),
        *(carrier.landing._store, carrier.warehouse, carrier.connection),
        *(carrier.source(table) for table in tables),
        *(carrier.connection(table.options.connection) for table in tables),
        *map(carrier.destination, carrier.catalog.publications),
    ]
    assert found_in(repr(parts), opened.all) == set()
    for part in parts:
        assert found_in(f"{part!s}", opened.all) == set()


def test_a_token_in_the_path_of_duckdb_is_refused(tmp_path: Path) -> None:
    canary = Canary.make("a token", "")
    path = f"md:mine?motherduck_token={canary.value}"
    with pytest.raises(ProjectError, match="motherduck_token") as caught:
        open_warehouse(SimpleNamespace(type="duckdb", path=path), tmp_path, Settings())
    assert found_in(told(caught.value), [canary]) == set()


# File modes


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """New files may be read by everyone on the machine."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_a_landing_folder_that_millrace_makes_is_its_owners_alone(tmp_path: Path) -> None:
    Landing((tmp_path / "above" / "landing").as_uri()).check()
    assert (tmp_path / "above" / "landing").stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("usual_umask")
def test_a_landing_folder_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir(mode=0o750)
    Landing((tmp_path / "landing").as_uri()).check()
    assert (tmp_path / "landing").stat().st_mode & 0o777 == 0o750


@pytest.mark.usefixtures("usual_umask")
def test_what_a_password_could_be_guessed_from_is_its_owners_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Project.find(project)
    monkeypatch.delenv("DBT_ENV_SECRET_REDSHIFT_PASSWORD", raising=False)
    before = found.inputs_digest()
    monkeypatch.setenv("DBT_ENV_SECRET_REDSHIFT_PASSWORD", "1234")
    assert found.inputs_digest() == before
    assert found._fingerprint_path.stat().st_mode & 0o777 == 0o600


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _key(secrets: Secrets) -> dict[str, Any]:
    connection = json.loads(secrets.environment["AIRFLOW_CONN_GOOGLE_SHEETS"])
    key = connection["extra"]["keyfile_dict"]
    return dict(json.loads(key) if isinstance(key, str) else key)


def _keyfile(secrets: Secrets, **changes: str) -> dict[str, Any]:
    return {"keyfile_dict": _key(secrets) | changes}
