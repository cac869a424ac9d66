"""What is kept under a landing's URL: listed, written whole, deleted; and unfinished uploads."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.store import GCSStore, LocalStore

from millrace.connections import endpoint_of
from millrace.errors import LandingRefused, LandingUnavailable
from millrace.object_store.store import explained, folder_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

    from millrace.connections import Connection
    from millrace.object_store.google import Uploads

_CHUNK_BYTES = 8 * 1024 * 1024
_LISTED_AT_A_TIME = 1000


@dataclass(frozen=True)
class Stored:
    """One object.

    Attributes:
        path: Its path below the landing.
        size: In bytes.
        changed_at: When it was last written, in UTC.
    """

    path: str
    size: int
    changed_at: datetime


@dataclass(frozen=True)
class Upload:
    """An upload that was begun and neither completed nor aborted: its bucket keeps it, and charges.

    Attributes:
        path: The path below the landing of the object that it was to become.
        id: The bucket's id of it.
        began_at: When it was begun, in UTC.
    """

    path: str
    id: str = field(repr=False)
    began_at: datetime


class Objects(Protocol):
    """The objects of a landing. Every method raises ``LandingError`` if the landing fails."""

    def below(self, prefix: str) -> Iterator[Stored]:
        """The objects below a prefix, a folder's name without a slash at its end."""

    def put(self, path: str, chunks: Generator[bytes]) -> int:
        """Write an object: all of it, or none if the chunks end in an exception.

        Returns:
            Its size, in bytes.
        """

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; one that is gone already counts as deleted."""

    def uploads(self, prefix: str) -> list[Upload]:
        """The unfinished uploads below a prefix."""

    def abort(self, uploads: Iterable[Upload]) -> None:
        """Abort uploads; one that is gone already counts as aborted."""


def open_objects(url: str, store: ObjectStore, connection: Connection | None) -> Objects:
    """The objects of a landing; the arguments are its own."""
    if isinstance(store, LocalStore):
        return _Folder(url, store)
    if isinstance(store, GCSStore):
        return _GoogleBucket(url, store, connection)
    return _Bucket(url, store, connection)


class _Writing:
    """Writes through obstore, which completes or aborts an upload."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        self._url = url
        self._store = store

    def put(self, path: str, chunks: Generator[bytes]) -> int:
        size = 0
        upload = obstore.open_writer(self._store, path, buffer_size=_CHUNK_BYTES)
        with explained(self._url), upload, closing(chunks):
            for chunk in chunks:
                upload.write(chunk)
                size += len(chunk)
        return size


class _Folder(_Writing):
    """A folder. What a killed writer left is an object here too, named ``part…#1``."""

    def __init__(self, url: str, store: ObjectStore) -> None:
        super().__init__(url, store)
        self._folder = folder_of(url)

    def below(self, prefix: str) -> Iterator[Stored]:
        with explained(self._url):
            for folder, _, files in os.walk(self._folder / prefix):
                for name in files:
                    path = Path(folder, name)
                    # Another process may have deleted it meanwhile.
                    with suppress(FileNotFoundError):
                        about = path.stat()
                        changed_at = datetime.fromtimestamp(about.st_mtime, UTC)
                        relative = path.relative_to(self._folder).as_posix()
                        yield Stored(relative, about.st_size, changed_at)

    def delete(self, paths: Sequence[str]) -> None:
        with explained(self._url):
            for path in paths:
                file = self._folder / path
                file.unlink(missing_ok=True)
                self._remove_empty(file.parent)

    def uploads(self, prefix: str) -> list[Upload]:
        return []

    def abort(self, uploads: Iterable[Upload]) -> None:
        """There are none."""

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._folder:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


class _Bucket(_Writing):
    """A bucket of S3, or what is below a prefix in it; its root ends with a slash."""

    def __init__(self, url: str, store: ObjectStore, connection: Connection | None) -> None:
        super().__init__(url, store)
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        self._bucket, self._root = parts.netloc, f"{prefix}/" if prefix else ""
        self._connection = connection

    @cached_property
    def _client(self) -> Any:
        """boto3's client: obstore cannot list uploads."""
        # Imported here: boto3 takes time and memory.
        from millrace.object_store.roles import open_client

        return open_client(self._connection)

    def below(self, prefix: str) -> Iterator[Stored]:
        with explained(self._url):
            pages = obstore.list(self._store, prefix, chunk_size=_LISTED_AT_A_TIME)
            for page in pages:
                for found in page:
                    yield Stored(found["path"], found["size"], found["last_modified"])

    def delete(self, paths: Sequence[str]) -> None:
        with explained(self._url):
            try:
                obstore.delete(self._store, paths)
            except FileNotFoundError:
                # Google's ends at the first that is gone.
                for path in paths:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._store, path)

    def uploads(self, prefix: str) -> list[Upload]:
        root = self._root
        with self._answered():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=f"{root}{prefix}/"
            )
            return [
                Upload(found["Key"].removeprefix(root), found["UploadId"], found["Initiated"])
                for page in pages
                for found in page.get("Uploads", [])
            ]

    def abort(self, uploads: Iterable[Upload]) -> None:
        with self._answered():
            for upload in uploads:
                with suppress(self._client.exceptions.NoSuchUpload):
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=f"{self._root}{upload.path}", UploadId=upload.id
                    )

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Turn boto3's errors into Millrace's."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            about = error.response.get("Error", {})
            said = f"{about.get('Code')}: {about.get('Message')}"
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in range(400, 500):
                raise LandingRefused(
                    f"The landing {self._url} refuses to list or abort unfinished uploads: {said}.",
                    fix="Let the connection aws_landing do so: s3:ListBucketMultipartUploads and "
                    "s3:AbortMultipartUpload (deploy/aws has the policy).",
                ) from None
            raise LandingUnavailable(
                f"The landing {self._url} cannot list or abort unfinished uploads: {said}.",
                fix="Try again later, or leave unfinished uploads to the bucket's lifecycle rule.",
            ) from None
        except BotoCoreError as error:
            raise LandingUnavailable(
                f"The landing {self._url} cannot be reached to list unfinished uploads: {error}.",
                fix="Check the endpoint of the connection aws_landing, and the network.",
            ) from None


class _GoogleBucket(_Bucket):
    """A bucket of Google Cloud Storage, or what is below a prefix in it."""

    @cached_property
    def _uploads(self) -> Uploads:
        from millrace.object_store.google import GOOGLE, Uploads, open_credentials

        endpoint = endpoint_of(self._connection) if self._connection else None
        credentials = open_credentials(self._bucket, self._connection)
        return Uploads(self._url, self._bucket, endpoint or GOOGLE, credentials)

    def uploads(self, prefix: str) -> list[Upload]:
        return [
            Upload(name.removeprefix(self._root), upload_id, began_at)
            for name, upload_id, began_at in self._uploads.below(f"{self._root}{prefix}/")
        ]

    def abort(self, uploads: Iterable[Upload]) -> None:
        for upload in uploads:
            self._uploads.abort(f"{self._root}{upload.path}", upload.id)
