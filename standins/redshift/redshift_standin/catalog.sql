-- Redshift's system views, as far as dbt-redshift, redshift_connector, Airflow's hooks and the
-- loader ask for them. They stand in pg_catalog, so they need no schema, and so does theirs.

set allow_system_table_mods = on;
set client_min_messages = warning;

create function pg_redshift.is_late_binding(relation oid) returns boolean
language sql stable parallel safe as $$
    select exists (
        select from pg_rewrite as rule
        join pg_depend as dependency
            on dependency.classid = 'pg_rewrite'::regclass and dependency.objid = rule.oid
        where rule.ev_class = relation
            and dependency.refclassid = 'pg_proc'::regclass
            and dependency.refobjid = 'pg_redshift.late_rows'::regproc
    )
$$;

-- What a query on the catalog reads instead of the tables of the same names (see query.py): Redshift
-- has no indexes on users' tables, so the one behind a sort key is left out, and it still has columns
-- of PostgreSQL 8.
do $$
begin
    execute (
        select format(
            'create view pg_redshift.pg_class as select %s, false as relhasoids
            from pg_catalog.pg_class where relkind <> ''i'' or oid < 16384',
            string_agg(
                case attname::text
                    when 'relhasindex' then 'relhasindex and oid < 16384 as relhasindex'
                    when 'relhastriggers' then 'false as relhastriggers'
                    -- What keeps the rows of a materialized view is a table.
                    when 'relkind' then
                        'case relkind when ''m'' then ''r''::"char" else relkind end as relkind'
                    else attname::text
                end,
                ', ' order by attnum
            )
        )
        from pg_attribute where attrelid = 'pg_class'::regclass and attnum > 0
    );
end
$$;
-- With the keys of Redshift's tables; PostgreSQL's attmissingval can be in no view.
do $$
begin
    execute (
        select format(
            'create view pg_redshift.pg_attribute as
            select %s,
                coalesce(attnum = distkey, false) as attisdistkey,
                coalesce(array_position(sortkeys, attnum), 0)
                    * case when sortstyle = ''INTERLEAVED'' and attnum %% 2 = 0 then -1 else 1 end
                    as attsortkeyord
            from pg_catalog.pg_attribute
            left join pg_redshift.table_attributes on relation = attrelid',
            string_agg(attname, ', ' order by attnum)
        )
        from pg_attribute
        where attrelid = 'pg_attribute'::regclass and attnum > 0 and attname <> 'attmissingval'
    );
end
$$;
create view pg_redshift.pg_views as
select schemaname, viewname, viewowner, coalesce(views.definition, pg_views.definition) as definition
from pg_catalog.pg_views
join pg_namespace on nspname = schemaname
join pg_catalog.pg_class on relnamespace = pg_namespace.oid and relname = viewname
left join pg_redshift.materialized_views as views on view = pg_class.oid;
create view pg_redshift.pg_index as
select * from pg_catalog.pg_index where indexrelid < 16384;
create view pg_redshift.pg_proc as
select *, prokind = 'a' as proisagg from pg_catalog.pg_proc;
create view pg_redshift.pg_indexes as
select * from pg_catalog.pg_indexes where schemaname = 'pg_catalog';

-- Users' tables and views, with the rows of pg_class that belong to PostgreSQL left out.
create view pg_redshift.relations as
select
    relation.oid,
    relation.relname,
    case when materialized.view is null then relation.relkind else 'm' end as relkind,
    relation.relowner,
    stored.reltuples,
    stored.oid as storage,
    namespace.nspname,
    attributes.diststyle,
    attributes.distkey,
    attributes.sortstyle,
    coalesce(attributes.sortkeys, '{}') as sortkeys,
    coalesce(attributes.encodings, '{}') as encodings,
    relation.relkind = 'v' and pg_redshift.is_late_binding(relation.oid) as is_late_binding
from pg_class as relation
join pg_namespace as namespace on namespace.oid = relation.relnamespace
left join pg_redshift.materialized_views as materialized on materialized.view = relation.oid
join pg_class as stored on stored.oid = coalesce(materialized.storage, relation.oid)
left join pg_redshift.table_attributes as attributes on attributes.relation = stored.oid
where relation.relkind in ('r', 'p', 'v', 'f')
    and namespace.nspname not in ('pg_catalog', 'information_schema', 'pg_redshift', 'pg_toast')
    and namespace.nspname not like 'pg!_temp!_%' escape '!';

create view pg_redshift.columns as
select
    relations.*,
    attribute.attname,
    attribute.attnum,
    attribute.attnotnull,
    attribute.atttypid,
    attribute.atttypmod,
    format_type(attribute.atttypid, attribute.atttypmod) as column_type,
    case
        when attribute.atttypid in ('varchar'::regtype, 'bpchar'::regtype, 'varbyte'::regtype)
            and attribute.atttypmod > 4 then attribute.atttypmod - 4
    end as length,
    case
        when attribute.atttypid = 'numeric'::regtype and attribute.atttypmod > 4
            then (attribute.atttypmod - 4) >> 16
        when attribute.atttypid = 'int2'::regtype then 16
        when attribute.atttypid = 'int4'::regtype then 32
        when attribute.atttypid = 'int8'::regtype then 64
    end as precision,
    case
        when attribute.atttypid = 'numeric'::regtype and attribute.atttypmod > 4
            then (attribute.atttypmod - 4) & 2047
        when attribute.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then 0
    end as scale,
    pg_get_expr(value.adbin, value.adrelid) as column_default,
    col_description(relations.oid, attribute.attnum) as remarks,
    coalesce(
        relations.encodings ->> attribute.attnum::text,
        case
            when attribute.attnum = any(relations.sortkeys) then 'none'
            when attribute.atttypid in (
                'bool'::regtype, 'float4'::regtype, 'float8'::regtype
            ) then 'none'
            when attribute.atttypid in ('varchar'::regtype, 'bpchar'::regtype) then 'lzo'
            when attribute.atttypid in ('super'::regtype, 'varbyte'::regtype) then 'zstd'
            else 'az64'
        end
    ) as encoding
from pg_redshift.relations as relations
join pg_attribute as attribute
    on attribute.attrelid = relations.oid and attribute.attnum > 0 and not attribute.attisdropped
left join pg_attrdef as value
    on value.adrelid = relations.oid and value.adnum = attribute.attnum;

create view pg_catalog.pg_table_def as
select
    nspname as schemaname,
    relname as tablename,
    attname as "column",
    column_type::text as type,
    encoding::character(32) as encoding,
    coalesce(attnum = distkey, false) as distkey,
    coalesce(array_position(sortkeys, attnum), 0)
        * case when sortstyle = 'INTERLEAVED' and attnum % 2 = 0 then -1 else 1 end as sortkey,
    attnotnull as "notnull"
from pg_redshift.columns
where relkind in ('r', 'p') and nspname = any(current_schemas(false));

create view pg_catalog.svv_table_info as
select
    current_database()::text as database,
    nspname::text as "schema",
    oid as table_id,
    relname::text as "table",
    'Y'::text as encoded,
    (case
        when diststyle = 'KEY' then 'KEY(' || (
            select attname from pg_attribute
            where attrelid = relations.oid and attnum = relations.distkey
        ) || ')'
        when diststyle is null or diststyle = 'AUTO' then 'AUTO(EVEN)'
        else diststyle
    end)::text as diststyle,
    (case
        when sortstyle = 'AUTO' or sortstyle is null then 'AUTO(SORTKEY)'
        when sortkeys = '{}' then null
        when sortstyle = 'INTERLEAVED' then 'INTERLEAVED'
        else (
            select attname from pg_attribute
            where attrelid = relations.oid and attnum = relations.sortkeys[1]
        )
    end)::text as sortkey1,
    coalesce((
        select max(length) from pg_redshift.columns as columns
        where columns.oid = relations.oid and columns.atttypid = 'varchar'::regtype
    ), 0) as max_varchar,
    'none'::character(32) as sortkey1_enc,
    cardinality(sortkeys) as sortkey_num,
    (pg_relation_size(storage) / 1048576)::bigint as size,
    0::numeric(10, 4) as pct_used,
    0::bigint as empty,
    0::numeric(5, 2) as unsorted,
    0::numeric(5, 2) as stats_off,
    greatest(reltuples, pg_stat_get_live_tuples(storage))::numeric(38, 0) as tbl_rows,
    null::numeric(19, 2) as skew_sortkey1,
    null::numeric(19, 2) as skew_rows,
    greatest(reltuples, pg_stat_get_live_tuples(storage))::numeric(38, 0) as estimated_visible_rows,
    ''::text as risk_event,
    0::numeric(12, 2) as vacuum_sort_benefit,
    null::timestamp as create_time
from pg_redshift.relations as relations
where relkind in ('r', 'p', 'm');

create view pg_catalog.svv_tables as
select
    current_database()::varchar as table_catalog,
    nspname::varchar as table_schema,
    relname::varchar as table_name,
    (case when relkind in ('v', 'm') then 'VIEW' else 'BASE TABLE' end)::varchar as table_type,
    obj_description(oid, 'pg_class')::varchar as remarks
from pg_redshift.relations;

create view pg_catalog.svv_all_tables as
select
    current_database()::varchar as database_name,
    nspname::varchar as schema_name,
    relname::varchar as table_name,
    (case when relkind in ('v', 'm') then 'VIEW' else 'TABLE' end)::varchar as table_type,
    null::varchar as table_acl,
    obj_description(oid, 'pg_class')::varchar as remarks
from pg_redshift.relations;
create view pg_catalog.svv_redshift_tables as select * from svv_all_tables;

create view pg_catalog.svv_all_columns as
select
    current_database()::varchar as database_name,
    nspname::varchar as schema_name,
    relname::varchar as table_name,
    attname::varchar as column_name,
    attnum::int as ordinal_position,
    column_default::varchar as column_default,
    (case when attnotnull then 'NO' else 'YES' end)::varchar as is_nullable,
    format_type(atttypid, null)::varchar as data_type,
    length as character_maximum_length,
    precision as numeric_precision,
    scale as numeric_scale,
    remarks::varchar as remarks
from pg_redshift.columns;
create view pg_catalog.svv_columns as
select
    database_name as table_catalog,
    schema_name as table_schema,
    table_name,
    column_name,
    ordinal_position,
    column_default,
    is_nullable,
    data_type,
    character_maximum_length,
    numeric_precision,
    null::int as numeric_precision_radix,
    numeric_scale,
    null::int as datetime_precision,
    null::varchar as interval_type,
    null::varchar as interval_precision,
    null::varchar as character_set_catalog,
    null::varchar as character_set_schema,
    null::varchar as character_set_name,
    null::varchar as collation_catalog,
    null::varchar as collation_schema,
    null::varchar as collation_name,
    null::varchar as domain_name,
    remarks
from svv_all_columns;
create view pg_catalog.svv_redshift_columns as
select
    current_database()::varchar as database_name,
    nspname::varchar as schema_name,
    relname::varchar as table_name,
    attname::varchar as column_name,
    attnum::int as ordinal_position,
    (case when atttypid = 'numeric'::regtype and precision is not null
        then 'numeric(' || precision || ',' || scale || ')'
        else column_type
    end)::varchar as data_type,
    column_default::varchar as column_default,
    (case when attnotnull then 'NO' else 'YES' end)::varchar as is_nullable,
    encoding::varchar as encoding,
    coalesce(attnum = distkey, false) as distkey,
    coalesce(array_position(sortkeys, attnum), 0)
        * case when sortstyle = 'INTERLEAVED' and attnum % 2 = 0 then -1 else 1 end as sortkey,
    null::varchar as column_acl,
    remarks::varchar as remarks
from pg_redshift.columns;

create view pg_catalog.svv_all_schemas as
select
    current_database()::varchar as database_name,
    nspname::varchar as schema_name,
    nspowner::int as schema_owner,
    'local'::varchar as schema_type,
    null::varchar as schema_acl,
    null::varchar as source_database,
    null::varchar as schema_option
from pg_namespace
where nspname not in ('pg_redshift', 'pg_toast') and nspname not like 'pg!_%temp!_%' escape '!';
create view pg_catalog.svv_redshift_schemas as
select database_name, schema_name, schema_owner, schema_type, schema_acl, schema_option
from svv_all_schemas;
create view pg_catalog.stv_db_isolation_level as
select
    datname::character(128) as db_name,
    (case when exists (
        select from pg_db_role_setting
        where setdatabase = pg_database.oid and setrole = 0
            and 'default_transaction_isolation=serializable' = any(setconfig)
    ) then 'Serializable' else 'Snapshot Isolation' end)::character(20) as isolation_level
from pg_database where not datistemplate;
create view pg_catalog.svv_redshift_databases as
select
    datname::varchar as database_name,
    datdba::int as database_owner,
    'local'::varchar as database_type,
    null::varchar as database_acl,
    null::varchar as database_options,
    rtrim(isolation_level)::varchar as database_isolation_level
from pg_database
join stv_db_isolation_level on db_name = datname
where not datistemplate;

-- There is nothing external here.
create view pg_catalog.svv_external_schemas as
select null::int as esoid, null::smallint as eskind, null::text as schemaname, null::int as esowner,
    null::text as databasename, null::text as esoptions
where false;
create view pg_catalog.svv_external_tables as
select null::text as redshift_database_name, null::text as schemaname, null::text as tablename,
    null::varchar as tabletype, null::text as location, null::text as input_format,
    null::text as output_format, null::text as serialization_lib, null::text as serde_parameters,
    null::int as compressed, null::text as parameters
where false;
create view pg_catalog.svv_external_columns as
select null::text as redshift_database_name, null::text as schemaname, null::text as tablename,
    null::text as columnname, null::text as external_type, null::int as columnnum,
    null::int as part_key, null::varchar as is_nullable
where false;
create view pg_catalog.svv_external_databases as
select null::int as eskind, null::text as databasename, null::text as location,
    null::text as parameters
where false;
-- Whether a table has changed since a materialized view was made of it. A view in between, another
-- materialized one, is stale when it has been refreshed since.
create view pg_redshift.stale_views as
select distinct materialized.view
from pg_redshift.materialized_views as materialized
join pg_rewrite on pg_rewrite.ev_class = materialized.storage
join pg_depend as dependency
    on dependency.classid = 'pg_rewrite'::regclass and dependency.objid = pg_rewrite.oid
    and dependency.refclassid = 'pg_class'::regclass
left join pg_redshift.materialized_views as source on source.view = dependency.refobjid
join pg_redshift.table_changes as change
    on change.relation = coalesce(source.storage, dependency.refobjid)
where change.relation <> materialized.storage
    and not pg_visible_in_snapshot(change.xid, materialized.seen)
    and not (change.xid = materialized.xid and change.id <= materialized.changes);
create view pg_catalog.svv_mv_info as
select
    current_database()::char(128) as database_name,
    nspname::char(128) as schema_name,
    pg_get_userbyid(relowner)::char(128) as user_name,
    relname::char(128) as name,
    (case when exists (
        select from pg_redshift.stale_views where stale_views.view = relations.oid
    ) then 't' else 'f' end)::char(1) as is_stale,
    materialized.state,
    (case when auto_refresh then 't' else 'f' end)::char(1) as autorefresh,
    'f'::char(1) as autorewrite
from pg_redshift.relations as relations
join pg_redshift.materialized_views as materialized on materialized.view = relations.oid;

-- Privileges.
create view pg_catalog.svv_relation_privileges as
select
    namespace.nspname::text as namespace_name,
    relation.relname::text as relation_name,
    privilege.privilege_type::text as privilege_type,
    coalesce(role.oid, 0)::int as identity_id,
    coalesce(role.rolname, 'public')::text as identity_name,
    (case
        when role.oid is null then 'public' when role.rolcanlogin then 'user'
        -- CREATE GROUP is marked by it: see ddl.py.
        when not role.rolinherit then 'group' else 'role'
    end)::text as identity_type,
    privilege.is_grantable as admin_option
from pg_class as relation
join pg_namespace as namespace on namespace.oid = relation.relnamespace
cross join lateral aclexplode(relation.relacl) as privilege
left join pg_roles as role on role.oid = privilege.grantee
where relation.relkind in ('r', 'p', 'v', 'm')
    and privilege.privilege_type <> 'TRIGGER'
    and namespace.nspname not in ('pg_catalog', 'information_schema', 'pg_redshift');

-- Loads.
create table pg_catalog.stl_load_errors (
    userid int, slice int, tbl bigint, starttime timestamp, session int, query int,
    filename character varying, line_number bigint, colname character varying,
    type character varying, col_length character varying, position int,
    raw_line character varying, raw_field_value character varying, err_code int,
    err_reason character varying, is_partial int, start_offset bigint, copy_job_id bigint
);
create table pg_catalog.stl_load_commits (
    userid int, query int, slice int, name character varying, filename character varying,
    byte_offset int, lines_scanned int, errors int, curtime timestamp, status int,
    file_format character varying, is_partial int, start_offset bigint, copy_job_id bigint
);
create view pg_catalog.sys_load_error_detail as
select
    userid as user_id,
    query::bigint as query_id,
    null::bigint as transaction_id,
    session as session_id,
    current_database()::varchar as database_name,
    tbl as table_id,
    starttime as start_time,
    filename as file_name,
    line_number,
    colname as column_name,
    type as column_type,
    col_length as column_length,
    position,
    err_code as error_code,
    err_reason as error_message
from stl_load_errors;
create view pg_catalog.sys_load_history as
select
    userid as user_id,
    query::bigint as query_id,
    null::bigint as transaction_id,
    null::int as session_id,
    current_database()::varchar as database_name,
    'completed'::varchar as status,
    null::varchar as table_name,
    curtime as start_time,
    curtime as end_time,
    name as data_source,
    file_format,
    lines_scanned::bigint as loaded_rows,
    null::bigint as loaded_bytes,
    1::bigint as source_file_count,
    null::bigint as source_file_bytes,
    errors::bigint as error_count
from stl_load_commits;
grant select on stl_load_errors, stl_load_commits to public;

-- Queries: what runs now.
create view pg_catalog.stv_recents as
select
    usesysid::int as userid,
    (case when state = 'active' then 'Running' else 'Done' end)::varchar as status,
    query_start::timestamp as starttime,
    (extract(epoch from clock_timestamp() - query_start) * 1000000)::bigint as duration,
    usename::varchar as user_name,
    datname::varchar as db_name,
    query::varchar(600) as query,
    pid
from pg_stat_activity where datname = current_database();
create view pg_catalog.stv_sessions as
select backend_start::timestamp as starttime, pid as process, usename::varchar as user_name,
    datname::varchar as db_name, 0 as timeout_sec
from pg_stat_activity where datname is not null;
create view pg_catalog.stv_mv_info as
select database_name as db_name, schema_name as schema, name, 0 as updated_upto_xid, is_stale,
    user_name as owner_user_name, state, autorefresh, autorewrite
from svv_mv_info;
create view pg_catalog.stl_undone as
select null::int as userid, null::int as xact_id, null::int as xact_id_undone,
    null::timestamp as undo_start_ts, null::timestamp as undo_end_ts, null::int as table_id
where false;
create view pg_catalog.sys_query_detail as
select
    account::int as user_id,
    id as query_id,
    relation::int as table_id,
    step::varchar as step_name,
    relation::regclass::char(136) as table_name,
    (at at time zone 'UTC')::timestamp as start_time,
    (at at time zone 'UTC')::timestamp as end_time
from pg_redshift.table_changes;

create view pg_catalog.pg_proc_info as
select oid as prooid, proname, pronamespace, proowner, prolang, prosecdef, proisstrict, proretset,
    provolatile, pronargs, prorettype, proargtypes, proargnames, prosrc, prokind
from pg_proc;

create function pg_catalog.pg_last_copy_count() returns bigint
language sql stable as $$
    select coalesce(nullif(current_setting('redshift.last_copy_count', true), ''), '0')::bigint
$$;
create function pg_catalog.pg_last_copy_id() returns int
language sql stable as $$
    select coalesce(nullif(current_setting('redshift.last_copy_id', true), ''), '-1')::int
$$;
create function pg_catalog.pg_last_query_id() returns int
language sql stable as $$ select -1 $$;

create function pg_catalog.pg_get_late_binding_view_cols() returns setof record
language sql stable as $$
    select nspname, relname, attname, column_type::varchar, attnum::int
    from pg_redshift.columns
    where is_late_binding
$$;

-- A late-binding view's columns are not in the information schema, and neither is what is here.
alter view information_schema.columns rename to all_columns;
create view information_schema.columns as
select *
from information_schema.all_columns
where table_schema <> 'pg_redshift'
    and not exists (
        select from pg_redshift.relations as relations
        where relations.is_late_binding and relations.nspname = all_columns.table_schema
            and relations.relname = all_columns.table_name
    );
grant select on information_schema.columns to public;
alter view information_schema.views rename to all_views;
create view information_schema.views as
select
    table_catalog, table_schema, table_name,
    coalesce(
        definition::information_schema.character_data, view_definition
    )::information_schema.character_data as view_definition,
    check_option, is_updatable
from information_schema.all_views
join pg_namespace on nspname = table_schema
join pg_class on relnamespace = pg_namespace.oid and relname = table_name
left join pg_redshift.materialized_views on view = pg_class.oid
where table_schema <> 'pg_redshift';
grant select on information_schema.views to public;

-- What SHOW lists.
create view pg_redshift.show_tables as
select
    current_database()::varchar as database_name,
    nspname::varchar as schema_name,
    relname::varchar as table_name,
    (case when relkind in ('v', 'm') then 'VIEW' else 'TABLE' end)::varchar as table_type,
    null::varchar as table_acl,
    obj_description(oid, 'pg_class')::varchar as remarks,
    pg_get_userbyid(relowner)::varchar as owner,
    null::timestamp as last_altered_time,
    (
        select max(at) at time zone 'UTC' from pg_redshift.table_changes
        where relation = storage and step = 'insert'
    )::timestamp as last_modified_time,
    diststyle::varchar as dist_style,
    (case
        when is_late_binding then 'LATE BINDING VIEW'
        when relkind = 'm' then 'MATERIALIZED VIEW'
        when relkind = 'v' then 'REGULAR VIEW'
        else 'REGULAR TABLE'
    end)::varchar as table_subtype
from pg_redshift.relations;
create view pg_redshift.show_schemas as
select database_name, schema_name, pg_get_userbyid(schema_owner::oid)::varchar as schema_owner,
    schema_type, schema_acl, source_database, schema_option
from svv_all_schemas;
create view pg_redshift.show_columns as
select
    current_database()::varchar as database_name,
    nspname::varchar as schema_name,
    relname::varchar as table_name,
    attname::varchar as column_name,
    attnum::int as ordinal_position,
    column_default::varchar as column_default,
    (case when attnotnull then 'NO' else 'YES' end)::varchar as is_nullable,
    format_type(atttypid, null)::varchar as data_type,
    length as character_maximum_length,
    precision as numeric_precision,
    scale as numeric_scale,
    remarks::varchar as remarks,
    sortstyle::varchar as sort_key_type,
    coalesce(array_position(sortkeys, attnum), 0) as sort_key,
    (attnum = distkey)::int as dist_key,
    encoding::varchar as encoding,
    null::varchar as collation
from pg_redshift.columns;
create view pg_redshift.show_grants as
select
    current_database()::varchar as database_name,
    namespace_name::varchar as schema_name,
    relation_name::varchar as object_name,
    'TABLE'::varchar as object_type,
    privilege_type::varchar as privilege_type,
    identity_id,
    -- A group is shown as a role with a slash.
    (case identity_type when 'group' then '/' else '' end || identity_name)::varchar
        as identity_name,
    (case identity_type when 'group' then 'role' else identity_type end)::varchar as identity_type,
    admin_option,
    'TABLE'::varchar as privilege_scope,
    null::varchar as grantor_name
from svv_relation_privileges;
create view pg_redshift.show_databases as
select database_name, database_owner, database_type, database_acl, null::varchar as parameters,
    database_isolation_level
from svv_redshift_databases;

create view pg_redshift.show_column_grants as
select
    current_database()::varchar as database_name,
    relations.nspname::varchar as schema_name,
    relations.relname::varchar as table_name,
    attribute.attname::varchar as column_name,
    'COLUMN'::varchar as object_type,
    privilege.privilege_type::varchar as privilege_type,
    coalesce(role.oid, 0)::int as identity_id,
    coalesce(role.rolname, 'public')::varchar as identity_name,
    (case when role.oid is null then 'public' when role.rolcanlogin then 'user' else 'role'
    end)::varchar as identity_type,
    privilege.is_grantable as admin_option,
    'COLUMN'::varchar as privilege_scope,
    pg_get_userbyid(privilege.grantor)::varchar as grantor_name
from pg_redshift.relations as relations
join pg_attribute as attribute on attribute.attrelid = relations.oid
cross join lateral aclexplode(attribute.attacl) as privilege
left join pg_roles as role on role.oid = privilege.grantee;
create view pg_redshift.show_primary_keys as
select
    current_database()::varchar as database_name,
    relations.nspname::varchar as schema_name,
    relations.relname::varchar as table_name,
    key.conname::varchar as pk_name,
    attribute.attname::varchar as column_name,
    place::int as key_seq
from pg_redshift.relations as relations
join pg_constraint as key on key.conrelid = relations.oid and key.contype = 'p'
cross join lateral unnest(key.conkey) with ordinality as columns(number, place)
join pg_attribute as attribute
    on attribute.attrelid = relations.oid and attribute.attnum = columns.number;
create view pg_redshift.show_foreign_keys as
select
    current_database()::varchar as pk_database_name,
    referenced.nspname::varchar as pk_schema_name,
    referenced.relname::varchar as pk_table_name,
    referenced_column.attname::varchar as pk_column_name,
    current_database()::varchar as fk_database_name,
    relations.nspname::varchar as fk_schema_name,
    relations.relname::varchar as fk_table_name,
    attribute.attname::varchar as fk_column_name,
    place::int as key_seq,
    key.conname::varchar as fk_name,
    (
        select primary_key.conname from pg_constraint as primary_key
        where primary_key.conrelid = referenced.oid and primary_key.contype = 'p'
    )::varchar as pk_name,
    -- JDBC's numbers of NO ACTION and NOT DEFERRABLE.
    3::smallint as update_rule,
    3::smallint as delete_rule,
    7::smallint as deferrability
from pg_redshift.relations as relations
join pg_constraint as key on key.conrelid = relations.oid and key.contype = 'f'
join pg_redshift.relations as referenced on referenced.oid = key.confrelid
cross join lateral unnest(key.conkey, key.confkey) with ordinality
    as columns(number, referenced_number, place)
join pg_attribute as attribute
    on attribute.attrelid = relations.oid and attribute.attnum = columns.number
join pg_attribute as referenced_column
    on referenced_column.attrelid = referenced.oid
    and referenced_column.attnum = columns.referenced_number;

create view pg_redshift.routines as
select
    current_database()::varchar as database_name,
    nspname::varchar as schema_name,
    proname::varchar as name,
    prokind,
    pronargs::int as number_of_arguments,
    (
        select coalesce(string_agg(format_type(type, null), ', ' order by place), '')
        from unnest(proargtypes::oid[]) with ordinality as arguments(type, place)
    )::varchar as argument_list,
    (case when prokind = 'f' then format_type(prorettype, null) end)::varchar as return_type,
    obj_description(routine.oid, 'pg_proc')::varchar as remarks,
    proargtypes::oid[] as types,
    proargnames as names
from pg_proc as routine
join pg_namespace as namespace on namespace.oid = pronamespace
where nspname not in ('pg_catalog', 'information_schema', 'pg_redshift');
create view pg_redshift.show_functions as
select database_name, schema_name, name as function_name, number_of_arguments, argument_list,
    return_type, remarks
from pg_redshift.routines where prokind = 'f';
create view pg_redshift.show_procedures as
select database_name, schema_name, name as procedure_name, number_of_arguments, argument_list,
    return_type, remarks
from pg_redshift.routines where prokind = 'p';
create view pg_redshift.parameters as
select
    routines.*,
    coalesce(names[place], '')::varchar as parameter_name,
    place::int as ordinal_position,
    'IN'::varchar as parameter_type,
    format_type(type, null)::varchar as data_type,
    null::int as character_maximum_length,
    null::int as numeric_precision,
    null::int as numeric_scale
from pg_redshift.routines
cross join lateral unnest(types) with ordinality as arguments(type, place);
create view pg_redshift.show_function_parameters as
select database_name, schema_name, name as function_name, parameter_name, ordinal_position,
    parameter_type, data_type, character_maximum_length, numeric_precision, numeric_scale,
    argument_list
from pg_redshift.parameters where prokind = 'f';
create view pg_redshift.show_procedure_parameters as
select database_name, schema_name, name as procedure_name, parameter_name, ordinal_position,
    parameter_type, data_type, character_maximum_length, numeric_precision, numeric_scale,
    argument_list
from pg_redshift.parameters where prokind = 'p';

grant select on all tables in schema pg_redshift to public;
do $$
declare
    view name;
begin
    for view in
        select relname from pg_class
        where relnamespace = 'pg_catalog'::regnamespace and oid >= 16384 and relkind = 'v'
    loop
        execute format('grant select on pg_catalog.%I to public', view);
    end loop;
end
$$;
