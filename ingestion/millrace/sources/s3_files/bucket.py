"""The bucket that files are delivered to: what is there, and a file as a copy of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import IO, TYPE_CHECKING

import obstore

from millrace.batch import DeliveredFile
from millrace.connections import Connection
from millrace.errors import SourceMismatch, SourceRefused, SourceUnavailable
from millrace.object_store.store import SILENCE_SECONDS, Use, explained, opener
from millrace.sources.s3_files.options import Files, glob

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CHUNK_BYTES = 8 * 1024 * 1024
_LISTED_AT_A_TIME = 1000
# Copies that are this small stay in memory.
_IN_MEMORY_BYTES = 16 * 1024 * 1024


class Bucket:
    """A bucket.

    Args:
        name: Its name.
        connection: As for a landing on S3.

    Raises:
        SourceRefused: there are no credentials, or the file of the trusted authorities cannot be
            read.
    """

    def __init__(self, name: str, connection: Connection) -> None:
        self.url = f"s3://{name}"
        self._connection = connection
        self._use = Use(
            noun="source",
            setting="`files` in the declaration",
            connection=connection.conn_id,
            rights="list the bucket and get its objects (s3:ListBucket, s3:GetObject)",
            refused=SourceRefused,
            unavailable=SourceUnavailable,
        )

    @cached_property
    def _store(self) -> ObjectStore:
        return opener(self.url, self._connection, self._use)(SILENCE_SECONDS)

    def files(self, files: Files, skip: tuple[str, ...]) -> list[DeliveredFile]:
        """The files that match, those that were delivered first at the beginning.

        Raises:
            SourceRefused, SourceUnavailable: the bucket cannot be listed.
        """
        left_out = [glob(pattern) for pattern in skip]
        with explained(self.url, use=self._use):
            pages = obstore.list(self._store, files.folder or None, chunk_size=_LISTED_AT_A_TIME)
            found = [
                DeliveredFile(
                    meta["path"], meta["e_tag"] or "", meta["size"], meta["last_modified"]
                )
                for page in pages
                for meta in page
                if files.match(meta["path"])
                and not any(pattern.fullmatch(meta["path"]) for pattern in left_out)
            ]
        return sorted(found, key=lambda file: (file.delivered_at, file.name))

    @contextmanager
    def copy(self, file: DeliveredFile) -> Iterator[IO[bytes]]:
        """A file's content: all of it, and as it was when it was found.

        Raises:
            SourceMismatch: it is gone, or was delivered again.
            SourceRefused, SourceUnavailable: it cannot be read.
        """
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, prefix="millrace-") as body:
            try:
                with explained(self.url, may_be_missing=True, use=self._use):
                    answer = obstore.get(self._store, file.name)
                    if (answer.meta["e_tag"] or "", answer.meta["size"]) != (
                        file.version,
                        file.size,
                    ):
                        raise _changed(f"{self.url}/{file.name} was delivered again")
                    for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                        body.write(chunk)
            except FileNotFoundError:
                raise _changed(f"{self.url}/{file.name} is gone") from None
            if body.tell() != file.size:
                raise SourceUnavailable(
                    f"{self.url}/{file.name} broke off after {body.tell():,} of {file.size:,} "
                    "bytes.",
                    fix="Try again later. Nothing was loaded.",
                )
            body.seek(0)
            yield body


def try_account(connection: Connection) -> str:
    """Ask for the account's buckets, to see whether it is let in.

    Returns:
        Who it is, for a person. An account that may not list its buckets is let in, too.

    Raises:
        SourceRefused: it is not, or there are no credentials.
        SourceUnavailable: S3 does not answer.
    """
    # Imported here: boto3 takes time and memory.
    from botocore.exceptions import BotoCoreError, ClientError

    from millrace.object_store.roles import open_client
    from millrace.object_store.store import CredentialsOutage

    name = connection.conn_id
    try:
        open_client(connection).list_buckets()
    except ClientError as error:
        about = error.response.get("Error", {})
        if about.get("Code") != "AccessDenied" or error.operation_name != "ListBuckets":
            raise SourceRefused(
                f"AWS refuses the account of the connection '{name}': {about.get('Code')}: "
                f"{about.get('Message')}.",
                fix="Correct its key pair, or its role and external id.",
            ) from None
    except ValueError:
        raise SourceRefused(
            f"There are no AWS credentials in the connection '{name}', and boto3 finds none.",
            fix="Give it a login and a password: an access key and its secret.",
        ) from None
    except (BotoCoreError, CredentialsOutage) as error:
        raise SourceUnavailable(
            f"S3 does not answer the connection '{name}': {error}.",
            fix="Check its `endpoint_url` and `region_name`, and the network.",
        ) from None
    return f"S3, as {connection.extra.get('role_arn') or connection.login or 'boto3 finds'}"


def _changed(what: str) -> SourceMismatch:
    return SourceMismatch(
        f"{what} since the batch was planned.",
        fix="Ingest again, which takes what is there now. Nothing was loaded.",
    )
