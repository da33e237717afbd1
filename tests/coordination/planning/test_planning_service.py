"""The service of the user's document: who is available, the plan, and one message for each synchronisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from clock import ManualClock

from hub.coordination.planning.next_steps import Outlook
from hub.coordination.planning.ports import Standing
from hub.coordination.planning.service import AITeamCoordinationService
from hub.coordination.standards import KRIN_STANDARDS
from protocol.coordination import (
    Gate,
    PlanChange,
    ProjectConfig,
    Specialist,
    SpecialistStatus,
    SpecialistUpdate,
    TeamPlan,
    Window,
)
from protocol.errors import HubError

from .teams import HOUR, specialist, task


def status(name: str, **fields: Any) -> SpecialistStatus:
    healthy = {"presence": "ONLINE", "activity": "IDLE", "health": "HEALTHY"}
    because = {f"{axis}_because": "seen" for axis in healthy}
    return SpecialistStatus(**({"specialist_id": name} | healthy | because | fields))


class Room:
    """All that the service is given, in a test's hands. `told` is what was stored and sent, in order."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.version = 3
        self.people: list[tuple[Specialist, SpecialistStatus]] = []
        self.standings: dict[str, Standing] = {}
        self.outlooks: dict[str, Outlook] = {}
        self.told: list[tuple[str, str, Any]] = []
        self.failure: Exception | None = None
        self.service = AITeamCoordinationService(self, work=self, log=self, websocket_service=self, clock=self.clock)

    def join(self, name: str, *skills: str, state: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self.people.append((specialist(name, *skills, **fields), status(name, **(state or {}))))

    def members(self, team: str | None = None) -> list[tuple[Specialist, SpecialistStatus]]:
        return self.people

    def standing(self, project_id: str) -> Standing:
        return self.standings.get(project_id, Standing())

    def outlook(self, project_id: str) -> Outlook:
        return self.outlooks[project_id]

    async def append(self, project_id: str, updates: Sequence[SpecialistUpdate]) -> None:
        if self.failure is not None:
            raise self.failure
        self.told.append(("stored", project_id, list(updates)))

    async def broadcast_to_team(self, project_id: str, message: Mapping[str, Any]) -> None:
        self.told.append(("broadcast", project_id, message))

    async def send_to(self, specialist_id: str, message: Mapping[str, Any]) -> None:
        raise AssertionError("nothing is sent to one alone")

    async def publish(self, channel: str, message: Mapping[str, Any]) -> None:
        raise AssertionError("nothing is published elsewhere")


async def test_whoever_is_away_stuck_leaving_full_or_out_of_hours_is_not_available() -> None:
    room = Room()
    now = room.clock.now_us()
    room.join("here")
    room.join("stale", state={"presence": "STALE"})
    room.join("in-hours", availability=[Window(start=now - HOUR, end=now + HOUR)])
    room.join("half-full", max_concurrent=2, state={"tasks": ["t"]})
    room.join("away", state={"presence": "OFFLINE"})
    room.join("stuck", state={"health": "STUCK"})
    room.join("failed", state={"health": "FAILED"})
    room.join("leaving", state={"activity": "DRAINING"})
    room.join("full", state={"tasks": ["t"]})
    room.join("later", availability=[Window(start=now + HOUR, end=now + 2 * HOUR)])
    room.join("over", availability=[Window(start=now - HOUR, end=now)])
    found = [each.specialist_id for each in room.service.get_available_specialists()]
    assert found == ["here", "stale", "in-hours", "half-full"]


async def test_a_plan_says_what_it_was_made_from_and_survives_the_wire() -> None:
    room = Room()
    room.join("ann", "python")
    room.join("bob", "python", state={"presence": "OFFLINE"})
    project = ProjectConfig(
        project_id="p",
        deadline=room.clock.now_us() + 9 * HOUR,
        gates=[Gate(gate_id="own")],
        tasks=[task("a", "python"), task("b", "cobol")],
    )
    plan = await room.service.coordinate_specialists(project, supersedes="plan-before")
    assert [(each.task_id, each.specialist_id) for each in plan.assignments] == [("a", "ann")]
    assert [(each.task_id, each.reason) for each in plan.unassigned] == [("b", "nobody available has all of: cobol")]
    assert plan.complexity == room.service.analyze_project_complexity(project)
    assert plan.gates["a"] == [*(gate.gate_id for gate in KRIN_STANDARDS.gates), "own"]
    assert (plan.registry_version, plan.supersedes, plan.created) == (3, "plan-before", room.clock.now_us())
    assert not plan.deadline_feasible
    assert msgspec.json.decode(msgspec.json.encode(plan), type=TeamPlan) == plan
    assert await room.service.coordinate_specialists(project, supersedes="plan-before") == plan


async def test_only_what_is_left_is_planned_and_whoever_has_it_counts_as_available() -> None:
    room = Room()
    room.join("ann", state={"tasks": ["b"], "activity": "WORKING"})
    room.standings["p"] = Standing(holders={"b": "ann"}, progress={"a": 1.0, "b": 0.5}, ended=frozenset({"a"}))
    tasks = [task("a", effort_h=4.0), task("b", title="b", effort_h=4.0, depends_on=["a"])]
    plan = await room.service.coordinate_specialists(ProjectConfig(project_id="p", tasks=tasks))
    [assignment] = plan.assignments
    assert (assignment.task_id, assignment.specialist_id, assignment.start_h) == ("b", "ann", 0.0)
    assert 2.0 <= assignment.finish_h < 2.5


async def test_whoever_comes_later_is_planned_with() -> None:
    room = Room()
    start = room.clock.now_us() + 5 * HOUR
    room.join("late", availability=[Window(start=start, end=start + 9 * HOUR)])
    plan = await room.service.coordinate_specialists(ProjectConfig(project_id="p", tasks=[task("a")]))
    assert [each.start_h for each in plan.assignments] == [5.0]


async def test_tasks_that_wait_for_each_other_are_refused() -> None:
    circle = [task("a", depends_on=["b"]), task("b", depends_on=["a"])]
    with pytest.raises(HubError):
        await Room().service.coordinate_specialists(ProjectConfig(project_id="p", tasks=circle))


async def test_what_if_compares_and_commits_nothing() -> None:
    room = Room()
    room.join("ann", usd_per_hour="1")
    room.join("bob", usd_per_hour="9")
    project = ProjectConfig(project_id="p", tasks=[task("a", title="a")])
    before = await room.service.coordinate_specialists(project)
    found = await room.service.what_if(project, PlanChange(without=["ann"]), before=before)
    assert [(move.from_specialist, move.to_specialist) for move in found.moves] == [("ann", "bob")]
    assert found.plan.supersedes == before.plan_id
    assert room.told == []


async def test_updates_are_stored_and_then_told_once_with_the_next_steps() -> None:
    room = Room()
    room.outlooks["p"] = Outlook([task("a"), task("b", depends_on=["a"])])
    updates = [
        SpecialistUpdate(specialist_id="ann", project_id="p", task_id="a", progress=0.5),
        SpecialistUpdate(specialist_id="ann", project_id="p", task_id="a", task_state="COMPLETED"),
    ]
    await room.service.real_time_sync(updates)
    [stored, (kind, project_id, message)] = room.told
    assert stored == ("stored", "p", updates)
    assert (kind, project_id) == ("broadcast", "p")
    assert (message["type"], message["data"]) == ("SPECIALIST_UPDATE", updates)
    assert message["timestamp"] == room.clock.now_ms()
    assert message["coordination"].ready == ["b"]


async def test_no_updates_are_no_message() -> None:
    room = Room()
    await room.service.real_time_sync([])
    assert room.told == []


async def test_what_could_not_be_stored_is_not_told() -> None:
    room = Room()
    room.failure = OSError()
    with pytest.raises(OSError):
        await room.service.real_time_sync([SpecialistUpdate(specialist_id="ann", project_id="p")])
    assert room.told == []


@pytest.mark.parametrize("projects", [[None], ["p", "q"], ["p", None]])
async def test_updates_of_several_projects_or_none_are_refused(projects: list[str | None]) -> None:
    room = Room()
    updates = [SpecialistUpdate(specialist_id="ann", project_id=project_id) for project_id in projects]
    with pytest.raises(HubError):
        await room.service.real_time_sync(updates)
    assert room.told == []
