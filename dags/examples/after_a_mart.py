"""A DAG of yours that starts when a mart is built: its event is there when its tests have passed.

The same with a published sheet (``millrace.published.nps_summary_sheet``) or a raw table. All names
and URIs are on Airflow's page "Assets"; they begin with the name of the dbt project.
"""

from typing import Any

from airflow.sdk import DAG, Asset, task

# With both: by ``Asset.ref`` the DAG would start too, but Airflow 3.3 would not tell it by what.
MART = Asset(name="millrace.marts.nps_summary", uri="millrace://millrace/marts/nps_summary")

with DAG("example__after_a_mart", schedule=[MART], tags=["example"]):

    @task
    def use_the_mart(triggering_asset_events: Any = None) -> list[str]:
        """What you do with the mart; here: which runs of `transform` have built it."""
        return [event.source_dag_run.run_id for event in triggering_asset_events[MART]]

    use_the_mart()
