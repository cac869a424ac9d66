"""The command ``millrace``."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from millrace.batch import Interval, gaps, parse_time
from millrace.dbt.command import THRESHOLD
from millrace.errors import MillraceError

# Each command imports what else it needs, so that `--help` answers at once.
if TYPE_CHECKING:
    from millrace.catalog import IngestTable, Publication
    from millrace.dbt.project import Project
    from millrace.pipeline import Pipeline
    from millrace.scaffold.files import Change
    from millrace.scaffold.project import Scaffolding
    from millrace.warehouses.base import LedgerRow

Command = TypeVar("Command", bound=Callable[..., Any])


class _Time(click.ParamType[datetime]):
    """A date or time in ISO 8601; without a zone, UTC."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            parsed = parse_time(value)
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2026-10-01 or 2026-10-01T06:30", param, ctx)
        if parsed is None:
            self.fail("a time is needed", param, ctx)
        return parsed


class _Age(click.ParamType[timedelta]):
    """A number of days or hours, e.g. ``30d`` or ``72h``."""

    name = "age"
    _UNITS: ClassVar[Mapping[str, str]] = {"d": "days", "h": "hours"}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        number, unit = str(value)[:-1], str(value)[-1:]
        if unit not in self._UNITS or not (number.isascii() and number.isdigit()):
            self.fail(f"{value!r} is not an age; write 30d or 72h", param, ctx)
        return timedelta(**{self._UNITS[unit]: int(number)})


class _OneLine(logging.Formatter):
    """Writes each message in one line, whatever names and messages of others it holds."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        from millrace.terminal import visible

        return visible(super().formatMessage(record))


@dataclass(frozen=True)
class Chosen:
    """The project that the options name; it is opened by the command that needs it."""

    project_dir: str | None
    profiles_dir: str | None
    target: str | None

    def project(self) -> Project:
        """The project, found anew each time."""
        from millrace.dbt.project import Project
        from millrace.settings import DbtSettings

        return Project.find(
            dbt=DbtSettings.read(os.environ),
            project_dir=self.project_dir,
            profiles_dir=self.profiles_dir,
            target=self.target,
        )

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline of the project, whose manifest is fresh."""
        from millrace.pipeline import Pipeline
        from millrace.settings import Settings

        pipeline = Pipeline.find(
            Settings.read(os.environ),
            project_dir=self.project_dir,
            profiles_dir=self.profiles_dir,
            target=self.target,
        )
        _parse(pipeline.project)
        return pipeline


def _parse(project: Project) -> None:
    from millrace.terminal import working

    if project.is_stale():
        with working("parsing the dbt project"):
            project.ensure_manifest()


def _every(seconds: int) -> Callable[[Command], Command]:
    """The option of a command that stays and looks again and again."""
    return click.option(
        "--every",
        type=click.IntRange(min=1),
        default=seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long from look to look.",
    )


_sign_of_life = click.option(
    "--sign-of-life",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Touch this file after each look, for a health check.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Say what is done, step by step.")
@click.option("--project-dir", metavar="FOLDER", help="As dbt's: where dbt_project.yml is.")
@click.option("--profiles-dir", metavar="FOLDER", help="As dbt's: where profiles.yml is.")
@click.option("-t", "--target", help="As dbt's: the target of the profile, that is, the warehouse.")
@click.version_option(package_name="millrace")
@click.pass_context
def cli(
    ctx: click.Context,
    verbose: bool,
    project_dir: str | None,
    profiles_dir: str | None,
    target: str | None,
) -> None:
    """Carry tables from their sources into the warehouse of the dbt project.

    What is carried is declared in dbt: every source table with an `ingest` block in its meta.
    Credentials come from AIRFLOW_CONN_<ID> variables, the landing from LANDING_URL. The warehouse
    is the dbt target: the one that `dbt build` takes with the same options and DBT_ variables.

    \b
    Start with:
      millrace init shop             make a project of your own
      millrace connect mysql_prod    does that account work? what may it do?
      millrace scaffold mysql        declare tables, from what the server knows
      millrace check                 does everything answer?
      millrace status                is all well? since when not, and what to do
      millrace list                  what is declared?
      millrace plan                  what would be loaded?
      millrace preview mysql.nps     what do its rows look like?
      millrace create mysql.nps      make its raw table, before there is a row
      millrace ingest mysql.nps      load what is new
      millrace publish               carry the marts to their readers
      millrace audit                 is everything loaded as it is at its source?
      millrace why 'sheet!C12'       what is behind a published cell?
      millrace watch                 tell people what is late or has failed
      millrace sweep --dry-run       what is in the landing that nobody needs?
      millrace parse                 is the manifest of the project as it is?
    """  # noqa: D301 click wants the backspace
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _OneLine("%(levelname)s %(name)s: %(message)s" if verbose else "Note: %(message)s")
    )
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    ctx.obj = Chosen(project_dir, profiles_dir, target)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--warehouse",
    type=click.Choice(["duckdb", "redshift", "bigquery"]),
    default="duckdb",
    show_default=True,
    help="The warehouse of production. On a laptop it is DuckDB.",
)
@click.option(
    "--owner", help="Who is told when something is late or wrong. Default: git's user.email."
)
@click.option(
    "--checkout",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Install Millrace from this checkout. Default: the one that this command is of, or PyPI.",
)
def init(folder: Path, warehouse: str, owner: str | None, checkout: Path | None) -> None:
    """Make a project of your own in FOLDER, which is not there yet.

    It is runnable at once: `make demo` in it starts a MySQL, an S3 server and an Airflow of its own
    and shows its one sample table arriving; `make test` tests it. It has a repository with a first
    commit, by which `millrace update` brings in what later versions make better.

    \b
      millrace init shop
      millrace init shop --warehouse redshift --owner data@example.com
    """  # noqa: D301 click wants the backspace
    from millrace.template.rendering import Answers, own_checkout
    from millrace.template.repository import begin, who
    from millrace.terminal import print_done, print_plain

    answers = Answers.of(
        folder.resolve().name, warehouse, owner or who(), checkout or own_checkout()
    )
    begin(answers, folder)
    print_done(f"made {folder}, a project of its own with a first commit")
    print_plain("\nNext:")
    print_plain(f"  cd {folder}")
    print_plain("  make demo    # a MySQL, an S3 server, an Airflow; the sample table arrives")
    print_plain("  make test")
    print_plain("Then README.md, for your own tables.")


@cli.command()
def update() -> None:
    """Bring what the installed Millrace's template makes into this project, as a merge.

    For projects that were made by `millrace init`. Lines that a person has changed stay; where the
    template has changed the same ones, git marks both.
    """
    from millrace.template.repository import update
    from millrace.terminal import print_done, print_plain

    conflicts = update(Path.cwd())
    if not conflicts:
        print_done("merged the template of the installed Millrace")
        return
    print_plain("Both the project and the template have changed the same lines of:")
    for file in conflicts:
        print_plain(f"  {file}")
    print_plain("Resolve them, then: git commit. To leave all as it was: git merge --abort")
    sys.exit(1)


@cli.command("list")
@click.pass_obj
def list_tables(chosen: Chosen) -> None:
    """Show every declared source table with its last batch, and every publication."""
    from millrace.terminal import print_plain, print_table

    pipeline = chosen.pipeline
    tables = pipeline.catalog.tables
    # Corrections cover no interval.
    ledgers = {
        key: [row for row in rows if not row.is_correction]
        for key, rows in pipeline.warehouse.ledgers(tables).items()
    }
    quarantined = [sum(row.quarantined or 0 for row in ledgers[table.key]) for table in tables]
    shown = ["QUARANTINED"] if any(quarantined) else []
    print_table(
        [
            *("TABLE", "KIND", "KEY", "CURSOR", "SCHEDULE"),
            *("LAST BATCH", "ROWS", "VERIFIED", "LOADED", *shown),
        ],
        [
            (
                table.key,
                table.options.kind,
                ", ".join(table.options.primary_key),
                table.cursor_column or "full refresh",
                table.options.schedule,
                *_last_batch(next(reversed(ledgers[table.key]), None)),
                *(f"{count:,}" for _ in shown),
            )
            for table, count in zip(tables, quarantined, strict=True)
        ],
        numbers={"ROWS", *shown},
    )
    for table in tables:
        for gap in gaps(row.covers for row in ledgers[table.key]):
            print_plain(f"{table.key}: {gap} is missing; the next ingestion reads it.")
    if pipeline.catalog.publications:
        print_table(
            ["PUBLICATION", "KIND", "MART", "PUBLISHED TO"],
            [
                (found.name, found.options.kind, found.mart, found.options.where)
                for found in pipeline.catalog.publications
            ],
        )


@cli.command()
@click.option("--follow", is_flag=True, help="Stay, and parse again when the project has changed.")
@_every(10)
@_sign_of_life
@click.pass_obj
def parse(chosen: Chosen, follow: bool, every: int, sign_of_life: Path | None) -> None:
    """Let dbt parse the project, if its manifest is missing or stale.

    Airflow makes the DAGs from the manifest. Run this when an image is built, and before Airflow
    starts: then the manifest is that of the project's files and of the environment's variables.
    The other commands do the same by themselves.

    With --follow it stays, for a project whose files change while Airflow runs. If dbt cannot parse
    a change, it says why, and the manifest of before stays.
    """
    from millrace.dbt.project import followed
    from millrace.terminal import out, print_done, print_error

    project = chosen.project()
    _parse(project)
    print_done(f"{project.manifest_path} is fresh")
    if not follow:
        return
    for problem in followed(chosen.project):
        if problem:
            print_error(problem, out)
        if sign_of_life:
            sign_of_life.touch()
        time.sleep(every)


@cli.command()
@click.pass_obj
def check(chosen: Chosen) -> None:
    """Try each connection, the landing and the warehouse; say what fails, and why."""
    from millrace.checks import check_all

    if not check_all(chosen.pipeline):
        sys.exit(1)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Write it for a program.")
@click.pass_obj
def status(chosen: Chosen, as_json: bool) -> None:
    """Show how everything is, on one page: well or ill, since when, and what to do.

    The connections, the landing and the warehouse; the parts of Airflow, by the connection
    airflow_api; the watcher; and each table and publication of which something is promised. The
    exit code is 1 if anything is ill. What is unknown (no connection to Airflow, for example) does
    not count.
    """
    from datetime import UTC

    from millrace.status import State, look
    from millrace.terminal import print_plain, print_table, working

    with working("looking") if not as_json else nullcontext():
        lines = list(look(chosen.pipeline, datetime.now(UTC)))
    ill = [line for line in lines if line.state is State.ILL]
    if as_json:
        found = {"is_well": not ill, "lines": [line.to_json() for line in lines]}
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        print_table(
            ["WHAT", "STATE", "SINCE", ""],
            [
                (
                    line.what,
                    line.state,
                    f"{line.since:%Y-%m-%d %H:%M} UTC" if line.since else "",
                    line.said.partition("\n")[0],
                )
                for line in lines
            ],
        )
        for line in lines:
            if line.state is not State.WELL and line.way_out:
                print_plain(f"{line.what}: {line.said}\n  → {line.way_out}")
    if ill:
        sys.exit(1)


@cli.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE…")
@click.pass_obj
def create(chosen: Chosen, tables: tuple[str, ...]) -> None:
    """Make the raw table of each TABLE, without rows, before its first load.

    It gets the columns that the source has now, as they are landed, with the partitions, keys and
    other options that are declared for the warehouse; its ledger is made, too. So models can be
    built, and rights given, before a row is loaded. A raw table that is there already stays as it
    is; with other columns, it is refused.
    """
    from millrace.terminal import print_done

    pipeline = chosen.pipeline
    named = [pipeline.catalog.table(key) for key in tables]

    def create_one(table: IngestTable) -> None:
        place = f"{table.schema}.{table.identifier}"
        is_new = pipeline.create(table)
        print_done(f"{table.key}: {place} {'is made, without rows' if is_new else 'was there'}")

    _run_each({table.key: partial(create_one, table) for table in named})


@cli.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]…")
@click.option("--from", "start", type=_Time(), help="Start of the interval, inclusive. UTC.")
@click.option("--to", "end", type=_Time(), help="End of the interval, exclusive. UTC.")
@click.option("--all", "everything", is_flag=True, help="The table from its beginning.")
@click.pass_obj
def ingest(
    chosen: Chosen,
    tables: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    everything: bool,
) -> None:
    """Extract, land and load one batch of each TABLE (default: all that are declared).

    \b
    Without options, a batch takes what is not loaded yet, and the first one takes everything.
    A batch ends early enough that no open transaction can still write into it, and leaves no gap.
    A table without a cursor is always read whole.
      millrace ingest                                          whatever is new
      millrace ingest mysql.nps --from 2026-10-01 --to 2026-10-02
      millrace ingest mysql.nps --all                          everything again

    Loading an interval twice has the same result as loading it once.
    """  # noqa: D301 click wants the backspace
    if everything and (start or end):
        raise click.UsageError("--all takes the whole table: leave out --from and --to")
    if start and end and start >= end:
        raise click.UsageError("--from must be before --to")
    from millrace.landing.memory import keep_no_freed_memory
    from millrace.terminal import print_done, rows_landed, working

    keep_no_freed_memory()
    pipeline = chosen.pipeline
    named = [pipeline.catalog.table(key) for key in tables] or list(pipeline.catalog.tables)

    def ingest_one(table: IngestTable) -> None:
        interval = _interval(table, start, end, everything)
        began = time.monotonic()
        with rows_landed(table.key) as landed:
            row = pipeline.ingest(table, interval, landed)
        print_done(f"{table.key}: up to date" if row is None else _loaded(row, began))
        if table.options.deletes == "keys":
            from millrace.audit.auditor import Auditor

            began = time.monotonic()
            with working(f"{table.key}: comparing keys"):
                row = Auditor(pipeline).mark_deletes(table)
            if row is not None:
                print_done(_corrected(row, began))

    _run_each({table.key: partial(ingest_one, table) for table in named})


@cli.command()
@click.argument("tables", nargs=-1, required=True, metavar="TABLE…")
@click.option(
    "--new-salt",
    is_flag=True,
    help="MILLRACE_PII_SALT is another than what is loaded was hashed with.",
)
@click.pass_obj
def reload(chosen: Chosen, tables: tuple[str, ...], new_salt: bool) -> None:
    """Read each TABLE from its beginning, and put it in the place of its raw table.

    The new raw table has the columns that the source has now. It is loaded beside the old one,
    which stays as it is until the new one is complete; one batch replaces all others in the ledger.
    So a column may change its type, and one that is gone at the source goes, whatever `schema`
    declares.

    \b
      millrace reload mysql.nps
      dbt build --full-refresh --select source:mysql.nps+

    The second command is for incremental models: they keep rows that were deleted at the source.
    Snapshots are never made anew.
    """  # noqa: D301 click wants the backspace
    from millrace.landing.memory import keep_no_freed_memory
    from millrace.terminal import print_done, rows_landed

    keep_no_freed_memory()
    pipeline = chosen.pipeline
    named = [pipeline.catalog.table(key) for key in tables]

    def reload_one(table: IngestTable) -> None:
        began = time.monotonic()
        with rows_landed(table.key) as landed:
            row = pipeline.reload(table, landed, new_salt=new_salt)
        print_done(f"{_loaded(row, began)}, in the place of the old table")

    _run_each({table.key: partial(reload_one, table) for table in named})


@cli.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]…")
@click.option("--from", "start", type=_Time(), help="Only rows whose cursor lies from here. UTC.")
@click.option("--to", "end", type=_Time(), help="Only rows whose cursor lies before this. UTC.")
@click.option("--deep", is_flag=True, help="Read the landing and the source's rows, too.")
@click.option("--repair", is_flag=True, help="Mend what differs.")
@click.pass_obj
def audit(
    chosen: Chosen,
    tables: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    deep: bool,
    repair: bool,
) -> None:
    """Compare each TABLE (default: all but APIs') with its ledger and with its source, row by row.

    Finds batches that have other rows in the raw table than the ledger says, and rows that are
    missing, vanished, changed or doubled: deletes and edits that did not touch the cursor, and what
    somebody changed in the raw table. The source and the warehouse compute checksums by
    themselves; only the keys of rows that differ are moved. With --deep the rows are read, so that
    hashed columns are compared as well, and so are the parts in the landing.

    \b
      millrace audit mysql.nps
      millrace audit mysql.nps --from 2026-10-01 --to 2026-10-02 --deep
      millrace audit mysql.nps --repair

    The exit code is 1 if something differs and was not mended. A repair loads damaged batches
    again, then lands and loads just the rows that differ; a row that has vanished at the source
    gets a version with `_deleted_at`, which models leave out.
    """  # noqa: D301 click wants the backspace
    from millrace.audit.auditor import Auditor
    from millrace.audit.report import print_audit
    from millrace.terminal import print_plain, working

    pipeline = chosen.pipeline
    named = [pipeline.catalog.table(key) for key in tables] or [
        table for table in pipeline.catalog.tables if table.options.is_auditable
    ]
    auditor = Auditor(pipeline)
    unequal = []

    def audit_one(table: IngestTable) -> None:
        with working(f"comparing {table.key}"):
            found = auditor.audit(table, Interval(start, end), deep=deep)
        if found is None:
            print_plain(f"{table.key}: never loaded")
            return
        print_audit(found)
        if repair and not found.is_equal:
            with working(f"mending {table.key}"):
                found = auditor.repair(found, deep=deep)
            print_audit(found, is_mended=True)
        if not found.is_equal:
            unequal.append(table.key)

    _run_each({table.key: partial(audit_one, table) for table in named})
    if unequal:
        sys.exit(1)


@cli.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]…")
@click.pass_obj
def plan(chosen: Chosen, tables: tuple[str, ...]) -> None:
    """Show what the next ingestion of each TABLE (default: all) would do, and change nothing.

    For each table: the batch, about how many rows it has, what holds it up, and how the raw
    table's columns would change. The exit code is 1 if a table would be refused.

    \b
      millrace plan
      millrace plan mysql.nps
    """  # noqa: D301 click wants the backspace
    from millrace.terminal import out

    pipeline = chosen.pipeline
    named = [pipeline.catalog.table(key) for key in tables] or list(pipeline.catalog.tables)

    def plan_one(table: IngestTable) -> None:
        outlook = pipeline.outlook(table)
        what = str(outlook.batch.interval) if outlook.batch else "nothing to do"
        rows = outlook.expected_rows
        about = "" if rows is None else f", about {rows:,} rows"
        out.print(f"{table.key}: {what}{about}", markup=False, soft_wrap=True)
        for text in outlook.told:
            out.print(f"  {text}", markup=False, soft_wrap=True)

    _run_each({table.key: partial(plan_one, table) for table in named})


@cli.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]…")
@click.pass_obj
def diff(chosen: Chosen, tables: tuple[str, ...]) -> None:
    """Show the columns of each TABLE (default: all) side by side, and change nothing.

    A column's type at the source, what the dbt source declares of it, its type in the raw table,
    and in each dbt model that reads the table. A model that has no column of that name may still
    name it in its SQL. The last column says what the next ingestion meets. Without a TABLE, what
    the databases have and nobody has declared is named at the end.

    \b
      millrace diff
      millrace diff mysql.nps
    """  # noqa: D301 click wants the backspace
    from millrace.terminal import out, print_plain, print_table

    pipeline = chosen.pipeline
    named = [pipeline.catalog.table(key) for key in tables] or list(pipeline.catalog.tables)

    def diff_one(table: IngestTable) -> None:
        models = [model.name for model in pipeline.catalog.readers.get(table.key, ())]
        compared = pipeline.compare(table)
        out.print(f"{table.key}, in {table.schema}.{table.identifier}", markup=False)
        print_table(
            ["COLUMN", "SOURCE", "DECLARED", "RAW", *models, "DIFFERENCE"],
            [
                (line.name, line.source, line.declared, line.raw, *line.models, line.difference)
                for line in compared
            ],
        )

    def list_undeclared() -> None:
        for connection, places in pipeline.undeclared().items():
            print_plain(f"Not declared, at {connection}: {', '.join(places)}")

    runs: dict[str, Callable[[], None]] = {table.key: partial(diff_one, table) for table in named}
    if not tables:
        runs["what is not declared"] = list_undeclared
    _run_each(runs)


@cli.command()
@click.argument("name", metavar="NAME")
@click.argument("uri", required=False, metavar="[URI]")
def connect(name: str, uri: str | None) -> None:
    """Try the connection NAME, say what its account may do, and how to keep it.

    URI is as Airflow writes it, or JSON; without it, AIRFLOW_CONN_<NAME> is tried. A password that
    is not in it is asked for, and so it is in no history of the shell. No project is needed, and
    nothing is written. The exit code is 1 if nothing can be read with it.

    \b
      millrace connect mysql_prod mysql://reader@db.example.com:3306/shop
      millrace connect mysql_prod
    """  # noqa: D301 click wants the backspace
    import shlex
    from dataclasses import replace

    from millrace.connections import from_environment, in_words, variable_of
    from millrace.sources.base import access_of
    from millrace.terminal import print_done, print_plain, print_table, working

    connection = in_words(name, uri) if uri else from_environment(os.environ, name)
    variable, _ = variable_of(connection)
    if uri and connection.login and connection.password is None:
        password = click.prompt(f"Password of {connection.login}", hide_input=True, default="")
        connection = replace(connection, password=password or None)
    with working(f"connecting to {name}"):
        found = access_of(connection)
    print_done(f"{name}: {found.reached}")
    if found.rights:
        print_table(
            ["RIGHT", "ON", "FOR"],
            [(right.name, right.where or "nothing", right.use) for right in found.rights],
        )
    for right in found.rights:
        if right.grant and not right.where:
            print_plain(f"Without {right.name}: {right.without}\n  → {right.grant};")
    if found.beyond:
        print_plain(
            f"More than it needs: {'; '.join(found.beyond)}.\n"
            "  → An account that may only read cannot do harm."
        )
    if uri:
        _, value = variable_of(connection)
        print_plain(f"\nFor .env:\n  {variable}={shlex.quote(value)}")
        print_plain(
            f"For Airflow:\n  airflow connections add {name} --conn-uri {shlex.quote(value)}"
        )
    if not found.is_enough:
        sys.exit(1)


@cli.command()
@click.argument("table", metavar="TABLE")
@click.option("--rows", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, for programs.")
@click.pass_obj
def preview(chosen: Chosen, table: str, rows: int, as_json: bool) -> None:
    """Show the first rows of TABLE as they would land, and change nothing.

    A line a column, with its type: hashed, masked and left out as declared. A terminal shows as
    many rows as fit beside each other.

    \b
      millrace preview mysql.orders
      millrace preview mysql.orders --rows 100 --json | jq .email
    """  # noqa: D301 click wants the backspace
    from millrace.terminal import print_plain, print_rows, working

    pipeline = chosen.pipeline
    declared = pipeline.catalog.table(table)
    with working(f"reading {table}") if not as_json else nullcontext():
        found = pipeline.preview(declared, rows)
    if as_json:
        for row in found.to_pylist():
            click.echo(json.dumps(row, ensure_ascii=False, default=_as_text))
        return
    print_rows(found, {name: policy.value for name, policy in declared.pii.items()})
    if declared.left_out:
        print_plain(f"Left out: {', '.join(sorted(declared.left_out))}.")


@cli.group()
def scaffold() -> None:
    """Write declarations and staging models from what a source itself knows, for review."""


@scaffold.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]…")
@click.option("--source", default="mysql", show_default=True, help="The dbt source.")
@click.option("--connection", help="Its connection. Default: the source's, or <source>_prod.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.pass_obj
def mysql(
    chosen: Chosen, tables: tuple[str, ...], source: str, connection: str | None, dry_run: bool
) -> None:
    """Declare each TABLE of a MySQL server (default: all), with its staging model.

    TABLE may have wildcards. What is written: the source's entry with key, cursor and why, personal
    columns, freshness and MySQL's own comments; a staging model with every column, typed and named
    by the conventions; its tests. A table that is declared already gets only the columns that it
    does not name yet, and no line that is there is changed.

    \b
      millrace scaffold mysql prod.orders --dry-run
      millrace scaffold mysql 'prod.*'
      millrace scaffold mysql 'ord*' --source shop --connection shop_db
    """  # noqa: D301 click wants the backspace
    from datetime import UTC

    from millrace.scaffold.project import Origin, Scaffold
    from millrace.sources.base import DescribingSource, open_source
    from millrace.terminal import working

    pipeline = chosen.pipeline
    origin = Origin(source, "mysql", connection or _connection_of(pipeline, source, "_prod"))
    opened = open_source(origin.kind, pipeline.connection(origin.connection))
    if not isinstance(opened, DescribingSource):
        raise click.UsageError(f"{origin.kind} does not know its tables")
    plan = Scaffold(pipeline.project, origin, datetime.now(UTC))
    with working("reading what the server knows"):
        found = opened.describe(tables)
        asked = {table.place for table in found}
        beside = {place for table in found for place, _ in table.references.values()} - asked
        known = [place for place in sorted(beside) if plan.is_declared(place)]
        planned = plan.plan(found, opened.describe(known) if known else [])
    _carry_out(planned, pipeline, source, dry_run=dry_run)


@scaffold.command("google_sheet")
@click.argument("spreadsheet")
@click.argument("tabs", nargs=-1, metavar="[TAB]…")
@click.option("--source", default="google_sheets", show_default=True, help="The dbt source.")
@click.option("--connection", help="Its connection. Default: the source's, or google_sheets.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.pass_obj
def google_sheet(
    chosen: Chosen,
    spreadsheet: str,
    tabs: tuple[str, ...],
    source: str,
    connection: str | None,
    dry_run: bool,
) -> None:
    """Declare each TAB (default: all) of a SPREADSHEET: its URL, or the key in the URL.

    The types are those that all values of a column have now, as their formats show them; the key is
    the fewest columns, from the left, that tell all rows apart. Read what is written: a sheet says
    less of itself than a database. The sheet has to be shared with the account of the connection.

    \b
      millrace scaffold google_sheet https://docs.google.com/spreadsheets/d/… targets
    """  # noqa: D301 click wants the backspace
    from datetime import UTC

    from millrace.scaffold.project import Origin, Scaffold
    from millrace.sources.base import open_source
    from millrace.sources.google_sheets.source import GoogleSheetSource
    from millrace.terminal import working

    pipeline = chosen.pipeline
    origin = Origin(source, "google_sheet", connection or _connection_of(pipeline, source, ""))
    opened = open_source(origin.kind, pipeline.connection(origin.connection))
    if not isinstance(opened, GoogleSheetSource):
        raise click.UsageError(f"{origin.kind} does not know its tabs")
    with working("reading the sheet"):
        found = opened.describe_tabs(spreadsheet, tabs)
        planned = Scaffold(pipeline.project, origin, datetime.now(UTC)).plan(found)
    _carry_out(planned, pipeline, source, dry_run=dry_run)


def _connection_of(pipeline: Pipeline, source: str, suffix: str) -> str:
    """The connection of a source's declared tables, or the one that is called like the source."""
    declared = [table for table in pipeline.catalog.tables if table.source == source]
    return next((table.options.connection for table in declared), f"{source}{suffix}")


def _carry_out(planned: Scaffolding, pipeline: Pipeline, source: str, *, dry_run: bool) -> None:
    """Write what was planned for tables, and say what it is."""
    from millrace.terminal import print_done, print_plain, print_table

    _write(planned.changes, pipeline.project, dry_run=dry_run)
    if planned.new:
        print_table(
            ["TABLE", "KEY", "CURSOR", "WHY", "PERSONAL"],
            [
                (
                    f"{source}.{proposal.table}",
                    ", ".join(proposal.found.key),
                    proposal.found.cursor or "none",
                    proposal.found.cursor_why,
                    ", ".join(f"{name}: {of.value}" for name, (of, _) in proposal.policies.items()),
                )
                for proposal in planned.new
            ],
        )
    for key, names in planned.columns.items():
        print_plain(f"{key}: new columns {', '.join(names)}")
    for text in planned.told:
        print_plain(text)
    if not planned.changes:
        print_done("everything is declared")
        return
    _print_written(planned.changes, pipeline.project, dry_run=dry_run)
    if not dry_run:
        print_plain("Read what was written, then: millrace ingest && dbt build")


@scaffold.command()
@click.argument("name")
@click.argument("model")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.pass_obj
def mart(chosen: Chosen, name: str, model: str, dry_run: bool) -> None:
    """Begin a mart NAME with what a staging MODEL has.

    Where the model has every version of a row, a model between them keeps the current one
    (ROW_NUMBER). What is written: the SQL with every column, for you to change; the descriptions;
    the tests of the key.

    \b
      millrace scaffold mart orders stg_mysql__orders
    """  # noqa: D301 click wants the backspace
    from millrace.scaffold.marts import MartScaffold

    project = chosen.project()
    _parse(project)
    changes = MartScaffold(project).mart(name, model)
    then = f"Change it to what is wanted, then: dbt build --select +{name}"
    _write_all(changes, project, then, dry_run=dry_run)


@scaffold.command("publish")
@click.argument("mart_name", metavar="MART")
@click.argument("spreadsheet")
@click.option("--tab", help="The title of its tab. Default: the mart's name.")
@click.option("--connection", default="google_sheets", show_default=True, help="Its connection.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.pass_obj
def scaffold_publish(
    chosen: Chosen,
    mart_name: str,
    spreadsheet: str,
    tab: str | None,
    connection: str,
    dry_run: bool,
) -> None:
    """Declare that a MART is published to a SPREADSHEET: its URL, or the key in the URL.

    The rows are ordered by the mart's key. The sheet has to be shared with the account of the
    connection, as an editor.

    \b
      millrace scaffold publish orders https://docs.google.com/spreadsheets/d/…
    """  # noqa: D301 click wants the backspace
    from millrace.scaffold.marts import MartScaffold

    project = chosen.project()
    _parse(project)
    changes = MartScaffold(project).publication(mart_name, spreadsheet, tab, connection)
    then = f"Then: dbt build --select +{mart_name} && millrace publish {mart_name}_sheet"
    _write_all(changes, project, then, dry_run=dry_run)


def _write_all(changes: Sequence[Change], project: Project, then: str, *, dry_run: bool) -> None:
    """Write what was scaffolded, or show it, and say what comes next."""
    from millrace.terminal import print_plain

    _write(changes, project, dry_run=dry_run)
    _print_written(changes, project, dry_run=dry_run)
    if not dry_run:
        print_plain(then)


def _write(changes: Sequence[Change], project: Project, *, dry_run: bool) -> None:
    """Write what was scaffolded, or show it."""
    from millrace.scaffold.files import write
    from millrace.terminal import print_diff, working

    if dry_run:
        for change in changes:
            print_diff(change.diff(project.root))
    elif changes:
        with working("writing, and parsing the dbt project"):
            write(changes, project)


def _print_written(changes: Sequence[Change], project: Project, *, dry_run: bool) -> None:
    from millrace.terminal import print_done, print_plain

    if dry_run:
        print_plain(f"{len(changes)} files would be written. Nothing was changed.")
        return
    for change in changes:
        did = "wrote" if change.before is None else "changed"
        print_done(f"{did} {change.path.relative_to(project.root)}")


@cli.command()
@click.argument("publications", nargs=-1, metavar="[PUBLICATION]…")
@click.pass_obj
def publish(chosen: Chosen, publications: tuple[str, ...]) -> None:
    """Publish the mart of each PUBLICATION (default: all that are declared).

    A publication is an exposure with a `publish` block in its meta. Readers see the whole new
    table or the whole old one, never a mixture. In Airflow a failing test of the mart stops its
    publication; here nothing is tested: run `dbt build` first.

    \b
      millrace publish nps_summary_sheet
    """  # noqa: D301 click wants the backspace
    from millrace.terminal import print_done, working

    pipeline = chosen.pipeline
    named = [pipeline.catalog.publication(name) for name in publications]

    def publish_one(publication: Publication) -> None:
        began = time.monotonic()
        with working(f"publishing {publication.name}"):
            published = pipeline.publish(publication, run="millrace publish")
        took = time.monotonic() - began
        print_done(
            f"{publication.name}: {published.rows:,} rows of {publication.mart} "
            f"in {published.tab}, {took:.1f} s"
        )

    _run_each(
        {
            publication.name: partial(publish_one, publication)
            for publication in named or pipeline.catalog.publications
        }
    )


@cli.command()
@click.argument("cell", metavar="PUBLICATION!CELL")
@click.pass_obj
def why(chosen: Chosen, cell: str) -> None:
    """Show what is behind a published cell, and change nothing.

    The row and the column of the mart that it shows; the models on the way, and what makes the
    column in each; the batches whose rows can have contributed, with their parts and keys.

    \b
      millrace why 'nps_summary_sheet!C12'

    After a change of the project, dbt compiles it first.
    """  # noqa: D301 click wants the backspace
    name, separator, place = cell.rpartition("!")
    if not separator:
        raise click.UsageError("write the publication, '!' and a cell: nps_summary_sheet!C12")
    from millrace.provenance.report import show
    from millrace.provenance.why import why as find_why
    from millrace.terminal import working

    pipeline = chosen.pipeline
    publication = pipeline.catalog.publication(name)
    if not pipeline.project.is_compiled():
        with working("compiling the dbt project"):
            pipeline.project.compile()
    show(find_why(pipeline, publication, place))


@cli.command()
@_every(30)
@click.option("--once", is_flag=True, help="Look once; exits with 1 if anything was told.")
@click.option("--prefix", default="", help="Begins the ids of the project's DAGs in Airflow.")
@_sign_of_life
@click.pass_obj
def watch(chosen: Chosen, every: int, once: bool, prefix: str, sign_of_life: Path | None) -> None:
    """Tell people what is late or has failed, once, and when it is well again.

    It looks at what the declarations promise (`expected_by`, `fresh_by`, dbt's `freshness`), at the
    ledger and the sheets, and asks Airflow why. Run one for a project, outside of Airflow: a DAG
    that never runs tells nobody.

    \b
    Connections (AIRFLOW_CONN_<ID>):
      alerts        where to send: {"conn_type": "apprise",
                    "extra": {"config": [{"path": "mailto://…"}, {"path": "slack://…"}]}}
      airflow_api   Airflow's API server, and a user that may read. Without it only the
                    promises are looked at.
    """  # noqa: D301 click wants the backspace
    from datetime import UTC

    from millrace.alerts.open import open_watcher
    from millrace.terminal import out, print_error, print_plain

    watcher = open_watcher(chosen.pipeline, prefix)
    while True:
        began = time.monotonic()
        try:
            messages = watcher.look(datetime.now(UTC))
            if sign_of_life:
                sign_of_life.touch()
        except MillraceError as error:
            if once or not error.may_pass:
                raise
            print_error(error, out)
            messages = []
        for message in messages:
            print_plain(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  {message.title}")
        if once:
            sys.exit(1 if any(not message.is_good_news for message in messages) else 0)
        time.sleep(max(every - (time.monotonic() - began), 0))


@cli.command()
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("--older-than", type=_Age(), default="30d", show_default=True, metavar="AGE")
@click.option("--loaded", is_flag=True, help="Also old attempts that the ledger names.")
@click.pass_obj
def sweep(chosen: Chosen, dry_run: bool, older_than: timedelta, loaded: bool) -> None:
    """Remove from the landing what nobody needs any more.

    These are attempts that were never committed, if their last object is more than two days old;
    committed attempts that the ledger does not name (a wider batch has replaced theirs, or they
    were never loaded), if they are older than --older-than; and unfinished uploads to S3 that were
    begun more than two days ago. Attempts of tables that are not declared are left alone.

    With --loaded, attempts that the ledger names go too if they are that old. Loaded rows stay; but
    `millrace audit` can then compare and mend them only from the source.

    \b
      millrace sweep --dry-run
      millrace sweep --older-than 90d
    """  # noqa: D301 click wants the backspace
    from millrace.landing.sweep import carry_out, summary
    from millrace.terminal import print_done, print_plain, print_table, working

    pipeline = chosen.pipeline
    with working("looking through the landing"):
        found = pipeline.plan_sweep(older_than, loaded=loaded)
    lines = summary(found)
    if lines:
        print_table(
            ["TABLE", "ATTEMPTS", "FILES", "SIZE", "LAST CHANGED", "SWEPT", "WHY"],
            lines,
            numbers={"ATTEMPTS", "FILES", "SIZE"},
        )
    if dry_run:
        print_plain(f"To be removed: {found}. Nothing was changed.")
        return
    with working("sweeping"):
        carry_out(pipeline.landing, found)
    print_done(f"removed: {found}")


def main() -> None:
    """Run the command; a user's mistake ends in a message, not in a stack trace."""
    # A tenth of the time of a short command, which is that of its imports.
    gc.set_threshold(THRESHOLD)
    try:
        cli(standalone_mode=True)
    except MillraceError as error:
        from millrace.terminal import err, print_error

        print_error(error, err)
        sys.exit(1)


def _run_each(runs: Mapping[str, Callable[[], None]]) -> None:
    """Run each, even if others fail; name the failed ones at the end."""
    from millrace.terminal import err, print_error, print_failed, print_plain

    failed = []
    for name, run in runs.items():
        try:
            run()
        except MillraceError as error:
            if len(runs) == 1:
                raise
            failed.append(name)
            print_failed(name, err)
            print_error(error, err)
    if failed:
        print_plain(f"{len(failed)} of {len(runs)} failed: {', '.join(failed)}", err)
        sys.exit(1)


def _interval(
    table: IngestTable, start: datetime | None, end: datetime | None, everything: bool
) -> Interval | None:
    """The interval that the options ask for; None means what is not loaded yet."""
    if table.is_full_refresh or not (everything or start or end):
        return None
    return Interval(start, end)


def _as_text(value: Any) -> str:
    """A value that JSON has no form for."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _loaded(row: LedgerRow, began: float) -> str:
    """What is said of a batch that was loaded."""
    from millrace.progress import in_bytes

    return (
        f"{row.table}: {row.rows:,} rows ({in_bytes(row.size)}), "
        f"{row.interval}, {time.monotonic() - began:.1f} s"
    )


def _corrected(row: LedgerRow, began: float) -> str:
    """What is said of rows that were found by their keys."""
    return (
        f"{row.table}: {row.rows:,} rows corrected by their keys, {time.monotonic() - began:.1f} s"
    )


def _last_batch(row: LedgerRow | None) -> tuple[str, ...]:
    if row is None:
        return "never", "", "", ""
    interval, loaded = Interval(row.start, row.end), f"{row.loaded_at:%Y-%m-%d %H:%M}"
    return str(interval), f"{row.rows:,}", row.verified or "no", loaded


if __name__ == "__main__":
    main()
