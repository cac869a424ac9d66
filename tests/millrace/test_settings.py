"""The settings by environment variables, and the page that documents them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from millrace.errors import SettingError
from millrace.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


class Asked(Mapping[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_every_variable_that_is_read_is_on_the_page_and_no_other() -> None:
    asked = Asked()
    Settings.read(asked)
    # dbt's own variables have two names.
    read = {name.replace("DBT_ENGINE_", "DBT_") for name in asked.names}
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert documented == read


def test_an_empty_value_is_none() -> None:
    settings = Settings.read(
        {"LANDING_URL": "", "DBT_TARGET": "", "REDSHIFT_STATEMENT_TIMEOUT": ""}
    )
    assert settings.landing_url is None
    assert settings.dbt.target is None
    assert settings.redshift_statement_seconds == 3600


@pytest.mark.parametrize(
    ("environ", "connection"),
    [
        ({}, "aws_landing"),
        ({"LANDING_URL": "s3://bucket"}, "aws_landing"),
        ({"LANDING_URL": "gs://bucket"}, "gcp_landing"),
        ({"LANDING_URL": "gs://bucket", "LANDING_CONNECTION": "mine"}, "mine"),
    ],
)
def test_the_landing_says_which_connection_it_needs(
    environ: dict[str, str], connection: str
) -> None:
    assert Settings.read(environ).landing_connection == connection


@pytest.mark.parametrize("seconds", ["0", "-1", "1h", "1.5", "١"])
def test_a_time_out_that_is_none_is_refused(seconds: str) -> None:
    with pytest.raises(SettingError, match="REDSHIFT_STATEMENT_TIMEOUT"):
        Settings.read({"REDSHIFT_STATEMENT_TIMEOUT": seconds})


def test_secrets_are_not_shown() -> None:
    environ = {"MILLRACE_PII_SALT": "hunter2", "AIRFLOW_CONN_DB": "mysql://u:hunter2@h/d"}
    assert "hunter2" not in repr(Settings.read(environ))


def test_settings_do_not_follow_the_environment_once_they_are_read() -> None:
    environ = {"LANDING_URL": "file:///a"}
    settings = Settings.read(environ)
    environ["LANDING_URL"] = "file:///b"
    assert settings.landing_url == settings.environ["LANDING_URL"] == "file:///a"
