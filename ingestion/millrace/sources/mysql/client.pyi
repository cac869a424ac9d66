# The types of client.pyx, for mypy; the docstrings are there.
from millrace.sources.mysql.tls import Tls

class MySQLError(Exception):
    number: int
    sqlstate: str
    text: str

    def __init__(self, number: int, sqlstate: str, text: str) -> None: ...

class Client:
    def __init__(
        self,
        *,
        host: str,
        port: int,
        user: str | None,
        password: str | None,
        database: str | None,
        unix_socket: str | None,
        connect_timeout: int,
        read_timeout: int,
        write_timeout: int,
        tls: Tls | None,
    ) -> None: ...
    @property
    def cipher(self) -> str | None: ...
    def rows(self, statement: str) -> tuple[list[str], list[tuple[str | None, ...]]]: ...
    def literal(self, value: str) -> str: ...
    def cut(self) -> None: ...
    def close(self) -> None: ...
