"""The landing: one interface over an S3 bucket and a local folder.

    <landing>/<source>/<table>/<interval>/<attempt>/part-00000.parquet
                                                    manifest.json

Every attempt has a prefix of its own, so that a retry never overwrites what a reader may be
reading. Parts are streamed up without a local copy; the manifest comes last.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from ingestion.batch import Batch
from ingestion.errors import (
    LandingError,
    LandingRefused,
    LandingUnavailable,
    ManifestNotFound,
    PartCorrupt,
)
from ingestion.manifest import Manifest, Part

if TYPE_CHECKING:
    from ingestion.connections import Connection

log = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
PART_BYTES = 128 * 1024 * 1024
_COPY_CHUNK_BYTES = 8 * 1024 * 1024

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
        self._store = _open_store(url, connection)

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

    def write(
        self,
        batch: Batch,
        schema: pa.Schema,
        record_batches: Iterable[pa.RecordBatch],
        *,
        part_bytes: int = PART_BYTES,
        min_rows: Callable[[int], None] | None = None,
        progress: Progress | None = None,
    ) -> Manifest:
        """Land one attempt at a batch.

        Args:
            batch: What is landed.
            schema: The columns.
            record_batches: The rows, of that schema.
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
        attempt = f"{extracted_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        prefix = f"{batch.table.replace('.', '/', 1)}/{batch.interval.slug}/{attempt}"
        parts: list[Part] = []
        rows = size = 0
        remaining = iter(record_batches)
        first = next(remaining, None)
        while first is not None:
            name = f"{prefix}/part-{len(parts):05d}.parquet"
            with _PartWriter(self._store, name, schema, self.url) as writer:
                writer.write(first)
                first = None
                if progress:
                    progress(rows + writer.rows, size + writer.bytes)
                for record_batch in remaining:
                    if writer.bytes >= part_bytes:
                        first = record_batch
                        break
                    writer.write(record_batch)
                    if progress:
                        progress(rows + writer.rows, size + writer.bytes)
            part = Part(f"{self.url}/{name}", writer.bytes, writer.rows, writer.sha256)
            parts.append(part)
            rows, size = rows + part.rows, size + part.size
        if min_rows:
            min_rows(rows)
        manifest = Manifest(
            batch=batch,
            schema=schema.remove_metadata(),
            parts=tuple(parts),
            extracted_at=extracted_at,
            url=f"{self.url}/{prefix}/{MANIFEST_NAME}",
        )
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
            with _explained(self.url):
                text = obstore.get(self._store, self._path(url)).bytes().to_bytes().decode()
        except FileNotFoundError:
            raise ManifestNotFound(
                f"There is no manifest at {url}: that attempt was never committed.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            ) from None
        return Manifest.from_json(text, url)

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
            with _part_of(part), path.open("rb") as file:
                _check(part, iter(lambda: file.read(_COPY_CHUNK_BYTES), b""))
            yield path
            return
        with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
            with _explained(self.url), _part_of(part):
                stream = obstore.get(self._store, self._path(part.url)).stream(
                    min_chunk_size=_COPY_CHUNK_BYTES
                )
                _check(part, (_written(chunk, copy) for chunk in stream))
            copy.flush()
            yield Path(copy.name)

    def _path(self, url: str) -> str:
        if not url.startswith(f"{self.url}/"):
            raise LandingError(
                f"{url} is not under the landing {self.url}.",
                fix="Set LANDING_URL to the landing that the batch was written to.",
            )
        return url.removeprefix(f"{self.url}/")


class _PartWriter:
    """Streams record batches into one Parquet object; an exception leaves no object at all."""

    def __init__(self, store: ObjectStore, path: str, schema: pa.Schema, landing: str) -> None:
        self._landing = landing
        self._upload = obstore.open_writer(store, path)
        self._sink = _HashingSink(self._upload, landing)
        self._schema = schema
        self.rows = 0

    @property
    def bytes(self) -> int:
        return self._sink.bytes

    @property
    def sha256(self) -> str:
        return self._sink.sha256

    def __enter__(self) -> _PartWriter:
        self._upload.__enter__()
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._sink, mode="w"), self._schema, compression="zstd"
        )
        return self

    def write(self, record_batch: pa.RecordBatch) -> None:
        self._parquet.write_batch(record_batch)
        self.rows += record_batch.num_rows

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            try:
                self._parquet.close()
            except BaseException as failure:
                self._sink.abandon()
                self._upload.__exit__(type(failure), failure, failure.__traceback__)
                raise
        else:
            # Closing the Parquet writer would complete a valid, truncated file.
            self._sink.abandon()
        with _explained(self._landing):
            self._upload.__exit__(*error)


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


def _open_store(url: str, connection: Connection | None) -> ObjectStore:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        try:
            return LocalStore(_folder(url), mkdir=True)
        except (OSError, BaseError) as error:
            raise LandingRefused(
                f"The landing folder {_folder(url)} cannot be made: {error}.",
                fix="Set LANDING_URL to a folder that you may write to.",
            ) from error
    if parts.scheme == "s3" and parts.netloc:
        return _open_s3(parts.netloc, parts.path.strip("/"), connection)
    raise LandingRefused(
        f"The landing {url!r} is neither s3://bucket/prefix nor file:///folder.",
        fix="Set LANDING_URL to one of them.",
    )


def _open_s3(bucket: str, prefix: str, connection: Connection | None) -> ObjectStore:
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider, StsCredentialProvider

    extra = dict(connection.extra) if connection else {}
    session = boto3.Session(
        aws_access_key_id=connection.login if connection else None,
        aws_secret_access_key=connection.password if connection else None,
        aws_session_token=extra.get("aws_session_token"),
        region_name=extra.get("region_name"),
    )
    try:
        provider: Any
        if role := extra.get("role_arn"):
            external = {"ExternalId": extra["external_id"]} if extra.get("external_id") else {}
            provider = StsCredentialProvider(
                session, RoleArn=role, RoleSessionName="millrace", **external
            )
        else:
            provider = Boto3CredentialProvider(session)
    except ValueError as error:
        raise LandingRefused(
            f"There are no AWS credentials for the landing s3://{bucket}.",
            fix="Set the connection aws_landing (AIRFLOW_CONN_AWS_LANDING), "
            "or what boto3 looks for (AWS_PROFILE, an instance role, …).",
        ) from error
    endpoint = extra.get("endpoint_url")
    return S3Store(
        bucket,
        prefix=prefix or None,
        region=session.region_name or "us-east-1",
        endpoint=endpoint,
        virtual_hosted_style_request=endpoint is None,
        credential_provider=provider,
        client_options={"allow_http": bool(endpoint and endpoint.startswith("http://"))},
        retry_config={"max_retries": 5},
    )


def _folder(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _written(data: bytes, file: Any) -> bytes:
    file.write(data)
    return data


def _check(part: Part, chunks: Iterable[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    if size != part.size:
        raise PartCorrupt(
            f"{part.url} has {size:,} bytes; its manifest says {part.size:,}.",
            fix="Ingest the batch again: a new attempt lands beside it.",
        )
    if digest.hexdigest() != part.sha256:
        raise PartCorrupt(
            f"{part.url} is not what was landed: its checksum differs from its manifest's.",
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
def _explained(url: str) -> Iterator[None]:
    """Turn the object store's errors into ours; a missing object stays FileNotFoundError."""
    try:
        yield
    except (BaseError, OSError) as error:
        # obstore's writers raise an OSError where its other calls raise their own.
        text = str(error)
        if "NoSuchBucket" in text:
            bucket = urlsplit(url).netloc
            raise LandingRefused(
                f"The bucket '{bucket}' of the landing {url} does not exist.",
                fix=f"Create it (`aws s3 mb s3://{bucket}`), or correct LANDING_URL.",
            ) from None
        if isinstance(error, FileNotFoundError):
            raise
        if "Forbidden" in text or "403" in text or "InvalidAccessKeyId" in text:
            raise LandingRefused(
                f"The landing {url} refuses these credentials.",
                fix="Check the connection aws_landing: it needs to get, put, list and delete "
                "objects under that prefix (deploy/ has the policy).",
            ) from error
        raise LandingUnavailable(
            f"The landing {url} cannot be used: {text.splitlines()[0]}",
            fix="Check LANDING_URL, the endpoint of the connection aws_landing, and the network.",
        ) from error
