"""The plan of a team: who does what, when, at which price, and what it would cost to decide otherwise."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from hub.coordination.planning.greedy import allocate_greedily
from hub.coordination.planning.ledger import Ledger
from hub.coordination.planning.problem import (
    MICROS_PER_PART,
    PARTS,
    AllocationRequest,
    Candidate,
    Problem,
    state_problem,
)
from hub.coordination.planning.schedule import Schedule, Slot, schedule
from hub.coordination.planning.solver import Effort, solve
from protocol.coordination import Assignment, Gate, Solver, TeamPlan, Unassigned

BUSY = 0.9  # of a specialist's time, of a budget: from here on it is a bottleneck
MAX_BOTTLENECKS = 20


Status = Literal["OPTIMAL", "FEASIBLE", "HEURISTIC"]


class _Outcome(NamedTuple):
    choice: list[int | None]
    schedule: Schedule
    left_out: dict[int, str]  # by the schedule
    objective: float


def optimize_team_allocation(request: AllocationRequest, *, effort: Effort | None = None) -> TeamPlan:
    """The same request gives the same plan. What nobody can do is unassigned, with the reason.

    Raises `HubError` when tasks wait for each other in a circle.
    """
    problem = state_problem(request)
    greedy = allocate_greedily(problem)
    outcome = _carry_out(problem, greedy)
    solver = _solver("greedy", "HEURISTIC", outcome)
    if any(problem.candidates) and (solution := solve(problem, start=greedy, effort=effort)) is not None:
        solved = _carry_out(problem, solution.choice)
        if solved.objective <= outcome.objective:
            proven = solution.optimal and not solved.left_out
            outcome, solver = solved, _solver("highs", "OPTIMAL" if proven else "FEASIBLE", solved, gap=solution.gap)
    return _plan(problem, outcome, solver)


def plan_greedily(request: AllocationRequest) -> TeamPlan:
    """The baseline that a plan is compared with."""
    problem = state_problem(request)
    outcome = _carry_out(problem, allocate_greedily(problem))
    return _plan(problem, outcome, _solver("greedy", "HEURISTIC", outcome))


def _solver(name: str, status: Status, outcome: _Outcome, *, gap: float = 1.0) -> Solver:
    return Solver(name=name, status=status, objective=round(outcome.objective, 6), gap=gap)


def _carry_out(problem: Problem, choice: Sequence[int | None]) -> _Outcome:
    """What does not fit between the windows of whoever should do it is taken from them."""
    choice = list(choice)
    left_out: dict[int, str] = {}
    while True:
        planned, late = schedule(problem, choice)
        if not late:
            return _Outcome(choice, planned, left_out, problem.objective(choice))
        for task in late:
            choice[task] = None
            left_out[task] = "whoever should do it is gone before it could be done"


def _plan(problem: Problem, outcome: _Outcome, solver: Solver) -> TeamPlan:
    request, planned = problem.request, outcome.schedule
    ledger = Ledger(problem, outcome.choice)
    names = [task.task_id for task in problem.tasks]
    assignments, unassigned = [], []
    for task, specialist in enumerate(outcome.choice):
        if specialist is None:
            reason = problem.barred.get(task) or outcome.left_out.get(task) or _why_nobody(problem, ledger, task)
            unassigned.append(Unassigned(task_id=names[task], reason=reason))
        else:
            assignments.append(_assignment(problem, ledger, task, specialist, planned.slots[task]))
    deadline = request.timeline
    end = request.start + planned.makespan * MICROS_PER_PART
    plan = TeamPlan(
        plan_id="plan",
        project_id=request.project_id,
        assignments=assignments,
        unassigned=unassigned,
        critical_path=[names[task] for task in planned.critical],
        slack_h={name: slack / PARTS for name, slack in zip(names, planned.slack, strict=True)},
        makespan_h=planned.makespan / PARTS,
        deadline=deadline,
        deadline_feasible=deadline is None or (end <= deadline and not unassigned),
        utilisation=_utilisation(problem, ledger, planned.makespan),
        gates={task.task_id: _gates(request, task.gates) for task in problem.tasks},
        budget_used_usd=_dollars(ledger.cost),
        budget_limit_usd=request.budget_usd,
        complexity=request.complexity,
        registry_version=request.registry_version,
        solver=solver,
        supersedes=request.supersedes,
    )
    plan = msgspec.structs.replace(plan, bottlenecks=_bottlenecks(problem, ledger, plan))
    return msgspec.structs.replace(plan, plan_id=_identity(plan))


def _identity(plan: TeamPlan) -> str:
    """Equal plans have the same id."""
    return "plan-" + hashlib.sha256(msgspec.json.encode(plan)).hexdigest()[:24]


def _dollars(parts: int) -> str:
    return f"{Decimal(parts) / PARTS:f}"


def _gates(request: AllocationRequest, own: Sequence[Gate]) -> list[str]:
    """The team's standards come first; a task may add to them, never take away."""
    return list(dict.fromkeys(gate.gate_id for gate in [*request.quality_gates, *own]))


def _assignment(problem: Problem, ledger: Ledger, task: int, specialist: int, slot: Slot) -> Assignment:
    candidate = problem.candidates[task][specialist]
    other = _runner_up(problem, ledger, task, specialist)
    return Assignment(
        task_id=problem.tasks[task].task_id,
        specialist_id=problem.specialists[specialist].specialist_id,
        start_h=slot.start / PARTS,
        finish_h=slot.finish / PARTS,
        cost_usd=_dollars(candidate.cost),
        score=round(candidate.score, 6),
        reasons=_reasons(problem, task, candidate),
        runner_up=None if other is None else problem.specialists[other[1]].specialist_id,
        override_cost=None if other is None else round(other[0], 6),
    )


def _runner_up(problem: Problem, ledger: Ledger, task: int, specialist: int) -> tuple[float, int] | None:
    """Who else could do the task while everybody keeps the rest, and how much worse the plan would be."""
    ledger.take(task)
    own = ledger.price(task, specialist)
    others = [each for each in problem.candidates[task] if each != specialist and ledger.fits(task, each)]
    best = min(((ledger.price(task, each) - own, each) for each in others), default=None)
    ledger.give(task, specialist)
    return best


def _reasons(problem: Problem, task: int, candidate: Candidate) -> list[str]:
    spec, others = problem.tasks[task], len(problem.candidates[task]) - 1
    reasons = [f"has {', '.join(spec.required_skills)}"] if spec.required_skills else []
    reasons.append(
        f"takes {candidate.duration / PARTS:g} h at speed {candidate.speed:g}, costs {_dollars(candidate.cost)} USD"
    )
    if candidate.quality < 1:
        reasons.append(f"quality {candidate.quality:.2f}")
    if spec.pinned is not None:
        reasons.append("pinned")
    elif not others:
        reasons.append("nobody else could do it")
    if candidate.switches:
        reasons.append("takes it over from another")
    if candidate.late_h:
        reasons.append(f"{candidate.late_h:g} h after its deadline at the earliest")
    return reasons


def _why_nobody(problem: Problem, ledger: Ledger, task: int) -> str:
    found = [ledger.obstacle(task, each) for each in sorted(problem.candidates[task])]
    obstacles = Counter(obstacle for obstacle in found if obstacle is not None)
    return obstacles.most_common(1)[0][0] if obstacles else "no better plan was found in time"


def _utilisation(problem: Problem, ledger: Ledger, makespan: int) -> dict[str, float]:
    return {
        each.specialist_id: min(1.0, load / (makespan * each.max_concurrent)) if makespan else 0.0
        for each, load in zip(problem.specialists, ledger.loads, strict=True)
    }


def _bottlenecks(problem: Problem, ledger: Ledger, plan: TeamPlan) -> list[str]:
    found = [f"{name} is busy {part:.0%} of the time" for name, part in plan.utilisation.items() if part >= BUSY]
    alone: Counter[int] = Counter(
        next(iter(each))
        for task, each in enumerate(problem.candidates)
        if len(each) == 1 and problem.tasks[task].pinned is None
    )
    found += [
        f"nobody but {problem.specialists[each].specialist_id} can do {count} of the tasks"
        for each, count in alone.most_common()
    ]
    finish = {
        each.task_id: problem.request.start + round(each.finish_h * PARTS) * MICROS_PER_PART
        for each in plan.assignments
    }
    found += [
        f"{task.task_id} ends after its deadline"
        for task in problem.tasks
        if task.deadline is not None and finish.get(task.task_id, 0) > task.deadline
    ]
    if problem.budget is not None and ledger.cost >= BUSY * problem.budget:
        found.append("the budget is nearly spent")
    return found[:MAX_BOTTLENECKS]
