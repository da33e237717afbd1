"""What a team calls: parameters and results of `agents.*`, `projects.*` and `tasks.*`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from protocol.coordination import (
    Blocker,
    GateResult,
    Interrupt,
    ProjectConfig,
    ProjectState,
    QuestionReason,
    Specialist,
    SpecialistStatus,
    TaskSpec,
    TaskState,
    TaskUpdate,
    Usage,
)
from protocol.fields import ChannelPart, Count, Fraction, Micros, Name, Quantity, Text
from protocol.gates import Evidence

Fence = Annotated[int, Meta(ge=1)]
Artifacts = Annotated[list[dict[str, Any]], Meta(max_length=100)]
Blockers = Annotated[list[Blocker], Meta(min_length=1, max_length=32)]
EvidenceList = Annotated[list[Evidence], Meta(max_length=32)]


class _Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of a method."""


class AgentRegister(_Call, frozen=True, kw_only=True):
    """Its owner is the caller, whatever it says. Again: it is changed."""

    specialist: Specialist


class Claim(_Call, frozen=True, kw_only=True):
    """A task that a specialist has, with the number that its claim was given."""

    project_id: ChannelPart
    task_id: Name
    fence: Fence


class AgentHeartbeat(_Call, frozen=True, kw_only=True):
    """A sign of life, which renews the leases of the claims. `limited_until`: its provider lets it go on then.
    `errors` of `calls` failed lately."""

    specialist_id: ChannelPart
    claims: Annotated[list[Claim], Meta(max_length=1000)] = []
    draining: bool = False
    limited_until: Micros | None = None
    failure: Text | None = None
    calls: Count = 0
    errors: Count = 0


class AgentList(_Call, frozen=True, kw_only=True):
    team: ChannelPart | None = None


class AgentName(_Call, frozen=True, kw_only=True):
    """Of `agents.status`, `agents.leave`."""

    specialist_id: ChannelPart


class AgentPause(_Call, frozen=True, kw_only=True):
    """Of `agents.pause` and `agents.resume`."""

    specialist_id: ChannelPart
    reason: Text = ""


class ProjectCreate(_Call, frozen=True, kw_only=True):
    project: ProjectConfig


class ProjectName(_Call, frozen=True, kw_only=True):
    project_id: ChannelPart


class ProjectList(_Call, frozen=True, kw_only=True):
    """Those that are OPEN, all of them. Those that have ended in pages, the last to end first: `before` is the
    project_id that the page before ended with."""

    state: ProjectState = "OPEN"
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    before: ChannelPart | None = None


class ProjectEnd(_Call, frozen=True, kw_only=True):
    """Of `projects.close`, which wants all tasks to have ended, and `projects.cancel`, which cancels the others."""

    project_id: ChannelPart
    reason: Text = ""


class TaskCreate(_Call, frozen=True, kw_only=True):
    project_id: ChannelPart
    tasks: Annotated[list[TaskSpec], Meta(min_length=1, max_length=1000)]


class TaskList(_Call, frozen=True, kw_only=True):
    """`after`: the task_id that the page before ended with."""

    project_id: ChannelPart
    state: TaskState | None = None
    specialist_id: ChannelPart | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    after: Name | None = None


class TaskName(_Call, frozen=True, kw_only=True):
    project_id: ChannelPart
    task_id: Name


class TaskAssign(TaskName, frozen=True, kw_only=True):
    specialist_id: ChannelPart


class TaskClaim(_Call, frozen=True, kw_only=True):
    """Without `task_id` the best that the specialist can do; without `project_id` in any project of its team."""

    specialist_id: ChannelPart
    project_id: ChannelPart | None = None
    task_id: Name | None = None


class TaskHold(TaskName, frozen=True, kw_only=True):
    """What only the holder of a task may say. With `request_id`, which the holder makes up, it may be said again when
    the answer got lost: it counts once."""

    specialist_id: ChannelPart
    fence: Fence
    request_id: Name | None = None


class TaskProgress(TaskHold, frozen=True, kw_only=True):
    progress: Fraction
    message: Text | None = None
    usage: Usage | None = None
    cost_usd: Quantity | None = None


class TaskBlock(TaskHold, frozen=True, kw_only=True):
    """A blocker of kind `task` is gone when that task of the project is completed."""

    blockers: Blockers


class TaskUnblock(TaskName, frozen=True, kw_only=True):
    ref: Name


class TaskRequestInput(TaskHold, frozen=True, kw_only=True):
    """A question to people, answered by `approvals.resolve`. Not answered by `expires_at`, the task fails or waits on,
    as `on_expiry` says. `response_schema` is what an answer must fit."""

    reason: QuestionReason
    message: Text
    approver_roles: Annotated[list[ChannelPart], Meta(min_length=1, max_length=16)]
    response_schema: dict[str, Any] | None = None
    quorum: Annotated[int, Meta(ge=1, le=10)] = 1
    expires_at: Micros
    on_expiry: Literal["FAIL", "ESCALATE"] = "FAIL"


class TaskSubmit(TaskHold, frozen=True, kw_only=True):
    artifacts: Artifacts
    evidence: EvidenceList = []
    usage: Usage | None = None
    cost_usd: Quantity | None = None


class TaskFail(TaskHold, frozen=True, kw_only=True):
    reason: Text


class TaskDecline(TaskName, frozen=True, kw_only=True):
    specialist_id: ChannelPart
    fence: Fence | None = None
    reason: Text = ""


class TaskIntervene(TaskName, frozen=True, kw_only=True):
    """Of `tasks.pause`, `tasks.resume`, `tasks.cancel`."""

    reason: Text = ""


class AgentEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`lease_ms`: for how long its tasks are its own without a sign of life."""

    specialist: Specialist
    status: SpecialistStatus
    lease_ms: Count


class LostClaim(msgspec.Struct, frozen=True, kw_only=True):
    project_id: Name
    task_id: Name


class HeartbeatAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`lost`: claims that it has no more."""

    status: SpecialistStatus
    lost: list[LostClaim] = []


class AgentPage(msgspec.Struct, frozen=True, kw_only=True):
    """`version` grows with every change of the registry."""

    specialists: list[AgentEntry]
    version: Count


class ProjectCreated(msgspec.Struct, frozen=True, kw_only=True):
    project_id: Name
    tasks: Count


class ProjectAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`project` without its tasks, which are counted by state. `ended_by`: a user."""

    project: ProjectConfig
    tasks: dict[str, int]
    state: ProjectState
    ended_at: Micros | None = None
    ended_by: str | None = None
    reason: Text = ""


class ProjectPage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`next`: there are more, before this one."""

    projects: list[ProjectAnswer]
    next: Name | None = None


class TaskAnswer(msgspec.Struct, frozen=True, kw_only=True):
    task: TaskUpdate


class TaskPage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`next`: there are more, after this one."""

    tasks: list[TaskUpdate]
    next: Name | None = None


class TaskDetail(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`interrupt` is the question that is open; `answer` what the last one was answered with."""

    task: TaskUpdate
    spec: TaskSpec
    artifacts: list[dict[str, Any]] = []
    results: dict[str, GateResult] = {}
    interrupt: Interrupt | None = None
    answer: Any = None
    reason: str | None = None


class TaskClaimed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """No `task`: there is nothing to do. `lease_until` in microseconds; a heartbeat moves it on."""

    task: TaskUpdate | None = None
    spec: TaskSpec | None = None
    fence: Fence | None = None
    lease_until: Micros | None = None
    answer: Any = None


class QuestionAsked(msgspec.Struct, frozen=True, kw_only=True):
    task: TaskUpdate
    approval_id: Name
