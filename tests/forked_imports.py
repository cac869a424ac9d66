"""What `millrace` and `dbt` import when they run, imported once."""

from importlib import import_module

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
