"""Faults on purpose: real nodes, Redis and Postgres are killed, frozen and cut while a workload runs, then judged."""
