"""An allocation in the making, with the limits it must keep. Rule: what `fits` allows breaks no constraint."""

from __future__ import annotations

from hub.coordination.planning.problem import Candidate, Choice, Problem


class Ledger:
    def __init__(self, problem: Problem, choice: Choice = ()) -> None:
        self._problem = problem
        self.choice: list[int | None] = [None] * len(problem.tasks)
        self.loads = [0] * len(problem.specialists)
        self.cost = 0
        self.tokens = 0
        for task, specialist in enumerate(choice):
            if specialist is not None:
                self.give(task, specialist)

    def give(self, task: int, specialist: int) -> None:
        self._book(task, specialist, 1)
        self.choice[task] = specialist

    def take(self, task: int) -> None:
        """Does nothing to a task that nobody has."""
        if (specialist := self.choice[task]) is not None:
            self._book(task, specialist, -1)
            self.choice[task] = None

    def _book(self, task: int, specialist: int, sign: int) -> None:
        candidate = self._problem.candidates[task][specialist]
        self.loads[specialist] += sign * candidate.duration
        self.cost += sign * candidate.cost
        self.tokens += sign * self._problem.tasks[task].est_tokens

    def obstacle(self, task: int, specialist: int) -> str | None:
        """What keeps a task that nobody has from this candidate."""
        problem = self._problem
        candidate = problem.candidates[task][specialist]
        capacity = problem.capacities[specialist]
        if capacity is not None and self.loads[specialist] + candidate.duration > capacity:
            return "those who could do it have no hours left"
        if problem.budget is not None and self.cost + candidate.cost > problem.budget:
            return "the budget is spent on work that comes first"
        limit = problem.request.budget_tokens
        if limit is not None and self.tokens + problem.tasks[task].est_tokens > limit:
            return "the budget of tokens is spent on work that comes first"
        if any(self.choice[other] == specialist for other in problem.apart[task]):
            return "those who could do it did the work that it reviews"
        return None

    def fits(self, task: int, specialist: int) -> bool:
        return self.obstacle(task, specialist) is None

    def price(self, task: int, specialist: int) -> float:
        """What giving the task to this candidate adds to the objective, beside the penalty it saves."""
        candidate: Candidate = self._problem.candidates[task][specialist]
        load = self.loads[specialist]
        more = self._problem.overload(specialist, load + candidate.duration) - self._problem.overload(specialist, load)
        return candidate.score + more

    def keeps_all_limits(self) -> bool:
        """Whether every task could be given once more to whoever has it."""
        for task, specialist in enumerate(list(self.choice)):
            if specialist is not None:
                self.take(task)
                fits = self.fits(task, specialist)
                self.give(task, specialist)
                if not fits:
                    return False
        return True
