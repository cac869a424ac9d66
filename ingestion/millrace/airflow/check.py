"""``python -m millrace.airflow.check``: ``millrace check`` with the connections that Airflow keeps.

``millrace check`` knows those of the environment alone; this asks Airflow for each connection, as
a task does: its secrets backend, the environment, its database.
"""

from __future__ import annotations

import os
import sys

import click

from millrace.airflow.commands import project_options, told
from millrace.airflow.connections import airflow_connection
from millrace.checks import check_all
from millrace.dbt.project import Project
from millrace.pipeline import Pipeline
from millrace.settings import Settings


@click.command()
@project_options
def main(project: Project) -> None:
    """Try each connection that Airflow keeps, the landing and the warehouse."""
    # By this, Airflow's own commands ask for its database to be looked into, too.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    with told():
        pipeline = Pipeline(project, Settings.read(os.environ), airflow_connection)
        if not check_all(pipeline):
            sys.exit(1)


if __name__ == "__main__":
    main()
