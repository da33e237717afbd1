"""Whatever happens, a task is what its log says, and what is true of every task stays true."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.fold import MAX_REVIEWS, Fenced, InvalidTransition, apply, replay
from hub.coordination.tasks.task import Task
from hub.coordination.tasks.transitions import HAPPENINGS, QUEUED, TRANSITIONS
from tests.coordination.task_lives import ON_EVE, ON_T2, at, happens, life, question

Watch = Callable[[Task, TaskEvent, Task], None]
POSITIONS = {position for position, _ in TRANSITIONS}
LONG = set(HAPPENINGS) - {"CANCEL", "DECLINE", "ERROR"}  # lives


@st.composite
def happenings(draw: st.DrawFn, task: Task) -> TaskEvent:
    """Mostly what may happen to this task, by who has it; sometimes anything by anybody."""
    possible = [
        happening for happening in HAPPENINGS if (task.position, happening) in TRANSITIONS and happening in LONG
    ]
    happening = draw(st.sampled_from(possible or HAPPENINGS) | st.sampled_from(HAPPENINGS))
    reason = "AUTH" if happening == "REQUEST_AUTH" else draw(st.sampled_from(["INPUT", "CONFIRMATION", "TOOL_CALL"]))
    expires_at = None if reason == "AUTH" else draw(st.none() | st.integers(101, 400))
    by_holder = draw(st.integers(0, 3)) > 0 and happening not in ("ASSIGN", "HANDOFF_ACCEPTED")
    return happens(
        happening,
        ts_event=draw(st.integers(100, 500)),
        specialist_id=task.specialist_id if by_holder else draw(st.sampled_from(["bob", "eve"])),
        fence=task.fence if by_holder else draw(st.integers(1, 3)),
        progress=draw(st.floats(0, 1)),
        presence=draw(st.sampled_from(["ONLINE", "OFFLINE"])),
        blockers=tuple(draw(st.lists(st.sampled_from([ON_T2, ON_EVE]), max_size=2, unique_by=lambda each: each.ref))),
        ref=draw(st.sampled_from([*(blocker.ref for blocker in task.blockers), "t-9"])),
        interrupt=question(reason=reason, expires_at=expires_at, on_expiry=draw(st.sampled_from(["FAIL", "ESCALATE"]))),
        gate_id=draw(st.sampled_from(["tests", "docs"])),
        result=draw(st.sampled_from(["PASS", "FAIL", "WAIVED", "ERROR"])),
        review=draw(st.just(task.reviews) | st.integers(1, MAX_REVIEWS)),
        reason=draw(st.none() | st.just("so it is")),
    )


@st.composite
def likely(draw: st.DrawFn) -> list[TaskEvent]:
    """Lives that get somewhere; what was refused is among the events."""
    task, events = at(QUEUED), life()
    for _ in range(draw(st.integers(0, 12))):
        events.append(draw(happenings(task)))
        with suppress(InvalidTransition):
            task = apply(task, events[-1])
    return events


def live(events: list[TaskEvent], watch: Watch = lambda before, event, after: None) -> tuple[Task, list[TaskEvent]]:
    """The task and its log: what was refused is not written down."""
    task, log = apply(None, events[0]), [events[0]]
    for event in events[1:]:
        try:
            changed = apply(task, event)
        except InvalidTransition:
            continue
        watch(task, event, changed)
        task = changed
        log.append(event)
    return task, log


@given(likely())
def test_a_tasks_parts_agree_at_every_moment(events: list[TaskEvent]) -> None:
    def check(_before: Task, _event: TaskEvent, task: Task) -> None:
        assert task.ended or task.position in POSITIONS
        if task.state == "WORKING":
            assert task.specialist_id is not None and task.lease_until is not None
            assert (task.substate == "PAUSED") == (task.paused_at is not None)
        if task.substate in ("RUNNING", "BLOCKED"):
            assert (task.substate == "BLOCKED") == bool(task.blockers)
        if task.substate in ("INPUT", "CONFIRMATION", "TOOL_CALL") or task.state == "AUTH_REQUIRED":
            assert task.interrupt is not None and task.lease_until is None
        else:
            assert task.interrupt is None
        assert (task.substate == "QUEUED") <= (task.specialist_id is None)
        assert task.reviews <= MAX_REVIEWS

    live(events, check)


@given(likely())
def test_progress_never_goes_back_unless_the_lease_ran_out(events: list[TaskEvent]) -> None:
    def check(before: Task, event: TaskEvent, after: Task) -> None:
        assert after.progress >= before.progress or event.happening == "LEASE_EXPIRED"
        assert 0 <= after.progress <= 1

    live(events, check)


@given(likely())
def test_only_the_last_claim_counts(events: list[TaskEvent]) -> None:
    def check(before: Task, event: TaskEvent, after: Task) -> None:
        assert after.fence - before.fence == (event.happening == "CLAIM")
        if event.happening in ("PROGRESS", "RENEW", "BLOCK", "SUBMIT_RESULT", "ERROR"):
            assert (event.specialist_id, event.fence) == (before.specialist_id, before.fence)

    live(events, check)


@given(likely(), st.integers(0, 5))
def test_whoever_is_fenced_is_told_so(events: list[TaskEvent], fence: int) -> None:
    task, _ = live(events)
    if task.state == "WORKING" and fence != task.fence:
        try:
            apply(task, happens("RENEW", specialist_id=task.specialist_id, fence=fence))
        except Fenced:
            return
        raise AssertionError("a stale claim renewed the lease")


@given(likely())
def test_nobody_loses_a_task_while_the_lease_runs(events: list[TaskEvent]) -> None:
    def check(before: Task, event: TaskEvent, after: Task) -> None:
        if event.happening == "LEASE_EXPIRED":
            assert before.lease_until is not None and before.lease_until <= event.ts_event
            assert before.state == "SUBMITTED" or event.presence == "OFFLINE"
            assert (after.specialist_id, after.lease_until, after.attempt) == (None, None, before.attempt + 1)

    live(events, check)


@given(likely())
def test_a_task_is_completed_only_through_its_required_gates(events: list[TaskEvent]) -> None:
    task, log = live(events)
    if task.state == "COMPLETED":
        assert task.results["tests"] in ("PASS", "WAIVED")
        assert any(event.happening == "SUBMIT_RESULT" for event in log)


@given(likely())
def test_replaying_the_log_gives_the_same_task(events: list[TaskEvent]) -> None:
    task, log = live(events)
    assert replay(log) == task
    assert task.version == len(log)


@given(likely())
def test_a_tasks_log_that_was_written_down_and_read_again_gives_the_same_task(events: list[TaskEvent]) -> None:
    task, log = live(events)
    assert replay(msgspec.json.decode(msgspec.json.encode(log), type=list[TaskEvent])) == task
    assert msgspec.json.decode(msgspec.json.encode(task), type=Task) == task


@given(st.lists(st.floats(0, 1)))
def test_reported_progress_counts_if_it_goes_forward(reports: list[float]) -> None:
    running = life("ASSIGN", "CLAIM")
    task, log = live([*running, *(happens("PROGRESS", progress=report) for report in reports)])
    counted = [event.progress for event in log[len(running) :]]
    assert counted == sorted(report for report in counted if report is not None)
    assert task.progress == max(reports, default=0.0)
