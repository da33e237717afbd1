"""Whose task it is between two heartbeats, by a clock that moves whenever it is read, as clocks do."""

from __future__ import annotations

from clock import ManualClock

from hub.caller import Caller
from hub.coordination.desk import KeptProject, TaskDesk
from hub.coordination.journal import Change
from hub.coordination.roster import Roster
from protocol.coordination import ProjectConfig, Specialist, TaskSpec
from protocol.team import AgentHeartbeat, Claim

ANN = Caller(user="ann", roles=frozenset({"agent"}), transport="websocket")


class Ticking(ManualClock):
    def now_us(self) -> int:
        self.advance(0.000_001)
        return super().now_us()


class Desk:
    """Ann has a task, and beats every second."""

    def __init__(self) -> None:
        self.clock = Ticking()
        self.tasks = TaskDesk(lambda: self.roster)
        self.roster = Roster(held=self.tasks.held, clock=self.clock)
        change = self.change()
        self.roster.register(Specialist(specialist_id="ann", team="p", heartbeat_s=1), ANN, change)
        kept = KeptProject(config=ProjectConfig(project_id="p"), asked="", created_us=0, creator="ann")
        project = self.tasks.add_project(kept, change)
        [task] = self.tasks.add_tasks(project, [TaskSpec(task_id="t")], actor="ann", change=change)
        self.fence = self.tasks.claim(task, self.roster.specialist("ann"), actor="ann", change=change).fence

    def change(self) -> Change:
        return Change(self.clock.now_us())

    def beat(self, *claims: Claim) -> None:
        change = self.change()
        self.tasks.renew("ann", claims, change.now_us)
        self.roster.beat(AgentHeartbeat(specialist_id="ann", claims=list(claims)), change)

    def holder_after(self, seconds: float) -> str | None:
        self.clock.advance(seconds)
        self.tasks.tick(self.change())
        return self.tasks.task("p", "t").specialist_id


async def test_a_task_is_its_holders_until_six_heartbeats_are_missed() -> None:
    desk = Desk()
    desk.beat(Claim(project_id="p", task_id="t", fence=desk.fence))
    assert desk.holder_after(5.5) == "ann"
    assert desk.holder_after(1) is None


async def test_a_task_that_its_living_holder_does_not_name_is_taken_back_with_its_lease() -> None:
    desk = Desk()
    desk.beat()
    assert desk.holder_after(2.5) == "ann"
    desk.beat()
    assert desk.holder_after(1) is None
