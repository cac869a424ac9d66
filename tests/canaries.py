"""Secrets that are recognised wherever they turn up and however they are spelt, and the search.

A canary begins and ends with a random word of letters and digits, which no encoding of text, SQL,
JSON or URLs changes; between the words are the signs that such encodings stumble over.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from millrace_sandbox.mysql import MySQLServer
from redshift_standin import S3Endpoint
from redshift_standin.files import make_folder, write_private
from redshift_standin.s3 import S3Server
from sheets_standin import GoogleSheetsServer, TabSpec

FILES = {
    "dbt_project.yml": """
name: canaries
version: "1.0.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
""",
    "models/_canaries.yml": """
sources:
  - name: mysql
    schema: raw_mysql
    config:
      meta:
        ingest: {kind: mysql, connection: mysql_prod}
    tables:
      - name: nps
        config: {meta: {ingest: {table: nps, primary_key: [id], cursor: updated_at}}}
      - name: users
        config: {meta: {ingest: {table: users, primary_key: [id]}}}
        columns:
          - {name: email, config: {meta: {pii: hash}}}
  - name: sheets
    schema: raw_sheets
    config:
      meta:
        ingest: {kind: google_sheet, connection: google_sheets, spreadsheet: canary-sheet}
    tables:
      - name: targets
        config: {meta: {ingest: {tab: targets, columns: {score: integer, target: integer}}}}
exposures:
  - name: summary_sheet
    type: dashboard
    owner: {name: Data team, email: data@example.com}
    depends_on: [ref('summary')]
    config:
      meta:
        publish:
          kind: google_sheet
          connection: google_sheets
          spreadsheet: canary-sheet
          tab: summary
          order_by: [score]
""",
    "models/summary.sql": """
{{ config(materialized='table') }}
select nps.score, count(*) as responses, max(targets.target) as target, max(users.email) as email
from {{ source('mysql', 'nps') }} as nps
left join {{ source('sheets', 'targets') }} as targets on targets.score = nps.score
left join {{ source('mysql', 'users') }} as users on users.id = nps.id
group by 1
""",
}
TABLES = """
CREATE TABLE nps (id INT PRIMARY KEY, score INT NOT NULL, updated_at DATETIME NOT NULL);
CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(255));
INSERT INTO nps VALUES (1, 9, '2026-09-30 08:00:00'), (2, 3, '2026-10-01 08:00:00');
INSERT INTO users VALUES (1, 'ann@example.com'), (2, 'bob@example.com')
"""

SHEET = "canary-sheet"
BUCKET = "canaries"

SIGNS = "%@:/#'\"\n\\ {{x}} $&?=+%41"
"""What a password may hold, and what ends it, doubles it or expands it somewhere."""

_WORD_BYTES = 8
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Canary:
    """A secret.

    Attributes:
        name: What it opens.
        value: The secret.
        words: The pieces of it that give it away.
    """

    name: str
    value: str = field(repr=False)
    words: tuple[str, ...] = field(repr=False)

    @classmethod
    def make(cls, name: str, signs: str = SIGNS) -> Canary:
        """A new secret with these signs in it."""
        words = _word(), _word()
        return cls(name, signs.join(words), words)

    @classmethod
    def of_key(cls, name: str, pem: str) -> Canary:
        """A private key, which each line of its body gives away."""
        lines = tuple(line for line in pem.splitlines() if len(line) == 64)
        return cls(name, pem, lines)

    def is_in(self, data: bytes) -> bool:
        """Whether a piece of it is in these bytes: as text, base64 or hexadecimal digits."""
        return any(spelling in data for word in self.words for spelling in _spellings(word))


@contextmanager
def s3_opened_by(secret: Canary, folder: Path) -> Iterator[S3Endpoint]:
    """Run an S3 server with a bucket and this secret key."""
    make_folder(folder)
    keys = S3Endpoint("", "AKIACANARY0000000000", secret.value, "us-east-1")
    write_private(folder / "endpoint.json", json.dumps(vars(keys)))
    with S3Server(folder, port=0) as server:
        server.create_bucket(BUCKET)
        yield server.endpoint


@contextmanager
def mysql_opened_by(secret: Canary, server: MySQLServer) -> Iterator[dict[str, Any]]:
    """Make the tables, and an account with this password; yields its connection."""
    account = f"'canary'@'{server.host}'"
    with server.admin_cursor() as cursor:
        cursor.execute("CREATE DATABASE canaries")
        cursor.execute(f"CREATE USER {account} IDENTIFIED BY %s", [secret.value])
        cursor.execute(f"GRANT SELECT ON canaries.* TO {account}")
        cursor.execute(f"GRANT PROCESS ON *.* TO {account}")
        cursor.execute("USE canaries")
        for statement in TABLES.split(";"):
            cursor.execute(statement)
        yield {
            "conn_type": "mysql",
            "host": server.host,
            "port": server.port,
            "login": "canary",
            "password": secret.value,
            "schema": "canaries",
        }
        cursor.execute("DROP DATABASE canaries")
        cursor.execute(f"DROP USER {account}")


def make_sheet(server: GoogleSheetsServer) -> Canary:
    """Make the spreadsheet; returns the key of the account that it is shared with."""
    key = server.service_account_key()
    server.admin().create(
        "Canaries",
        [TabSpec("targets", [["score", "target"], [9, 10], [3, 4]])],
        share={key["client_email"]: "writer"},
        spreadsheet_id=SHEET,
    )
    return Canary.of_key("the private key of the service account", key["private_key"])


def found_in(data: bytes | str, canaries: Iterable[Canary]) -> set[str]:
    """The names of the canaries in a text or in bytes."""
    seen = data.encode(errors="surrogateescape") if isinstance(data, str) else data
    return {canary.name for canary in canaries if canary.is_in(seen)}


def found_below(
    folder: Path, canaries: Sequence[Canary], *, without: Iterable[Path] = ()
) -> dict[str, set[str]]:
    """The names of the canaries by the file below a folder that holds them, or is named so.

    Args:
        folder: Where to look.
        canaries: What to look for.
        without: Folders to leave out: those of the services that the canaries open.
    """
    left_out = tuple(without)
    found = {}
    for file in folder.rglob("*"):
        if not file.is_file() or any(file.is_relative_to(path) for path in left_out):
            continue
        names = found_in(file.read_bytes() + str(file).encode(), canaries)
        if names:
            found[str(file.relative_to(folder))] = names
    return found


@contextmanager
def watched_processes(canaries: Sequence[Canary]) -> Iterator[set[str]]:
    """Look at the arguments of all processes again and again.

    Yields:
        The arguments that hold a canary, filled while the block runs.
    """
    found: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_SECONDS):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    arguments = (process / "cmdline").read_bytes()
                    if found_in(arguments, canaries):
                        found.add(arguments.replace(b"\0", b" ").decode(errors="replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _word() -> str:
    # Redshift wants a digit, an upper and a lower letter.
    return f"Cn7{secrets.token_hex(_WORD_BYTES)}Y"


@cache
def _spellings(word: str) -> tuple[bytes, ...]:
    plain = word.encode()
    # Base64 spells three bytes by four letters, so the spelling depends on what is before. The
    # letters at both ends depend on the neighbours, too.
    in_base64 = (
        base64.b64encode(b"\0" * shift + plain).rstrip(b"=")[4 if shift else 0 : -2]
        for shift in range(3)
    )
    return (plain, word.encode("utf-16-le"), plain.hex().encode(), *in_base64)
