"""The options that tables of every database server have."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from millrace.catalog import IngestOptions


class Harm(BaseModel):
    """How much a server may suffer from a table's reads, which wait or stop at these limits.

    Attributes:
        max_statement_s: The longest time that a statement may take, in seconds; the server ends
            those that take longer. Default: 5, as far as the table's rows can be read so.
        max_replica_lag_s: How far the server, which must be a replica, may be behind its primary,
            in seconds. Default: any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_statement_s: float | None = Field(default=None, ge=0.1, le=3600)
    max_replica_lag_s: float | None = Field(default=None, ge=1)


class ServerOptions(IngestOptions):
    """A table of a database server.

    Attributes:
        primary_key: Columns that identify a row; a table without any is read whole.
        partitions: Number of connections that read a large batch at the same time, each a range of
            at least a million rows. Default: by the number of rows.
        harm: The limits at which reading the table waits or stops; see ``Harm``.
    """

    partitions: int | None = Field(default=None, ge=1, le=16)
    harm: Harm = Harm()

    @model_validator(mode="after")
    def _a_cursor_needs_a_key(self) -> Self:
        # An edited row comes again: only a key tells which one it replaces.
        if self.cursor and not self.primary_key:
            raise ValueError("lacks the key 'primary_key', which a table with a cursor needs")
        return self
