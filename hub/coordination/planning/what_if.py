"""What a change would do to a plan, before anybody commits to it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from msgspec.structs import replace

from hub.coordination.planning.allocation import optimize_team_allocation
from hub.coordination.planning.problem import AllocationRequest
from protocol.coordination import Move, PlanChange, PlanDifference, TeamPlan


def what_if(request: AllocationRequest, change: PlanChange, *, before: TeamPlan) -> PlanDifference:
    """`before` is the plan as it is. Work stays where it is unless moving it is worth the switch."""
    current = {each.task_id: each.specialist_id for each in before.assignments}
    changed = changed_request(replace(request, holders=current | dict(request.holders)), change)
    return difference(before, optimize_team_allocation(changed), gone=frozenset(change.without))


def changed_request(request: AllocationRequest, change: PlanChange) -> AllocationRequest:
    return replace(
        request,
        specialists=[each for each in request.specialists if each.specialist_id not in change.without],
        tasks=[replace(task, pinned=change.pinned.get(task.task_id, task.pinned)) for task in request.tasks],
        timeline=request.timeline if change.deadline is None else change.deadline,
        budget_usd=request.budget_usd if change.budget_usd is None else change.budget_usd,
    )


def difference(before: TeamPlan, after: TeamPlan, *, gone: frozenset[str] = frozenset()) -> PlanDifference:
    old = {each.task_id: each.specialist_id for each in before.assignments}
    new = {each.task_id: each.specialist_id for each in after.assignments}
    whys: Mapping[str, str] = {each.task_id: each.reason for each in after.unassigned} | {
        each.task_id: "; ".join(each.reasons) for each in after.assignments
    }
    moves = [
        Move(
            task_id=task_id,
            from_specialist=old.get(task_id),
            to_specialist=new.get(task_id),
            why=f"{old[task_id]} is gone; {why}" if old.get(task_id) in gone else why,
        )
        for task_id, why in sorted(whys.items())
        if old.get(task_id) != new.get(task_id)
    ]
    return PlanDifference(
        plan=after,
        moves=moves,
        makespan_h=round(after.makespan_h - before.makespan_h, 4),
        cost_usd=f"{Decimal(after.budget_used_usd) - Decimal(before.budget_used_usd):f}",
        objective=round(after.solver.objective - before.solver.objective, 6),
        unassigned=len(after.unassigned) - len(before.unassigned),
    )
