"""`python -m benchmarks SCENARIO ...`"""

from benchmarks.cli import main

main(prog_name="python -m benchmarks")
