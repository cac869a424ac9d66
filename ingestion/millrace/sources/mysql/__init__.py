"""Tables of MySQL and MariaDB servers."""
