"""The dbt project as an Airflow DAG: a task a model and snapshot, tests after each (Cosmos)."""

from __future__ import annotations

import sys
from pathlib import Path

from cosmos import (
    DbtDag,
    ExecutionConfig,
    ExecutionMode,
    InvocationMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
)
from cosmos.constants import DbtResourceType, LoadMode, TestBehavior
from orchestration import (
    DEFAULT_ARGS,
    WAREHOUSE_POOL,
    dbt_execution,
    dbt_target,
    project,
    publication_tasks,
    transform_schedule,
)

from ingestion.catalog import load_catalog

found = project()
catalog = load_catalog(found.manifest_path)

# WATCHER runs dbt once and lets the tasks mirror its nodes; LOCAL starts dbt for every task.
mode = ExecutionMode(dbt_execution())
# A writer of the warehouse takes a slot of its pool: WATCHER's one dbt process, or every task.
writer = {"pool": WAREHOUSE_POOL}
# In a process of its own dbt reports what its nodes come to. Inside the task it would report every
# step of every test as well, and wait for Airflow's API server each time.
dbt_process = {**writer, "invocation_mode": InvocationMode.SUBPROCESS}

transform = DbtDag(
    dag_id="transform",
    description="dbt: staging → intermediate → snapshots and marts, tested",
    schedule=transform_schedule(catalog),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["dbt"],
    project_config=ProjectConfig(
        dbt_project_path=found.folder,
        manifest_path=found.manifest_path,
        install_dbt_deps=False,
    ),
    profile_config=ProfileConfig(
        profile_name=found.profile or "millrace",
        target_name=dbt_target(),
        profiles_yml_filepath=found.profiles_folder / "profiles.yml",
    ),
    render_config=RenderConfig(
        load_method=LoadMode.DBT_MANIFEST,
        test_behavior=TestBehavior.AFTER_EACH,
        exclude=["resource_type:unit_test"],
        node_converters={DbtResourceType.EXPOSURE: publication_tasks(catalog)},
    ),
    execution_config=ExecutionConfig(
        execution_mode=mode,
        # Beside the interpreter, whatever PATH says.
        dbt_executable_path=str(Path(sys.executable).with_name("millrace-dbt")),
        setup_operator_args=dbt_process,
    ),
    operator_args={"poke_interval": 1} if mode is ExecutionMode.WATCHER else writer,
)
