"""One thing that happened to a task, as the log keeps it. A task is what its events make of it."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.coordination.tasks.transitions import Happening
from protocol.coordination import Blocker, GateResult, Interrupt, Presence, TaskSpec


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`actor` is the user who caused it, or the hub. `ts_event` is in microseconds.

    `specialist_id` is who acts on the task, with the `fence` of its claim; in an ASSIGN or HANDOFF_ACCEPTED it is who
    gets the task, for `ttl_us` at first. A CREATE carries `project_id` and `spec`. `presence` is the holder's when its
    lease ran out. An UNBLOCK names the blocker that is gone by its `ref`. A RESOLVE or EXPIRE names its question; that
    the answer fits the question's schema is seen to before it is an event. A GATE_RESULT names the `review` it is
    about, so that an old verdict does not count for a new result. `message` is for whoever watches. `request_id` is
    what the holder calls it, with the `fingerprint` of all that it said.
    """

    task_id: str
    happening: Happening
    ts_event: int
    actor: str
    specialist_id: str | None = None
    fence: int | None = None
    ttl_us: int | None = None
    project_id: str | None = None
    spec: TaskSpec | None = None
    presence: Presence | None = None
    progress: float | None = None
    blockers: tuple[Blocker, ...] = ()
    ref: str | None = None
    interrupt: Interrupt | None = None
    interrupt_id: str | None = None
    answer: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    gate_id: str | None = None
    result: GateResult | None = None
    review: int | None = None
    reason: str | None = None
    message: str | None = None
    request_id: str | None = None
    fingerprint: str | None = None
