"""The vocabulary of a team of specialists (agents), its tasks and its alerts.

A specialist's status has three axes, never one word: presence (is it there), activity (what is it doing),
health (is it getting anywhere). Task states are those of A2A 1.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from protocol.fields import ChannelPart, Count, DecimalString, Finite, Fraction, Micros, Name, Text, shaped

Presence = Literal["ONLINE", "STALE", "OFFLINE"]
Activity = Literal["IDLE", "WORKING", "BLOCKED", "WAITING_HUMAN", "RATE_LIMITED", "PAUSED", "DRAINING"]
Health = Literal["HEALTHY", "DEGRADED", "STUCK", "FAILED"]
TaskState = Literal[
    "SUBMITTED",
    "WORKING",
    "INPUT_REQUIRED",
    "AUTH_REQUIRED",
    "COMPLETED",
    "CANCELED",
    "FAILED",
    "REJECTED",
]
TaskSubstate = Literal[
    "QUEUED", "ASSIGNED", "RUNNING", "BLOCKED", "IN_REVIEW", "PAUSED", "INPUT", "CONFIRMATION", "TOOL_CALL"
]


class Blocker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a task waits for: another task, an agent, a person, a resource."""

    kind: Name
    ref: Name
    since: Micros | None = None


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Tokens a model used, in AG-UI's names."""

    provider: Name | None = None
    model: Name | None = None
    input_tokens: Count = 0
    output_tokens: Count = 0
    total_tokens: Count = 0
    reasoning_tokens: Count = 0
    cached_input_tokens: Count = 0


class SpecialistUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What one specialist reports about itself and the task at hand."""

    specialist_id: Name
    specialist_type: Name | None = None
    project_id: Name | None = None
    action_type: Name | None = None
    presence: Presence | None = None
    activity: Activity | None = None
    health: Health | None = None
    because: Text | None = None
    task_id: Name | None = None
    task_state: TaskState | None = None
    progress: Fraction | None = None
    message: Text | None = None
    blockers: list[Blocker] = []
    usage: Usage | None = None
    cost_usd: DecimalString | None = None
    eta: Micros | None = None
    artifacts: list[dict[str, Any]] = []
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class TaskUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A task as it stands: created, assigned, moved on, or finished."""

    task_id: Name
    project_id: Name | None = None
    title: Text | None = None
    state: TaskState | None = None
    substate: TaskSubstate | None = None
    specialist_id: Name | None = None
    progress: Fraction | None = None
    attempt: Count = 0
    priority: Count | None = None
    depends_on: list[Name] = []
    blockers: list[Blocker] = []
    message: Text | None = None
    deadline: Micros | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


QuestionReason = Literal["INPUT", "CONFIRMATION", "TOOL_CALL", "AUTH"]


class Interrupt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question to a person. Not answered by `expires_at`, the task fails or waits on, escalated."""

    interrupt_id: str
    reason: QuestionReason
    expires_at: int | None = None
    on_expiry: Literal["FAIL", "ESCALATE"] = "FAIL"


class HandOff(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A task offered by one specialist to another, and what became of the offer."""

    handoff_id: Name | None = None
    task_id: Name
    from_specialist: Name
    to_specialist: Name
    state: Literal["OFFERED", "ACCEPTED", "DECLINED", "EXPIRED", "WITHDRAWN"]
    message: Text | None = None
    expires_at: Micros | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A decision somebody has to take. Without a decision in time it counts as declined."""

    approval_id: Name
    state: Literal["REQUESTED", "APPROVED", "DECLINED", "EXPIRED"]
    subject: Text
    requested_by: Name | None = None
    resolved_by: Name | None = None
    task_id: Name | None = None
    expires_at: Micros | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Something a person should look at."""

    alert_id: Name
    severity: Literal["INFO", "WARNING", "CRITICAL"]
    title: Text
    state: Literal["FIRING", "RESOLVED"] = "FIRING"
    source: Name | None = None
    detail: Text | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class AgentStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An agent's state on its own channel."""

    specialist_id: Name
    presence: Presence | None = None
    activity: Activity | None = None
    health: Health | None = None
    because: Text | None = None
    task_id: Name | None = None
    message: Text | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A component's state on `status:{scope}`."""

    component: Name
    state: Literal["OK", "DEGRADED", "DOWN"]
    detail: Text | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


Hours = Annotated[float, Meta(ge=0, le=100_000, description="hours")]
Money = Annotated[
    str, shaped(r"^[0-9]{1,15}(\.[0-9]{1,9})?\Z", "US dollars, a decimal number as a string with at most 9 places")
]


class Skill(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a specialist can do. `speed` 2: twice as fast as planned; `quality` is measured, 0 to 1."""

    id: Name
    level: Fraction = 1.0
    speed: Annotated[float, Meta(gt=0, le=100)] = 1.0
    quality: Fraction = 1.0


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a specialist is available: [start, end)."""

    start: Micros
    end: Micros


class Specialist(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A specialist's entry in the registry. `card` is its A2A agent card, verbatim, where it has one. An empty `owner`:
    whoever it was has been forgotten."""

    specialist_id: ChannelPart
    specialist_type: Name = "agent"
    team: ChannelPart
    owner: Annotated[str, Meta(max_length=128)] | None = None
    version: Text = ""
    name: Text = ""
    description: Text = ""
    skills: Annotated[list[Skill], Meta(max_length=100)] = []
    max_concurrent: Annotated[int, Meta(ge=1, le=1000)] = 1
    hours: Hours | None = None
    usd_per_hour: Money = "0"
    usd_per_mtok_in: Money = "0"
    usd_per_mtok_out: Money = "0"
    usd_per_day: Money | None = None
    tokens_per_day: Count | None = None
    availability: Annotated[list[Window], Meta(max_length=100)] = []
    heartbeat_s: Annotated[float, Meta(ge=1, le=300)] = 10.0
    card: dict[str, Any] | None = None
    ext: dict[str, Any] | None = None


class SpecialistStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Derived, never asserted: each axis with its reason."""

    specialist_id: Name
    presence: Presence
    presence_because: Text
    activity: Activity
    activity_because: Text
    health: Health
    health_because: Text
    tasks: list[Name] = []
    last_heartbeat: Micros | None = None


GateKind = Literal["AUTOMATED", "AGENT_REVIEW", "HUMAN_REVIEW"]
GateResult = Literal["PENDING", "PASS", "FAIL", "WAIVED", "ERROR"]


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a result must pass. `metric op threshold` decides an automated one; ERROR counts as not passed."""

    gate_id: Name
    name: Text = ""
    kind: GateKind = "AUTOMATED"
    required: bool = True
    metric: Name | None = None
    op: Literal["<", "<=", "==", ">=", ">"] | None = None
    threshold: Finite | None = None


class TaskSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A task as it is planned. `effort_h` is for a specialist of speed 1."""

    task_id: Name
    title: Text = ""
    description: Text = ""
    effort_h: Hours = 1.0
    required_skills: Annotated[list[Name], Meta(max_length=32)] = []
    min_quality: Fraction = 0.0
    priority: Annotated[int, Meta(ge=0, le=100)] = 50
    deadline: Micros | None = None
    depends_on: Annotated[list[Name], Meta(max_length=256)] = []
    gates: Annotated[list[Gate], Meta(max_length=32)] = []
    reviewer: Name | None = None
    review_of: Name | None = None
    est_tokens: Count = 0
    pinned: Name | None = None
    reference_task_ids: list[Name] = []
    ext: dict[str, Any] | None = None


Weight = Annotated[float, Meta(ge=0, le=1_000_000)]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the plan minimises: hours, dollars, missing quality, switches between contexts, lateness."""

    time: Weight = 1.0
    cost: Weight = 0.1
    quality: Weight = 2.0
    switch: Weight = 0.1
    late: Weight = 5.0


class ProjectConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Its specialists are those of `team`; none: of the team that is called as the project is."""

    project_id: ChannelPart
    team: ChannelPart | None = None
    title: Text = ""
    start: Micros | None = None
    deadline: Micros | None = None
    budget_usd: Money | None = None
    budget_tokens: Count | None = None
    tasks: Annotated[list[TaskSpec], Meta(max_length=10_000)] = []
    gates: Annotated[list[Gate], Meta(max_length=32)] = []
    weights: Weights = Weights()
    ext: dict[str, Any] | None = None


ProjectState = Literal["OPEN", "COMPLETED", "CANCELED"]


class ProjectEnded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A project is over: nothing happens to it any more. `tasks` are numbers by state."""

    project_id: Name
    state: Literal["COMPLETED", "CANCELED"]
    tasks: dict[str, Count] = {}
    by: Text = ""
    reason: Text = ""
    ts_event: Micros | None = None


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`runner_up` and `override_cost`: who would have been next, and how much the objective grows with them."""

    task_id: Name
    specialist_id: Name
    start_h: Hours
    finish_h: Hours
    cost_usd: Money
    score: float
    reasons: list[Text] = []
    runner_up: Name | None = None
    override_cost: float | None = None


class Unassigned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    task_id: Name
    reason: Text


class Complexity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """0 to 100, and what it is made of."""

    score: Annotated[float, Meta(ge=0, le=100)]
    size: Count
    dependency_depth: Count
    critical_path_h: Hours
    fan_in: Count
    skill_breadth: Count
    uncertainty: Fraction
    risk_flags: list[Text] = []
    drivers: dict[Name, float] = {}
    method: Literal["rules", "llm+rules"] = "rules"


class Solver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    name: Name
    status: Literal["OPTIMAL", "FEASIBLE", "HEURISTIC"]
    objective: float
    gap: float = 0.0
    ms: float = 0.0


class TeamPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Who does what, when, and why. Hours count from the project's start."""

    plan_id: Name
    project_id: Name
    assignments: list[Assignment]
    unassigned: list[Unassigned] = []
    critical_path: list[Name] = []
    slack_h: dict[Name, float] = {}
    makespan_h: Hours = 0.0
    deadline: Micros | None = None
    deadline_feasible: bool = True
    utilisation: dict[Name, float] = {}
    bottlenecks: list[Text] = []
    gates: dict[Name, list[Name]] = {}
    budget_used_usd: Money = "0"
    budget_limit_usd: Money | None = None
    complexity: Complexity | None = None
    registry_version: Count = 0
    solver: Solver
    supersedes: Name | None = None
    created: Micros | None = None


class PlanChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What if? `without` are specialists that are gone; what is left out stays as it is."""

    without: Annotated[list[Name], Meta(max_length=1000)] = []
    deadline: Micros | None = None
    budget_usd: Money | None = None
    pinned: dict[Name, Name] = {}


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Whose task becomes whose. None: nobody's."""

    task_id: Name
    from_specialist: Name | None = None
    to_specialist: Name | None = None
    why: Text


class PlanDifference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`plan` is what would be committed. Differences are new minus old: above zero is later, dearer, worse."""

    plan: TeamPlan
    moves: list[Move] = []
    makespan_h: float = 0.0
    cost_usd: DecimalString = "0"
    objective: float = 0.0
    unassigned: int = 0


class Suggestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    action: Literal["REASSIGN", "UNBLOCK", "ESCALATE", "SPLIT", "START", "NUDGE"]
    target: Name
    why: Text
    expected_gain_h: float = 0.0


class AtRisk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    task_id: Name
    slack_h: float
    reason: Text


class NextSteps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a team should do now: the `coordination` of every SPECIALIST_UPDATE. Lists hold at most 50 entries."""

    ready: list[Name] = []
    blocked: dict[Name, list[Name]] = {}
    waiting_human: list[Name] = []
    at_risk: list[AtRisk] = []
    critical_path: list[Name] = []
    critical_path_h: float = 0.0
    critical_path_delta_h: float = 0.0
    stuck: list[Name] = []
    suggestions: list[Suggestion] = []
    computed_in_us: Count = 0
