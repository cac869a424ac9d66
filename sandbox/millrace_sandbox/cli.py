"""The local stack from the command line: ``python -m millrace_sandbox``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from millrace_sandbox import sample_data, sample_sheets
from millrace_sandbox.demo import Demo
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError
from millrace_sandbox.stack import Stack

console = Console(highlight=False)

SIZE = (
    click.option("--responses", default=40_000, show_default=True, help="NPS responses in a year."),
    click.option("--users", default=3_000, show_default=True, help="Who gave them."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run real services on this machine, all under .sandbox/ and on loopback only."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    ctx.obj = Stack(
        SandboxPaths.default(), os.environ.get("TARGET", "dev"), os.environ.get("SOURCE", "mariadb")
    )


@cli.command()
@SIZE[0]
@SIZE[1]
@click.pass_obj
def demo(stack: Stack, responses: int, users: int) -> None:
    """Show the main job from the start: sources → S3 → warehouse → dbt → nps_summary → sheet."""
    with _told_what_runs(stack):
        Demo(stack, responses, users, console).run()


@cli.command()
@click.pass_obj
def up(stack: Stack) -> None:
    """Start MariaDB, S3, Google Sheets and Airflow, with what they held before."""
    with _told_what_runs(stack):
        with console.status("starting MariaDB, S3 and Google Sheets"):
            stack.start_services()
            sample_data.create_schema(stack.mysql.server)
            sample_sheets.ensure_sheets(stack.sheets)
        with console.status("starting Airflow"):
            stack.dbt("parse")
            stack.start_airflow()
    _print_status(stack)
    login = stack.airflow.login
    console.print(f"Airflow: {stack.airflow.url}  user {login.user}, password {login.password}")
    console.print("For a shell: set -a; . .sandbox/env; set +a")


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
    """Fill MySQL anew with the year of sample data."""
    stack.start_services()
    sample_data.create_schema(stack.mysql.server)
    sample_data.fill_history(stack.mysql.server, responses=responses, users=users)
    console.print(f"{responses:,} responses by {users:,} users")


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def redshift(options: tuple[str, ...]) -> None:
    """Run the Redshift stand-in alone, until Ctrl-C (--help: its options)."""
    # Imported here: the other commands do without PostgreSQL's client.
    from redshift_standin.__main__ import serve

    serve.main(list(options), prog_name="python -m millrace_sandbox redshift")


@contextmanager
def _told_what_runs(stack: Stack) -> Iterator[None]:
    """Say what was left running by what did not come to its end."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("Interrupted.")
        _print_leftovers(stack)
        sys.exit(130)
    except SandboxError:
        _print_leftovers(stack)
        raise


def _print_leftovers(stack: Stack) -> None:
    console.print("What was started stays up; make down stops it:")
    _print_status(stack)


def _print_status(stack: Stack) -> None:
    for name, line in stack.status().items():
        console.print(f"{name:<8} {line}", soft_wrap=True)


def main() -> None:
    """Run the command; what cannot work ends in a message, not in a stack trace."""
    try:
        cli(standalone_mode=True)
    except SandboxError as error:
        console.print(f"[bold red]Error:[/bold red] {error}", soft_wrap=True)
        sys.exit(1)
