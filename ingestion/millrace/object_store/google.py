"""What needs google-auth: credentials of Google Cloud Storage, and its list of unfinished uploads.

Imported only where it is needed, because Google's library is no part of a plain installation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.service_account import Credentials
from obstore.auth.google import GoogleCredentialProvider

from millrace.connections import masked, service_account_key
from millrace.errors import LandingRefused, LandingUnavailable
from millrace.object_store.store import CredentialsOutage

if TYPE_CHECKING:
    from millrace.connections import Connection

GOOGLE = "https://storage.googleapis.com"
_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]
_SECONDS = 60


class Provider(GoogleCredentialProvider):
    """Tells an outage of Google's token server from a refusal."""

    def __call__(self) -> Any:
        """A token."""
        try:
            return super().__call__()
        except TransportError as error:
            raise CredentialsOutage(str(error)) from None
        except RefreshError as error:
            if error.retryable:
                raise CredentialsOutage(str(error)) from None
            raise


def open_credentials(bucket: str, connection: Connection | None) -> Any:
    """The credentials of a landing.

    Args:
        bucket: The landing's bucket, for messages.
        connection: Its extra holds the key of a service account (``keyfile_dict``, an object or its
            JSON), or the path of its file (``key_path``). Without either, and without a
            connection, Google's library looks for application default credentials.

    Raises:
        LandingRefused: there are none, or they cannot be read.
        ConnectionNotFound: ``keyfile_dict`` is no service account's key.
    """
    extra = connection.extra if connection else {}
    try:
        if connection and extra.get("keyfile_dict"):
            what = "the key in the connection gcp_landing is damaged"
            return Credentials.from_service_account_info(
                service_account_key(connection), scopes=_SCOPES
            )
        if path := extra.get("key_path"):
            what = f"the key's file {path} cannot be read"
            return Credentials.from_service_account_file(str(path), scopes=_SCOPES)
        what = "Google's library finds none"
        found, _ = google.auth.default(scopes=_SCOPES)
    # Not chained, and not quoted: what some of them say shows the key.
    except (GoogleAuthError, ValueError, TypeError, AttributeError, OSError):
        raise LandingRefused(
            f"There are no Google credentials for the landing gs://{bucket}: {what}.",
            fix="Set the connection gcp_landing (AIRFLOW_CONN_GCP_LANDING), with `keyfile_dict` or "
            "`key_path` in its extra; or GOOGLE_APPLICATION_CREDENTIALS; or log in: `gcloud auth "
            "application-default login`.",
        ) from None
    return found


class Uploads:
    """The unfinished uploads of a bucket, which obstore cannot list.

    https://cloud.google.com/storage/docs/xml-api/get-bucket-uploads

    Args:
        landing: The landing's URL, for messages.
        bucket: The bucket.
        base_url: Where Cloud Storage is.
        credentials: From ``open_credentials``.
    """

    def __init__(self, landing: str, bucket: str, base_url: str, credentials: Any) -> None:
        self._landing = landing
        self._url = f"{base_url}/{quote(bucket, safe='')}"
        self._credentials = credentials

    def below(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """The name, the upload's id, and when it was begun, in UTC, of each below a prefix."""
        asked = {"uploads": "", "prefix": prefix}
        while True:
            page = ElementTree.fromstring(self._ask("GET", "", asked).content)  # noqa: S314 Google's
            for found in page.iterfind("{*}Upload"):
                about = {child.tag.rpartition("}")[2]: child.text or "" for child in found}
                began_at = datetime.fromisoformat(about["Initiated"])
                yield about["Key"], about["UploadId"], began_at
            if page.findtext("{*}IsTruncated") != "true":
                return
            asked |= {
                "key-marker": page.findtext("{*}NextKeyMarker") or "",
                "upload-id-marker": page.findtext("{*}NextUploadIdMarker") or "",
            }

    def abort(self, name: str, upload_id: str) -> None:
        """Abort one; one that is gone already counts as aborted."""
        self._ask("DELETE", f"/{quote(name)}", {"uploadId": upload_id}, passes=[404])

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        passes: Collection[int] = (),
    ) -> requests.Response:
        with self._answered(), AuthorizedSession(self._credentials) as session:
            answer: requests.Response = session.request(
                method, self._url + path, params=dict(query), timeout=_SECONDS
            )
        if answer.ok or answer.status_code in passes:
            return answer
        code = ElementTree.fromstring(answer.content).findtext("{*}Code") if answer.content else ""  # noqa: S314
        said = f"{answer.status_code} {code}".rstrip()
        if answer.status_code in range(400, 500):
            raise LandingRefused(
                f"The landing {self._landing} refuses to list or abort unfinished uploads: {said}.",
                fix="Let the connection gcp_landing do so: storage.multipartUploads.list and "
                "storage.multipartUploads.abort (deploy/bigquery/grant gives them).",
            )
        raise LandingUnavailable(
            f"The landing {self._landing} cannot list or abort unfinished uploads: {said}.",
            fix="Try again later, or leave unfinished uploads to the bucket's lifecycle rule.",
        )

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, TransportError) as error:
            raise LandingUnavailable(
                f"The landing {self._landing} cannot be reached to list unfinished uploads: "
                f"{_line(error)}.",
                fix="Check the endpoint of the connection gcp_landing, and the network.",
            ) from None
        except GoogleAuthError as error:
            raise LandingRefused(
                f"Google does not take the credentials of the landing {self._landing}: "
                f"{_line(error)}.",
                fix="Check the connection gcp_landing.",
            ) from None


def _line(error: Exception) -> str:
    return masked(" ".join(str(error).split())).rstrip(". ")
