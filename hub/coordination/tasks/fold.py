"""A task is what its events make of it: `apply`, one event at a time. The same events give the same task."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.task import Said, Task
from hub.coordination.tasks.transitions import (
    ASSIGNED,
    BLOCKED,
    COMPLETED,
    FAILED,
    IN_REVIEW,
    PAUSED,
    QUEUED,
    RUNNING,
    TRANSITIONS,
    Happening,
    Position,
    Target,
    Then,
)
from protocol.coordination import Blocker

MAX_SAID = 32  # what a holder said that is remembered, so that it counts once
MAX_REVIEWS = 3  # results that may be handed in before a task fails
BY_HOLDER: frozenset[Happening] = frozenset(
    {"CLAIM", "RENEW", "PROGRESS", "BLOCK", "REQUEST_INPUT", "REQUEST_AUTH", "SUBMIT_RESULT", "ERROR"}
)
SAID_BY_HOLDER = BY_HOLDER - {"CLAIM"}
RENEWING: frozenset[Happening] = frozenset(
    {"ASSIGN", "CLAIM", "RENEW", "PROGRESS", "BLOCK", "RESOLVE", "EXPIRE", "SUBMIT_RESULT", "HANDOFF_ACCEPTED"}
)
"""These let the lease run anew. One that has run out ends with LEASE_EXPIRED, not before."""


class InvalidTransition(Exception):
    """This cannot happen to a task in this state."""

    def __init__(self, task: Task | None, event: TaskEvent, why: str = "") -> None:
        where = "/".join(filter(None, task.position)) if task else "unknown"
        super().__init__(f"{event.happening} of a task that is {where}{why and ': '}{why}")


class TaskEnded(InvalidTransition):
    """Nothing happens to it any more."""


class Fenced(InvalidTransition):
    """Who says so does not have the task, or not any more."""


def apply(task: Task | None, event: TaskEvent) -> Task:
    """The task after the event. Raises InvalidTransition, also TaskEnded and Fenced."""
    if task is None:
        return _created(event)
    if task.ended:
        raise TaskEnded(task, event)
    target = TRANSITIONS.get((task.position, event.happening))
    if target is None:
        if event.happening in SAID_BY_HOLDER:  # whoever lost the task hears that, whatever became of the task
            _check_holder(task, event)
        raise InvalidTransition(task, event)
    _check_holder(task, event)
    changed = replace(
        _changed(task, event), version=task.version + 1, updated_us=event.ts_event, said=_said(task, event)
    )
    return _settled(changed, _position(changed, event, target), event)


def replay(events: Iterable[TaskEvent]) -> Task:
    """Raises InvalidTransition; ValueError without an event."""
    task: Task | None = None
    for event in events:
        task = apply(task, event)
    if task is None:
        raise ValueError("no events")
    return task


def _created(event: TaskEvent) -> Task:
    if event.happening != "CREATE" or event.spec is None or event.project_id is None:
        raise InvalidTransition(None, event)
    if event.spec.task_id != event.task_id:
        raise InvalidTransition(None, event, "the specification is another task's")
    return Task(
        task_id=event.task_id,
        project_id=event.project_id,
        spec=event.spec,
        version=1,
        created_us=event.ts_event,
        updated_us=event.ts_event,
        active_us=event.ts_event,
    )


def _check_holder(task: Task, event: TaskEvent) -> None:
    """An agent acts on what it has, with the number of its own claim; the claim is what gives it one."""
    declined = event.happening == "DECLINE" and task.position != QUEUED
    if event.happening not in BY_HOLDER and not declined:
        return
    numbered = task.position != ASSIGNED
    if event.specialist_id != task.specialist_id or (numbered and event.fence != task.fence):
        raise Fenced(task, event)


def _changed(task: Task, event: TaskEvent) -> Task:
    """What the event says of the task beside its state."""
    match event.happening:
        case "ASSIGN" | "HANDOFF_ACCEPTED":
            return _given(task, event)
        case "CLAIM":
            return replace(task, fence=task.fence + 1)
        case "LEASE_EXPIRED":
            return _taken_back(task, event)
        case "PROGRESS":
            if event.progress is None or not task.progress <= event.progress <= 1:
                raise InvalidTransition(task, event, "progress goes forward only, up to 1")
            return replace(task, progress=event.progress, active_us=event.ts_event)
        case "BLOCK":
            if not event.blockers:
                raise InvalidTransition(task, event, "by what?")
            return replace(task, blockers=event.blockers)
        case "UNBLOCK":
            left = tuple(blocker for blocker in task.blockers if blocker.ref != event.ref)
            if left == task.blockers:
                raise InvalidTransition(task, event, "that does not block it")
            return replace(task, blockers=left)
        case "REQUEST_INPUT" | "REQUEST_AUTH":
            return _asked(task, event)
        case "RESOLVE" | "EXPIRE":
            return _answered(task, event)
        case "SUBMIT_RESULT":
            return _handed_in(task, event)
        case "GATE_RESULT":
            return _judged(task, event)
        case "PAUSE":
            return replace(task, paused_at=task.substate)
        case "DECLINE" | "ERROR" | "CANCEL":
            return replace(task, reason=event.reason)
        case _:
            return task


def _said(task: Task, event: TaskEvent) -> dict[str, Said]:
    if event.happening == "CLAIM":
        return {}
    if event.request_id is None or event.fingerprint is None:
        return task.said
    asked = event.interrupt.interrupt_id if event.interrupt is not None else None
    lately = [*task.said.items(), (event.request_id, Said(event.fingerprint, asked))]
    return dict(lately[-MAX_SAID:])


def _given(task: Task, event: TaskEvent) -> Task:
    if not event.specialist_id or event.specialist_id == task.specialist_id or not event.ttl_us:
        raise InvalidTransition(task, event, "it goes to somebody else, for some time")
    return replace(task, specialist_id=event.specialist_id, ttl_us=event.ttl_us, blockers=(), paused_at=None)


def _taken_back(task: Task, event: TaskEvent) -> Task:
    """Work is only taken from somebody who is gone: one that is merely late still has it."""
    if task.lease_until is None or event.ts_event < task.lease_until:
        raise InvalidTransition(task, event, "its lease runs on")
    if task.state == "WORKING" and event.presence != "OFFLINE":
        raise InvalidTransition(task, event, "whoever has it is still there")
    return replace(task, attempt=task.attempt + 1, progress=0.0, blockers=(), paused_at=None)


def _asked(task: Task, event: TaskEvent) -> Task:
    asked = event.interrupt
    if asked is None or (asked.reason == "AUTH") != (event.happening == "REQUEST_AUTH"):
        raise InvalidTransition(task, event, "what is asked?")
    if asked.expires_at is not None and (asked.reason == "AUTH" or asked.expires_at <= event.ts_event):
        raise InvalidTransition(task, event, "a question expires in the future, a sign-in never")
    return replace(task, interrupt=asked)


def _answered(task: Task, event: TaskEvent) -> Task:
    asked = task.interrupt
    if asked is None or event.interrupt_id != asked.interrupt_id:
        raise InvalidTransition(task, event, "that was not asked")
    expired = asked.expires_at is not None and event.ts_event >= asked.expires_at
    if expired != (event.happening == "EXPIRE"):
        raise InvalidTransition(task, event, "the question has expired" if expired else "it may still be answered")
    if event.happening == "RESOLVE":
        return replace(task, interrupt=None, answer=event.answer)
    if asked.on_expiry == "FAIL":
        return replace(task, reason=event.reason or "nobody answered in time")
    escalated = Blocker(kind="escalation", ref=asked.interrupt_id, since=event.ts_event)
    return replace(task, interrupt=None, blockers=(*task.blockers, escalated))


def _handed_in(task: Task, event: TaskEvent) -> Task:
    if not event.artifacts:
        raise InvalidTransition(task, event, "a result is at least one artifact")
    waived = {gate_id: result for gate_id, result in task.results.items() if result == "WAIVED"}
    return replace(task, artifacts=event.artifacts, reviews=task.reviews + 1, results=waived)


def _judged(task: Task, event: TaskEvent) -> Task:
    if event.review != task.reviews:
        raise InvalidTransition(task, event, "that is not the result under review")
    if event.gate_id is None or all(gate.gate_id != event.gate_id for gate in task.spec.gates):
        raise InvalidTransition(task, event, "it has no such gate")
    if event.result is None or event.result == "PENDING":
        raise InvalidTransition(task, event, "that is no verdict")
    if event.result != "WAIVED" and task.position != IN_REVIEW:
        raise InvalidTransition(task, event, "there is no result under review")
    if event.result == "WAIVED" and not event.reason:
        raise InvalidTransition(task, event, "a waiver has a reason")
    return replace(task, results={**task.results, event.gate_id: event.result})


def _position(task: Task, event: TaskEvent, target: Target) -> Position:
    """Of the changed task."""
    match target:
        case Then.SAME:
            return task.position
        case Then.AT_WORK:
            return _at_work(task)
        case Then.PREVIOUS:
            return IN_REVIEW if task.paused_at == "IN_REVIEW" else _unpaused(task)
        case Then.AS_ASKED:
            assert task.interrupt is not None and task.interrupt.reason != "AUTH"
            return Position("INPUT_REQUIRED", task.interrupt.reason)
        case Then.BY_POLICY:
            return FAILED if task.interrupt else _at_work(task)
        case Then.BY_GATES:
            return _by_gates(task)
        case _:
            return target


def _at_work(task: Task) -> Position:
    return PAUSED if task.paused_at else _unpaused(task)


def _unpaused(task: Task) -> Position:
    return BLOCKED if task.blockers else RUNNING


def _by_gates(task: Task) -> Position:
    """An ERROR is no verdict: the gate is asked again, and until then the task is not through."""
    results = [task.results.get(gate.gate_id, "PENDING") for gate in task.spec.gates if gate.required]
    if "FAIL" in results:
        return _unpaused(task) if task.reviews < MAX_REVIEWS else FAILED
    return COMPLETED if all(result in ("PASS", "WAIVED") for result in results) else IN_REVIEW


def _settled(task: Task, position: Position, event: TaskEvent) -> Task:
    """The task in its new position, with what the position implies: who has it, and until when."""
    settled = replace(task, state=position.state, substate=position.substate)
    if settled.ended:
        progress = 1.0 if position == COMPLETED else task.progress
        return replace(settled, progress=progress, lease_until=None, blockers=(), interrupt=None, paused_at=None)
    if position == QUEUED:
        return replace(settled, specialist_id=None, ttl_us=0, lease_until=None)
    if position.state in ("INPUT_REQUIRED", "AUTH_REQUIRED"):
        return replace(settled, lease_until=None)
    if event.happening in RENEWING:
        settled = replace(settled, lease_until=event.ts_event + task.ttl_us)
    if position == RUNNING and task.position != RUNNING:
        settled = replace(settled, active_us=event.ts_event)
    if event.happening == "RESUME":
        settled = replace(settled, paused_at=None)
    return settled
