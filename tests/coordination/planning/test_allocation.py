"""The plan of a team: the best there is, within every limit, the same each time."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, milp

from hub.coordination.planning.allocation import optimize_team_allocation, plan_greedily
from hub.coordination.planning.problem import PARTS, AllocationRequest, Problem, state_problem
from protocol.coordination import Complexity, Gate, Skill, TeamPlan, Weights, Window

from .teams import HOUR, random_request, request, specialist, task

INSTANCES = 200


def optimum(problem: Problem) -> float:
    """The least objective, by scipy's solver from a model written down a second time, densely."""
    pairs = [(j, i) for j, each in enumerate(problem.candidates) for i in sorted(each)]
    tasks, people, steps = len(problem.tasks), len(problem.specialists), len(problem.overloads)
    width = len(pairs) + tasks + people * steps
    cost = np.zeros(width)
    cost[: len(pairs)] = [problem.candidates[j][i].score for j, i in pairs]
    cost[len(pairs) : len(pairs) + tasks] = problem.penalties
    cost[len(pairs) + tasks :] = [each.weight for _ in range(people) for each in problem.overloads]
    each_once, limits, bounds = np.zeros((tasks, width)), [], []
    for column, (j, _) in enumerate(pairs):
        each_once[j, column] = 1
    each_once[:, len(pairs) : len(pairs) + tasks] = np.eye(tasks)
    for i, someone in enumerate(problem.specialists):
        load = np.zeros(width)
        load[: len(pairs)] = [problem.candidates[j][i].duration / PARTS if i == who else 0 for j, who in pairs]
        if (capacity := problem.capacities[i]) is not None:
            limits.append(load)
            bounds.append(capacity / PARTS)
        for step, overload in enumerate(problem.overloads):
            row = load / someone.max_concurrent
            row[len(pairs) + tasks + i * steps + step] = -1
            limits.append(row)
            bounds.append(overload.free / PARTS)
    if problem.budget is not None:
        row = np.zeros(width)
        row[: len(pairs)] = [problem.candidates[j][i].cost / PARTS for j, i in pairs]
        limits.append(row)
        bounds.append(problem.budget / PARTS)
    if (tokens := problem.request.budget_tokens) is not None:
        row = np.zeros(width)
        row[: len(pairs)] = [problem.tasks[j].est_tokens for j, _ in pairs]
        limits.append(row)
        bounds.append(tokens)
    for left, (j, i) in enumerate(pairs):
        for right, (other, who) in enumerate(pairs):
            if i == who and problem.tasks[j].review_of == problem.tasks[other].task_id:
                row = np.zeros(width)
                row[[left, right]] = 1
                limits.append(row)
                bounds.append(1)
    constraints = [LinearConstraint(each_once, 1, 1)]
    if limits:
        constraints.append(LinearConstraint(np.array(limits), -np.inf, bounds))
    whole = np.array([1] * (len(pairs) + tasks) + [0] * people * steps)
    upper = np.where(whole == 1, 1, np.inf)
    found = milp(cost, integrality=whole, bounds=Bounds(0, upper), constraints=constraints, options={"mip_rel_gap": 0})
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("seed", range(INSTANCES))
def test_the_plan_is_the_best_there_is_and_never_worse_than_the_greedy_one(seed: int) -> None:
    asked = random_request(seed, people=1 + seed % 6, tasks=1 + seed % 14)
    plan = optimize_team_allocation(asked)
    assert plan.solver.objective <= plan_greedily(asked).solver.objective + 1e-6
    assert plan.solver.objective == pytest.approx(optimum(state_problem(asked)), rel=1e-6, abs=1e-4)
    assert_no_limit_is_broken(asked, plan)


def test_one_task_each_is_the_assignment_problem() -> None:
    dice = np.random.default_rng(7)
    for _ in range(20):
        speeds = dice.uniform(0.5, 2, size=(8, 8)).round(2)
        people = [
            specialist(f"a{i}", *[Skill(id=f"s{j}", speed=speeds[i, j]) for j in range(8)], hours=2.0) for i in range(8)
        ]
        # Longer than an hour for everybody, so that nobody does two in two hours.
        tasks = [task(f"t{j}", f"s{j}", effort_h=2.01) for j in range(8)]
        able = [[2.01 / speed <= 2 for speed in row] for row in speeds]
        asked = request(tasks, people, weights=Weights(time=1, cost=0, quality=0, switch=0))
        plan, problem = optimize_team_allocation(asked), state_problem(asked)
        costs = [
            [
                problem.candidates[j][i].score + problem.overload(i, problem.candidates[j][i].duration)
                if able[i][j]
                else problem.penalties[j]
                for j in range(8)
            ]
            for i in range(8)
        ]
        rows, columns = linear_sum_assignment(costs)
        assert plan.solver.objective == pytest.approx(np.array(costs)[rows, columns].sum(), rel=1e-6)


def assert_no_limit_is_broken(asked: AllocationRequest, plan: TeamPlan) -> None:
    tasks = {each.task_id: each for each in asked.tasks}
    people = {each.specialist_id: each for each in asked.specialists}
    who = {each.task_id: each.specialist_id for each in plan.assignments}
    slots = {each.task_id: each for each in plan.assignments}
    assert len(who) == len(plan.assignments)
    assert sorted([*who, *(each.task_id for each in plan.unassigned)]) == sorted(tasks)
    assert all(each.reason for each in plan.unassigned)
    spent = Decimal(0)
    for name, agent in who.items():
        spec, skills = tasks[name], {skill.id: skill for skill in people[agent].skills}
        assert skills.keys() >= set(spec.required_skills)
        assert all(skills[each].level * skills[each].quality >= spec.min_quality for each in spec.required_skills)
        assert spec.pinned in (None, agent)
        assert spec.reviewer != agent
        assert spec.review_of is None or who.get(spec.review_of) != agent
        speed = min((skills[each].speed for each in spec.required_skills), default=1.0)
        worked = slots[name].finish_h - slots[name].start_h
        assert worked >= spec.effort_h / speed - 1e-6
        tokens = max(Decimal(people[agent].usd_per_mtok_in), Decimal(people[agent].usd_per_mtok_out))
        cost = (
            Decimal(people[agent].usd_per_hour) * Decimal(spec.effort_h / speed) + tokens * spec.est_tokens / 1_000_000
        )
        assert Decimal(slots[name].cost_usd) >= cost - Decimal("1e-9")
        spent += Decimal(slots[name].cost_usd)
        for before in (*spec.depends_on, *([spec.review_of] if spec.review_of else [])):
            if before in slots:
                assert slots[before].finish_h <= slots[name].start_h
        if people[agent].availability:
            [window] = people[agent].availability
            assert window.start / HOUR <= slots[name].start_h
            assert slots[name].finish_h <= window.end / HOUR
    assert spent == Decimal(plan.budget_used_usd)
    assert asked.budget_usd is None or spent <= Decimal(asked.budget_usd)
    assert asked.budget_tokens is None or sum(tasks[name].est_tokens for name in who) <= asked.budget_tokens
    for agent, someone in people.items():
        mine = [slots[name] for name in who if who[name] == agent]
        assert someone.hours is None or sum(each.finish_h - each.start_h for each in mine) <= someone.hours + 1e-6
        moments = sorted(
            moment
            for each in mine
            for moment in ((each.start_h, 1), (each.finish_h, -1))
            if each.start_h < each.finish_h
        )
        at_once = 0  # an end sorts before a start at the same moment
        for _, change in moments:
            at_once += change
            assert at_once <= someone.max_concurrent
        assert 0 <= plan.utilisation[agent] <= 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(1000, 10**9), people=st.integers(0, 6), tasks=st.integers(0, 20))
def test_no_limit_is_ever_broken(seed: int, people: int, tasks: int) -> None:
    if people == 0:
        asked = request([task("a"), task("b", depends_on=["a"])], [])
    else:
        asked = random_request(seed, people=people, tasks=tasks, windows=True)
    plan = optimize_team_allocation(asked)
    assert_no_limit_is_broken(asked, plan)
    assert_no_limit_is_broken(asked, plan_greedily(asked))
    assert plan.solver.objective <= plan_greedily(asked).solver.objective + 1e-6


def test_the_same_input_gives_the_same_plan_whatever_its_order() -> None:
    asked = random_request(3, people=6, tasks=20, windows=True)
    turned = random_request(3, people=6, tasks=20, windows=True)
    turned = request(
        list(reversed(turned.tasks)),
        list(reversed(turned.specialists)),
        budget_usd=asked.budget_usd,
        budget_tokens=asked.budget_tokens,
        timeline=asked.timeline,
    )
    assert optimize_team_allocation(asked) == optimize_team_allocation(asked) == optimize_team_allocation(turned)


def test_fifty_specialists_and_two_hundred_tasks_come_near_the_optimum() -> None:
    asked = random_request(1, people=50, tasks=200)
    plan = optimize_team_allocation(asked)
    assert_no_limit_is_broken(asked, plan)
    assert plan.solver.objective <= plan_greedily(asked).solver.objective
    assert (plan.solver.status, 0 <= plan.solver.gap <= 0.03) == ("FEASIBLE", True)
    assert optimize_team_allocation(asked) == plan


@pytest.mark.parametrize(
    ("fields", "people", "reason"),
    [
        ({}, [specialist("ann", "sql")], "nobody available has all of: python"),
        ({}, [], "nobody available has all of: python"),
        ({"min_quality": 0.9}, [specialist("ann", Skill(id="python", quality=0.5))], "nobody with the skills reaches the quality of 0.9"),
        ({"reviewer": "ann"}, [specialist("ann", "python")], "nobody but its author and its reviewer could do it"),
        ({"pinned": "bob"}, [specialist("ann", "python")], "it is pinned to bob, who may not do it or is not available"),
        ({"effort_h": 9.0}, [specialist("ann", "python", hours=8.0)], "it is longer than those who could do it are there"),
        ({"est_tokens": 11}, [specialist("ann", "python")], "the budget of tokens is spent on work that comes first"),
        ({"effort_h": 2.0}, [specialist("ann", "python", usd_per_hour="6")], "the budget is spent on work that comes first"),
    ],
)  # fmt: skip
def test_what_nobody_can_do_is_unassigned_with_its_reason(fields: dict, people: list, reason: str) -> None:  # type: ignore[type-arg]
    plan = optimize_team_allocation(request([task("t", "python", **fields)], people, budget_usd="10", budget_tokens=10))
    assert [(each.task_id, each.reason) for each in plan.unassigned] == [("t", reason)]
    assert plan.assignments == []


def test_a_task_that_the_windows_leave_no_room_for_goes_to_nobody() -> None:
    people = [specialist("ann", "python", availability=[Window(start=0, end=4 * HOUR)])]
    tasks = [task("outside", "sql", effort_h=3.0), task("after", "python", effort_h=2.0, depends_on=["outside"])]
    plan = optimize_team_allocation(request(tasks, people))
    assert {each.task_id: each.reason for each in plan.unassigned}["after"] == (
        "whoever should do it is gone before it could be done"
    )


def test_work_pauses_between_windows() -> None:
    days = [Window(start=start * HOUR, end=(start + 8) * HOUR) for start in (0, 24)]
    [assignment] = optimize_team_allocation(
        request([task("long", effort_h=12.0)], [specialist("ann", availability=days)])
    ).assignments
    assert (assignment.start_h, assignment.finish_h) == (0.0, 28.0)


def test_the_deadline_is_feasible_only_if_the_last_task_ends_before_it() -> None:
    tasks, people = [task("a", effort_h=3.0), task("b", effort_h=2.0, depends_on=["a"])], [specialist("ann")]
    early, late = (optimize_team_allocation(request(tasks, people, timeline=hours * HOUR)) for hours in (4, 5))
    assert (early.makespan_h, early.deadline_feasible, late.deadline_feasible) == (5.0, False, True)
    assert early.critical_path == ["a", "b"]


def test_slack_says_how_long_a_task_can_wait() -> None:
    tasks = [task("long", effort_h=5.0), task("short", effort_h=2.0), task("end", depends_on=["long", "short"])]
    plan = optimize_team_allocation(request(tasks, [specialist("ann"), specialist("bob")]))
    assert plan.slack_h == {"long": 0.0, "short": 3.0, "end": 0.0}
    assert plan.critical_path == ["long", "end"]
    assert plan.makespan_h == 6.0


@pytest.mark.parametrize("seed", range(20))
def test_the_critical_path_is_a_chain_without_slack_that_ends_last(seed: int) -> None:
    plan = optimize_team_allocation(random_request(seed, people=4, tasks=15))
    slots = {each.task_id: each for each in plan.assignments}
    assert all(slack >= 0 for slack in plan.slack_h.values())
    assert all(plan.slack_h[name] == 0 for name in plan.critical_path)
    chain = [slots[name] for name in plan.critical_path if name in slots]
    assert all(before.finish_h <= after.start_h for before, after in pairwise(chain))
    assert plan.makespan_h >= max(each.finish_h for each in plan.assignments)


def test_a_complex_project_takes_longer_than_its_estimates() -> None:
    hard = Complexity(
        score=100, size=1, dependency_depth=1, critical_path_h=1, fan_in=0, skill_breadth=0, uncertainty=0
    )
    plan = optimize_team_allocation(request([task("a", effort_h=4.0)], [specialist("ann")], complexity=hard))
    assert plan.makespan_h == 5.0
    assert plan.complexity == hard


def test_every_task_has_the_teams_gates_and_its_own() -> None:
    own, standard = Gate(gate_id="own"), Gate(gate_id="tests-pass")
    plan = optimize_team_allocation(
        request([task("a", gates=[own, standard]), task("b")], [], quality_gates=[standard], registry_version=7)
    )
    assert plan.gates == {"a": ["tests-pass", "own"], "b": ["tests-pass"]}
    assert plan.registry_version == 7


def test_an_assignment_names_the_runner_up_and_the_price_of_preferring_them() -> None:
    people = [specialist("ann", "python", usd_per_hour="10"), specialist("bob", "python", usd_per_hour="30")]
    [assignment] = optimize_team_allocation(request([task("a", "python", effort_h=2.0)], people)).assignments
    assert (assignment.specialist_id, assignment.runner_up) == ("ann", "bob")
    assert assignment.override_cost == pytest.approx(0.1 * 40)
    assert assignment.reasons == ["has python", "takes 2 h at speed 1, costs 20 USD"]


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_overriding_an_assignment_of_the_best_plan_never_saves_anything(seed: int) -> None:
    plan = optimize_team_allocation(random_request(seed, people=5, tasks=12))
    assert all(each.override_cost is None or each.override_cost >= -1e-4 for each in plan.assignments)


def test_a_task_stays_with_whoever_has_it() -> None:
    people = [specialist("ann"), specialist("bob")]
    for holder in ("ann", "bob"):
        [assignment] = optimize_team_allocation(request([task("a")], people, holders={"a": holder})).assignments
        assert assignment.specialist_id == holder


def test_who_did_a_task_does_not_review_it() -> None:
    people = [specialist("ann", usd_per_hour="1"), specialist("bob", usd_per_hour="9")]
    review = task("review", review_of="done")
    [assignment] = optimize_team_allocation(request([review], people, holders={"done": "ann"})).assignments
    assert assignment.specialist_id == "bob"


def test_what_is_half_done_takes_half_as_long() -> None:
    plan = optimize_team_allocation(request([task("a", effort_h=4.0)], [specialist("ann")], progress={"a": 0.5}))
    assert plan.makespan_h == 2.0


def test_the_only_one_who_can_is_named_as_a_bottleneck() -> None:
    plan = optimize_team_allocation(request([task("a", "rust"), task("b", "rust")], [specialist("ann", "rust")]))
    assert plan.bottlenecks == ["ann is busy 100% of the time", "nobody but ann can do 2 of the tasks"]
    assert math.isclose(plan.utilisation["ann"], 1.0)


@pytest.mark.parametrize("field", ["time", "cost", "quality", "switch", "late"])
def test_a_weight_below_zero_is_refused_since_more_of_a_bad_thing_would_be_better(field: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({field: -0.1}), type=Weights)
