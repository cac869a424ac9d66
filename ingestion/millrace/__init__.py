"""Carries data in and out of the warehouse. Imports neither Airflow nor Cosmos."""
