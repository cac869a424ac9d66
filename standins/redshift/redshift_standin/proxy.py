"""The proxy, which clients take for a Redshift cluster.

A session is one client and its own PostgreSQL connection. Each statement is translated. What
PostgreSQL then understands is passed on, and its answer comes back as the bytes it was, but for
the few values and errors that Redshift writes differently. The rest (COPY, UNLOAD, …) the proxy
does itself, inside the same PostgreSQL session and transaction.

In the extended protocol PostgreSQL gets an empty query in the place of such a statement, so that
naming, binding and describing it need no special case; only its execution does.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from redshift_standin import copy, wire
from redshift_standin.lexer import literal
from redshift_standin.ports import LOOPBACK
from redshift_standin.s3_endpoint import S3Endpoint
from redshift_standin.sql import split, translate
from redshift_standin.statements import (
    AlterTable,
    Answer,
    Copy,
    CreateTable,
    RedshiftError,
    Run,
    Several,
    Translated,
    Unload,
)
from redshift_standin.storage import Cluster
from redshift_standin.unload import unload
from redshift_standin.wire import Backend, ConnectionLost, ServerError, message

logger = logging.getLogger(__name__)

SERVER_VERSION = "8.0.2"
# Tells drivers which SHOW statements they may read the catalog with: those of commands.py.
SHOW_DISCOVERY = "4"
# The parameters that PostgreSQL knows; Redshift's clients also send names of their own.
STARTUP_PARAMETERS = frozenset(
    (
        "user",
        "database",
        "options",
        "application_name",
        "client_encoding",
        "datestyle",
        "timezone",
        "extra_float_digits",
        "search_path",
        "statement_timeout",
    )
)
# So many changed rows are worth a look at the table's statistics.
MANY_ROWS = 1_000
# The statements that PostgreSQL runs by itself.
PLAIN = (Run, CreateTable, AlterTable)
_AUTHENTICATION_NEEDS_ANSWER = frozenset((3, 5, 10, 11))


@dataclass(frozen=True)
class ProxyConfig:
    """What the proxy needs to know.

    Attributes:
        port: Where clients connect.
        postgres_port: Where PostgreSQL listens.
        database: The database whose catalog keeps the load errors.
        superuser: PostgreSQL's own account, which writes them.
        s3: The S3 server that COPY reads and UNLOAD writes.
        iam_roles: The roles attached to the cluster; the first is its default.
        certificate: A file with the key and the certificate for TLS; None for no TLS.
    """

    port: int
    postgres_port: int
    database: str
    superuser: str
    superuser_password: str = field(repr=False)
    s3: S3Endpoint | None
    iam_roles: tuple[str, ...]
    certificate: str | None = None


class Proxy:
    """Accepts clients."""

    def __init__(self, config: ProxyConfig) -> None:
        self._config = config
        self._tls: ssl.SSLContext | None = None
        if config.certificate:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(config.certificate)

    async def listen(self) -> asyncio.Server:
        """Let clients in from now on.

        Raises:
            OSError: The port is taken.
        """
        return await asyncio.start_server(
            self._accept, LOOPBACK, self._config.port, limit=4 * wire.READ_BYTES
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            session = await self._log_in(reader, writer)
            if session:
                try:
                    await session.serve()
                finally:
                    await session.backend.close()
        except (ConnectionLost, OSError, asyncio.IncompleteReadError) as error:
            logger.info("A session ended: %s", error)
        except asyncio.CancelledError:
            # The proxy stops. asyncio's server would log a cancelled handler as a failure.
            logger.info("A session was cut off")
        except Exception:
            logger.exception("A session broke")
            writer.write(ServerError.make("The Redshift stand-in broke; see its log.").encode())
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _log_in(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Session | None:
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            if not 8 <= length <= wire.MAX_STARTUP_BYTES:
                raise ConnectionLost("the first packet is not PostgreSQL's")
            body = await reader.readexactly(length - 8)
            if code == wire.SSL_REQUEST and self._tls:
                writer.write(b"S")
                await writer.start_tls(self._tls)
            elif code in (wire.SSL_REQUEST, wire.GSS_REQUEST):
                writer.write(b"N")
            elif code == wire.CANCEL_REQUEST:
                await self._cancel(body)
                return None
            elif code >> 16 == wire.PROTOCOL_3:
                break
            else:
                raise ConnectionLost(f"protocol {code >> 16} is not spoken here")
        backend = await Backend.open(LOOPBACK, self._config.postgres_port)
        try:
            offered = wire.read_startup_parameters(body)
            known = {
                name: value for name, value in offered.items() if name.lower() in STARTUP_PARAMETERS
            }
            backend.write(wire.startup_packet(known))
            if await _authenticate(backend, reader, writer):
                return Session(reader, writer, backend, self._config)
        except BaseException:
            await backend.close()
            raise
        await backend.close()
        return None

    async def _cancel(self, body: bytes) -> None:
        # The client's cancel key is PostgreSQL's own, so the request is passed on as it is.
        backend = await Backend.open(LOOPBACK, self._config.postgres_port)
        backend.write(struct.pack("!II", len(body) + 8, wire.CANCEL_REQUEST) + body)
        await backend.drain()
        await backend.close()


async def _authenticate(
    backend: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Relay the log-in between PostgreSQL and the client; whether PostgreSQL let it in."""
    while True:
        kind, body = await backend.read()
        if kind == b"S":
            name, _ = wire.split_cstring(body)
            if name == "server_version":
                body = wire.cstring(name) + wire.cstring(SERVER_VERSION)
        if kind == b"Z":
            discovery = wire.cstring("show_discovery") + wire.cstring(SHOW_DISCOVERY)
            writer.write(message(b"S", discovery))
        writer.write(message(kind, body))
        await writer.drain()
        if kind == b"E":
            return False
        if kind == b"Z":
            return True
        if kind == b"R" and struct.unpack_from("!I", body)[0] in _AUTHENTICATION_NEEDS_ANSWER:
            answer = await _read_message(reader)
            if answer is None:
                return False
            backend.write(message(*answer))


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """The client's next message, None when it has hung up."""
    try:
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        if not 4 <= length <= wire.MAX_MESSAGE_BYTES:
            raise ConnectionLost("a message's length is impossible")
        return kind, await reader.readexactly(length - 4)
    except asyncio.IncompleteReadError:
        return None


class Session:
    """One client after its log-in.

    Args:
        reader: From the client.
        writer: To the client.
        backend: Its PostgreSQL connection.
        config: The proxy's.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        backend: Backend,
        config: ProxyConfig,
    ) -> None:
        self.backend = backend
        self._reader = reader
        self._client = writer
        self._config = config
        self._cluster = Cluster(config.s3, config.iam_roles, self._log_in_superuser)
        # Statements and portals of the extended protocol, by name.
        self._statements: dict[str, Translated] = {}
        self._portals: dict[str, Translated] = {}
        # The types that the client's Parse gave a statement's parameters.
        self._parameters: dict[str, tuple[int, ...]] = {}
        # What was executed since the last ReadyForQuery.
        self._executed: list[Translated] = []
        self._asked = wire.Asked()
        # After an error in the extended protocol, every message up to Sync is ignored.
        self._skipping = False
        self._handlers: dict[bytes, Callable[[bytes, bytes], Awaitable[None]]] = {
            b"P": self._parse,
            b"B": self._bind,
            b"D": self._forward,
            b"C": self._close,
            b"E": self._execute,
            b"H": self._flush,
        }

    async def serve(self) -> None:
        """Answer the client until it leaves."""
        while received := await _read_message(self._reader):
            kind, body = received
            if kind == b"X":
                return
            if kind == b"Q":
                await self._simple_query(wire.split_cstring(body)[0])
            elif kind == b"S":
                await self._sync()
            elif kind in self._handlers:
                if not self._skipping:
                    await self._handlers[kind](kind, body)
            elif kind not in b"dcf":
                raise ConnectionLost(f"the client sent a message of the unknown kind {kind!r}")
            await self._client.drain()

    # The simple protocol.

    async def _simple_query(self, text: str) -> None:
        try:
            steps = [await _translate(statement) for statement in split(text)]
            plain = [step.sql for step in steps if isinstance(step, Run)]
            if len(plain) == len(steps):
                # One message, so that PostgreSQL runs it as one transaction. The statements are
                # on separate lines, because one may end in a comment.
                await self._run("\n;\n".join(plain))
                self._executed += steps
            elif len(steps) == 1 or any(_is_transaction(step) for step in steps):
                await self._run_each(steps)
            else:
                async with self._transaction():
                    await self._run_each(steps)
        except (RedshiftError, ServerError) as error:
            await self.backend.abort()
            self._client.write(_as_server_error(error).encode())
        except _ReportedError:
            logger.debug("PostgreSQL has told the client what is wrong")
        await self._keep_statistics()
        self._client.write(wire.ready(self.backend.status))

    async def _run_each(self, steps: list[Translated]) -> None:
        # A table's attributes travel in the text of the message, so each statement has its own.
        for step in steps:
            if isinstance(step, PLAIN):
                await self._run(step.sql)
                self._executed.append(step)
            else:
                self._client.write(wire.command_complete(await self._perform(step)))

    async def _run(self, sql: str) -> None:
        """Run SQL on PostgreSQL and relay its answers to the client, except ReadyForQuery.

        Raises:
            _ReportedError: One of the answers is an error.
        """
        self.backend.write(message(b"Q", wire.cstring(sql)))
        await self.backend.drain()
        if not await self.backend.relay(self._client, self._asked, until_ready=True):
            raise _ReportedError

    # The extended protocol.

    async def _forward(self, kind: bytes, body: bytes) -> None:
        self.backend.write(message(kind, body))
        self._asked.add(kind, body)

    async def _parse(self, kind: bytes, body: bytes) -> None:
        name, position = wire.split_cstring(body)
        text, position = wire.split_cstring(body, position)
        self._statements.pop(name, None)
        try:
            translated = await _translate(text)
        except (RedshiftError, ServerError) as error:
            await self._refuse(error)
            return
        self._statements[name] = translated
        count = struct.unpack_from("!H", body, position)[0]
        self._parameters[name] = struct.unpack_from(f"!{count}I", body, position + 2)
        if isinstance(translated, PLAIN):
            await self._forward(
                kind, wire.cstring(name) + wire.cstring(translated.sql) + body[position:]
            )
        else:
            await self._forward(kind, wire.cstring(name) + wire.cstring("") + b"\0\0")

    async def _bind(self, kind: bytes, body: bytes) -> None:
        portal, position = wire.split_cstring(body)
        statement, _ = wire.split_cstring(body, position)
        self._portals.pop(portal, None)
        if statement in self._statements:
            self._portals[portal] = self._statements[statement]
        types = self._parameters.get(statement, ())
        await self._forward(kind, wire.with_own_intervals(body, types))

    async def _close(self, kind: bytes, body: bytes) -> None:
        closed = self._statements if body.startswith(b"S") else self._portals
        closed.pop(wire.split_cstring(body, 1)[0], None)
        await self._forward(kind, body)

    async def _execute(self, kind: bytes, body: bytes) -> None:
        translated = self._portals.get(wire.split_cstring(body)[0])
        if translated is None or isinstance(translated, PLAIN):
            if translated:
                self._executed.append(translated)
            await self._forward(kind, body)
            return
        await self._flush(b"H", b"")
        if self._skipping:
            return
        try:
            self._client.write(wire.command_complete(await self._perform(translated)))
        except (RedshiftError, ServerError) as error:
            await self._refuse(error)

    async def _flush(self, kind: bytes, body: bytes) -> None:
        self.backend.write(message(kind, body))
        await self.backend.drain()
        if not await self.backend.relay(self._client, self._asked):
            self._skipping = True

    async def _sync(self) -> None:
        self.backend.write(message(b"S"))
        await self.backend.drain()
        await self.backend.relay(self._client, self._asked, until_ready=True)
        self._skipping = False
        await self._keep_statistics()
        self._client.write(wire.ready(self.backend.status))

    async def _refuse(self, error: RedshiftError | ServerError) -> None:
        await self._flush(b"H", b"")
        if not self._skipping:
            await self.backend.abort()
            self._client.write(_as_server_error(error).encode())
            self._skipping = True

    async def _keep_statistics(self) -> None:
        """Refresh PostgreSQL's statistics of the changed tables, if many rows changed."""
        tables = {each.changes for each in self._executed if isinstance(each, Run) and each.changes}
        rows, self.backend.changed_rows = self.backend.changed_rows, 0
        self._executed = []
        if rows < MANY_ROWS or self.backend.status == wire.FAILED:
            return
        try:
            for table in tables:
                await self.backend.query(
                    f"select pg_redshift.rows_changed({literal(table)}, {rows})"
                )
        except ServerError as error:
            # This has made the client's transaction fail, too.
            self._client.write(error.encode())

    # What the proxy does itself.

    async def _perform(self, translated: Translated) -> str:
        """Run a statement that cannot just be passed on to PostgreSQL.

        Returns:
            Its command tag.

        Raises:
            RedshiftError: The statement fails.
            ServerError: The statement fails, or PostgreSQL refuses a part of it.
        """
        match translated:
            case Answer(tag):
                if self.backend.status == wire.FAILED:
                    raise ServerError.make(
                        "current transaction is aborted, commands ignored until end of "
                        "transaction block",
                        "25P02",
                    )
                return tag
            case Unload():
                rows = await unload(translated, self.backend, self._cluster)
                text = f"UNLOAD completed, {rows} record(s) unloaded successfully."
                self._client.write(wire.notice(text))
                return "UNLOAD"
            case Copy():
                async with self._transaction():
                    rows = await copy.load(translated, self.backend, self._cluster)
                self._client.write(wire.notice(copy.loaded_message(translated, rows)))
                # Redshift's own tag has no count, but its driver expects a number there.
                return "COPY 0"
            case Several(statements):
                tags = [await self._perform(statement) for statement in statements]
                return tags[0]
            case Run() | CreateTable() | AlterTable():
                return (await self.backend.query(translated.sql)).tag

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        """The client's open transaction; without one, a transaction around the block."""
        if self.backend.status != wire.IDLE:
            yield
            return
        await self.backend.query("begin")
        try:
            yield
        except (RedshiftError, ServerError, _ReportedError):
            await self.backend.query("rollback")
            raise
        await self.backend.query("commit")

    async def _log_in_superuser(self) -> Backend:
        return await Backend.login(
            LOOPBACK,
            self._config.postgres_port,
            self._config.superuser,
            self._config.superuser_password,
            self._config.database,
        )


class _ReportedError(Exception):
    """An error of PostgreSQL that the client has already received."""


def _is_transaction(step: Translated) -> bool:
    # A leading comment is on lines of its own before the statement.
    last_line = step.sql.rpartition("\n")[2] if isinstance(step, Run) else ""
    return last_line.startswith(("begin", "commit", "rollback"))


async def _translate(statement: str) -> Translated:
    try:
        # A seed's INSERT may take a while to parse, and other sessions must not wait for it.
        return await asyncio.to_thread(translate, statement)
    except RedshiftError:
        raise
    except Exception as error:
        logger.exception("A statement broke the translation:\n%s", statement)
        raise ServerError.make(
            "The Redshift stand-in broke on this statement; its log has the details."
        ) from error


def _as_server_error(error: RedshiftError | ServerError) -> ServerError:
    if isinstance(error, ServerError):
        return error
    return ServerError.make(error.message, error.sqlstate, hint=error.hint)
