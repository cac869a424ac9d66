"""Tells people what is late or has failed, once, and when it is well again.

``watcher`` looks, again and again, from outside of Airflow: a DAG that never runs cannot tell. The
ledger and the sheets say whether a promise was kept (``promises``), Airflow's API says why not and
what has failed (``causes``, ``airflow_api``), ``state`` keeps what was told, ``channel`` sends.
"""
