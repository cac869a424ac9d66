"""A DAG of yours that starts with each load of a table, and skips what follows if it had no rows.

The event of a load has an extra: ``{"rows": 1200, "start": …, "end": …}``, the interval of the
table's cursor. Where nothing can be new, Millrace loads nothing, and there is no event at all.
"""

from typing import Any

from airflow.sdk import DAG, Asset, task

RAW = Asset(
    name="millrace.analytics_raw_mysql.nps", uri="millrace://millrace/analytics_raw_mysql/nps"
)

with DAG("example__only_with_news", schedule=[RAW], tags=["example"]):

    @task.short_circuit
    def is_news(triggering_asset_events: Any = None) -> bool:
        """Whether any of the loads that started this run has brought rows."""
        return any(event.extra.get("rows") for event in triggering_asset_events[RAW])

    @task
    def use_the_news(triggering_asset_events: Any = None) -> int:
        """What you do with the new rows; here: count them."""
        return sum(event.extra.get("rows", 0) for event in triggering_asset_events[RAW])

    is_news() >> use_the_news()
