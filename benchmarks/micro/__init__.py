"""Micro-benchmarks without sockets, comparable from commit to commit. They need pytest-benchmark.

The ordinary test run does not collect them: `pytest benchmarks/micro -o python_files="bench_*.py"`.
"""
