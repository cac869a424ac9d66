"""Reads a table of PostgreSQL in one of several ways; prints the rows and the seconds it took.

The environment has the table's connection as libpq writes it, the way, and a folder to land in.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

CONNECTION = json.loads(os.environ["BENCH_CONNECTION"])
TABLE = os.environ["BENCH_TABLE"]
WAY = os.environ["BENCH_WAY"]
LANDING = os.environ["BENCH_LANDING"]


class Discarded(io.RawIOBase):
    """Takes what is written to it, and keeps nothing."""

    def write(self, data: object) -> int:
        """Say that all of it was written."""
        return len(data)  # type: ignore[arg-type]


def copied() -> tuple[int, float]:
    """COPY as psycopg2, in C, hands it on."""
    import psycopg2

    with closing(psycopg2.connect(**CONNECTION)) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        cursor.copy_expert(f"COPY {TABLE} TO STDOUT (FORMAT binary)", Discarded())
        return cursor.rowcount, time.perf_counter() - began


def by_millrace(*, verify: str, lands: bool, connections: int = 1) -> tuple[int, float]:
    """What Millrace reads, discarded or landed."""
    from millrace.batch import WHOLE_TABLE, Batch
    from millrace.catalog import IngestTable
    from millrace.connections import Connection
    from millrace.landing.landing import Landing
    from millrace.landing.memory import keep_no_freed_memory
    from millrace.sources.postgres.options import PostgresOptions
    from millrace.sources.postgres.source import PostgresSource

    keep_no_freed_memory()
    declared = {"kind": "postgres", "connection": "bench", "table": TABLE, "primary_key": ["id"]}
    options = PostgresOptions.model_validate(
        {**declared, "partitions": connections, "verify": verify}
    )
    table = IngestTable("postgres", TABLE, "raw", TABLE, options)
    source = PostgresSource(
        Connection(
            "bench",
            "postgres",
            host=CONNECTION["host"],
            port=CONNECTION["port"],
            login=CONNECTION["user"],
            password=CONNECTION["password"],
            schema=CONNECTION["dbname"],
        )
    )
    began = time.perf_counter()
    ranges = source.ranges(table, WHOLE_TABLE)
    with source.extract(table, WHOLE_TABLE, ranges=ranges) as extraction:
        if lands:
            landing = Landing(f"file://{LANDING}")
            manifest = landing.write(Batch(table.key), extraction.schema, *extraction.streams)
            rows = manifest.rows
        else:
            with ThreadPoolExecutor(connections) as readers:
                rows = sum(readers.map(counted, extraction.streams))
    return rows, time.perf_counter() - began


def counted(batches: Iterable[pa.RecordBatch]) -> int:
    """The rows of record batches, which are discarded."""
    return sum(batch.num_rows for batch in batches)


WAYS: dict[str, Callable[[], tuple[int, float]]] = {
    "copy": copied,
    "read": lambda: by_millrace(verify="off", lands=False),
    "counted": lambda: by_millrace(verify="counts", lands=False),
    "two": lambda: by_millrace(verify="counts", lands=False, connections=2),
    "landed": lambda: by_millrace(verify="counts", lands=True),
}
rows, working = WAYS[WAY]()
print(json.dumps({"rows": rows, "working": working}))
