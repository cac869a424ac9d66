"""PostgreSQL's wire protocol, version 3: the messages that the proxy reads and writes itself.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
PROTOCOL_3 = 3

IDLE = b"I"
FAILED = b"E"

MAX_STARTUP_BYTES = 10_000
# The largest message that PostgreSQL itself takes.
MAX_MESSAGE_BYTES = 0x3FFFFFFF
READ_BYTES = 256 * 1024

_INT = struct.Struct("!I")
_DATA_ROW = ord("D")
# The kinds of message that end the answer to one message of the extended protocol.
_COMPLETIONS = b"123TnCIs"
# The fields of reports with the SQLSTATEs 40001 and 23502.
_SERIALIZATION_FAILURE = b"C40001\0"
_NULL_IN_NOT_NULL = b"C23502\0"
# The tags that end in a number of rows written.
_CHANGES = (b"INSERT ", b"UPDATE ", b"DELETE ", b"MERGE ")

SUPER_OID = 4000
VARBYTE_OID = 6551
INTERVAL_OID = 1186

# A binary INTERVAL: PostgreSQL's has microseconds, days and months, Redshift's has no days.
_OWN_INTERVAL = struct.Struct("!qii")
_INTERVAL = struct.Struct("!qi")
_DAY = 86_400_000_000


class ConnectionLost(Exception):
    """The other side is gone."""


class ServerError(Exception):
    """An ErrorResponse: PostgreSQL's own, or one made up for the client.

    Attributes:
        fields: Its fields by their one-letter code.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(fields.get("M", ""))
        self.fields = dict(fields)

    @classmethod
    def make(
        cls,
        message: str,
        sqlstate: str = "XX000",
        detail: str | None = None,
        hint: str | None = None,
    ) -> ServerError:
        """An error with the given texts; XX000 is what Redshift's own failures carry."""
        fields = {"S": "ERROR", "C": sqlstate, "M": message}
        if detail:
            fields["D"] = detail
        if hint:
            fields["H"] = hint
        return cls(fields)

    def encode(self) -> bytes:
        """The ErrorResponse message."""
        return _report(b"E", self.fields)


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message as it travels: kind, length, body."""
    return kind + _INT.pack(len(body) + 4) + body


def notice(text: str) -> bytes:
    """A NoticeResponse of the severity INFO."""
    return _report(b"N", {"S": "INFO", "C": "00000", "M": text})


def command_complete(tag: str) -> bytes:
    """The end of a statement."""
    return message(b"C", cstring(tag))


def ready(status: bytes) -> bytes:
    """ReadyForQuery."""
    return message(b"Z", status)


def cstring(text: str) -> bytes:
    """A text with the null byte that ends it in a message."""
    return text.encode() + b"\0"


def split_cstring(body: bytes, start: int = 0) -> tuple[str, int]:
    """The text that begins at `start`, and where the next thing begins."""
    end = body.index(b"\0", start)
    return body[start:end].decode(errors="replace"), end + 1


def startup_packet(parameters: Mapping[str, str]) -> bytes:
    """The first packet of a session."""
    body = _INT.pack(PROTOCOL_3 << 16)
    for name, value in parameters.items():
        body += cstring(name) + cstring(value)
    body += b"\0"
    return _INT.pack(len(body) + 4) + body


def read_startup_parameters(body: bytes) -> dict[str, str]:
    """The names and values of a start-up packet, without its protocol number."""
    texts = [part.decode(errors="replace") for part in body.rstrip(b"\0").split(b"\0")]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _report(kind: bytes, fields: Mapping[str, str]) -> bytes:
    body = b"".join(code.encode() + cstring(text) for code, text in fields.items())
    return message(kind, body + b"\0")


def _read_report(body: bytes) -> dict[str, str]:
    parts = body.rstrip(b"\0").split(b"\0")
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in parts if part}


def _isolation_violation(body: bytes) -> bytes:
    """PostgreSQL's serialization failure in Redshift's words; its own stay as the hint."""
    fields = _read_report(body)
    fields |= {
        "M": "1023",
        "D": "Serializable isolation violation on table in Redshift",
        "H": ": ".join(filter(None, (fields.get("M"), fields.get("D")))),
    }
    return _report(b"E", fields)[5:]


def _null_refused(body: bytes) -> bytes:
    """PostgreSQL's report of a NULL where none may be, in Redshift's words and with its code."""
    fields = _read_report(body)
    if fields.get("M", "").startswith("null value in column "):
        text = f"Cannot insert a NULL value into column {fields['c']}"
        fields |= {"C": "XX000", "M": text, "D": f"error: {text} code: 8007"}
    return _report(b"E", fields)[5:]


@dataclass(frozen=True)
class Column:
    """A column of a result: its name, its type's OID and modifier."""

    name: str
    type_oid: int
    modifier: int


def read_columns(row_description: bytes) -> list[Column]:
    """The columns that a RowDescription's body names."""
    columns = []
    position = 2
    for _ in range(struct.unpack_from("!H", row_description)[0]):
        name, position = split_cstring(row_description, position)
        type_oid, _, modifier = struct.unpack_from("!Ihi", row_description, position + 6)
        columns.append(Column(name, type_oid, modifier))
        position += 18
    return columns


@dataclass
class QueryResult:
    """The result of a statement that the proxy ran itself: rows of texts, and the command tag."""

    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    tag: str = ""


class Asked:
    """The messages of the extended protocol that PostgreSQL has still to answer.

    It also knows the columns in their results that Redshift writes differently.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes, str]] = deque()
        self._simple_columns: dict[int, Column] = {}
        self._columns: dict[str, dict[int, Column]] = {}
        self._portals: dict[str, tuple[str, tuple[int, ...]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, kind: bytes, body: bytes) -> None:
        """Note a message that is passed on."""
        name, position = split_cstring(body)
        if kind == b"P":
            self._columns.pop(name, None)
        elif kind == b"B":
            statement, position = split_cstring(body, position)
            self._portals[name] = statement, _result_formats(body, position)
        self._waiting.append((kind, name))

    def answered(self, kind: bytes, body: bytes) -> None:
        """Note the answer to the first of them, or that to a simple query."""
        asked, name = self._waiting.popleft() if self._waiting else (b"Q", "")
        if kind != b"T":
            return
        columns = {
            index: column
            for index, column in enumerate(read_columns(body))
            if (column.type_oid, False) in _REWRITTEN or (column.type_oid, True) in _REWRITTEN
        }
        if asked == b"Q":
            self._simple_columns = columns
        elif name.startswith("S"):
            self._columns[name[1:]] = columns
        else:
            self._columns[self._portals[name[1:]][0]] = columns

    def rewritten(self) -> dict[int, Callable[[bytes], bytes]]:
        """The columns of the next rows whose values change, by index, and what changes them."""
        columns = self._simple_columns
        formats: tuple[int, ...] = ()
        if self._waiting:
            kind, name = self._waiting[0]
            if kind != b"E" or name not in self._portals:
                return {}
            statement, formats = self._portals[name]
            columns = self._columns.get(statement, {})
        keys = {
            index: (column.type_oid, _is_binary(formats, index))
            for index, column in columns.items()
        }
        return {index: _REWRITTEN[key] for index, key in keys.items() if key in _REWRITTEN}

    def clear(self) -> None:
        """Forget what will not be answered any more."""
        self._waiting.clear()


def _result_formats(body: bytes, position: int) -> tuple[int, ...]:
    """The format codes at the end of a Bind, which begin after its parameters."""
    count = struct.unpack_from("!H", body, position)[0]
    position += 2 + 2 * count
    count = struct.unpack_from("!H", body, position)[0]
    position += 2
    for _ in range(count):
        position += 4 + max(0, struct.unpack_from("!i", body, position)[0])
    count = struct.unpack_from("!H", body, position)[0]
    return struct.unpack_from(f"!{count}H", body, position + 2)


def _is_binary(formats: tuple[int, ...], index: int) -> bool:
    # One format code is for all columns; without any, all columns are text.
    return bool(formats) and bool(formats[index] if len(formats) > 1 else formats[0])


def _rewrite_row(row: bytes, columns: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
    """A DataRow's body with the values of these columns as Redshift writes them."""
    parts = [row[:2]]
    position = 2
    for index in range(struct.unpack_from("!H", row)[0]):
        length = struct.unpack_from("!i", row, position)[0]
        start, position = position + 4, position + 4 + max(0, length)
        value = row[start:position]
        if index in columns and length >= 0:
            value = columns[index](value)
        parts.append(struct.pack("!i", len(value) if length >= 0 else -1) + value)
    return b"".join(parts)


def _without_hex_mark(value: bytes) -> bytes:
    # PostgreSQL writes it before the digits of a VARBYTE.
    return value.removeprefix(b"\\x")


def _redshifts_interval(value: bytes) -> bytes:
    microseconds, days, months = _OWN_INTERVAL.unpack(value)
    return _INTERVAL.pack(microseconds + days * _DAY, months)


# What changes a value, by its type and whether it travels in binary.
_REWRITTEN = {
    (VARBYTE_OID, False): _without_hex_mark,
    (INTERVAL_OID, True): _redshifts_interval,
}


def with_own_intervals(bind: bytes, parameters: tuple[int, ...]) -> bytes:
    """A Bind message whose binary INTERVAL parameters are as PostgreSQL reads them.

    Args:
        bind: The message's body.
        parameters: The parameter types that Parse has named; it need not name all.
    """
    if INTERVAL_OID not in parameters:
        return bind
    position = bind.index(b"\0", bind.index(b"\0") + 1) + 1
    count = struct.unpack_from("!H", bind, position)[0]
    formats = struct.unpack_from(f"!{count}H", bind, position + 2)
    position += 2 + 2 * count
    parts = [bind[: position + 2]]
    count = struct.unpack_from("!H", bind, position)[0]
    position += 2
    for index in range(count):
        length = struct.unpack_from("!i", bind, position)[0]
        start, position = position + 4, position + 4 + max(0, length)
        value = bind[start:position]
        is_interval = index < len(parameters) and parameters[index] == INTERVAL_OID
        if is_interval and _is_binary(formats, index) and length == _INTERVAL.size:
            microseconds, months = _INTERVAL.unpack(value)
            value = _OWN_INTERVAL.pack(microseconds, 0, months)
        parts.append(struct.pack("!i", len(value) if length >= 0 else -1) + value)
    return b"".join([*parts, bind[position:]])


class Backend:
    """A connection to PostgreSQL.

    The proxy uses it in two ways: it relays a client's messages over it, and between them it runs
    statements of its own, in the same session and transaction.

    Attributes:
        status: The transaction status of the last ReadyForQuery.
        process_id: PostgreSQL's process for this session.
        changed_rows: How many rows the client's statements inserted, updated, merged or deleted.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = b""
        self._position = 0
        self.status = IDLE
        self.process_id = 0
        self.changed_rows = 0

    @classmethod
    async def open(cls, host: str, port: int) -> Backend:
        """Connect, without sending anything.

        Raises:
            ConnectionLost: nobody listens.
        """
        try:
            reader, writer = await asyncio.open_connection(host, port, limit=4 * READ_BYTES)
        except OSError as error:
            raise ConnectionLost(f"PostgreSQL does not answer on {host}:{port}: {error}") from error
        return cls(reader, writer)

    @classmethod
    async def login(cls, host: str, port: int, user: str, password: str, database: str) -> Backend:
        """Connect and log in with a password.

        Raises:
            ConnectionLost: nobody listens.
            ServerError: PostgreSQL refuses.
        """
        backend = await cls.open(host, port)
        try:
            backend.write(startup_packet({"user": user, "database": database}))
            while True:
                kind, body = await backend.read()
                if kind == b"R":
                    backend._answer_authentication(user, password, body)  # noqa: SLF001 its own
                elif kind == b"E":
                    raise ServerError(_read_report(body))
                elif kind == b"Z":
                    return backend
        except BaseException:
            await backend.close()
            raise

    def _answer_authentication(self, user: str, password: str, body: bytes) -> None:
        method = _INT.unpack_from(body)[0]
        if method == 5:
            # The protocol's own way: the server keeps md5(password + user).
            stored = hashlib.md5(f"{password}{user}".encode()).hexdigest()  # noqa: S324
            salted = hashlib.md5(stored.encode() + body[4:8]).hexdigest()  # noqa: S324
            self.write(message(b"p", cstring(f"md5{salted}")))
        elif method != 0:
            raise ConnectionLost(f"PostgreSQL asks for authentication method {method}.")

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until what was written is on its way."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise ConnectionLost("PostgreSQL closed the connection.") from error

    async def close(self) -> None:
        """Close the connection; PostgreSQL rolls back what is open."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def read(self) -> tuple[bytes, bytes]:
        """The next message: kind and body."""
        while len(self._buffer) - self._position < 5:
            await self._fill()
        length = int(_INT.unpack_from(self._buffer, self._position + 1)[0])
        while len(self._buffer) - self._position < 1 + length:
            await self._fill()
        start = self._position
        self._position += 1 + length
        kind = self._buffer[start : start + 1]
        body = self._buffer[start + 5 : self._position]
        if kind == b"Z":
            self.status = body
        elif kind == b"K":
            self.process_id = int(_INT.unpack_from(body)[0])
        elif kind == b"E" and _SERIALIZATION_FAILURE in body:
            body = _isolation_violation(body)
        elif kind == b"E" and _NULL_IN_NOT_NULL in body:
            body = _null_refused(body)
        return kind, body

    async def _fill(self) -> None:
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError as error:
            raise ConnectionLost("PostgreSQL closed the connection.") from error
        if not data:
            raise ConnectionLost("PostgreSQL closed the connection.")
        self._buffer = self._buffer[self._position :] + data
        self._position = 0

    async def relay(
        self, client: asyncio.StreamWriter, asked: Asked, *, until_ready: bool = False
    ) -> bool:
        """Hand PostgreSQL's answers to the client; rows without values to change go byte for byte.

        Args:
            client: Where they go.
            asked: What is to be answered.
            until_ready: Go on until ReadyForQuery, which the caller has to send.

        Returns:
            Whether there was no error among the answers.
        """
        succeeded = True
        while until_ready or asked:
            rewritten = asked.rewritten()
            if not rewritten:
                await self._relay_rows(client)
            kind, body = await self.read()
            if kind == b"Z":
                break
            if kind == b"D":
                body = _rewrite_row(body, rewritten)
            client.write(message(kind, body))
            await client.drain()
            if kind == b"C" and body.startswith(_CHANGES):
                self.changed_rows += int(body[:-1].rpartition(b" ")[2])
            if kind == b"E":
                succeeded = False
                asked.clear()
                if not until_ready:
                    break
            elif kind in _COMPLETIONS:
                asked.answered(kind, body)
        return succeeded

    async def _relay_rows(self, client: asyncio.StreamWriter) -> None:
        """Hand on DataRows until another message is next."""
        unpack = _INT.unpack_from
        while True:
            buffer, start, length = self._buffer, self._position, len(self._buffer)
            position = start
            while position + 5 <= length and buffer[position] == _DATA_ROW:
                position += 1 + unpack(buffer, position + 1)[0]
            if position > start:
                client.write(buffer[start:position])
            self._position = min(position, length)
            if position > length:
                await self._relay_bytes(client, position - length)
            elif position < length and buffer[position] != _DATA_ROW:
                return
            else:
                await self._fill()
            await client.drain()

    async def _relay_bytes(self, client: asyncio.StreamWriter, count: int) -> None:
        """Hand on the rest of a row whose beginning was sent already."""
        while count > 0:
            await self._fill()
            self._position = min(count, len(self._buffer))
            client.write(self._buffer[: self._position])
            count -= self._position

    async def query(self, sql: str) -> QueryResult:
        """Run a statement of the proxy's own.

        Raises:
            ServerError: PostgreSQL refuses it.
        """
        self.write(message(b"Q", cstring(sql)))
        await self.drain()
        result = QueryResult()
        error: ServerError | None = None
        while True:
            kind, body = await self.read()
            if kind == b"D":
                result.rows.append(_read_row(body))
            elif kind == b"C":
                result.tag = split_cstring(body)[0]
            elif kind == b"E":
                error = ServerError(_read_report(body))
            elif kind == b"Z":
                break
        if error:
            raise error
        return result

    async def describe(self, sql: str) -> list[Column]:
        """The columns that a statement would give.

        Raises:
            ServerError: PostgreSQL refuses it.
        """
        self.write(message(b"P", cstring("") + cstring(sql) + b"\0\0"))
        self.write(message(b"D", b"S" + cstring("")) + message(b"S"))
        await self.drain()
        columns: list[Column] = []
        error: ServerError | None = None
        while True:
            kind, body = await self.read()
            if kind == b"T":
                columns = read_columns(body)
            elif kind == b"E":
                error = ServerError(_read_report(body))
            elif kind == b"Z":
                break
        if error:
            raise error
        return columns

    async def copy_in(self, sql: str, chunks: AsyncIterator[bytes]) -> int:
        """Run a ``COPY … FROM STDIN``.

        Args:
            sql: The statement.
            chunks: The data. What it raises undoes the copy and is raised again.

        Returns:
            The number of rows.

        Raises:
            ServerError: PostgreSQL refuses the statement or a row.
        """
        self.write(message(b"Q", cstring(sql)))
        await self.drain()
        await self._expect(b"G")
        # Read while writing: PostgreSQL may refuse a row long before the end.
        answer = asyncio.create_task(self.read())
        failure: BaseException | None = None
        try:
            async for chunk in chunks:
                if answer.done():
                    break
                self.write(message(b"d", chunk))
                await self.drain()
        except ConnectionLost:
            answer.cancel()
            raise
        except BaseException as error:
            failure = error
        self.write(message(b"f", cstring("")) if failure else message(b"c"))
        kind, body = await answer
        result: tuple[bytes, bytes] | None = None
        while kind != b"Z":
            if kind in b"CE":
                result = kind, body
            kind, body = await self.read()
        if failure:
            raise failure
        if result is None or result[0] == b"E":
            raise ServerError(_read_report(result[1] if result else b""))
        return int(split_cstring(result[1])[0].rpartition(" ")[2])

    async def copy_out(self, sql: str) -> AsyncIterator[bytes]:
        """Run a ``COPY … TO STDOUT`` and give its data as it comes.

        Raises:
            ServerError: PostgreSQL refuses the statement, or fails on the way.
        """
        self.write(message(b"Q", cstring(sql)))
        await self.drain()
        await self._expect(b"H")
        error: ServerError | None = None
        while True:
            kind, body = await self.read()
            if kind == b"d":
                yield body
            elif kind == b"E":
                error = ServerError(_read_report(body))
            elif kind == b"Z":
                break
        if error:
            raise error

    async def abort(self) -> None:
        """Make the open transaction fail, as an error of PostgreSQL's own would."""
        with suppress(ServerError):
            await self.query("!")

    async def _expect(self, wanted: bytes) -> None:
        error: ServerError | None = None
        while True:
            kind, body = await self.read()
            if kind == wanted:
                return
            if kind == b"E":
                error = ServerError(_read_report(body))
            elif kind == b"Z":
                raise error or ConnectionLost(f"PostgreSQL did not answer with {wanted!r}.")


def _read_row(body: bytes) -> tuple[str | None, ...]:
    values: list[str | None] = []
    position = 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        length = struct.unpack_from("!i", body, position)[0]
        position += 4
        if length < 0:
            values.append(None)
        else:
            values.append(body[position : position + length].decode())
            position += length
    return tuple(values)


def cell(value: str | None) -> str:
    """A value of a column that has no nulls."""
    if value is None:
        raise ConnectionLost("PostgreSQL gave NULL where none can be.")
    return value
