"""Where an S3 server is, whoever runs it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REGION = "us-east-1"
SEAWEEDFS = Path(sys.executable).with_name("weed")
"""The server's program, which the wheel of the extra ``s3`` puts beside Python's."""


@dataclass(frozen=True)
class S3Endpoint:
    """Where an S3 server listens and the keys to it."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str

    def airflow_connection(self) -> dict[str, Any]:
        """The keys as an Airflow connection, without its id."""
        return {
            "conn_type": "aws",
            "login": self.access_key_id,
            "password": self.secret_access_key,
            "extra": {"region_name": self.region, "endpoint_url": self.endpoint_url},
        }

    def environment(self) -> dict[str, str]:
        """The variables by which AWS's own tools find it, and ``redshift-standin`` does."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
        }

    def client(self) -> Any:
        """A boto3 client that reports a failure at once instead of trying again."""
        # Imported here: a stand-in that uses another S3 server does not need it.
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=30,
                s3={"addressing_style": "path"},
            ),
        )
