"""What an account may do on a PostgreSQL server, of what Millrace needs."""

from __future__ import annotations

from millrace.bad_values import counted
from millrace.connections import Connection
from millrace.sources.base import Access, Right
from millrace.sources.postgres.open_transactions import sees_all
from millrace.sources.postgres.relation import OWN_SCHEMAS
from millrace.sources.postgres.session import Server, Session
from millrace.sources.postgres.types import quote

_OWN = ", ".join(f"'{name}'" for name in OWN_SCHEMAS)
_READABLE = f"""
SELECT n.nspname::text, COUNT(*) FILTER (WHERE c.relkind <> 'v'),
    COUNT(*) FILTER (WHERE c.relkind = 'v')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ({_OWN})
    AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND has_schema_privilege(n.oid, 'USAGE')
    AND has_table_privilege(c.oid, 'SELECT')
GROUP BY n.nspname ORDER BY n.nspname
"""
_WRITABLE = f"""
SELECT string_agg(p.name, ', ' ORDER BY p.name), n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p (name)
WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT IN ({_OWN})
    AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND has_table_privilege(c.oid, p.name)
GROUP BY n.nspname, c.relname ORDER BY 2
"""
_ROLE = (
    "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles "
    "WHERE rolname = current_user"
)
_POWERS = ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION")


def access(connection: Connection) -> Access:
    """Connect, and see what the account may do.

    Raises:
        SourceUnavailable, SourceRefused: the server does not answer, or refuses the account.
    """
    server = Server(connection)
    with server.connected() as session:
        ((version, account, is_encrypted),) = session.rows(
            "SELECT current_setting('server_version'), current_user::text, "
            "COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
        )
        rights = (_select(session, account), _statistics(session, account))
        beyond = _beyond(session)
    tls = "with TLS" if is_encrypted else "without TLS"
    reached = f"PostgreSQL {version} at {server.address}, as {account}, {tls}"
    return Access(reached, rights, beyond)


def _select(session: Session, account: str) -> Right:
    where = "; ".join(
        f"{schema}: {counted(tables, 'table')}" + (f", {counted(views, 'view')}" if views else "")
        for schema, tables, views in session.rows(_READABLE)
    )
    return Right(
        "SELECT",
        where,
        "reading",
        "No table can be read.",
        f"GRANT USAGE ON SCHEMA public TO {quote(account)}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {quote(account)}",
        is_needed=True,
    )


def _statistics(session: Session, account: str) -> Right:
    return Right(
        "pg_read_all_stats",
        "the server" if sees_all(session) else "",
        "seeing since when transactions are open",
        "A transaction of another account that takes more than ten seconds holds a batch up, "
        "whatever its age.",
        f"GRANT pg_read_all_stats TO {quote(account)}",
    )


def _beyond(session: Session) -> tuple[str, ...]:
    """What the account may do to the server and its data that Millrace never does."""
    ((*powers,),) = session.rows(_ROLE)
    held = [name for name, has in zip(_POWERS, powers, strict=True) if has]
    if "SUPERUSER" in held:
        # It may do everything.
        return ("SUPERUSER on the server",)
    on_server = (f"{', '.join(held)} on the server",) if held else ()
    on_tables = tuple(f"{rights} on {place}" for rights, place in session.rows(_WRITABLE))
    return (*on_server, *on_tables)
