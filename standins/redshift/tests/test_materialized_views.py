"""Materialized views and when a table was modified, by SQL and as dbt-redshift handles them."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redshift_connector
import yaml
from dbt.cli.main import dbtRunner

from redshift_standin.supervisor import connect_superuser
from standins.redshift.tests.conftest import run

if TYPE_CHECKING:
    from pathlib import Path

    from redshift_standin import RedshiftServer

pytestmark = [pytest.mark.service, pytest.mark.redshift]

CREATE = "create materialized view {s}.mv sortkey (id) auto refresh no as (select id from {s}.t)"


@pytest.fixture
def base(connection: Any, schema: str) -> str:
    """A schema with a table of one row, `t`."""
    run(connection, f"create table {schema}.t (id int, v varchar(9))")
    run(connection, f"insert into {schema}.t values (1, 'a')")
    return schema


def rows(connection: Any, schema: str) -> list[int]:
    return [row[0] for row in run(connection, f"select id from {schema}.mv order by id")]


def is_stale(connection: Any, schema: str, name: str = "mv") -> str:
    wanted = f"schema_name = '{schema}' and name = '{name}'"
    ((found,),) = run(connection, f"select is_stale from svv_mv_info where {wanted}")
    return str(found)


def test_a_materialized_view_keeps_its_rows_until_it_is_refreshed(
    connection: Any, base: str
) -> None:
    run(connection, CREATE.format(s=base))
    run(connection, f"insert into {base}.t values (2, 'b')")
    assert rows(connection, base) == [1]
    run(connection, f"refresh materialized view {base}.mv")
    assert rows(connection, base) == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        "insert into {s}.t values (2, 'b')",
        "update {s}.t set v = 'x'",
        "delete from {s}.t",
        "truncate {s}.t",
        "merge into {s}.t using {s}.t as s on t.id = s.id remove duplicates",
        "alter table {s}.t append from {s}.more",
    ],
)
def test_it_is_stale_from_a_change_to_the_next_refresh(
    connection: Any, base: str, change: str
) -> None:
    run(connection, f"create table {base}.more (id int, v varchar(9))")
    run(connection, CREATE.format(s=base))
    run(connection, f"insert into {base}.more values (3, 'c')")
    assert is_stale(connection, base) == "f"
    run(connection, change.format(s=base))
    assert is_stale(connection, base) == "t"
    run(connection, f"refresh materialized view {base}.mv")
    assert is_stale(connection, base) == "f"


def test_it_is_stale_by_what_its_refresh_did_not_see(
    redshift: RedshiftServer, connection: Any, base: str
) -> None:
    run(connection, CREATE.format(s=base))
    with closing(redshift.endpoint.connect()) as other:
        run(other, f"insert into {base}.t values (2, 'b')")
        run(connection, f"refresh materialized view {base}.mv")
        other.commit()
    assert rows(connection, base) == [1]
    assert is_stale(connection, base) == "t"
    # A change earlier in the refreshing transaction itself is in the refreshed rows.
    connection.autocommit = False
    run(connection, f"insert into {base}.t values (3, 'c')")
    run(connection, f"refresh materialized view {base}.mv")
    connection.commit()
    connection.autocommit = True
    assert rows(connection, base) == [1, 2, 3]
    assert is_stale(connection, base) == "f"


def test_one_of_another_is_stale_when_that_was_refreshed(connection: Any, base: str) -> None:
    run(connection, CREATE.format(s=base))
    run(connection, f"create materialized view {base}.upper as select count(*) as n from {base}.mv")
    run(connection, f"insert into {base}.t values (2, 'b')")
    assert is_stale(connection, base, "upper") == "f"
    run(connection, f"refresh materialized view {base}.mv")
    assert is_stale(connection, base, "upper") == "t"


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("select id, v from {s}.t where id > 0", 1),
        ("select v, count(*) as n, sum(id) as total from {s}.t group by v", 1),
        ("select max(id) as last from {s}.t", 0),
        ("select a.id from {s}.t as a left join {s}.t as b on a.id = b.id", 0),
        ("select distinct v from {s}.t", 0),
        ("select row_number() over (order by id) as n from {s}.t", 0),
    ],
)
def test_its_state_says_how_it_is_refreshed(
    connection: Any, base: str, query: str, state: int
) -> None:
    run(connection, f"create materialized view {base}.mv as {query.format(s=base)}")
    assert run(connection, f"select state from stv_mv_info where schema = '{base}'") == [(state,)]


def test_it_is_described_where_clients_look(connection: Any, base: str) -> None:
    text = (
        f"create materialized view {base}.mv backup no diststyle key distkey (id) "
        f"sortkey (v, id) auto refresh yes as (select id, v from {base}.t)"
    )
    run(connection, text)
    assert run(
        connection,
        "select trim(name), is_stale, autorefresh, trim(user_name) from svv_mv_info "
        f"where schema_name = '{base}'",
    ) == [("mv", "f", "t", "awsuser")]
    assert run(
        connection,
        "select diststyle, sortkey1, sortkey_num from svv_table_info where \"table\" = 'mv' "
        f"and \"schema\" = '{base}'",
    ) == [("KEY(id)", "v", 2)]
    assert run(
        connection,
        "select attname, attisdistkey, attsortkeyord from pg_class "
        "join pg_attribute on attrelid = pg_class.oid "
        "join pg_namespace on pg_namespace.oid = relnamespace "
        f"where nspname = '{base}' and relname like 'mv_tbl__mv__%' and attnum > 0 order by 1",
    ) == [("id", True, 2), ("v", False, 1)]
    for view, condition in (
        ("pg_views", f"schemaname = '{base}' and viewname = 'mv'"),
        ("information_schema.views", f"table_schema = '{base}' and table_name = 'mv'"),
    ):
        column = "definition" if view == "pg_views" else "view_definition"
        assert run(connection, f"select {column} from {view} where {condition}") == [(f"{text};",)]
    shown = run(connection, f"show tables from schema dev.{base} like 'mv'")
    assert [(row[2], row[3], row[10]) for row in shown] == [("mv", "VIEW", "MATERIALIZED VIEW")]
    run(connection, f"alter materialized view {base}.mv auto refresh no")
    assert run(connection, f"select autorefresh from stv_mv_info where schema = '{base}'") == [
        ("f",)
    ]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("create materialized view {s}.mv as select 1 as id", "already exists"),
        ("create materialized view {s}.t as select 1 as id", "already exists"),
        ("refresh materialized view {s}.t", "does not exist"),
        ("drop materialized view {s}.t", "does not exist"),
        ("drop materialized view if exists {s}.t", "does not exist"),
        ("alter materialized view {s}.t auto refresh yes", "does not exist"),
        ("alter materialized view {s}.mv rename to other", "syntax error"),
        ("alter materialized view {s}.mv auto refresh maybe", "syntax error"),
        ("drop view {s}.mv cascade", "DROP MATERIALIZED VIEW"),
        ("drop table {s}.t", "depend"),
        ("drop materialized view {s}.mv restrict", "depend"),
        ("create materialized view {s}.kv diststyle key as select id from {s}.t", "DISTKEY"),
        ("create materialized view {s}.kv distkey (no) as select id from {s}.t", "does not exist"),
        ("insert into {s}.mv values (1)", "cannot insert"),
        ("alter table {s}.mv rename to other", "cannot be renamed"),
        ("create materialized view {s}.kv as (select id from {s}.t order by id)", "ORDER"),
        ("create materialized view {s}.kv as select id from {s}.t limit 1", "LIMIT"),
        ("create materialized view {s}.kv as select id from {s}.seen", "it is a view"),
        ("create materialized view {s}.kv as select relname from pg_class", "system"),
        ("create materialized view {s}.kv as select interval '1 day' as d", "unsupported type"),
    ],
)
def test_what_cannot_be_done_with_it_leaves_it_as_it_was(
    connection: Any, base: str, statement: str, message: str
) -> None:
    run(connection, CREATE.format(s=base))
    run(connection, f"create view {base}.seen as select * from {base}.mv")
    with pytest.raises(redshift_connector.ProgrammingError, match=message):
        run(connection, statement.format(s=base))
    assert rows(connection, base) == [1]
    assert is_stale(connection, base) == "f"
    assert run(connection, f"select count(*) from svv_tables where table_schema = '{base}'") == [
        (3,)
    ]


@pytest.mark.parametrize(
    "statement",
    ["drop materialized view {s}.mv cascade", "drop table {s}.t cascade"],
)
def test_nothing_is_left_of_one_that_is_dropped(connection: Any, base: str, statement: str) -> None:
    run(connection, CREATE.format(s=base))
    run(connection, f"create view {base}.seen as select * from {base}.mv")
    run(connection, statement.format(s=base))
    run(connection, f"drop materialized view if exists {base}.mv")
    assert run(connection, f"select * from svv_mv_info where schema_name = '{base}'") == []
    left = (
        "select relname from pg_class join pg_namespace as n on n.oid = relnamespace "
        f"where relname like 'mv%' and nspname = '{base}'"
    )
    assert run(connection, left) == []


def test_grants_are_on_the_view_alone(connection: Any, base: str) -> None:
    run(connection, CREATE.format(s=base))
    run(connection, "create user mv_reader password 'Abcdef12'")
    try:
        run(connection, f"grant usage on schema {base} to mv_reader")
        run(connection, f"grant select on {base}.mv to mv_reader")
        run(connection, "set session authorization mv_reader")
        assert rows(connection, base) == [1]
        with pytest.raises(redshift_connector.ProgrammingError, match="permission denied"):
            run(connection, f"select * from {base}.t")
        with pytest.raises(redshift_connector.ProgrammingError, match="must be owner"):
            run(connection, f"refresh materialized view {base}.mv")
    finally:
        run(connection, "set session authorization default")
        run(connection, f"drop materialized view {base}.mv")
        run(connection, f"revoke all on schema {base} from mv_reader")
        run(connection, "drop user mv_reader")


# dbt.


class Project:
    """A dbt project with one materialized view over a source, whose freshness is from metadata."""

    def __init__(self, folder: Path, server: RedshiftServer, schema: str) -> None:
        self._folder = folder
        (folder / "models").mkdir()
        (folder / "dbt_project.yml").write_text(
            "{name: scratch, version: '1.0', profile: scratch, "
            "flags: {send_anonymous_usage_stats: false}}"
        )
        self._profile = server.endpoint.dbt_output() | {"schema": schema, "threads": 1}
        source = {
            "name": "base",
            "schema": schema,
            "tables": [{"name": "t", "config": {"freshness": {"error_after": AN_HOUR}}}],
        }
        (folder / "models" / "sources.yml").write_text(yaml.safe_dump({"sources": [source]}))

    def run(self, *command: str, config: str = "", shows: bool = False) -> Any:
        """Run a command of dbt, with `config` added to the materialized view's configuration."""
        profile = self._profile | ({"datasharing": True} if shows else {})
        profiles = {"scratch": {"target": "dev", "outputs": {"dev": profile}}}
        (self._folder / "profiles.yml").write_text(yaml.safe_dump(profiles))
        (self._folder / "models" / "mv.sql").write_text(
            f"{{{{ config(materialized='materialized_view', dist='id'{config}) }}}}\n"
            "select id, v from {{ source('base', 't') }}\n"
        )
        folder = str(self._folder)
        outcome = dbtRunner().invoke(
            [
                *("--quiet", *command, "--project-dir", folder, "--profiles-dir", folder),
                *("--log-path", folder),
            ]
        )
        assert outcome.exception is None
        return outcome


AN_HOUR = {"count": 1, "period": "hour"}


@pytest.fixture
def project(redshift: RedshiftServer, base: str, tmp_path: Path) -> Project:
    return Project(tmp_path, redshift, base)


def test_dbt_creates_refreshes_alters_and_replaces_it(
    project: Project, connection: Any, base: str
) -> None:
    def described() -> list[tuple[Any, ...]]:
        return run(
            connection,
            "select trim(m.autorefresh), t.sortkey1, m.is_stale from svv_mv_info as m "
            'join svv_table_info as t on t."schema" = m.schema_name and t."table" = m.name '
            f"where m.schema_name = '{base}'",
        )

    def storage() -> list[tuple[Any, ...]]:
        return run(
            connection,
            "select pg_class.oid from pg_class join pg_namespace as n on n.oid = relnamespace "
            f"where nspname = '{base}' and relname = 'mv_tbl__mv__0'",
        )

    def build(*options: str, config: str) -> None:
        outcome = project.run("run", *options, config=config)
        assert outcome.success, [each.message for each in outcome.result]

    sorted_by_id = ", sort=['id']"
    build(config=sorted_by_id)
    assert rows(connection, base) == [1]
    assert described() == [("f", "id", "f")]
    first = storage()
    run(connection, f"insert into {base}.t values (2, 'b')")
    build(config=sorted_by_id)
    assert rows(connection, base) == [1, 2]
    build(config=f"{sorted_by_id}, auto_refresh=true")
    assert described() == [("t", "id", "f")]
    # A refresh and an ALTER keep its table; another sort key and dbt's full refresh replace it.
    assert storage() == first
    build(config=", sort=['v', 'id'], auto_refresh=true")
    second = storage()
    assert described() == [("t", "v", "f")]
    build("--full-refresh", config=", sort=['v', 'id'], auto_refresh=true")
    assert len({*first, *second, *storage()}) == 3
    assert rows(connection, base) == [1, 2]


@pytest.mark.parametrize("shows", [False, True], ids=["sys_query_detail", "show tables"])
def test_dbt_learns_from_metadata_when_a_source_was_modified(
    redshift: RedshiftServer, project: Project, connection: Any, base: str, shows: bool
) -> None:
    before = datetime.now(UTC)
    run(connection, f"insert into {base}.t values (2, 'b')")
    outcome = project.run("source", "freshness", shows=shows)
    (result,) = outcome.result.results
    assert (result.status, outcome.success) == ("pass", True)
    assert before - timedelta(seconds=1) <= result.max_loaded_at <= datetime.now(UTC)
    with connect_superuser(redshift.endpoint, redshift.endpoint.database) as inside:
        inside.execute(
            "update pg_redshift.table_changes set at = at - interval '1 day' "
            f"where relation = '{base}.t'::regclass"
        )
    outcome = project.run("source", "freshness", shows=shows)
    assert [each.status for each in outcome.result.results] == ["error"]
