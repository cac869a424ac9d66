"""What Millrace does to every component of an Airflow that it is installed in."""

from __future__ import annotations

import os

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from millrace.airflow.deadlines import TimeOfDay
from millrace.airflow.page.app import PREFIX, Page, base_path


def send_no_usage_data() -> None:
    """Let Cosmos send usage data only where somebody has asked for that."""
    if not conf.has_option("cosmos", "enable_telemetry"):
        # Cosmos may have read its settings already, or read them later.
        os.environ["AIRFLOW__COSMOS__ENABLE_TELEMETRY"] = "False"
        from cosmos import settings

        settings.enable_telemetry = False


class MillracePlugin(AirflowPlugin):
    """Loaded by Airflow, by its entry point."""

    name = "millrace"
    deadline_references = [TimeOfDay]  # noqa: RUF012 as Airflow declares it
    fastapi_apps = [{"name": "millrace", "app": Page(), "url_prefix": PREFIX}]  # noqa: RUF012
    # Without a `url_route` the menu opens it as a page of its own: in Airflow's frame, its links
    # could not leave the frame.
    external_views = [  # noqa: RUF012
        {"name": "Millrace", "href": f"{base_path()}{PREFIX}/", "destination": "nav"}
    ]


send_no_usage_data()
