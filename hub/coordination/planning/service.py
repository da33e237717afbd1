"""The planning of teams, with what it needs: the registry, the state of the work, the log, a way out, a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from hub.clock import Clock
from hub.coordination.planning.allocation import optimize_team_allocation, plan_greedily
from hub.coordination.planning.availability import available
from hub.coordination.planning.complexity import analyze_project_complexity
from hub.coordination.planning.ports import Team, UpdateLog, WebSocketService, Work
from hub.coordination.planning.problem import AllocationRequest
from hub.coordination.planning.what_if import what_if
from hub.coordination.standards import KRIN_STANDARDS, Standards
from hub.coordination.tasks.graph import TaskGraph
from protocol.coordination import (
    Complexity,
    NextSteps,
    PlanChange,
    PlanDifference,
    ProjectConfig,
    Specialist,
    SpecialistUpdate,
    TeamPlan,
)
from protocol.errors import ErrorCode, HubError


class AITeamCoordinationService:
    def __init__(
        self,
        team: Team,
        *,
        work: Work,
        log: UpdateLog,
        websocket_service: WebSocketService,
        clock: Clock,
        krin_standards: Standards = KRIN_STANDARDS,
    ) -> None:
        self._team = team
        self._work = work
        self._log = log
        self._websocket_service = websocket_service
        self._clock = clock
        self._krin_standards = krin_standards
        self._solving = asyncio.Lock()  # plans are made one after another: together they would only be slower

    async def coordinate_specialists(self, project: ProjectConfig, *, supersedes: str | None = None) -> TeamPlan:
        """The best plan for what is left of the project. Raises `HubError` for tasks that cannot be worked through."""
        request = self._request(project, supersedes=supersedes)
        async with self._solving:
            began = self._clock.monotonic()
            plan = await asyncio.to_thread(optimize_team_allocation, request)
            return self._stamped(plan, began)

    async def coordinate_and_compare(
        self, project: ProjectConfig, *, supersedes: str | None = None
    ) -> tuple[TeamPlan, TeamPlan]:
        """As `coordinate_specialists`, with the greedy plan for the same request beside it."""
        request = self._request(project, supersedes=supersedes)
        async with self._solving:
            began = self._clock.monotonic()
            plan = await asyncio.to_thread(optimize_team_allocation, request)
            stamped = self._stamped(plan, began)
            began = self._clock.monotonic()
            return stamped, self._stamped(await asyncio.to_thread(plan_greedily, request), began)

    async def what_if(self, project: ProjectConfig, change: PlanChange, *, before: TeamPlan) -> PlanDifference:
        """How a change would turn out, compared with the plan as it is. Nothing is committed."""
        request = self._request(project, supersedes=before.plan_id)
        async with self._solving:
            began = self._clock.monotonic()
            found = await asyncio.to_thread(what_if, request, change, before=before)
            return replace(found, plan=self._stamped(found.plan, began))

    def get_available_specialists(self) -> list[Specialist]:
        """Who could begin a task now."""
        now_us = self._clock.now_us()
        return available(self._team.members(), now_us=now_us, until_us=now_us)

    def analyze_project_complexity(self, project: ProjectConfig) -> Complexity:
        return analyze_project_complexity(project)

    def optimize_team_allocation(self, request: AllocationRequest) -> TeamPlan:
        """Computes for up to seconds: never call it on the event loop."""
        return optimize_team_allocation(request)

    async def real_time_sync(self, updates: Sequence[SpecialistUpdate]) -> NextSteps:
        """Stores the updates of one project, then tells its team once what to do next. No updates, no message.

        Raises `HubError` when the updates do not all name the same project.
        """
        if not updates:
            return NextSteps()
        project_id = updates[0].project_id
        if project_id is None or any(update.project_id != project_id for update in updates):
            raise HubError(ErrorCode.SCHEMA_INVALID, "All updates must name the same project.", path="$.params.updates")
        await self._log.append(project_id, updates)
        steps = self.calculate_next_steps(project_id, updates)
        await self._websocket_service.broadcast_to_team(
            project_id,
            {
                "type": "SPECIALIST_UPDATE",
                "data": list(updates),
                "timestamp": self._clock.now_ms(),
                "coordination": steps,
            },
        )
        return steps

    def calculate_next_steps(self, project_id: str, updates: Sequence[SpecialistUpdate]) -> NextSteps:
        """What to do after these updates."""
        began = self._clock.monotonic()
        outlook = self._work.outlook(project_id)
        for update in updates:
            outlook.apply(update)
        steps = outlook.next_steps(self._clock.now_us())
        return replace(steps, computed_in_us=round((self._clock.monotonic() - began) * 1_000_000))

    def _request(self, project: ProjectConfig, *, supersedes: str | None) -> AllocationRequest:
        TaskGraph().add(project.tasks)  # refuses what cannot be worked through
        now_us, standing = self._clock.now_us(), self._work.standing(project.project_id)
        tasks = [task for task in project.tasks if task.task_id not in standing.ended]
        specialists = available(
            self._team.members(project.team or project.project_id),
            now_us=now_us,
            until_us=project.deadline,
            planned={task.task_id for task in tasks},
        )
        return AllocationRequest(
            project_id=project.project_id,
            tasks=tasks,
            specialists=specialists,
            start=max(now_us, project.start or 0),
            complexity=self.analyze_project_complexity(project),
            timeline=project.deadline,
            quality_gates=[*self._krin_standards.gates, *project.gates],
            budget_usd=project.budget_usd,
            budget_tokens=project.budget_tokens,
            weights=project.weights,
            progress=standing.progress,
            holders=standing.holders,
            registry_version=self._team.version,
            supersedes=supersedes,
        )

    def _stamped(self, plan: TeamPlan, began: float) -> TeamPlan:
        ms = round((self._clock.monotonic() - began) * 1000, 3)
        return replace(plan, created=self._clock.now_us(), solver=replace(plan.solver, ms=ms))
