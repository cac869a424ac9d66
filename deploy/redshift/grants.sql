-- Least privilege on Redshift: who loads, who transforms, who reads.
-- Run once by a superuser in the database of the dbt target. Passwords are set apart from this
-- file (`alter user … password`), or users come from IAM.
--
--   role                owns                        reads
--   millrace_loader     raw_… schemas, the ledger   –
--   millrace_transformer  analytics… schemas        raw_… schemas
--   millrace_reader     –                           the marts
--
-- One user may have the first two, as when dbt and Millrace share a target.

create role millrace_loader;
create role millrace_transformer;
create role millrace_reader;

-- The loader makes its raw schemas, tables and temporary tables.
grant create, temporary on database current_database_name to role millrace_loader;
-- COPY assumes the role that may read the landing (deploy/aws/): name it in REDSHIFT_IAM_ROLE.
grant assumerole on 'arn:aws:iam::<account>:role/<landing-reader>' to role millrace_loader for copy;

-- The transformer makes its own schemas, and reads what the loader made.
grant create, temporary on database current_database_name to role millrace_transformer;
grant usage on schema raw_mysql, raw_google_sheets to role millrace_transformer;
grant select on all tables in schema raw_mysql, raw_google_sheets to role millrace_transformer;
alter default privileges in schema raw_mysql, raw_google_sheets
    grant select on tables to role millrace_transformer;

-- Readers see the marts only; staging and intermediate stay behind.
grant usage on schema analytics to role millrace_reader;
grant select on all tables in schema analytics to role millrace_reader;
alter default privileges in schema analytics grant select on tables to role millrace_reader;
