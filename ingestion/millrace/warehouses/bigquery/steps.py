"""What a load asks of Google, tried one by one on a table that expires."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from google.auth.transport.requests import Request

from millrace.warehouses.bigquery import statements as sql
from millrace.warehouses.bigquery.dialect import quote
from millrace.warehouses.bigquery.session import BigQuerySession

_ROWS = pa.table({"id": pa.array([1], pa.int64())})
_EXPIRES_AFTER = timedelta(hours=1)
# A location that every project has; a dry run moves no data.
_ANYWHERE = "US"


@dataclass(frozen=True)
class Step:
    """One of the things that a load needs.

    Attributes:
        what: Its name, for a person, with the right that it takes.
        attempt: Raises if it does not work.
    """

    what: str
    attempt: Callable[[], object]


def steps_of_a_load(session: BigQuerySession, credentials: Any) -> Sequence[Step]:
    """What a load needs of the account, the project, the location and the target's dataset.

    Args:
        session: The session.
        credentials: The target's credentials.
    """
    dataset, project = credentials.schema, session.client.project
    location = credentials.location or "the default location"
    name = f"millrace_check_{uuid4().hex[:8]}"
    place = f"{quote(dataset)}.{quote(name)}"
    expires = datetime.now(UTC) + _EXPIRES_AFTER
    return [
        Step(f"account {_account(session)}: Google knows it", lambda: _sign_in(session)),
        Step(
            f"project {project}: it may run jobs (bigquery.jobs.create)",
            lambda: session.estimate("SELECT 1", _ANYWHERE),
        ),
        Step(f"location {location}: jobs run there", lambda: session.run("SELECT 1")),
        Step(
            f"dataset {dataset}: it is there, or can be made (bigquery.datasets.get, .create)",
            lambda: session.make_dataset(dataset),
        ),
        Step(
            f"dataset {dataset}: a table is made (bigquery.tables.create)",
            lambda: session.run(sql.create_staged(place, _ROWS.schema, expires)),
        ),
        Step(
            f"dataset {dataset}: a part is loaded (bigquery.tables.updateData)",
            lambda: _upload(session, f"{dataset}.{name}"),
        ),
        Step(
            f"dataset {dataset}: a transaction changes rows (bigquery.tables.updateData)",
            lambda: session.transaction([f"DELETE FROM {place} WHERE id = 1"]),
        ),
        Step(
            f"dataset {dataset}: rows are read (bigquery.tables.getData)",
            lambda: session.run(f"SELECT id FROM {place}"),
        ),
        Step(
            f"dataset {dataset}: a column is added (bigquery.tables.update)",
            lambda: session.run(f"ALTER TABLE {place} ADD COLUMN note STRING"),
        ),
        Step(
            f"dataset {dataset}: a table is dropped (bigquery.tables.delete)",
            lambda: session.drop(dataset, name),
        ),
    ]


def _account(session: BigQuerySession) -> str:
    """The account's address, where its credentials say it."""
    credentials = session.client._credentials  # noqa: SLF001 its library shows it nowhere else
    return str(getattr(credentials, "service_account_email", None) or "of the target")


def _sign_in(session: BigQuerySession) -> None:
    credentials = session.client._credentials  # noqa: SLF001
    if not credentials.valid:
        credentials.refresh(Request())


def _upload(session: BigQuerySession, target: str) -> None:
    with TemporaryDirectory(prefix="millrace-check-") as folder:
        path = Path(folder, "part.parquet")
        pq.write_table(_ROWS, path)
        session.upload(path, target, f"millrace_{uuid4().hex}")
