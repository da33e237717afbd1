"""A task as the hub knows it: what was asked for, who has it, and how far it is."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.coordination.tasks.transitions import ENDED, Position
from protocol.coordination import Blocker, GateResult, Interrupt, TaskSpec, TaskState, TaskSubstate


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the holder said under an id of its own. `fingerprint` tells a repetition from something else under this id,
    `interrupt_id` is the question that it asked.
    """

    fingerprint: str
    interrupt_id: str | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Immutable; an event makes a new one. Times and the lease's `ttl_us` in microseconds.

    `fence` counts the claims: whoever claimed last has its number, and everybody else's updates are refused.
    `lease_until` None: nobody has the task, or its holder waits for a person and the clock stands. `attempt` counts
    leases that ran out, `reviews` the results handed in. `progress` never goes back for whoever has the task; once its
    lease has run out the next one starts over. `paused_at` is where a RESUME goes back to. `active_us` is when work
    last went on. `version` counts its events; `place` is its number in the project. `answer` is what its last question
    was answered with. `said` is what was said lately under the claim of now, by the ids that came with it.
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
    answer: Any = None
    paused_at: TaskSubstate | None = None
    reviews: int = 0
    results: dict[str, GateResult] = {}
    artifacts: tuple[dict[str, Any], ...] = ()
    reason: str | None = None
    said: dict[str, Said] = {}
    version: int = 0
    place: int = 0
    created_us: int = 0
    updated_us: int = 0
    active_us: int = 0

    @property
    def position(self) -> Position:
        return Position(self.state, self.substate)

    @property
    def ended(self) -> bool:
        return self.state in ENDED
