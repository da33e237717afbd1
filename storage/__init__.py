"""Krin's memory: Postgres, the durable channel log, and one module per kind of record.

Rule: nothing here imports `hub`. Callers see `storage.errors`, never an exception of the driver.
"""
