"""The command ``millrace-sandbox``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

import redshift_standin
import sheets_standin
from millrace_sandbox import sample_data
from millrace_sandbox.demo import Demo
from millrace_sandbox.nps_demo import NpsDemo
from millrace_sandbox.paths import SandboxPaths, command_line
from millrace_sandbox.processes import SandboxError
from millrace_sandbox.project import NPS, Project, find_root
from millrace_sandbox.stack import Stack
from sheets_standin import TabSpec

console = Console(highlight=False)

FAILURES = (SandboxError, redshift_standin.StandinError, sheets_standin.StandinError)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
SIZE = (
    click.option("--responses", default=40_000, show_default=True, help="NPS responses in a year."),
    click.option("--users", default=3_000, show_default=True, help="Users who gave them."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--project-dir",
    type=FOLDER,
    envvar="DBT_PROJECT_DIR",
    show_envvar=True,
    help="The dbt project. [default: the one in the project's root, or in one of its folders]",
)
@click.option(
    "--profiles-dir",
    type=FOLDER,
    envvar="DBT_PROFILES_DIR",
    show_envvar=True,
    help="Where profiles.yml is. [default: the root, dbt's folder, or where dbt finds it]",
)
@click.option(
    "--dags-dir",
    type=FOLDER,
    envvar="MILLRACE_DAGS_DIR",
    show_envvar=True,
    help="The DAG files. [default: dags in the root, or in dbt's folder]",
)
@click.pass_context
def cli(
    ctx: click.Context,
    project_dir: Path | None,
    profiles_dir: Path | None,
    dags_dir: Path | None,
) -> None:
    """Run real services for the project at hand, all under .sandbox/ and on loopback only.

    TARGET chooses the warehouse: dev (DuckDB, the default), or the stand-ins redshift and
    bigquery. SOURCE chooses the database: mariadb (the default) or mysql. The project is the one
    around the working directory. The variables of its .env and of the shell reach it, except
    those that the sandbox sets itself: what runs here never reaches the real services of those
    names.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    ctx.obj = Stack(
        SandboxPaths.default(),
        os.environ.get("TARGET", "dev"),
        os.environ.get("SOURCE", "mariadb"),
        Project(find_root() or Path.cwd(), project_dir, profiles_dir, dags_dir),
    )


@cli.command()
@SIZE[0]
@SIZE[1]
@click.pass_obj
def demo(stack: Stack, responses: int, users: int) -> None:
    """Show the project's tables going through Airflow: sources → S3 → warehouse → dbt → sheets.

    In Millrace's own repository it begins from the start, with as many responses and users as are
    asked for. Elsewhere what was loaded before stays.
    """
    with _told_what_runs(stack):
        if stack.project.sample == NPS:
            NpsDemo(stack, responses, users, console).run()
        else:
            Demo(stack, console).run()


@cli.command()
@click.pass_obj
def up(stack: Stack) -> None:
    """Start MariaDB, S3, Google Sheets and Airflow, with what they held before.

    MySQL gets the schema prod, and what the project's sample has: a file of SQL, which
    pyproject.toml names.
    """
    with _told_what_runs(stack):
        with console.status("starting MariaDB, S3 and Google Sheets"):
            stack.start_services()
            stack.ensure_sample()
        with console.status("starting Airflow"):
            stack.dbt("parse")
            stack.start_airflow()
    _print_status(stack)
    _print_next_steps(stack)


@cli.command()
@click.pass_obj
def down(stack: Stack) -> None:
    """Stop what runs; the data stays."""
    with console.status("stopping"):
        stack.stop()
    _print_status(stack)


@cli.command()
@click.pass_obj
def status(stack: Stack) -> None:
    """Say what runs, and where."""
    _print_status(stack)


@cli.command()
@SIZE[0]
@SIZE[1]
@click.pass_obj
def sample(stack: Stack, responses: int, users: int) -> None:
    """Fill MySQL anew with the NPS example's year of sample data."""
    stack.start_services()
    sample_data.create_schema(stack.mysql.server)
    sample_data.fill_history(stack.mysql.server, responses=responses, users=users)
    console.print(f"{responses:,} responses by {users:,} users")


@cli.command()
@click.argument("statements", metavar="[SQL]...", nargs=-1)
@click.pass_obj
def mysql(stack: Stack, statements: tuple[str, ...]) -> None:
    r"""Make tables of your own in MariaDB (or MySQL), as its administrator.

    Runs the SQL given, or what comes by a pipe; with neither it opens the client. When it ends,
    the account of the connection mysql_prod may read every schema that there is.

    \b
    millrace-sandbox mysql "create database shop" "create table shop.orders (id int primary key)"
    millrace-sandbox mysql < dump.sql
    """
    stack.mysql.start()
    sys.exit(stack.mysql.run_client(statements))


@cli.group()
def sheet() -> None:
    """Make and list spreadsheets in the Google Sheets stand-in."""


@sheet.command()
@click.argument("name")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    help="A file of values, in UTF-8; each is taken as if it was typed into a cell.",
)
@click.option("--tab", default="Sheet1", show_default=True, help="The title of its tab.")
@click.pass_obj
def new(stack: Stack, name: str, csv_file: Path | None, tab: str) -> None:
    """Make a spreadsheet that the connection google_sheets may read and write; print its URL."""
    endpoint = stack.sheets.start()
    admin = endpoint.admin()
    spec = TabSpec.from_csv(csv_file, tab) if csv_file else TabSpec(tab)
    click.echo(admin.url(admin.create(name, [spec], {endpoint.email: "writer"})))


@sheet.command("list")
@click.pass_obj
def list_(stack: Stack) -> None:
    """List the spreadsheets: URL and name."""
    admin = stack.sheets.start().admin()
    for entry in admin.spreadsheets():
        click.echo(f"{admin.url(entry.spreadsheet_id)}  {entry.title}")


@contextmanager
def _told_what_runs(stack: Stack) -> Iterator[None]:
    """When a command fails or is interrupted, say what it left running."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("Interrupted.")
        _print_leftovers(stack)
        sys.exit(130)
    except FAILURES:
        _print_leftovers(stack)
        raise


def _print_leftovers(stack: Stack) -> None:
    stop = f"{command_line('millrace-sandbox')} down"
    console.print(f"What was started stays up; {stop} stops it:", soft_wrap=True)
    _print_status(stack)


def _print_status(stack: Stack) -> None:
    for name, line in stack.status().items():
        console.print(f"{name:<8} {line}", soft_wrap=True)


def _print_next_steps(stack: Stack) -> None:
    login = stack.airflow.login
    sandbox, millrace = command_line("millrace-sandbox"), command_line("millrace")
    for line in (
        f"Airflow: {stack.airflow.url}  user {login.user}, password {login.password}",
        "",
        "Next:",
        f"  for a shell          set -a; . {stack.env_file}; set +a",
        f"  what is declared     {millrace} list",
        f'  a table of your own  {sandbox} mysql "create database shop" "create table shop.…"',
        f"  a sheet of your own  {sandbox} sheet new NAME --csv FILE",
        "  declare them         as a source of dbt, by the connections mysql_prod, google_sheets",
        f"  load one             {millrace} ingest SOURCE.TABLE, or its DAG in Airflow",
        f"  stop all of it       {sandbox} down",
    ):
        console.print(line, soft_wrap=True, markup=False)


def main() -> None:
    """Run the command; a failure ends in a message, not in a stack trace."""
    try:
        cli(standalone_mode=True)
    except FAILURES as error:
        console.print(f"[bold red]Error:[/bold red] {error}", soft_wrap=True)
        sys.exit(1)
