"""Every row of the table of tasks lets something pass and refuses something."""

from __future__ import annotations

import pytest

from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.fold import Fenced, InvalidTransition, TaskEnded, apply, replay
from hub.coordination.tasks.task import Task
from hub.coordination.tasks.transitions import (
    ASSIGNED,
    AUTH_REQUIRED,
    BLOCKED,
    CANCELED,
    COMPLETED,
    FAILED,
    HAPPENINGS,
    IN_REVIEW,
    PAUSED,
    QUEUED,
    REJECTED,
    RUNNING,
    SUBMITTED,
    TERMINAL,
    TRANSITIONS,
    WAITING,
    WORKING,
    Happening,
    Position,
)
from tests.coordination.task_lives import (
    CONFIRMATION,
    EXPIRY,
    INPUT,
    INTO,
    ON_EVE,
    ON_T2,
    TOOL_CALL,
    asked,
    at,
    happens,
    life,
    question,
    spec,
    third_review,
    verdict,
)

Passing = tuple[int, Position | Task, TaskEvent, Position]
PASSING: list[Passing] = [
    (2, QUEUED, happens("ASSIGN"), ASSIGNED),
    (3, ASSIGNED, happens("CLAIM", fence=None), RUNNING),
    *[(4, each, happens("DECLINE"), REJECTED) for each in (*SUBMITTED, *WORKING)],
    (5, ASSIGNED, happens("LEASE_EXPIRED", presence="ONLINE"), QUEUED),
    *[(6, each, happens("PROGRESS"), each) for each in WORKING],
    *[(6, each, happens("RENEW"), each) for each in WORKING],
    (7, RUNNING, happens("BLOCK"), BLOCKED),
    (8, BLOCKED, happens("UNBLOCK"), RUNNING),
    (8, replay(life("ASSIGN", "CLAIM", happens("BLOCK", blockers=(ON_T2, ON_EVE)))), happens("UNBLOCK"), BLOCKED),
    *[(9, each, happens("REQUEST_INPUT"), INPUT) for each in WORKING],
    (9, RUNNING, asked(reason="CONFIRMATION"), CONFIRMATION),
    (9, RUNNING, asked(reason="TOOL_CALL"), TOOL_CALL),
    *[(10, each, happens("REQUEST_AUTH"), AUTH_REQUIRED) for each in WORKING],
    *[(11, each, happens("RESOLVE"), RUNNING) for each in WAITING],
    (12, INPUT, happens("EXPIRE"), FAILED),
    (12, TOOL_CALL, happens("EXPIRE"), FAILED),
    (12, CONFIRMATION, happens("EXPIRE"), BLOCKED),
    (13, RUNNING, happens("SUBMIT_RESULT"), IN_REVIEW),
    (13, replay([happens("CREATE", spec=spec(gates=[])), *INTO[RUNNING][1:]]), happens("SUBMIT_RESULT"), COMPLETED),
    (14, IN_REVIEW, verdict("PASS"), COMPLETED),
    (14, IN_REVIEW, verdict("WAIVED", reason="known"), COMPLETED),
    *[(14, each, verdict("WAIVED", reason="known", review=0), each) for each in (RUNNING, BLOCKED)],
    (14, IN_REVIEW, verdict("PASS", gate_id="docs"), IN_REVIEW),
    (14, IN_REVIEW, verdict("FAIL", gate_id="docs"), IN_REVIEW),
    (14, IN_REVIEW, verdict("ERROR"), IN_REVIEW),
    (15, IN_REVIEW, verdict("FAIL"), RUNNING),
    (16, third_review(), verdict("FAIL", review=3), FAILED),
    *[(17, each, happens("PAUSE"), PAUSED) for each in (RUNNING, BLOCKED, IN_REVIEW)],
    *[(17, apply(at(each), happens("PAUSE")), happens("RESUME"), each) for each in (RUNNING, BLOCKED, IN_REVIEW)],
    *[(18, each, happens("HANDOFF_ACCEPTED"), ASSIGNED) for each in WORKING],
    *[(19, each, happens("ERROR"), FAILED) for each in WORKING],
    *[(20, each, happens("LEASE_EXPIRED"), QUEUED) for each in WORKING],
    *[(21, each, happens("CANCEL"), CANCELED) for each in (*SUBMITTED, *WORKING, *WAITING)],
]

REFUSED: list[tuple[int, Position | Task, TaskEvent]] = [
    (1, QUEUED, happens("CREATE")),
    (2, ASSIGNED, happens("ASSIGN", specialist_id="eve")),
    (2, QUEUED, happens("ASSIGN", specialist_id=None)),
    (2, QUEUED, happens("ASSIGN", ttl_us=0)),
    (3, ASSIGNED, happens("CLAIM", specialist_id="eve")),
    (3, QUEUED, happens("CLAIM")),
    (3, RUNNING, happens("CLAIM")),
    (4, ASSIGNED, happens("DECLINE", specialist_id="eve")),
    (4, RUNNING, happens("DECLINE", fence=0)),
    (4, INPUT, happens("DECLINE")),
    (5, ASSIGNED, happens("LEASE_EXPIRED", ts_event=129)),
    (5, QUEUED, happens("LEASE_EXPIRED")),
    (6, ASSIGNED, happens("PROGRESS")),
    (6, replay([*INTO[RUNNING], happens("PROGRESS")]), happens("PROGRESS", progress=0.4)),
    (6, RUNNING, happens("PROGRESS", progress=1.1)),
    (6, RUNNING, happens("PROGRESS", progress=float("nan"))),
    (6, RUNNING, happens("PROGRESS", progress=None)),
    (6, RUNNING, happens("PROGRESS", fence=2)),
    (6, RUNNING, happens("RENEW", specialist_id="eve")),
    (7, RUNNING, happens("BLOCK", blockers=())),
    (7, PAUSED, happens("BLOCK")),
    (8, BLOCKED, happens("UNBLOCK", ref="t-3")),
    (8, RUNNING, happens("UNBLOCK")),
    (9, RUNNING, happens("REQUEST_INPUT", interrupt=None)),
    (9, RUNNING, asked(reason="AUTH")),
    (9, RUNNING, asked(expires_at=100)),
    (9, ASSIGNED, happens("REQUEST_INPUT")),
    (10, RUNNING, happens("REQUEST_AUTH", interrupt=question())),
    (10, RUNNING, happens("REQUEST_AUTH", interrupt=question(reason="AUTH"))),
    (10, INPUT, happens("REQUEST_AUTH")),
    (11, INPUT, happens("RESOLVE", interrupt_id="i-2")),
    (11, INPUT, happens("RESOLVE", ts_event=EXPIRY)),
    (11, RUNNING, happens("RESOLVE")),
    (12, INPUT, happens("EXPIRE", ts_event=EXPIRY - 1)),
    (12, AUTH_REQUIRED, happens("EXPIRE")),
    (13, RUNNING, happens("SUBMIT_RESULT", artifacts=())),
    (13, BLOCKED, happens("SUBMIT_RESULT")),
    (14, RUNNING, verdict("PASS", review=0)),
    (14, BLOCKED, verdict("FAIL", review=0)),
    (14, IN_REVIEW, verdict("PASS", gate_id="speed")),
    (14, IN_REVIEW, verdict("PENDING")),
    (14, IN_REVIEW, verdict("WAIVED")),
    (15, replay([*INTO[IN_REVIEW], verdict("FAIL")]), verdict("PASS")),
    (15, replay([*INTO[IN_REVIEW], verdict("FAIL"), happens("SUBMIT_RESULT")]), verdict("PASS")),
    (16, apply(third_review(), verdict("FAIL", review=3)), verdict("PASS", review=3)),
    (17, PAUSED, happens("PAUSE")),
    (17, ASSIGNED, happens("PAUSE")),
    (17, RUNNING, happens("RESUME")),
    (18, ASSIGNED, happens("HANDOFF_ACCEPTED")),
    (18, RUNNING, happens("HANDOFF_ACCEPTED", specialist_id="bob")),
    (19, QUEUED, happens("ERROR")),
    (19, RUNNING, happens("ERROR", specialist_id="eve")),
    (20, RUNNING, happens("LEASE_EXPIRED", presence="STALE")),
    (20, RUNNING, happens("LEASE_EXPIRED", ts_event=129)),
    *[(20, each, happens("LEASE_EXPIRED")) for each in WAITING],
    *[(21, each, happens("CANCEL")) for each in TERMINAL],
    *[(22, each, happens("PROGRESS")) for each in TERMINAL],
]


def task_of(where: Position | Task) -> Task:
    return where if isinstance(where, Task) else at(where)


@pytest.mark.parametrize(("row", "where", "event", "then"), PASSING)
def test_a_row_of_the_table_of_tasks_lets_pass(
    row: int, where: Position | Task, event: TaskEvent, then: Position
) -> None:
    assert apply(task_of(where), event).position == then


@pytest.mark.parametrize(("row", "where", "event"), REFUSED)
def test_a_row_of_the_table_of_tasks_refuses(row: int, where: Position | Task, event: TaskEvent) -> None:
    with pytest.raises(InvalidTransition, match=event.happening):
        apply(task_of(where), event)


def test_every_row_of_the_table_of_tasks_has_both_cases() -> None:
    assert {row for row, *_ in PASSING} == {*range(2, 22)}
    assert {row for row, *_ in REFUSED} == {*range(1, 23)}


def test_every_entry_of_the_table_lets_something_pass() -> None:
    passed = {(task_of(where).position, event.happening) for _, where, event, _ in PASSING}
    while_it_is_away = {(each, "UNBLOCK") for each in (PAUSED, *WAITING)}
    assert passed | while_it_is_away == set(TRANSITIONS)


def test_row_1_a_create_makes_a_task_and_nothing_else_does() -> None:
    assert apply(None, happens("CREATE")).position == QUEUED
    for happening in HAPPENINGS[1:]:
        with pytest.raises(InvalidTransition, match="unknown"):
            apply(None, happens(happening))
    for lacking in ({"spec": None}, {"project_id": None}, {"task_id": "t-9"}):
        with pytest.raises(InvalidTransition):
            apply(None, happens("CREATE", **lacking))


def test_row_22_nothing_happens_to_a_task_that_has_ended() -> None:
    for position in TERMINAL:
        for happening in HAPPENINGS:
            with pytest.raises(TaskEnded):
                apply(at(position), happens(happening))


def test_whatever_is_not_in_the_table_of_tasks_is_refused() -> None:
    for position in INTO:
        for happening in HAPPENINGS:
            if (position, happening) not in TRANSITIONS:
                with pytest.raises(InvalidTransition):
                    apply(at(position), happens(happening))


def test_every_position_is_reached() -> None:
    assert {position: at(position).position for position in INTO} == {position: position for position in INTO}


# --- what the rows do beside the state ---


def test_a_fenced_specialists_late_update_is_refused() -> None:
    lost = replay([*INTO[RUNNING], happens("LEASE_EXPIRED")])
    anew = apply(apply(lost, happens("ASSIGN", ts_event=1001)), happens("CLAIM", ts_event=1002))
    assert (anew.specialist_id, anew.fence, anew.attempt) == ("bob", 2, 1)
    with pytest.raises(Fenced):
        apply(anew, happens("PROGRESS", fence=1))
    assert apply(anew, happens("PROGRESS", fence=2)).progress == 0.5


def test_of_two_claims_the_second_is_refused() -> None:
    with pytest.raises(InvalidTransition):
        apply(at(RUNNING), happens("CLAIM"))


def test_signs_of_life_let_the_lease_run_anew() -> None:
    assert at(ASSIGNED).lease_until == 130
    for happening in ("RENEW", "PROGRESS", "BLOCK", "SUBMIT_RESULT"):
        assert apply(at(RUNNING), happens(happening, ts_event=200)).lease_until == 230


def test_the_lease_stands_while_a_person_is_asked() -> None:
    assert [at(position).lease_until for position in WAITING] == [None] * len(WAITING)
    assert apply(at(INPUT), happens("RESOLVE", ts_event=400)).lease_until == 430


def test_who_hands_a_task_off_has_it_until_the_other_accepts() -> None:
    task = replay([*INTO[RUNNING], happens("PROGRESS"), happens("HANDOFF_ACCEPTED")])
    assert (task.specialist_id, task.progress) == ("eve", 0.5)
    with pytest.raises(InvalidTransition):
        apply(task, happens("PROGRESS", progress=0.6))
    taken = apply(task, happens("CLAIM", specialist_id="eve"))
    with pytest.raises(Fenced):
        apply(taken, happens("PROGRESS", progress=0.6))


def test_a_question_that_escalates_blocks_the_task_until_somebody_decides() -> None:
    task = apply(at(CONFIRMATION), happens("EXPIRE"))
    assert [(blocker.kind, blocker.ref) for blocker in task.blockers] == [("escalation", "i-1")]
    assert apply(task, happens("UNBLOCK", ref="i-1")).position == RUNNING


def test_an_answer_does_not_undo_a_pause_and_does_not_unblock() -> None:
    paused = replay([*INTO[PAUSED], happens("REQUEST_INPUT"), happens("RESOLVE")])
    assert (paused.position, apply(paused, happens("RESUME")).position) == (PAUSED, RUNNING)
    assert replay([*INTO[BLOCKED], happens("REQUEST_INPUT"), happens("RESOLVE")]).position == BLOCKED


@pytest.mark.parametrize(
    ("away", "back"), [("PAUSE", "RESUME"), ("REQUEST_INPUT", "RESOLVE"), ("REQUEST_AUTH", "RESOLVE")]
)
def test_what_blocked_it_may_go_away_meanwhile(away: Happening, back: Happening) -> None:
    task = replay([*INTO[BLOCKED], happens(away), happens("UNBLOCK")])
    assert task.position == replay([*INTO[BLOCKED], happens(away)]).position
    assert apply(task, happens(back)).position == RUNNING


def test_a_waiver_holds_for_the_next_result_and_a_pass_does_not() -> None:
    again = [verdict("FAIL"), happens("SUBMIT_RESULT")]
    waived = verdict("WAIVED", gate_id="docs", reason="known")
    assert replay([*INTO[IN_REVIEW], waived, *again]).results == {"docs": "WAIVED"}
    failed = replay([*INTO[IN_REVIEW], verdict("FAIL"), verdict("WAIVED", reason="known")])
    assert (failed.position, apply(failed, happens("SUBMIT_RESULT")).position) == (RUNNING, COMPLETED)
    assert replay([*INTO[IN_REVIEW], verdict("PASS", gate_id="docs"), *again]).results == {}


@pytest.mark.parametrize("happening", ["LEASE_EXPIRED", "HANDOFF_ACCEPTED"])
def test_whoever_gets_the_task_next_starts_without_what_held_up_the_last(happening: Happening) -> None:
    task = replay([*INTO[BLOCKED], happens("PAUSE"), happens(happening)])
    assert (task.blockers, task.paused_at) == ((), None)


def test_a_completed_task_is_all_done_and_nobody_holds_it() -> None:
    task = at(COMPLETED)
    assert (task.progress, task.lease_until, task.blockers, task.interrupt) == (1.0, None, (), None)


def test_the_reason_of_an_end_is_kept() -> None:
    assert apply(at(RUNNING), happens("ERROR", reason="no disk")).reason == "no disk"
    assert apply(at(INPUT), happens("EXPIRE")).reason == "nobody answered in time"
