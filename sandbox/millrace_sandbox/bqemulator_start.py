"""Starts bqemulator, in its own environment, with two faults of version 1.4.0 mended.

Nothing of Millrace's is installed there: this file is run by its path.
"""

from __future__ import annotations

import sys
from typing import Any

from bqemulator.sql.rewriter import create_table_schema_ctas
from bqemulator.sql.rules import TranslationRule, register
from sqlglot import exp

_first_select = create_table_schema_ctas._first_select  # noqa: SLF001


def _in_brackets(body: exp.Expression | None) -> Any:
    """Take ``CREATE TABLE t (…) AS (SELECT …)`` with brackets, as dbt writes it for a contract."""
    return _first_select(body.unnest() if isinstance(body, exp.Subquery) else body)


create_table_schema_ctas._first_select = _in_brackets  # noqa: SLF001


# What a DECIMAL without parameters is in DuckDB.
_DECIMAL = exp.DataType.build("DECIMAL(18, 3)", dialect="duckdb")


@register
class NumericHasNineDecimals(TranslationRule):  # type: ignore[misc]
    """A NUMERIC without parameters has nine decimals; DuckDB's DECIMAL has three."""

    name = "NUMERIC_HAS_NINE_DECIMALS"

    def applies_to(self, node: exp.Expression) -> bool:
        """Whether this is the type that a DECIMAL without parameters has in DuckDB."""
        # It is asked of every node of every statement, and writing one as SQL takes 30 ms.
        return node == _DECIMAL

    def rewrite(self, node: exp.Expression) -> exp.Expression:
        """The type that Google documents."""
        return exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb")


# Now that the rule is there: with this, the emulator collects its rules.
from bqemulator.cli import main  # noqa: E402

sys.exit(main(["start"]))
