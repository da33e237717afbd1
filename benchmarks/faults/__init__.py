"""Faults on purpose: real nodes, Redis and Postgres are killed, frozen and cut while a workload runs, then judged.

    python -m benchmarks.faults run --seconds 60 --seed 1     a campaign; ends with 1 if any promise was broken
    python -m benchmarks.faults run --apart --seconds 240     one fault at a time: how long each one hurts
    python -m benchmarks.faults controls                      planted faults, each of which must be caught
    python -m benchmarks.faults judge FILE                    what `run --history FILE` wrote, judged again

`cluster` has the processes, `nemesis` hurts them on a plan that follows from the seed, `workload` publishes and reads
over a client of its own and writes a `history`, which `checker` judges by pure functions. Processes are killed and
frozen, connections cut; power is never lost: what the kernel has taken from a killed process stays.
"""
