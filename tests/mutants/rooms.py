"""The parts of the framework that are mutated, each with the tests that should notice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
INGESTION = ROOT / "ingestion"

# The same tests on a second server would take twice as long and notice little more. The others take
# many seconds, alone or for all their parameters together.
LEFT_OUT = (
    "[mysql",
    "slow_uplink",
    "ten_thousand_fates",
    "yaml_reads_as_nothing",
    "lasting_fault",
    "a_table_of_real_size",
    "typed_values_come_through",
)
SELECTION = ("-k", " and ".join(f"not {name}" for name in LEFT_OUT))


@dataclass(frozen=True)
class Room:
    """Modules and their tests.

    Attributes:
        files: Globs below ``millrace/``.
        tests: Files of tests, classes and functions in them, as pytest takes them.
    """

    files: tuple[str, ...]
    tests: tuple[str, ...]

    def modules(self) -> Iterator[Path]:
        """The modules that are mutated, relative to ``ingestion/``."""
        for pattern in self.files:
            for file in sorted((INGESTION / "millrace").glob(pattern)):
                yield file.relative_to(INGESTION)


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/millrace/test_{name}" for name in names)


ROOMS = {
    "landing": Room(
        ("landing/*.py", "object_store/*.py", "manifest.py"),
        _tests(
            "landing.py",
            "bad_values.py",
            "tls.py::test_s3_is_read_and_written_under_an_authority_of_our_own",
            "tls.py::test_the_variable_of_aws_names_the_authority_too",
            "tls.py::test_an_authority_that_nobody_named_is_refused",
            "tls.py::test_nothing_is_verified_where_the_connection_says_so",
            "tls.py::test_a_file_that_holds_no_certificates_is_named",
            "tls.py::test_boto3_trusts_what_the_landing_trusts",
        ),
    ),
    "warehouses": Room(
        ("warehouses/*.py", "warehouses/duckdb/*.py"),
        _tests(
            "warehouses.py::TestDuckDB",
            "duckdb.py",
            "evolution.py",
            "checksums.py",
            "drift.py",
            "quarantine.py",
        ),
    ),
    "redshift": Room(
        ("warehouses/redshift/*.py",),
        _tests("warehouses.py::TestRedshift", "redshift.py", "redshift_tables.py"),
    ),
    "bigquery": Room(
        ("warehouses/bigquery/*.py",),
        _tests("warehouses.py::TestBigQuery", "bigquery.py", "bigquery_loads.py"),
    ),
    "mysql": Room(
        (
            *(f"sources/{name}.py" for name in ("__init__", "base", "declared", "limits")),
            *(f"sources/{name}.py" for name in ("options", "pace", "spool")),
            "sources/mysql/*.py",
        ),
        _tests(
            "sources.py::TestMySQL",
            "mysql.py",
            "mysql_client.py",
            "mysql_limits.py",
            "mysql_ranges.py",
            "mysql_sessions.py",
            "audit.py",
            "closed_intervals.py",
            "hostile_values.py",
            "no_holes.py",
            "deletes.py",
        ),
    ),
    "http": Room(
        (
            "sources/http/*.py",
            *(f"sources/{name}.py" for name in ("columns", "json_values", "templates")),
        ),
        _tests("http.py", "http_pipeline.py", "sources.py::TestHttp"),
    ),
    "s3_files": Room(("sources/s3_files/*.py",), _tests("s3_files.py", "sources.py::TestS3Files")),
    "postgres": Room(
        ("sources/postgres/*.py",),
        _tests(
            "sources.py::TestPostgres",
            "postgres.py",
            "postgres_types.py",
            "postgres_open_transactions.py",
        ),
    ),
    "sheets": Room(
        (
            "sources/google_sheets/*.py",
            *(f"google_sheets/{name}.py" for name in ("__init__", "client", "column")),
            *(f"google_sheets/{name}.py" for name in ("headings", "names", "rows", "to_columns")),
        ),
        _tests(
            "google_sheets.py",
            "google_sheets_source.py",
            "headings.py",
            "sheet_rows.py",
            "sheet_values.py",
            "datasets.py",
            "sources.py::TestGoogleSheets",
        ),
    ),
    "publishing": Room(
        (
            "destinations/*.py",
            "destinations/google_sheets/*.py",
            *(f"google_sheets/{name}.py" for name in ("chart", "note", "tab", "to_cells")),
        ),
        _tests(
            "publish.py",
            "publish_beside_people.py",
            "publish_chart.py",
            "publish_pipeline.py",
            "sheet_cells.py",
            "sheet_note.py",
            # The others build a dbt project.
            "why.py::test_a_cell_is_found_wherever_people_put_the_table",
            "why.py::test_a_cell_that_shows_no_value_of_the_mart_is_refused",
            "why.py::test_a_sheet_of_another_build_is_refused_with_what_differs",
            "why.py::test_a_sheet_of_another_warehouse_or_publication_is_refused",
        ),
    ),
    "pipeline": Room(
        ("pipeline.py", "batch.py"),
        _tests("batch.py", "bad_input.py", "cli.py", "drift.py", "no_holes.py", "quarantine.py"),
    ),
}
