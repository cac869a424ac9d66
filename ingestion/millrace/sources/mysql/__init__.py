"""Tables of MySQL and MariaDB servers."""

from __future__ import annotations

from millrace.connections import Connection
from millrace.sources.base import Source, SourceKind
from millrace.sources.mysql.options import MySQLOptions


def _open(connection: Connection) -> Source:
    from millrace.sources.mysql.source import MySQLSource

    return MySQLSource(connection)


KIND = SourceKind(options=MySQLOptions, open=_open, requirement="millrace[mysql]")
"""The kind ``mysql``."""
