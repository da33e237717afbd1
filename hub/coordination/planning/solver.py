"""The allocation as HiGHS solves it: a mixed-integer program, one thread, the same answer for the same problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import highspy

from hub.coordination.planning.ledger import Ledger
from hub.coordination.planning.problem import PARTS, Choice, Problem


class Effort(NamedTuple):
    """How long the solver may look. Nodes stop it at the same point on every machine; seconds are for the rest."""

    gap: float  # relative, at which an answer counts as the best
    nodes: int
    seconds: float = 5.0


SMALL = 500  # pairs of a task and a candidate
EXACT = Effort(gap=0.0, nodes=10_000)
NEARLY = Effort(gap=0.01, nodes=20)
KEPT = 3  # candidates of a task in a larger problem
Pair = tuple[int, int]  # a task and a specialist


class Solution(NamedTuple):
    """`gap`: at most this part of the objective might still be saved."""

    choice: list[int | None]
    optimal: bool
    gap: float


class _Rows:
    """Constraints `lower <= sum of coefficient * column <= upper`, in the solver's row-wise form."""

    def __init__(self) -> None:
        self.starts = [0]
        self.columns: list[int] = []
        self.values: list[float] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, terms: Mapping[int, float], *, lower: float = -math.inf, upper: float = math.inf) -> None:
        self.columns += terms.keys()
        self.values += terms.values()
        self.starts.append(len(self.columns))
        self.lower.append(lower)
        self.upper.append(upper)


def solve(problem: Problem, *, start: Choice, effort: Effort | None = None) -> Solution | None:
    """Improves on the allocation `start`. None when the solver has no answer that keeps all limits.

    In a large problem each task keeps the few candidates that the relaxation likes best: what is left is solved ten
    times as fast, and the gap is told against the relaxation of the whole.
    """
    pairs = [(task, each) for task, candidates in enumerate(problem.candidates) for each in sorted(candidates)]
    if len(pairs) <= SMALL:
        return _search(problem, pairs, start=start, effort=effort or EXACT)
    bound, promising = _relax(problem, pairs)
    kept = sorted(promising | {(task, each) for task, each in enumerate(start) if each is not None})
    if (found := _search(problem, kept, start=start, effort=effort or NEARLY)) is None:
        return None
    objective = problem.objective(found.choice)
    gap = max(0.0, objective - bound) / objective if objective > 0 else 0.0
    return Solution(found.choice, optimal=gap == 0.0, gap=gap)


def _relax(problem: Problem, pairs: Sequence[Pair]) -> tuple[float, set[Pair]]:
    """The objective that no allocation can go below, and the best pairs by reduced cost."""
    columns = {pair: number for number, pair in enumerate(pairs)}
    model, _ = _model(problem, columns)
    model.integrality_ = []
    highs = _solver()
    highs.passModel(model)
    highs.run()
    reduced = highs.getSolution().col_dual
    best: set[Pair] = set()
    for task, candidates in enumerate(problem.candidates):
        ranked = sorted((reduced[columns[task, each]], each) for each in candidates)
        best.update((task, each) for _, each in ranked[:KEPT])
    return highs.getInfo().objective_function_value, best


def _search(problem: Problem, pairs: Sequence[Pair], *, start: Choice, effort: Effort) -> Solution | None:
    columns = {pair: number for number, pair in enumerate(pairs)}
    highs = _solver(mip_rel_gap=effort.gap, mip_max_nodes=effort.nodes, time_limit=effort.seconds)
    model, overload_columns = _model(problem, columns)
    highs.passModel(model)
    highs.setSolution(_warm(problem, columns, overload_columns, model.num_col_, start))
    highs.run()
    values = highs.getSolution().col_value
    if not values:
        return None
    choice: list[int | None] = [None] * len(problem.tasks)
    for (task, specialist), number in columns.items():
        if values[number] > 0.5:
            choice[task] = specialist
    if not Ledger(problem, choice).keeps_all_limits():
        return None
    gap = highs.getInfo().mip_gap
    optimal = highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return Solution(choice, optimal, max(0.0, gap) if math.isfinite(gap) else 0.0)


def _solver(**options: float) -> highspy.Highs:
    highs = highspy.Highs()
    for name, value in ({"output_flag": False, "threads": 1, "random_seed": 0} | options).items():
        highs.setOptionValue(name, value)
    return highs


def _model(problem: Problem, columns: Mapping[Pair, int]) -> tuple[highspy.HighsLp, dict[Pair, int]]:
    """Columns: a choice for each pair, nobody for each task, hours of overload for each specialist and step."""
    tasks = range(len(problem.tasks))
    busy = sorted({specialist for _, specialist in columns})
    nobody = {task: len(columns) + task for task in tasks}
    first = len(columns) + len(tasks)
    overload = {
        pair: first + number
        for number, pair in enumerate((each, step) for each in busy for step in range(len(problem.overloads)))
    }
    costs = [problem.candidates[task][specialist].score for task, specialist in columns]
    costs += problem.penalties
    costs += [problem.overloads[step].weight for _, step in overload]
    choices = first
    rows = _rows(problem, columns, nobody, overload)

    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(costs), len(rows.lower)
    model.col_cost_ = costs
    model.col_lower_ = [0.0] * len(costs)
    model.col_upper_ = [1.0] * choices + [math.inf] * len(overload)
    whole, continuous = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
    model.integrality_ = [whole] * choices + [continuous] * len(overload)
    model.row_lower_, model.row_upper_ = rows.lower, rows.upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = rows.starts
    model.a_matrix_.index_ = rows.columns
    model.a_matrix_.value_ = rows.values
    return model, overload


def _rows(
    problem: Problem,
    columns: Mapping[Pair, int],
    nobody: Mapping[int, int],
    overload: Mapping[Pair, int],
) -> _Rows:
    rows = _Rows()
    choices: list[dict[int, float]] = [{column: 1.0} for column in nobody.values()]
    for (task, _), column in columns.items():
        choices[task][column] = 1.0
    for terms in choices:
        rows.add(terms, lower=1.0, upper=1.0)
    work: dict[int, dict[int, float]] = {}
    for (task, specialist), column in columns.items():
        work.setdefault(specialist, {})[column] = problem.candidates[task][specialist].duration / PARTS
    for specialist, hours in work.items():
        capacity = problem.capacities[specialist]
        if capacity is not None:
            rows.add(hours, upper=capacity / PARTS)
        lanes = problem.specialists[specialist].max_concurrent
        for step, each in enumerate(problem.overloads):
            terms = {column: value / lanes for column, value in hours.items()}
            rows.add(terms | {overload[specialist, step]: -1.0}, upper=each.free / PARTS)
    if problem.budget is not None:
        spent = {column: problem.candidates[task][each].cost / PARTS for (task, each), column in columns.items()}
        rows.add(spent, upper=problem.budget / PARTS)
    if (limit := problem.request.budget_tokens) is not None:
        tokens = {column: float(problem.tasks[task].est_tokens) for (task, _), column in columns.items()}
        rows.add(tokens, upper=float(limit))
    for task, others in enumerate(problem.apart):
        for other in others:
            for specialist in sorted(problem.candidates[task].keys() & problem.candidates[other].keys()):
                if task < other and (task, specialist) in columns and (other, specialist) in columns:
                    rows.add({columns[task, specialist]: 1.0, columns[other, specialist]: 1.0}, upper=1.0)
    return rows


def _warm(
    problem: Problem,
    columns: Mapping[Pair, int],
    overload: Mapping[Pair, int],
    width: int,
    choice: Choice,
) -> highspy.HighsSolution:
    values = [0.0] * width
    for task, specialist in enumerate(choice):
        values[len(columns) + task if specialist is None else columns[task, specialist]] = 1.0
    loads = Ledger(problem, choice).loads
    for (specialist, step), column in overload.items():
        lanes = problem.specialists[specialist].max_concurrent
        values[column] = max(0.0, loads[specialist] / lanes - problem.overloads[step].free) / PARTS
    solution = highspy.HighsSolution()
    solution.col_value = values
    return solution
