"""Projects and their tasks: what happens to each goes through `happen`, which applies it, keeps it and tells it.

Rule: memory changes at once, so that the next decision sees it; whoever asked is answered after the commit. Nothing
here awaits or reads a clock: a decision is a function of what is known and of the `Change` it is written into.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol

import msgspec
from msgspec.structs import replace

from hub.coordination.journal import HUB, Change, key_within
from hub.coordination.registry import lease_us, why_not
from hub.coordination.roster import Roster
from hub.coordination.standards import Standards, gates_for
from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.fold import Fenced, InvalidTransition, apply
from hub.coordination.tasks.graph import TaskGraph
from hub.coordination.tasks.task import Said, Task
from hub.coordination.tasks.transitions import ASSIGNED, ENDED, QUEUED
from protocol.coordination import (
    Blocker,
    Gate,
    Presence,
    ProjectConfig,
    ProjectEnded,
    ProjectState,
    Specialist,
    TaskSpec,
    TaskUpdate,
)
from protocol.errors import ErrorCode, HubError
from protocol.team import Claim, LostClaim, TaskHold

logger = logging.getLogger("krin.coordination")

PROJECT, TASK = "project", "task"
MAX_PROJECTS, MAX_PROJECTS_OF_TEAM = 1_000, 100  # that are open
MAX_TASKS = 10_000  # of a project
MAX_ENDED = 1_000  # projects that ended lately, of which this node still knows

ERASED = b'"erased"'
_EMPTY = re.compile(rb'(?<!\\)""')

_decode_task = msgspec.json.Decoder(Task).decode


class Project:
    """`config` holds no tasks: these are in `tasks`, in the order in which they came.

    `done` is what nobody need wait for any more: completed tasks, and tasks in whose place another was completed.
    `queue` is what could be begun and nobody has. `planned`: whose task is whose by the plan that was committed.
    """

    def __init__(self, kept: KeptProject) -> None:
        self.kept = kept
        self.tasks: dict[str, Task] = {}
        self.graph = TaskGraph()
        self.done: set[str] = set()
        self.queue: dict[str, None] = {}
        self.planned: dict[str, str] = {}
        self.blocked_by: dict[str, set[str]] = {}  # task -> those that say it blocks them
        self.asking: dict[str, None] = {}  # those that wait for an answer that may come too late

    @property
    def config(self) -> ProjectConfig:
        return self.kept.config

    @property
    def project_id(self) -> str:
        return self.kept.config.project_id

    @property
    def team(self) -> str:
        return self.kept.config.team or self.project_id

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for task in self.tasks.values():
            found[task.state] = found.get(task.state, 0) + 1
        return found


class KeptProject(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`asked` is a fingerprint of what it was created with, to tell a repeated command from another one. Once it has
    ended, `tasks` are the numbers of its tasks by state.
    """

    config: ProjectConfig
    asked: str
    created_us: int
    creator: str
    state: ProjectState = "OPEN"
    ended_us: int | None = None
    ended_by: str | None = None
    reason: str = ""
    tasks: dict[str, int] = {}


read_project = msgspec.json.Decoder(KeptProject).decode


class UnknownProject(HubError):
    """It is none of those in memory: it has ended, or never was."""

    def __init__(self, project_id: str) -> None:
        super().__init__(ErrorCode.NOT_FOUND, "no such project", path="$.params.project_id")
        self.project_id = project_id


class Hear(Protocol):
    """Told of everything that happens to tasks, within the change it is part of. `before` None: it was created."""

    def __call__(self, before: Task | None, task: Task, event: TaskEvent, change: Change) -> None: ...


class TaskDesk:
    def __init__(self, roster: Callable[[], Roster]) -> None:
        self._roster = roster
        self.projects: dict[str, Project] = {}
        self._held: dict[str, dict[tuple[str, str], None]] = {}  # specialist -> tasks
        self._loose: list[Task] = []  # restored before their projects
        self.ended: dict[str, asyncio.Future[None]] = {}  # those of this term, and when that is written down
        self.listeners: list[Hear] = []
        self.leaving: list[Callable[[Project, Change], None]] = []
        """Each forgets what it knows of a project that ends, and ends what is still open in it."""
        self.may_claim: list[Callable[[Project, TaskSpec, Specialist, int], None]] = []
        """Each may refuse a claim at this time: raises HubError."""
        self.kinds: Mapping[str, Callable[[bytes], None]] = {
            PROJECT: self._restore_project,
            TASK: self._restore_task,
        }

    # --- what is known ---

    def _restore_project(self, body: bytes) -> None:
        project = Project(read_project(body))
        self.projects[project.project_id] = project

    def _restore_task(self, body: bytes) -> None:
        """Others wait for it, so it is never left out."""
        self._loose.append(read_task(body))

    def restored(self, now_us: int) -> None:
        """All records are in. Whoever has a task has its whole lease again."""
        tasks: dict[str, list[Task]] = {}
        for task in sorted(self._loose, key=lambda each: (each.created_us, each.place)):
            tasks.setdefault(task.project_id, []).append(task)
        self._loose.clear()
        for project_id, found in tasks.items():
            if (project := self.projects.get(project_id)) is None:
                logger.error("%d tasks of a project that is not known are left out", len(found))
                continue
            project.graph.add([task.spec for task in found])
            for task in found:
                if task.lease_until is not None:
                    task = replace(task, lease_until=now_us + task.ttl_us)
                self._enter(project, None, task)
            for task in found:
                self._place(project, project.tasks[task.task_id])

    def project(self, project_id: str) -> Project:
        """Raises UnknownProject."""
        project = self.projects.get(project_id)
        if project is None:
            raise UnknownProject(project_id)
        return project

    def task(self, project_id: str, task_id: str) -> Task:
        """Raises HubError(not_found)."""
        task = self.project(project_id).tasks.get(task_id)
        if task is None:
            raise HubError(ErrorCode.NOT_FOUND, "no such task", path="$.params.task_id")
        return task

    def held(self, specialist_id: str) -> Iterator[Task]:
        for project_id, task_id in self._held.get(specialist_id, ()):
            yield self.projects[project_id].tasks[task_id]

    # --- projects ---

    def add_project(self, kept: KeptProject, change: Change) -> Project:
        """Raises HubError(limit_exceeded)."""
        project = Project(kept)
        if len(self.projects) >= MAX_PROJECTS:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_PROJECTS} projects are open")
        if sum(each.team == project.team for each in self.projects.values()) >= MAX_PROJECTS_OF_TEAM:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_PROJECTS_OF_TEAM} projects of a team are open")
        self.projects[project.project_id] = project
        change.keep(PROJECT, project.project_id, kept, project_id=project.project_id)
        change.note(PROJECT, project.project_id, kept, actor=kept.creator, project_id=project.project_id)
        return project

    def cancel_some(self, project: Project, limit: int, *, actor: str, reason: str, change: Change) -> bool:
        """So many of the tasks that have not ended; whether these were all."""
        left = [task.task_id for task in project.tasks.values() if not task.ended]
        for task_id in left[:limit]:
            self.act(project.project_id, task_id, "CANCEL", actor=actor, change=change, reason=reason or None)
        return len(left) <= limit

    def end_project(
        self, project: Project, state: Literal["COMPLETED", "CANCELED"], *, actor: str, reason: str, change: Change
    ) -> KeptProject:
        """It is in the records from now on, and no more in memory. Raises HubError(illegal_transition)."""
        counts = project.counts()
        open_tasks = sum(count for each, count in counts.items() if each not in ENDED)
        if open_tasks:
            raise HubError(
                ErrorCode.ILLEGAL_TRANSITION, f"{open_tasks} of its tasks have not ended: cancel them, or the project"
            )
        project_id = project.project_id
        kept = replace(project.kept, state=state, ended_us=change.now_us, ended_by=actor, reason=reason, tasks=counts)
        for leave in self.leaving:
            leave(project, change)
        del self.projects[project_id]
        self.ended[project_id] = change.done
        if len(self.ended) > MAX_ENDED:
            del self.ended[next(iter(self.ended))]
        change.keep(PROJECT, project_id, kept, project_id=project_id, ended=True)
        change.note(PROJECT, project_id, kept, actor=actor, project_id=project_id)
        told = ProjectEnded(
            project_id=project_id, state=state, tasks=counts, by=actor, reason=reason, ts_event=change.now_us
        )
        change.tell(f"team:{project_id}", "PROJECT_ENDED", told)
        return kept

    def add_tasks(self, project: Project, specs: list[TaskSpec], *, actor: str, change: Change) -> list[Task]:
        """All or none, each with the gates of the project; the same again are the same tasks.

        Raises HubError(schema_invalid, limit_exceeded).
        """
        if project.config.gates:
            specs = [
                replace(spec, gates=_gates(project.config, spec, at=f"$.params.tasks[{index}].gates"))
                for index, spec in enumerate(specs)
            ]
        known = [project.tasks[spec.task_id] for spec in specs if spec.task_id in project.tasks]
        if [task.spec for task in known] == specs:
            return known
        if len(project.tasks) + len(specs) > MAX_TASKS:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"a project has at most {MAX_TASKS} tasks")
        project.graph.add(specs)
        return [
            self.happen(
                TaskEvent(
                    task_id=spec.task_id,
                    project_id=project.project_id,
                    happening="CREATE",
                    spec=spec,
                    ts_event=change.now_us,
                    actor=actor,
                ),
                change,
            )
            for spec in specs
        ]

    # --- tasks ---

    def happen(self, event: TaskEvent, change: Change) -> Task:
        """The task after the event.

        Raises HubError(illegal_transition, version_conflict), and nothing has changed: it cannot be, or whoever says so
        does not have the task any more.
        """
        assert event.project_id is not None
        project = self.project(event.project_id)
        before = project.tasks.get(event.task_id)
        try:
            task = apply(before, event)
        except Fenced as failure:
            raise HubError(ErrorCode.VERSION_CONFLICT, str(failure)) from None
        except InvalidTransition as failure:
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, str(failure)) from None
        if before is None:
            task = replace(task, place=len(project.tasks))
        done = self._enter(project, before, task)
        key = key_within(project.project_id, task.task_id)
        change.keep(TASK, key, task, project_id=project.project_id)
        change.note(TASK, key, event, actor=event.actor, project_id=project.project_id)
        type_name = "TASK_CREATED" if before is None else "TASK_STATUS_UPDATE"
        change.tell(f"tasks:{project.project_id}", type_name, update_of(task, message=event.message))
        for hear in self.listeners:
            hear(before, task, event, change)
        self._follow_up(project, before, task, done, change)
        return project.tasks[task.task_id]

    def act(self, project_id: str, task_id: str, happening: Any, *, actor: str, change: Change, **fields: Any) -> Task:
        """`happen`, for a task that is there. Raises HubError(not_found), too."""
        self.task(project_id, task_id)
        event = TaskEvent(
            task_id=task_id,
            project_id=project_id,
            happening=happening,
            ts_event=change.now_us,
            actor=actor,
            **fields,
        )
        return self.happen(event, change)

    def said_before(self, asked: TaskHold) -> Said | None:
        """When whoever has a task says again what counted already. Raises HubError(not_found, idempotency_conflict)."""
        task = self.task(asked.project_id, asked.task_id)
        said = task.said.get(asked.request_id or "")
        if said is None or (task.specialist_id, task.fence) != (asked.specialist_id, asked.fence):
            return None
        if said.fingerprint != fingerprint_of(asked):
            raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "something else was said under this request_id")
        return said

    def require_no_circle(self, task: Task, blockers: Iterable[Blocker]) -> None:
        """Raises HubError(schema_invalid, not_found): a blocker is no task of the project, or waits for this one."""
        project = self.project(task.project_id)
        left = [each.ref for each in blockers if each.kind == TASK]
        for ref in left:
            if ref not in project.tasks:
                raise HubError(ErrorCode.NOT_FOUND, "no such task", path="$.params.blockers")
        seen: set[str] = set()
        while left:
            name = left.pop()
            if name == task.task_id:
                raise HubError(
                    ErrorCode.SCHEMA_INVALID, "Tasks wait for each other in a circle.", path="$.params.blockers"
                )
            if name not in seen and name not in project.done:
                seen.add(name)
                left += project.graph.waits_for(name)
                left += [each.ref for each in project.tasks[name].blockers if each.kind == TASK]

    def say(self, asked: TaskHold, happening: Any, *, actor: str, change: Change, **fields: Any) -> Task:
        """What the holder of a task says of it. Raises as `act`."""
        return self.act(
            asked.project_id,
            asked.task_id,
            happening,
            actor=actor,
            change=change,
            specialist_id=asked.specialist_id,
            fence=asked.fence,
            request_id=asked.request_id,
            fingerprint=fingerprint_of(asked) if asked.request_id is not None else None,
            **fields,
        )

    def assign(self, task: Task, specialist: Specialist, *, actor: str, change: Change) -> Task:
        """Raises HubError(illegal_transition): it waits for another, or this specialist may not have it now."""
        project = self.project(task.project_id)
        if not project.graph.is_ready(task.task_id, project.done):
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, "it waits for another task")
        self._fits(project, task.spec, specialist, change.now_us)
        assigned = self.act(
            task.project_id,
            task.task_id,
            "ASSIGN",
            actor=actor,
            change=change,
            specialist_id=specialist.specialist_id,
            ttl_us=lease_us(specialist),
        )
        change.tell(f"agent:{specialist.specialist_id}", "TASK_STATUS_UPDATE", update_of(assigned))
        return assigned

    def claim(self, task: Task, specialist: Specialist, *, actor: str, change: Change) -> Task:
        """A task that is this specialist's, or nobody's. Raises as `assign`."""
        project = self.project(task.project_id)
        for refuse in self.may_claim:
            refuse(project, task.spec, specialist, change.now_us)
        if task.position == QUEUED:
            if not project.graph.is_ready(task.task_id, project.done):
                raise HubError(ErrorCode.ILLEGAL_TRANSITION, "it waits for another task")
            self._fits(project, task.spec, specialist, change.now_us)
            given = {"specialist_id": specialist.specialist_id, "ttl_us": lease_us(specialist)}
            self.act(task.project_id, task.task_id, "ASSIGN", actor=actor, change=change, **given)
        return self.act(
            task.project_id,
            task.task_id,
            "CLAIM",
            actor=actor,
            change=change,
            specialist_id=specialist.specialist_id,
        )

    def next_for(self, specialist: Specialist, projects: Iterable[Project], *, now_us: int) -> Task | None:
        """The best that it could claim: what is assigned to it, then what is planned for it, then what is nobody's or
        of somebody who is not there; in each of these by priority, deadline and age.
        """
        roster = self._roster()
        name = specialist.specialist_id
        projects = list(projects)
        wanted = {project.project_id for project in projects}
        assigned = [each for each in self.held(name) if each.position == ASSIGNED and each.project_id in wanted]
        if assigned:
            return min(assigned, key=_urgency)
        status = roster.status(name)
        best: tuple[tuple[Any, ...], Task] | None = None
        for project in projects:
            for task_id in project.queue:
                task = project.tasks[task_id]
                planned = project.planned.get(task_id, task.spec.pinned)
                if planned is not None and planned != name and (task.spec.pinned or self._present(planned)):
                    continue
                if task.spec.required_skills and why_not(specialist, status, task.spec, now_us=now_us) is not None:
                    continue
                rank = (planned != name, *_urgency(task))
                if best is None or rank < best[0]:
                    best = (rank, task)
        if best is None or why_not(specialist, status, best[1].spec, now_us=now_us) is not None:
            return None
        return best[1]

    def renew(self, specialist_id: str, claims: Iterable[Claim], now_us: int) -> list[LostClaim]:
        """A sign of life moves leases on, and is no event. Answers the claims that are the specialist's no more."""
        lost = []
        for claim in claims:
            project = self.projects.get(claim.project_id)
            task = project.tasks.get(claim.task_id) if project is not None else None
            if task is None or task.ended or task.specialist_id != specialist_id or task.fence != claim.fence:
                lost.append(LostClaim(project_id=claim.project_id, task_id=claim.task_id))
            elif project is not None and task.lease_until is not None:
                project.tasks[claim.task_id] = replace(task, lease_until=now_us + task.ttl_us)
        return lost

    def take_back(self, specialist_id: str, change: Change, *, reason: str, always: bool = False) -> None:
        """What it has, and its lease has run out on. `always`: it has left, so nobody waits for any lease."""
        roster = self._roster()
        away = always or specialist_id not in roster
        for task in list(self.held(specialist_id)):
            due = task.lease_until is not None and task.lease_until <= change.now_us
            if always and task.lease_until is not None and not due:
                project = self.projects[task.project_id]
                project.tasks[task.task_id] = replace(task, lease_until=change.now_us)
                due = True
            # Whoever lives and does not name a task of its own does not know of it: the answer to its claim got lost.
            unknown = not away and roster.heard_at(specialist_id) > (task.lease_until or 0) - task.ttl_us
            presence: Presence = "OFFLINE" if away or unknown else roster.status(specialist_id).presence
            if due and (task.position == ASSIGNED or presence == "OFFLINE"):
                self._time_brings(task, "LEASE_EXPIRED", change, presence=presence, reason=reason)

    def tick(self, change: Change) -> None:
        """What time alone brings: leases that run out, questions that nobody answered."""
        for specialist_id in list(self._held):
            self.take_back(specialist_id, change, reason="its lease has run out")
        for project in self.projects.values():
            for task in [project.tasks[name] for name in project.asking]:
                asked = task.interrupt
                if asked is not None and asked.expires_at is not None and asked.expires_at <= change.now_us:
                    self._time_brings(task, "EXPIRE", change, interrupt_id=asked.interrupt_id)

    def _time_brings(self, task: Task, happening: str, change: Change, **fields: Any) -> None:
        """One task that does not fit must not keep time from the others."""
        try:
            self.act(task.project_id, task.task_id, happening, actor=HUB, change=change, **fields)
        except HubError as failure:
            logger.error("%s of %s/%s: %s", happening, task.project_id, task.task_id, failure)

    # ---

    def _present(self, specialist_id: str) -> bool:
        roster = self._roster()
        return specialist_id in roster and roster.status(specialist_id).presence != "OFFLINE"

    def require_fits(self, task: Task, specialist: Specialist, *, now_us: int) -> None:
        """Raises HubError(illegal_transition, limit_exceeded): this specialist may not have this task now."""
        project = self.project(task.project_id)
        for refuse in self.may_claim:
            refuse(project, task.spec, specialist, now_us)
        self._fits(project, task.spec, specialist, now_us)

    def _fits(self, project: Project, spec: TaskSpec, specialist: Specialist, now_us: int) -> None:
        if specialist.team != project.team:
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, f"{specialist.specialist_id} is of another team")
        status = self._roster().status(specialist.specialist_id)
        if (because := why_not(specialist, status, spec, now_us=now_us)) is not None:
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, f"{specialist.specialist_id} {because}")

    def _enter(self, project: Project, before: Task | None, task: Task) -> list[str]:
        """Into what is known: who holds it, what it says blocks it. Answers what is newly done with it."""
        key = (task.project_id, task.task_id)
        project.tasks[task.task_id] = task
        holder_before = before.specialist_id if before is not None and not before.ended else None
        holder = task.specialist_id if not task.ended else None
        if holder_before != holder:
            if holder_before is not None:
                held = self._held[holder_before]
                del held[key]
                if not held:
                    del self._held[holder_before]
            if holder is not None:
                self._held.setdefault(holder, {})[key] = None
        if task.state == "INPUT_REQUIRED":
            project.asking[task.task_id] = None
        else:
            project.asking.pop(task.task_id, None)
        refs_before = {each.ref for each in before.blockers if each.kind == TASK} if before is not None else set()
        refs = {each.ref for each in task.blockers if each.kind == TASK}
        for ref in refs_before - refs:
            blocked = project.blocked_by[ref]
            blocked.discard(task.task_id)
            if not blocked:
                del project.blocked_by[ref]
        for ref in refs - refs_before:
            project.blocked_by.setdefault(ref, set()).add(task.task_id)
        done: list[str] = []
        left = [task.task_id] if task.state == "COMPLETED" else []
        while left:  # a task that was tried again is done when the last try is
            tried = project.tasks.get(left.pop())
            if tried is not None and tried.ended and tried.task_id not in project.done:
                project.done.add(tried.task_id)
                done.append(tried.task_id)
                left.extend(tried.spec.reference_task_ids)
        return done

    def _place(self, project: Project, task: Task) -> None:
        """Into the queue, or out of it."""
        if task.position == QUEUED and project.graph.is_ready(task.task_id, project.done):
            project.queue[task.task_id] = None
        else:
            project.queue.pop(task.task_id, None)

    def _follow_up(
        self, project: Project, before: Task | None, task: Task, done: Iterable[str], change: Change
    ) -> None:
        """What an event brings about elsewhere."""
        self._place(project, task)
        for name in done:
            for released in list(project.graph.released_by(name, project.done)):
                self._release(project, project.tasks[released], change)
            for waiting in sorted(project.blocked_by.get(name, ())):
                self.act(project.project_id, waiting, "UNBLOCK", actor=HUB, change=change, ref=name)
        if task.substate == "BLOCKED":  # by something that is done already, too
            ref = next((each.ref for each in task.blockers if each.kind == TASK and each.ref in project.done), None)
            if ref is not None:  # and what follows from that sees to the next
                self.act(project.project_id, task.task_id, "UNBLOCK", actor=HUB, change=change, ref=ref)
        for name in {each.specialist_id for each in (before, task) if each is not None and each.specialist_id}:
            self._roster().look_at(name, change)

    def _release(self, project: Project, task: Task, change: Change) -> None:
        """Nothing is waited for any more: whoever it is planned for is told."""
        self._place(project, task)
        planned = project.planned.get(task.task_id)
        if planned is not None and task.task_id in project.queue:
            change.tell(f"agent:{planned}", "TASK_STATUS_UPDATE", update_of(task))


def read_task(body: bytes) -> Task:
    """From its record: whose name is gone from it gets another one."""
    try:
        return _decode_task(body)
    except msgspec.ValidationError:
        return _decode_task(_EMPTY.sub(ERASED, body))


def update_of(task: Task, *, message: str | None = None) -> TaskUpdate:
    """A task as it is told."""
    spec = task.spec
    return TaskUpdate(
        task_id=task.task_id,
        project_id=task.project_id,
        title=spec.title or None,
        state=task.state,
        substate=task.substate,
        specialist_id=task.specialist_id,
        progress=task.progress,
        attempt=task.attempt,
        priority=spec.priority,
        depends_on=spec.depends_on,
        blockers=list(task.blockers),
        message=message or task.reason,
        deadline=spec.deadline,
        ts_event=task.updated_us,
    )


def fingerprint_of(asked: msgspec.Struct) -> str:
    return hashlib.sha256(type(asked).__name__.encode() + msgspec.json.encode(asked)).hexdigest()[:32]


def check_tasks(config: ProjectConfig, *, at: str = "$.params.project") -> None:
    """Raises HubError(schema_invalid): the tasks of a project cannot be worked through, or mean different gates."""
    TaskGraph().add(config.tasks, at=f"{at}.tasks")
    if config.gates:
        for index, spec in enumerate(config.tasks):
            _gates(config, spec, at=f"{at}.tasks[{index}].gates")


def _gates(config: ProjectConfig, spec: TaskSpec, *, at: str) -> list[Gate]:
    """Raises HubError(schema_invalid): the task gives a gate of the project another meaning."""
    return list(gates_for(Standards(name=config.project_id, version=1, gates=config.gates), spec.gates, at=at))


def _urgency(task: Task) -> tuple[Any, ...]:
    return (-task.spec.priority, task.spec.deadline or 2**62, task.created_us, task.place)
