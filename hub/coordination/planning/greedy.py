"""The baseline: the most important task first, to whoever takes it at the lowest price now."""

from __future__ import annotations

from hub.coordination.planning.ledger import Ledger
from hub.coordination.planning.problem import Problem


def allocate_greedily(problem: Problem) -> list[int | None]:
    ledger = Ledger(problem)
    for task in sorted(range(len(problem.tasks)), key=lambda index: -problem.tasks[index].priority):
        fitting = [each for each in sorted(problem.candidates[task]) if ledger.fits(task, each)]
        if fitting:
            ledger.give(task, min(fitting, key=lambda each: ledger.price(task, each)))
    return ledger.choice
