"""Opens a watcher with the connections of the settings."""

from __future__ import annotations

import logging

from millrace.alerts.airflow_api import AirflowApi
from millrace.alerts.channel import AppriseChannel
from millrace.alerts.watcher import Watcher
from millrace.errors import ConnectionNotFound
from millrace.pipeline import Pipeline

log = logging.getLogger(__name__)


def open_watcher(pipeline: Pipeline, prefix: str = "") -> Watcher:
    """Open a watcher of a project.

    Args:
        pipeline: The project.
        prefix: Begins the ids of its DAGs, where an Airflow has several projects.

    Raises:
        ConnectionNotFound: nothing says where to send messages, or a connection makes no sense.
        NotInstalled: the extra ``alerts`` is missing.
    """
    settings = pipeline.settings
    channel = AppriseChannel(pipeline.connection(settings.alerts_connection))
    return Watcher(pipeline, _api(pipeline), channel, prefix)


def _api(pipeline: Pipeline) -> AirflowApi | None:
    conn_id = pipeline.settings.airflow_api_connection
    try:
        connection = pipeline.connection(conn_id)
    except ConnectionNotFound as error:
        if f"AIRFLOW_CONN_{conn_id.upper()}" in pipeline.settings.environ:
            raise
        log.warning("Failed runs are not told, and nobody is asked for causes: %s", error.message)
        return None
    return AirflowApi(connection)
