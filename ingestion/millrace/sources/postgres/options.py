"""The options of a table of PostgreSQL."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millrace.sources.options import ServerOptions

_DEFAULT_SCHEMA = "public"


class PostgresOptions(ServerOptions):
    """A table of a PostgreSQL server, in the connection's database.

    Attributes:
        table: ``schema.table``, or ``table`` in the schema ``public``; written as in the catalog,
            without quotes.
    """

    kind: Literal["postgres"]
    table: str = Field(pattern=r"^[^.]+(\.[^.]+)?$")

    @property
    def place(self) -> tuple[str, str]:
        """The table's schema and its name."""
        schema, _, name = self.table.rpartition(".")
        return schema or _DEFAULT_SCHEMA, name
