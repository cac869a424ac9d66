"""The options of a raw table in Redshift."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from millrace.bad_values import Limits

LIMITS = Limits(text_bytes=65_535, binary_bytes=1_024_000, has_nul=False, has_year_0=False)
"""Of VARCHAR, VARBYTE and DATE: its texts of a year begin with 0001."""


class RedshiftOptions(BaseModel):
    """How Redshift keeps a raw table.

    Attributes:
        distkey: Column that spreads the rows over the slices; default: the first column of the
            primary key.
        sortkey: Columns that sort the rows after ``_loaded_at``; default: the cursor.
        super: Columns with JSON in them, kept as SUPER instead of as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    distkey: str | None = None
    sortkey: tuple[str, ...] | None = None
    super: tuple[str, ...] = ()
