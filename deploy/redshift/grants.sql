-- Least privilege on Redshift, for those who load, transform and read.
--
-- Replace every name in angle brackets, and run it once as a superuser, connected to the database
-- of the dbt target:
--
--   <database>      REDSHIFT_DATABASE
--   <loader>        the user that Millrace loads as: REDSHIFT_USER
--   <transformer>   the user that dbt builds and Millrace publishes as. Where loads run in the same
--                   environment, as in the sandbox, it is the same user as the loader
--   <reader>        a user that reads the marts; repeat the line for others
--
-- The users must exist: `create user … password …`, or let IAM make them. The schemas are those of
-- the sources as declared, and WAREHOUSE_SCHEMA (here: analytics) with its layers.
--
--   role                  owns                                    reads
--   millrace_loader       …_raw_… schemas with the ledger         –
--   millrace_transformer  analytics and its layers' schemas       …_raw_… schemas
--   millrace_reader       –                                       the marts in analytics
--
-- In Redshift objects belong to users, never to roles: schemas and default privileges name users.

create role millrace_loader;
create role millrace_transformer;
create role millrace_reader;

grant role millrace_loader to <loader>;
grant role millrace_transformer to <transformer>;
grant role millrace_reader to <reader>;

-- The loader makes the schema of a new source, and a temporary table in every load.
grant create, temporary on database <database> to role millrace_loader;
create schema if not exists analytics_raw_mysql authorization <loader>;
create schema if not exists analytics_raw_google_sheets authorization <loader>;

-- The transformer reads the tables that the loader has made and will make.
grant create, temporary on database <database> to role millrace_transformer;
grant usage on schema analytics_raw_mysql, analytics_raw_google_sheets
    to role millrace_transformer;
grant select on all tables in schema analytics_raw_mysql, analytics_raw_google_sheets
    to role millrace_transformer;
alter default privileges for user <loader> in schema analytics_raw_mysql, analytics_raw_google_sheets
    grant select on tables to role millrace_transformer;

-- Readers see the marts only, not staging, intermediate and snapshots. dbt recreates its tables, so
-- the default privileges matter most.
create schema if not exists analytics authorization <transformer>;
grant usage on schema analytics to role millrace_reader;
grant select on all tables in schema analytics to role millrace_reader;
alter default privileges for user <transformer> in schema analytics
    grant select on tables to role millrace_reader;

-- By default every user may COPY with every IAM role of the cluster. Once the first statement below
-- was run, only users with the grant may, in the whole cluster: so grant it to other loaders too.
-- For REDSHIFT_IAM_ROLE=default write `on default`.
--
--   revoke assumerole on all from public for all;
--   grant assumerole on 'arn:aws:iam::<account>:role/<landing-reader>' to <loader> for copy;
