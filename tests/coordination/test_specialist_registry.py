"""What a specialist is up to follows from what it did, each axis for itself and with its reason."""

from __future__ import annotations

import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.coordination.registry import (
    IDLE_TIMEOUT_US,
    MICROS,
    Signs,
    lease_us,
    status_of,
    stuck_alert,
    why_not,
)
from hub.coordination.tasks.fold import apply, replay
from hub.coordination.tasks.task import Task
from hub.coordination.tasks.transitions import (
    ASSIGNED,
    AUTH_REQUIRED,
    BLOCKED,
    COMPLETED,
    IN_REVIEW,
    PAUSED,
    RUNNING,
    Position,
)
from protocol.coordination import Activity, Gate, Presence, Skill, Specialist, SpecialistStatus, Window
from tests.coordination.task_lives import INPUT, INTO, at, happens, life, spec, verdict

NOW = 10_000 * MICROS
BOB = Specialist(specialist_id="bob", team="alpha", skills=[Skill(id="python")], max_concurrent=2)


def status(*tasks: Task, now_us: int = NOW, **signs: Any) -> SpecialistStatus:
    return status_of(BOB, Signs(**{"last_heartbeat": NOW, **signs}), tasks, now_us=now_us)


def running_since(active_us: int, task_id: str = "t-1") -> Task:
    created = happens("CREATE", task_id=task_id, spec=spec(task_id))
    claimed = happens("CLAIM", task_id=task_id, ts_event=active_us)
    return replay([created, happens("ASSIGN", task_id=task_id), claimed])


# --- presence ---


@pytest.mark.parametrize(
    ("silent_s", "presence"),
    [(0, "ONLINE"), (29.9, "ONLINE"), (30, "STALE"), (59.9, "STALE"), (60, "OFFLINE"), (9999, "OFFLINE")],
)
def test_presence_follows_from_missed_heartbeats(silent_s: float, presence: Presence) -> None:
    seen = status(last_heartbeat=NOW - round(silent_s * MICROS))
    assert (seen.presence, seen.last_heartbeat) == (presence, NOW - round(silent_s * MICROS))


def test_who_closed_the_connection_is_offline_at_once() -> None:
    assert (status(gone=True).presence, status(gone=True).presence_because) == ("OFFLINE", "its connection closed")


def test_a_clock_that_went_back_makes_nobody_stale() -> None:
    assert status(last_heartbeat=NOW + 90 * MICROS).presence == "ONLINE"


@given(st.floats(1, 300), st.integers(0, 10**10), st.integers(0, 10**10))
def test_silence_never_makes_anybody_more_present(heartbeat_s: float, silent: int, longer: int) -> None:
    order = ("ONLINE", "STALE", "OFFLINE")
    slow = Specialist(specialist_id="bob", team="alpha", heartbeat_s=heartbeat_s)
    early, late = (
        status_of(slow, Signs(last_heartbeat=0), [], now_us=now_us).presence for now_us in (silent, silent + longer)
    )
    assert order.index(early) <= order.index(late)


def test_a_lease_is_three_heartbeats_long() -> None:
    assert lease_us(BOB) == 30 * MICROS


# --- activity ---


@pytest.mark.parametrize(
    ("position", "activity", "because"),
    [
        (ASSIGNED, "IDLE", "it has not claimed t-1"),
        (RUNNING, "WORKING", "it works on t-1"),
        (BLOCKED, "BLOCKED", "others are waited for in t-1"),
        (IN_REVIEW, "BLOCKED", "others are waited for in t-1"),
        (PAUSED, "PAUSED", "somebody paused t-1"),
        (INPUT, "WAITING_HUMAN", "a person is asked about t-1"),
        (AUTH_REQUIRED, "WAITING_HUMAN", "a person is asked about t-1"),
        (COMPLETED, "IDLE", "it has no task"),
    ],
)
def test_activity_follows_from_the_task(position: Position, activity: Activity, because: str) -> None:
    seen = status(at(position))
    assert (seen.activity, seen.activity_because) == (activity, because)


def test_a_review_by_a_person_is_waited_for_until_the_person_has_spoken() -> None:
    gates = [Gate(gate_id="tests"), Gate(gate_id="docs", kind="HUMAN_REVIEW")]
    submitted = replay([happens("CREATE", spec=spec(gates=gates)), *INTO[IN_REVIEW][1:]])
    assert status(submitted).activity == "WAITING_HUMAN"
    assert status(apply(submitted, verdict("PASS", gate_id="docs"))).activity == "BLOCKED"


def test_who_works_on_one_of_several_tasks_is_at_work() -> None:
    assert status(at(BLOCKED), running_since(NOW, "t-2"), at(INPUT)).activity == "WORKING"
    assert status(at(BLOCKED), at(INPUT)).activity == "WAITING_HUMAN"
    assert status(running_since(NOW, "t-3"), running_since(NOW, "t-2")).activity_because == "it works on t-2 and 1 more"


def test_tasks_of_others_do_not_count() -> None:
    theirs = replay(life(happens("ASSIGN", specialist_id="eve")))
    assert (status(theirs).activity, status(theirs).tasks) == ("IDLE", [])


def test_what_was_asked_of_it_comes_before_its_tasks() -> None:
    assert status(at(RUNNING), paused=True).activity == "PAUSED"
    assert status(at(RUNNING), draining=True).activity_because == "it takes nothing new; tasks left: 1"
    assert status(at(RUNNING), limited_until=NOW + 5 * MICROS).activity == "RATE_LIMITED"
    assert status(at(RUNNING), limited_until=NOW).activity == "WORKING"


# --- health ---


def test_who_beats_but_does_not_move_is_stuck() -> None:
    task = running_since(NOW - IDLE_TIMEOUT_US)
    assert status(task, now_us=NOW - 1).health == "HEALTHY"
    seen = status(task)
    assert (seen.presence, seen.activity, seen.health) == ("ONLINE", "WORKING", "STUCK")
    assert seen.health_because == "no progress on t-1 for 300 s"


def test_progress_ends_being_stuck() -> None:
    task = apply(running_since(NOW - IDLE_TIMEOUT_US), happens("PROGRESS", ts_event=NOW))
    assert status(task).health == "HEALTHY"


def test_renewing_the_lease_is_no_progress() -> None:
    task = apply(running_since(NOW - IDLE_TIMEOUT_US), happens("RENEW", ts_event=NOW))
    assert status(task).health == "STUCK"


def test_one_moving_task_does_not_hide_one_that_does_not() -> None:
    assert status(running_since(NOW), running_since(0, "t-2")).health_because.startswith("no progress on t-2")


@pytest.mark.parametrize("position", [BLOCKED, IN_REVIEW, PAUSED, INPUT, AUTH_REQUIRED, ASSIGNED])
def test_who_waits_is_not_stuck(position: Position) -> None:
    assert status(at(position)).health == "HEALTHY"


@pytest.mark.parametrize("signs", [{"gone": True}, {"paused": True}, {"limited_until": NOW + 1}])
def test_who_is_gone_or_held_up_is_not_stuck(signs: dict[str, Any]) -> None:
    assert status(running_since(0), **signs).health == "HEALTHY"


def test_who_drains_can_be_stuck() -> None:
    assert status(running_since(0), draining=True).health == "STUCK"


def test_errors_and_a_nearly_spent_budget_degrade() -> None:
    assert status(calls=10, errors=3).health_because == "3 of 10 calls failed"
    assert (status(calls=10, errors=2).health, status(calls=9, errors=9).health) == ("HEALTHY", "HEALTHY")
    assert status(budget_used=0.81).health_because == "81% of its budget is used"
    assert status(budget_used=0.8).health == "HEALTHY"


def test_the_worst_is_what_is_said() -> None:
    assert status(running_since(0), failure="no disk", errors=9, calls=10).health_because == "no disk"
    assert status(running_since(0), errors=9, calls=10).health == "STUCK"


@given(
    st.lists(st.sampled_from(list(INTO)), max_size=3),
    st.builds(
        Signs,
        last_heartbeat=st.integers(0, 2 * NOW),
        limited_until=st.none() | st.integers(0, 2 * NOW),
        failure=st.none() | st.just("no disk"),
        calls=st.integers(0, 20),
        errors=st.integers(0, 20),
        budget_used=st.floats(0, 2),
    ),
)
def test_every_axis_has_a_reason_and_stuck_means_at_work_without_progress(
    positions: list[Position], signs: Signs
) -> None:
    tasks = [at(position) for position in positions]
    seen = status_of(BOB, signs, tasks, now_us=NOW)
    assert all((seen.presence_because, seen.activity_because, seen.health_because))
    assert seen == status_of(BOB, signs, reversed(tasks), now_us=NOW)
    if seen.health == "STUCK":
        assert RUNNING in positions and seen.presence != "OFFLINE"
    assert seen.activity in typing.get_args(Activity)


# --- what follows ---


def test_getting_stuck_is_an_alert_once_and_so_is_its_end() -> None:
    moving, stuck = status(running_since(NOW)), status(running_since(0))
    fired = stuck_alert(moving, stuck, now_us=NOW)
    assert fired is not None
    assert (fired.alert_id, fired.state, fired.detail) == ("stuck:bob", "FIRING", stuck.health_because)
    assert stuck_alert(stuck, stuck, now_us=NOW) is None
    assert stuck_alert(moving, moving, now_us=NOW) is None
    resolved = stuck_alert(stuck, moving, now_us=NOW)
    assert resolved is not None and (resolved.alert_id, resolved.state) == ("stuck:bob", "RESOLVED")


def test_who_is_stuck_when_first_seen_is_an_alert_and_who_is_not_is_none() -> None:
    assert stuck_alert(None, status(running_since(0)), now_us=NOW) is not None
    assert stuck_alert(None, status(), now_us=NOW) is None


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (status(gone=True), "is OFFLINE"),
        (status(draining=True), "is DRAINING"),
        (status(paused=True), "is PAUSED"),
        (status(running_since(0)), "is STUCK"),
        (status(failure="no disk"), "is FAILED: no disk"),
        (status(at(BLOCKED), at(INPUT)), "has 2 of 2 tasks"),
    ],
)
def test_row_2_nobody_gets_a_task_who_cannot_do_it_now(seen: SpecialistStatus, why: str) -> None:
    assert (why_not(BOB, seen, spec(), now_us=NOW) or "").startswith(why)


def test_row_2_skills_and_a_free_place_are_enough() -> None:
    assert why_not(BOB, status(at(BLOCKED)), spec(required_skills=["python"]), now_us=NOW) is None
    assert why_not(BOB, status(), spec(required_skills=["python", "rust", "c"]), now_us=NOW) == "lacks c, rust"


@pytest.mark.parametrize(("now_us", "why"), [(4, True), (5, False), (8, False), (9, True)])
def test_row_2_nobody_gets_a_task_outside_of_its_hours(now_us: int, why: bool) -> None:
    bob = Specialist(specialist_id="bob", team="alpha", availability=[Window(start=5, end=9)])
    seen = status_of(bob, Signs(last_heartbeat=now_us), [], now_us=now_us)
    assert (why_not(bob, seen, spec(), now_us=now_us) is not None) == why
