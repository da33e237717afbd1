"""A task as the hub knows it: what was asked for, who has it, and how far it is."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hub.coordination.tasks.transitions import ENDED, Position
from protocol.coordination import Blocker, GateResult, TaskSpec, TaskState, TaskSubstate


class Interrupt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question to a person. Not answered by `expires_at`, the task fails or waits on, escalated."""

    interrupt_id: str
    reason: Literal["INPUT", "CONFIRMATION", "TOOL_CALL", "AUTH"]
    expires_at: int | None = None
    on_expiry: Literal["FAIL", "ESCALATE"] = "FAIL"


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Immutable; an event makes a new one. Times and the lease's `ttl_us` in microseconds.

    `fence` counts the claims: whoever claimed last has its number, and everybody else's updates are refused.
    `lease_until` None: nobody has the task, or its holder waits for a person and the clock stands. `attempt` counts
    leases that ran out, `reviews` the results handed in. `progress` never goes back for whoever has the task; once its
    lease has run out the next one starts over. `paused_at` is where a RESUME goes back to. `active_us` is when work
    last went on. `version` counts its events.
    """

    task_id: str
    project_id: str
    spec: TaskSpec
    state: TaskState = "SUBMITTED"
    substate: TaskSubstate | None = "QUEUED"
    specialist_id: str | None = None
    fence: int = 0
    ttl_us: int = 0
    lease_until: int | None = None
    attempt: int = 0
    progress: float = 0.0
    blockers: tuple[Blocker, ...] = ()
    interrupt: Interrupt | None = None
    paused_at: TaskSubstate | None = None
    reviews: int = 0
    results: dict[str, GateResult] = {}
    artifacts: tuple[dict[str, Any], ...] = ()
    reason: str | None = None
    version: int = 0
    created_us: int = 0
    updated_us: int = 0
    active_us: int = 0

    @property
    def position(self) -> Position:
        return Position(self.state, self.substate)

    @property
    def ended(self) -> bool:
        return self.state in ENDED
