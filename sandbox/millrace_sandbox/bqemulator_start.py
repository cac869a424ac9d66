"""Starts bqemulator, in its own environment, with what BigQuery takes and version 1.4.0 does not.

Nothing of Millrace's is installed there: this file is run by its path.
"""

from __future__ import annotations

import sys
from typing import Any

from bqemulator.cli import main
from bqemulator.sql.rewriter import create_table_schema_ctas
from sqlglot import exp

_first_select = create_table_schema_ctas._first_select  # noqa: SLF001


def _in_brackets(body: exp.Expression | None) -> Any:
    """Take ``CREATE TABLE t (…) AS (SELECT …)`` with brackets, as dbt writes it for a contract."""
    return _first_select(body.unnest() if isinstance(body, exp.Subquery) else body)


create_table_schema_ctas._first_select = _in_brackets  # noqa: SLF001

sys.exit(main(["start"]))
