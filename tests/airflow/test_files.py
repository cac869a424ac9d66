"""Waiting for a file, as a table of files declares it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from millrace.airflow import AirflowProject
from millrace.airflow.ingest import ingest_dag
from millrace.dbt.project import Project
from redshift_standin.s3 import S3Server
from tests.millrace.deliveries import Partner, declared

PROJECT_DIR = Path(__file__).parents[2] / "dbt_project"
PROJECT = AirflowProject(PROJECT_DIR)
DAY = datetime(2026, 11, 27, tzinfo=UTC)
WAIT = {"file": "orders/{start:%Y-%m-%d}.csv", "at_most": {"count": 2, "period": "hour"}}


@pytest.fixture(scope="module", autouse=True)
def manifest() -> None:
    Project.find(PROJECT_DIR).ensure_manifest()


def context(**moments: datetime) -> dict[str, Any]:
    return {"dag_run": SimpleNamespace(run_after=DAY + timedelta(days=1)), **moments}


DAILY = context(data_interval_start=DAY, data_interval_end=DAY + timedelta(days=1))


def test_a_run_waits_for_the_file_before_it_plans() -> None:
    dag = ingest_dag(PROJECT, declared("partner", wait=WAIT))
    sensor: Any = dag.get_task("wait_for_file")
    assert sensor.downstream_task_ids == {"plan"}
    assert (sensor.deferrable, sensor.timeout) == (True, 7200)
    assert (sensor.aws_conn_id, sensor.bucket_name) == ("partner_s3", "partner")


def test_a_table_that_waits_for_nothing_has_no_such_task() -> None:
    dag = ingest_dag(PROJECT, declared("partner"))
    assert dag.task_ids[0] == "plan"


@pytest.mark.service
def test_it_waits_in_the_triggerer_until_the_file_of_its_interval_is_there(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "aws", **s3_server.endpoint.airflow_connection()}
    monkeypatch.setenv("AIRFLOW_CONN_PARTNER_S3", json.dumps(connection))
    sensor: Any = ingest_dag(PROJECT, declared(bucket, wait=WAIT)).get_task("wait_for_file")
    partner = Partner(s3_server, bucket)
    partner.deliver("orders/2026-11-26.csv", "id\n1\n")
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(DAILY)
    assert deferred.value.trigger.bucket_key == "orders/2026-11-27.csv"
    partner.deliver("orders/2026-11-27.csv", "id\n2\n")
    assert sensor.execute(DAILY) is None
    # A run that a person starts has no interval.
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context())
    assert deferred.value.trigger.bucket_key == "orders/2026-11-28.csv"
