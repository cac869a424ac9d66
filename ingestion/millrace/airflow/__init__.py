"""The DAGs of a project: the one place that imports Airflow and Cosmos."""
