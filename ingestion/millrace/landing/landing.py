"""The landing: one interface over a bucket, of S3 or Google Cloud Storage, and a local folder.

    <landing>/<source>/<table>/<interval>/<attempt>/part-00000.parquet
                                                    manifest.json

Every attempt has a prefix of its own, so that a retry never overwrites what a reader may be
reading. The manifest comes last.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow as pa
from obstore.store import LocalStore

from millrace.bad_values import SetAside
from millrace.batch import Batch
from millrace.checksums.columns import Checksums, together
from millrace.errors import (
    LandingError,
    ManifestCorrupt,
    ManifestNotFound,
    PartCorrupt,
    SchemaConflict,
    SettingError,
)
from millrace.landing.objects import Objects, open_objects
from millrace.landing.writer import (
    UPLOAD_CHUNK_BYTES,
    UPLOADS,
    LandedSoFar,
    StreamWriter,
    refuse_other_size,
    run_all,
)
from millrace.manifest import Manifest, Part, path_below
from millrace.object_store.store import SILENCE_SECONDS, etag_of, explained, folder_of, opener
from millrace.progress import Progress

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from millrace.connections import Connection

MANIFEST_NAME = "manifest.json"
PART_BYTES = 128 * 1024 * 1024
_COPY_CHUNK_BYTES = 8 * 1024 * 1024
# A bucket is silent while a chunk is sent, too. The timeout allows for a connection of this speed.
_SLOWEST_BYTES_A_SECOND = 100_000

RowCheck = Callable[[int], None]
"""Called with the number of rows before a manifest is written; raises to prevent that."""


class Landing:
    """A landing root.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``file:///folder``.
        connection: Credentials for S3 (``aws_landing``): login and password are a key pair, or
            the extra has ``role_arn`` and perhaps ``external_id``; further extras:
            ``region_name``, ``endpoint_url``, and ``verify``, a file with the authorities whose
            certificates are trusted. Default: boto3's own credential chain. For Google Cloud
            Storage (``gcp_landing``): the extra has ``keyfile_dict`` or ``key_path``, and perhaps
            ``endpoint_url`` and ``verify``. Default: application default credentials.

    Raises:
        SettingError: the URL is of no known kind.
        LandingRefused: the folder cannot be made, there are no credentials, or the file of the
            trusted authorities cannot be read.
    """

    def __init__(self, url: str, connection: Connection | None = None) -> None:
        self.url = url.rstrip("/")
        self._open = opener(url, connection)
        self._store = self._open(SILENCE_SECONDS)
        self._connection = connection

    @property
    def objects(self) -> Objects:
        """Everything that is kept under the landing's URL, whoever wrote it."""
        return open_objects(self.url, self._store, self._connection)

    def check(self) -> str:
        """Write, read and delete a small object.

        Returns:
            The landing's URL.

        Raises:
            LandingError: one of them fails.
        """
        path = f".millrace-check-{secrets.token_hex(4)}"
        with explained(self.url):
            obstore.put(self._store, path, b"millrace")
            obstore.get(self._store, path).bytes()
            obstore.delete(self._store, path)
        return self.url

    def new_attempt(self, batch: Batch) -> str:
        """The prefix of a new attempt at a batch; nothing is written yet."""
        return f"{batch.table.replace('.', '/', 1)}/{batch.id}/{_token()}"

    def write(
        self,
        batch: Batch,
        schema: pa.Schema,
        *streams: Iterable[pa.RecordBatch],
        attempt: str | None = None,
        part_bytes: int = PART_BYTES,
        before_commit: RowCheck | None = None,
        progress: Progress | None = None,
        expected_rows: int | None = None,
        is_counted: bool = False,
        checksums: Callable[[], Checksums | None] = lambda: None,
        set_aside: Callable[[], SetAside | None] = lambda: None,
        raw_table: str | None = None,
        salt_id: str | None = None,
    ) -> Manifest:
        """Land one attempt at a batch.

        Args:
            batch: The batch.
            schema: The columns.
            streams: The rows, of that schema; each stream is read by a thread of its own and
                makes parts of its own.
            attempt: The attempt, if these rows are only a part of it: they get a manifest of their
                own below it, and ``merge`` writes the attempt's.
            part_bytes: A part is closed when it has reached this size.
            before_commit: If it raises, the attempt stays uncommitted.
            progress: Called with the rows and bytes so far, after every record batch.
            expected_rows: About how many rows there will be, where that is known.
            is_counted: Whether ``before_commit`` compares their number with the source's.
            checksums: Gives the checksums of the columns, once all rows have been read.
            set_aside: Gives what was set aside, once all rows have been read; it lands in a part
                of its own.
            raw_table: The raw table that the batch is meant for.
            salt_id: Tells the salt that its columns were hashed with from others.

        Returns:
            The manifest, already written.

        Raises:
            LandingError: the landing cannot be written; the attempt stays uncommitted.
        """
        extracted_at = datetime.now(UTC)
        prefix = f"{attempt}/{_token()}" if attempt else self.new_attempt(batch)
        landed = LandedSoFar(progress, expected_rows)
        on_the_way = len(streams) * UPLOADS * UPLOAD_CHUNK_BYTES
        store = self._open(SILENCE_SECONDS + on_the_way / _SLOWEST_BYTES_A_SECOND)
        writers = [
            StreamWriter(
                store,
                f"{prefix}/part-{at:02d}" if len(streams) > 1 else f"{prefix}/part",
                schema,
                part_bytes,
                self.url,
                landed,
            )
            for at in range(len(streams))
        ]
        parts = run_all(
            [partial(writer.write, stream) for writer, stream in zip(writers, streams, strict=True)]
        )
        aside = set_aside()
        return self._commit(
            prefix,
            Manifest(
                batch=batch,
                schema=schema.remove_metadata(),
                parts=tuple(chain.from_iterable(parts)),
                extracted_at=extracted_at,
                url=f"{self.url}/{prefix}/{MANIFEST_NAME}",
                is_counted=is_counted,
                checksums=checksums(),
                quarantined=aside.rows if aside else 0,
                quarantine=self._landed_aside(store, prefix, aside, part_bytes) if aside else (),
                raw_table=raw_table,
                salt_id=salt_id,
            ),
            before_commit,
        )

    def _landed_aside(
        self, store: ObjectStore, prefix: str, aside: SetAside, part_bytes: int
    ) -> tuple[Part, ...]:
        """Land what was set aside."""
        writer = StreamWriter(
            store,
            f"{prefix}/quarantine",
            aside.records.schema,
            part_bytes,
            self.url,
            LandedSoFar(None, None),
        )
        return tuple(writer.write(aside.records.to_batches(), threading.Event()))

    def merge(
        self,
        attempt: str,
        manifests: Sequence[Manifest],
        before_commit: RowCheck | None = None,
    ) -> Manifest:
        """Commit an attempt whose parts several workers have landed.

        Args:
            attempt: The attempt that ``write`` was given.
            manifests: What it returned to each worker.
            before_commit: As for ``write``.

        Returns:
            The manifest of all parts, already written.

        Raises:
            ManifestCorrupt: a manifest is of another batch or attempt, or is there twice.
            SchemaConflict: the workers saw different columns.
            SettingError: they have hashed with different salts.
            LandingError: the landing cannot be written; the attempt stays uncommitted.
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
            if manifest.salt_id != first.salt_id:
                raise SettingError(
                    f"{first.batch.table} was hashed with different salts: workers have different "
                    "MILLRACE_PII_SALT.",
                    fix="Set the same one for every worker, then ingest the batch again.",
                )
        merged = replace(
            first,
            parts=tuple(part for manifest in manifests for part in manifest.parts),
            extracted_at=min(manifest.extracted_at for manifest in manifests),
            url=f"{self.url}/{attempt}/{MANIFEST_NAME}",
            is_counted=all(manifest.is_counted for manifest in manifests),
            checksums=_together(manifests),
            quarantined=sum(manifest.quarantined for manifest in manifests),
            quarantine=tuple(part for manifest in manifests for part in manifest.quarantine),
        )
        merged.refuse_foreign_parts()
        return self._commit(attempt, merged, before_commit)

    def _commit(self, prefix: str, manifest: Manifest, before_commit: RowCheck | None) -> Manifest:
        if before_commit:
            before_commit(manifest.rows)
        with explained(self.url):
            obstore.put(self._store, f"{prefix}/{MANIFEST_NAME}", manifest.to_json().encode())
        return manifest

    def read_manifest(self, url: str) -> Manifest:
        """The manifest at a URL under this landing.

        Raises:
            ManifestNotFound: there is none: the attempt was never committed.
            LandingError: the landing cannot be read.
        """
        try:
            with explained(self.url, may_be_missing=True):
                text = obstore.get(self._store, self._path(url)).bytes().to_bytes().decode()
        except FileNotFoundError:
            raise ManifestNotFound(
                f"There is no manifest at {url}: that attempt was never committed.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            ) from None
        return Manifest.from_json(text, url)

    def verify(self, manifest: Manifest) -> None:
        """Check, without reading the parts, that the manifest and its parts are what was landed.

        Raises:
            ManifestCorrupt: the manifest was replaced.
            PartCorrupt: a part is missing, or is another object than was landed.
            LandingError: the landing cannot be read.
        """
        if self.read_manifest(manifest.url) != manifest:
            raise ManifestCorrupt(
                f"{manifest.url} was changed while it was loaded.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            )
        for part in (*manifest.parts, *manifest.quarantine):
            with _part_of(part), explained(self.url, may_be_missing=True):
                found = obstore.head(self._store, self._path(part.url))
            refuse_other_size(part, found["size"])
            if part.etag != etag_of(self._store, found):
                raise PartCorrupt(
                    f"{part.url} is not what was landed: its ETag is {found['e_tag']}, and its "
                    f"manifest says {part.etag}.",
                    fix="Ingest the batch again: a new attempt lands beside it.",
                )

    def read_note(self, name: str) -> bytes | None:
        """A small file of Millrace's own beside the tables; None if there is none.

        Args:
            name: Its path below the landing, such as ``_alerts/told.json``.

        Raises:
            LandingError: the landing cannot be read.
        """
        try:
            with explained(self.url, may_be_missing=True):
                return obstore.get(self._store, name).bytes().to_bytes()
        except FileNotFoundError:
            return None

    def write_note(self, name: str, content: bytes) -> None:
        """Write such a file, as a whole.

        Raises:
            LandingError: the landing cannot be written.
        """
        with explained(self.url):
            obstore.put(self._store, name, content)

    @contextmanager
    def local_copy(self, part: Part) -> Iterator[Path]:
        """A part as a local file, checked against the manifest.

        A part in a folder is read where it lies; one in a bucket is copied, and the copy removed
        afterwards.

        Raises:
            PartCorrupt: it is missing, or its size or checksum is not the manifest's.
            LandingError: the landing cannot be read.
        """
        if isinstance(self._store, LocalStore):
            path = folder_of(self.url) / self._path(part.url)
            may_be_missing = explained(self.url, may_be_missing=True)
            with _part_of(part), may_be_missing, path.open("rb") as file:
                _check(part, iter(lambda: file.read(_COPY_CHUNK_BYTES), b""))
            yield path
            return
        with tempfile.NamedTemporaryFile(prefix="millrace-part-", suffix=".parquet") as copy:
            with _part_of(part), explained(self.url, may_be_missing=True):
                stream = obstore.get(self._store, self._path(part.url)).stream(
                    min_chunk_size=_COPY_CHUNK_BYTES
                )
                _check(part, (_written(chunk, copy) for chunk in stream))
            with _kept_locally(copy):
                copy.flush()
            yield Path(copy.name)

    def _path(self, url: str) -> str:
        path = path_below(url, self.url)
        if path is None:
            raise LandingError(
                f"{url} is not under the landing {self.url}.",
                fix="Set LANDING_URL to the landing that the batch was written to.",
            )
        if isinstance(self._store, LocalStore):
            _refuse_link(folder_of(self.url).resolve() / path)
        return path


def _refuse_link(file: Path) -> None:
    """Check that a file of a folder landing is there itself: a link may lead out of the landing."""
    if file.resolve() != file:
        raise LandingError(
            f"{file} is reached by a link, and Millrace makes none in a landing.",
            fix="Remove the link, and ingest the batch again: a new attempt lands.",
        )


def _together(manifests: Sequence[Manifest]) -> Checksums | None:
    parts = [manifest.checksums for manifest in manifests if manifest.checksums is not None]
    return together(parts) if len(parts) == len(manifests) else None


def _token() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


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
    refuse_other_size(part, size)
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
