"""The settings of a run: read once, at the start, and passed on as one frozen object.

dbt's own variables may begin with ``DBT_ENGINE_`` too, as in dbt. What the models and
``profiles.yml`` read with ``env_var`` is the project's own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from millrace.errors import SettingError

_STATEMENT_SECONDS = 3600
GCP_LANDING = "gcp_landing"
"""The connection of a landing on Google Cloud Storage, unless ``LANDING_CONNECTION`` says else."""


@dataclass(frozen=True)
class DbtSettings:
    """The environment variables by which dbt itself chooses a project and a target.

    Attributes:
        project_dir: ``DBT_PROJECT_DIR``.
        profiles_dir: ``DBT_PROFILES_DIR``.
        target: ``DBT_TARGET``.
        profile: ``DBT_PROFILE``.
        target_path: ``DBT_TARGET_PATH``.
    """

    project_dir: str | None = None
    profiles_dir: str | None = None
    target: str | None = None
    profile: str | None = None
    target_path: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> DbtSettings:
        """Read them as dbt does: the new name overrides the old one, an empty value is none."""

        def value(name: str) -> str | None:
            return environ.get(f"DBT_ENGINE_{name}") or environ.get(f"DBT_{name}") or None

        return cls(
            project_dir=value("PROJECT_DIR"),
            profiles_dir=value("PROFILES_DIR"),
            target=value("TARGET"),
            profile=value("PROFILE"),
            target_path=value("TARGET_PATH"),
        )


@dataclass(frozen=True)
class Settings:
    """The settings in the environment; docs/settings.md lists them.

    Attributes:
        landing_url: ``LANDING_URL``.
        landing_connection: ``LANDING_CONNECTION``; default: by the kind of landing.
        pii_salt: ``MILLRACE_PII_SALT``.
        alerts_connection: ``ALERTS_CONNECTION``.
        airflow_api_connection: ``AIRFLOW_API_CONNECTION``.
        redshift_iam_role: ``REDSHIFT_IAM_ROLE``.
        redshift_statement_seconds: ``REDSHIFT_STATEMENT_TIMEOUT``.
        dbt: dbt's own variables.
        environ: The whole environment as it was read: for connections, and for kinds of sources,
            warehouses and destinations that others bring.
    """

    landing_url: str | None = None
    landing_connection: str = "aws_landing"
    alerts_connection: str = "alerts"
    airflow_api_connection: str = "airflow_api"
    pii_salt: str | None = field(default=None, repr=False)
    redshift_iam_role: str | None = None
    redshift_statement_seconds: int = _STATEMENT_SECONDS
    dbt: DbtSettings = DbtSettings()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings of an environment, such as ``os.environ``.

        Raises:
            SettingError: a value is invalid.
        """
        url = environ.get("LANDING_URL") or None
        usual = GCP_LANDING if url and url.startswith("gs://") else cls.landing_connection
        return cls(
            landing_url=url,
            landing_connection=environ.get("LANDING_CONNECTION") or usual,
            alerts_connection=environ.get("ALERTS_CONNECTION") or cls.alerts_connection,
            airflow_api_connection=(
                environ.get("AIRFLOW_API_CONNECTION") or cls.airflow_api_connection
            ),
            pii_salt=environ.get("MILLRACE_PII_SALT") or None,
            redshift_iam_role=environ.get("REDSHIFT_IAM_ROLE") or None,
            redshift_statement_seconds=_seconds(
                environ, "REDSHIFT_STATEMENT_TIMEOUT", _STATEMENT_SECONDS
            ),
            dbt=DbtSettings.read(environ),
            environ=MappingProxyType(dict(environ)),
        )


def _seconds(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not int(text):
        raise SettingError(
            f"{name} is {text!r}, not a number of seconds.",
            fix=f"Set it to a whole number above 0, or leave it out (default: {default}).",
        )
    return int(text)
