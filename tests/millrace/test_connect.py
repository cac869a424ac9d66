"""`millrace connect`: does an account work, what may it do, and how is it kept?"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from millrace import cli

if TYPE_CHECKING:
    from tests.millrace.conftest import Database

pytestmark = pytest.mark.service


@pytest.fixture
def connect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run the command where there is no project; gives its exit code and all that it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["millrace", "connect", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert list(tmp_path.iterdir()) == []
        return int(ended.value.code or 0), said.out + said.err

    return run


@pytest.fixture
def account(mysql: Database) -> Iterator[Callable[..., str]]:
    """Makes accounts with rights on the database, and gives their connections."""
    made = []

    def make(*rights: str) -> str:
        login = f"guest_{uuid4().hex[:8]}"
        made.append(login)
        mysql.execute(f"CREATE USER '{login}'@'{mysql.server.host}' IDENTIFIED BY 'p@ss'")
        for right in rights:
            mysql.execute(f"GRANT {right} TO '{login}'@'{mysql.server.host}'")
        return f"mysql://{login}:p%40ss@{mysql.server.host}:{mysql.server.port}/{mysql.name}"

    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY)")
    mysql.execute("CREATE VIEW paid AS SELECT id FROM orders")
    yield make
    for login in made:
        mysql.execute(f"DROP USER '{login}'@'{mysql.server.host}'")


def on(said: str, right: str) -> str:
    """On what an account has a right."""
    (found,) = re.findall(rf"^ *{right}  +(.*?)(?:  .*)?$", said, re.MULTILINE)
    return str(found)


def test_what_an_account_lacks_is_granted_by_what_is_said(
    mysql: Database, account: Callable[..., str], connect: Callable[..., tuple[int, str]]
) -> None:
    uri = account(f"SELECT ON {mysql.name}.*")
    code, said = connect("shop_db", uri)
    assert code == 0, said
    assert "✓ shop_db: MySQL " in said
    assert on(said, "SELECT") == f"{mysql.name}: 1 table, 1 view"
    assert on(said, "LOCK TABLES") == on(said, "PROCESS") == "nothing"
    grants = re.findall(r"→ (GRANT .*);$", said, re.MULTILINE)
    assert len(grants) == 2
    for grant in grants:
        mysql.execute(grant)
    code, said = connect("shop_db", uri)
    assert (on(said, "LOCK TABLES"), on(said, "PROCESS")) == (mysql.name, "the server")
    assert "Without" not in said
    assert "More than it needs" not in said


def test_what_is_to_be_kept_works(
    account: Callable[..., str],
    mysql: Database,
    connect: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = account(f"SELECT ON {mysql.name}.*")
    without_password = uri.replace(":p%40ss@", "@")
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: "p@ss")
    _, said = connect("shop_db", without_password)
    (line,) = re.findall(r"^  (AIRFLOW_CONN_SHOP_DB=.*)$", said, re.MULTILINE)
    (command,) = re.findall(r"^  (airflow connections add .*)$", said, re.MULTILINE)
    kept = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$AIRFLOW_CONN_SHOP_DB"'],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert shlex.split(command) == [
        *("airflow", "connections", "add", "shop_db", "--conn-uri", kept)
    ]
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", kept)
    code, said = connect("shop_db")
    assert code == 0, said
    assert "p%40ss" not in said


def test_an_account_that_may_read_nothing_is_of_no_use(
    account: Callable[..., str], mysql: Database, connect: Callable[..., tuple[int, str]]
) -> None:
    code, said = connect("shop_db", account())
    # MySQL lets nobody choose a database without rights in it.
    assert code == 1
    assert "p@ss" not in said
    code, said = connect("shop_db", account(f"INSERT ON {mysql.name}.orders"))
    assert code == 1
    assert on(said, "SELECT") == "nothing"
    assert f"→ GRANT SELECT ON `{mysql.name}`.* TO 'guest_" in said


def test_what_an_account_may_do_beyond_reading_is_said(
    account: Callable[..., str], mysql: Database, connect: Callable[..., tuple[int, str]]
) -> None:
    rights = (f"SELECT, DELETE ON {mysql.name}.*", f"UPDATE ON {mysql.name}.orders")
    code, said = connect("shop_db", account(*rights))
    assert code == 0
    beyond = f"More than it needs: DELETE on {mysql.name}.*; UPDATE on {mysql.name}.orders."
    assert beyond in said


def test_what_does_not_work_is_told_without_the_password(
    account: Callable[..., str], mysql: Database, connect: Callable[..., tuple[int, str]]
) -> None:
    uri = account(f"SELECT ON {mysql.name}.*")
    for name, wrong, says in (
        ("shop_db", uri.replace("p%40ss", "wr%40ng"), "refuses the user 'guest_"),
        ("shop_db", "mysql://somebody:wr%40ng@127.0.0.1:1/shop", "127.0.0.1:1"),
        ("shop_db", "oracle://somebody:wr%40ng@127.0.0.1/shop", "connections of the type 'oracle'"),
        ("shop_db", "mysql://somebody:wr@ng@127.0.0.1/sh@p", "cannot be read from what was"),
        ("shop-db", uri, "'shop-db' cannot be part of an environment variable's name"),
    ):
        code, said = connect(name, wrong)
        assert code == 1
        assert says in said
        assert "For .env" not in said
        assert not {"wr@ng", "wr%40ng", "p%40ss", "p@ss"} & set(re.split(r"[\s:'\"]", said))
