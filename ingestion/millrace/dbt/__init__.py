"""The dbt project: where it is, what it declares, how it is run."""
