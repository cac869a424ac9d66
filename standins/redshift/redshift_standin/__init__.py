"""A stand-in for Amazon Redshift: PostgreSQL behind a proxy that speaks Redshift's ways.

``redshift-standin`` runs it, ``RedshiftServer`` starts it from a program.
"""

from redshift_standin.endpoint import RedshiftEndpoint
from redshift_standin.errors import StandinError
from redshift_standin.s3_endpoint import S3Endpoint
from redshift_standin.server import RedshiftServer

__all__ = ["RedshiftEndpoint", "RedshiftServer", "S3Endpoint", "StandinError"]
