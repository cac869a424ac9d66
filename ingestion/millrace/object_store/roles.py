"""What needs boto3: temporary credentials, of a role or of its own chain, and its client of S3.

Imported only where it is needed, because boto3 takes time and memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from obstore.auth.boto3 import Boto3CredentialProvider, StsCredentialProvider

from millrace.connections import endpoint_of
from millrace.object_store.store import CredentialsOutage

if TYPE_CHECKING:
    from millrace.connections import Connection

_DEFAULT_REGION = "us-east-1"

_WAITS = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 5}}


class _Explained:
    """Tells an outage of the credentials' provider from a refusal."""

    def __call__(self) -> Any:
        try:
            return super().__call__()  # type: ignore[misc]
        except (BotoConnectionError, HTTPClientError) as error:
            raise CredentialsOutage(str(error)) from None
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise CredentialsOutage(str(error)) from None
            raise


class _OfRole(_Explained, StsCredentialProvider):
    pass


class _OfChain(_Explained, Boto3CredentialProvider):
    pass


def open_provider(
    login: str | None, password: str | None, extra: Mapping[str, Any], default_region: str
) -> tuple[Any, str, bool | str | None]:
    """The provider that obstore asks for credentials, the region, and whom to trust.

    Args:
        login: An access key to begin with; default: boto3 looks for one in its own way.
        password: Its secret.
        extra: ``role_arn`` and perhaps ``external_id``, or ``ExternalId`` in
            ``assume_role_kwargs``; ``aws_session_token``, ``region_name``, ``verify``.
        default_region: The region if neither the extra nor boto3 has one.

    Returns:
        The last is boto3's ``verify``: of the extra, of ``AWS_CA_BUNDLE``, or of AWS's own files.

    Raises:
        ValueError: boto3 finds no credentials.
    """
    region = extra.get("region_name") or boto3.Session().region_name or default_region
    core = botocore.session.Session()
    if extra.get("verify") is not None:
        core.set_config_variable("ca_bundle", extra["verify"])
    session = boto3.Session(
        botocore_session=core,
        aws_access_key_id=login,
        aws_secret_access_key=password,
        aws_session_token=extra.get("aws_session_token"),
        region_name=region,
    )
    return _provider(session, extra), region, core.get_config_variable("ca_bundle")


def _provider(session: Any, extra: Mapping[str, Any]) -> Any:
    role = extra.get("role_arn")
    if not role:
        return _OfChain(session)
    # Airflow's own operators take it from here.
    given = (extra.get("assume_role_kwargs") or {}).get("ExternalId")
    external_id = extra.get("external_id") or given
    external = {"ExternalId": external_id} if external_id else {}
    return _OfRole(session, RoleArn=role, RoleSessionName="millrace", **external)


def open_client(connection: Connection | None) -> Any:
    """boto3's client of S3, for what obstore cannot do.

    Args:
        connection: As for ``Landing``.

    Raises:
        ValueError: boto3 finds no credentials.
    """
    login, password = (connection.login, connection.password) if connection else (None, None)
    extra = dict(connection.extra) if connection else {}
    provider, region, verify = open_provider(login, password, extra, _DEFAULT_REGION)
    keys = provider()
    endpoint = endpoint_of(connection) if connection else None
    # As obstore asks: a server of one's own may know its buckets by no host names.
    style = {"addressing_style": "path"} if endpoint else {}
    return boto3.client(
        "s3",
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
        aws_session_token=keys["token"],
        region_name=region,
        endpoint_url=endpoint,
        verify=verify,
        config=Config(s3=style, **_WAITS),
    )
