"""What `millrace` and `dbt` import when they run, imported once."""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

for _name in (
    "dbt.cli.main",
    "dbt.task.build",
    "dbt.adapters.duckdb",
    "dbt.adapters.redshift",
    "millrace.cli",
    "millrace.terminal",
    "millrace.pipeline",
    "millrace.destinations.google_sheets.destination",
    "millrace.sources.google_sheets.source",
    "millrace.sources.mysql.source",
    "millrace.warehouses.duckdb.warehouse",
    "millrace.warehouses.redshift.warehouse",
):
    import_module(_name)

_PROJECT = {
    "dbt_project.yml": """
name: warm
version: "1.0.0"
profile: warm
flags: {send_anonymous_usage_stats: false}
""",
    "profiles.yml": """
warm:
  target: dev
  outputs:
    dev: {type: duckdb, path: ":memory:"}
""",
    "models/model.sql": "{{ config(materialized='incremental', unique_key='id') }} select 1 as id",
    "models/above.sql": "select id from {{ ref('model') }}",
    "models/models.yml": """
sources:
  - name: raw
    config: {meta: {}}
    tables: [{name: orders, columns: [{name: id, data_tests: [unique]}]}]
models:
  - name: model
    columns: [{name: id, data_tests: [not_null, unique]}]
exposures:
  - {name: sheet, type: dashboard, owner: {email: a@example.com}, depends_on: [ref('above')]}
""",
}


def _warm_up() -> None:
    """Let dbt do once what it does for every project: read its own macros, make its schemas."""
    import_module("dbt_common.tests").enable_test_caching()
    with TemporaryDirectory() as made:
        for name, text in _PROJECT.items():
            file = Path(made) / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        folders = ("--project-dir", made, "--profiles-dir", made, "--log-path", made)
        # The static parser has threads, and a fork has none of them: it would wait for ever. It
        # also reads the references of snapshots and unit tests.
        flags = ("--quiet", "--no-static-parser")
        threads = _threads()
        done = import_module("dbt.cli.main").dbtRunner().invoke([*flags, "parse", *folders])
        assert done.success, done.exception
        assert _threads() == threads


def _threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


_warm_up()
