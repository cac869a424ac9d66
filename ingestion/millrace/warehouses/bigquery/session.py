"""A client of BigQuery: jobs with ids that tell a lost answer from a lost request."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow as pa
import requests
from google.api_core.exceptions import Conflict, NotFound, ServerError
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_RETRY

from millrace.errors import WarehouseRefused

log = logging.getLogger(__name__)

Job = TypeVar("Job", bound=Any)

_RETRY_SECONDS = 120
_REQUEST_SECONDS = 60
_UPLOADS = 3
_RETRY = DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)
_ASKED: dict[str, Any] = {"retry": _RETRY, "timeout": _REQUEST_SECONDS}
_PARAMETER_TYPES = {bool: "BOOL", int: "INT64", str: "STRING", datetime: "TIMESTAMP"}


class BigQuerySession:
    """What one load or one question does.

    Args:
        client: dbt-bigquery's client of the target.
        credentials: The target's credentials.
        labels: Labels of every job, by which its cost can be found.

    Attributes:
        bytes_billed: How much Google has billed of what its statements read.
    """

    def __init__(
        self, client: bigquery.Client, credentials: Any, labels: Mapping[str, str]
    ) -> None:
        self.client = client
        self._credentials = credentials
        self._labels = dict(labels)
        self.bytes_billed = 0
        self._seconds: int | None = credentials.job_execution_timeout_seconds

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; see ``Session.run``."""
        config = self._query_config([_parameter(value) for value in parameters])
        job_id = _job_id()
        job = self._once(
            job_id,
            lambda: self.client.query(statement, config, job_id=job_id, job_retry=None, **_ASKED),
        )
        rows = job.result(timeout=self._seconds, retry=_RETRY)
        self.bytes_billed += int(job.total_bytes_billed or 0)
        return [tuple(row.values()) for row in rows]

    def estimate(self, statement: str, location: str) -> int:
        """How many bytes a statement would read in a location; it is not run."""
        config = bigquery.QueryJobConfig(dry_run=True, labels=self._labels)
        job = self.client.query(statement, config, location=location, job_retry=None, **_ASKED)
        return int(job.total_bytes_processed or 0)

    def transaction(self, statements: Sequence[str], first: Sequence[str] = ()) -> None:
        """Run statements as one job and one transaction: all of them, or none.

        Args:
            statements: The transaction.
            first: What comes before it in the same job, because no transaction holds it.
        """
        script = [*first, "BEGIN TRANSACTION", *statements, "COMMIT TRANSACTION"]
        self.run("".join(f"{statement};\n" for statement in script))

    def table(
        self, query: str, parameters: Sequence[Any], types: Mapping[str, pa.DataType]
    ) -> pa.Table:
        """The rows of a query; see ``Session.table``."""
        rows = self.run(query, parameters)
        values: Any = zip(*rows, strict=True) if rows else ([] for _ in types)
        return pa.table(
            {
                name: pa.array([_plain(value, type_) for value in column], type_)
                for (name, type_), column in zip(types.items(), values, strict=True)
            }
        )

    def upload(self, path: Path, target: str, job_id: str) -> int:
        """Append a Parquet file to a table, in a resumable upload.

        Args:
            path: The file.
            target: ``<dataset>.<table>``.
            job_id: The id of this part's load, the same in each attempt.

        Returns:
            How many rows it has brought.
        """
        for attempt in range(_UPLOADS):
            if attempt and (known := self._find(job_id)):
                break
            try:
                with path.open("rb") as file:
                    # Without a size the upload is resumable.
                    known = self._once(
                        job_id,
                        lambda file=file: self.client.load_table_from_file(  # type: ignore[misc]
                            file,
                            target,
                            rewind=True,
                            job_id=job_id,
                            job_config=self._load_config(),
                            timeout=_REQUEST_SECONDS,
                        ),
                    )
                break
            except (requests.ConnectionError, requests.Timeout, ServerError):
                # The answer may have been lost, not the request: the job's id tells.
                if attempt + 1 == _UPLOADS:
                    raise
        return self._loaded(known)

    def load(self, urls: Sequence[str], target: str, job_id: str) -> int:
        """Append Parquet files of Cloud Storage to a table; see ``upload``."""
        job = self._once(
            job_id,
            lambda: self.client.load_table_from_uri(
                list(urls), target, job_id=job_id, job_config=self._load_config(), **_ASKED
            ),
        )
        return self._loaded(job)

    def describe(self, schema: str, identifier: str) -> bigquery.Table | None:
        """A table or view; None if there is none."""
        try:
            return self.client.get_table(f"{schema}.{identifier}", **_ASKED)
        except NotFound:
            return None

    def describe_columns(self, name: str, columns: Mapping[str, bigquery.SchemaField]) -> None:
        """Describe columns of a table, by their names; others stay as they are."""
        table = self.client.get_table(name, **_ASKED)
        there = {field.name for field in table.schema}
        table.schema = [
            *(_described(field, columns.get(field.name)) for field in table.schema),
            # BigQuery itself has them all; the emulator forgets those that were just added.
            *(field for name, field in columns.items() if name not in there),
        ]
        self.client.update_table(table, ["schema"], **_ASKED)

    def make_dataset(self, schema: str) -> None:
        """Make a dataset where the target says, unless it is there.

        Raises:
            WarehouseRefused: it is somewhere else.
        """
        try:
            found = self.client.get_dataset(schema, **_ASKED)
        except NotFound:
            wanted = bigquery.Dataset(f"{self.client.project}.{schema}")
            wanted.location = self._credentials.location
            found = self.client.create_dataset(wanted, exists_ok=True, **_ASKED)
        refuse_location(schema, found.location, self._credentials.location)

    def drop(self, schema: str, identifier: str) -> None:
        """Drop a table, if it is there."""
        self.client.delete_table(f"{schema}.{identifier}", not_found_ok=True, **_ASKED)

    def _loaded(self, job: Any) -> int:
        job.result(timeout=self._seconds, retry=_RETRY)
        rows = int(job.output_rows or 0)
        log.info("%s: %s rows loaded, free of charge", job.job_id, f"{rows:,}")
        return rows

    def _once(self, job_id: str, begin: Callable[[], Job]) -> Job | Any:
        """Begin a job, unless an earlier request, whose answer was lost, has."""
        try:
            return begin()
        except Conflict:
            if (found := self._find(job_id)) is None:
                raise
            return found

    def _find(self, job_id: str) -> Any | None:
        try:
            return self.client.get_job(job_id, **_ASKED)
        except NotFound:
            return None

    def _query_config(self, parameters: Sequence[Any]) -> bigquery.QueryJobConfig:
        config = bigquery.QueryJobConfig(query_parameters=parameters, labels=self._labels)
        if self._credentials.maximum_bytes_billed:
            config.maximum_bytes_billed = self._credentials.maximum_bytes_billed
        if self._credentials.priority:
            config.priority = str(self._credentials.priority).rpartition(".")[2].upper()
        if self._seconds:
            config.job_timeout_ms = self._seconds * 1000
        return config

    def _load_config(self) -> bigquery.LoadJobConfig:
        return bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            decimal_target_types=["NUMERIC", "BIGNUMERIC"],
            labels=self._labels,
        )


def refuse_location(schema: str, found: str, wanted: str | None) -> None:
    """Refuse a dataset that no job of the target's location sees.

    https://cloud.google.com/bigquery/docs/locations#specify_locations

    Raises:
        WarehouseRefused: it is somewhere else.
    """
    if wanted and found.lower() != wanted.lower():
        raise WarehouseRefused(
            f"The dataset {schema} is in {found}, and the dbt target's location is {wanted}.",
            fix="Correct `location` in profiles.yml. Or, if the dataset can go, delete it: it is "
            "made again in the right place.",
        )


def _described(
    field: bigquery.SchemaField, said: bigquery.SchemaField | None
) -> bigquery.SchemaField:
    """A column with another's description."""
    if said is None:
        return field
    return bigquery.SchemaField.from_api_repr(
        field.to_api_repr() | {"description": said.description}
    )


def _job_id() -> str:
    return f"millrace_{uuid4().hex}"


def _parameter(value: Any) -> bigquery.ScalarQueryParameter:
    type_ = _PARAMETER_TYPES.get(type(value), "STRING")
    if isinstance(value, datetime) and value.tzinfo is None:
        type_ = "DATETIME"
    return bigquery.ScalarQueryParameter(None, type_, value)


def _plain(value: Any, type_: pa.DataType) -> Any:
    """A value as Arrow takes it: Google's library parses JSON, which is text everywhere else."""
    is_parsed = pa.types.is_string(type_) and value is not None and not isinstance(value, str)
    return json.dumps(value) if is_parsed else value
