"""The command ``redshift-standin``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redshift_standin.errors import StandinError
from redshift_standin.s3_endpoint import REGION, SEAWEEDFS, S3Endpoint
from redshift_standin.supervisor import BUCKET, IAM_ROLE, Options, serve

if TYPE_CHECKING:
    from redshift_standin.endpoint import RedshiftEndpoint


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".redshift-standin"),
    show_default=True,
    help="Where the data, the passwords and the logs are kept. The data stays when it stops.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Where it listens, on 127.0.0.1; 0 means any free port. "
    "[default: 15439, or another where that is taken]",
)
@click.option(
    "--iam-role",
    "iam_roles",
    multiple=True,
    default=(IAM_ROLE,),
    show_default=True,
    help="A role that COPY and UNLOAD may name; may be repeated, the first is the default.",
)
@click.option("--tls", is_flag=True, help="Offer TLS, with a certificate of a CA made here.")
@click.option(
    "--s3-endpoint-url",
    envvar=["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
    show_envvar=True,
    help="The S3 server that COPY reads and UNLOAD writes. "
    "[default: one of its own, where redshift-standin[s3] is installed]",
)
@click.option(
    "--s3-access-key-id",
    envvar="AWS_ACCESS_KEY_ID",
    show_envvar=True,
    help="The key for that server. Its secret is read from AWS_SECRET_ACCESS_KEY alone, "
    "so that no list of processes shows it.",
)
@click.option(
    "--s3-region",
    envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
    default=REGION,
    show_envvar=True,
    show_default=True,
)
@click.option("--no-s3", is_flag=True, help="SQL alone, without COPY and UNLOAD.")
@click.option("--parent", type=int, metavar="PID", help="End when this parent process ends.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say how to connect: it shows a password.")
@click.option("-v", "--verbose", is_flag=True, help="Say who comes and goes.")
def cli(
    folder: Path,
    port: int | None,
    iam_roles: tuple[str, ...],
    tls: bool,
    s3_endpoint_url: str | None,
    s3_access_key_id: str | None,
    s3_region: str,
    no_s3: bool,
    parent: int | None,
    quiet: bool,
    verbose: bool,
) -> None:
    r"""Run a stand-in for Amazon Redshift until Ctrl-C or SIGTERM.

    A PostgreSQL of its own behind a proxy that speaks Redshift's protocol and SQL, for developing
    and testing with redshift_connector, dbt-redshift, psycopg, Airflow … without a cluster. Once
    it is ready it says how to connect; programs read the same from endpoint.json in its folder.

    \b
    redshift-standin                                 all by itself
    redshift-standin --port 5439 --folder /tmp/rs    where you want it
    AWS_ENDPOINT_URL_S3=http://localhost:9000 redshift-standin    with an S3 server of yours
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    s3 = None
    if s3_endpoint_url and not no_s3:
        s3 = _given_s3(s3_endpoint_url, s3_access_key_id, s3_region)
    own_s3 = s3 is None and not no_s3 and _can_run_s3()

    def announce(endpoint: RedshiftEndpoint) -> None:
        click.echo("Ready." if quiet else _how_to_connect(endpoint, s3))
        sys.stdout.flush()

    serve(Options(folder.absolute(), port, s3, iam_roles, tls, parent, own_s3), announce)


def _given_s3(url: str, key_id: str | None, region: str) -> S3Endpoint:
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not (key_id and secret):
        raise StandinError(
            f"The keys of the S3 server {url} are missing. Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or leave S3 out: --no-s3"
        )
    return S3Endpoint(url, key_id, secret, region)


def _can_run_s3() -> bool:
    return find_spec("boto3") is not None and SEAWEEDFS.exists()


def _how_to_connect(endpoint: RedshiftEndpoint, given_s3: S3Endpoint | None) -> str:
    libpq, driver, trust = "sslmode=disable", "ssl=False", ""
    if endpoint.ca_file:
        libpq = f"sslmode=verify-full sslrootcert={endpoint.ca_file}"
        driver = 'sslmode="verify-ca"'
        trust = f"\nCA         SSL_CERT_FILE={endpoint.ca_file}, for redshift_connector and dbt"
    return f"""\
Redshift   host={endpoint.host} port={endpoint.port} dbname={endpoint.database} \
user={endpoint.user} password={endpoint.password} {libpq}{trust}
{_how_to_copy(endpoint, given_s3)}

redshift_connector.connect(host="{endpoint.host}", port={endpoint.port}, \
database="{endpoint.database}", user="{endpoint.user}", password="{endpoint.password}", {driver})

Ready. Ctrl-C stops it."""


def _how_to_copy(endpoint: RedshiftEndpoint, given_s3: S3Endpoint | None) -> str:
    if given_s3:
        return f"S3         {given_s3.endpoint_url}, by IAM role {endpoint.iam_role}"
    if endpoint.s3 is None:
        return """\
S3         none: COPY and UNLOAD are refused. Name a server with --s3-endpoint-url, or run
           pip install 'redshift-standin[s3]' for one of its own"""
    keys = (
        f"AWS_ACCESS_KEY_ID={endpoint.s3.access_key_id} "
        f"AWS_SECRET_ACCESS_KEY={endpoint.s3.secret_access_key}"
    )
    return f"""\
S3         {endpoint.s3.endpoint_url}   {keys}
           copy t from 's3://{BUCKET}/prefix' iam_role '{endpoint.iam_role}' format as parquet;"""


def main() -> None:
    """Run the command; a failure ends in a message, not in a stack trace."""
    # Until the server handles signals itself, SIGTERM ends what was started so far.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        cli()
    except StandinError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
