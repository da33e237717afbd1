"""What may happen to a task in which state, as a table. Whatever is not in it is refused.

States are those of A2A 1.0 with the hub's substate beside them. Nothing happens to a task that has ended: another try
is a new task that names this one. `Then` stands where the next state depends on the task or the event.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Literal, NamedTuple

from protocol.coordination import TaskState, TaskSubstate

Happening = Literal[
    "CREATE",
    "ASSIGN",
    "CLAIM",
    "DECLINE",
    "RENEW",
    "LEASE_EXPIRED",
    "PROGRESS",
    "BLOCK",
    "UNBLOCK",
    "REQUEST_INPUT",
    "REQUEST_AUTH",
    "RESOLVE",
    "EXPIRE",
    "SUBMIT_RESULT",
    "GATE_RESULT",
    "PAUSE",
    "RESUME",
    "HANDOFF_ACCEPTED",
    "ERROR",
    "CANCEL",
]
HAPPENINGS: tuple[Happening, ...] = typing.get_args(Happening)


class Position(NamedTuple):
    """Where a task stands. There is no substate where the state says it all."""

    state: TaskState
    substate: TaskSubstate | None = None


class Then(Enum):
    SAME = "as before"
    AT_WORK = "PAUSED if it was, BLOCKED while something blocks it, else RUNNING"
    PREVIOUS = "as before the pause, or RUNNING when nothing blocks it any more"
    AS_ASKED = "INPUT, CONFIRMATION or TOOL_CALL, as the question is"
    BY_POLICY = "FAILED, or at work and blocked until somebody answers after all"
    BY_GATES = "COMPLETED, back to work or FAILED by the required gates, else IN_REVIEW"


Target = Position | Then
Row = tuple[Position, Happening]

QUEUED, ASSIGNED = Position("SUBMITTED", "QUEUED"), Position("SUBMITTED", "ASSIGNED")
RUNNING, BLOCKED = Position("WORKING", "RUNNING"), Position("WORKING", "BLOCKED")
IN_REVIEW, PAUSED = Position("WORKING", "IN_REVIEW"), Position("WORKING", "PAUSED")
AUTH_REQUIRED = Position("AUTH_REQUIRED")
COMPLETED, FAILED = Position("COMPLETED"), Position("FAILED")
CANCELED, REJECTED = Position("CANCELED"), Position("REJECTED")

SUBMITTED = (QUEUED, ASSIGNED)
WORKING = (RUNNING, BLOCKED, IN_REVIEW, PAUSED)
INPUT_REQUIRED = (
    Position("INPUT_REQUIRED", "INPUT"),
    Position("INPUT_REQUIRED", "CONFIRMATION"),
    Position("INPUT_REQUIRED", "TOOL_CALL"),
)
WAITING = (*INPUT_REQUIRED, AUTH_REQUIRED)  # for a person
TERMINAL = (COMPLETED, FAILED, CANCELED, REJECTED)
ENDED: frozenset[TaskState] = frozenset(position.state for position in TERMINAL)


def _rows(positions: Iterable[Position], happenings: Iterable[Happening], target: Target) -> dict[Row, Target]:
    return {(position, happening): target for position in positions for happening in happenings}


TRANSITIONS: Mapping[Row, Target] = {
    # Somebody is found for it.
    **_rows([QUEUED], ["ASSIGN"], ASSIGNED),
    **_rows([ASSIGNED], ["CLAIM"], RUNNING),
    **_rows([*SUBMITTED, *WORKING], ["DECLINE"], REJECTED),
    **_rows([ASSIGNED], ["LEASE_EXPIRED"], QUEUED),
    # At work.
    **_rows(WORKING, ["PROGRESS", "RENEW"], Then.SAME),
    **_rows([RUNNING], ["BLOCK"], BLOCKED),
    **_rows([BLOCKED], ["UNBLOCK"], Then.AT_WORK),
    **_rows([PAUSED, *WAITING], ["UNBLOCK"], Then.SAME),  # what blocked it may go away meanwhile
    # A person is asked. Silence is never consent.
    **_rows(WORKING, ["REQUEST_INPUT"], Then.AS_ASKED),
    **_rows(WORKING, ["REQUEST_AUTH"], AUTH_REQUIRED),
    **_rows(WAITING, ["RESOLVE"], Then.AT_WORK),
    **_rows(INPUT_REQUIRED, ["EXPIRE"], Then.BY_POLICY),
    # The result.
    **_rows([RUNNING], ["SUBMIT_RESULT"], Then.BY_GATES),
    **_rows([IN_REVIEW], ["GATE_RESULT"], Then.BY_GATES),
    **_rows([RUNNING, BLOCKED], ["GATE_RESULT"], Then.SAME),  # a waiver, of the results to come
    # Interventions.
    **_rows([RUNNING, BLOCKED, IN_REVIEW], ["PAUSE"], PAUSED),
    **_rows([PAUSED], ["RESUME"], Then.PREVIOUS),
    **_rows(WORKING, ["HANDOFF_ACCEPTED"], ASSIGNED),
    **_rows(WORKING, ["ERROR"], FAILED),
    **_rows(WORKING, ["LEASE_EXPIRED"], QUEUED),
    **_rows([*SUBMITTED, *WORKING, *WAITING], ["CANCEL"], CANCELED),
}
"""(state, what happens) -> state. A CREATE makes the task, so no state comes before it."""
