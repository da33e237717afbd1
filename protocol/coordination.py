"""The vocabulary of a team of specialists (agents), its tasks and its alerts.

A specialist's status has three axes, never one word: presence (is it there), activity (what is it doing),
health (is it getting anywhere). Task states are those of A2A 1.0.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from protocol.fields import Count, DecimalString, Fraction, Micros, Name, Text

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


class HandOff(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A task offered by one specialist to another, and what became of the offer."""

    task_id: Name
    from_specialist: Name
    to_specialist: Name
    state: Literal["OFFERED", "ACCEPTED", "DECLINED", "EXPIRED"]
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
