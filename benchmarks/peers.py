"""The ways to bring a MySQL table to Parquet on S3 that are compared."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlencode

from benchmarks import REPOSITORY
from benchmarks.declared import SOURCE, declare
from benchmarks.environments import pinned_versions, python_of
from benchmarks.measure import Usage, run
from benchmarks.workspace import BUCKET, BenchmarkError, Services, Workspace, clean_environment

FLOOR = "C client, discarding"
FLOOR_BINARY = "C client, binary protocol"
MILLRACE = "Millrace, 1 connection"
HASHING_TEXT = f"{MILLRACE}, a text hashed"
HASHING_NUMBER = f"{MILLRACE}, a number hashed"
SALT = "a long random text"

METHODS = Path(__file__).with_name("methods")
_NAMED = (
    *("connectorx", "dlt", "ingestr", "apache-airflow-providers-amazon"),
    *("apache-airflow-providers-mysql", "pandas"),
)


@dataclass(frozen=True)
class Peer:
    """One of these ways: a tool, and how it is used.

    Attributes:
        name: Its name in the table of results.
        script: The script in ``benchmarks/methods``; without a suffix, the program in its
            environment.
        environment: Its virtual environment; None means the project's.
        argument: The script's command line argument, besides the job.
        partitions: For Millrace: how many connections read the table; None means as many as it
            chooses.
        hashed: Which column it hashes, if any.
        writes: Whether it writes something that can be compared.
    """

    name: str
    script: str
    environment: str | None = None
    argument: str | None = None
    partitions: int | None = None
    hashed: str | None = None
    writes: bool = True

    @property
    def slug(self) -> str:
        """Its name as a part of a path."""
        return re.sub(r"\W+", "_", self.name).lower()

    @property
    def is_millrace(self) -> bool:
        """Whether it is Millrace."""
        return self.script == "extract_millrace.py"


PEERS = (
    Peer(FLOOR, "floor.c", argument="text", writes=False),
    Peer(FLOOR_BINARY, "floor.c", argument="binary", writes=False),
    Peer("Millrace", "extract_millrace.py"),
    Peer(MILLRACE, "extract_millrace.py", partitions=1),
    Peer(HASHING_TEXT, "extract_millrace.py", partitions=1, hashed="comment"),
    Peer(HASHING_NUMBER, "extract_millrace.py", partitions=1, hashed="user_id"),
    Peer("Millrace, 2 connections", "extract_millrace.py", partitions=2),
    Peer("Millrace, 4 connections", "extract_millrace.py", partitions=4),
    Peer("connectorx, arrow_stream", "connectorx_stream.py", "connectorx"),
    Peer("connectorx", "connectorx_whole.py", "connectorx"),
    Peer("dlt, connectorx backend", "dlt_sql_database.py", "dlt", argument="connectorx"),
    Peer("dlt, pyarrow backend", "dlt_sql_database.py", "dlt", argument="pyarrow"),
    Peer("ingestr", "ingestr", "ingestr"),
    Peer("SqlToS3Operator", "sql_to_s3.py", "sql_to_s3"),
    Peer("pandas", "pandas_whole.py", "pandas"),
    Peer("pandas, in chunks", "pandas_chunked.py", "pandas"),
)
BY_NAME = {peer.name: peer for peer in PEERS}


def versions(services: Services) -> str:
    """The versions of what Millrace is compared with, and of the server."""
    pinned = pinned_versions()
    named = ", ".join(f"{name} {pinned[name]}" for name in _NAMED)
    return f"{services.mysql_version}; {named}"


def prepare(workspace: Workspace, peer: Peer, table: str) -> None:
    """Make what a peer needs, which is not measured: its environment, program or project."""
    if peer.environment:
        python_of(workspace, peer.environment)
    elif peer.is_millrace:
        declare(workspace, table)
    else:
        _floor(workspace)


def extract(
    workspace: Workspace,
    services: Services,
    peer: Peer,
    table: str,
    *,
    prefix: str,
    folder: Path,
    under: Sequence[str | Path] = (),
) -> Usage:
    """Let a peer read a table, in a fresh process.

    Args:
        workspace: The folders of the benchmarks.
        services: The services that it reads from and writes to.
        peer: The peer.
        table: The table in the database ``prod``.
        prefix: The prefix in the bucket that it writes to.
        folder: Its working directory, empty.
        under: A program that the peer's command is run under, and its arguments.

    Raises:
        BenchmarkError: it failed.
    """
    job = services.job(table, prefix)
    environment = clean_environment() | {f"BENCH_{key.upper()}": str(job[key]) for key in job}
    if peer.is_millrace:
        project = declare(workspace, table)
        environment |= services.environment()
        environment |= project.environment(peer.partitions, peer.hashed)
        environment |= {"LANDING_URL": f"s3://{BUCKET}/{prefix}", "MILLRACE_PII_SALT": SALT}
    elif peer.environment == "sql_to_s3":
        environment |= _airflow_environment(services, job, folder)
    elif peer.environment == "ingestr":
        environment |= _ingestr_environment(job)
    return run(
        [*under, *_command(workspace, peer, job)],
        environment=environment,
        folder=folder,
        services=services.pids,
    )


def run_declared(
    services: Services,
    project: Path,
    name: str,
    script: str,
    more: Mapping[str, str] | None = None,
    *,
    under: Sequence[str | Path] = (),
) -> Usage:
    """Run a method on a table that a project declares, in a fresh process.

    Args:
        services: The services that it uses.
        project: The folder with the ``dbt_project``.
        name: The table's name in dbt.
        script: The script in ``benchmarks/methods``.
        more: Further environment variables.
        under: A program that it is run under, and its arguments.

    Raises:
        BenchmarkError: it failed.
    """
    job = services.job(name, f"declared/{name}")
    environment = {
        **clean_environment(),
        **{f"BENCH_{key.upper()}": str(value) for key, value in job.items()},
        **services.environment(),
        "BENCH_DECLARED": f"{SOURCE}.{name}",
        "DBT_PROJECT_DIR": str(project / "dbt_project"),
        "DBT_PROFILES_DIR": str(REPOSITORY),
        "DUCKDB_PATH": str(project / "warehouse.duckdb"),
        "LANDING_URL": f"s3://{BUCKET}/declared",
        **(more or {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        return run(
            [*under, sys.executable, METHODS / script],
            environment=environment,
            folder=Path(folder),
            services=services.pids,
        )


def _command(
    workspace: Workspace, peer: Peer, job: Mapping[str, str | int]
) -> Sequence[str | Path]:
    if peer.script == "floor.c":
        return [_floor(workspace), str(peer.argument)]
    if peer.script == "ingestr":
        return [
            *(python_of(workspace, "ingestr").with_name("ingestr"), "ingest"),
            *("--yes", "--progress", "log"),
            *("--source-table", f"{job['database']}.{job['table']}"),
            *("--dest-table", f"{job['bucket']}/{job['prefix']}"),
        ]
    python = python_of(workspace, peer.environment) if peer.environment else Path(sys.executable)
    return [python, METHODS / peer.script, *([peer.argument] if peer.argument else [])]


def _ingestr_environment(job: Mapping[str, str | int]) -> dict[str, str]:
    account = f"{quote(str(job['user']), safe='')}:{quote(str(job['password']), safe='')}"
    s3 = urlencode(
        {
            "access_key_id": job["access_key_id"],
            "secret_access_key": job["secret_access_key"],
            "endpoint_url": job["endpoint_url"],
            "region": job["region"],
        }
    )
    return {
        "SOURCE_URI": f"mysql://{account}@{job['host']}:{job['port']}/{job['database']}",
        "DESTINATION_URI": f"s3://?{s3}",
    }


def _airflow_environment(
    services: Services, job: Mapping[str, str | int], folder: Path
) -> dict[str, str]:
    mysql = {
        "conn_type": "mysql",
        "host": job["host"],
        "port": job["port"],
        "login": job["user"],
        "password": job["password"],
        "schema": job["database"],
        "extra": {"charset": "utf8mb4"},
    }
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONN_BENCH_MYSQL": json.dumps(mysql),
        "AIRFLOW_CONN_BENCH_S3": json.dumps(services.s3.endpoint.airflow_connection()),
    }


@cache
def _floor(workspace: Workspace) -> Path:
    program = workspace.scratch / "floor"
    flags = subprocess.run(
        ["mariadb_config", "--cflags", "--libs"], capture_output=True, text=True, check=True
    ).stdout.split()
    done = subprocess.run(
        ["gcc", "-O2", "-o", str(program), str(METHODS / "floor.c"), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"gcc cannot compile the floor:\n{done.stderr}")
    return program
