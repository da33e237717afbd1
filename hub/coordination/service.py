"""The methods `agents.*`, `projects.*` and `tasks.*`.

Whoever may publish to `team:{project}` may act in the project, whoever may subscribe to it may look. An agent acts as
itself: a specialist is its who registered it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from hub.channels.access import Access, Action
from hub.coordination.archive import Archive, has_ended
from hub.coordination.coordinator import Coordination, Term
from hub.coordination.departures import AgentGone
from hub.coordination.desk import KeptProject, Project, UnknownProject, check_tasks, update_of
from hub.coordination.journal import Change
from hub.coordination.planning.graph import dependencies, in_order
from hub.coordination.tasks.task import Task
from hub.dispatch import Method, convert
from protocol.coordination import TaskSpec
from protocol.errors import ErrorCode, HubError
from protocol.team import (
    AgentEntry,
    AgentHeartbeat,
    AgentList,
    AgentName,
    AgentPage,
    AgentPause,
    AgentRegister,
    HeartbeatAnswer,
    ProjectAnswer,
    ProjectCreate,
    ProjectCreated,
    ProjectEnd,
    ProjectList,
    ProjectName,
    ProjectPage,
    TaskAnswer,
    TaskAssign,
    TaskBlock,
    TaskClaim,
    TaskClaimed,
    TaskCreate,
    TaskDecline,
    TaskDetail,
    TaskFail,
    TaskHold,
    TaskIntervene,
    TaskList,
    TaskName,
    TaskPage,
    TaskUnblock,
)

T = TypeVar("T")

PART = 500  # tasks of a project that are created at once: some 20 ms

Decide = Callable[[Term, Change], T]


def team_channel(project_id: str) -> str:
    return f"team:{project_id}"


async def decided(coordination: Coordination, decide: Decide[T]) -> T:
    """Take a decision, and answer it when it is written down.

    Raises HubError. A decision that fails half-way is written down as far as it went: memory has gone as far.
    """
    term = coordination.term
    change = term.change()
    try:
        answer = decide(term, change)
    except Exception:
        if change.records:
            await term.journal.add(change)
        raise
    if change.records or change.messages or change.entries:
        await term.journal.add(change)
    return answer


class TeamService:
    def __init__(self, coordination: Coordination, *, access: Access, archive: Archive) -> None:
        self._coordination = coordination
        self._access = access
        self._archive = archive
        self.methods: Mapping[str, Method] = {
            "agents.register": self.register,
            "agents.heartbeat": self.heartbeat,
            "agents.list": self.agents,
            "agents.status": self.agent,
            "agents.leave": self.leave,
            "agents.pause": self.pause_agent,
            "agents.resume": self.resume_agent,
            "agents.gone": self.gone,
            "projects.create": self.create_project,
            "projects.get": self.get_project,
            "projects.list": self.list_projects,
            "projects.close": self.close_project,
            "projects.cancel": self.cancel_project,
            "tasks.create": self.create,
            "tasks.list": self.list,
            "tasks.get": self.get,
            "tasks.assign": self.assign,
            "tasks.claim": self.claim,
            "tasks.block": self.block,
            "tasks.unblock": self.unblock,
            "tasks.pause": self.pause,
            "tasks.resume": self.resume,
            "tasks.cancel": self.cancel,
            "tasks.fail": self.fail,
            "tasks.decline": self.decline,
        }

    # --- agents ---

    async def register(self, params: Mapping[str, Any], caller: Caller) -> AgentEntry:
        asked: AgentRegister = convert(params, AgentRegister)
        specialist = asked.specialist
        self._access.require(caller, "publish", team_channel(specialist.team))

        def decide(term: Term, change: Change) -> AgentEntry:
            term.roster.register(specialist, caller, change)
            return term.roster.entry(specialist.specialist_id)

        return await self._decided(decide)

    async def heartbeat(self, params: Mapping[str, Any], caller: Caller) -> HeartbeatAnswer:
        asked: AgentHeartbeat = convert(params, AgentHeartbeat)

        def decide(term: Term, change: Change) -> HeartbeatAnswer:
            term.roster.own(asked.specialist_id, caller)
            lost = term.tasks.renew(asked.specialist_id, asked.claims, change.now_us)
            term.roster.beat(asked, change)
            return HeartbeatAnswer(status=term.roster.status(asked.specialist_id), lost=lost)

        return await self._decided(decide)

    def agents(self, params: Mapping[str, Any], caller: Caller) -> AgentPage:
        """Those whose teams the caller may see."""
        asked: AgentList = convert(params, AgentList)
        roster = self._coordination.term.roster
        seen = [
            roster.entry(specialist.specialist_id)
            for specialist, _ in roster.members(asked.team)
            if self._may(caller, "subscribe", specialist.team)
        ]
        return AgentPage(specialists=seen, version=roster.version)

    def agent(self, params: Mapping[str, Any], caller: Caller) -> AgentEntry:
        asked: AgentName = convert(params, AgentName)
        roster = self._coordination.term.roster
        entry = roster.entry(asked.specialist_id)
        self._access.require(caller, "subscribe", team_channel(entry.specialist.team))
        return entry

    async def leave(self, params: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        asked: AgentName = convert(params, AgentName)

        def decide(term: Term, change: Change) -> dict[str, Any]:
            term.roster.own(asked.specialist_id, caller)
            term.tasks.take_back(asked.specialist_id, change, reason="it has left", always=True)
            term.roster.leave(asked.specialist_id, caller, change)
            return {}

        return await self._decided(decide)

    async def pause_agent(self, params: Mapping[str, Any], caller: Caller) -> AgentEntry:
        return await self._pause_agent(params, caller, "PAUSE")

    async def resume_agent(self, params: Mapping[str, Any], caller: Caller) -> AgentEntry:
        return await self._pause_agent(params, caller, "RESUME")

    async def _pause_agent(self, params: Mapping[str, Any], caller: Caller, happening: str) -> AgentEntry:
        asked: AgentPause = convert(params, AgentPause)
        wanted = ("RUNNING", "BLOCKED", "IN_REVIEW") if happening == "PAUSE" else ("PAUSED",)

        def decide(term: Term, change: Change) -> AgentEntry:
            specialist = term.roster.specialist(asked.specialist_id)
            self._access.require(caller, "publish", team_channel(specialist.team))
            reason = asked.reason if happening == "PAUSE" else None
            term.roster.pause(asked.specialist_id, reason, caller, change)
            for task in [each for each in term.tasks.held(asked.specialist_id) if each.substate in wanted]:
                term.tasks.act(task.project_id, task.task_id, happening, actor=caller.user, change=change)
            return term.roster.entry(asked.specialist_id)

        return await self._decided(decide)

    async def gone(self, params: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Its connection closed, says the node that had it. Nodes call this, peers cannot: see `departures`."""
        asked: AgentGone = convert(params, AgentGone)

        def decide(term: Term, change: Change) -> dict[str, Any]:
            term.roster.gone(asked.specialist_id, change, seen_us=change.now_us - asked.silent_us)
            return {}

        return await self._decided(decide)

    # --- projects ---

    async def create_project(self, params: Mapping[str, Any], caller: Caller) -> ProjectCreated:
        """Large ones in parts, between which others are served. Who gets no answer asks again, and it goes on."""
        asked: ProjectCreate = convert(params, ProjectCreate)
        config = asked.project
        self._access.require(caller, "publish", team_channel(config.project_id))
        if config.team is not None:  # whose specialists are planned with, and shown in the plan
            self._access.require(caller, "publish", team_channel(config.team))
        check_tasks(config)
        fingerprint = hashlib.sha256(msgspec.json.encode(config)).hexdigest()

        await self._archive.refuse_ended(config.project_id)

        def begin(term: Term, change: Change) -> None:
            known = term.tasks.projects.get(config.project_id)
            if known is None and config.project_id in term.tasks.ended:  # meanwhile
                raise UnknownProject(config.project_id)
            if known is None:
                kept = KeptProject(
                    config=replace(config, tasks=[]), asked=fingerprint, created_us=change.now_us, creator=caller.user
                )
                term.tasks.add_project(kept, change)
            elif known.kept.asked != fingerprint:
                raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "another project has this project_id")

        await self._decided(begin)
        specs = _in_order(config.tasks)
        for start in range(0, len(specs), PART):
            part = specs[start : start + PART]

            def add(term: Term, change: Change, part: Sequence[TaskSpec] = part) -> None:
                project = term.tasks.project(config.project_id)
                new = [spec for spec in part if spec.task_id not in project.tasks]
                if new:
                    term.tasks.add_tasks(project, new, actor=caller.user, change=change)

            await self._decided(add)
        return ProjectCreated(project_id=config.project_id, tasks=len(config.tasks))

    async def get_project(self, params: Mapping[str, Any], caller: Caller) -> ProjectAnswer:
        asked: ProjectName = self._asked(params, ProjectName, caller, "subscribe")
        project = self._coordination.term.tasks.projects.get(asked.project_id)
        return _describe(project) if project is not None else _ended(await self._archive.project(asked.project_id))

    async def list_projects(self, params: Mapping[str, Any], caller: Caller) -> ProjectPage:
        """Those that the caller may see."""
        asked: ProjectList = convert(params, ProjectList)
        if asked.state != "OPEN":
            found, more = await self._archive.projects(asked, lambda each: self._may(caller, "subscribe", each))
            ended = [_ended(each) for each in found]
            return ProjectPage(projects=ended, next=ended[-1].project.project_id if more else None)
        projects = self._coordination.term.tasks.projects.values()
        return ProjectPage(
            projects=[_describe(each) for each in projects if self._may(caller, "subscribe", each.project_id)]
        )

    async def close_project(self, params: Mapping[str, Any], caller: Caller) -> ProjectAnswer:
        return await self._end_project(params, caller, "COMPLETED")

    async def cancel_project(self, params: Mapping[str, Any], caller: Caller) -> ProjectAnswer:
        return await self._end_project(params, caller, "CANCELED")

    async def _end_project(
        self, params: Mapping[str, Any], caller: Caller, state: Literal["COMPLETED", "CANCELED"]
    ) -> ProjectAnswer:
        """The tasks of a large one are canceled in parts, as they were created. The same again is the same end."""
        asked: ProjectEnd = self._asked(params, ProjectEnd, caller)
        if asked.project_id not in self._coordination.term.tasks.projects:
            before = await self._archive.project(asked.project_id)
            if before.state != state:
                raise has_ended(before)
            return _ended(before)

        def decide(term: Term, change: Change) -> KeptProject | None:
            project = term.tasks.project(asked.project_id)
            said = {"actor": caller.user, "reason": asked.reason}
            if state == "CANCELED" and not term.tasks.cancel_some(project, PART, change=change, **said):
                return None
            return term.tasks.end_project(project, state, change=change, **said)

        while (kept := await self._decided(decide)) is None:
            pass  # a part at a time
        return _ended(kept)

    # --- tasks ---

    async def create(self, params: Mapping[str, Any], caller: Caller) -> TaskPage:
        asked: TaskCreate = self._asked(params, TaskCreate, caller)

        def decide(term: Term, change: Change) -> TaskPage:
            project = term.tasks.project(asked.project_id)
            tasks = term.tasks.add_tasks(project, asked.tasks, actor=caller.user, change=change)
            return TaskPage(tasks=[update_of(task) for task in tasks])

        return await self._decided(decide)

    async def list(self, params: Mapping[str, Any], caller: Caller) -> TaskPage:
        asked: TaskList = self._asked(params, TaskList, caller, "subscribe")
        desk = self._coordination.term.tasks
        if asked.project_id in desk.projects:
            after = desk.task(asked.project_id, asked.after).place if asked.after is not None else -1
            fits = [
                task
                for task in desk.project(asked.project_id).tasks.values()
                if task.place > after
                and asked.state in (None, task.state)
                and asked.specialist_id in (None, task.specialist_id)
            ]
        else:
            fits = await self._archive.tasks(asked)
        page = fits[: asked.limit]
        return TaskPage(
            tasks=[update_of(task) for task in page], next=page[-1].task_id if len(fits) > len(page) else None
        )

    async def get(self, params: Mapping[str, Any], caller: Caller) -> TaskDetail:
        asked: TaskName = self._asked(params, TaskName, caller, "subscribe")
        desk = self._coordination.term.tasks
        if asked.project_id in desk.projects:
            task = desk.task(asked.project_id, asked.task_id)
        else:
            task = await self._archive.task(asked.project_id, asked.task_id)
        return TaskDetail(
            task=update_of(task),
            spec=task.spec,
            artifacts=[*task.artifacts],
            results=task.results,
            interrupt=task.interrupt,
            answer=task.answer,
            reason=task.reason,
        )

    async def assign(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: TaskAssign = self._asked(params, TaskAssign, caller)

        def decide(term: Term, change: Change) -> TaskAnswer:
            task = term.tasks.task(asked.project_id, asked.task_id)
            specialist = term.roster.specialist(asked.specialist_id)
            return TaskAnswer(task=update_of(term.tasks.assign(task, specialist, actor=caller.user, change=change)))

        return await self._decided(decide)

    async def claim(self, params: Mapping[str, Any], caller: Caller) -> TaskClaimed:
        asked: TaskClaim = convert(params, TaskClaim)
        if asked.project_id is not None:
            self._access.require(caller, "publish", team_channel(asked.project_id))

        def decide(term: Term, change: Change) -> TaskClaimed:
            specialist = term.roster.own(asked.specialist_id, caller)
            if asked.task_id is not None:
                if asked.project_id is None:
                    raise HubError(ErrorCode.SCHEMA_INVALID, "which project?", path="$.params.project_id")
                task: Task | None = term.tasks.task(asked.project_id, asked.task_id)
            else:
                projects = [
                    each
                    for each in term.tasks.projects.values()
                    if each.team == specialist.team
                    and asked.project_id in (None, each.project_id)
                    and self._may(caller, "publish", each.project_id)
                ]
                task = term.tasks.next_for(specialist, projects, now_us=change.now_us)
            if task is None:
                return TaskClaimed()
            return claimed(term.tasks.claim(task, specialist, actor=caller.user, change=change))

        return await self._decided(decide)

    async def block(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: TaskBlock = self._asked(params, TaskBlock, caller)

        def decide(term: Term, change: Change) -> TaskAnswer:
            term.roster.own(asked.specialist_id, caller)
            if term.tasks.said_before(asked) is None:
                term.tasks.require_no_circle(term.tasks.task(asked.project_id, asked.task_id), asked.blockers)
                term.tasks.say(asked, "BLOCK", actor=caller.user, change=change, blockers=tuple(asked.blockers))
            return TaskAnswer(task=update_of(term.tasks.task(asked.project_id, asked.task_id)))

        return await self._decided(decide)

    async def unblock(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: TaskUnblock = self._asked(params, TaskUnblock, caller)
        return await self._act(asked, caller, "UNBLOCK", ref=asked.ref)

    async def pause(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        return await self._intervene(params, caller, "PAUSE")

    async def resume(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        return await self._intervene(params, caller, "RESUME")

    async def cancel(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        return await self._intervene(params, caller, "CANCEL")

    async def _intervene(self, params: Mapping[str, Any], caller: Caller, happening: str) -> TaskAnswer:
        asked: TaskIntervene = self._asked(params, TaskIntervene, caller)
        return await self._act(asked, caller, happening, reason=asked.reason or None)

    async def fail(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: TaskFail = self._asked(params, TaskFail, caller)
        return await self._hold(asked, caller, "ERROR", reason=asked.reason)

    async def decline(self, params: Mapping[str, Any], caller: Caller) -> TaskAnswer:
        asked: TaskDecline = self._asked(params, TaskDecline, caller)

        def decide(term: Term, change: Change) -> TaskAnswer:
            term.roster.own(asked.specialist_id, caller)
            task = term.tasks.act(
                asked.project_id,
                asked.task_id,
                "DECLINE",
                actor=caller.user,
                change=change,
                specialist_id=asked.specialist_id,
                fence=asked.fence,
                reason=asked.reason or None,
            )
            return TaskAnswer(task=update_of(task))

        return await self._decided(decide)

    # ---

    async def _hold(self, asked: TaskHold, caller: Caller, happening: str, **fields: Any) -> TaskAnswer:
        """What the holder of a task says of it."""

        def decide(term: Term, change: Change) -> TaskAnswer:
            term.roster.own(asked.specialist_id, caller)
            if term.tasks.said_before(asked) is None:
                term.tasks.say(asked, happening, actor=caller.user, change=change, **fields)
            return TaskAnswer(task=update_of(term.tasks.task(asked.project_id, asked.task_id)))

        return await self._decided(decide)

    async def _act(self, asked: TaskName, caller: Caller, happening: str, **fields: Any) -> TaskAnswer:
        """What anybody of the team may do to a task."""

        def decide(term: Term, change: Change) -> TaskAnswer:
            task = term.tasks.act(
                asked.project_id, asked.task_id, happening, actor=caller.user, change=change, **fields
            )
            return TaskAnswer(task=update_of(task))

        return await self._decided(decide)

    def _decided(self, decide: Decide[T]) -> Awaitable[T]:
        return decided(self._coordination, decide)

    def _may(self, caller: Caller, action: Action, project_id: str) -> bool:
        return self._access.decide(caller, action, team_channel(project_id)).allowed

    def _asked(self, params: Mapping[str, Any], kind: type[Any], caller: Caller, action: Action = "publish") -> Any:
        """Raises HubError(schema_invalid, permission_denied)."""
        asked = convert(params, kind)
        self._access.require(caller, action, team_channel(asked.project_id))
        return asked


def claimed(task: Task) -> TaskClaimed:
    return TaskClaimed(
        task=update_of(task), spec=task.spec, fence=task.fence, lease_until=task.lease_until, answer=task.answer
    )


def _in_order(specs: Sequence[TaskSpec]) -> Sequence[TaskSpec]:
    """As they were given, if none comes before what it waits for; a project keeps its tasks in that order."""
    seen: set[str] = set()
    every = {spec.task_id: spec for spec in specs}
    for spec in specs:
        if not seen.issuperset(dependencies(spec, every)):
            return in_order(specs)
        seen.add(spec.task_id)
    return specs


def _describe(project: Project) -> ProjectAnswer:
    return ProjectAnswer(project=project.config, tasks=project.counts(), state="OPEN")


def _ended(kept: KeptProject) -> ProjectAnswer:
    return ProjectAnswer(
        project=kept.config,
        tasks=kept.tasks,
        state=kept.state,
        ended_at=kept.ended_us,
        ended_by=kept.ended_by,
        reason=kept.reason,
    )
