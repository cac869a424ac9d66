"""A dbt project as Airflow runs it: where it is, and what its DAGs, assets and pools are called."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset, get_parsing_context
from airflow.sdk.configuration import conf

from millrace.airflow.outcomes import RETRY_POLICY
from millrace.catalog import Catalog, IngestTable, Publication, load_catalog
from millrace.dbt.project import Project
from millrace.errors import SettingError
from millrace.settings import DbtSettings, Settings

if TYPE_CHECKING:
    from millrace.pipeline import Pipeline

DEFAULT_ARGS: Mapping[str, Any] = {
    "owner": "millrace",
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": timedelta(hours=2),
    "retry_policy": RETRY_POLICY,
}
"""What every task has by default."""

KINDS_OF_TASK = (
    *("plan", "extract", "load", "mark_deletes"),
    *("dbt_build", "publish", "audit", "maintenance"),
)
"""The tasks that can have a queue of their own: all but those that only wait or report."""


@dataclass(frozen=True)
class AirflowProject:
    """A dbt project in an Airflow, which may have several.

    Attributes:
        folder: Where ``dbt_project.yml`` is.
        profiles_dir: Where ``profiles.yml`` is; default: beside the project's folder, or in it.
        target: The profile's target; default: the profile's own choice, or ``DBT_TARGET``.
        prefix: Begins the ids of its DAGs and the names of its assets; for a second project in one
            Airflow, such as ``shop__``.
        warehouse_pool: The Airflow pool of the tasks that use the warehouse. It needs to have one
            slot if the warehouse is DuckDB, which one process at a time can write to.
        default_args: Arguments of all tasks, over ``DEFAULT_ARGS``: an owner, retries, callbacks.
        queues: The queue of each kind of task that is not to be in Airflow's default one, such as
            ``{"extract": "large"}``. With the CeleryExecutor workers of that queue run it; with the
            KubernetesExecutor it gets that queue's pod template. Kinds: ``KINDS_OF_TASK``.

    Raises:
        SettingError: ``queues`` names something else than a kind of task.
    """

    folder: Path
    profiles_dir: Path | None = None
    target: str | None = None
    prefix: str = ""
    warehouse_pool: str = "warehouse"
    default_args: Mapping[str, Any] = field(default_factory=dict)
    queues: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(self.queues.keys() - set(KINDS_OF_TASK))
        if unknown:
            raise SettingError(
                f"AirflowProject has a queue for {', '.join(unknown)}, which is no kind of task.",
                fix=f"The kinds are: {', '.join(KINDS_OF_TASK)}.",
            )

    @cached_property
    def dbt(self) -> Project:
        """The dbt project.

        Raises:
            ProjectError: it is not there.
        """
        return Project.find(
            self.folder,
            DbtSettings.read(os.environ),
            project_dir=self.folder,
            profiles_dir=self.profiles_dir,
            target=self.target,
        )

    @cached_property
    def catalog(self) -> Catalog:
        """What the project declares, according to the manifest that dbt has written.

        Raises:
            ProjectError: there is no manifest.
            DeclarationError: a declaration does not make sense.
        """
        return load_catalog(self.dbt.manifest_path)

    @property
    def task_arguments(self) -> dict[str, Any]:
        """The default arguments of its tasks."""
        return {**DEFAULT_ARGS, **self.default_args}

    def queued(self, kind: str) -> dict[str, Any]:
        """The arguments that send a task to the queue of its kind; none without such a queue.

        Raises:
            SettingError: the queue has no pod template, where other tasks have one.
        """
        queue = self.queues.get(kind)
        return {} if queue is None else {"queue": queue, **_pod_template(queue)}

    def ingest_dag_id(self, table: IngestTable) -> str:
        """The id of the DAG that keeps a raw table."""
        return table.dag_id(self.prefix)

    def raw_asset(self, table: IngestTable) -> Asset:
        """What stands for a raw table: ingestion updates it, ``transform`` waits for it."""
        return self._asset(f"{table.schema}.{table.identifier}")

    def mart_asset(self, model: str) -> Asset:
        """What stands for a model that an exposure uses: updated when its tests have passed."""
        return self._asset(f"marts.{model}")

    def published_asset(self, publication: Publication) -> Asset:
        """What stands for a published mart: updated when its readers see the new one."""
        return self._asset(f"published.{publication.name}")

    @property
    def built_asset(self) -> Asset:
        """Updated by a run of dbt without a failure; its event says when that run began to read."""
        return self._asset("built")

    def pipeline(self) -> Pipeline:
        """The pipeline of this project, with Airflow's own connections."""
        # Imported here: DAG files are parsed again and again, and need none of it.
        from millrace.airflow.connections import airflow_connection
        from millrace.pipeline import Pipeline

        return Pipeline(self.dbt, Settings.read(os.environ), airflow_connection)

    def _asset(self, name: str) -> Asset:
        project = f"{self.prefix}{self.catalog.project}"
        # In a URI, a # or ? of a name would begin something else.
        path = quote(name.replace(".", "/"))
        return Asset(name=f"{project}.{name}", uri=f"millrace://{project}/{path}")


def _pod_template(queue: str) -> dict[str, Any]:
    """What makes the KubernetesExecutor take a queue's own template: it lies beside the default."""
    default = conf.get("kubernetes_executor", "pod_template_file", fallback="")
    if not default:
        return {}
    template = Path(default).with_name(f"{queue}.yaml")
    # The executor would start a pod without a container.
    if not template.exists():
        raise SettingError(
            f"The queue {queue} has no pod template: there is no {template}.",
            fix=f"Add {queue} to kubernetes.queues in the values of the Helm chart.",
        )
    return {"executor_config": {"pod_template_file": str(template)}}


def is_wanted(dag_id: str) -> bool:
    """Whether Airflow needs this DAG: to run a task it needs only the task's, else all of them."""
    return get_parsing_context().dag_id in (None, dag_id)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Make DAGs without the garbage collector.

    The collector would scan everything that Airflow has imported again and again, which takes a
    third of the time for a large project.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
