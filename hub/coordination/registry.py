"""What a specialist is up to, on three axes, each with its reason: derived from what it did, never asserted.

Presence comes from heartbeats, activity from the tasks it has, health from whether these get anywhere. Somebody who
beats but does not move is STUCK; whoever waits for a person differs from whoever waits for another task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hub.coordination.tasks.task import Task
from protocol.coordination import (
    Activity,
    Alert,
    Health,
    Presence,
    Specialist,
    SpecialistStatus,
    TaskSpec,
)

MICROS = 1_000_000
STALE_AFTER = 3  # missed heartbeats
OFFLINE_AFTER = 6
LEASE_HEARTBEATS = 3
IDLE_TIMEOUT_US = 300 * MICROS
BUDGET_ALERT = 0.8  # of the day's
ERROR_RATE_ALERT = 0.2
MIN_CALLS = 10  # fewer say nothing of a rate


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a specialist. Times in microseconds.

    `gone`: its connection closed, and it has not come back. `draining` and `paused` were asked for; `failure` is what
    it said of itself. `errors` of `calls` failed lately; `budget_used` is the larger share of the day's money or
    tokens.
    """

    last_heartbeat: int
    gone: bool = False
    draining: bool = False
    paused: bool = False
    limited_until: int | None = None
    failure: str | None = None
    calls: int = 0
    errors: int = 0
    budget_used: float = 0.0


def lease_us(specialist: Specialist) -> int:
    """For how long a task is its own without a sign of life."""
    return round(LEASE_HEARTBEATS * specialist.heartbeat_s * MICROS)


def status_of(
    specialist: Specialist,
    signs: Signs,
    tasks: Iterable[Task],
    *,
    now_us: int,
    idle_timeout_us: int = IDLE_TIMEOUT_US,
) -> SpecialistStatus:
    """`tasks` may be anybody's: those count that the specialist has."""
    held = [task for task in tasks if task.specialist_id == specialist.specialist_id and not task.ended]
    presence, presence_because = _presence(specialist, signs, now_us)
    activity, activity_because = _activity(signs, held, now_us)
    health, health_because = _health(signs, held, presence, now_us, idle_timeout_us)
    return SpecialistStatus(
        specialist_id=specialist.specialist_id,
        presence=presence,
        presence_because=presence_because,
        activity=activity,
        activity_because=activity_because,
        health=health,
        health_because=health_because,
        tasks=sorted(task.task_id for task in held),
        last_heartbeat=signs.last_heartbeat,
    )


def why_not(specialist: Specialist, status: SpecialistStatus, task: TaskSpec, *, now_us: int) -> str | None:
    """What speaks against assigning the task to it now; None: nothing."""
    missing = sorted(set(task.required_skills) - {skill.id for skill in specialist.skills})
    if missing:
        return f"lacks {', '.join(missing)}"
    if len(status.tasks) >= specialist.max_concurrent:
        return f"has {len(status.tasks)} of {specialist.max_concurrent} tasks"
    if specialist.availability and not any(each.start <= now_us < each.end for each in specialist.availability):
        return "is not available at this time"
    if status.presence == "OFFLINE":
        return f"is OFFLINE: {status.presence_because}"
    if status.activity in ("DRAINING", "PAUSED"):
        return f"is {status.activity}: {status.activity_because}"
    if status.health in ("STUCK", "FAILED"):
        return f"is {status.health}: {status.health_because}"
    return None


def stuck_alert(before: SpecialistStatus | None, after: SpecialistStatus, *, now_us: int) -> Alert | None:
    """The alert that a change of status makes: one when it gets stuck, one when that is over."""
    was, is_now = before is not None and before.health == "STUCK", after.health == "STUCK"
    if was == is_now:
        return None
    return Alert(
        alert_id=f"stuck:{after.specialist_id}",
        severity="WARNING",
        title=f"{after.specialist_id} is {'stuck' if is_now else 'no longer stuck'}",
        state="FIRING" if is_now else "RESOLVED",
        source="registry",
        detail=after.health_because,
        ts_event=now_us,
    )


def _presence(specialist: Specialist, signs: Signs, now_us: int) -> tuple[Presence, str]:
    if signs.gone:
        return "OFFLINE", "its connection closed"
    missed = max(0, now_us - signs.last_heartbeat) // round(specialist.heartbeat_s * MICROS)
    because = f"{missed} heartbeats missed" if missed else "its heartbeats arrive"
    if missed >= OFFLINE_AFTER:
        return "OFFLINE", because
    return ("STALE" if missed >= STALE_AFTER else "ONLINE"), because


def _activity(signs: Signs, held: Sequence[Task], now_us: int) -> tuple[Activity, str]:
    if signs.paused:
        return "PAUSED", "somebody paused it"
    if signs.draining:
        return "DRAINING", f"it takes nothing new; tasks left: {len(held)}"
    if signs.limited_until is not None and now_us < signs.limited_until:
        return "RATE_LIMITED", f"its provider lets it go on in {_seconds(signs.limited_until - now_us)}"
    by_activity: dict[Activity, list[str]] = {}
    for task in held:
        by_activity.setdefault(_activity_on(task), []).append(task.task_id)
    for activity, doing in REASONS:
        if names := by_activity.get(activity):
            return activity, f"{doing} {min(names)}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
    return "IDLE", "it has no task"


# The first that applies to any of its tasks: who works on one is at work, and what a person can end is named first.
REASONS: tuple[tuple[Activity, str], ...] = (
    ("WORKING", "it works on"),
    ("WAITING_HUMAN", "a person is asked about"),
    ("BLOCKED", "others are waited for in"),
    ("PAUSED", "somebody paused"),
    ("IDLE", "it has not claimed"),
)


def _activity_on(task: Task) -> Activity:
    if task.state in ("INPUT_REQUIRED", "AUTH_REQUIRED"):
        return "WAITING_HUMAN"
    match task.substate:
        case "RUNNING":
            return "WORKING"
        case "PAUSED":
            return "PAUSED"
        case "BLOCKED":
            return "BLOCKED"
        case "IN_REVIEW":
            return "WAITING_HUMAN" if _asks_a_person(task) else "BLOCKED"
        case _:
            return "IDLE"


def _asks_a_person(task: Task) -> bool:
    open_gates = [gate for gate in task.spec.gates if task.results.get(gate.gate_id) not in ("PASS", "WAIVED")]
    return any(gate.required and gate.kind == "HUMAN_REVIEW" for gate in open_gates)


def _health(
    signs: Signs, held: Sequence[Task], presence: Presence, now_us: int, idle_timeout_us: int
) -> tuple[Health, str]:
    if signs.failure is not None:
        return "FAILED", signs.failure
    excused = signs.paused or (signs.limited_until is not None and now_us < signs.limited_until)
    running = [task for task in held if task.substate == "RUNNING"]
    if running and presence != "OFFLINE" and not excused:
        stalest = min(running, key=lambda task: (task.active_us, task.task_id))
        if (idle_us := now_us - stalest.active_us) >= idle_timeout_us:
            return "STUCK", f"no progress on {stalest.task_id} for {_seconds(idle_us)}"
    if signs.calls >= MIN_CALLS and signs.errors > ERROR_RATE_ALERT * signs.calls:
        return "DEGRADED", f"{signs.errors} of {signs.calls} calls failed"
    if signs.budget_used > BUDGET_ALERT:
        return "DEGRADED", f"{signs.budget_used:.0%} of its budget is used"
    return "HEALTHY", "nothing speaks against it"


def _seconds(micros: int) -> str:
    return f"{micros / MICROS:.0f} s"
