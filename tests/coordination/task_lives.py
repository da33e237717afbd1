"""Events for tests of tasks, and the shortest way into every position."""

from __future__ import annotations

from typing import Any

from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.fold import replay
from hub.coordination.tasks.task import Task
from hub.coordination.tasks.transitions import (
    ASSIGNED,
    AUTH_REQUIRED,
    BLOCKED,
    CANCELED,
    COMPLETED,
    FAILED,
    IN_REVIEW,
    INPUT_REQUIRED,
    PAUSED,
    QUEUED,
    REJECTED,
    RUNNING,
    Happening,
    Position,
)
from protocol.coordination import Blocker, Gate, GateResult, Interrupt, TaskSpec

TTL = 30
EXPIRY = 500
GATES = [Gate(gate_id="tests"), Gate(gate_id="docs", required=False)]
ON_T2 = Blocker(kind="task", ref="t-2")
ON_EVE = Blocker(kind="agent", ref="eve")
INPUT, CONFIRMATION, TOOL_CALL = INPUT_REQUIRED


def spec(task_id: str = "t-1", **fields: Any) -> TaskSpec:
    return TaskSpec(task_id=task_id, **{"gates": GATES, **fields})


def question(**fields: Any) -> Interrupt:
    return Interrupt(**{"interrupt_id": "i-1", "reason": "INPUT", "expires_at": EXPIRY, **fields})


USUAL: dict[Happening, dict[str, Any]] = {
    "CREATE": {"project_id": "p-1", "spec": spec(), "specialist_id": None},
    "ASSIGN": {"ttl_us": TTL},
    "HANDOFF_ACCEPTED": {"specialist_id": "eve", "ttl_us": TTL},
    "LEASE_EXPIRED": {"ts_event": 1000, "presence": "OFFLINE"},
    "PROGRESS": {"progress": 0.5},
    "BLOCK": {"blockers": (ON_T2,)},
    "UNBLOCK": {"ref": "t-2"},
    "REQUEST_INPUT": {"interrupt": question()},
    "REQUEST_AUTH": {"interrupt": question(reason="AUTH", expires_at=None)},
    "RESOLVE": {"interrupt_id": "i-1"},
    "EXPIRE": {"interrupt_id": "i-1", "ts_event": EXPIRY},
    "SUBMIT_RESULT": {"artifacts": ({"name": "report"},)},
    "GATE_RESULT": {"gate_id": "tests", "result": "PASS", "review": 1},
}


def happens(happening: Happening, **fields: Any) -> TaskEvent:
    """At the first task in the hands of bob, who claimed it once, as it should be."""
    made: dict[str, Any] = {"task_id": "t-1", "ts_event": 100, "actor": "ann", "specialist_id": "bob", "fence": 1}
    return TaskEvent(happening=happening, **made | USUAL.get(happening, {}) | fields)


def life(*events: Happening | TaskEvent) -> list[TaskEvent]:
    """A created task and what happens then; the bare names are as they usually are."""
    return [happens("CREATE"), *(each if isinstance(each, TaskEvent) else happens(each) for each in events)]


def asked(**fields: Any) -> TaskEvent:
    return happens("REQUEST_INPUT", interrupt=question(**fields))


def verdict(result: GateResult, **fields: Any) -> TaskEvent:
    return happens("GATE_RESULT", result=result, **fields)


INTO: dict[Position, list[TaskEvent]] = {
    QUEUED: life(),
    ASSIGNED: life("ASSIGN"),
    RUNNING: life("ASSIGN", "CLAIM"),
    BLOCKED: life("ASSIGN", "CLAIM", "BLOCK"),
    IN_REVIEW: life("ASSIGN", "CLAIM", "SUBMIT_RESULT"),
    PAUSED: life("ASSIGN", "CLAIM", "PAUSE"),
    INPUT: life("ASSIGN", "CLAIM", "REQUEST_INPUT"),
    CONFIRMATION: life("ASSIGN", "CLAIM", asked(reason="CONFIRMATION", on_expiry="ESCALATE")),
    TOOL_CALL: life("ASSIGN", "CLAIM", asked(reason="TOOL_CALL")),
    AUTH_REQUIRED: life("ASSIGN", "CLAIM", "REQUEST_AUTH"),
    COMPLETED: life("ASSIGN", "CLAIM", "SUBMIT_RESULT", "GATE_RESULT"),
    FAILED: life("ASSIGN", "CLAIM", "ERROR"),
    CANCELED: life("CANCEL"),
    REJECTED: life("DECLINE"),
}


def at(position: Position) -> Task:
    return replay(INTO[position])


def third_review() -> Task:
    """In review for the last time."""
    again = [event for number in (1, 2) for event in (verdict("FAIL", review=number), happens("SUBMIT_RESULT"))]
    return replay([*INTO[IN_REVIEW], *again])
