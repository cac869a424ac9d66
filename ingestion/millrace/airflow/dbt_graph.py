"""The tasks of ``transform`` around Cosmos's graph of models.

Cosmos leaves out the tests of sources and the tests that read nothing, and makes no task wait for a
test of several models. Here every test belongs to a task, and the tasks are in the order in which
``dbt build`` runs their nodes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import task
from cosmos.constants import DbtResourceType

from millrace.airflow import metrics, openlineage
from millrace.airflow.dbt_tasks import BUILD, DbtBuild, DbtMirror, refuse_what_dbt_refused
from millrace.airflow.lineage import Lineage
from millrace.airflow.outcomes import explained
from millrace.airflow.project import AirflowProject
from millrace.airflow.waiting import WAIT, WaitForIngestion

if TYPE_CHECKING:
    from airflow.sdk import DAG, TaskGroup
    from cosmos import DbtDag
    from cosmos.dbt.graph import DbtNode

ENDED = "dbt_ended"
DONE = "done"

_BUILT = (DbtResourceType.MODEL, DbtResourceType.SNAPSHOT, DbtResourceType.SEED)


class TransformGraph:
    """Makes the tasks while Cosmos draws the graph, and completes it afterwards.

    Args:
        project: The project.
        patience: How long the first task waits at most for tables that are being loaded.
    """

    def __init__(self, project: AirflowProject, patience: timedelta) -> None:
        self._project = project
        self._patience = patience
        self._lineage = Lineage({})
        # A node's own mirror, and the mirror of its tests: both by the node's id.
        self._mirrors: dict[str, DbtMirror] = {}
        self._test_mirrors: dict[str, DbtMirror] = {}

    def converters(self) -> dict[DbtResourceType, Callable[..., Any]]:
        """For Cosmos's ``node_converters``: how each kind of node becomes a task."""
        # Lambdas, not methods: Cosmos copies the converters, and with a method also this object.
        return {
            **dict.fromkeys(_BUILT, lambda **node: self._mirror(**node)),
            DbtResourceType.TEST: lambda **node: self._mirror_of_tests(**node),
            DbtResourceType.EXPOSURE: lambda **node: self._publish(**node),
        }

    def complete(self, dag: DbtDag) -> None:
        """Add what Cosmos does not draw: dbt itself, the missing tests, and what waits for them.

        Args:
            dag: The DAG that Cosmos made with the converters.
        """
        # The manifest also has the tests of models that are disabled, as tests that read nothing.
        nodes = [node for node in dag.dbt_graph.nodes.values() if node.config.get("enabled", True)]
        self._lineage = Lineage({node.unique_id: node.depends_on for node in nodes})
        with dag:
            self._add_tests(dag.tasks_map)
            self._add_dbt(dag)
        for node in nodes:
            if node.resource_type == DbtResourceType.EXPOSURE:
                self._announce(node.depends_on)

    def _mirror(
        self, *, dag: DAG, task_group: TaskGroup | None, node: DbtNode, task_id: str, **_: Any
    ) -> Any:
        if node.has_ephemeral_materialization:
            # It is part of the models that read it.
            return EmptyOperator(task_id=task_id, dag=dag, task_group=task_group)
        mirror = DbtMirror(task_id=task_id, dag=dag, task_group=task_group)
        self._mirrors[node.unique_id] = mirror
        return mirror

    def _mirror_of_tests(
        self, *, dag: DAG, task_group: TaskGroup | None, node: DbtNode, task_id: str, **_: Any
    ) -> DbtMirror:
        mirror = DbtMirror(task_id=task_id, dag=dag, task_group=task_group)
        # A test of several models comes with another node; Cosmos keeps its task by the test's id.
        if task_id == "test":
            self._test_mirrors[node.unique_id] = mirror
        return mirror

    def _publish(self, *, dag: DAG, task_group: TaskGroup | None, node: DbtNode, **_: Any) -> Any:
        publications = {found.name: found for found in self._project.catalog.publications}
        if node.name not in publications:
            return None
        publication = publications[node.name]
        asset = self._project.published_asset(publication)

        # A mart in DuckDB cannot be read while another process writes to the file.
        @task(
            task_id=f"publish__{node.name}",
            pool=self._project.warehouse_pool,
            outlets=[asset],
            dag=dag,
            task_group=task_group,
            **self._project.queued("publish"),
        )
        def publish(**context: Any) -> int:
            """Publish the mart; returns the number of rows."""
            refuse_what_dbt_refused(context["ti"], self._upstream_of(node.unique_id))
            with explained():
                pipeline = self._project.pipeline()
                published = pipeline.publish(publication, run=context["run_id"])
                metrics.published(pipeline, publication, published)
            openlineage.published(pipeline, publication)
            context["outlet_events"][asset].extra = {"rows": published.rows, "url": published.url}
            return published.rows

        return publish().operator  # type: ignore[attr-defined]

    def _upstream_of(self, exposure: str) -> Iterable[str]:
        """The task ids of the mirrors of everything upstream of an exposure."""
        upstream = {*self._lineage.ancestors(exposure), *self._lineage.tests_before(exposure)}
        return sorted({self._mirrors[node].task_id for node in upstream & self._mirrors.keys()})

    def _add_tests(self, drawn: dict[str, Any]) -> None:
        for tested, tests in self._lineage.tests.items():
            if len(tested) == 1:
                # The tests of one node share a task. Cosmos has drawn it in the group of a model.
                mirror = self._test_mirrors.get(tested[0]) or self._before(tested, drawn)
                self._mirrors.update(dict.fromkeys(tests, mirror))
            else:
                for test in tests:
                    self._mirrors[test] = self._before(tested, drawn, test)

    def _before(
        self, tested: Sequence[str], drawn: dict[str, Any], test: str | None = None
    ) -> DbtMirror:
        """Return the task of these tests, placed before the tasks that wait for them."""
        mirror: DbtMirror = drawn.get(test or "") or DbtMirror(task_id=_task_id(test or tested[0]))
        for node in self._lineage.first_after(tested):
            if node in drawn:
                mirror >> drawn[node]
        return mirror

    def _announce(self, used: Iterable[str]) -> None:
        """Let the last task of each model that an exposure uses update the model's asset."""
        for node in self._mirrors.keys() & set(used):
            asset = self._project.mart_asset(node.split(".")[2])
            last = self._test_mirrors.get(node, self._mirrors[node])
            if asset not in last.outlets:
                last.outlets.append(asset)

    def _add_dbt(self, dag: DbtDag) -> None:
        tasks = dag.tasks
        mirrored: dict[str, list[str]] = {}
        for node, mirror in self._mirrors.items():
            mirrored.setdefault(mirror.task_id, []).append(node)
        wait = WaitForIngestion(task_id=WAIT, project=self._project, patience=self._patience)
        build = DbtBuild(
            task_id=BUILD,
            project=self._project,
            mirrored=mirrored,
            lineage=self._lineage,
            pool=self._project.warehouse_pool,
            **self._project.queued("dbt_build"),
        )
        ended = EmptyOperator(task_id=ENDED, trigger_rule="all_done")
        # A run's last tasks decide its state: without this one, it could succeed though dbt failed.
        done = EmptyOperator(task_id=DONE, trigger_rule="none_failed")
        wait >> build >> [ended, done]
        for found in tasks:
            if not found.upstream_task_ids:
                # A mirror watches a running dbt: it waits for neither dbt's end nor its success.
                found.trigger_rule = "all_done" if is_one_after_another() else "one_success"
                [wait, build] >> found
            if not found.downstream_task_ids:
                found >> done
            if found.task_id.startswith("publish__"):
                ended >> found


def is_one_after_another() -> bool:
    """Whether this is ``airflow dags test``: one task at a time, so none may wait for another."""
    return sys.argv[1:3] == ["dags", "test"]


def _task_id(tested: str) -> str:
    """``mysql.nps.test`` for the tests of a source, ``…_test`` for a test that reads no model."""
    kind, _, *names = tested.split(".")
    return ".".join([*names, "test"]) if kind == "source" else f"{names[0]}_test"
