"""Writes streams of record batches as Parquet parts, all of them or none.

Parts are streamed up without a local copy. While a thread encodes and uploads a record batch, the
next one is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from obstore.store import ObjectStore

from millrace.errors import LandingError, PartCorrupt
from millrace.manifest import Part
from millrace.object_store.store import etag_of, explained
from millrace.progress import Progress

# What is on its way to S3 is in memory: up to UPLOADS chunks at the same time.
UPLOAD_CHUNK_BYTES = 8 * 1024 * 1024
UPLOADS = 3
_DISTINCT_SHARE = 0.1


class LandedSoFar:
    """Rows and bytes landed so far, by all threads."""

    def __init__(self, progress: Progress | None, expected_rows: int | None) -> None:
        self._progress = progress
        self._expected_rows = expected_rows
        self._lock = threading.Lock()
        self._rows = self._bytes = 0

    def add(self, rows: int, size: int) -> None:
        """Count what has been landed, and report it."""
        with self._lock:
            self._rows += rows
            self._bytes += size
            if self._progress:
                self._progress(self._rows, self._bytes, self._expected_rows)


class StreamWriter:
    """Writes one stream of record batches as parts."""

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        schema: pa.Schema,
        part_bytes: int,
        landing: str,
        landed: LandedSoFar,
    ) -> None:
        self._store = store
        self._name = name
        self._schema = schema
        self._part_bytes = part_bytes
        self._landing = landing
        self._landed = landed
        self._part: _PartWriter | None = None
        self._parts: list[Part] = []

    def write(self, stream: Iterable[pa.RecordBatch], stop: threading.Event) -> list[Part]:
        """Write the stream to its end, unless another one has failed; returns the parts."""
        with ThreadPoolExecutor(1, "millrace-encode") as encoder:
            try:
                encoded: Future[None] | None = None
                for record_batch in stream:
                    if encoded:
                        encoded.result()
                    if stop.is_set():
                        raise _Stopped
                    encoded = encoder.submit(self._encode, record_batch)
                if encoded:
                    encoded.result()
                encoder.submit(self._close).result()
            except BaseException as error:
                encoder.submit(self._abandon, error).result()
                raise
        return self._parts

    def _encode(self, record_batch: pa.RecordBatch) -> None:
        if self._part is None:
            path = f"{self._name}-{len(self._parts):05d}.parquet"
            self._part = _PartWriter(self._store, path, self._schema, self._landing, record_batch)
        before = self._part.bytes
        self._part.write(record_batch)
        self._landed.add(record_batch.num_rows, self._part.bytes - before)
        if self._part.bytes >= self._part_bytes:
            self._close()

    def _close(self) -> None:
        part = self._part
        if part is None:
            return
        before = part.bytes
        part.close()
        self._part = None
        self._landed.add(0, part.bytes - before)
        self._parts.append(part.landed())

    def _abandon(self, error: BaseException) -> None:
        # The first error is the one that is reported.
        if self._part:
            with contextlib.suppress(LandingError):
                self._part.abandon(error)


class _Stopped(Exception):
    """Another stream has failed: this one need not go on."""


def run_all(writes: Sequence[Callable[[threading.Event], list[Part]]]) -> list[list[Part]]:
    """Run each in a thread of its own; the first failure stops the others, and is raised."""
    stop = threading.Event()
    if len(writes) == 1:
        return [writes[0](stop)]
    with ThreadPoolExecutor(max(1, len(writes)), "millrace-land") as pool:
        running = [pool.submit(write, stop) for write in writes]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            # After a failure, or Ctrl-C: leaving the pool waits for its threads.
            stop.set()
    failures = [future.exception() for future in running]
    for failure in failures:
        if failure and not isinstance(failure, _Stopped):
            raise failure
    return [future.result() for future in running]


class _PartWriter:
    """Streams record batches into one Parquet object; an exception leaves no object at all."""

    def __init__(
        self,
        store: ObjectStore,
        path: str,
        schema: pa.Schema,
        landing: str,
        sample: pa.RecordBatch,
    ) -> None:
        self.rows = 0
        self._store = store
        self._path = path
        self._landing = landing
        self._upload = obstore.open_writer(
            store, path, buffer_size=UPLOAD_CHUNK_BYTES, max_concurrency=UPLOADS
        )
        self._upload.__enter__()
        self._sink = _HashingSink(self._upload, landing)
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            schema,
            compression="zstd",
            use_dictionary=_repetitive(sample),
            # They help readers that look for some rows; every reader of a part takes all of them.
            write_statistics=False,
        )

    @property
    def bytes(self) -> int:
        return self._sink.bytes

    def write(self, record_batch: pa.RecordBatch) -> None:
        self._parquet.write_batch(record_batch)
        self.rows += record_batch.num_rows

    def close(self) -> None:
        self._parquet.close()
        with explained(self._landing):
            self._upload.__exit__(None, None, None)

    def landed(self) -> Part:
        """The closed part, as the manifest lists it."""
        with explained(self._landing):
            found = obstore.head(self._store, self._path)
        part = Part(
            url=f"{self._landing}/{self._path}",
            size=self._sink.bytes,
            rows=self.rows,
            sha256=self._sink.sha256,
            etag=etag_of(self._store, found),
        )
        refuse_other_size(part, found["size"])
        return part

    def abandon(self, error: BaseException) -> None:
        # Closing the Parquet writer would complete a valid, truncated file.
        self._sink.abandon()
        with explained(self._landing):
            self._upload.__exit__(type(error), error, error.__traceback__)


def _repetitive(sample: pa.RecordBatch) -> list[str]:
    """Columns whose values repeat so often that a dictionary of them pays.

    Building a dictionary that turns out too large takes most of the time of encoding.
    """
    most = sample.num_rows * _DISTINCT_SHARE
    return [
        name
        for name, column in zip(sample.schema.names, sample.columns, strict=True)
        if pc.count_distinct(column).as_py() <= most
    ]


class _HashingSink:
    """Counts and hashes what passes through to an upload."""

    def __init__(self, upload: Any, landing: str) -> None:
        self._upload = upload
        self._landing = landing
        self._hash = hashlib.sha256()
        self._abandoned = False
        self.bytes = 0
        self.closed = False

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        if self._abandoned:
            return len(data)
        with explained(self._landing):
            self._upload.write(data)
        self._hash.update(data)
        self.bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """The upload has its own buffering."""

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        """Swallow what the Parquet writer writes when it is collected after a failure."""
        self._abandoned = True


def refuse_other_size(part: Part, size: int) -> None:
    """Check that a part is as large as its manifest says.

    Raises:
        PartCorrupt: it is not.
    """
    if size != part.size:
        raise PartCorrupt(
            f"{part.url} has {size:,} bytes; its manifest says {part.size:,}.",
            fix="Ingest the batch again: a new attempt lands beside it.",
        )
