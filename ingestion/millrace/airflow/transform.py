"""The dbt project as a DAG: a task for each model and snapshot, tests after each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from airflow.sdk import DAG, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable
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
from millrace.airflow.project import AirflowProject, collector_at_rest

PATIENCE = timedelta(minutes=15)
"""How long ``transform`` waits at most for tables that are being loaded, by default."""

# Otherwise Cosmos would log each parsing at the top of every task's log, and warn of exposures,
# although they are converted.
logging.getLogger("cosmos").setLevel(logging.ERROR)


def transform_dag(
    project: AirflowProject,
    *,
    dag_id: str = "transform",
    schedule: str = "0 6 * * *",
    patience: timedelta = PATIENCE,
    tags: Sequence[str] = ("dbt",),
) -> DAG:
    """Make the DAG that builds, tests and publishes; Airflow finds it by itself.

    It runs after any raw table was loaded, and on its schedule in any case: for models that read
    the clock, and to retry what failed in the night.

    Args:
        project: The project.
        dag_id: The DAG's id, after the project's prefix.
        schedule: Cron expression, in UTC.
        patience: How long it waits at most for tables that are being loaded.
        tags: The DAG's tags.

    Raises:
        ProjectError: there is no project or no manifest of it.
        DeclarationError: a declaration does not make sense.
    """
    with collector_at_rest():
        graph = TransformGraph(project, patience)
        dag: DAG = DbtDag(
            dag_id=f"{project.prefix}{dag_id}",
            description="dbt: models, snapshots and tests, then publications",
            schedule=_schedule(project, schedule),
            catchup=False,
            max_active_runs=1,
            default_args=project.task_arguments,
            tags=list(tags),
            **_cosmos(project, graph),
        )
        graph.complete(dag)
    return dag


def _cosmos(project: AirflowProject, graph: TransformGraph) -> dict[str, object]:
    """The arguments for Cosmos, which draws the graph; what the tasks do is Millrace's own."""
    dbt = project.dbt
    return {
        "project_config": ProjectConfig(
            dbt_project_path=dbt.folder,
            manifest_path=dbt.manifest_path,
            install_dbt_deps=False,
        ),
        # Cosmos requires a profile and does not use it: dbt chooses its target by its own rules.
        "profile_config": ProfileConfig(
            profile_name=dbt.profile_name,
            target_name=dbt.target or "default",
            profiles_yml_filepath=dbt.profiles_folder / "profiles.yml",
        ),
        "execution_config": ExecutionConfig(execution_mode=ExecutionMode.LOCAL),
        "render_config": RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            test_behavior=TestBehavior.AFTER_EACH,
            should_detach_multiple_parents_tests=True,
            exclude=["resource_type:unit_test"],
            node_converters=graph.converters(),
            node_conversion_by_task_group=False,
        ),
    }


class RawTables(AssetAny):
    """A load of any raw table.

    Its ``repr`` is short because Airflow hashes a DAG by the text of its schedule, twice for every
    edge between its tasks.
    """

    def __repr__(self) -> str:
        return "RawTables()"


def _schedule(project: AirflowProject, cron: str) -> AssetOrTimeSchedule:
    return AssetOrTimeSchedule(
        # Without the last argument, a DAG that is switched on up to 10 % of a day late still runs.
        timetable=CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(0)),
        assets=RawTables(*(project.raw_asset(table) for table in project.catalog.tables)),
    )
