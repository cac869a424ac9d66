"""The options of a table of MySQL or MariaDB."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from millrace.catalog import IngestOptions


class MySQLOptions(IngestOptions):
    """A table of a MySQL or MariaDB server.

    Attributes:
        primary_key: Columns that identify a row; a table without any is read whole.
        table: ``database.table``, or ``table`` in the connection's database.
        partitions: Number of connections that read a large batch at the same time. Each reads a
            range of the primary key, of at least a million rows. Default: by the number of rows.
    """

    kind: Literal["mysql"]
    table: str = Field(pattern=r"^[^.`]+(\.[^.`]+)?$")
    partitions: int | None = Field(default=None, ge=1, le=16)

    @model_validator(mode="after")
    def _a_cursor_needs_a_key(self) -> Self:
        # An edited row comes again: only a key tells which one it replaces.
        if self.cursor and not self.primary_key:
            raise ValueError("lacks the key 'primary_key', which a table with a cursor needs")
        return self
