"""Settings of Airflow itself that Millrace's DAGs run well with, as environment variables.

Nothing here imports Airflow, so that whatever writes a deployment's environment can read them.
"""

from __future__ import annotations

from collections.abc import Mapping

PRELOADED = (
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.dagbag",
    "airflow.executors.local_executor",
    "airflow.providers.amazon.aws.assets.redshift",
    "airflow.providers.amazon.aws.fs.s3",
    "airflow.providers.standard.operators.python",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "cosmos.airflow.dag",
    "cosmos.operators._watcher.triggerer",
    "cosmos.plugin.airflow3",
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "pyarrow.parquet",
)
"""Libraries imported once, by the process that tasks are forked from: an import takes up to 2 s.

They are what Airflow itself needs to run a task, then Cosmos, dbt and the warehouse. They are
libraries only, so that a change of a project's own code needs no restart. One that is not installed
is left out.
"""

ENVIRONMENT: Mapping[str, str] = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    "AIRFLOW__SCHEDULER__MP_START_METHOD": "forkserver",
    "AIRFLOW__SCHEDULER__MP_FORKSERVER_PRELOAD": ",".join(PRELOADED),
    # A task's supervisor may notice the task's end only at its next heartbeat. Until then it
    # occupies a worker, and a deferred task is not resumed.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
    # dbt's messages are in the task's log already.
    "DBT_LOG_LEVEL_FILE": "none",
    "DO_NOT_TRACK": "1",
}
"""Quick tasks, no example DAGs, and nothing sent to anybody."""
