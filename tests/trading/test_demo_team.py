"""The demo's team, against the coordinator itself: everything but Postgres, in a time that the test moves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hub.cli.serving import ROLES_IN_DEMO
from hub.demo.team import ASSISTANT, CREW, GUEST, LEAD, PLAN, SKILLS, TEAM, SimulatedTeam
from protocol.errors import ErrorCode, HubError

from .demo_room import STEP_S, DemoRoom

DISTURBED_S = 400


async def test_within_half_a_minute_there_is_a_question_a_blocked_specialist_a_hand_off_and_a_budget() -> None:
    room = DemoRoom()
    await room.pass_time(30)

    question = await room.open_question()
    statuses = {specialist.specialist_id: status for specialist, status in room.term.roster.members()}
    offers = (await room.call(GUEST, "handoffs.list", {"specialist_id": ASSISTANT})).handoffs
    [budget] = (await room.call(GUEST, "budgets.list", {"project_id": TEAM})).budgets

    assert "dashboard" in question.approver_roles and question.requested_by == CREW
    assert statuses["security-1"].activity == "WAITING_HUMAN"
    assert statuses["frontend-1"].activity == "BLOCKED"
    assert [offer.to_specialist for offer in offers] == [ASSISTANT]
    assert float(budget.reserved_usd) > 0 and budget.limit_usd is not None


async def test_everything_says_that_it_is_simulated() -> None:
    room = DemoRoom()
    await room.pass_time(60)

    [project] = room.term.tasks.projects.values()
    assert project.config.ext == {"simulated": True}
    assert all(task.spec.ext == {"simulated": True} for task in project.tasks.values())
    assert all(specialist.ext == {"simulated": True} for specialist, _ in room.term.roster.members())
    updates = [update for data in room.told("SPECIALIST_UPDATE") for update in data]
    assert {update["specialist_id"] for update in updates} == {f"{skill}-1" for skill in SKILLS} | {ASSISTANT}
    assert all(update["ext"] == {"simulated": True} for update in updates)


async def test_it_works_through_iterations_and_projects_for_hours_if_nobody_says_anything() -> None:
    room = DemoRoom(seed=3)
    await room.pass_time(1.5 * 3600)

    first, *_ = room.told("PROJECT_ENDED")
    ended, count = Counter(first["tasks"]), sum(first["tasks"].values())
    assert (first["project_id"], first["state"]) == (TEAM, "CANCELED"), "its budget is used up"
    assert ended["COMPLETED"] >= 0.9 * count and ended.keys() <= {"COMPLETED", "CANCELED"}
    assert count >= 3 * len(PLAN)
    [project] = room.term.tasks.projects
    assert project != TEAM, "the next one has begun, and no other is open"
    assert room.told("BUDGET_ALERT")
    for method in ("handoffs.accept", "approvals.resolve", "tasks.unblock", "tasks.gate", "budgets.settle"):
        assert room.calls[method] >= 10
    updates = [update for data in room.told("SPECIALIST_UPDATE") for update in data]
    said = {update["activity"] for update in updates}
    assert said == {"IDLE", "WORKING", "BLOCKED", "WAITING_HUMAN", "RATE_LIMITED"}
    assert {update["health"] for update in updates} == {"HEALTHY", "DEGRADED"}
    alerts = Counter(alert.state for alert in room.alerts)
    assert alerts["FIRING"] - alerts["RESOLVED"] in (0, 1, 2) and alerts["RESOLVED"] > 5


async def test_what_a_person_answers_counts_and_the_work_goes_on() -> None:
    room = DemoRoom()
    while (question := await room.open_question()) is None:
        await room.pass_time(STEP_S)
    answer = {"approval_id": question.approval_id, "decision": "DECLINED", "payload": {"reason": "not today"}}
    await room.call(GUEST, "approvals.resolve", answer)
    task = room.tasks()[question.task_id]
    assert (task.state, task.answer["decision"]) == ("WORKING", "DECLINED")
    await room.pass_time(60)
    assert room.tasks()[question.task_id].state == "COMPLETED"


async def test_what_the_guest_accepts_is_done_by_the_guests_specialist() -> None:
    room = DemoRoom()
    offers: list[Any] = []
    while not offers:
        await room.pass_time(STEP_S)
        offers = (await room.call(GUEST, "handoffs.list", {"specialist_id": ASSISTANT})).handoffs
    named = {"handoff_id": offers[0].handoff_id, "specialist_id": ASSISTANT}
    await room.call(GUEST, "handoffs.accept", named)
    await room.pass_time(60, until=lambda: room.tasks()[offers[0].task_id].ended)
    task = room.tasks()[offers[0].task_id]
    assert (task.state, task.specialist_id) == ("COMPLETED", ASSISTANT)


@pytest.mark.parametrize("seed", range(3))
async def test_what_people_cancel_decline_and_pause_does_not_stop_the_others(seed: int) -> None:
    room = DemoRoom(seed)
    await room.pass_time(20)
    for offer in (await room.call(GUEST, "handoffs.list", {})).handoffs:
        named = {"handoff_id": offer.handoff_id, "specialist_id": ASSISTANT}
        await room.call(GUEST, "handoffs.decline", named)
    await room.call(GUEST, "tasks.cancel", {"project_id": TEAM, "task_id": "1-book"})
    await room.call(GUEST, "agents.pause", {"specialist_id": "tester-1"})
    await room.call(GUEST, "tasks.create", {"project_id": TEAM, "tasks": [{"task_id": "mine"}]})
    await room.pass_time(DISTURBED_S)
    assert room.tasks()["mine"].state == "COMPLETED"
    assert room.tasks()["1-gateway"].state == "COMPLETED"
    await room.call(GUEST, "agents.resume", {"specialist_id": "tester-1"})
    await room.pass_time(DISTURBED_S)
    assert room.tasks()["2-contract"].state == "COMPLETED"


async def test_after_a_restart_it_goes_on_with_its_project() -> None:
    room = DemoRoom()
    await room.pass_time(50)
    room.team = SimulatedTeam(room.call, room.tell, room.clock)
    await room.pass_time(DISTURBED_S, until=lambda: "2-contract" in room.tasks() and room.tasks()["2-contract"].ended)
    assert len(room.term.tasks.projects) == 1
    assert room.tasks()["2-contract"].state == "COMPLETED"
    assert {task.state for name, task in room.tasks().items() if name.startswith("1-")} == {"COMPLETED", "CANCELED"}


async def test_a_restart_between_two_projects_begins_the_next_and_ends_what_an_older_version_left_open() -> None:
    room = DemoRoom()
    await room.pass_time(10)
    for number in (2, 3):
        project = {"project_id": f"{TEAM}-{number}", "team": TEAM, "ext": {"simulated": True}}
        await room.call(CREW, "projects.create", {"project": project})
    room.team = SimulatedTeam(room.call, room.tell, room.clock)
    await room.pass_time(10)
    assert list(room.term.tasks.projects) == [f"{TEAM}-3"]

    await room.call(CREW, "projects.cancel", {"project_id": f"{TEAM}-3"})
    room.team = SimulatedTeam(room.call, room.tell, room.clock)
    await room.pass_time(10)
    assert list(room.term.tasks.projects) == [f"{TEAM}-4"]


async def test_what_is_refused_for_the_moment_is_tried_again() -> None:
    room = DemoRoom()
    await room.pass_time(20)
    refused = HubError(ErrorCode.NOT_AVAILABLE, "not now")
    for method in ("tasks.progress", "agents.heartbeat", "team.sync", "budgets.reserve"):
        room.refuse = {method: refused}.get
        with pytest.raises(HubError):
            await room.pass_time(60)
    room.refuse = lambda method: None
    await room.pass_time(200)
    assert room.tasks()["1-gateway"].state == "COMPLETED"


async def test_the_same_seed_works_the_same() -> None:
    runs = []
    for seed in (1, 1, 2):
        room = DemoRoom(seed)
        await room.pass_time(120)
        runs.append(
            [
                (channel, type_name, data.get("progress"))
                for channel, type_name, data in room.kept.messages
                if type_name == "TASK_STATUS_UPDATE"
            ]
        )
    assert runs[0] == runs[1] != runs[2]


def test_nobody_may_do_more_than_is_needed() -> None:
    assert "admin" not in {role for user in (CREW, LEAD, GUEST) for role in ROLES_IN_DEMO[user]}
