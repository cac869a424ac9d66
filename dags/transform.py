"""The dbt project as an Airflow DAG: a task a model and snapshot, tests after each (Cosmos)."""

from __future__ import annotations

import logging

from cosmos import (
    DbtDag,
    ExecutionConfig,
    ExecutionMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
)
from cosmos.constants import LoadMode, TestBehavior

from millrace.airflow.dbt_graph import TransformGraph
from millrace.airflow.orchestration import DEFAULT_ARGS, project, transform_schedule
from millrace.catalog import load_catalog

# What it says of each parsing would stand above what a task says; and it warns of exposures, though
# they are converted.
logging.getLogger("cosmos").setLevel(logging.ERROR)

found = project()
catalog = load_catalog(found.manifest_path)
graph = TransformGraph(found, catalog)

# Cosmos draws the graph; what its tasks do is ours: one runs dbt, and the others mirror it.
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
    # Cosmos asks for one and does not use it: dbt chooses its target by its own rules.
    profile_config=ProfileConfig(
        profile_name="millrace",
        target_name="dev",
        profiles_yml_filepath=found.profiles_folder / "profiles.yml",
    ),
    execution_config=ExecutionConfig(execution_mode=ExecutionMode.LOCAL),
    render_config=RenderConfig(
        load_method=LoadMode.DBT_MANIFEST,
        test_behavior=TestBehavior.AFTER_EACH,
        should_detach_multiple_parents_tests=True,
        exclude=["resource_type:unit_test"],
        node_converters=graph.converters(),
        node_conversion_by_task_group=False,
    ),
)
graph.complete(transform)
