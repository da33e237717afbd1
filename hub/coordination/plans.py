"""Plans of teams, and what to do next: the planning service on top of what the coordinator knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from hub.channels.access import Access, Action
from hub.clock import Clock
from hub.coordination.archive import Archive
from hub.coordination.coordinator import Coordination, Term
from hub.coordination.desk import Project, update_of
from hub.coordination.journal import Change, key_within
from hub.coordination.planning.next_steps import Outlook
from hub.coordination.planning.ports import Standing
from hub.coordination.planning.service import AITeamCoordinationService
from hub.coordination.roster import Roster
from hub.coordination.service import team_channel
from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.task import Task
from hub.dispatch import Method, convert
from protocol.coordination import (
    Alert,
    NextSteps,
    PlanChange,
    PlanDifference,
    ProjectConfig,
    Specialist,
    SpecialistStatus,
    SpecialistUpdate,
    TeamPlan,
)
from protocol.errors import ErrorCode, HubError
from protocol.planning import (
    Baseline,
    PlanNotice,
    TeamCommit,
    TeamCommitted,
    TeamPlanAsk,
    TeamPlanned,
    TeamSteps,
    TeamSync,
    TeamWhatIf,
)

KIND = "plan"
RISK_CHECK_US = 5_000_000


class KeptPlan(msgspec.Struct, frozen=True, kw_only=True):
    plan: TeamPlan
    state: Literal["PROPOSED", "COMMITTED", "SUPERSEDED"]
    by: str


_decode = msgspec.json.Decoder(KeptPlan).decode


class DeskOutlook(Outlook):
    """What the coordinator knows of a task counts; a report adds how far its holder is."""

    def apply(self, update: SpecialistUpdate) -> None:
        if update.task_id is not None:
            self.task_progressed(update.task_id, holder=update.specialist_id, progress=update.progress)


class Plans:
    """A desk: it restores and supersedes plans, keeps one outlook per project, and makes the planning service's ports
    (Team, Work, UpdateLog, WebSocketService) of the term it belongs to.
    """

    def __init__(self, term: Term, *, clock: Clock) -> None:
        self._term = term
        self._clock = clock
        self._outlooks: dict[str, Outlook] = {}
        self._pending: Change | None = None  # of a sync, between its entries and its message
        self._at_risk: dict[str, bool] = {}
        self._checked_us = 0
        self.proposed: dict[str, KeptPlan] = {}  # by project
        self.committed: dict[str, KeptPlan] = {}
        self.listeners: list[Callable[[Mapping[str, str], Mapping[str, str]], None]] = []
        self.kinds: Mapping[str, Callable[[bytes], None]] = {KIND: self._restore}
        self.service = AITeamCoordinationService(self, work=self, log=self, websocket_service=self, clock=clock)
        term.tasks.listeners.append(self._hear)
        term.tasks.leaving.append(self._leave)
        term.roster.listeners.append(self._hear_status)

    # --- desk ---

    def _restore(self, body: bytes) -> None:
        kept = _decode(body)
        (self.committed if kept.state == "COMMITTED" else self.proposed)[kept.plan.project_id] = kept

    def restored(self, now_us: int) -> None:
        for project_id, kept in self.committed.items():
            if (project := self._term.tasks.projects.get(project_id)) is not None:
                project.planned = _whose(kept.plan)

    def tick(self, change: Change) -> None:
        """Deadlines that cannot be kept any more are an alert, and so is that they can be again."""
        if change.now_us - self._checked_us < RISK_CHECK_US:
            return
        self._checked_us = change.now_us
        for project in self._term.tasks.projects.values():
            if project.config.deadline is None and not any(task.spec.deadline for task in project.tasks.values()):
                continue
            risks = self.outlook(project.project_id).at_risk(change.now_us)
            if bool(risks) != self._at_risk.get(project.project_id, False):
                self._at_risk[project.project_id] = bool(risks)
                detail = "; ".join(f"{each.task_id}: {each.reason}" for each in risks[:5])
                self._alert(project, "at risk" if risks else "safe again", detail, change, firing=bool(risks))

    def _alert(self, project: Project, how: str, detail: str, change: Change, *, firing: bool) -> None:
        alert = Alert(
            alert_id=f"deadline:{project.project_id}",
            severity="WARNING",
            title=f"a deadline of {project.project_id} is {how}",
            state="FIRING" if firing else "RESOLVED",
            source="planning",
            detail=detail or None,
            ts_event=change.now_us,
        )
        change.tell(team_channel(project.project_id), "ALERT", alert)

    def _leave(self, project: Project, change: Change) -> None:
        """It ends: nobody needs its plans, and no deadline of it is at risk any more."""
        for known in (self._outlooks, self.proposed, self.committed):
            known.pop(project.project_id, None)
        if self._at_risk.pop(project.project_id, False):
            self._alert(project, "over", "the project has ended", change, firing=False)

    # --- ports of the planning service ---

    @property
    def version(self) -> int:
        return self._roster.version

    def members(self, team: str | None = None) -> Iterable[tuple[Specialist, SpecialistStatus]]:
        return self._roster.members(team)

    def standing(self, project_id: str) -> Standing:
        tasks = self._term.tasks.project(project_id).tasks.values()
        return Standing(
            holders={task.task_id: task.specialist_id for task in tasks if task.specialist_id and not task.ended},
            progress={task.task_id: task.progress for task in tasks if task.progress},
            ended=frozenset(task.task_id for task in tasks if task.ended),
        )

    def outlook(self, project_id: str) -> Outlook:
        found = self._outlooks.get(project_id)
        if found is None:
            project = self._term.tasks.project(project_id)
            found = self._outlooks[project_id] = DeskOutlook(
                [task.spec for task in project.tasks.values()], deadline=project.config.deadline
            )
            for task in project.tasks.values():
                _show(found, project, task)
            for specialist, status in self._roster.members(project.team):
                found.specialist_is(specialist, status)
        return found

    async def append(self, project_id: str, updates: Sequence[SpecialistUpdate]) -> None:
        """Written down together with the message that follows. Raises HubError(not_found)."""
        self._term.tasks.project(project_id)
        self._pending = self._term.change()
        for update in updates:
            self._pending.log(project_id, update)

    async def broadcast_to_team(self, project_id: str, message: Mapping[str, Any]) -> None:
        await self._tell(team_channel(project_id), message)

    async def send_to(self, specialist_id: str, message: Mapping[str, Any]) -> None:
        await self._tell(f"agent:{specialist_id}", message)

    async def publish(self, channel: str, message: Mapping[str, Any]) -> None:
        await self._tell(channel, message)

    async def _tell(self, channel: str, message: Mapping[str, Any]) -> None:
        change, self._pending = self._pending or self._term.change(), None
        coordination = message.get("coordination")
        change.tell(
            channel,
            message["type"],
            message["data"],
            coordination=msgspec.to_builtins(coordination) if coordination is not None else None,
        )
        await self._term.journal.add(change)

    # --- what happens ---

    def _hear(self, before: Task | None, task: Task, event: TaskEvent, change: Change) -> None:
        outlook = self._outlooks.get(task.project_id)
        if outlook is None:
            self.outlook(task.project_id)  # with this task in it; a project is followed from its first task on
            return
        if before is None:
            outlook.add([task.spec])
        _show(outlook, self._term.tasks.project(task.project_id), task)

    def _hear_status(self, specialist: Specialist, status: SpecialistStatus | None, change: Change) -> None:
        for project_id, outlook in self._outlooks.items():
            if self._term.tasks.projects[project_id].team != specialist.team:
                continue
            if status is None:
                outlook.specialist_left(specialist.specialist_id)
            else:
                outlook.specialist_is(specialist, status)

    # --- plans ---

    def config(self, project_id: str) -> ProjectConfig:
        project = self._term.tasks.project(project_id)
        return replace(project.config, tasks=[task.spec for task in project.tasks.values()])

    def propose(self, plan: TeamPlan, *, by: str, change: Change) -> None:
        """Raises UnknownProject: it has ended meanwhile."""
        self._term.tasks.project(plan.project_id)
        self._supersede(self.proposed.get(plan.project_id), change)
        kept = self.proposed[plan.project_id] = KeptPlan(plan=plan, state="PROPOSED", by=by)
        self._keep(kept, change)
        change.tell(team_channel(plan.project_id), "PLAN_PROPOSED", _notice(kept, change.now_us))

    def require_known(self, project_id: str, change: PlanChange) -> None:
        """Raises HubError(not_found): it names a task or a specialist that is not there, and would change nothing."""
        tasks, at = self._term.tasks.project(project_id).tasks, "$.params.change"
        for where, who in ((f"{at}.without", change.without), (f"{at}.pinned", change.pinned.values())):
            if any(name not in self._roster for name in who):
                raise HubError(ErrorCode.NOT_FOUND, "no such specialist", path=where)
        if any(name not in tasks for name in change.pinned):
            raise HubError(ErrorCode.NOT_FOUND, "no such task", path=f"{at}.pinned")

    def commit(self, project_id: str, plan_id: str, *, by: str, change: Change) -> TeamPlan:
        """Raises HubError(version_conflict): another one was proposed meanwhile."""
        project = self._term.tasks.project(project_id)
        proposed = self.proposed.get(project_id)
        committed = self.committed.get(project_id)
        if committed is not None and committed.plan.plan_id == plan_id:
            return committed.plan
        if proposed is None or proposed.plan.plan_id != plan_id:
            raise HubError(ErrorCode.VERSION_CONFLICT, "this is not the plan that was proposed last")
        del self.proposed[project_id]
        self._supersede(committed, change)
        kept = self.committed[project_id] = KeptPlan(plan=proposed.plan, state="COMMITTED", by=by)
        self._keep(kept, change)
        before, project.planned = project.planned, _whose(kept.plan)
        for hear in self.listeners:
            hear(before, project.planned)
        change.tell(team_channel(project_id), "PLAN_COMMITTED", _notice(kept, change.now_us))
        for task_id in project.queue:
            if (specialist_id := project.planned.get(task_id)) is not None:
                change.tell(f"agent:{specialist_id}", "TASK_STATUS_UPDATE", update_of(project.tasks[task_id]))
        return kept.plan

    def current(self, project_id: str) -> TeamPlan:
        """The plan that holds, or else the one proposed last. Raises HubError(not_found)."""
        self._term.tasks.project(project_id)
        kept = self.committed.get(project_id) or self.proposed.get(project_id)
        if kept is None:
            raise nobody_planned()
        return kept.plan

    def _supersede(self, kept: KeptPlan | None, change: Change) -> None:
        if kept is not None:
            self._keep(replace(kept, state="SUPERSEDED"), change)

    def _keep(self, kept: KeptPlan, change: Change) -> None:
        project_id = kept.plan.project_id
        change.keep(
            KIND,
            key_within(project_id, kept.plan.plan_id),
            kept,
            project_id=project_id,
            ended=kept.state == "SUPERSEDED",
        )

    @property
    def _roster(self) -> Roster:
        return self._term.roster


class PlanService:
    """The methods `team.*`. Who may publish to `team:{project}` may plan; who may subscribe may ask what comes next."""

    def __init__(self, coordination: Coordination, *, access: Access, archive: Archive) -> None:
        self._coordination = coordination
        self._access = access
        self._archive = archive
        self.methods: Mapping[str, Method] = {
            "team.plan": self.plan,
            "team.what_if": self.what_if,
            "team.commit": self.commit,
            "team.sync": self.sync,
            "team.next_steps": self.next_steps,
            "team.current": self.current,
        }

    async def plan(self, params: Mapping[str, Any], caller: Caller) -> TeamPlanned:
        asked: TeamPlanAsk = self._asked(params, TeamPlanAsk, caller)
        term, plans = self._term(), self._plans()
        before = plans.committed.get(asked.project_id)
        plan, greedy = await plans.service.coordinate_and_compare(
            plans.config(asked.project_id), supersedes=before.plan.plan_id if before is not None else None
        )
        change = term.change()
        plans.propose(plan, by=caller.user, change=change)
        await term.journal.add(change)
        return TeamPlanned(plan=plan, greedy=_baseline(greedy))

    async def what_if(self, params: Mapping[str, Any], caller: Caller) -> PlanDifference:
        asked: TeamWhatIf = self._asked(params, TeamWhatIf, caller, "subscribe")
        plans = self._plans()
        before = plans.current(asked.project_id)
        plans.require_known(asked.project_id, asked.change)
        return await plans.service.what_if(plans.config(asked.project_id), asked.change, before=before)

    async def commit(self, params: Mapping[str, Any], caller: Caller) -> TeamCommitted:
        asked: TeamCommit = self._asked(params, TeamCommit, caller)
        term = self._term()
        change = term.change()
        plan = self._plans().commit(asked.project_id, asked.plan_id, by=caller.user, change=change)
        await term.journal.add(change)
        return TeamCommitted(plan=plan)

    async def current(self, params: Mapping[str, Any], caller: Caller) -> TeamCommitted:
        """Of a project that has ended the plan that held."""
        asked: TeamPlanAsk = self._asked(params, TeamPlanAsk, caller, "subscribe")
        if asked.project_id in self._term().tasks.projects:
            return TeamCommitted(plan=self._plans().current(asked.project_id))
        left = [_decode(body) for body in await self._archive.last(asked.project_id, KIND)]
        for kept in left:
            if kept.state == "COMMITTED":
                return TeamCommitted(plan=kept.plan)
        raise nobody_planned()

    async def sync(self, params: Mapping[str, Any], caller: Caller) -> TeamSteps:
        """Stores the updates and tells the team once. Whoever reports speaks for specialists of their own."""
        asked: TeamSync = convert(params, TeamSync)
        for index, update in enumerate(asked.updates):
            if update.project_id is None:
                raise HubError(ErrorCode.SCHEMA_INVALID, "which project?", path=f"$.params.updates[{index}].project_id")
        for project_id in {update.project_id for update in asked.updates}:
            self._access.require(caller, "publish", team_channel(project_id or ""))
        term, plans = self._term(), self._plans()
        for specialist_id in {update.specialist_id for update in asked.updates}:
            if specialist_id in term.roster:
                term.roster.own(specialist_id, caller)
        return TeamSteps(next_steps=await plans.service.real_time_sync(asked.updates))

    async def next_steps(self, params: Mapping[str, Any], caller: Caller) -> TeamSteps:
        """Of a project that has ended: none."""
        asked: TeamPlanAsk = self._asked(params, TeamPlanAsk, caller, "subscribe")
        if asked.project_id not in self._term().tasks.projects:
            await self._archive.project(asked.project_id)
            return TeamSteps(next_steps=NextSteps())
        steps: NextSteps = self._plans().service.calculate_next_steps(asked.project_id, [])
        return TeamSteps(next_steps=steps)

    def _term(self) -> Term:
        return self._coordination.term

    def _plans(self) -> Plans:
        plans = self._term().desks["plans"]
        assert isinstance(plans, Plans)
        return plans

    def _asked(self, params: Mapping[str, Any], kind: type[Any], caller: Caller, action: Action = "publish") -> Any:
        """Raises HubError(schema_invalid, permission_denied)."""
        asked = convert(params, kind)
        self._access.require(caller, action, team_channel(asked.project_id))
        return asked


def nobody_planned() -> HubError:
    return HubError(ErrorCode.NOT_FOUND, "nobody has planned this project yet", path="$.params.project_id")


def _show(outlook: Outlook, project: Project, task: Task) -> None:
    """A task that was tried again with success is as good as completed."""
    replaced = task.ended and task.task_id in project.done
    outlook.task_is(
        task.task_id,
        state="COMPLETED" if replaced else task.state,
        holder=task.specialist_id,
        progress=task.progress,
        blockers=task.blockers,
    )
    for name in task.spec.reference_task_ids if task.state == "COMPLETED" else ():
        if name in project.done:
            outlook.task_is(name, state="COMPLETED")


def _whose(plan: TeamPlan) -> dict[str, str]:
    return {each.task_id: each.specialist_id for each in plan.assignments}


def _notice(kept: KeptPlan, now_us: int) -> PlanNotice:
    plan = kept.plan
    return PlanNotice(
        plan_id=plan.plan_id,
        project_id=plan.project_id,
        assigned=len(plan.assignments),
        unassigned=len(plan.unassigned),
        makespan_h=plan.makespan_h,
        deadline_feasible=plan.deadline_feasible,
        budget_used_usd=plan.budget_used_usd,
        supersedes=plan.supersedes,
        by=kept.by,
        ts_event=now_us,
    )


def _baseline(plan: TeamPlan) -> Baseline:
    return Baseline(
        objective=plan.solver.objective,
        makespan_h=plan.makespan_h,
        utilisation=plan.utilisation,
        unassigned=len(plan.unassigned),
    )
