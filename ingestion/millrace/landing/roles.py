"""Temporary credentials for S3: of a role, or of boto3's own chain.

Imported only where they are needed, because boto3 takes time and memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
import botocore.session
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from obstore.auth.boto3 import Boto3CredentialProvider, StsCredentialProvider


class CredentialsOutage(Exception):
    """The credentials' provider cannot be reached, or fails; obstore's errors hold this name."""


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
        extra: ``role_arn`` and perhaps ``external_id``, ``aws_session_token``, ``region_name``,
            ``verify``.
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
    external = {"ExternalId": extra["external_id"]} if extra.get("external_id") else {}
    return _OfRole(session, RoleArn=role, RoleSessionName="millrace", **external)
