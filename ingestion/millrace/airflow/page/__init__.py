"""The page "Millrace" in Airflow's user interface: how every table and publication is."""
