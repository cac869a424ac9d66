"""Where objects are kept: a bucket of S3 or of Google's, or a folder; every failure explained."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store

from millrace.catalog.kinds import needing
from millrace.connections import endpoint_of, masked
from millrace.errors import LandingRefused, LandingUnavailable, MillraceError, SettingError

if TYPE_CHECKING:
    from obstore.store import ClientConfig

    from millrace.connections import Connection

SILENCE_SECONDS = 60
"""How long a bucket may be silent before that counts as an outage."""

_DEFAULT_REGION = "us-east-1"
_CONNECT_SECONDS = 10
# How long a single answer may take as a whole. A dead connection ends earlier, by its silence.
_ANSWER = timedelta(hours=2)
_RETRIES = 5
_RETRIED = timedelta(minutes=3)
_STATUS = re.compile(r" - Server returned non-2xx status code: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_UNTRUSTED = re.compile(r"\bInvalidCertificate\(\s*(\w+)")
_CREDENTIALS_OUTAGE = " credential provider: CredentialsOutage: "
_REDIRECTED = " - Received redirect without LOCATION"
_REFUSALS = (PermissionDeniedError, UnauthenticatedError, PermissionError)
# 4xx statuses that ask for a retry: a timeout, a conflict, too early, too many requests.
_PASSING = {408, 409, 425, 429}


@dataclass(frozen=True)
class _Kind:
    """What the bucket of a scheme needs, in words.

    Attributes:
        connection: The connection with a landing's credentials.
        make: The command that makes a bucket, but for its URL.
        rights: What has the rights that a landing needs.
        trust: Where an authority of one's own may be named besides the connection.
    """

    connection: str
    make: str
    rights: str
    trust: str = ""


_BUCKETS = {
    "s3": _Kind("aws_landing", "aws s3 mb", "deploy/ has the policy", ", or AWS_CA_BUNDLE"),
    "gs": _Kind("gcp_landing", "gcloud storage buckets create", "deploy/bigquery/grant gives them"),
}


@dataclass(frozen=True)
class Use:
    """What a store is used for, as its errors say it.

    Attributes:
        noun: What it is called.
        setting: Where its URL is written.
        connection: The connection with its credentials; default: a landing's.
        rights: What the account needs to do; default: what a landing needs.
        refused: The error where it is missing, or refuses.
        unavailable: The error where it cannot be reached.
    """

    noun: str = "landing"
    setting: str = "LANDING_URL"
    connection: str | None = None
    rights: str | None = None
    refused: type[MillraceError] = LandingRefused
    unavailable: type[MillraceError] = LandingUnavailable


LANDING = Use()


class CredentialsOutage(Exception):
    """The credentials' provider cannot be reached, or fails; obstore's errors hold this name."""


Opener = Callable[[float], ObjectStore]
"""Opens the store, with the seconds of silence after which a request has failed."""


def opener(url: str, connection: Connection | None, use: Use = LANDING) -> Opener:
    """What opens a store.

    Args:
        url: See ``Landing``.
        connection: See ``Landing``.
        use: What it is for.

    Raises:
        SettingError: the URL is of no known kind.
        LandingRefused, or that of its use: the folder cannot be made, there are no credentials, or
            the file of the trusted authorities cannot be read.
        ConnectionNotFound: the connection's ``endpoint_url`` is no plain address.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        try:
            # It may hold personal data. For others to read it, make it before with other rights.
            folder_of(url).mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = LocalStore(folder_of(url))
        except (OSError, BaseError) as error:
            raise LandingRefused(
                f"The landing folder {folder_of(url)} cannot be made: {_said(error)}.",
                fix="Set LANDING_URL to a folder that you may write to.",
            ) from error
        return lambda _: folder
    if parts.scheme in _BUCKETS and parts.netloc and "@" not in parts.netloc:
        open_bucket = _s3_opener if parts.scheme == "s3" else _google_opener
        return open_bucket(parts.netloc, parts.path.strip("/"), connection, use)
    # What is before an @ may be a password, and a password may hold another @.
    shown = repr(url) if "@" not in url else "with an @ (so it is not shown)"
    raise SettingError(
        f"The landing {shown} is neither s3://bucket/prefix, gs://bucket/prefix nor "
        "file:///folder.",
        fix="Set LANDING_URL to one of them.",
    )


def _s3_opener(bucket: str, prefix: str, connection: Connection | None, use: Use) -> Opener:
    extra = dict(connection.extra) if connection else {}
    endpoint = endpoint_of(connection) if connection else None
    credentials, verify = _s3_credentials(bucket, connection, extra, use)
    trust = _trust(verify, use)
    if endpoint:
        # obstore does not accept None for Amazon's own.
        credentials["endpoint"] = endpoint

    def open_store(silence_seconds: float) -> ObjectStore:
        return S3Store(
            bucket,
            prefix=prefix or None,
            virtual_hosted_style_request=endpoint is None,
            client_options=trust | _client_options(endpoint, silence_seconds),
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRIED},
            **credentials,
        )

    return open_store


def _google_opener(bucket: str, prefix: str, connection: Connection | None, use: Use) -> Opener:
    # Imported here: it is needed for this landing alone, and may not be installed.
    with needing("millrace[gcs]", "gs"):
        from millrace.object_store.google import GOOGLE, Provider, open_credentials

    endpoint = endpoint_of(connection) if connection else None
    provider = Provider(open_credentials(bucket, connection))
    trust = _trust((connection.extra if connection else {}).get("verify"), use)

    def open_store(silence_seconds: float) -> ObjectStore:
        return GCSStore(
            bucket,
            prefix=prefix or None,
            client_options=trust | _client_options(endpoint, silence_seconds),
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRIED},
            credential_provider=provider,
            base_url=endpoint or GOOGLE,
        )

    return open_store


def _client_options(endpoint: str | None, silence_seconds: float) -> ClientConfig:
    return {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        # It starts with the request, and starts again with every read of the answer.
        "read_timeout": timedelta(seconds=silence_seconds),
        "timeout": _ANSWER,
    }


def _s3_credentials(
    bucket: str, connection: Connection | None, extra: dict[str, Any], use: Use
) -> tuple[dict[str, Any], bool | str | None]:
    """Obstore's options for the credentials, and boto3's ``verify``."""
    role = extra.get("role_arn")
    if connection and connection.login and not role:
        keys = {
            "access_key_id": connection.login,
            "secret_access_key": connection.password,
            "session_token": extra.get("aws_session_token"),
        }
        region = extra.get("region_name") or _DEFAULT_REGION
        verify = extra.get("verify")
        return (
            {"region": region} | {name: key for name, key in keys.items() if key},
            # Like boto3, which is not asked here.
            (os.environ.get("AWS_CA_BUNDLE") or None) if verify is None else verify,
        )
    # Imported here: a key pair does not need boto3, whose import takes time and memory.
    from millrace.object_store.roles import open_provider

    login, password = (connection.login, connection.password) if connection else (None, None)
    try:
        provider, region, verify = open_provider(login, password, extra, _DEFAULT_REGION)
    except ValueError as error:
        name = use.connection or _BUCKETS["s3"].connection
        raise use.refused(
            f"There are no AWS credentials for the {use.noun} s3://{bucket}.",
            fix=f"Set the connection {name} (AIRFLOW_CONN_{name.upper()}), "
            "or what boto3 looks for (AWS_PROFILE, an instance role, …).",
        ) from error
    return {"credential_provider": provider, "region": region}, verify


def _trust(verify: bool | str | None, use: Use) -> ClientConfig:
    """Obstore's options for what boto3 calls ``verify``.

    Args:
        verify: A file with trusted authorities, in addition to the system's; False: nothing is
            verified; True or None: as the system does.
        use: What the store is for.
    """
    if not isinstance(verify, str):
        return {"allow_invalid_certificates": True} if verify is False else {}
    try:
        # obstore would not say what is wrong with the file.
        ssl.create_default_context(cafile=verify)
        return {"root_certificate": Path(verify).read_bytes()}
    except OSError as error:
        name = use.connection or _BUCKETS["s3"].connection
        raise use.refused(
            f"The certificates in {verify}, which the {use.noun} is to trust, cannot be read: "
            f"{error.strerror or error}.",
            fix=f"Correct `verify` in the extra of the connection {name}, or AWS_CA_BUNDLE: it "
            "is the path of a PEM file.",
        ) from None


def folder_of(url: str) -> Path:
    """The folder of a ``file://`` landing."""
    return Path(url2pathname(urlsplit(url).path))


def etag_of(store: ObjectStore, found: Any) -> str | None:
    """The ETag of an object in a bucket. None in a folder, where a copied file has another one."""
    return None if isinstance(store, LocalStore) else found["e_tag"]


@contextmanager
def explained(url: str, *, may_be_missing: bool = False, use: Use = LANDING) -> Iterator[None]:
    """Turn the object store's errors into Millrace's.

    Args:
        url: The store.
        may_be_missing: Let FileNotFoundError pass, because an object that is read may be missing.
        use: What the store is for.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        # obstore's writers raise OSError where its other calls raise obstore's own errors. They are
        # not chained: their text is not masked, and is the whole answer.
        said = _said(error)
        status, code = _answer(error)
        kind = _BUCKETS.get(urlsplit(url).scheme, _BUCKETS["s3"])
        where, connection = f"The {use.noun} {url}", use.connection or kind.connection
        if code == "NoSuchBucket":
            bucket = urlsplit(url).netloc
            raise use.refused(
                f"The bucket '{bucket}' of the {use.noun} {url} does not exist.",
                fix=f"Create it (`{kind.make} {urlsplit(url).scheme}://{bucket}`), or correct "
                f"{use.setting}.",
            ) from None
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        if code == "RequestTimeTooSkewed":
            raise use.refused(
                f"{where} refuses a request with this machine's time.",
                fix="Set this machine's clock right.",
            ) from None
        is_refusal = status in (401, 403) or isinstance(error, _REFUSALS)
        if is_refusal and _CREDENTIALS_OUTAGE not in said:
            of_landing = f"get, put, list and delete objects under that prefix ({kind.rights})"
            raise use.refused(
                f"{where} refuses these credentials: {said}.",
                fix=f"Check the connection {connection}: it needs to {use.rights or of_landing}.",
            ) from None
        if untrusted := _UNTRUSTED.search(str(error)):
            raise use.refused(
                f"The certificate of the {use.noun} {url} is not trusted: {untrusted[1]}.",
                fix="Name a file with its authority: `verify` in the extra of the connection "
                f"{connection}{kind.trust}.",
            ) from None
        if (status in range(400, 500) and status not in {404, *_PASSING}) or _REDIRECTED in said:
            raise use.refused(
                f"{where} refuses: {said}.",
                fix=f"Check {use.setting}, and the endpoint, region and keys of the connection "
                f"{connection}.",
            ) from None
        raise use.unavailable(
            f"{where} cannot be used: {said}.",
            fix=f"Check {use.setting}, the endpoint of the connection {connection}, and the "
            "network.",
        ) from None


def _answer(error: Exception) -> tuple[int | None, str | None]:
    """The HTTP status of the bucket's answer, and its error code; each None if there is none.

    The message also holds buckets, paths and upload ids, before that answer.
    """
    answered = _STATUS.search(str(error))
    if answered is None:
        return None, None
    code = _CODE.search(str(error), answered.end())
    return int(answered[1]), code[1] if code else None


def _said(error: Exception) -> str:
    """What the object store says, in one line and without a secret."""
    return masked(str(error).splitlines()[0]).rstrip(". ")
