"""What a change would do to a plan."""

from __future__ import annotations

from hub.coordination.planning.allocation import optimize_team_allocation
from hub.coordination.planning.what_if import what_if
from protocol.coordination import PlanChange

from .teams import HOUR, random_request, request, specialist, task


def test_when_an_agent_is_gone_its_work_moves_and_the_price_is_told() -> None:
    people = [specialist("ann", "python", usd_per_hour="10"), specialist("bob", "python", usd_per_hour="30")]
    asked = request([task("a", "python", effort_h=2.0)], people)
    before = optimize_team_allocation(asked)
    found = what_if(asked, PlanChange(without=["ann"]), before=before)
    [move] = found.moves
    assert (move.task_id, move.from_specialist, move.to_specialist) == ("a", "ann", "bob")
    assert move.why.startswith("ann is gone; ")
    assert (found.cost_usd, found.makespan_h, found.unassigned) == ("40", 0.0, 0)
    assert found.objective > 0
    assert [each.specialist_id for each in before.assignments] == ["ann"]


def test_when_nobody_else_can_do_it_the_work_goes_to_nobody() -> None:
    asked = request([task("a", "python")], [specialist("ann", "python")])
    found = what_if(asked, PlanChange(without=["ann"]), before=optimize_team_allocation(asked))
    assert [(move.from_specialist, move.to_specialist) for move in found.moves] == [("ann", None)]
    assert found.unassigned == 1


def test_a_deadline_that_moves_is_held_against_the_new_plan() -> None:
    asked = request([task("a", effort_h=3.0)], [specialist("ann")], timeline=4 * HOUR)
    before = optimize_team_allocation(asked)
    found = what_if(asked, PlanChange(deadline=2 * HOUR), before=before)
    assert (before.deadline_feasible, found.plan.deadline_feasible) == (True, False)
    assert found.moves == []


def test_no_change_moves_nothing() -> None:
    for seed in range(10):
        asked = random_request(seed, people=4, tasks=10)
        assert what_if(asked, PlanChange(), before=optimize_team_allocation(asked)).moves == []


def test_a_wish_for_somebody_is_a_pin() -> None:
    people = [specialist("ann", usd_per_hour="10"), specialist("bob", usd_per_hour="30")]
    asked = request([task("a")], people)
    before = optimize_team_allocation(asked)
    found = what_if(asked, PlanChange(pinned={"a": "bob"}), before=before)
    assert [each.specialist_id for each in found.plan.assignments] == ["bob"]
    assert found.objective > before.assignments[0].override_cost - 1e-6 > 0  # type: ignore[operator]
