"""The objects that COPY reads and UNLOAD writes, and who may reach them."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from redshift_standin.s3_endpoint import S3Endpoint
from redshift_standin.wire import Backend, ServerError

if TYPE_CHECKING:
    from obstore.store import S3Config

READ_BYTES = 8 * 1024 * 1024
# The user of a made-up cluster, for error messages.
CLUSTER_USER = "arn:aws:redshift:us-east-1:123456789012:dbuser:redshift-standin"


@dataclass(frozen=True)
class Cluster:
    """What a session's COPY and UNLOAD may use.

    Attributes:
        s3: The S3 server.
        iam_roles: The attached roles; the first is the default.
        log_in_superuser: Opens another connection, whose work outlives the session's rollback.
    """

    s3: S3Endpoint | None
    iam_roles: tuple[str, ...]
    log_in_superuser: Callable[[], Awaitable[Backend]]


@dataclass(frozen=True)
class DataFile:
    """An object to load.

    Attributes:
        url: Its address, ``s3://…``.
        size: In bytes.
    """

    url: str
    size: int


def detailed_error(
    message: str, code: int, context: str = "", hint: str | None = None
) -> ServerError:
    """An error with the block of details that Redshift's own failures carry."""
    line = "-----------------------------------------------"
    detail = (
        f"\n  {line}\n  error:  {message}\n  code:      {code}\n  context:   {context}\n  {line}\n"
    )
    return ServerError.make(message, detail=detail, hint=hint)


class Storage:
    """S3 as a statement's credentials open it.

    Args:
        cluster: What the session may use.
        clauses: The statement's credentials: ``iam_role``; or ``access_key_id``,
            ``secret_access_key`` and perhaps ``session_token``; or ``credentials`` with the same
            in one text.

    Raises:
        ServerError: The role is not attached, or there is nothing to authorise with.
    """

    def __init__(self, cluster: Cluster, clauses: Mapping[str, str]) -> None:
        if cluster.s3 is None:
            raise ServerError.make(
                "The stand-in runs without an S3 server.", hint="Start it with one to use COPY."
            )
        credentials = _credentials(clauses)
        self._endpoint = cluster.s3
        self._access_key_id = cluster.s3.access_key_id
        self._secret_access_key = cluster.s3.secret_access_key
        self._session: S3Config = {}
        if role := credentials.get("iam_role"):
            _check_roles(cluster, role)
        elif "access_key_id" in credentials and "secret_access_key" in credentials:
            self._access_key_id = credentials["access_key_id"]
            self._secret_access_key = credentials["secret_access_key"]
            if "session_token" in credentials:
                self._session = {"session_token": credentials["session_token"]}
        else:
            raise ServerError.make("CREDENTIALS argument is required", "42601")
        self._stores: dict[str, S3Store] = {}

    def open(self, url: str) -> tuple[S3Store, str]:
        """The bucket of an address, and the key in it.

        Raises:
            ServerError: It is no ``s3://`` address.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ServerError.make(
                f"The specified location '{url}' is not supported: only s3:// is.", "0A000"
            )
        # urlsplit would take a ? or # in a key for the start of a query or a fragment.
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if bucket not in self._stores:
            self._stores[bucket] = S3Store(
                bucket,
                config=self._session,
                endpoint=self._endpoint.endpoint_url,
                access_key_id=self._access_key_id,
                secret_access_key=self._secret_access_key,
                region=self._endpoint.region,
                virtual_hosted_style_request=False,
                client_options={"allow_http": True},
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
            )
        return self._stores[bucket], key

    def find(self, prefix_url: str) -> list[DataFile]:
        """The objects whose URLs begin with a prefix, in order; empty ones are left out."""
        store, prefix = self.open(prefix_url)
        bucket = urlsplit(prefix_url).netloc
        # obstore's prefixes are whole folders, Redshift's are the beginnings of keys.
        folder = prefix.rpartition("/")[0]
        with explained(prefix_url):
            found = [
                DataFile(f"s3://{bucket}/{entry['path']}", entry["size"])
                for page in obstore.list(store, folder or None)
                for entry in page
                if entry["path"].startswith(prefix) and entry["size"]
            ]
        return sorted(found, key=lambda file: file.url)

    def size(self, url: str) -> int | None:
        """An object's size in bytes, None when it does not exist."""
        store, key = self.open(url)
        try:
            with explained(url):
                return int(obstore.head(store, key)["size"])
        except ServerError as error:
            if "NoSuchKey" in str(error):
                return None
            raise

    def open_reader(self, url: str) -> io.RawIOBase:
        """An object as a file, read in large pieces."""
        store, key = self.open(url)
        return _ObjectReader(obstore.open_reader(store, key, buffer_size=READ_BYTES))

    def read(self, url: str) -> bytes:
        """A small object's content."""
        store, key = self.open(url)
        with explained(url):
            return bytes(obstore.get(store, key).bytes())

    def read_manifest(self, url: str, is_parquet: bool) -> list[DataFile]:
        """The files that a manifest names and that exist.

        Raises:
            ServerError: The manifest is missing or broken, a mandatory file is missing, or a
                file's length is not the one stated.
        """
        try:
            manifest = json.loads(self.read(url))
            entries = manifest["entries"]
            return [file for entry in entries if (file := self._manifest_file(entry, is_parquet))]
        except (ValueError, KeyError, TypeError) as error:
            raise detailed_error(
                f"Problem reading manifest file - {url} is not a valid manifest", 8001, repr(error)
            ) from error

    def _manifest_file(self, entry: Mapping[str, object], is_parquet: bool) -> DataFile | None:
        url = str(entry["url"])
        meta = entry.get("meta")
        if is_parquet and not (isinstance(meta, dict) and "content_length" in meta):
            raise detailed_error("File entry does not have 'meta' key.", 15003, url)
        size = self.size(url)
        if size is None:
            if entry.get("mandatory"):
                raise detailed_error(
                    "S3ServiceException:The specified key does not exist.,Status 404,"
                    "Error NoSuchKey",
                    8001,
                    f"Failed to find mandatory file {url}",
                )
            return None
        stated = meta.get("content_length") if isinstance(meta, dict) else None
        if stated is not None and stated != size:
            raise detailed_error(
                f"File {url} has {size} bytes, but its content_length in the manifest is {stated}.",
                15001,
                url,
            )
        return DataFile(url, size)


class _ObjectReader(io.RawIOBase):
    """An object in the shape of a file that pyarrow reads.

    Args:
        reader: obstore's.
    """

    def __init__(self, reader: obstore.ReadableFile) -> None:
        super().__init__()
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return bytes(self._reader.read(None if size < 0 else size))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn S3's refusals inside the block into the errors that Redshift passes on."""
    try:
        yield
    except (BaseError, OSError) as error:
        text = str(error)
        for name, status, said in (
            ("NoSuchBucket", 404, "The specified bucket does not exist"),
            ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist"),
            ("SignatureDoesNotMatch", 403, "The request signature we calculated does not match"),
            ("AccessDenied", 403, "Access Denied"),
            ("NoSuchKey", 404, "The specified key does not exist."),
        ):
            if name in text or (name == "NoSuchKey" and isinstance(error, FileNotFoundError)):
                raise detailed_error(
                    f"S3ServiceException:{said},Status {status},Error {name}", 8001, url
                ) from error
        raise detailed_error(f"S3 cannot be read or written: {text[:500]}", 8001, url) from error


def _credentials(clauses: Mapping[str, str]) -> Mapping[str, str]:
    if "credentials" not in clauses:
        return clauses
    pairs = (pair.partition("=") for pair in clauses["credentials"].split(";") if pair)
    values = {name.strip().lower().removeprefix("aws_"): value for name, _, value in pairs}
    return {"session_token" if name == "token" else name: value for name, value in values.items()}


def _check_roles(cluster: Cluster, roles: str) -> None:
    # A chain of roles is written with commas.
    for role in roles.split(","):
        if role.strip().lower() == "default" and cluster.iam_roles:
            continue
        if role.strip() not in cluster.iam_roles:
            message = f"User {CLUSTER_USER} is not authorized to assume IAM Role {role.strip()}"
            raise detailed_error(
                message,
                8001,
                "IAM Role=" + role.strip(),
                hint=f"The stand-in knows {', '.join(cluster.iam_roles) or 'no role'}.",
            )
