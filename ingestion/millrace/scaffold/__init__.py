"""Writes declarations and staging models of tables that a source has, for review.

``names`` has the conventions, ``proposal`` decides what is proposed for a table. ``staging`` and
``declarations`` write it as SQL and YAML, ``yaml_text`` puts it into files that people have written
before, and ``project`` finds these files.
"""
