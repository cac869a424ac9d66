"""The options of a table of MySQL or MariaDB."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millrace.sources.options import Harm, ServerOptions


class MySQLHarm(Harm):
    """What a MySQL server may suffer.

    Attributes:
        max_history_list: How many changes InnoDB may have yet to purge, because open snapshots
            could still see the rows as they were before. Default: any.
    """

    max_history_list: int | None = Field(default=None, ge=1)


class MySQLOptions(ServerOptions):
    """A table of a MySQL or MariaDB server.

    Attributes:
        table: ``database.table``, or ``table`` in the connection's database.
        harm: As for every server; see ``MySQLHarm``.
    """

    kind: Literal["mysql"]
    table: str = Field(pattern=r"^[^.`]+(\.[^.`]+)?$")
    harm: MySQLHarm = MySQLHarm()
