-- What Redshift has and PostgreSQL 15 has not: settings, types, functions and the memory of what
-- was declared of a table. Installed once into a new database by a superuser; catalog.sql follows.
--
-- Functions are called with this schema by translated statements only. Each bears the name that
-- Redshift gives the column of its result.

set allow_system_table_mods = on;
set client_min_messages = warning;

create schema pg_redshift;
grant usage on schema pg_redshift to public;
revoke create on schema pg_redshift from public;
-- As in Redshift, where everybody may create in public.
grant create, usage on schema public to public;

do $$
begin
    -- Redshift is of PostgreSQL 8: backslashes escape inside strings.
    execute format('alter database %I set standard_conforming_strings = off', current_database());
    execute format('alter database %I set escape_string_warning = off', current_database());
    execute format('alter database %I set backslash_quote = on', current_database());
    execute format('alter database %I set timezone = ''UTC''', current_database());
    execute format('alter database %I set datestyle = ''ISO, MDY''', current_database());
    execute format('alter database %I set intervalstyle = ''postgres''', current_database());
    -- SNAPSHOT; see ALTER DATABASE in ddl.py.
    execute format(
        'alter database %I set default_transaction_isolation = ''repeatable read''',
        current_database()
    );
end
$$;
set standard_conforming_strings = on;

-- VARCHAR(n) and CHAR(n) count bytes. PostgreSQL calls the function of this cast wherever a text
-- meets a length: an explicit cast cuts, anything else refuses.

create function pg_redshift.too_long(value text, type text) returns text
language plpgsql immutable strict as $$
begin
    raise exception 'value too long for type %', type using errcode = '22001';
end
$$;

create function pg_redshift.cut(value text, bytes int) returns text
language plpgsql immutable strict parallel safe as $$
declare
    encoded bytea := convert_to(value, 'UTF8');
begin
    -- Not in the middle of a character: a byte of the form 10xxxxxx continues one.
    while bytes > 0 and get_byte(encoded, bytes) & 192 = 128 loop
        bytes := bytes - 1;
    end loop;
    return convert_from(substring(encoded from 1 for bytes), 'UTF8');
end
$$;

create function pg_redshift.fit_varchar(value varchar, modifier int, explicit boolean)
returns varchar language sql immutable strict parallel safe as $$
    select case
        when octet_length(value) <= modifier - 4 then value
        when explicit then pg_redshift.cut(value, modifier - 4)
        -- Blanks at the end are no part of what has to fit.
        when octet_length(rtrim(value, ' ')) <= modifier - 4
            then pg_redshift.cut(value, modifier - 4)
        else pg_redshift.too_long(value, 'character varying(' || modifier - 4 || ')')
    end::varchar
$$;

create function pg_redshift.fit_bpchar(value bpchar, modifier int, explicit boolean)
returns bpchar language sql immutable strict parallel safe as $$
    select case
        when octet_length(rtrim(value::text, ' ')) <= modifier - 4 or explicit
            then pg_catalog.bpchar(value, modifier, true)
        else pg_redshift.too_long(value::text, 'character(' || modifier - 4 || ')')::bpchar
    end
$$;

update pg_cast set castfunc = 'pg_redshift.fit_varchar(varchar, int, boolean)'::regprocedure
where castsource = 'varchar'::regtype and casttarget = 'varchar'::regtype;
update pg_cast set castfunc = 'pg_redshift.fit_bpchar(bpchar, int, boolean)'::regprocedure
where castsource = 'bpchar'::regtype and casttarget = 'bpchar'::regtype;

-- Blanks at the end of a text do not count when texts are compared, of VARCHAR as of CHAR
-- (r_Character_types), though they are stored, returned and counted by LEN. The functions behind
-- PostgreSQL's CHAR compare so and texts are laid out the same, so they take the place of TEXT's in
-- its operators, in the families by which it sorts, groups, hashes and joins, and in MIN and MAX.
do $$
declare
    step record;
begin
    for step in
        select * from (values
            ('texteq', 'bpchareq', 'bool'), ('textne', 'bpcharne', 'bool'),
            ('text_lt', 'bpcharlt', 'bool'), ('text_le', 'bpcharle', 'bool'),
            ('text_gt', 'bpchargt', 'bool'), ('text_ge', 'bpcharge', 'bool'),
            ('text_pattern_lt', 'bpchar_pattern_lt', 'bool'),
            ('text_pattern_le', 'bpchar_pattern_le', 'bool'),
            ('text_pattern_gt', 'bpchar_pattern_gt', 'bool'),
            ('text_pattern_ge', 'bpchar_pattern_ge', 'bool'),
            ('bttextcmp', 'bpcharcmp', 'int'),
            ('bttext_pattern_cmp', 'btbpchar_pattern_cmp', 'int'),
            ('text_larger', 'bpchar_larger', 'text'), ('text_smaller', 'bpchar_smaller', 'text')
        ) as steps(own, source, gives)
    loop
        execute format(
            'create function pg_redshift.%I(text, text) returns %s
            language internal immutable strict leakproof parallel safe as %L',
            step.own, step.gives, step.source
        );
        update pg_operator set oprcode = format('pg_redshift.%I', step.own)::regproc
        where oprcode = format('pg_catalog.%I(text, text)', step.own)::regprocedure;
        update pg_amproc set amproc = format('pg_redshift.%I', step.own)::regproc
        where amproc = format('pg_catalog.%I(text, text)', step.own)::regprocedure;
        update pg_aggregate set aggtransfn = format('pg_redshift.%I', step.own)::regproc,
            aggcombinefn = format('pg_redshift.%I', step.own)::regproc
        where aggtransfn = format('pg_catalog.%I(text, text)', step.own)::regprocedure;
    end loop;
end
$$;
create function pg_redshift.hashtext(text) returns int
language internal immutable strict parallel safe as 'hashbpchar';
create function pg_redshift.hashtextextended(text, bigint) returns bigint
language internal immutable strict parallel safe as 'hashbpcharextended';
update pg_amproc set amproc = 'pg_redshift.hashtext'::regproc
where amproc = 'pg_catalog.hashtext(text)'::regprocedure;
update pg_amproc set amproc = 'pg_redshift.hashtextextended'::regproc
where amproc = 'pg_catalog.hashtextextended(text, bigint)'::regprocedure;
update pg_amproc set amproc = 'bpchar_sortsupport'::regproc
where amproc = 'bttextsortsupport'::regproc;
update pg_amproc set amproc = 'btbpchar_pattern_sortsupport'::regproc
where amproc = 'bttext_pattern_sortsupport'::regproc;
-- Equal texts may be of different bytes now, so an index must keep each.
delete from pg_amproc
where amproc in ('btvarstrequalimage'::regproc, 'btequalimage'::regproc)
    and amproclefttype = 'text'::regtype;

-- SUPER is json and VARBYTE is bytea under names and identifiers of their own, which Redshift's
-- driver knows them by. The identifiers have to be set while the types are still empty shells.

create type pg_catalog.super;
create type pg_catalog.varbyte;
update pg_depend set objid = 4000
from pg_type
where classid = 'pg_type'::regclass and objid = pg_type.oid and typname = 'super';
update pg_depend set objid = 6551
from pg_type
where classid = 'pg_type'::regclass and objid = pg_type.oid and typname = 'varbyte';
update pg_type set oid = 4000 where typname = 'super';
update pg_type set oid = 6551 where typname = 'varbyte';

create function pg_redshift.super_in(cstring) returns super
language internal immutable strict parallel safe as 'json_in';
create function pg_redshift.super_out(super) returns cstring
language internal immutable strict parallel safe as 'json_out';
create function pg_redshift.super_recv(internal) returns super
language internal immutable strict parallel safe as 'json_recv';
create function pg_redshift.super_send(super) returns bytea
language internal immutable strict parallel safe as 'json_send';
create type pg_catalog.super (
    input = pg_redshift.super_in, output = pg_redshift.super_out,
    receive = pg_redshift.super_recv, send = pg_redshift.super_send, like = json
);
create cast (super as json) without function as implicit;
create cast (json as super) without function;
-- Objects keep the order of their attributes, and what is printed has no blanks between them.
create function pg_redshift.compact(value json) returns text
language plpgsql immutable strict parallel safe as $$
begin
    case json_typeof(value)
        when 'object' then
            return '{' || coalesce((
                select string_agg(
                    to_json(key)::text || ':' || pg_redshift.compact(member), ',' order by place
                )
                from json_each(value) with ordinality as members(key, member, place)
            ), '') || '}';
        when 'array' then
            return '[' || coalesce((
                select string_agg(pg_redshift.compact(element), ',' order by place)
                from json_array_elements(value) with ordinality as elements(element, place)
            ), '') || ']';
        when 'string' then
            return to_json(value #>> '{}')::text;
        else
            return value::jsonb::text;
    end case;
end
$$;
create function pg_redshift.super(value json) returns super
language sql immutable strict parallel safe as $$ select pg_redshift.compact(value)::json::super $$;
create function pg_redshift.super(value jsonb) returns super
language sql immutable strict parallel safe as $$ select pg_redshift.super(value::text::json) $$;
create cast (jsonb as super) with function pg_redshift.super(jsonb) as implicit;
create cast (super as jsonb) with inout as implicit;
create function pg_redshift.super_array(elements text[]) returns super
language sql immutable parallel safe as $$
    select ('[' || coalesce(array_to_string(elements, ','), '') || ']')::json::super
$$;

create function pg_redshift.varbyte_in(cstring) returns varbyte
language internal immutable strict parallel safe as 'byteain';
create function pg_redshift.varbyte_out(varbyte) returns cstring
language internal immutable strict parallel safe as 'byteaout';
create function pg_redshift.varbyte_recv(internal) returns varbyte
language internal immutable strict parallel safe as 'bytearecv';
create function pg_redshift.varbyte_send(varbyte) returns bytea
language internal immutable strict parallel safe as 'byteasend';
create type pg_catalog.varbyte (
    input = pg_redshift.varbyte_in, output = pg_redshift.varbyte_out,
    receive = pg_redshift.varbyte_recv, send = pg_redshift.varbyte_send, like = bytea,
    typmod_in = varchartypmodin, typmod_out = varchartypmodout
);
create cast (varbyte as bytea) without function as implicit;
create cast (bytea as varbyte) without function as implicit;
create function pg_redshift.fit_varbyte(value varbyte, modifier int, explicit boolean)
returns varbyte language sql immutable strict parallel safe as $$
    select case
        when octet_length(value::bytea) <= modifier - 4 then value
        when explicit then substring(value::bytea from 1 for modifier - 4)::varbyte
        else pg_redshift.too_long('', 'binary varying(' || modifier - 4 || ')')::bytea::varbyte
    end
$$;
create cast (varbyte as varbyte)
with function pg_redshift.fit_varbyte(varbyte, int, boolean) as implicit;

create function pg_redshift.varbyte(value varchar) returns varbyte
language sql immutable strict parallel safe as $$ select convert_to(value, 'UTF8')::varbyte $$;
create cast (varchar as varbyte) with function pg_redshift.varbyte(varchar) as assignment;
create function pg_redshift.text(value varbyte) returns varchar
language sql immutable strict parallel safe as
$$ select convert_from(value::bytea, 'UTF8')::varchar $$;
create cast (varbyte as varchar) with function pg_redshift.text(varbyte);

-- SUPER: scalars leave it by a cast, and meet scalars in comparisons.

create function pg_redshift.super_text(value super) returns varchar
language sql immutable strict parallel safe as $$
    select case jsonb_typeof(value::jsonb)
        when 'null' then null
        else value::jsonb #>> '{}'
    end::varchar
$$;
create cast (super as varchar) with function pg_redshift.super_text(super);
create function pg_redshift.super_text_plain(value super) returns text
language sql immutable strict parallel safe as $$ select pg_redshift.super_text(value)::text $$;
create cast (super as text) with function pg_redshift.super_text_plain(super);
create function pg_redshift.super_int(value super) returns int
language sql immutable strict parallel safe as $$ select pg_redshift.super_text(value)::numeric::int $$;
create cast (super as int) with function pg_redshift.super_int(super);
create function pg_redshift.super_bigint(value super) returns bigint
language sql immutable strict parallel safe as
$$ select pg_redshift.super_text(value)::numeric::bigint $$;
create cast (super as bigint) with function pg_redshift.super_bigint(super);
create function pg_redshift.super_numeric(value super) returns numeric
language sql immutable strict parallel safe as $$ select pg_redshift.super_text(value)::numeric $$;
create cast (super as numeric) with function pg_redshift.super_numeric(super);
create function pg_redshift.super_float(value super) returns float8
language sql immutable strict parallel safe as $$ select pg_redshift.super_text(value)::float8 $$;
create cast (super as float8) with function pg_redshift.super_float(super);
create function pg_redshift.super_boolean(value super) returns boolean
language sql immutable strict parallel safe as $$ select pg_redshift.super_text(value)::boolean $$;
create cast (super as boolean) with function pg_redshift.super_boolean(super);
create function pg_redshift.super_date(value super) returns date
language sql stable strict parallel safe as $$ select pg_redshift.super_text(value)::date $$;
create cast (super as date) with function pg_redshift.super_date(super);
create function pg_redshift.super_timestamp(value super) returns timestamp
language sql stable strict parallel safe as $$ select pg_redshift.super_text(value)::timestamp $$;
create cast (super as timestamp) with function pg_redshift.super_timestamp(super);

create function pg_redshift.super_of_text(value varchar) returns super
language sql immutable strict parallel safe as $$ select to_jsonb(value)::super $$;
create cast (varchar as super) with function pg_redshift.super_of_text(varchar) as assignment;
create function pg_redshift.super_of_int(value int) returns super
language sql immutable strict parallel safe as $$ select to_jsonb(value)::super $$;
create cast (int as super) with function pg_redshift.super_of_int(int) as assignment;
create function pg_redshift.super_of_bigint(value bigint) returns super
language sql immutable strict parallel safe as $$ select to_jsonb(value)::super $$;
create cast (bigint as super) with function pg_redshift.super_of_bigint(bigint) as assignment;
create function pg_redshift.super_of_numeric(value numeric) returns super
language sql immutable strict parallel safe as $$ select to_jsonb(value)::super $$;
create cast (numeric as super) with function pg_redshift.super_of_numeric(numeric) as assignment;
create function pg_redshift.super_of_boolean(value boolean) returns super
language sql immutable strict parallel safe as $$ select to_jsonb(value)::super $$;
create cast (boolean as super) with function pg_redshift.super_of_boolean(boolean) as assignment;

create function pg_redshift.equals(a super, b varchar) returns boolean
language sql immutable strict parallel safe as $$
    select jsonb_typeof(a::jsonb) = 'string' and pg_redshift.super_text(a) = b
$$;
create operator pg_catalog.= (
    leftarg = super, rightarg = varchar, function = pg_redshift.equals, restrict = eqsel
);
create function pg_redshift.equals(a super, b numeric) returns boolean
language sql immutable strict parallel safe as $$
    select jsonb_typeof(a::jsonb) = 'number' and pg_redshift.super_numeric(a) = b
$$;
create operator pg_catalog.= (
    leftarg = super, rightarg = numeric, function = pg_redshift.equals, restrict = eqsel
);

-- Two SUPERs are grouped and ordered as jsonb is, whatever the order of their attributes. In this
-- schema the operators stay out of expressions, where a literal beside a SUPER is a text.
do $$
declare
    step record;
begin
    for step in
        select * from (values
            ('lt', '<', '>', '>='), ('le', '<=', '>=', '>'), ('eq', '=', '=', '<>'),
            ('ne', '<>', '<>', '='), ('ge', '>=', '<=', '<'), ('gt', '>', '<', '<=')
        ) as steps(name, operator, commuted, negated)
    loop
        execute format(
            'create function pg_redshift.super_%1$s(a super, b super) returns boolean
            language sql immutable strict parallel safe as ''select a::jsonb %2$s b::jsonb'';
            create operator pg_redshift.%2$s (
                leftarg = super, rightarg = super, function = pg_redshift.super_%1$s,
                commutator = operator(pg_redshift.%3$s), negator = operator(pg_redshift.%4$s)
                %5$s
            )',
            step.name, step.operator, step.commuted, step.negated,
            case step.name when 'eq' then ', hashes, merges' else '' end
        );
    end loop;
end
$$;
create function pg_redshift.super_cmp(a super, b super) returns int
language sql immutable strict parallel safe as $$ select jsonb_cmp(a::jsonb, b::jsonb) $$;
create function pg_redshift.super_hash(value super) returns int
language sql immutable strict parallel safe as $$ select jsonb_hash(value::jsonb) $$;
create operator class pg_redshift.super_ops default for type super using btree as
    operator 1 pg_redshift.<, operator 2 pg_redshift.<=, operator 3 pg_redshift.=,
    operator 4 pg_redshift.>=, operator 5 pg_redshift.>,
    function 1 pg_redshift.super_cmp(super, super);
create operator class pg_redshift.super_ops default for type super using hash as
    operator 1 pg_redshift.=, function 1 pg_redshift.super_hash(super);

-- Navigation is lax: what is not there is NULL.
create function pg_redshift.attribute(value super, name text) returns super
language sql immutable strict parallel safe as $$ select (value::json -> name)::super $$;
create function pg_redshift.element(value super, place int) returns super
language sql immutable strict parallel safe as $$ select case when place >= 0 then value::json -> place end::super $$;
create function pg_redshift.element(value super, name varchar) returns super
language sql immutable strict parallel safe as $$ select (value::json -> name::text)::super $$;
create function pg_redshift.elements(value super) returns setof super
language sql immutable strict parallel safe as $$
    select element::super
    from json_array_elements(
        case json_typeof(value::json) when 'array' then value::json else '[]' end
    ) as element
$$;

create function pg_redshift.json_parse(value varchar) returns super
language plpgsql immutable strict parallel safe as $$
begin
    return pg_redshift.super(value::json);
exception when invalid_text_representation then
    raise exception 'JSON parsing error: %', left(value, 100) using errcode = 'XX000';
end
$$;
create function pg_redshift.is_valid(value text) returns boolean
language plpgsql immutable strict parallel safe as $$
begin
    perform value::jsonb;
    return true;
exception when others then
    return false;
end
$$;
create function pg_redshift.can_json_parse(value varchar) returns boolean
language sql immutable strict parallel safe as $$ select pg_redshift.is_valid(value) $$;
create function pg_redshift.json_serialize(value super) returns varchar
language sql immutable strict parallel safe as $$ select value::json::text::varchar $$;
create function pg_redshift.json_typeof(value super) returns varchar
language sql immutable strict parallel safe as $$ select jsonb_typeof(value::jsonb)::varchar $$;
create function pg_redshift.is_valid_json(value varchar) returns boolean
language sql immutable strict parallel safe as $$
    select case when pg_redshift.is_valid(value)
        then jsonb_typeof(value::jsonb) = 'object' else false end
$$;
create function pg_redshift.is_valid_json_array(value varchar) returns boolean
language sql immutable strict parallel safe as $$
    select case when pg_redshift.is_valid(value)
        then jsonb_typeof(value::jsonb) = 'array' else false end
$$;
create function pg_redshift.json_of(value text, null_if_invalid boolean) returns json
language plpgsql immutable strict parallel safe as $$
begin
    return value::json;
exception when invalid_text_representation then
    if null_if_invalid then
        return null;
    end if;
    raise exception 'JSON parsing error' using errcode = 'XX000';
end
$$;
create function pg_redshift.json_extract_path_text(
    value text, null_if_invalid boolean, path text[]
) returns varchar language sql immutable strict parallel safe as $$
    select (pg_redshift.json_of(value, null_if_invalid) #>> path)::varchar
$$;
create function pg_redshift.json_extract_array_element_text(
    value varchar, place int, null_if_invalid boolean default false
) returns varchar language sql immutable strict parallel safe as $$
    select case when place >= 0
        then pg_redshift.json_of(value, null_if_invalid) ->> place
    end::varchar
$$;
create function pg_redshift.json_array_length(value varchar, null_if_invalid boolean default false)
returns int language sql immutable strict parallel safe as $$
    select json_array_length(pg_redshift.json_of(value, null_if_invalid))
$$;

-- ARRAY and OBJECT: their arguments come as values of JSON, of a SUPER what it holds.
create function pg_redshift.json_value(value super) returns json
language sql immutable parallel safe as $$ select coalesce(value::json, 'null') $$;
create function pg_redshift.json_value(value varchar) returns json
language sql immutable parallel safe as $$ select coalesce(to_json(value), 'null') $$;
create function pg_redshift.json_value(value anyelement) returns json
language sql stable parallel safe as $$ select coalesce(to_json(value), 'null') $$;
create function pg_redshift.array(variadic elements json[]) returns super
language sql stable parallel safe as $$ select pg_redshift.super_array(elements::text[]) $$;
create function pg_redshift.array() returns super
language sql immutable parallel safe as $$ select '[]'::super $$;
create function pg_redshift.object(variadic members json[]) returns super
language plpgsql stable parallel safe as $$
begin
    if cardinality(members) % 2 = 1 then
        raise exception 'OBJECT takes a name and a value, and so on' using errcode = '22023';
    end if;
    return ('{' || array_to_string(array(
        select to_json(members[place] #>> '{}')::text || ':' || members[place + 1]::text
        from generate_series(1, cardinality(members), 2) as place
    ), ',') || '}')::json::super;
end
$$;
create function pg_redshift.object() returns super
language sql immutable parallel safe as $$ select '{}'::super $$;
create function pg_redshift.array_concat(a super, b super) returns super
language sql immutable strict parallel safe as $$
    select pg_redshift.super_array(
        array(select json_array_elements(a::json)::text)
        || array(select json_array_elements(b::json)::text)
    )
$$;
create function pg_redshift.get_array_length(value super) returns int
language sql immutable strict parallel safe as $$
    select case jsonb_typeof(value::jsonb) when 'array' then jsonb_array_length(value::jsonb) end
$$;
create function pg_redshift.split_to_array(value varchar, delimiter varchar default ',')
returns super language sql immutable strict parallel safe as $$
    select to_jsonb(string_to_array(value, delimiter))::super
$$;
create function pg_redshift.array_to_string(value super, delimiter varchar) returns varchar
language sql immutable strict parallel safe as $$
    select string_agg(each, delimiter)::varchar from json_array_elements_text(value::json) as each
$$;
create function pg_redshift.subarray(value super, start int, length int) returns super
language sql immutable strict parallel safe as $$
    select pg_redshift.super_array(array_agg(element::text order by place))
    from json_array_elements(value::json) with ordinality as elements(element, place)
    where place > start and place <= start + length
$$;
create function pg_redshift.is_array(value super) returns boolean
language sql immutable strict parallel safe as
$$ select jsonb_typeof(value::jsonb) = 'array' $$;
create function pg_redshift.is_object(value super) returns boolean
language sql immutable strict parallel safe as
$$ select jsonb_typeof(value::jsonb) = 'object' $$;
create function pg_redshift.is_varchar(value super) returns boolean
language sql immutable strict parallel safe as
$$ select jsonb_typeof(value::jsonb) = 'string' $$;
create function pg_redshift.is_boolean(value super) returns boolean
language sql immutable strict parallel safe as
$$ select jsonb_typeof(value::jsonb) = 'boolean' $$;

-- Dates and times.

create function pg_redshift.getdate() returns timestamp
language sql stable parallel safe as $$
    select date_trunc('second', statement_timestamp())::timestamp
$$;
create function pg_redshift.sysdate() returns timestamp
language sql stable parallel safe as $$ select transaction_timestamp()::timestamp $$;

create function pg_redshift.no_part(part text) returns bigint
language plpgsql immutable strict as $$
begin
    raise exception 'timestamp units "%" not supported', part using errcode = '0A000';
end
$$;

create function pg_redshift.months(moment timestamp) returns bigint
language sql immutable strict parallel safe as $$
    select (extract(year from moment) * 12 + extract(month from moment))::bigint
$$;

create function pg_redshift.date_diff(part text, a timestamp, b timestamp) returns bigint
language sql immutable strict parallel safe as $$
    -- It counts the boundaries between the two, not the time that passed.
    select case part
        when 'microsecond' then ((extract(epoch from b) - extract(epoch from a)) * 1000000)::bigint
        when 'millisecond' then (floor(extract(epoch from b) * 1000)
            - floor(extract(epoch from a) * 1000))::bigint
        when 'second' then (floor(extract(epoch from b)) - floor(extract(epoch from a)))::bigint
        when 'minute' then (floor(extract(epoch from b) / 60)
            - floor(extract(epoch from a) / 60))::bigint
        when 'hour' then (floor(extract(epoch from b) / 3600)
            - floor(extract(epoch from a) / 3600))::bigint
        when 'day' then (b::date - a::date)::bigint
        when 'week' then ((date_trunc('week', b)::date - date_trunc('week', a)::date) / 7)::bigint
        when 'month' then pg_redshift.months(b) - pg_redshift.months(a)
        when 'quarter' then (pg_redshift.months(b) - 1) / 3 - (pg_redshift.months(a) - 1) / 3
        when 'year' then (extract(year from b) - extract(year from a))::bigint
        when 'decade' then (extract(decade from b) - extract(decade from a))::bigint
        when 'century' then (extract(century from b) - extract(century from a))::bigint
        when 'millennium' then (extract(millennium from b) - extract(millennium from a))::bigint
        else pg_redshift.no_part(part)
    end
$$;

create function pg_redshift.date_add(part text, number bigint, moment timestamp) returns timestamp
language sql immutable strict parallel safe as $$
    select case part
        when 'microsecond' then moment + number * interval '1 microsecond'
        when 'millisecond' then moment + number * interval '1 millisecond'
        when 'second' then moment + number * interval '1 second'
        when 'minute' then moment + number * interval '1 minute'
        when 'hour' then moment + number * interval '1 hour'
        when 'day' then moment + number * interval '1 day'
        when 'week' then moment + number * interval '7 days'
        when 'month' then moment + number * interval '1 month'
        when 'quarter' then moment + number * interval '3 months'
        when 'year' then moment + number * interval '1 year'
        when 'decade' then moment + number * interval '10 years'
        when 'century' then moment + number * interval '100 years'
        when 'millennium' then moment + number * interval '1000 years'
        else moment + pg_redshift.no_part(part) * interval '1 day'
    end
$$;

create function pg_redshift.date_add(part text, number bigint, moment timestamptz)
returns timestamptz language sql stable strict parallel safe as $$
    select pg_redshift.date_add(part, number, moment at time zone 'UTC') at time zone 'UTC'
$$;
create function pg_redshift.date_add(part text, number bigint, moment date) returns timestamp
language sql immutable strict parallel safe as $$
    select pg_redshift.date_add(part, number, moment::timestamp)
$$;
create function pg_redshift.date_add(part text, number bigint, moment varchar) returns timestamp
language sql stable strict parallel safe as $$
    select pg_redshift.date_add(part, number, moment::timestamp)
$$;
create function pg_redshift.date_add(part text, number bigint, moment time) returns time
language sql immutable strict parallel safe as $$
    select pg_redshift.date_add(part, number, timestamp '2000-01-01' + moment)::time
$$;
create function pg_redshift.date_diff(part text, a date, b date) returns bigint
language sql immutable strict parallel safe as $$
    select case part
        when 'day' then (b - a)::bigint
        else pg_redshift.date_diff(part, a::timestamp, b::timestamp)
    end
$$;
create function pg_redshift.date_diff(part text, a timestamptz, b timestamptz) returns bigint
language sql immutable strict parallel safe as $$
    select pg_redshift.date_diff(part, a at time zone 'UTC', b at time zone 'UTC')
$$;
create function pg_redshift.date_diff(part text, a varchar, b varchar) returns bigint
language sql stable strict parallel safe as $$
    select pg_redshift.date_diff(part, a::timestamp, b::timestamp)
$$;
create function pg_redshift.date_diff(part text, a time, b time) returns bigint
language sql immutable strict parallel safe as $$
    select pg_redshift.date_diff(part, timestamp '2000-01-01' + a, timestamp '2000-01-01' + b)
$$;

create function pg_redshift.date_trunc(part text, moment timestamp) returns timestamp
language sql immutable strict parallel safe as $$ select pg_catalog.date_trunc(part, moment) $$;
create function pg_redshift.date_trunc(part text, moment date) returns timestamp
language sql immutable strict parallel safe as
$$ select pg_catalog.date_trunc(part, moment::timestamp) $$;
create function pg_redshift.date_trunc(part text, moment timestamptz) returns timestamptz
language sql stable strict parallel safe as $$ select pg_catalog.date_trunc(part, moment) $$;
create function pg_redshift.date_trunc(part text, moment varchar) returns timestamp
language sql stable strict parallel safe as
$$ select pg_catalog.date_trunc(part, moment::timestamp) $$;

-- EXTRACT: whole numbers, and of the part alone.
create function pg_redshift.date_part(part text, moment timestamp) returns int
language sql immutable strict parallel safe as $$
    select case part
        when 'millisecond' then floor(extract(millisecond from moment))::int % 1000
        when 'microsecond' then extract(microsecond from moment)::int % 1000000
        else floor(pg_catalog.date_part(part, moment))::int
    end
$$;
create function pg_redshift.date_part(part text, moment date) returns int
language sql immutable strict parallel safe as
$$ select pg_redshift.date_part(part, moment::timestamp) $$;
create function pg_redshift.date_part(part text, moment timestamptz) returns float8
language sql stable strict parallel safe as $$ select pg_catalog.date_part(part, moment) $$;
create function pg_redshift.date_part(part text, moment time) returns int
language sql immutable strict parallel safe as
$$ select floor(pg_catalog.date_part(part, moment))::int $$;
create function pg_redshift.date_part(part text, moment interval) returns int
language sql immutable strict parallel safe as
$$ select floor(pg_catalog.date_part(part, moment))::int $$;
create function pg_redshift.pgdate_part(part text, moment timestamp) returns float8
language sql immutable strict parallel safe as $$ select pg_catalog.date_part(part, moment) $$;
create function pg_redshift.pgdate_part(part text, moment date) returns float8
language sql immutable strict parallel safe as
$$ select pg_catalog.date_part(part, moment::timestamp) $$;
create function pg_redshift.pgdate_part(part text, moment timestamptz) returns float8
language sql stable strict parallel safe as $$ select pg_catalog.date_part(part, moment) $$;
create function pg_redshift.pgdate_part(part text, moment interval) returns float8
language sql immutable strict parallel safe as $$ select pg_catalog.date_part(part, moment) $$;
create function pg_redshift.date_part_year(moment date) returns int
language sql immutable strict parallel safe as $$ select extract(year from moment)::int $$;

create function pg_redshift.last_day(moment timestamp) returns date
language sql immutable strict parallel safe as $$
    select (pg_catalog.date_trunc('month', moment) + interval '1 month - 1 day')::date
$$;
create function pg_redshift.add_months(moment timestamp, number int) returns timestamp
language sql immutable strict parallel safe as $$
    -- The last day of a month stays one.
    select case
        when moment::date = pg_redshift.last_day(moment)
            then pg_redshift.last_day(moment + number * interval '1 month') + moment::time
        else moment + number * interval '1 month'
    end
$$;
create function pg_redshift.months_between(a timestamp, b timestamp) returns float8
language sql immutable strict parallel safe as $$
    select case
        when extract(day from a) = extract(day from b) or (
            a::date = pg_redshift.last_day(a) and b::date = pg_redshift.last_day(b)
        ) then (pg_redshift.months(a) - pg_redshift.months(b))::float8
        else pg_redshift.months(a) - pg_redshift.months(b)
            + (extract(epoch from a - pg_catalog.date_trunc('month', a))
            - extract(epoch from b - pg_catalog.date_trunc('month', b)))::float8 / (31 * 86400)
    end
$$;
create function pg_redshift.next_day(moment timestamp, weekday varchar) returns date
language plpgsql immutable strict parallel safe as $$
declare
    day int := array_position('{su,mo,tu,we,th,fr,sa}'::text[], lower(left(weekday, 2))) - 1;
begin
    if day is null then
        raise exception 'invalid day of the week "%"', weekday using errcode = '22023';
    end if;
    return (moment::date + (day - extract(dow from moment)::int + 6) % 7 + 1)::date;
end
$$;
create function pg_redshift.convert_timezone(target text, moment timestamp) returns timestamp
language sql immutable strict parallel safe as $$
    select moment at time zone 'UTC' at time zone target
$$;
create function pg_redshift.convert_timezone(source text, target text, moment timestamp)
returns timestamp language sql immutable strict parallel safe as $$
    select moment at time zone source at time zone target
$$;
create function pg_redshift.trunc(moment timestamp) returns date
language sql immutable strict parallel safe as $$ select moment::date $$;
create function pg_redshift.trunc(value numeric) returns numeric
language sql immutable strict parallel safe as $$ select pg_catalog.trunc(value) $$;
create function pg_redshift.trunc(value numeric, digits int) returns numeric
language sql immutable strict parallel safe as $$ select pg_catalog.trunc(value, digits) $$;
create function pg_redshift.trunc(value float8) returns float8
language sql immutable strict parallel safe as $$ select pg_catalog.trunc(value) $$;
-- ROUND makes a decimal of a whole number, and rounds floats to digits too.
do $$
declare
    type text;
begin
    foreach type in array '{int2,int4,int8,numeric}'::text[] loop
        execute format(
            'create function pg_redshift.round(value %1$s) returns numeric
            language sql immutable strict parallel safe as
            ''select pg_catalog.round(value::numeric)'';
            create function pg_redshift.round(value %1$s, digits int) returns numeric
            language sql immutable strict parallel safe as
            ''select pg_catalog.round(value::numeric, digits)''',
            type
        );
    end loop;
end
$$;
create function pg_redshift.round(value float8) returns float8
language sql immutable strict parallel safe as $$ select pg_catalog.round(value) $$;
create function pg_redshift.round(value float8, digits int) returns float8
language sql immutable strict parallel safe as
$$ select pg_catalog.round(value::numeric, digits)::float8 $$;
create function pg_redshift.date_cmp(a date, b date) returns int
language sql immutable strict parallel safe as $$ select sign(a - b)::int $$;
create function pg_redshift.timestamp_cmp(a timestamp, b timestamp) returns int
language sql immutable strict parallel safe as
$$ select sign(extract(epoch from a - b))::int $$;
create function pg_redshift.timeofday() returns varchar
language sql volatile as $$ select pg_catalog.timeofday()::varchar $$;

-- Texts.

create function pg_redshift.version() returns varchar
language sql stable parallel safe as $$
    select ('PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 '
        '(Red Hat 3.4.2-6.fc3), Redshift 1.0.0 (the stand-in, on ' || split_part(
            pg_catalog.version(), ' on ', 1) || ')')::varchar
$$;

create function pg_redshift.len(value varchar) returns int
language sql immutable strict parallel safe as $$ select char_length(value) $$;
create function pg_redshift.len(value varbyte) returns int
language sql immutable strict parallel safe as $$ select octet_length(value::bytea) $$;
create function pg_redshift.length(value varchar) returns int
language sql immutable strict parallel safe as $$ select char_length(value) $$;
-- Of a CHAR the blanks at the end are not counted; the cast to VARCHAR takes them away.
create function pg_redshift.octet_length(value varchar) returns int
language sql immutable strict parallel safe as $$ select pg_catalog.octet_length(value) $$;
create function pg_redshift.octet_length(value varbyte) returns int
language sql immutable strict parallel safe as
$$ select pg_catalog.octet_length(value::bytea) $$;
-- LEFT and RIGHT take no negative number; PostgreSQL would leave so many characters out.
create function pg_redshift.not_negative(number int) returns int
language plpgsql immutable strict parallel safe as $$
begin
    if number < 0 then
        raise exception 'the number of characters must not be negative: %', number
            using errcode = '22023';
    end if;
    return number;
end
$$;
create function pg_redshift.left(value varchar, number int) returns varchar
language sql immutable strict parallel safe as
$$ select pg_catalog.left(value, pg_redshift.not_negative(number))::varchar $$;
create function pg_redshift.right(value varchar, number int) returns varchar
language sql immutable strict parallel safe as
$$ select pg_catalog.right(value, pg_redshift.not_negative(number))::varchar $$;
create function pg_redshift.split_part(value varchar, delimiter varchar, part int) returns varchar
language plpgsql immutable strict parallel safe as $$
begin
    -- PostgreSQL would count from the end.
    if part < 1 then
        raise exception 'field position must be greater than zero' using errcode = '22023';
    end if;
    return pg_catalog.split_part(value, delimiter, part);
end
$$;
create function pg_redshift.charindex(part varchar, value varchar) returns int
language sql immutable strict parallel safe as $$ select strpos(value, part) $$;
create function pg_redshift.replicate(value varchar, number int) returns varchar
language sql immutable strict parallel safe as $$ select repeat(value, number)::varchar $$;
create function pg_redshift.regexp_replace(
    value varchar, pattern varchar, replacement varchar default '', start int default 1,
    parameters varchar default 'c'
) returns varchar language sql immutable strict parallel safe as $$
    -- PostgreSQL would replace the first match alone.
    select pg_catalog.regexp_replace(
        value, pattern, replacement, greatest(start, 1), 0,
        case when parameters like '%i%' then 'i' else '' end
    )::varchar
$$;
create function pg_redshift.regexp_count(
    value varchar, pattern varchar, start int default 1, parameters varchar default 'c'
) returns int language sql immutable strict parallel safe as $$
    select pg_catalog.regexp_count(
        value, pattern, greatest(start, 1), case when parameters like '%i%' then 'i' else '' end
    )
$$;
create function pg_redshift.regexp_instr(
    value varchar, pattern varchar, start int default 1, occurrence int default 1,
    option int default 0, parameters varchar default 'c'
) returns int language sql immutable strict parallel safe as $$
    select pg_catalog.regexp_instr(
        value, pattern, greatest(start, 1), occurrence, option,
        case when parameters like '%i%' then 'i' else '' end,
        case when parameters like '%e%' then 1 else 0 end
    )
$$;
create function pg_redshift.regexp_substr(
    value varchar, pattern varchar, start int default 1, occurrence int default 1,
    parameters varchar default 'c'
) returns varchar language sql immutable strict parallel safe as $$
    -- Redshift has an empty text where nothing matches.
    select coalesce(pg_catalog.regexp_substr(
        value, pattern, greatest(start, 1), occurrence,
        case when parameters like '%i%' then 'i' else '' end,
        case when parameters like '%e%' then 1 else 0 end
    ), '')::varchar
$$;
create function pg_redshift.strtol(value varchar, base int) returns bigint
language plpgsql immutable strict parallel safe as $$
declare
    digits text := lower(trim(value));
    negative boolean := left(digits, 1) = '-';
    total bigint := 0;
    place int;
begin
    if base not between 2 and 36 then
        raise exception 'invalid base %', base using errcode = '22023';
    end if;
    digits := ltrim(digits, '-+');
    if base = 16 and left(digits, 2) = '0x' then
        digits := substr(digits, 3);
    end if;
    for index in 1 .. length(digits) loop
        place := strpos('0123456789abcdefghijklmnopqrstuvwxyz', substr(digits, index, 1)) - 1;
        if place < 0 or place >= base then
            raise exception 'The input % is not valid to be converted to base %', value, base
                using errcode = '22023';
        end if;
        total := total * base + place;
    end loop;
    return case when negative then -total else total end;
end
$$;
create function pg_redshift.to_hex(value bigint) returns varchar
language sql immutable strict parallel safe as $$ select pg_catalog.to_hex(value)::varchar $$;
create function pg_redshift.to_hex(value varchar) returns varchar
language sql immutable strict parallel safe as
$$ select encode(convert_to(value, 'UTF8'), 'hex')::varchar $$;
create function pg_redshift.to_hex(value varbyte) returns varchar
language sql immutable strict parallel safe as $$ select encode(value::bytea, 'hex')::varchar $$;
create function pg_redshift.from_hex(value varchar) returns varbyte
language sql immutable strict parallel safe as $$ select decode(value, 'hex')::varbyte $$;
create function pg_redshift.to_varbyte(value varchar, format varchar) returns varbyte
language sql immutable strict parallel safe as $$
    select case lower(format)
        when 'hex' then decode(value, 'hex')
        when 'base64' then decode(value, 'base64')
        else convert_to(value, 'UTF8')
    end::varbyte
$$;
create function pg_redshift.from_varbyte(value varbyte, format varchar) returns varchar
language sql immutable strict parallel safe as $$
    select case lower(format)
        when 'hex' then encode(value::bytea, 'hex')
        when 'base64' then encode(value::bytea, 'base64')
        else convert_from(value::bytea, 'UTF8')
    end::varchar
$$;
create function pg_redshift.md5(value varchar) returns varchar
language sql immutable strict parallel safe as $$ select pg_catalog.md5(value)::varchar $$;
create function pg_redshift.sha2(value varchar, bits int) returns varchar
language sql immutable strict parallel safe as $$
    select encode(case bits
        when 224 then sha224(convert_to(value, 'UTF8'))
        when 384 then sha384(convert_to(value, 'UTF8'))
        when 512 then sha512(convert_to(value, 'UTF8'))
        when 0 then sha256(convert_to(value, 'UTF8'))
        when 256 then sha256(convert_to(value, 'UTF8'))
    end, 'hex')::varchar
$$;

-- Aggregates.

create aggregate pg_redshift.listagg(text, text) (
    sfunc = string_agg_transfn, stype = internal, finalfunc = string_agg_finalfn
);
create function pg_redshift.listagg_step(state text, value text) returns text
language sql immutable parallel safe as $$ select coalesce(state || value, value, state) $$;
create aggregate pg_redshift.listagg(text) (sfunc = pg_redshift.listagg_step, stype = text);

-- AVG of whole numbers is a whole number.
create function pg_redshift.avg_whole(state int8[]) returns bigint
language sql immutable strict parallel safe as
$$ select case state[1] when 0 then null else state[2] / state[1] end $$;
create aggregate pg_redshift.avg(int2) (
    sfunc = int2_avg_accum, stype = int8[], finalfunc = pg_redshift.avg_whole, initcond = '{0,0}'
);
create aggregate pg_redshift.avg(int4) (
    sfunc = int4_avg_accum, stype = int8[], finalfunc = pg_redshift.avg_whole, initcond = '{0,0}'
);
create function pg_redshift.avg_step(state numeric[], value int8) returns numeric[]
language plpgsql immutable strict parallel safe as $$
begin
    return array[state[1] + 1, state[2] + value];
end
$$;
create function pg_redshift.avg_whole(state numeric[]) returns bigint
language sql immutable strict parallel safe as
$$ select case state[1] when 0 then null else trunc(state[2] / state[1])::bigint end $$;
create aggregate pg_redshift.avg(int8) (
    sfunc = pg_redshift.avg_step, stype = numeric[], finalfunc = pg_redshift.avg_whole,
    initcond = '{0,0}'
);
-- AVG of decimals has the scale of its argument, which is that of their sum.
create function pg_redshift.avg_step(state numeric[], value numeric) returns numeric[]
language plpgsql immutable strict parallel safe as $$
begin
    return array[state[1] + 1, state[2] + value];
end
$$;
create function pg_redshift.avg_decimal(state numeric[]) returns numeric
language sql immutable strict parallel safe as $$
    select case state[1] when 0 then null else round(state[2] / state[1], scale(state[2])) end
$$;
create aggregate pg_redshift.avg(numeric) (
    sfunc = pg_redshift.avg_step, stype = numeric[], finalfunc = pg_redshift.avg_decimal,
    initcond = '{0,0}'
);
create aggregate pg_redshift.avg(float8) (
    sfunc = float8_accum, stype = float8[], finalfunc = float8_avg, initcond = '{0,0,0}'
);
create aggregate pg_redshift.avg(interval) (
    sfunc = interval_accum, stype = interval[], finalfunc = interval_avg,
    initcond = '{0 second,0 second}'
);

-- STDDEV and VARIANCE are floats of whatever they are given.
do $$
declare
    step record;
begin
    for step in
        select * from (values
            ('stddev', 'float8_stddev_samp'), ('stddev_samp', 'float8_stddev_samp'),
            ('stddev_pop', 'float8_stddev_pop'), ('variance', 'float8_var_samp'),
            ('var_samp', 'float8_var_samp'), ('var_pop', 'float8_var_pop')
        ) as steps(name, final)
    loop
        execute format(
            'create aggregate pg_redshift.%I(float8) (
                sfunc = float8_accum, stype = float8[], finalfunc = %s, initcond = ''{0,0,0}''
            )',
            step.name, step.final
        );
    end loop;
end
$$;

-- PERCENTILE_CONT has the type of what it orders, and lies between the two values around its place;
-- of days it takes the earlier one. MEDIAN is that of a half.
create function pg_redshift.around(
    state anyarray, percentile numeric,
    out low anyelement, out high anyelement, out share numeric
) language plpgsql immutable as $$
declare
    place numeric;
begin
    if percentile is null or percentile not between 0 and 1 then
        raise exception 'percentile value % is not between 0 and 1', percentile
            using errcode = '22003';
    end if;
    state := array(select value from unnest(state) as value where value is not null order by value);
    place := 1 + percentile * (cardinality(state) - 1);
    low := state[floor(place)::int];
    high := state[ceil(place)::int];
    share := place - floor(place);
end
$$;
do $$
declare
    step record;
begin
    for step in
        select * from (values
            ('int2', 'numeric', '(1 - share) * low + share * high'),
            ('int4', 'numeric', '(1 - share) * low + share * high'),
            ('int8', 'numeric', '(1 - share) * low + share * high'),
            ('numeric', 'numeric', '(1 - share) * low + share * high'),
            ('float4', 'float8', '(1 - share)::float8 * low + share::float8 * high'),
            ('float8', 'float8', '(1 - share)::float8 * low + share::float8 * high'),
            ('date', 'date', 'low + floor((high - low) * share)::int'),
            ('timestamp', 'timestamp', 'low + (high - low) * share::float8'),
            ('timestamptz', 'timestamptz', 'low + (high - low) * share::float8')
        ) as steps(type, gives, between_both)
    loop
        execute format(
            'create function pg_redshift.percentile(state %1$s[], percentile numeric) returns %2$s
            language sql immutable as ''
                select case share when 0 then low else %3$s end
                from pg_redshift.around(state, percentile)
            '';
            create aggregate pg_redshift.percentile_cont(numeric order by %1$s) (
                sfunc = array_append, stype = %1$s[], finalfunc = pg_redshift.percentile
            );
            create function pg_redshift.middle(state %1$s[]) returns %2$s
            language sql immutable as ''select pg_redshift.percentile(state, 0.5)'';
            create aggregate pg_redshift.median(%1$s) (
                sfunc = array_append, stype = %1$s[], finalfunc = pg_redshift.middle
            )',
            step.type, step.gives, step.between_both
        );
    end loop;
end
$$;

-- SUM of REAL is DOUBLE PRECISION: without a SUM of its own it is cast to that. SUM of BIGINT is
-- BIGINT, or overflows.
delete from pg_aggregate where aggfnoid = 'sum(float4)'::regprocedure;
delete from pg_proc where oid = 'sum(float4)'::regprocedure;
update pg_proc set prorettype = 'int8'::regtype where oid = 'sum(int8)'::regprocedure;
update pg_aggregate
set aggtransfn = 'int8pl', aggcombinefn = 'int8pl', aggtranstype = 'int8'::regtype,
    aggfinalfn = 0, aggserialfn = 0, aggdeserialfn = 0, aggmtransfn = 0, aggminvtransfn = 0,
    aggmfinalfn = 0, aggtransspace = 0, aggmtranstype = 0, aggmtransspace = 0
where aggfnoid = 'sum(int8)'::regprocedure;

-- FIRST_VALUE and LAST_VALUE … IGNORE NULLS: a strict step passes NULLs over.
create function pg_redshift.keep_first(state anyelement, value anyelement) returns anyelement
language sql immutable strict parallel safe as $$ select state $$;
create aggregate pg_redshift.first_value(anyelement) (
    sfunc = pg_redshift.keep_first, stype = anyelement
);
create aggregate pg_redshift.any_value(anyelement) (
    sfunc = pg_redshift.keep_first, stype = anyelement
);
create function pg_redshift.keep_last(state anyelement, value anyelement) returns anyelement
language sql immutable strict parallel safe as $$ select value $$;
create aggregate pg_redshift.last_value(anyelement) (
    sfunc = pg_redshift.keep_last, stype = anyelement
);

-- What Redshift knows of a table and PostgreSQL does not. A translated CREATE or ALTER carries it in
-- a comment, which the event trigger finds in the text of the statement.

create table pg_redshift.table_attributes (
    relation oid primary key,
    diststyle text,
    distkey smallint,
    sortstyle text,
    sortkeys smallint[] not null default '{}',
    encodings jsonb not null default '{}'
);
grant select on pg_redshift.table_attributes to public;

create function pg_redshift.column_number(relation oid, name text) returns smallint
language plpgsql stable as $$
declare
    number smallint := (
        select attnum from pg_attribute
        where attrelid = relation and attname = name and not attisdropped
    );
begin
    if number is null then
        raise exception 'column "%" named in key does not exist', name using errcode = '42703';
    end if;
    return number;
end
$$;

-- Keys are declared, not kept: they stand in pg_constraint, where tools look for them, without an
-- index or a trigger behind them. Deferrable, so that GROUP BY does not rely on them.
create function pg_redshift.declare_key(relation oid, key jsonb) returns void
language plpgsql security definer as $$
declare
    kind "char" := key ->> 'kind';
    numbers smallint[] := array(
        select pg_redshift.column_number(relation, name)
        from jsonb_array_elements_text(key -> 'columns') with ordinality as columns(name, place)
        order by place
    );
    target oid := coalesce((key ->> 'references')::regclass::oid, 0);
    referenced smallint[];
    constraint_name text := coalesce(key ->> 'name', (
        select relname || case kind when 'p' then '_pkey' when 'u'
            then '_' || (key -> 'columns' ->> 0) || '_key'
            else '_' || (key -> 'columns' ->> 0) || '_fkey' end
        from pg_class where oid = relation
    ));
    constraint_id oid;
begin
    if kind = 'p' then
        if exists (select from pg_constraint where conrelid = relation and contype = 'p') then
            raise exception 'multiple primary keys for table "%" are not allowed',
                relation::regclass using errcode = '42P16';
        end if;
        update pg_attribute set attnotnull = true
        where attrelid = relation and attnum = any(numbers) and not attnotnull;
    end if;
    if kind = 'f' then
        referenced := array(
            select pg_redshift.column_number(target, name)
            from jsonb_array_elements_text(key -> 'referenced') with ordinality
                as columns(name, place)
            order by place
        );
        if referenced = '{}' then
            referenced := (
                select conkey from pg_constraint where conrelid = target and contype = 'p'
            );
        end if;
        if referenced is null then
            raise exception 'there is no primary key for referenced table "%"', target::regclass
                using errcode = '42704';
        end if;
    end if;
    constraint_id := pg_nextoid('pg_constraint', 'oid', 'pg_constraint_oid_index');
    insert into pg_constraint (
        oid, conname, connamespace, contype, condeferrable, condeferred, convalidated, conrelid,
        contypid, conindid, conparentid, confrelid, confupdtype, confdeltype, confmatchtype,
        conislocal, coninhcount, connoinherit, conkey, confkey
    )
    select constraint_id, constraint_name, relnamespace, kind, true, false, true, relation,
        0, 0, 0, target, case kind when 'f' then 'a' else ' ' end,
        case kind when 'f' then 'a' else ' ' end, case kind when 'f' then 's' else ' ' end,
        true, 0, true, numbers, referenced
    from pg_class where oid = relation;
    -- It goes when its columns go, and a table that it refers to goes by CASCADE only.
    insert into pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
    select 'pg_constraint'::regclass, constraint_id, 0, 'pg_class'::regclass, relation, number, 'a'
    from unnest(numbers) as number
    union all
    select 'pg_constraint'::regclass, constraint_id, 0, 'pg_class'::regclass, target, number, 'n'
    from unnest(referenced) as number;
end
$$;

-- Redshift keeps rows in the order of the sort key and passes over the blocks that a query cannot
-- want. A B-tree on the leading column stands for that; catalog.sql hides it from clients. It is
-- made when there is something to pass over, at once and not row by row.
create function pg_redshift.index_sortkey(relation oid) returns void
language plpgsql security definer as $$
declare
    index_name text := 'redshift_sortkey_' || relation;
    first_key text := (
        select quote_ident(attname)
        from pg_redshift.table_attributes as attributes
        join pg_attribute on attrelid = attributes.relation and attnum = sortkeys[1]
        join pg_class on pg_class.oid = attributes.relation
        where attributes.relation = index_sortkey.relation
            -- A temporary table is read once.
            and relpersistence = 'p'
            -- An entry of a B-tree holds 2,704 bytes, and a longer text must not fail the INSERT.
            and (
                attlen > 0
                or atttypid = 'numeric'::regtype
                or atttypid in ('varchar'::regtype, 'bpchar'::regtype)
                    and atttypmod between 4 and 1028
            )
    );
begin
    if first_key is null or pg_relation_size(relation) < 8 * 1024 * 1024
        or exists (select from pg_class where relname = index_name)
    then
        return;
    end if;
    execute format('lock table %s in share mode nowait', relation::regclass);
    execute format('create index %I on %s (%s)', index_name, relation::regclass, first_key);
exception when lock_not_available then
    -- Somebody else is writing; the next large change makes it.
    return;
end
$$;
create function pg_redshift.drop_sortkey_index(relation oid) returns void
language plpgsql security definer as $$
begin
    execute (
        select format('drop index if exists %I.%I', nspname, 'redshift_sortkey_' || relation)
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = relation
    );
end
$$;

create function pg_redshift.remember(relation oid, said jsonb) returns void
language plpgsql security definer as $$
declare
    key jsonb;
begin
    insert into pg_redshift.table_attributes (relation) values (relation) on conflict do nothing;
    if said ? 'like' then
        update pg_redshift.table_attributes as made
        set diststyle = source.diststyle,
            distkey = source.distkey,
            sortstyle = source.sortstyle,
            sortkeys = source.sortkeys,
            encodings = source.encodings
        from pg_redshift.table_attributes as source
        where made.relation = remember.relation
            and source.relation = (said ->> 'like')::regclass::oid;
    end if;
    update pg_redshift.table_attributes as made
    set diststyle = coalesce(said ->> 'diststyle', made.diststyle),
        distkey = case
            when said ? 'distkey' then pg_redshift.column_number(remember.relation, said ->> 'distkey')
            when said ? 'diststyle' then null
            else made.distkey
        end,
        sortstyle = coalesce(said ->> 'sortstyle', made.sortstyle),
        sortkeys = case
            when said ? 'sortstyle' then array(
                select pg_redshift.column_number(remember.relation, name)
                from jsonb_array_elements_text(coalesce(said -> 'sortkeys', '[]')) with ordinality
                    as columns(name, place)
                order by place
            )
            else made.sortkeys
        end,
        encodings = made.encodings || coalesce((
            select jsonb_object_agg(pg_redshift.column_number(remember.relation, name), encoding)
            from jsonb_each_text(said -> 'encodings') as each(name, encoding)
        ), '{}')
    where made.relation = remember.relation;
    for key in select * from jsonb_array_elements(coalesce(said -> 'constraints', '[]')) loop
        perform pg_redshift.declare_key(relation, key);
    end loop;
    if said ? 'sortstyle' then
        perform pg_redshift.drop_sortkey_index(relation);
        perform pg_redshift.index_sortkey(relation);
    end if;
end
$$;

-- Redshift keeps its tables sorted and their statistics fresh by itself. Autovacuum would come too
-- late for the next statement, and never to a temporary table; a tenth of the rows is its threshold.
create function pg_redshift.rows_changed(name text, rows bigint) returns void
language plpgsql security definer as $$
declare
    relation regclass := (
        select oid from pg_class where oid = to_regclass(name) and relkind = 'r'
    );
begin
    perform pg_redshift.index_sortkey(relation);
    if rows >= (select reltuples / 10 from pg_class where oid = relation) then
        execute format('analyze (skip_locked) %s', relation);
    end if;
end
$$;

-- When the rows of a table were changed, for SYS_QUERY_DETAIL and for what is stale. What was rolled
-- back leaves no trace here.
create table pg_redshift.table_changes (
    id bigint generated always as identity,
    relation oid not null,
    step text not null,
    at timestamptz not null default statement_timestamp(),
    xid xid8 not null default pg_current_xact_id(),
    account oid not null
);
create index on pg_redshift.table_changes (relation);
create function pg_redshift.note_change(relation oid, steps text[], account name) returns void
language sql security definer as $$
    insert into pg_redshift.table_changes (relation, step, account)
    select relation, step, pg_authid.oid
    from unnest(steps) as step join pg_authid on rolname = account
$$;
create function pg_redshift.on_change() returns trigger language plpgsql as $$
begin
    -- An UPDATE is a deletion and an insertion.
    perform pg_redshift.note_change(tg_relid, case tg_op
        when 'INSERT' then '{insert}'::text[] when 'UPDATE' then '{delete,insert}' else '{delete}'
    end, current_user);
    return null;
end
$$;
create function pg_redshift.watch_changes(watched oid) returns void
language plpgsql as $$
begin
    if exists (
        select from pg_class where oid = watched and relpersistence = 'p' and relkind = 'r'
            and not exists (select from pg_trigger where tgrelid = watched)
    ) then
        execute format(
            'create trigger redshift_changes after insert or update or delete or truncate on %s
            for each statement execute function pg_redshift.on_change()',
            watched::regclass
        );
    end if;
end
$$;

-- A materialized view is, as in Redshift, a view of a table named mv_tbl__…__0, which keeps its rows.
create table pg_redshift.materialized_views (
    view oid primary key,
    storage oid not null,
    definition text not null,
    auto_refresh boolean not null,
    state int not null,
    -- What its rows were made of: everything that this transaction saw, and did before this change.
    seen pg_snapshot not null,
    xid xid8 not null,
    changes bigint not null
);
grant select on pg_redshift.materialized_views, pg_redshift.table_changes to public;

create function pg_redshift.note_refresh(
    view oid, storage oid, definition text, auto_refresh boolean, state int
) returns void language sql security definer as $$
    insert into pg_redshift.materialized_views
    select view, storage, definition, auto_refresh, state, pg_current_snapshot(),
        pg_current_xact_id(), (select coalesce(max(id), 0) from pg_redshift.table_changes)
    on conflict on constraint materialized_views_pkey do update
    set seen = excluded.seen, xid = excluded.xid, changes = excluded.changes
$$;
create function pg_redshift.set_auto_refresh(changed oid, wanted boolean) returns void
language sql security definer as $$
    update pg_redshift.materialized_views set auto_refresh = wanted where view = changed
$$;
create function pg_redshift.forget_materialized_view(dropped oid) returns void
language sql security definer as $$
    delete from pg_redshift.materialized_views where view = dropped
$$;

create function pg_redshift.materialized_view(name text)
returns pg_redshift.materialized_views language plpgsql stable as $$
declare
    found_view pg_redshift.materialized_views;
begin
    select * into found_view from pg_redshift.materialized_views where view = to_regclass(name);
    if found_view is null then
        raise exception 'materialized view % does not exist', name using errcode = '42P01';
    end if;
    if not pg_has_role((select relowner from pg_class where oid = found_view.view), 'usage') then
        raise exception 'must be owner of materialized view %', name using errcode = '42501';
    end if;
    return found_view;
end
$$;
-- What the page on CREATE MATERIALIZED VIEW excludes, as far as the words of the query do not show it.
create function pg_redshift.refuse_sources(made oid) returns void
language plpgsql as $$
declare
    refused regclass := (
        select source.oid
        from pg_rewrite
        join pg_depend as dependency
            on dependency.classid = 'pg_rewrite'::regclass and dependency.objid = pg_rewrite.oid
            and dependency.refclassid = 'pg_class'::regclass
        join pg_class as source on source.oid = dependency.refobjid
        left join pg_redshift.materialized_views on view = source.oid
        where ev_class = made and source.oid <> made
            and (source.relkind = 'v' and view is null or source.oid < 16384)
        limit 1
    );
begin
    if refused is not null then
        raise exception 'A materialized view cannot read %: it is a view or belongs to the system',
            refused using errcode = '0A000';
    end if;
end
$$;
create procedure pg_redshift.create_materialized_view(
    place text, name text, query text, definition text, auto_refresh boolean, state int, said jsonb
) language plpgsql as $$
declare
    storage text := place || quote_ident('mv_tbl__' || name || '__0');
    view text := place || quote_ident(name);
begin
    if octet_length(name) > 52 then
        raise exception 'The name "%" is too long for a materialized view of the stand-in: 52 bytes',
            name using errcode = '0A000';
    end if;
    if to_regclass(view) is not null then
        raise exception 'relation "%" already exists', name using errcode = '42P07';
    end if;
    execute format('create materialized view %s as %s', storage, query);
    perform pg_redshift.refuse_sources(storage::regclass);
    perform pg_redshift.refuse_intervals(storage::regclass);
    execute format('create view %s as select * from %s', view, storage);
    perform pg_redshift.remember(storage::regclass, said);
    perform pg_redshift.note_change(storage::regclass, '{insert}', current_user);
    perform pg_redshift.note_refresh(
        view::regclass, storage::regclass, definition, auto_refresh, state
    );
end
$$;
create procedure pg_redshift.refresh_materialized_view(name text) language plpgsql as $$
declare
    refreshed pg_redshift.materialized_views := pg_redshift.materialized_view(name);
begin
    execute format('refresh materialized view %s', refreshed.storage::regclass);
    perform pg_redshift.note_change(
        refreshed.storage, '{delete,insert}', current_user
    );
    perform pg_redshift.note_refresh(
        refreshed.view, refreshed.storage, refreshed.definition, refreshed.auto_refresh,
        refreshed.state
    );
end
$$;
create procedure pg_redshift.alter_materialized_view(name text, auto_refresh boolean)
language plpgsql as $$
begin
    perform pg_redshift.set_auto_refresh(
        (pg_redshift.materialized_view(name)).view, auto_refresh
    );
end
$$;
create procedure pg_redshift.drop_materialized_view(name text, if_exists boolean, option text)
language plpgsql as $$
declare
    dropped pg_redshift.materialized_views;
begin
    if if_exists and to_regclass(name) is null then
        return;
    end if;
    dropped := pg_redshift.materialized_view(name);
    perform pg_redshift.forget_materialized_view(dropped.view);
    execute format('drop view %s %s', dropped.view::regclass, option);
    execute format('drop materialized view %s', dropped.storage::regclass);
end
$$;

-- A table's definition is checked by the proxy; what a query would make is seen here.
create function pg_redshift.refuse_intervals(relation oid) returns void
language plpgsql as $$
declare
    column_name name := (
        select attname from pg_attribute
        where attrelid = relation and atttypid = 'interval'::regtype limit 1
    );
begin
    if column_name is not null then
        raise exception 'Column "%.%" has unsupported type "interval".',
            relation::regclass, column_name using errcode = '0A000';
    end if;
end
$$;
create function pg_redshift.on_ddl() returns event_trigger language plpgsql as $$
declare
    said text := substring(current_query() from '/[*]redshift ([^*]*)[*]/');
    command record;
begin
    if tg_tag = 'ALTER TABLE' and exists (
        select from pg_redshift.materialized_views
        join pg_class as shown on shown.oid = view
        join pg_class as stored on stored.oid = storage
        where stored.relname <> 'mv_tbl__' || shown.relname || '__0'
    ) then
        raise exception 'A materialized view cannot be renamed' using errcode = '0A000';
    end if;
    for command in select * from pg_event_trigger_ddl_commands() where object_type = 'table' loop
        if said is not null then
            perform pg_redshift.remember(command.objid, said::jsonb);
        end if;
        perform pg_redshift.watch_changes(command.objid);
        if tg_tag in ('CREATE TABLE AS', 'SELECT INTO') then
            perform pg_redshift.refuse_intervals(command.objid);
            perform pg_redshift.note_change(command.objid, '{insert}', current_user);
            execute format('analyze %s', command.objid::regclass);
        end if;
    end loop;
end
$$;
create function pg_redshift.on_drop() returns event_trigger
language plpgsql security definer as $$
declare
    attributes pg_redshift.table_attributes;
    dropped record;
begin
    for dropped in select * from pg_event_trigger_dropped_objects() where object_type = 'table column'
    loop
        select * into attributes from pg_redshift.table_attributes where relation = dropped.objid;
        if dropped.objsubid = attributes.distkey then
            raise exception 'cannot drop distkey column "%"', dropped.address_names[3];
        elsif dropped.objsubid = any(attributes.sortkeys) then
            raise exception 'cannot drop sortkey column "%"', dropped.address_names[3];
        end if;
    end loop;
    if exists (
        select from pg_redshift.materialized_views
        join pg_class on pg_class.oid = storage
        where view in (select objid from pg_event_trigger_dropped_objects() where objsubid = 0)
    ) then
        raise exception 'A materialized view goes by DROP MATERIALIZED VIEW'
            using errcode = '42809';
    end if;
    delete from pg_redshift.table_attributes
    where relation in (select objid from pg_event_trigger_dropped_objects() where objsubid = 0);
    delete from pg_redshift.materialized_views
    where view in (select objid from pg_event_trigger_dropped_objects() where objsubid = 0);
    delete from pg_redshift.table_changes
    where relation in (select objid from pg_event_trigger_dropped_objects() where objsubid = 0);
end
$$;
grant execute on all functions in schema pg_redshift to public;
create event trigger redshift_ddl on ddl_command_end
when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE')
execute function pg_redshift.on_ddl();
create event trigger redshift_drop on sql_drop
when tag in (
    'ALTER TABLE', 'DROP TABLE', 'DROP VIEW', 'DROP MATERIALIZED VIEW', 'DROP SCHEMA', 'DROP OWNED'
)
execute function pg_redshift.on_drop();

-- ALTER TABLE … APPEND moves the rows of columns with the same names.
create procedure pg_redshift.append(target regclass, source regclass, option text)
language plpgsql as $$
declare
    shared text;
    extra text;
    missing text;
begin
    select string_agg(quote_ident(attname), ', ' order by attnum) filter (where in_target),
        string_agg(attname, ', ') filter (where not in_target)
    into shared, extra
    from (
        select attname, attnum, exists (
            select from pg_attribute as t
            where t.attrelid = target and t.attname = s.attname and t.attnum > 0
                and not t.attisdropped
        ) as in_target
        from pg_attribute as s
        where s.attrelid = source and s.attnum > 0 and not s.attisdropped
    ) as columns;
    select string_agg(t.attname, ', ') into missing
    from pg_attribute as t
    where t.attrelid = target and t.attnum > 0 and not t.attisdropped
        and not exists (
            select from pg_attribute as s
            where s.attrelid = source and s.attname = t.attname and s.attnum > 0
                and not s.attisdropped
        );
    if extra is not null and option <> 'ignoreextra' then
        raise exception 'Columns % exist in the source table and not in the target', extra
            using errcode = '42P16', hint = 'IGNOREEXTRA discards them.';
    end if;
    if missing is not null and option <> 'filltarget' then
        raise exception 'Columns % exist in the target table and not in the source', missing
            using errcode = '42P16', hint = 'FILLTARGET fills them.';
    end if;
    execute format('insert into %s (%s) select %s from %s', target, shared, shared, source);
    execute format('delete from %s', source);
end
$$;

-- A late-binding view asks its query anew each time, so it outlives the tables that it reads. Its
-- columns are those of the day it was made.
create function pg_redshift.late_rows(query text) returns setof record
language plpgsql stable as $$
begin
    return query execute query;
end
$$;
create procedure pg_redshift.create_late_binding_view(
    name text, columns text, query text, or_replace boolean
) language plpgsql as $$
declare
    described text;
    selected text;
begin
    execute format('create temporary view late_binding_probe%s as %s', columns, query);
    select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', '
            order by attnum),
        string_agg(format('%I::%s', attname, format_type(atttypid, atttypmod)), ', '
            order by attnum)
    into described, selected
    from pg_attribute
    where attrelid = 'pg_temp.late_binding_probe'::regclass and attnum > 0;
    drop view pg_temp.late_binding_probe;
    execute format('create %s view %s as select * from pg_redshift.late_rows(%L) as rows(%s)',
        case when or_replace then 'or replace' else '' end, name,
        format('select %s from (%s) as late%s', selected, query, columns), described);
end
$$;
