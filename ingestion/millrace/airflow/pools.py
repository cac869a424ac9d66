"""``python -m millrace.airflow.pools``: the pools that a project's declarations name.

A task whose pool does not exist waits for ever. Run it before each start: a pool that is there
stays as it is, so that somebody may give it more slots or fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click
from airflow.models.pool import Pool
from airflow.utils.session import create_session

from millrace.airflow.commands import project_options, refuse_before_migration, told
from millrace.airflow.project import AirflowProject
from millrace.catalog import load_catalog
from millrace.catalog.kinds import WAREHOUSES
from millrace.dbt.project import Project
from millrace.terminal import print_done
from millrace.warehouses.base import WRITERS

SOURCE_SLOTS = 4
"""How many tasks read from a source with a pool at a time."""


def wanted_pools(project: Project, warehouse_pool: str) -> dict[str, int]:
    """The pools that a project needs, and their slots.

    Args:
        project: The dbt project, which has a manifest.
        warehouse_pool: The pool of the tasks that use the warehouse.

    Raises:
        ProjectError: there is no manifest, or ``profiles.yml`` cannot be used.
        DeclarationError: a declaration does not make sense.
    """
    tables = load_catalog(project.manifest_path).tables
    sources = {table.options.pool for table in tables if table.options.pool}
    kind = WAREHOUSES.find(project.credentials().type)
    writers = kind.writers if kind else WRITERS
    return dict.fromkeys(sorted(sources), SOURCE_SLOTS) | {warehouse_pool: writers}


def make(wanted: Mapping[str, int]) -> Iterator[str]:
    """Make the pools that are missing.

    Yields:
        What was done, in words.

    Raises:
        SettingError: Airflow's database is not migrated.
    """
    refuse_before_migration()
    with create_session() as session:
        for name, slots in wanted.items():
            found = Pool.get_pool(name, session=session)
            if found is None:
                Pool.create_or_update_pool(name, slots, "", False, session=session)
            yield f"pool {name}: {'made' if found is None else 'as it was'}, " + _counted(
                found.slots if found else slots
            )


def _counted(slots: int) -> str:
    return f"{slots} slot" if slots == 1 else f"{slots} slots"


@click.command()
@project_options
@click.option(
    "--warehouse-pool",
    default=AirflowProject.warehouse_pool,
    show_default=True,
    help="The pool that the DAG files give AirflowProject.",
)
def main(project: Project, warehouse_pool: str) -> None:
    """Make the pools that the declarations name, unless they are there.

    Run `dbt parse` before: the pools are read from the manifest.
    """
    with told():
        for done in make(wanted_pools(project, warehouse_pool)):
            print_done(done)


if __name__ == "__main__":
    main()
