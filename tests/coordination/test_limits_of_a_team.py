"""What one team may have at most, so that the others keep theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clock import ManualClock

from hub.caller import Caller
from hub.coordination import approval_desk, contract_desk, handoff_desk, roster
from hub.coordination.approval_desk import ApprovalDesk
from hub.coordination.contract_desk import ContractDesk
from hub.coordination.desk import MAX_PROJECTS_OF_TEAM, KeptProject, TaskDesk
from hub.coordination.handoff_desk import HandOffDesk
from hub.coordination.journal import Change
from hub.coordination.roster import Roster
from protocol.approvals import ApprovalRequest
from protocol.contracts import ContractAnnounce
from protocol.coordination import ProjectConfig, Specialist, TaskSpec
from protocol.errors import ErrorCode, HubError
from protocol.handoffs import HandOffOffer

ANN = Caller(user="ann", roles=frozenset({"agent"}), transport="websocket")
BOB = Caller(user="bob", roles=frozenset({"agent"}), transport="websocket")


class Desks:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tasks = TaskDesk(lambda: self.roster)
        self.roster = Roster(held=self.tasks.held, clock=self.clock)
        self.approvals = ApprovalDesk(self.tasks, waive=lambda case, by, change: None)
        self.handoffs = HandOffDesk(self.tasks, self.roster)
        self.contracts = ContractDesk(self.tasks)

    @property
    def soon_us(self) -> int:
        return self.clock.now_us() + 60_000_000

    def change(self) -> Change:
        return Change(self.clock.now_us())

    def project(self, name: str, team: str) -> None:
        config = ProjectConfig(project_id=name, team=team)
        kept = KeptProject(config=config, asked="", created_us=0, creator="ann")
        self.tasks.add_project(kept, self.change())

    def register(self, name: str, team: str, **fields: int) -> None:
        self.roster.register(Specialist(specialist_id=name, team=team, **fields), ANN, self.change())


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(HubError) as failure:
        call()
    assert failure.value.code is ErrorCode.LIMIT_EXCEEDED


async def test_open_projects() -> None:
    desks = Desks()
    for number in range(MAX_PROJECTS_OF_TEAM):
        desks.project(f"p-{number}", "many")
    refused(lambda: desks.project("more", "many"))
    desks.project("others", "few")
    first = desks.tasks.project("p-0")
    desks.tasks.end_project(first, "CANCELED", actor="ann", reason="", change=desks.change())
    desks.project("more", "many")


async def test_specialists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MAX_SPECIALISTS_OF_TEAM", 2)
    desks = Desks()
    for name in "abb":  # registered again it counts once
        desks.register(name, "many")
    refused(lambda: desks.register("c", "many"))
    desks.register("c", "few")
    refused(lambda: desks.register("c", "many"))
    desks.register("a", "few")  # it moves, and leaves a place
    desks.register("c", "many")
    desks.roster.leave("b", ANN, desks.change())
    desks.register("d", "many")


async def test_tasks_on_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff_desk, "MAX_OPEN_OF_TEAM", 2)
    desks = Desks()

    def offer(team: str, number: int) -> None:
        task = desks.tasks.task(f"p-{team}", f"t-{number}")
        fence = desks.tasks.claim(task, desks.roster.specialist(team), actor="ann", change=desks.change()).fence
        asked = HandOffOffer(
            project_id=task.project_id,
            task_id=task.task_id,
            specialist_id=team,
            fence=fence,
            to_skill="py",
            expires_at=desks.soon_us,
        )
        desks.handoffs.offer(asked, ANN, desks.change())

    for team in ("many", "few"):
        desks.register(team, team, max_concurrent=9)
        desks.project(f"p-{team}", team)
        tasks = [TaskSpec(task_id=f"t-{number}") for number in range(4)]
        desks.tasks.add_tasks(desks.tasks.project(f"p-{team}"), tasks, actor="ann", change=desks.change())
    offer("many", 0)
    offer("many", 1)
    refused(lambda: offer("many", 2))
    offer("few", 0)


async def test_approvals_of_a_team_or_else_of_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval_desk, "MAX_OPEN_OF_TEAM", 2)
    desks = Desks()
    for project, team in (("p-1", "many"), ("p-2", "many"), ("p-3", "few")):
        desks.project(project, team)

    def ask(project: str | None, by: Caller = ANN) -> None:
        asked = ApprovalRequest(subject="?", approver_roles=["lead"], project_id=project, expires_at=desks.soon_us)
        desks.approvals.request(asked, by, desks.change())

    ask("p-1")
    ask("p-2")
    refused(lambda: ask("p-1", BOB))
    ask("p-3")
    ask(None)
    ask(None)
    refused(lambda: ask(None))
    ask(None, BOB)
    first = desks.tasks.project("p-1")
    desks.tasks.end_project(first, "CANCELED", actor="ann", reason="", change=desks.change())
    ask("p-2")


async def test_announced_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_desk, "MAX_ANNOUNCED_TO_TEAM", 2)
    desks = Desks()
    desks.project("many", "many")

    def announce(project: str, version: str) -> None:
        asked = ContractAnnounce(
            project_id=project, contract="c", version=version, change="?", effective_at=desks.soon_us
        )
        desks.contracts.announce(asked, ANN, desks.change())

    announce("many", "1")
    announce("many", "2")
    announce("many", "2")  # the same one
    refused(lambda: announce("many", "3"))
    announce("few", "1")
    first = desks.tasks.project("many")
    desks.tasks.end_project(first, "CANCELED", actor="ann", reason="", change=desks.change())
    announce("many", "3")
