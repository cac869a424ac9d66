"""What the environment asks for, before anything of Airflow is touched."""

from __future__ import annotations

import pytest

from millrace.airflow import pools, users
from millrace.errors import SettingError

ADMIN = {"AIRFLOW_ADMIN_PASSWORD": "a password of ours"}


def test_there_is_always_an_admin_and_a_monitor_where_it_has_a_password() -> None:
    found = users.logins(ADMIN)
    assert [(login.name, login.role) for login in found] == [("admin", "Admin")]
    found = users.logins(ADMIN | {"AIRFLOW_MONITOR_PASSWORD": "another"})
    assert [(login.name, login.role) for login in found[1:]] == [("monitor", "Monitor")]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "AIRFLOW_ADMIN_PASSWORD is not set"),
        ({"AIRFLOW_ADMIN_PASSWORD": ""}, "AIRFLOW_ADMIN_PASSWORD is empty"),
        ({"AIRFLOW_ADMIN_PASSWORD": " \n"}, "AIRFLOW_ADMIN_PASSWORD is empty"),
        (ADMIN | {"AIRFLOW_MONITOR_PASSWORD": ""}, "AIRFLOW_MONITOR_PASSWORD is empty"),
        ({"AIRFLOW_ADMIN_PASSWORD": "hunter2\n"}, "ends with white space, perhaps a line break"),
    ],
)
def test_no_password_is_made_up_or_bent(environment: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError, match=said) as refused:
        users.logins(environment)
    assert "hunter2" not in str(refused.value)


def test_a_password_is_not_shown() -> None:
    assert "a password of ours" not in repr(users.logins(ADMIN))


def test_a_mistake_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_ADMIN_PASSWORD", raising=False)
    with pytest.raises(SystemExit, match="1"):
        users.main()
    said = capsys.readouterr().err
    assert said.startswith("Error: AIRFLOW_ADMIN_PASSWORD is not set.\n  → ")
    assert "Traceback" not in said


def test_an_airflow_with_another_auth_manager_is_told() -> None:
    with pytest.raises(SettingError, match="its auth manager is another one"):
        list(users.make(users.logins(ADMIN)))


def test_a_database_that_is_not_migrated_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace.airflow.commands.check_migrations", _behind)
    with pytest.raises(SettingError, match="airflow db migrate"):
        list(pools.make({"warehouse": 1}))


def _behind(timeout: int) -> None:
    raise TimeoutError
