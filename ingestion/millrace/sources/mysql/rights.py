"""What an account may do on a MySQL server, of what Millrace needs, by trying it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from millrace.bad_values import counted
from millrace.connections import Connection
from millrace.sources.base import Access, Right
from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.in_flight import processes_of, writers
from millrace.sources.mysql.relation import OWN_SCHEMAS
from millrace.sources.mysql.session import Server, Session, lacks_a_right_there
from millrace.sources.mysql.types import quote

_LOCK_SECONDS = 1
# What an account that only reads has.
_READS = frozenset({"USAGE", "SELECT", "SHOW VIEW", "LOCK TABLES", "PROCESS", "SHOW DATABASES"})
_READS |= {"REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR"}


def access(connection: Connection) -> Access:
    """Connect, and try each right that Millrace can use.

    Raises:
        SourceUnavailable, SourceRefused: the server does not answer, or refuses the account.
    """
    server = Server(connection)
    with server.connected() as session:
        ((version, account),) = session.rows("SELECT VERSION(), CURRENT_USER()")
        relations = session.rows(
            "SELECT table_schema, table_name, table_type FROM information_schema.tables "
            "WHERE table_schema NOT IN (%s, %s, %s, %s) ORDER BY table_schema, table_name",
            OWN_SCHEMAS,
        )
        readable = [
            (str(schema), str(name), kind != "VIEW")
            for schema, name, kind in relations
            if _reads(session, str(schema), str(name))
        ]
        rights = (
            _select(readable, connection, str(account)),
            _lock_tables(session, readable, str(account)),
            _process(session, str(account)),
        )
        beyond = _beyond(session)
        tls = "with TLS" if session.is_encrypted else "without TLS"
    return Access(f"MySQL {version} at {server.address}, as {account}, {tls}", rights, beyond)


def _reads(session: Session, schema: str, name: str) -> bool:
    try:
        session.rows(f"SELECT 1 FROM {quote(schema)}.{quote(name)} LIMIT 0")
    except MySQLError:
        # No right, or a view that cannot be opened.
        return False
    return True


def _select(
    readable: Sequence[tuple[str, str, bool]], connection: Connection, account: str
) -> Right:
    counts: Counter[tuple[str, bool]] = Counter(
        (schema, is_table) for schema, _, is_table in readable
    )
    schemas = list(dict.fromkeys(schema for schema, _, _ in readable))
    where = "; ".join(
        f"{schema}: {counted(counts[schema, True], 'table')}"
        + (f", {counted(counts[schema, False], 'view')}" if counts[schema, False] else "")
        for schema in schemas
    )
    database = quote(connection.schema) if connection.schema else "<database>"
    return Right(
        "SELECT",
        where,
        "reading",
        "No table can be read.",
        f"GRANT SELECT ON {database}.* TO {_quoted(account)}",
        is_needed=True,
    )


def _lock_tables(
    session: Session, readable: Iterable[tuple[str, str, bool]], account: str
) -> Right:
    """Try it on one table of each database, for the moment that this takes."""
    first = {schema: name for schema, name, is_table in reversed([*readable]) if is_table}
    session.run(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
    granted = []
    for schema, name in sorted(first.items()):
        try:
            session.run(f"LOCK TABLES {quote(schema)}.{quote(name)} READ")
            session.run("UNLOCK TABLES")
        except MySQLError as error:
            # Any other error is a lock that somebody holds.
            if lacks_a_right_there(error):
                continue
        granted.append(schema)
    missing = [schema for schema in sorted(first) if schema not in granted]
    return Right(
        "LOCK TABLES",
        ", ".join(granted),
        "reading a large table by several connections as of one moment",
        "A table without a cursor is read by one connection.",
        "; ".join(
            f"GRANT LOCK TABLES ON {quote(name)}.* TO {_quoted(account)}" for name in missing
        ),
    )


def _process(session: Session, account: str) -> Right:
    sees = writers(processes_of(session), session).may_be_seen
    return Right(
        "PROCESS",
        "the server" if sees else "",
        "seeing open transactions",
        "The newest rows are read a minute later, and nobody is named who holds a batch up.",
        f"GRANT PROCESS ON *.* TO {_quoted(account)}",
    )


def _beyond(session: Session) -> tuple[str, ...]:
    """What the account may do to the server and its data that Millrace never does."""
    own = ", ".join(["%s"] * len(OWN_SCHEMAS))
    rows = session.rows(
        "SELECT privilege_type, '*.*' FROM information_schema.user_privileges UNION "
        "SELECT privilege_type, CONCAT(table_schema, '.*') "
        "FROM information_schema.schema_privileges UNION "
        "SELECT privilege_type, CONCAT(table_schema, '.', table_name) FROM "
        f"information_schema.table_privileges WHERE table_schema NOT IN ({own}) ORDER BY 2, 1",
        OWN_SCHEMAS,
    )
    found: dict[str, list[str]] = {}
    for privilege, place in rows:
        if str(privilege) not in _READS:
            found.setdefault(str(place), []).append(str(privilege))
    return tuple(f"{', '.join(privileges)} on {place}" for place, privileges in found.items())


def _quoted(account: str) -> str:
    """``login@host`` as SQL names it."""
    login, _, host = account.rpartition("@")
    return "@".join("'" + part.replace("'", "''") + "'" for part in (login, host))
