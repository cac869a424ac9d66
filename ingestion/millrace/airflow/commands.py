"""What the commands ``python -m millrace.airflow.…`` share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import click
from airflow.utils.db import check_migrations

from millrace.dbt.project import Project
from millrace.errors import MillraceError, SettingError
from millrace.settings import DbtSettings
from millrace.terminal import err, print_error


@contextmanager
def told() -> Iterator[None]:
    """End a command that fails by a user's mistake with a message, not with a stack trace."""
    try:
        yield
    except MillraceError as error:
        print_error(error, err)
        sys.exit(1)


def refuse_before_migration() -> None:
    """Refuse to touch a database whose tables are not those of the installed Airflow.

    Raises:
        SettingError: ``airflow db migrate`` has not run since Airflow was installed or upgraded.
    """
    try:
        check_migrations(timeout=0)  # type: ignore[no-untyped-call]
    except TimeoutError:
        raise SettingError(
            "Airflow's database does not have the tables of the installed version.",
            fix="Run `airflow db migrate` first.",
        ) from None


def project_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command dbt's options that choose a project, and the project as ``project``."""

    @click.option("--project-dir", metavar="FOLDER", help="As dbt's: where dbt_project.yml is.")
    @click.option("--profiles-dir", metavar="FOLDER", help="As dbt's: where profiles.yml is.")
    @click.option("-t", "--target", help="As dbt's: the target of the profile: the warehouse.")
    @wraps(command)
    def with_project(
        project_dir: str | None, profiles_dir: str | None, target: str | None, **others: object
    ) -> None:
        with told():
            project = Project.find(
                None,
                DbtSettings.read(os.environ),
                project_dir=project_dir,
                profiles_dir=profiles_dir,
                target=target,
            )
        command(project, **others)

    return with_project
