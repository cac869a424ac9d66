"""The landing: one interface over an S3 bucket and a local folder.

    <landing>/<source>/<table>/<interval>/<attempt>/part-00000.parquet
                                                    manifest.json

Every attempt has a prefix of its own, so that a retry never overwrites what a reader may be
reading. Parts are streamed up without a local copy; the manifest comes last.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from millrace.batch import Batch
from millrace.connections import masked
from millrace.errors import (
    LandingError,
    LandingRefused,
    LandingUnavailable,
    ManifestCorrupt,
    ManifestNotFound,
    PartCorrupt,
    SchemaConflict,
)
from millrace.manifest import Manifest, Part

if TYPE_CHECKING:
    from millrace.connections import Connection

log = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
PART_BYTES = 128 * 1024 * 1024
_COPY_CHUNK_BYTES = 8 * 1024 * 1024
# What is on its way to S3 is in memory: so many chunks at the same time.
_UPLOAD_CHUNK_BYTES = 8 * 1024 * 1024
_UPLOADS = 3
_DISTINCT_SHARE = 0.1
_DEFAULT_REGION = "us-east-1"
_CONNECT_SECONDS = 10
# Silence of S3 that is an outage.
_SILENCE_SECONDS = 60
# While a chunk is sent S3 is silent too: so much more time as a line of this speed needs.
_SLOWEST_BYTES_A_SECOND = 100_000
# What a single answer may take as a whole; its silences are what ends a dead one.
_ANSWER = timedelta(hours=2)
_RETRIES = 5
_RETRIED = timedelta(minutes=3)
_STATUS = re.compile(r" - Server returned non-2xx status code: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CREDENTIALS_OUTAGE = "for path External AWS credential provider: CredentialsOutage: "
_REDIRECTED = " - Received redirect without LOCATION"
_REFUSALS = (PermissionDeniedError, UnauthenticatedError, PermissionError)
# Statuses of the 4xx that ask to try again: a time-out, a conflict, too early, too many requests.
_PASSING = {408, 409, 425, 429}

Progress = Callable[[int, int], None]
"""Told the rows and bytes landed so far."""


class Landing:
    """A landing root.

    Args:
        url: ``s3://bucket/prefix`` or ``file:///folder``.
        connection: Credentials for S3 (``aws_landing``): login and password are a key pair, or
            the extra has ``role_arn`` and perhaps ``external_id``; further extras:
            ``region_name``, ``endpoint_url``. Without a connection, boto3's own chain.

    Raises:
        LandingUnavailable: the URL is of no known kind, or the folder cannot be made.
    """

    def __init__(self, url: str, connection: Connection | None = None) -> None:
        self.url = url.rstrip("/")
        self._open = _opener(url, connection)
        self._store = self._open(_SILENCE_SECONDS)

    def check(self) -> str:
        """Write, read and delete a small object.

        Returns:
            The landing's URL.

        Raises:
            LandingUnavailable: one of them fails.
        """
        path = f".millrace-check-{secrets.token_hex(4)}"
        with _explained(self.url):
            obstore.put(self._store, path, b"millrace")
            obstore.get(self._store, path).bytes()
            obstore.delete(self._store, path)
        return self.url

    def new_attempt(self, batch: Batch) -> str:
        """The prefix of a new attempt at a batch; nothing is written yet."""
        return f"{batch.table.replace('.', '/', 1)}/{batch.interval.slug}/{_token()}"

    def write(
        self,
        batch: Batch,
        schema: pa.Schema,
        *streams: Iterable[pa.RecordBatch],
        attempt: str | None = None,
        part_bytes: int = PART_BYTES,
        min_rows: Callable[[int], None] | None = None,
        progress: Progress | None = None,
    ) -> Manifest:
        """Land one attempt at a batch.

        Args:
            batch: What is landed.
            schema: The columns.
            streams: The rows, of that schema; each stream is read by a thread of its own and
                makes parts of its own.
            attempt: The attempt that these rows are only a part of: they get a manifest of their
                own below it, and ``merge`` makes the attempt's.
            part_bytes: A part is closed when it has reached this size.
            min_rows: Called with the number of rows before the manifest is written; what it
                raises leaves the attempt uncommitted.
            progress: Told the rows and bytes so far, after every record batch.

        Returns:
            The manifest, already written.

        Raises:
            LandingUnavailable: the landing refuses the write; the attempt stays uncommitted.
        """
        extracted_at = datetime.now(UTC)
        prefix = f"{attempt}/{_token()}" if attempt else self.new_attempt(batch)
        landed = _Landed(progress)
        on_the_way = len(streams) * _UPLOADS * _UPLOAD_CHUNK_BYTES
        store = self._open(_SILENCE_SECONDS + on_the_way / _SLOWEST_BYTES_A_SECOND)
        writers = [
            _StreamWriter(
                store,
                f"{prefix}/part-{at:02d}" if len(streams) > 1 else f"{prefix}/part",
                schema,
                part_bytes,
                self.url,
                landed,
            )
            for at in range(len(streams))
        ]
        parts = _run_all(
            [partial(writer.write, stream) for writer, stream in zip(writers, streams, strict=True)]
        )
        return self._commit(
            prefix,
            Manifest(
                batch=batch,
                schema=schema.remove_metadata(),
                parts=tuple(chain.from_iterable(parts)),
                extracted_at=extracted_at,
                url=f"{self.url}/{prefix}/{MANIFEST_NAME}",
            ),
            min_rows,
        )

    def merge(
        self,
        attempt: str,
        manifests: Sequence[Manifest],
        min_rows: Callable[[int], None] | None = None,
    ) -> Manifest:
        """Commit an attempt whose parts several workers have landed.

        Args:
            attempt: What ``write`` was told.
            manifests: What it returned to each of them.
            min_rows: As for ``write``.

        Returns:
            The manifest of all parts, already written.

        Raises:
            ManifestCorrupt: a manifest is of another batch or attempt, or is there twice.
            SchemaConflict: the workers saw different columns.
            LandingUnavailable: the landing refuses the write; the attempt stays uncommitted.
        """
        first = manifests[0]
        for manifest in manifests:
            manifest.refuse_other_batch(first.batch)
            if manifest.schema != first.schema:
                raise SchemaConflict(
                    f"The columns of {first.batch.table} changed while its partitions were read: "
                    f"{first.url} and {manifest.url} differ.",
                    fix="Ingest the batch again.",
                )
        merged = replace(
            first,
            parts=tuple(part for manifest in manifests for part in manifest.parts),
            extracted_at=min(manifest.extracted_at for manifest in manifests),
            url=f"{self.url}/{attempt}/{MANIFEST_NAME}",
        )
        merged.refuse_foreign_parts()
        return self._commit(attempt, merged, min_rows)

    def _commit(
        self, prefix: str, manifest: Manifest, min_rows: Callable[[int], None] | None
    ) -> Manifest:
        if min_rows:
            min_rows(manifest.rows)
        with _explained(self.url):
            obstore.put(self._store, f"{prefix}/{MANIFEST_NAME}", manifest.to_json().encode())
        return manifest

    def read_manifest(self, url: str) -> Manifest:
        """The manifest at a URL under this landing.

        Raises:
            ManifestNotFound: there is none: the attempt was never committed.
            LandingUnavailable: the landing cannot be read.
        """
        try:
            with _explained(self.url, may_be_missing=True):
                text = obstore.get(self._store, self._path(url)).bytes().to_bytes().decode()
        except FileNotFoundError:
            raise ManifestNotFound(
                f"There is no manifest at {url}: that attempt was never committed.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            ) from None
        return Manifest.from_json(text, url)

    def verify(self, manifest: Manifest) -> None:
        """See, without reading the parts, that manifest and parts are what was landed.

        Raises:
            ManifestCorrupt: the manifest was replaced.
            PartCorrupt: a part is missing, or is another object than was landed.
            LandingUnavailable: the landing cannot be read.
        """
        if self.read_manifest(manifest.url) != manifest:
            raise ManifestCorrupt(
                f"{manifest.url} was changed while it was loaded.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            )
        for part in manifest.parts:
            with _part_of(part), _explained(self.url, may_be_missing=True):
                found = obstore.head(self._store, self._path(part.url))
            _refuse_other_size(part, found["size"])
            if part.etag != _etag(self._store, found):
                raise PartCorrupt(
                    f"{part.url} is not what was landed: its ETag is {found['e_tag']}, and its "
                    f"manifest says {part.etag}.",
                    fix="Ingest the batch again: a new attempt lands beside it.",
                )

    @contextmanager
    def local_copy(self, part: Part) -> Iterator[Path]:
        """A part as a local file, checked against the manifest.

        A part in a folder is read where it lies; one on S3 is copied, and the copy removed
        afterwards.

        Raises:
            PartCorrupt: it is missing, or its size or checksum is not the manifest's.
            LandingUnavailable: the landing cannot be read.
        """
        if isinstance(self._store, LocalStore):
            path = _folder(self.url) / self._path(part.url)
            explained = _explained(self.url, may_be_missing=True)
            with _part_of(part), explained, path.open("rb") as file:
                _check(part, iter(lambda: file.read(_COPY_CHUNK_BYTES), b""))
            yield path
            return
        with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
            with _part_of(part), _explained(self.url, may_be_missing=True):
                stream = obstore.get(self._store, self._path(part.url)).stream(
                    min_chunk_size=_COPY_CHUNK_BYTES
                )
                _check(part, (_written(chunk, copy) for chunk in stream))
            with _kept_locally(copy):
                copy.flush()
            yield Path(copy.name)

    def _path(self, url: str) -> str:
        if not url.startswith(f"{self.url}/"):
            raise LandingError(
                f"{url} is not under the landing {self.url}.",
                fix="Set LANDING_URL to the landing that the batch was written to.",
            )
        return url.removeprefix(f"{self.url}/")


class _Landed:
    """Rows and bytes landed so far, by all threads."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._rows = self._bytes = 0

    def add(self, rows: int, size: int) -> None:
        with self._lock:
            self._rows += rows
            self._bytes += size
            if self._progress:
                self._progress(self._rows, self._bytes)


class _StreamWriter:
    """Writes one stream of record batches as parts.

    While a thread encodes and uploads a record batch, the next one is made.
    """

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        schema: pa.Schema,
        part_bytes: int,
        landing: str,
        landed: _Landed,
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
        # What went wrong first is what is told.
        if self._part:
            with contextlib.suppress(LandingError):
                self._part.abandon(error)


class _Stopped(Exception):
    """Another stream has failed: this one need not go on."""


def _run_all(writes: Sequence[Callable[[threading.Event], list[Part]]]) -> list[list[Part]]:
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
            store, path, buffer_size=_UPLOAD_CHUNK_BYTES, max_concurrency=_UPLOADS
        )
        self._upload.__enter__()
        self._sink = _HashingSink(self._upload, landing)
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"),
            schema,
            compression="zstd",
            use_dictionary=_repetitive(sample),
            # For readers that look for some rows: every reader of a part takes all of them.
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
        with _explained(self._landing):
            self._upload.__exit__(None, None, None)

    def landed(self) -> Part:
        """What the closed part has become."""
        with _explained(self._landing):
            found = obstore.head(self._store, self._path)
        part = Part(
            url=f"{self._landing}/{self._path}",
            size=self._sink.bytes,
            rows=self.rows,
            sha256=self._sink.sha256,
            etag=_etag(self._store, found),
        )
        _refuse_other_size(part, found["size"])
        return part

    def abandon(self, error: BaseException) -> None:
        # Closing the Parquet writer would complete a valid, truncated file.
        self._sink.abandon()
        with _explained(self._landing):
            self._upload.__exit__(type(error), error, error.__traceback__)


def _repetitive(sample: pa.RecordBatch) -> list[str]:
    """Columns whose values repeat so often that a dictionary of them pays.

    Building one that turns out too large takes most of the time of encoding.
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
        with _explained(self._landing):
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


Opener = Callable[[float], ObjectStore]
"""Opens the store, with the seconds of silence after which a request has failed."""


def _opener(url: str, connection: Connection | None) -> Opener:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        try:
            folder = LocalStore(_folder(url), mkdir=True)
        except (OSError, BaseError) as error:
            raise LandingRefused(
                f"The landing folder {_folder(url)} cannot be made: {_said(error)}.",
                fix="Set LANDING_URL to a folder that you may write to.",
            ) from error
        return lambda _: folder
    if parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc:
        return _s3_opener(parts.netloc, parts.path.strip("/"), connection)
    raise LandingRefused(
        f"The landing {masked(url)!r} is neither s3://bucket/prefix nor file:///folder.",
        fix="Set LANDING_URL to one of them.",
    )


def _s3_opener(bucket: str, prefix: str, connection: Connection | None) -> Opener:
    extra = dict(connection.extra) if connection else {}
    endpoint = extra.get("endpoint_url")
    credentials = _s3_credentials(bucket, connection, extra)

    def open_store(silence_seconds: float) -> ObjectStore:
        return S3Store(
            bucket,
            prefix=prefix or None,
            # obstore takes no None for "Amazon's own".
            **({"endpoint": endpoint} if endpoint else {}),
            virtual_hosted_style_request=endpoint is None,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                # It begins with the request, and again with whatever is read of the answer.
                "read_timeout": timedelta(seconds=silence_seconds),
                "timeout": _ANSWER,
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRIED},
            **credentials,
        )

    return open_store


def _s3_credentials(
    bucket: str, connection: Connection | None, extra: dict[str, Any]
) -> dict[str, Any]:
    role = extra.get("role_arn")
    if connection and connection.login and not role:
        keys = {
            "access_key_id": connection.login,
            "secret_access_key": connection.password,
            "session_token": extra.get("aws_session_token"),
        }
        region = extra.get("region_name") or _DEFAULT_REGION
        return {"region": region} | {name: key for name, key in keys.items() if key}
    # Only now: a key pair does without boto3, and its import takes time and memory.
    from millrace.landing.roles import open_provider

    login, password = (connection.login, connection.password) if connection else (None, None)
    try:
        provider, region = open_provider(login, password, extra, _DEFAULT_REGION)
    except ValueError as error:
        raise LandingRefused(
            f"There are no AWS credentials for the landing s3://{bucket}.",
            fix="Set the connection aws_landing (AIRFLOW_CONN_AWS_LANDING), "
            "or what boto3 looks for (AWS_PROFILE, an instance role, …).",
        ) from error
    return {"credential_provider": provider, "region": region}


def _token() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _folder(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _etag(store: ObjectStore, found: Any) -> str | None:
    """What S3 calls an object; in a folder a copy of a file would have another."""
    return None if isinstance(store, LocalStore) else found["e_tag"]


def _written(data: bytes, file: Any) -> bytes:
    with _kept_locally(file):
        file.write(data)
    return data


@contextmanager
def _kept_locally(file: Any) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LandingError(
            f"There is no room for a copy of a part in {Path(file.name).parent}: {error.strerror}.",
            fix="Free space there, or set TMPDIR to a folder that has more.",
        ) from error


def _check(part: Part, chunks: Iterable[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    _refuse_other_size(part, size)
    if digest.hexdigest() != part.sha256:
        raise PartCorrupt(
            f"{part.url} is not what was landed: its checksum differs from its manifest's.",
            fix="Ingest the batch again: a new attempt lands beside it.",
        )


def _refuse_other_size(part: Part, size: int) -> None:
    if size != part.size:
        raise PartCorrupt(
            f"{part.url} has {size:,} bytes; its manifest says {part.size:,}.",
            fix="Ingest the batch again: a new attempt lands beside it.",
        )


@contextmanager
def _part_of(part: Part) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise PartCorrupt(
            f"{part.url} is gone, though its manifest names it.",
            fix="Ingest the batch again: a new attempt lands beside it.",
        ) from None


@contextmanager
def _explained(url: str, *, may_be_missing: bool = False) -> Iterator[None]:
    """Turn the object store's errors into ours.

    Args:
        url: The landing.
        may_be_missing: Let FileNotFoundError pass where an object is not there; what is written
            is never missing.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        # obstore's writers raise an OSError where its other calls raise their own.
        said = _said(error)
        status, code = _answer(error)
        if code == "NoSuchBucket":
            bucket = urlsplit(url).netloc
            raise LandingRefused(
                f"The bucket '{bucket}' of the landing {url} does not exist.",
                fix=f"Create it (`aws s3 mb s3://{bucket}`), or correct LANDING_URL.",
            ) from None
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        if code == "RequestTimeTooSkewed":
            raise LandingRefused(
                f"The landing {url} refuses a request with this machine's time.",
                fix="Set this machine's clock right.",
            ) from None
        is_refusal = status in (401, 403) or isinstance(error, _REFUSALS)
        if is_refusal and _CREDENTIALS_OUTAGE not in said:
            raise LandingRefused(
                f"The landing {url} refuses these credentials: {said}.",
                fix="Check the connection aws_landing: it needs to get, put, list and delete "
                "objects under that prefix (deploy/ has the policy).",
            ) from error
        if (status in range(400, 500) and status not in {404, *_PASSING}) or _REDIRECTED in said:
            raise LandingRefused(
                f"The landing {url} refuses: {said}.",
                fix="Check LANDING_URL, and the endpoint, region and keys of the connection "
                "aws_landing.",
            ) from error
        raise LandingUnavailable(
            f"The landing {url} cannot be used: {said}.",
            fix="Check LANDING_URL, the endpoint of the connection aws_landing, and the network.",
        ) from error


def _answer(error: Exception) -> tuple[int | None, str | None]:
    """The HTTP status that S3 answered, and its own code for what is wrong; None without one.

    Buckets, paths and upload ids are in the message too, before what S3 answered.
    """
    answered = _STATUS.search(str(error))
    if answered is None:
        return None, None
    code = _CODE.search(str(error), answered.end())
    return int(answered[1]), code[1] if code else None


def _said(error: Exception) -> str:
    """What the object store says, in a line and without a secret."""
    return masked(str(error).splitlines()[0]).rstrip(". ")
