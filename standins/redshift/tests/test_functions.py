"""Translated SQL on the running stand-in, against what Redshift's documentation says it gives."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import redshift_connector

from redshift_standin import functions

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.service, pytest.mark.redshift]


def run(connection: Any, *statements: str) -> list[tuple[Any, ...]]:
    """The rows of the last statement."""
    with closing(connection.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def value(connection: Any, expression: str) -> Any:
    ((found,),) = run(connection, f"select {expression}")
    return found


def code(error: pytest.ExceptionInfo[redshift_connector.ProgrammingError]) -> str:
    return str(error.value.args[0]["C"])


@pytest.fixture
def in_schema(connection: Any, schema: str) -> Iterator[Any]:
    """A session whose unqualified names are in the test's own schema."""
    run(connection, f"set search_path to {schema}")
    yield connection
    run(connection, "rollback")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # Dates: the examples of Redshift's own pages, where there are any.
        ("dateadd(month, 18, '2008-02-28')", datetime(2009, 8, 28)),
        ("dateadd(month, 1, '2020-01-31')", datetime(2020, 2, 29)),
        ("dateadd(qtr, 1, date '2020-01-31')", datetime(2020, 4, 30)),
        ("datediff(week, '2009-01-01', '2009-12-31')", 52),
        ("datediff(qtr, '1998-07-01', current_date) > 100", True),
        ("datediff(year, '2019-12-31', '2020-01-01')", 1),
        ("datediff(month, '2020-01-31', '2020-02-01')", 1),
        ("datediff(hour, '2020-01-01 00:59:59', '2020-01-01 01:00:00')", 1),
        ("datediff(day, '2020-01-02', '2020-01-01 23:59:59')", -1),
        ("datediff(minute, '2020-01-01 00:00:59', '2020-01-01 00:01:58')", 1),
        ("date_trunc('month', date '2020-02-03')", datetime(2020, 2, 1)),
        ("date_trunc('week', '2008-09-04')", datetime(2008, 9, 1)),
        ("extract(sec from timestamp '2009-09-21 11:10:03.189717')", 3),
        ("date_part(sec, timestamp '2009-09-21 11:10:03.189717')", 3.189717),
        ("extract(ms from timestamp '2009-09-21 11:10:03.189717')", 189),
        ("extract(dow from date '2026-11-22')", 0),
        ("add_months('2008-03-31', 1)", datetime(2008, 4, 30)),
        ("add_months('2008-04-30', 1)", datetime(2008, 5, 31)),
        ("last_day('2004-01-25')", date(2004, 1, 31)),
        ("next_day('2014-08-20', 'Tuesday')", date(2014, 8, 26)),
        ("months_between('1969-01-18', '1969-03-18')", -2.0),
        ("trunc(timestamp '2011-07-21 10:32:38')", date(2011, 7, 21)),
        (
            "convert_timezone('EST', 'PST8PDT', '2008-03-05 12:25:29')",
            datetime(2008, 3, 5, 9, 25, 29),
        ),
        ("convert_timezone('America/New_York', '2020-01-01 12:00')", datetime(2020, 1, 1, 7)),
        # NULL.
        ("nvl(null, 'a')", "a"),
        ("nvl2(null, 1, 2)", 2),
        ("isnull(null, 3)", 3),
        ("decode(null, 1, 'a', null, 'b', 'c')", "b"),
        ("decode(2, 1, 'a')", None),
        ("concat('a', null)", None),
        # Texts.
        ("len('français')", 8),
        ("octet_length('français')", 9),
        ("'é'::varchar(1)", ""),
        ("'aéé'::varchar(4)", "aé"),
        ("cast('abc' as char(2))", "ab"),
        ("charindex('fish', 'dogfish')", 4),
        ("'a\\\\b'", "a\\b"),
        ("'it\\'s'", "it's"),
        ("regexp_substr('a1b22', '[0-9]+', 1, 2)", "22"),
        ("regexp_substr('abc', '[0-9]+')", ""),
        ("regexp_replace('a1b2', '[0-9]', 'x')", "axbx"),
        ("regexp_replace('a1b2', '[0-9]')", "ab"),
        ("strtol('abcd1234', 16)", 2882343476),
        ("strtol('-0110101', 2)", -53),
        ("sha2('a', 256)", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ("split_part('a,b', ',', 2)", "b"),
        ("split_part('a,b', ',', 3)", ""),
        ("split_part('a,b', ';', 1)", "a,b"),
        ("octet_length('ab'::char(5))", 2),
        ("left('abc', 2) || right('abc', 2) || left('abc', 0)", "abbc"),
        ("regexp_replace('the fox', 'FOX', 'cat', 1, 'i')", "the cat"),
        ("regexp_count('aAa', 'a', 0, 'i')", 3),
        ("regexp_instr('abcabc', 'C', 1, 2, 1, 'i')", 7),
        # Numbers: their types, too, are those that the pages give.
        ("sqrt(2.0)", 1.4142135623730951),
        ("power(2.0, 3)", 8.0),
        ("exp(1.0)", 2.718281828459045),
        ("log(100.0)", 2.0),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("round(2.5)", Decimal(3)),
        ("round(1.25::float, 1)", 1.3),
        ("round(7, -1)", Decimal(10)),
        ("cast(1.5 as decimal)", Decimal(2)),
        ("trunc(1.99, 1)", Decimal("1.9")),
        # JSON.
        ('json_extract_path_text(\'{"f2":{"f3":1},"f4":{"f6":"s"}}\', \'f4\', \'f6\')', "s"),
        ("json_extract_path_text('{\"a\":1}', 'b')", None),
        ("json_extract_path_text('{bad', 'a', true)", None),
        ("json_extract_array_element_text('[111,112,113]', 2)", "113"),
        ("json_array_length('[1,2,[3]]')", 3),
        ("is_valid_json('{\"a\":2}')", True),
        ("is_valid_json('[1]')", False),
        ("can_json_parse('{bad')", False),
        ("get_array_length(json_parse('[1,2]'))", 2),
        ("json_typeof(array(1, 'a'))", "array"),
        ('(json_parse(\'{"a":[1,{"b":"x"}]}\'))[\'a\'][1].b::varchar', "x"),
        ("current_setting('timezone')", "UTC"),
    ],
)
def test_an_expression_gives_what_redshift_gives(
    connection: Any, expression: str, expected: object
) -> None:
    assert value(connection, expression) == expected


def test_getdate_has_no_fraction_and_sysdate_stays_within_a_transaction(connection: Any) -> None:
    assert value(connection, "getdate()").microsecond == 0
    connection.autocommit = False
    assert value(connection, "sysdate") == value(connection, "sysdate")


def test_aggregates_count_as_redshift_does(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (a int, b bigint, c varchar(5), d decimal(6, 2))",
        "insert into t values (1, 1, 'x', 1.5), (2, 2, 'y', 2.5), (2, 4, null, 2.6)",
    )
    rows = run(
        in_schema,
        "select avg(a), avg(b), avg(d), sum(a), median(a), median(d), count(distinct a), "
        "approximate count(distinct a), listagg(c, '|') within group (order by c desc), "
        "listagg(c) from t",
    )
    assert rows == [
        (1, 2, Decimal("2.20"), 5, Decimal(2), Decimal("2.5"), 2, 2, "y|x", "xy"),
    ]


COLUMNS = {
    "s": ("smallint", "1", "4"),
    "i": ("int", "1", "4"),
    "b": ("bigint", "1", "4"),
    "d": ("decimal(6, 2)", "1.00", "4.00"),
    "f": ("float", "1", "4"),
    "r": ("real", "1", "4"),
    "day": ("date", "'2020-01-01'", "'2020-01-04'"),
    "at": ("timestamp", "'2020-01-01 00:00'", "'2020-01-04 00:00'"),
    "tz": ("timestamptz", "'2020-01-01 00:00+00'", "'2020-01-04 00:00+00'"),
}


@pytest.fixture
def between(in_schema: Any) -> Any:
    """A table with two values in a column of each type that PERCENTILE_CONT takes, and a NULL."""
    run(
        in_schema,
        f"create table t ({', '.join(f'{name} {each[0]}' for name, each in COLUMNS.items())})",
        f"insert into t values ({', '.join(each[1] for each in COLUMNS.values())})",
        f"insert into t values ({', '.join(each[2] for each in COLUMNS.values())})",
        f"insert into t values ({', '.join('null' for _ in COLUMNS)})",
    )
    return in_schema


@pytest.mark.parametrize(
    ("column", "quarter", "half"),
    [
        ("s", Decimal("1.75"), Decimal("2.5")),
        ("i", Decimal("1.75"), Decimal("2.5")),
        ("b", Decimal("1.75"), Decimal("2.5")),
        ("d", Decimal("1.75"), Decimal("2.5")),
        ("f", 1.75, 2.5),
        ("r", 1.75, 2.5),
        ("day", date(2020, 1, 1), date(2020, 1, 2)),
        ("at", datetime(2020, 1, 1, 18), datetime(2020, 1, 2, 12)),
        ("tz", datetime(2020, 1, 1, 18, tzinfo=UTC), datetime(2020, 1, 2, 12, tzinfo=UTC)),
    ],
)
def test_a_percentile_has_the_type_of_what_it_orders(
    between: Any, column: str, quarter: Any, half: Any
) -> None:
    ((found, opposite, median),) = run(
        between,
        f"select percentile_cont(0.25) within group (order by {column}), "
        f"percentile_cont(0.75) within group (order by {column} desc), median({column}) from t",
    )
    assert (found, opposite, median) == (quarter, quarter, half)
    assert type(found) is type(opposite) is type(quarter)
    assert type(median) is type(half)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sum(b)", 5),
        ("sum(i)", 5),
        ("sum(d)", Decimal("5.00")),
        ("sum(r)", 5.0),
        ("sum(f)", 5.0),
        ("variance(i)", 4.5),
        ("var_samp(d)", 4.5),
        ("var_pop(b)", 2.25),
        ("stddev(distinct i)", 4.5**0.5),
        ("stddev_samp(f)", 4.5**0.5),
        ("stddev_pop(d)", 1.5),
        ("max(round(i))", Decimal(4)),
        ("max(round(f))", 4.0),
    ],
)
def test_a_result_has_the_type_of_the_page(between: Any, expression: str, expected: Any) -> None:
    ((found,),) = run(between, f"select {expression} from t")
    assert found == expected
    assert type(found) is type(expected)


def test_a_sum_of_bigint_that_is_too_large_is_refused(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (b bigint)",
        "insert into t values (9223372036854775807), (1)",
    )
    with pytest.raises(redshift_connector.ProgrammingError, match="out of range"):
        run(in_schema, "select sum(b) from t")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("split_part('a,b', ',', -1)", "field position must be greater than zero"),
        ("split_part('a,b', ',', 0)", "field position must be greater than zero"),
        ("left('abc', -1)", "must not be negative"),
        ("right('abc', -1)", "must not be negative"),
        ("next_day('2014-08-20', 'xx')", "invalid day"),
        ("sha256('a')", "does not exist"),
        ("percentile_cont(1.5) within group (order by a)", "not between 0 and 1"),
        ("percentile_cont(0.5) within group (order by 'x')", "does not exist|is not unique"),
    ],
)
def test_what_the_page_does_not_allow_is_refused(
    in_schema: Any, expression: str, message: str
) -> None:
    run(in_schema, "create table t (a int)", "insert into t values (1)")
    with pytest.raises(redshift_connector.ProgrammingError, match=message):
        run(in_schema, f"select {expression} from t")


def test_window_functions(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (id int, v int)",
        "insert into t values (1, null), (2, 10), (3, 30)",
    )
    assert run(
        in_schema,
        "select id, ratio_to_report(v) over (), "
        "first_value(v ignore nulls) over (order by id rows between unbounded preceding and "
        "unbounded following), last_value(v) ignore nulls over (order by id rows unbounded "
        "preceding), median(v) over () from t order by id",
    ) == [(1, None, 10, None, 20), (2, 0.25, 10, 10, 20), (3, 0.75, 10, 30, 20)]


def test_qualify_keeps_every_column_and_no_more(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (id int, v int)",
        "insert into t values (1, 1), (1, 2), (2, 3)",
    )
    latest = "qualify row_number() over (partition by id order by v desc) = 1 order by v"
    assert run(in_schema, f"select * from t as x {latest}") == [(1, 2), (2, 3)]
    assert run(in_schema, f"select v, id + 1 as next from t as x {latest}") == [(2, 2), (3, 3)]
    assert run(
        in_schema,
        "select x.*, y.v as w, row_number() over (order by x.v, y.v) as n from t x "
        "join t y on x.id = y.id qualify n = 1",
    ) == [(1, 1, 1, 1)]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("ééé", "22001"), ("éé", "éé"), ("abcde  ", "abcde"), ("abcdef", "22001")],
)
def test_varchar_counts_bytes(in_schema: Any, text: str, outcome: str) -> None:
    run(in_schema, "create table t (a varchar(5))")
    if outcome != "22001":
        run(in_schema, f"insert into t values ('{text}')")
        assert run(in_schema, "select a from t") == [(outcome,)]
        return
    with pytest.raises(redshift_connector.ProgrammingError, match="varying\\(5\\)") as error:
        run(in_schema, f"insert into t values ('{text}')")
    assert code(error) == outcome
    with (
        pytest.raises(redshift_connector.ProgrammingError) as error,
        closing(in_schema.cursor()) as cursor,
    ):
        cursor.execute("insert into t values (%s)", (text,))
    assert code(error) == outcome


def test_keys_are_declared_and_not_kept(in_schema: Any, schema: str) -> None:
    run(
        in_schema,
        "create table u (id int primary key)",
        "create table t (id int, u_id int, name varchar(9), primary key (id), unique (name), "
        "foreign key (u_id) references u)",
        "insert into t values (1, 7, 'a'), (1, 7, 'a')",
    )
    assert run(in_schema, "select count(*) from t") == [(2,)]
    # What Airflow's RedshiftSQLHook asks for.
    assert run(
        in_schema,
        "select tco.constraint_type, kcu.column_name from information_schema.table_constraints tco "
        "join information_schema.key_column_usage kcu "
        "on kcu.constraint_name = tco.constraint_name "
        "and kcu.constraint_schema = tco.constraint_schema "
        f"where kcu.table_schema = '{schema}' and kcu.table_name = 't' order by 1",
    ) == [("FOREIGN KEY", "u_id"), ("PRIMARY KEY", "id"), ("UNIQUE", "name")]
    with pytest.raises(redshift_connector.ProgrammingError, match="insert a NULL value"):
        run(in_schema, "insert into t values (null, 1, 'a')")
    with pytest.raises(redshift_connector.ProgrammingError) as error:
        run(in_schema, "drop table u")
    assert code(error) == "2BP01"
    run(in_schema, "drop table u cascade", "drop table t")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into t values (null, 1)",
        "insert into t (b) values (1)",
        "insert into t select null, 1",
        "update t set id = null",
        (
            "merge into t using t as s on t.b = s.b when matched then update set id = null "
            "when not matched then insert values (1, 1)"
        ),
    ],
)
def test_a_null_where_none_may_be_is_refused_in_redshift_s_words(
    in_schema: Any, statement: str
) -> None:
    run(in_schema, "create table t (id int not null, b int)", "insert into t values (1, 1)")
    with pytest.raises(redshift_connector.ProgrammingError) as error:
        run(in_schema, statement)
    assert error.value.args[0]["M"] == "Cannot insert a NULL value into column id"
    assert code(error) == "XX000"
    assert run(in_schema, "select * from t") == [(1, 1)]


def test_a_new_column_that_is_not_null_needs_a_default(in_schema: Any) -> None:
    run(in_schema, "create table t (id int)", "insert into t values (1)")
    with pytest.raises(redshift_connector.ProgrammingError, match="non-null default expression"):
        run(in_schema, "alter table t add column n int not null")
    run(in_schema, "alter table t add column n int not null default 2")
    assert run(in_schema, "select * from t") == [(1, 2)]


def test_group_by_does_not_lean_on_a_primary_key(in_schema: Any) -> None:
    run(in_schema, "create table t (id int primary key, a int)")
    with pytest.raises(redshift_connector.ProgrammingError, match="GROUP BY"):
        run(in_schema, "select id, a from t group by id")


def test_a_table_s_attributes_are_remembered(in_schema: Any, schema: str) -> None:
    run(
        in_schema,
        "create table t (id int identity(1, 1) encode zstd, name varchar, at timestamp) "
        "distkey (name) compound sortkey (at, id)",
        "insert into t (name) values ('a'), ('b')",
        "create table copied (like t)",
        "create table built diststyle all as select * from t",
    )
    definition = (
        'select "column", type, trim(encoding), distkey, sortkey, "notnull" from pg_table_def '
        "where tablename = '{}'"
    )
    expected = [
        ("id", "integer", "zstd", False, 2, True),
        ("name", "character varying(256)", "lzo", True, 0, False),
        ("at", "timestamp without time zone", "none", False, 1, False),
    ]
    assert run(in_schema, definition.format("t")) == expected
    assert run(in_schema, definition.format("copied")) == expected
    assert run(in_schema, "select id, name from t order by id") == [(1, "a"), (2, "b")]
    info = (
        'select "table", diststyle, sortkey1, sortkey_num, max_varchar from svv_table_info '
        f"where \"schema\" = '{schema}' order by 1"
    )
    assert run(in_schema, info) == [
        ("built", "ALL", "AUTO(SORTKEY)", 0, 256),
        ("copied", "KEY(name)", "at", 2, 256),
        ("t", "KEY(name)", "at", 2, 256),
    ]
    run(
        in_schema,
        "alter table t rename column name to label",
        "alter table t alter sortkey (label)",
        "alter table t alter column label type varchar(300)",
        "alter table t add column extra bigint encode bytedict default 7",
    )
    assert run(in_schema, info)[-1] == ("t", "KEY(label)", "label", 1, 300)
    assert run(in_schema, "select distinct extra from t") == [(7,)]


def test_merge(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (id int, v int)",
        "create table s (id int, v int)",
        "insert into t values (1, 1), (1, 2), (2, 2)",
        "insert into s values (1, 9), (3, 3)",
        "merge into t using s on t.id = s.id remove duplicates",
    )
    assert run(in_schema, "select * from t order by id") == [(1, 9), (2, 2), (3, 3)]
    run(
        in_schema,
        "update s set v = 5",
        "merge into t using s as new on new.id = t.id when matched then update set v = new.v "
        "when not matched then insert (id, v) values (new.id, new.v)",
    )
    assert run(in_schema, "select * from t order by id") == [(1, 5), (2, 2), (3, 5)]


def test_airflow_s_upsert_and_replace_do_as_they_say(in_schema: Any, schema: str) -> None:
    """The statements of S3ToRedshiftOperator, with an INSERT in COPY's place."""
    run(
        in_schema,
        "create table t (id int, v varchar(9) default 'none')",
        "insert into t values (1)",
    )
    run(
        in_schema,
        f"CREATE TABLE #t (LIKE {schema}.t INCLUDING DEFAULTS);",
        "insert into #t (id, v) values (1, 'new'), (2, 'new')",
        "BEGIN;",
        f"DELETE FROM {schema}.t USING #t WHERE t.id = #t.id;",
        f"INSERT INTO {schema}.t SELECT * FROM #t;",
        "COMMIT",
    )
    assert run(in_schema, "select * from t order by id") == [(1, "new"), (2, "new")]
    run(in_schema, "BEGIN;", f"DELETE FROM {schema}.t;", "insert into t values (3)", "COMMIT")
    assert run(in_schema, "select * from t") == [(3, "none")]


def test_sqlalchemy_s_first_questions_are_answered(connection: Any) -> None:
    assert value(connection, "pg_catalog.version()").startswith("PostgreSQL 8.0.2 on ")
    assert run(connection, "show standard_conforming_strings") == [("off",)]
    assert run(connection, "show transaction isolation level") == [("repeatable read",)]


def test_append_moves_the_rows(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (a int, b int)",
        "create table s (b int, a int, c int)",
        "insert into s values (2, 1, 3)",
    )
    with pytest.raises(redshift_connector.ProgrammingError, match="exist in the source table"):
        run(in_schema, "alter table t append from s")
    run(in_schema, "alter table t append from s ignoreextra")
    assert run(in_schema, "select * from t") == [(1, 2)]
    assert run(in_schema, "select count(*) from s") == [(0,)]


def test_truncate_commits_the_transaction(in_schema: Any) -> None:
    run(in_schema, "create table t (a int)", "insert into t values (1)")
    run(in_schema, "begin", "truncate t", "rollback")
    assert run(in_schema, "select count(*) from t") == [(0,)]


def test_super_columns_are_navigated(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (id int, doc super)",
        """insert into t select 1, json_parse('{"tags": ["a", {"k": 2}], "n": 1.5}')""",
    )
    assert run(
        in_schema,
        "select doc.n::decimal(3,1), doc.tags[0]::varchar, doc.tags[1].k::int, t.doc.missing, "
        "doc.tags[0] = 'a' from t",
    ) == [(Decimal("1.5"), "a", 2, None, True)]
    assert run(in_schema, "select id, tag, tag.k::int from t, t.doc.tags as tag") == [
        (1, '"a"', None),
        (1, '{"k":2}', 2),
    ]


DOCUMENT = '{"bb" : 1, "a": 2.50, "a": [1, {"z": "x  y", "c": null}], "u": "\\\\u00e9"}'
KEPT = '{"bb":1,"a":2.50,"a":[1,{"z":"x  y","c":null}],"u":"é"}'


def test_super_keeps_the_order_of_attributes_and_prints_no_blanks(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (id int, doc super)",
        f"insert into t select 1, json_parse('{DOCUMENT}')",
        "create table copied as select doc from t",
    )
    for table in ("t", "copied"):
        assert run(in_schema, f"select doc, json_serialize(doc) from {table}") == [(KEPT, KEPT)]
    assert run(in_schema, "select element from t, t.doc.a as element") == [
        *(("1",), ('{"z":"x  y","c":null}',))
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("array(json_parse('[2,1]'), 3, 'a', null, true)", '[[2,1],3,"a",null,true]'),
        ("array()", "[]"),
        ("object('b', 1, 'a', array(1, 2))", '{"b":1,"a":[1,2]}'),
        ("object()", "{}"),
        ('array_concat(json_parse(\'[{"b":1,"a":2}]\'), array(3))', '[{"b":1,"a":2},3]'),
        ('subarray(json_parse(\'[{"b":1,"a":2},3,4]\'), 0, 2)', '[{"b":1,"a":2},3]'),
        ("split_to_array('a,b')", '["a","b"]'),
        ("array_to_string(json_parse('[\"a\",2]'), '-')", "a-2"),
        ("(json_parse('[1,2]'))[1]", "2"),
        ("(json_parse('[1,2]'))[-1]", None),
    ],
)
def test_a_super_that_is_made_of_others_keeps_them(
    connection: Any, expression: str, expected: str
) -> None:
    assert value(connection, expression) == expected


def test_supers_with_the_same_attributes_are_one(in_schema: Any) -> None:
    run(
        in_schema,
        "create table t (id int, doc super)",
        """insert into t select 1, json_parse('{"b":1,"a":2}')""",
        """insert into t select 2, json_parse('{"a":2,"b":1}')""",
        """insert into t select 3, json_parse('{"a":2}')""",
    )
    assert run(in_schema, "select count(*) from (select doc from t group by doc)") == [(2,)]
    assert run(in_schema, "select count(distinct doc) from t") == [(2,)]
    assert run(in_schema, "select count(*) from t as a join t as b on a.doc = b.doc") == [(5,)]


@pytest.mark.parametrize(
    ("setting", "default", "other"),
    [
        ("json_parse_dedup_attributes", "off", "on"),
        ("json_parse_truncate_strings", "off", "on"),
        ("navigate_super_null_on_error", "on", "off"),
        ("cast_super_null_on_error", "on", "off"),
        ("parse_super_null_on_error", "off", "on"),
        ("error_on_nondeterministic_update", "off", "on"),
        ("enable_case_sensitive_super_attribute", "off", "on"),
        ("downcase_delimited_identifier", "on", "off"),
    ],
)
def test_a_setting_that_changes_results_is_not_only_remembered(
    connection: Any, setting: str, default: str, other: str
) -> None:
    run(connection, f"set {setting} to {default}")
    assert run(connection, f"show {setting}") == [(default,)]
    with pytest.raises(redshift_connector.ProgrammingError, match="not covered"):
        run(connection, f"set {setting} to {other}")


def test_a_late_binding_view_outlives_its_table(in_schema: Any, schema: str) -> None:
    run(
        in_schema,
        "create table t (a varchar(5), b int)",
        f"create view v as select a, b + 1 as c from {schema}.t with no schema binding",
        "drop table t",
    )
    with pytest.raises(redshift_connector.ProgrammingError) as error:
        run(in_schema, "select * from v")
    assert code(error) == "42P01"
    run(in_schema, "create table t as select 'x'::varchar(2) as a, 1 as b")
    assert run(in_schema, "select * from v") == [("x", 2)]
    assert run(
        in_schema,
        "select * from pg_get_late_binding_view_cols() cols(s name, v name, c name, t varchar, "
        f"n int) where s = '{schema}'",
    ) == [
        (schema, "v", "a", "character varying(5)", 1),
        (schema, "v", "c", "integer", 2),
    ]
    assert run(
        in_schema,
        "select count(*) from information_schema.columns where table_name = 'v' "
        f"and table_schema = '{schema}'",
    ) == [(0,)]


def test_grants_are_told_apart(in_schema: Any, schema: str) -> None:
    user, group, role = (f"{kind}_{schema}" for kind in ("u", "g", "r"))
    run(
        in_schema,
        "create table t (a int)",
        f"create user {user} password 'Secret123'",
        f"create group {group} with user {user}",
        f"create role {role}",
        f"grant select on t to {user}, group {group}, role {role}",
        f"revoke select on t from {user}",
    )
    rows = run(
        in_schema,
        "select identity_name, identity_type, privilege_type from svv_relation_privileges "
        f"where namespace_name = '{schema}' and identity_name <> current_user order by 1",
    )
    assert rows == [(group, "group", "SELECT"), (role, "role", "SELECT")]
    run(
        in_schema,
        "drop table t",
        f"drop group {group}",
        f"drop role {role}",
        f"drop user {user}",
    )


def test_names_are_folded_though_quoted(in_schema: Any) -> None:
    run(in_schema, 'create table "MixedCase" ("Id" int)', 'insert into mixedcase ("ID") values (1)')
    with closing(in_schema.cursor()) as cursor:
        cursor.execute('select "ID" as "Key" from "mixedCASE"')
        assert [column[0] for column in cursor.description] == ["key"]


def test_columns_are_named_as_redshift_names_them(connection: Any) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            "select getdate(), nvl(1, 2), len('a'), extract(day from sysdate), "
            "date_part(day, sysdate), dateadd(day, 1, sysdate), datediff(day, sysdate, sysdate)"
        )
        assert [column[0] for column in cursor.description] == [
            "getdate",
            "coalesce",
            "len",
            "date_part",
            "pgdate_part",
            "date_add",
            "date_diff",
        ]


def test_settings_of_redshift_s_own_are_remembered(connection: Any) -> None:
    run(connection, "set query_group to 'nightly'")
    assert run(connection, "show query_group") == [("nightly",)]
    run(connection, "reset query_group")
    assert run(connection, "show query_group") == [("",)]


def test_show_lists_tables_and_columns(in_schema: Any, schema: str) -> None:
    run(
        in_schema,
        "create table t (a varchar(3), b decimal(5, 2))",
        "create view v as select 1 as x",
    )
    database = value(in_schema, "current_database()")
    with closing(in_schema.cursor()) as cursor:
        cursor.execute(f'show tables from schema "{database}"."{schema}"')
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert [(row["table_name"], row["table_subtype"]) for row in rows] == [
        ("t", "REGULAR TABLE"),
        ("v", "REGULAR VIEW"),
    ]
    columns = run(in_schema, f"show columns from table {database}.{schema}.t")
    assert [row[3] for row in columns] == ["a", "b"]


def test_every_function_of_redshift_s_own_is_installed(connection: Any) -> None:
    installed = {
        name
        for (name,) in run(
            connection,
            "select proname from pg_proc join pg_namespace n on n.oid = pronamespace "
            "where nspname = 'pg_redshift'",
        )
    }
    assert set(functions.OWN.values()) <= installed


def test_every_function_that_is_postgresql_s_exists_there(connection: Any) -> None:
    found = run(connection, "select distinct proname from pg_proc where pronamespace = 11")
    # PostgreSQL has these in its grammar, not as functions.
    grammar = {"coalesce", "greatest", "least", "nullif", "trim"}
    assert functions.SHARED - {name for (name,) in found} == grammar
