"""A test's own bucket of each kind, also as somebody sees it who does not use Millrace."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from millrace.connections import Connection
from millrace.object_store.google import open_credentials
from millrace_sandbox.gcs import GCS
from redshift_standin.s3 import S3Server


class Bucket(ABC):
    """A bucket.

    Attributes:
        name: Its name.
        scheme: That of its URL.
    """

    name: str
    scheme: str

    @property
    def url(self) -> str:
        """The bucket itself."""
        return f"{self.scheme}://{self.name}"

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Where the server listens."""

    @abstractmethod
    def connection(self, endpoint: str | None = None) -> Connection:
        """What opens it, perhaps at another address."""

    @abstractmethod
    def refused_connection(self) -> Connection:
        """An account whose key is wrong."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of its objects."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """An object."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete an object."""

    @abstractmethod
    def begin_upload(self, key: str) -> None:
        """Begin an upload, and leave it."""

    @abstractmethod
    def uploads(self) -> list[str]:
        """The names of unfinished uploads."""


@dataclass(frozen=True)
class S3Bucket(Bucket):
    """A bucket of the S3 server."""

    server: S3Server
    name: str
    scheme: str = "s3"

    @property
    def endpoint(self) -> str:
        return self.server.endpoint.endpoint_url

    def connection(self, endpoint: str | None = None, **changes: Any) -> Connection:
        given = self.server.endpoint.airflow_connection() | changes
        if endpoint:
            given["extra"] = {**given["extra"], "endpoint_url": endpoint}
        return Connection(conn_id="aws_landing", **given)

    def refused_connection(self) -> Connection:
        return self.connection(password="wrong")

    def names(self) -> list[str]:
        listed = self._client.list_objects_v2(Bucket=self.name)
        return sorted(found["Key"] for found in listed.get("Contents", []))

    def read(self, key: str) -> bytes:
        found: bytes = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return found

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)

    def begin_upload(self, key: str) -> None:
        self._client.create_multipart_upload(Bucket=self.name, Key=key)

    def uploads(self) -> list[str]:
        listed = self._client.list_multipart_uploads(Bucket=self.name)
        return [found["Key"] for found in listed.get("Uploads", [])]

    @property
    def _client(self) -> Any:
        return self.server.endpoint.client()


@dataclass(frozen=True)
class GoogleBucket(Bucket):
    """A bucket of the server of Google Cloud Storage's API, whose objects are files."""

    server: GCS
    name: str
    scheme: str = "gs"

    @property
    def endpoint(self) -> str:
        return self.server.endpoint.url

    def connection(self, endpoint: str | None = None) -> Connection:
        given: Any = self.server.endpoint.airflow_connection()
        if endpoint:
            given["extra"] = {**given["extra"], "endpoint_url": endpoint}
        return Connection(conn_id="gcp_landing", **given)

    def refused_connection(self) -> Connection:
        from sheets_standin.accounts import new_key

        key = self.server.endpoint.keyfile
        other = new_key(key["client_email"], key["token_uri"])
        return Connection(
            "gcp_landing",
            "google_cloud_platform",
            extra={"keyfile_dict": json.dumps(other), "endpoint_url": self.endpoint},
        )

    @property
    def folder(self) -> Path:
        return self.server.create_bucket(self.name)

    def names(self) -> list[str]:
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return sorted(str(file.relative_to(self.folder)) for file in files)

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        draft = self.folder / "draft"
        draft.write_bytes(data)
        draft.replace(self.folder / key)

    def delete(self, key: str) -> None:
        (self.folder / key).unlink()

    def begin_upload(self, key: str) -> None:
        self._ask("POST", f"/{key}?uploads")

    def uploads(self) -> list[str]:
        found = (self.server.folder / "uploads").glob("*/about.json")
        listed = [json.loads(about.read_text()) for about in found]
        return [about["Key"] for about in listed if about["bucket"] == self.name]

    def _ask(self, method: str, path: str) -> None:
        import google.auth.transport.requests

        credentials = open_credentials(self.name, self.connection())
        credentials.refresh(google.auth.transport.requests.Request())
        token = {"Authorization": f"Bearer {credentials.token}"}
        httpx.request(
            method, f"{self.endpoint}/{self.name}{path}", headers=token
        ).raise_for_status()
