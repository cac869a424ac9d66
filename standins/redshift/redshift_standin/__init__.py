"""A stand-in for Amazon Redshift: PostgreSQL behind a proxy that speaks Redshift's ways."""
