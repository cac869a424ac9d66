"""The translation alone: no database is asked."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redshift_standin.lexer import Tokens, literal, string_value
from redshift_standin.sql import (
    AlterTable,
    Answer,
    Copy,
    CreateTable,
    KeyConstraint,
    RedshiftError,
    Run,
    Several,
    Unload,
    split,
    translate,
)


def sql(statement: str) -> str:
    translated = translate(statement)
    assert isinstance(translated, Run | CreateTable | AlterTable)
    return translated.sql


def refusal(statement: str) -> RedshiftError:
    with pytest.raises(RedshiftError) as caught:
        translate(statement)
    return caught.value


@pytest.mark.parametrize(
    "statement",
    [
        "select a, 'it''s', b::integer from t where a like 'x\\\\_' and b = $1 -- why\n and c",
        "with a as (select 1 as x), b(y) as (select 2) select * from a cross join b",
        'insert into "dev"."s"."t" (a, b) (select a, b from u)',
        "update t set a = u.a from u where t.id = u.id",
        "select count(distinct a), sum(b) over (order by c rows unbounded preceding) from t",
        "select case when a > 1 then 'x' end, a between 1 and 2, interval '1 day' from t",
        "select * from pg_get_late_binding_view_cols() cols(a name, b varchar, c int)",
        "select substring(a from 1 for 2), trim(both ' ' from a), position('a' in b) from t",
    ],
)
def test_what_is_the_same_is_left_as_it_was_written(statement: str) -> None:
    assert sql(statement) == statement


def test_a_leading_comment_and_parameters_survive() -> None:
    comment = '/* {"app": "dbt", "node": "model.x"} */'
    assert (
        sql(f"{comment}\nselect nvl(a, $1) from t") == f"{comment}\nselect coalesce(a, $1) from t"
    )
    created = translate(f"{comment} create table t distkey(a) as select 1 as a")
    assert isinstance(created, CreateTable)
    assert created.sql.startswith(comment)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ('select "Foo"."BAR" from "Foo"', 'select "foo"."bar" from "foo"'),
        ("select a::varchar(max) from t", "select a::varchar(65535) from t"),
        ("select cast(a as nvarchar(5)) from t", "select cast(a as varchar(5)) from t"),
        ("select convert(int, a) from t", "select cast(a as integer) from t"),
        ("select a::decimal from t", "select a::numeric(18, 0) from t"),
        ("select a from t minus select b from u", "select a from t except select b from u"),
        ("select top 5 a from t order by 1", "select a from t order by 1 limit 5"),
        (
            "select top 5 a from t union all select 1",
            "(select a from t limit 5) union all select 1",
        ),
        ("select * from #stage s", 'select * from "#stage" s'),
        ("delete t where a = 1", "delete from  t where a = 1"),
        ("select approximate count(distinct a) from t", "select count(distinct a) from t"),
        ("select * from (select 1)", "select * from (select 1) as subquery_3"),
        ("select sysdate", "select pg_redshift.sysdate()"),
        ("select len(a) from t", "select pg_redshift.len(a) from t"),
        (
            "select dateadd(month, 1, '2020-01-31')",
            "select pg_redshift.date_add('month', 1, timestamp '2020-01-31')",
        ),
        (
            "select extract(dow from a) from t",
            "select pg_redshift.date_part('dow', a) from t",
        ),
        (
            "select listagg(distinct a, ',') within group (order by a) from t",
            "select pg_redshift.listagg(distinct a, ',' order by a) from t",
        ),
        (
            "select ratio_to_report(a) over (partition by b) from t",
            (
                "select (cast(a as double precision) / nullif(sum(cast(a as double precision)) "
                "over (partition by b), 0)) from t"
            ),
        ),
        ("select nvl2(a, 1, 2) from t", "select case when a is not null then 1 else 2 end from t"),
        (
            "select decode(a, 1, 'x', null, 'y', 'z') from t",
            (
                "select case when a is not distinct from 1 then 'x' when a is null then 'y' "
                "else 'z' end from t"
            ),
        ),
        ('create schema if not exists "dev"."S"', 'create schema if not exists "s"'),
        ("drop schema if exists dev.s cascade", 'drop schema if exists "s" cascade'),
        ("set query_group to 'x'", "set redshift.query_group to 'x'"),
        ("begin isolation level serializable", "begin"),
        ("grant select on t to group g, role r, u", "grant select on t to group g, r, u"),
        ("explain select getdate()", "explain select pg_redshift.getdate()"),
        (
            "comment on column s.t.a is $dbt$it's \\ $dbt$",
            'comment on column "s"."t"."a" is \'it\'\'s \\\\ \'',
        ),
    ],
)
def test_what_differs_is_rewritten(statement: str, expected: str) -> None:
    assert sql(statement) == expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "select c.a, t.c.a, c[0].b, t.plain from t",
            (
                "select pg_redshift.attribute(c, 'a'), pg_redshift.attribute(t.c, 'a'), "
                "pg_redshift.attribute(pg_redshift.element(c, 0), 'b'), t.plain from t"
            ),
        ),
        (
            "select item, item.price from orders o, o.items as item",
            (
                "select item, pg_redshift.attribute(item.item, 'price') from orders o, "
                'lateral pg_redshift.elements(o.items) as "item"("item")'
            ),
        ),
    ],
)
def test_super_is_navigated(statement: str, expected: str) -> None:
    assert sql(statement) == expected


def test_qualify_filters_an_inner_query() -> None:
    assert sql(
        "select id, row_number() over (partition by id order by at) as rn from s.t where a "
        "qualify rn = 1 order by id"
    ) == (
        'select qualified."id", qualified."rn" from (select id as "id", '
        'row_number() over (partition by id order by at) as "rn", '
        "((row_number() over (partition by id order by at)) = 1) as qualifies "
        "from s.t where a) as qualified where qualified.qualifies order by id"
    )


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select distinct on (a) a from t", "SELECT DISTINCT ON is not supported"),
        ("insert into t values (1) on conflict do nothing", "conflict"),
        ("insert into t values (1) returning a", "returning"),
        ("select * from t, lateral (select 1) as x", "lateral"),
        ("select array[1, 2]", "Array constructors"),
        ("select a::int[] from t", 'type "int[]" does not exist'),
        ("select a::jsonb from t", 'type "jsonb" does not exist'),
        ("create table t (a uuid)", 'Column "t.a" has unsupported type "uuid".'),
        ("create table t (a int check (a > 1))", "CHECK constraints"),
        ("create index i on t (a)", 'SQL command "CREATE INDEX" not supported'),
        ("create unique index i on t (a) where b", 'SQL command "CREATE INDEX" not supported'),
        ("create type mood as enum ('sad')", 'SQL command "CREATE TYPE" not supported'),
        ("select a -> 'b' from t", "operator does not exist: ->"),
        ("select a @> b from t", "operator does not exist: @>"),
        ("select sum(a) over (order by b) from t", "require a frame clause"),
        (
            (
                "select sum(a) over (order by b range between interval '1 day' preceding "
                "and current row) from t"
            ),
            'syntax error at or near "range"',
        ),
        ("select ratio_to_report(a) over (order by b) from t", "cannot have an ORDER BY"),
        ("select generate_series(1, 3) from t", "not supported on Redshift tables"),
        ("create table t as select generate_series(1, 3)", "not supported on Redshift tables"),
        ("insert into t select now()", "not supported on Redshift tables"),
        ("select string_agg(a, ',') from t", "function string_agg("),
        ("select foo(1, 'x', 1.5)", 'function foo(integer, "unknown", numeric) does not exist'),
        ("select pg_catalog.gen_random_uuid()", "function gen_random_uuid() does not exist"),
        ("select count(*) filter (where a) from t", 'syntax error at or near "("'),
        ("select * from (values (1)) as t(a)", 'syntax error at or near "values"'),
        ("select a is not distinct from b from t", 'syntax error at or near "distinct"'),
        ("select a from t for update", "FOR UPDATE"),
        ("select * from t qualify row_number() over (order by a) = 1", "qualify"),
        ("select * from t pivot (sum(a) for b in ('x'))", "PIVOT is not covered"),
        ("select lag(a) ignore nulls over (order by b) from t", "IGNORE NULLS is not covered"),
        ("select dateadd(fortnight, 1, a) from t", '"fortnight" not recognized'),
        ("select concat(a, b, c) from t", "function concat("),
        ("alter table t alter column a type bigint", 'cannot alter type of column "a"'),
        ("create table t (a int distkey) diststyle even", "DISTKEY cannot be specified"),
        ("create view v as select 1 from t with no schema binding", "should be qualified"),
        ("copy t from stdin", "COPY FROM STDIN"),
        ("savepoint a", 'SQL command "SAVEPOINT" not supported'),
        ("set enable_case_sensitive_identifier to true", "not covered"),
        ("set no_such_setting to 1", "unrecognized configuration parameter"),
        ("do $$ begin end $$", 'SQL command "DO" not supported'),
        ("frobnicate t", 'syntax error at or near "frobnicate"'),
        ("select 'open", "unterminated quoted string"),
        ("select (1", "syntax error at end of input"),
        ("select 1)", 'syntax error at or near ")"'),
    ],
)
def test_what_redshift_refuses_is_refused(statement: str, message: str) -> None:
    error = refusal(statement)
    assert message in error.message
    assert len(error.sqlstate) == 5


def test_the_leader_node_knows_what_the_compute_nodes_do_not() -> None:
    assert sql("select generate_series(1, 3)") == "select generate_series(1, 3)"
    catalog = "select pg_get_userbyid(relowner), relacl[1], oid::regclass from "
    # pg_class is read through a view without the indexes that stand in for sort keys.
    assert sql(f"{catalog}pg_class") == f"{catalog}pg_redshift.pg_class"
    assert sql(f"{catalog}pg_roles") == f"{catalog}pg_roles"


def test_a_table_carries_its_attributes_in_a_comment() -> None:
    created = translate(
        'create table "dev"."s"."T" (id bigint identity(1, 1) not null encode az64, '
        "name varchar, note text default getdate() encode lzo, ref int references u (id), "
        "primary key (id), unique (name)) diststyle key distkey (id) "
        "interleaved sortkey (id, name) backup no"
    )
    assert isinstance(created, CreateTable)
    assert created.sql.startswith(
        'create table "dev"."s"."t" ("id" bigint generated always as identity (start with 1 '
        'increment by 1 minvalue 1) not null, "name" varchar(256), '
        '"note" varchar(256) default pg_redshift.getdate(), "ref" integer) /*redshift {'
    )
    attributes = created.attributes
    assert (attributes.diststyle, attributes.distkey) == ("KEY", "id")
    assert (attributes.sortstyle, attributes.sortkeys) == ("INTERLEAVED", ("id", "name"))
    assert attributes.encodings == {"id": "az64", "note": "lzo"}
    assert attributes.constraints == (
        KeyConstraint("f", ("ref",), references='"u"', referenced=("id",)),
        KeyConstraint("p", ("id",)),
        KeyConstraint("u", ("name",)),
    )


@pytest.mark.parametrize(
    ("statement", "distkey", "sortkeys"),
    [
        ("create table t diststyle key distkey (a) compound sortkey(b,c) as (select 1)", "a", "bc"),
        ("create table t distkey(a) sortkey(b) as select 1", "a", "b"),
        ("create temp table t (a int distkey sortkey)", "a", "a"),
        ("alter table t alter distkey a", "a", ""),
        ("alter table t alter diststyle key distkey a", "a", ""),
        ("alter table t alter compound sortkey (a, b)", None, "ab"),
    ],
)
def test_distribution_and_sort_keys_are_read(
    statement: str, distkey: str | None, sortkeys: str
) -> None:
    translated = translate(statement)
    assert isinstance(translated, CreateTable | AlterTable)
    assert translated.attributes.distkey == distkey
    assert translated.attributes.sortkeys == tuple(sortkeys)


def test_temporary_tables_may_begin_with_a_hash() -> None:
    assert sql("create table #T (like s.t including defaults)") == (
        'create temporary table "#t" (like "s"."t" including defaults) '
        '/*redshift {"like": "\\"s\\".\\"t\\""}*/'
    )


def test_copy_is_parsed_in_any_order() -> None:
    assert translate(
        "COPY s.T (A, \"B\") FROM 's3://b/k' IAM_ROLE 'arn:x' FORMAT AS PARQUET MANIFEST"
    ) == Copy(
        '"s"."t"', ("a", "b"), "s3://b/k", "PARQUET", {"iam_role": "arn:x"}, {"MANIFEST": True}
    )
    assert translate(
        "copy #t from 's3://b/k' credentials 'aws_iam_role=arn:x' region 'us-east-1' "
        "delimiter '|' ignoreheader as 1 null as '\\\\N' gzip maxerror 5 csv quote as '\"' "
        "timeformat 'auto' acceptinvchars blanksasnull emptyasnull compupdate off;"
    ) == Copy(
        '"#t"',
        (),
        "s3://b/k",
        "CSV",
        {"credentials": "aws_iam_role=arn:x"},
        {
            "REGION": "us-east-1",
            "DELIMITER": "|",
            "IGNOREHEADER": 1,
            "NULL": "\\N",
            "GZIP": True,
            "MAXERROR": 5,
            "QUOTE": '"',
            "TIMEFORMAT": "auto",
            "ACCEPTINVCHARS": "?",
            "BLANKSASNULL": True,
            "EMPTYASNULL": True,
            "COMPUPDATE": "off",
        },
    )
    json = translate("copy t from 's3://b/k' iam_role default json 'auto ignorecase'")
    assert isinstance(json, Copy)
    assert (json.format, json.options) == ("JSON", {"JSON": "auto ignorecase"})


def test_credentials_stay_out_of_a_copy_s_repr() -> None:
    statement = "copy t from 's3://b/k' access_key_id 'AKIA' secret_access_key 'hidden' csv"
    assert "hidden" not in repr(translate(statement))


def test_unload_translates_its_query() -> None:
    assert translate(
        "unload ('select nvl(a, ''x'') from t') to 's3://b/p' iam_role 'arn:x' "
        "parquet manifest verbose parallel off maxfilesize 1 gb allowoverwrite"
    ) == Unload(
        "select coalesce(a, 'x') from t",
        "s3://b/p",
        "PARQUET",
        {"iam_role": "arn:x"},
        {"MANIFEST": "verbose", "PARALLEL": "off", "MAXFILESIZE": 1024, "ALLOWOVERWRITE": True},
    )


def test_truncate_commits() -> None:
    assert translate("truncate table s.t") == Several(
        (Run('truncate table "s"."t"'), Run("commit"))
    )


def test_housekeeping_needs_nothing() -> None:
    assert translate("vacuum full s.t to 99 percent") == Answer("VACUUM")
    assert translate("analyze s.t") == Answer("ANALYZE")


def test_several_statements_are_split_where_they_end() -> None:
    text = "select ';' ; /* ; */ select $a$;$a$; -- ;\n;insert into t values (1)"
    assert split(text) == ["select ';'", "/* ; */ select $a$;$a$", "insert into t values (1)"]


@given(st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_a_literal_stands_for_its_text(value: str) -> None:
    (token,) = Tokens(literal(value)).all
    assert string_value(token) == value


WORDS = """
select from where t a.b "A" 'x' $1 1 1.5 ( ) [ ] , . ; :: * + (+) || as over ( ) order by rows
within group listagg extract cast convert interval top 5 qualify limit union all minus approximate
count distinct values filter with recursive x create table temp view #t int varchar ( 3 ) max
primary key distkey sortkey ( a ) encode zstd identity default like alter add column drop rename to
append insert into update set delete merge using on remove duplicates when matched then copy unload
iam_role csv manifest grant revoke role comment is show tables schema explain prepare execute
declare begin commit truncate array lateral sysdate getdate() date_trunc dateadd ( day , 1 ,
case end not
""".split()  # noqa: SIM905


@settings(max_examples=300)
@given(st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), max_size=25))
def test_any_words_are_translated_or_refused(first: str, rest: list[str]) -> None:
    for start in ([first], ["select"], ["create", "table", "t", "("], ["copy", "t", "from"]):
        with suppress(RedshiftError):
            translate(" ".join([*start, *rest]))
