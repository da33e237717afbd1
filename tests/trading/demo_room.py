"""A coordinator for the demo's team: everything but Postgres."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from hub.caller import Caller
from hub.channels.access import Access
from hub.cli.serving import ROLES_IN_DEMO
from hub.coordination.archive import Archive
from hub.coordination.coordinator import Term
from hub.coordination.journal import Change
from hub.coordination.people import People, PeopleService
from hub.coordination.plans import Plans, PlanService
from hub.coordination.service import TeamService
from hub.demo.team import GUEST, TEAM, SimulatedTeam
from hub.namespaces import Namespaces
from protocol.codec import check_shape
from protocol.coordination import Alert
from protocol.errors import HubError
from storage.coordination_records import Record

from .virtual_clock import JumpingClock, VirtualClock

STEP_S = 2.0


class Kept:
    """A journal that keeps what it is given, at once."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, Any]] = []
        self.ended: dict[str, Record] = {}  # projects

    def require_room(self) -> None:
        """There always is."""

    def add(self, change: Change) -> asyncio.Future[None]:
        for each in change.messages:
            self.messages.append((each.channel, each.type, msgspec.json.decode(b"{%b}" % each.body)["data"]))
        self.ended |= {each.id: each for each in change.records if each.kind == "project" and each.ended}
        change.done.set_result(None)
        return change.done

    async def find(self, kind: str, id: str) -> Record | None:
        return self.ended.get(id) if kind == "project" else None

    async def ended_projects(self, *, state: str, before: str | None, limit: int) -> list[Record]:
        found = [each for each in self.ended.values() if msgspec.json.decode(each.body)["state"] == state]
        return found[::-1][:limit]


class DemoRoom:
    """A coordinator of one term, its methods, and the demo's team in it."""

    def __init__(self, seed: int = 1, *, clock: VirtualClock | None = None) -> None:
        self.clock = clock or JumpingClock()
        self.kept = Kept()
        self.alerts: list[Alert] = []
        self.term = Term(self.kept, clock=self.clock)  # type: ignore[arg-type]  # all of a journal that is used
        People(self.term)
        self.term.desks["plans"] = Plans(self.term, clock=self.clock)
        access = Access(Namespaces(), report=lambda event: None)
        archive = Archive(self.kept, term=lambda: self.term)  # type: ignore[arg-type]  # all of it that is used
        services = (TeamService, PeopleService, PlanService)
        self._methods: dict[str, Any] = {
            name: method
            for service in services
            for name, method in service(self, access=access, archive=archive).methods.items()  # type: ignore[arg-type]  # has a `term`
        }
        self.calls: Counter[str] = Counter()
        self.refuse: Callable[[str], HubError | None] = lambda method: None
        self.team = SimulatedTeam(self.call, self.tell, self.clock, seed=seed)

    async def tell(self, alert: Alert) -> None:
        self.alerts.append(alert)

    async def call(self, user: str, method: str, params: dict[str, Any]) -> Any:
        if (refusal := self.refuse(method)) is not None:
            raise refusal
        self.calls[method] += 1
        caller = Caller(
            user=user,
            roles=frozenset(ROLES_IN_DEMO[user]),
            teams=frozenset("*"),
            transport="system",
            principal="operator",
        )
        check_shape(params, "$.params")  # as the dispatcher does
        result = self._methods[method](params, caller)
        return await result if inspect.isawaitable(result) else result

    async def pass_time(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end and not until():
            await self.team.step()
            self.term.tick()
            await self.clock.sleep(STEP_S)

    def tasks(self, project: str = TEAM) -> dict[str, Any]:
        return self.term.tasks.projects[project].tasks

    def told(self, *types: str) -> list[Any]:
        return [data for _, type_name, data in self.kept.messages if type_name in types]

    async def open_question(self) -> Any:
        found = await self.call(GUEST, "approvals.list", {"state": "REQUESTED"})
        return found.approvals[0] if found.approvals else None
