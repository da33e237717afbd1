from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from hub.demo.team import PLAN, SimulatedTeam, TeamMessage
from protocol.coordination import Alert, SpecialistUpdate, TaskUpdate

from .wire import check_message

START_US = 1_700_000_000_000_000

# What may follow what, from the task state machine, written down apart from the team's own table.
LEGAL = {
    ("SUBMITTED", "QUEUED", "SUBMITTED", "ASSIGNED"),
    ("SUBMITTED", "ASSIGNED", "WORKING", "RUNNING"),
    ("WORKING", "RUNNING", "WORKING", "BLOCKED"),
    ("WORKING", "BLOCKED", "WORKING", "RUNNING"),
    ("WORKING", "RUNNING", "INPUT_REQUIRED", "CONFIRMATION"),
    ("INPUT_REQUIRED", "CONFIRMATION", "WORKING", "RUNNING"),
    ("WORKING", "RUNNING", "WORKING", "IN_REVIEW"),
    ("WORKING", "IN_REVIEW", "WORKING", "RUNNING"),
    ("WORKING", "IN_REVIEW", "COMPLETED", None),
    ("WORKING", "IN_REVIEW", "FAILED", None),
}


def worked(seed: int, seconds: int, start_us: int = START_US) -> list[TeamMessage]:
    team = SimulatedTeam(seed, start_us=start_us)
    return [each for n in range(seconds) for each in team.step(start_us + n * 1_000_000)]


@pytest.fixture(scope="module")
def messages() -> list[TeamMessage]:
    return worked(4, 5400)


def test_every_message_is_one_the_hub_accepts_and_says_that_it_is_simulated(messages: list[TeamMessage]) -> None:
    for channel, kind, data, key, coordination in messages:
        check_message(channel, kind, data, coordination)
        assert key is None
        for each in data if isinstance(data, list) else [data]:
            assert each.ext["simulated"] is True
        assert (coordination is not None) == (kind == "SPECIALIST_UPDATE")
    assert {each.channel for each in messages} == {"team:alpha", "tasks:alpha", "alerts:ops"}
    assert {each.type for each in messages} == {"SPECIALIST_UPDATE", "TASK_CREATED", "TASK_STATUS_UPDATE", "ALERT"}


def test_every_task_is_created_once_and_follows_legal_transitions_all_of_which_happen(
    messages: list[TeamMessage],
) -> None:
    known: dict[str, TaskUpdate] = {}
    made: Counter[tuple[Any, ...]] = Counter()
    for _, kind, data, _, _ in messages:
        if kind == "TASK_CREATED":
            assert data.task_id not in known
            assert (data.state, data.substate) == ("SUBMITTED", "QUEUED")
            known[data.task_id] = data
        if kind == "TASK_STATUS_UPDATE":
            before = known[data.task_id]
            known[data.task_id] = data
            if (before.state, before.substate) != (data.state, data.substate):
                made[before.state, before.substate, data.state, data.substate] += 1
            else:
                assert before.depends_on != data.depends_on, "an update says something new"
            assert (data.progress or 0) >= (before.progress or 0), "progress never decreases"
            assert before.state not in ("COMPLETED", "FAILED"), "a finished task never starts again"
            assert (data.substate == "BLOCKED") == bool(data.blockers)
    assert made.keys() == LEGAL
    assert len(known) > 5 * len(PLAN)


def test_a_task_starts_only_after_all_it_depends_on(messages: list[TeamMessage]) -> None:
    tasks: dict[str, TaskUpdate] = {}
    for _, kind, data, _, _ in messages:
        if kind in ("TASK_CREATED", "TASK_STATUS_UPDATE"):
            tasks[data.task_id] = data
            if data.substate == "RUNNING":
                assert all(tasks[each].state == "COMPLETED" for each in data.depends_on)


def test_a_failed_task_is_followed_by_a_new_one_that_refers_to_it(messages: list[TeamMessage]) -> None:
    failed = {
        each.data.task_id for each in messages if each.type == "TASK_STATUS_UPDATE" and each.data.state == "FAILED"
    }
    retried = {
        reference
        for each in messages
        if each.type == "TASK_CREATED"
        for reference in each.data.ext.get("reference_task_ids", [])
    }
    assert failed and retried == failed


def test_next_steps_follow_from_the_tasks_as_they_were_published(messages: list[TeamMessage]) -> None:
    tasks: dict[str, TaskUpdate] = {}
    seen: Counter[str] = Counter()
    for _, kind, data, _, steps in messages:
        if kind in ("TASK_CREATED", "TASK_STATUS_UPDATE"):
            tasks[data.task_id] = data
        if steps is None:
            continue
        unfinished = {each.task_id: each for each in tasks.values() if each.state not in ("COMPLETED", "FAILED")}
        open_work = {
            task_id: [each for each in task.depends_on if tasks[each].state != "COMPLETED"]
            for task_id, task in unfinished.items()
        }
        assert set(steps["ready"]) == {
            each for each, task in unfinished.items() if task.substate == "QUEUED" and not open_work[each]
        }
        assert {
            each["task"]: [b["ref"] for b in each["blockers"] if b["kind"] == "task"] for each in steps["blocked"]
        } == {each: open_work[each] for each, task in unfinished.items() if open_work[each] or task.blockers}
        assert set(steps["waiting_human"]) == {
            each for each, task in unfinished.items() if task.state == "INPUT_REQUIRED"
        }
        assert all(each["slack_s"] < 0 and each["task"] in unfinished for each in steps["at_risk"])
        path = steps["critical_path"]
        assert all(before in tasks[after].depends_on for before, after in pairwise(path))
        assert bool(path) == bool(unfinished)
        seen.update(key for key, value in steps.items() if value)
    assert seen.keys() >= {"ready", "blocked", "waiting_human", "at_risk", "critical_path", "stuck_agents"}


def test_specialists_say_only_what_changed_and_all_axes_move(messages: list[TeamMessage]) -> None:
    said: dict[str, SpecialistUpdate] = {}
    for _, kind, data, _, _ in messages:
        if kind == "SPECIALIST_UPDATE":
            assert data
            for update in data:
                plain = msgspec.structs.replace(update, ts_event=None)
                assert said.get(update.specialist_id) != plain
                said[update.specialist_id] = plain
    assert len(said) == 6
    updates = [each for message in messages if message.type == "SPECIALIST_UPDATE" for each in message.data]
    assert {each.activity for each in updates} == {"IDLE", "WORKING", "BLOCKED", "WAITING_HUMAN", "RATE_LIMITED"}
    assert {each.health for each in updates} == {"HEALTHY", "STUCK"}
    assert all(each.because for each in updates if each.health == "STUCK" or each.activity == "RATE_LIMITED")


def test_every_alert_fires_once_and_is_resolved_once(messages: list[TeamMessage]) -> None:
    states: defaultdict[str, list[str]] = defaultdict(list)
    for each in messages:
        if isinstance(each.data, Alert):
            states[each.data.alert_id].append(each.data.state)
    assert Counter(map(tuple, states.values())).keys() <= {("FIRING",), ("FIRING", "RESOLVED")}
    assert sum(each == ["FIRING"] for each in states.values()) <= 7, "only what still goes on at the end"
    assert len(states) > 5


def test_the_same_seed_works_the_same_and_another_run_has_other_ids() -> None:
    assert worked(1, 120) == worked(1, 120)
    assert worked(1, 120) != worked(2, 120)
    ids = [
        {each.data.task_id for each in run if each.type == "TASK_CREATED"}
        for run in (worked(1, 5), worked(1, 5, START_US + 1))
    ]
    assert not ids[0] & ids[1]


def test_after_a_suspension_nobody_has_worked_all_night() -> None:
    team = SimulatedTeam(1, start_us=START_US)
    for n in range(5):
        team.step(START_US + n * 1_000_000)
    late = team.step(START_US + 8 * 3600 * 1_000_000)
    assert not [each for each in late if each.type == "TASK_STATUS_UPDATE" and each.data.state == "COMPLETED"]
