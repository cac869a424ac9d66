# shellcheck shell=bash
# Makes the account that Millrace uses. The MySQL image sources this once, for a new data folder.
mysql --user=root --password="$MYSQL_ROOT_PASSWORD" <<SQL
create user 'millrace_reader'@'%' identified by '$MYSQL_READER_PASSWORD';
grant select on prod.* to 'millrace_reader'@'%';
SQL
