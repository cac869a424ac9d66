"""The Redshift stand-in alone: ``python -m redshift_standin``."""

from __future__ import annotations

import logging
import signal
import sys
import threading

import click

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError
from millrace_sandbox.s3 import S3Endpoint, S3Server
from redshift_standin.launcher import PREFERRED_PORT, RedshiftEndpoint, RedshiftServer

CHECK_SECONDS = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=PREFERRED_PORT, show_default=True, help="The port wished for.")
@click.option("--bucket", default="redshift", show_default=True, help="A bucket for COPY.")
@click.option("--iam-role", multiple=True, help="A role that COPY may name; may be repeated.")
@click.option("--tls", is_flag=True, help="Offer TLS, with a certificate of a CA made here.")
def serve(port: int, bucket: str, iam_role: tuple[str, ...], tls: bool) -> None:
    """Run the stand-in and an S3 server until Ctrl-C; the data stays under .sandbox/."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    paths = SandboxPaths.default()
    s3 = S3Server(paths)
    is_ours = not s3.is_running()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        endpoint = s3.start()
        s3.create_bucket(bucket)
        roles = {"iam_roles": iam_role} if iam_role else {}
        redshift = RedshiftServer(paths, endpoint, port, **roles, tls=tls)
        if redshift.is_running():
            raise SandboxError(
                f"Redshift is {redshift.status} already, started by another command."
            )
        try:
            click.echo(_how_to_connect(redshift.start(), endpoint, bucket))
            while redshift.is_running() and not stop.wait(CHECK_SECONDS):
                pass
        finally:
            redshift.stop()
    finally:
        if is_ours:
            s3.stop()


def _how_to_connect(redshift: RedshiftEndpoint, s3: S3Endpoint, bucket: str) -> str:
    libpq, driver, trust = "sslmode=disable", "ssl=False", ""
    if redshift.ca_file:
        libpq = f"sslmode=verify-full sslrootcert={redshift.ca_file}"
        driver = 'sslmode="verify-ca"'
        trust = f"\nCA         SSL_CERT_FILE={redshift.ca_file}, for redshift_connector and dbt"
    return f"""\
Redshift   host={redshift.host} port={redshift.port} dbname={redshift.database} \
user={redshift.user} password={redshift.password} {libpq}{trust}
S3         {s3.endpoint_url}  bucket {bucket}
           AWS_ACCESS_KEY_ID={s3.access_key_id} AWS_SECRET_ACCESS_KEY={s3.secret_access_key}
IAM role   {redshift.iam_role}

redshift_connector.connect(host="{redshift.host}", port={redshift.port}, \
database="{redshift.database}", user="{redshift.user}", password="{redshift.password}", {driver})
copy t from 's3://{bucket}/prefix' iam_role '{redshift.iam_role}' format as parquet;

Ctrl-C stops it."""


def main() -> None:
    """Run the command; what cannot work ends in a message, not in a stack trace."""
    try:
        serve()
    except SandboxError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
