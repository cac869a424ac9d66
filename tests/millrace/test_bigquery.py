"""What is refused before anything is sent to BigQuery, and the SQL that is sent: no server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
import requests
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    InternalServerError,
    NotFound,
    RetryError,
    Unauthorized,
)
from google.auth.exceptions import RefreshError
from pydantic import ValidationError

from millrace.catalog import IngestTable
from millrace.errors import (
    DeclarationError,
    MillraceError,
    SchemaConflict,
    WarehouseBusy,
    WarehouseError,
    WarehouseRefused,
    WarehouseUnavailable,
)
from millrace.testing import declared
from millrace.warehouses.bigquery import statements as sql
from millrace.warehouses.bigquery.dialect import arrow_type, literal, quote, sql_type
from millrace.warehouses.bigquery.errors import explained
from millrace.warehouses.bigquery.options import BigQueryOptions
from millrace.warehouses.bigquery.refusals import (
    MOST_PARTITIONS_A_JOB,
    refuse_partitions,
    refuse_unfit,
)
from millrace.warehouses.bigquery.session import BigQuerySession, refuse_location
from millrace.warehouses.bigquery.warehouse import with_used_places

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("at", pa.timestamp("us")),
        ("day", pa.date32()),
        ("note", pa.string()),
        ("ratio", pa.float64()),
    ]
)


def table(**options: Any) -> IngestTable:
    """The table with a block ``bigquery``."""
    block = BigQueryOptions.model_validate(options)
    return replace(declared(), of_warehouse={"bigquery": block})


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("größe", "letters, digits"),
        ("a b", "letters, digits"),
        ("1st", "does not begin with a digit"),
        ("a-b", "letters, digits"),
        ("x" * 301, "300 characters"),
        *((f"{prefix}x", "its own") for prefix in ("_TABLE_", "_file_", "_PARTITION", "__ROOT__")),
        ("_Change_Type", "its own"),
    ],
)
def test_a_column_that_cannot_be_one_of_bigquery_is_refused(name: str, why: str) -> None:
    with pytest.raises(SchemaConflict, match=why):
        refuse_unfit(declared(), pa.schema([(name, pa.int64())]))


def test_as_many_columns_as_bigquery_has_beside_our_own_are_taken() -> None:
    columns = [(f"c{number}", pa.int64()) for number in range(9_999)]
    refuse_unfit(declared(), pa.schema(columns[:9_998]))
    with pytest.raises(SchemaConflict, match="10,000"):
        refuse_unfit(declared(), pa.schema(columns))


@pytest.mark.parametrize(
    ("schema", "identifier"),
    [("raw-mysql", "nps"), ("x" * 1_025, "nps"), ("raw_mysql", "a.b"), ("raw_mysql", "")],
)
def test_a_name_of_no_dataset_or_table_is_refused(schema: str, identifier: str) -> None:
    with pytest.raises(DeclarationError, match=r"_mysql__sources\.yml"):
        refuse_unfit(replace(declared(), schema=schema, identifier=identifier), SCHEMA)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"partition_by": "gone"}, "gone, which the batch does not have"),
        ({"partition_by": "note"}, "which is no time"),
        ({"cluster_by": ["ratio"]}, "does not cluster"),
        ({"cluster_by": ["gone"]}, "which the batch does not have"),
        ({"json": ["id"]}, "which is no text"),
    ],
)
def test_options_that_do_not_fit_the_columns_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        refuse_unfit(table(**options), SCHEMA)


@pytest.mark.parametrize(
    "options",
    [
        {"cluster_by": ["a", "b", "c", "d", "e"]},
        {"labels": {"Team": "x"}},
        {"labels": {"1team": "x"}},
        {"labels": {"team": "x" * 64}},
        {"partitions": "day"},
    ],
)
def test_options_that_bigquery_does_not_have_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BigQueryOptions.model_validate(options)


def test_a_batch_of_more_days_than_a_job_may_write_is_refused() -> None:
    refuse_partitions(table(partition_by="day"), MOST_PARTITIONS_A_JOB)
    with pytest.raises(SchemaConflict, match="4,001 days of day"):
        refuse_partitions(table(partition_by="day"), MOST_PARTITIONS_A_JOB + 1)


def test_a_dataset_in_another_location_is_refused() -> None:
    refuse_location("raw_mysql", "EU", "eu")
    refuse_location("raw_mysql", "EU", None)
    with pytest.raises(WarehouseRefused, match=r"raw_mysql is in EU, .* location is US"):
        refuse_location("raw_mysql", "EU", "US")


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (pa.decimal128(20, 0), "NUMERIC(20,0)"),
        (pa.decimal128(38, 9), "NUMERIC(38,9)"),
        (pa.decimal128(38, 10), "BIGNUMERIC(38,10)"),
        (pa.decimal128(30, 0), "BIGNUMERIC(30,0)"),
        (pa.decimal128(38, 38), "BIGNUMERIC(38,38)"),
        (pa.timestamp("us"), "DATETIME"),
        (pa.timestamp("us", "UTC"), "TIMESTAMP"),
    ],
)
def test_a_type_has_its_place_within_bigquerys_bounds(type_: pa.DataType, name: str) -> None:
    assert sql_type(type_) == name


def test_a_decimal_without_parameters_is_read_with_bigquerys_own() -> None:
    assert arrow_type("NUMERIC", None, None) == pa.decimal128(38, 9)
    assert arrow_type("NUMERIC", 10, None) == pa.decimal128(10, 0)
    assert arrow_type("GEOGRAPHY", None, None) is None


def test_no_text_ends_its_literal() -> None:
    assert literal("mysql.nps") == "'mysql.nps'"
    for text in ("it's", "a\\", "line\nbreak", "`", '"', "좋아요"):
        hexadecimal = text.encode().hex()
        assert literal(text) == f"SAFE_CONVERT_BYTES_TO_STRING(FROM_HEX('{hexadecimal}'))"
    assert quote("a`b\\") == "`a\\`b\\\\`"


def test_values_of_other_types_are_written_exactly() -> None:
    moment = datetime(2026, 10, 1, 2, tzinfo=UTC) + timedelta(microseconds=4)
    assert literal(moment) == "TIMESTAMP '2026-10-01 02:00:00.000004+00:00'"
    assert literal(moment.replace(tzinfo=None)) == "DATETIME '2026-10-01 02:00:00.000004'"
    assert [literal(value) for value in (None, True, False, -7)] == ["NULL", "TRUE", "FALSE", "-7"]


def test_a_raw_table_is_partitioned_by_its_loads_and_clustered_by_its_key() -> None:
    made = sql.create_raw(declared(), SCHEMA)
    assert made.endswith("PARTITION BY TIMESTAMP_TRUNC(_loaded_at, DAY) CLUSTER BY `id`")


def test_a_raw_table_is_kept_as_declared() -> None:
    key = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"
    made = sql.create_raw(
        table(
            partition_by="at",
            cluster_by=["note", "id"],
            require_partition_filter=True,
            labels={"team": "data"},
            kms_key=key,
            json=["note"],
        ),
        SCHEMA,
    )
    assert "`note` JSON" in made
    assert made.endswith(
        "PARTITION BY DATETIME_TRUNC(`at`, DAY) CLUSTER BY `note`, `id` "
        "OPTIONS(require_partition_filter = TRUE, labels = [('team', 'data')], "
        f"kms_key_name = '{key}')"
    )
    assert "PARTITION BY `day`" in sql.create_raw(table(partition_by="day"), SCHEMA)


def test_only_a_decimal_is_widened_in_place() -> None:
    assert sql.is_in_place(pa.decimal128(10, 2), pa.decimal128(12, 3))
    assert not sql.is_in_place(pa.decimal128(10, 2), pa.decimal128(10, 3))
    assert not sql.is_in_place(pa.decimal128(20, 0), pa.decimal128(38, 0))
    assert not sql.is_in_place(pa.int64(), pa.decimal128(20, 0))
    assert sql.is_same_column(pa.int16(), pa.int64())


def _refusal(reason: str, message: str = "no", of: type[Any] = Forbidden) -> Exception:
    return of(message, errors=[{"reason": reason, "message": message}])


DENIED = "Access Denied: BigQuery BigQuery: m@p does not have storage.objects.get access to gs://b"
ELSEWHERE = "Cannot read and write in different locations: source: EU, destination: US"


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (_refusal("accessDenied", DENIED), WarehouseRefused),
        (_refusal("invalid", ELSEWHERE, BadRequest), WarehouseRefused),
        (BadRequest("Transaction is aborted due to concurrent update against t."), WarehouseBusy),
        (_refusal("rateLimitExceeded"), WarehouseBusy),
        (_refusal("backendError", of=InternalServerError), WarehouseBusy),
        (Conflict("Already Exists: Table p:d.t"), WarehouseBusy),
        (RetryError("Timeout of 120s exceeded", _refusal("rateLimitExceeded")), WarehouseBusy),
        (RetryError("Timeout of 120s exceeded", OSError()), WarehouseUnavailable),
        (_refusal("quotaExceeded"), WarehouseUnavailable),
        (_refusal("accessDenied"), WarehouseRefused),
        (Unauthorized("no"), WarehouseRefused),
        (RefreshError("invalid_grant"), WarehouseRefused),
        (_refusal("bytesBilledLimitExceeded", of=BadRequest), WarehouseError),
        (NotFound("Dataset p:d"), WarehouseError),
        (BadRequest("Syntax error"), WarehouseError),
    ],
)
def test_an_error_of_google_is_one_of_ours_that_says_what_to_do(
    error: Exception, ours: type[MillraceError]
) -> None:
    with pytest.raises(ours) as caught, explained("my-project"):
        raise error
    assert type(caught.value) is ours
    assert caught.value.fix


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (_refusal("accessDenied", DENIED), "deploy/bigquery/grant … gs://BUCKET"),
        (_refusal("invalid", ELSEWHERE, BadRequest), "a bucket in the target's `location`"),
    ],
)
def test_a_landing_that_bigquery_may_not_read_is_told_from_a_dataset(
    error: Exception, fix: str
) -> None:
    with pytest.raises(WarehouseRefused, match="the landing") as refused, explained("p"):
        raise error
    assert fix in refused.value.fix


class LosesAnswers:
    """A client whose first answers are lost, though Google has begun the job.

    The emulator forgets the ids of jobs, so it cannot show this.
    """

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.begun: list[str] = []

    def load_table_from_file(self, file: Any, target: str, job_id: str, **_: Any) -> Any:
        if job_id in self.begun:
            raise Conflict("Already Exists: Job")
        self.begun.append(job_id)
        if self.lost:
            self.lost -= 1
            raise requests.ConnectionError("reset")
        return self.get_job(job_id)

    def get_job(self, job_id: str, **_: Any) -> Any:
        if job_id not in self.begun:
            raise NotFound(job_id)
        return SimpleNamespace(job_id=job_id, output_rows=3, result=lambda **_: None)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_answer_does_not_load_twice(tmp_path: Path, lost: int) -> None:
    part = tmp_path / "part.parquet"
    part.write_bytes(b"PAR1")
    client = LosesAnswers(lost)
    limits = SimpleNamespace(job_execution_timeout_seconds=None)
    session = BigQuerySession(cast("Any", client), limits, {})
    assert session.upload(part, "raw_mysql.staged", "millrace_1") == 3
    # The next attempt of a whole load asks for the same job.
    assert session.upload(part, "raw_mysql.staged", "millrace_1") == 3
    assert client.begun == ["millrace_1"]


def test_decimals_without_a_declared_scale_have_the_places_that_they_use() -> None:
    numeric = pa.decimal128(38, 9)
    rows = pa.table(
        {
            "nps": pa.array([Decimal("25.540000000"), Decimal(0), None], numeric),
            "whole": pa.array([Decimal(1000), None, None], numeric),
            "declared": pa.array([Decimal("1.5"), None, None], pa.decimal128(7, 2)),
            "empty": pa.array([None, None, None], numeric),
        }
    )
    shown = with_used_places(rows, {"nps", "whole", "empty"})
    assert shown.to_pylist() == rows.to_pylist()
    scales = {field.name: field.type.scale for field in shown.schema}
    assert scales == {"nps": 2, "whole": 0, "declared": 2, "empty": 0}
