"""Settings of Airflow itself that Millrace's DAGs run well with, as environment variables.

Nothing here imports Airflow, so that whatever writes a deployment's environment can read them.
"""

from __future__ import annotations

import json
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

_EXTRA_CELERY_CONFIG = {
    # Each worker imports them once, before it forks the processes that run tasks. All of them have
    # to be installed.
    "imports": [name for name in PRELOADED if name != "airflow.executors.local_executor"],
    # While Redis cannot be reached, a send has to time out, after [celery] operation_timeout: only
    # then Airflow sends the task again. What Celery itself gives up costs the task a try.
    "task_publish_retry_policy": {
        "max_retries": 100,
        "interval_start": 0.2,
        "interval_step": 0,
        "interval_max": 0.2,
    },
}

CELERY: Mapping[str, str] = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": json.dumps(_EXTRA_CELERY_CONFIG),
    # How often, once a second. By default a task has failed when it was sent four times in vain.
    "AIRFLOW__CELERY__TASK_PUBLISH_MAX_RETRIES": "300",
    # A task whose worker has died is tried again after one minute instead of five.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    # When Redis gives a message away again. What has died is tried again long before, so this only
    # has to be longer than any task runs.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
}
"""What the CeleryExecutor needs besides ``ENVIRONMENT``, for every component.

``AIRFLOW__CELERY__BROKER_URL`` comes on top: it holds a password.
"""
