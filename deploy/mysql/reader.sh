# shellcheck shell=bash
# Sourced once by the MySQL image, when its data folder is new: the account that Millrace uses.
mysql --user=root --password="$MYSQL_ROOT_PASSWORD" <<SQL
create user 'millrace_reader'@'%' identified by '$MYSQL_READER_PASSWORD';
grant select on prod.* to 'millrace_reader'@'%';
SQL
