"""``python -m millrace.airflow.users``: the logins that every installation has.

Makes the user ``admin`` from ``AIRFLOW_ADMIN_PASSWORD``, and the user ``monitor``, with a role of
the same name that may only look, from ``AIRFLOW_MONITOR_PASSWORD`` where that is set. Run it before
each start: what is as it should be stays as it is, a changed password replaces the old one.

Passwords come from the environment alone: everybody on the machine can read a process's arguments.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow.api_fastapi.app import get_auth_manager_cls
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from millrace.airflow.commands import refuse_before_migration, told
from millrace.catalog.kinds import needing
from millrace.errors import SettingError
from millrace.terminal import print_done

MONITOR = "Monitor"
"""The role that may look at what runs, and neither start, change nor delete anything.

Left out on purpose are task logs and XComs, which hold rows of the warehouse, the code of DAGs,
variables, connections, the configuration and users.
"""

MONITOR_MAY = (
    ("can_read", "Website"),
    ("can_read", "DAGs"),
    ("can_read", "DAG Dependencies"),
    ("can_read", "DAG Runs"),
    ("can_read", "DAG Versions"),
    # A pool that does not exist is told by a warning, a file that cannot be imported by an error.
    ("can_read", "DAG Warnings"),
    ("can_read", "ImportError"),
    ("can_read", "Task Instances"),
    # What a DAG asks a person. Ours ask nothing, but the UI lists no DAGs without it.
    ("can_read", "HITL Detail"),
    ("can_read", "Assets"),
    ("can_read", "Asset Aliases"),
    # How full they are: `millrace watch` tells who waits for one.
    ("can_read", "Pools"),
    ("menu_access", "DAGs"),
    ("menu_access", "Assets"),
)
"""The permissions of that role: an action and a resource of FAB each."""

_ADMIN_PASSWORD = "AIRFLOW_ADMIN_PASSWORD"  # noqa: S105 the names of variables
_MONITOR_PASSWORD = "AIRFLOW_MONITOR_PASSWORD"  # noqa: S105
_PROVIDER = "apache-airflow-providers-fab"
_FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


@dataclass(frozen=True)
class Login:
    """A user of FAB."""

    name: str
    role: str
    password: str = field(repr=False)


def logins(environ: Mapping[str, str]) -> list[Login]:
    """The users that an environment asks for.

    Raises:
        SettingError: the administrator's password is missing, or one is no password.
    """
    found = [Login("admin", "Admin", _password(environ, _ADMIN_PASSWORD))]
    if _MONITOR_PASSWORD in environ:
        found.append(Login("monitor", MONITOR, _password(environ, _MONITOR_PASSWORD)))
    return found


@providers_configuration_loaded
def make(wanted: list[Login]) -> Iterator[str]:
    """Make these users and their roles, or correct them.

    Yields:
        What was done, in words.

    Raises:
        NotInstalled: FAB's provider is missing.
        SettingError: Airflow does not keep its users in FAB, or its database is not migrated.
    """
    with needing(_PROVIDER, "of login that FAB keeps"):
        from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
        from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
    if not issubclass(get_auth_manager_cls(), FabAuthManager):
        raise SettingError(
            "Airflow does not keep its users in FAB: its auth manager is another one.",
            fix=f"Set AIRFLOW__CORE__AUTH_MANAGER={_FAB} for every component.",
        )
    # FAB would make tables of its own, which the migration then finds in its way.
    refuse_before_migration()
    with get_application_builder() as builder:
        yield from _make_monitor_role(builder.sm)
        for login in wanted:
            yield f"user {login.name}, role {login.role}: {_make_user(builder.sm, login)}"


def _make_monitor_role(manager: Any) -> Iterator[str]:
    """Make the role, or give it back the permissions that it should have."""
    role = manager.add_role(MONITOR)
    wanted = [manager.create_permission(*permission) for permission in MONITOR_MAY]
    missing = [permission for permission in wanted if permission not in role.permissions]
    excess = [permission for permission in role.permissions if permission not in wanted]
    for permission in missing:
        manager.add_permission_to_role(role, permission)
    for permission in excess:
        manager.remove_permission_from_role(role, permission)
    yield f"role {MONITOR}: {_counted(len(missing), len(excess))}"


def _counted(given: int, taken: int) -> str:
    if not given and not taken:
        return "as it was"
    return f"permissions given: {given}, taken away: {taken}"


def _make_user(manager: Any, login: Login) -> str:
    """Make a user, or give it its password and role; says what was done."""
    role, user = manager.find_role(login.role), manager.find_user(login.name)
    if user is None:
        # FAB asks for an address that nobody else has.
        address = f"{login.name}@millrace.invalid"
        manager.add_user(login.name, "Millrace", login.name, address, role, login.password)
        return "made"
    done = []
    if user.roles != [role]:
        user.roles = [role]
        manager.update_user(user)
        done.append("role set")
    if not manager.check_password(login.name, login.password):
        # This ends the user's sessions too.
        manager.reset_password(user.id, login.password)
        done.append("password changed")
    return ", ".join(done) or "as it was"


def _password(environ: Mapping[str, str], name: str) -> str:
    password = environ.get(name, "")
    if not password.strip():
        raise SettingError(
            f"{name} is {'empty' if name in environ else 'not set'}.",
            fix="Set it to a password of your own (`openssl rand -hex 32`): none is made up.",
        )
    if password != password.strip():
        raise SettingError(
            f"{name} begins or ends with white space, perhaps a line break.",
            fix="Leave it out: nobody can type it into the login page (`printf %s`, not `echo`).",
        )
    return password


def main() -> None:
    """Make the users that the environment asks for."""
    with told():
        for done in make(logins(os.environ)):
            print_done(done)


if __name__ == "__main__":
    main()
